"""Billing: the ledger. Wallets, the journal, grants, spend caps and the settlement of usage."""
