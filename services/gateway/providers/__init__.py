"""Adapters to model providers, behind one port."""
