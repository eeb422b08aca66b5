"""The pure core of the ledger: what may be written and what it means. No IO, no clock, no ids."""
