-- Spend and tokens by day (UTC), model, provider and key.
SELECT
    account_id, toDate(received_at) AS day, model_id, provider_id, key_id,
    count() AS requests, countIf(outcome = 'success') AS successful_requests,
    sum(r.prompt_tokens) AS prompt_tokens, sum(r.completion_tokens) AS completion_tokens,
    sum(cost_nanousd) AS spend_nanousd, sum(cost_nanousd) / 1000000000 AS spend_usd
FROM {base}.requests AS r FINAL
GROUP BY account_id, day, model_id, provider_id, key_id
