-- Each entry of each posted transaction of the ledger; a transaction's entries add up to zero.
SELECT
    account_id, transaction_id, sequence, kind, occurred_at, booked_at,
    entry.1 AS ledger_account, entry.2 AS amount_nanousd, entry.2 / 1000000000 AS amount_usd,
    key_id, grant_id, usage_id, request_id, model_id, price_version_id, overrun,
    corrects_transaction_id, reason
FROM {base}.ledger_transactions FINAL
ARRAY JOIN arrayZip(entries.ledger_account, entries.amount_nanousd) AS entry
