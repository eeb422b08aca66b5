"""Payments: top-ups, refills, refunds, disputes, promotional credit, and their reconciliation."""
