-- Latency, time to first token and errors by hour (UTC), model and provider; milliseconds.
SELECT
    account_id, toStartOfHour(received_at) AS hour, model_id, provider_id,
    count() AS requests, countIf(outcome NOT IN ('success', 'client_gone')) AS failed_requests,
    quantileTDigest(0.5)(latency_ms) AS latency_p50_ms,
    quantileTDigest(0.95)(latency_ms) AS latency_p95_ms,
    quantileTDigest(0.99)(latency_ms) AS latency_p99_ms,
    quantileTDigestIf(0.5)(first_token_ms, first_token_ms > 0) AS first_token_p50_ms,
    quantileTDigestIf(0.95)(first_token_ms, first_token_ms > 0) AS first_token_p95_ms
FROM {base}.requests FINAL
GROUP BY account_id, hour, model_id, provider_id
