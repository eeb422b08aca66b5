"""Figures of whole days: when they hold, and how they are derived."""
