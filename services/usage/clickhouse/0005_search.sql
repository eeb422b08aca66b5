-- Look-ups by tag and by member; the sums of tokens stored, because almost every figure asks for them.
ALTER TABLE requests ADD INDEX IF NOT EXISTS by_tag_name mapKeys(tags) TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE requests ADD INDEX IF NOT EXISTS by_tag_value mapValues(tags) TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE requests ADD INDEX IF NOT EXISTS by_user user_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE requests MODIFY COLUMN prompt_tokens Int64
    MATERIALIZED tokens_prompt + tokens_cached_prompt + tokens_cache_write + tokens_audio_prompt;
ALTER TABLE requests MODIFY COLUMN completion_tokens Int64
    MATERIALIZED tokens_completion + tokens_reasoning + tokens_audio_completion;
