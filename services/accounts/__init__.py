"""Accounts: people, accounts, members, sessions and API keys."""
