"""The pure core: state, commands and events of accounts, users, sessions and keys."""
