-- Each try of each request at a provider, in order; `attempt` counts from 1.
SELECT
    account_id, received_at, usage_id, request_id, key_id, model_id,
    attempt, try_provider AS provider_id, try_model AS upstream_model, try_status AS http_status,
    try_error AS error_code, try_started AS started_at_ms, try_latency AS latency_ms, try_served AS served
FROM
(
    SELECT account_id, received_at, usage_id, request_id, key_id, model_id,
        attempts.provider_id, attempts.upstream_model, attempts.http_status, attempts.error_code,
        attempts.started_at_ms, attempts.latency_ms, attempts.served
    FROM {base}.requests FINAL
)
ARRAY JOIN
    arrayEnumerate(attempts.provider_id) AS attempt,
    attempts.provider_id AS try_provider, attempts.upstream_model AS try_model,
    attempts.http_status AS try_status, attempts.error_code AS try_error,
    attempts.started_at_ms AS try_started, attempts.latency_ms AS try_latency,
    attempts.served AS try_served
