-- Each request once, whether or not its duplicates have been merged away yet.
SELECT
    account_id, received_at, usage_id, request_id, key_id, user_id, trace_id, event_id,
    route, requested_model, model_id, provider_id, upstream_model, stream,
    outcome, http_status, error_code, failure_stage, finish_reason,
    admitted_at, first_token_ms, latency_ms,
    tokens_prompt, tokens_cached_prompt, tokens_cache_write, tokens_audio_prompt, prompt_tokens,
    tokens_completion, tokens_reasoning, tokens_audio_completion, completion_tokens,
    tokens_other, usage_basis, price_version_id, cost_nanousd, cost_usd, grant_id, held_nanousd,
    session_id, end_user_id, tags,
    attempts.provider_id, attempts.upstream_model, attempts.http_status, attempts.error_code,
    attempts.started_at_ms, attempts.latency_ms, attempts.served, stored_at
FROM {base}.requests FINAL
