-- What analysts read: each request once, whether or not its duplicates have been merged away yet.
CREATE VIEW IF NOT EXISTS request_log AS
SELECT *, prompt_tokens, completion_tokens, cost_usd
FROM requests FINAL;
