"""Adapters of the jobs service: PostgreSQL, and the store in memory."""
