"""Edges of the jobs service."""
