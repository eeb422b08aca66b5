-- Teams and limits of an account, beside its name: few, and always read whole.

ALTER TABLE accounts ADD COLUMN limit_changes bigint NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN teams jsonb NOT NULL DEFAULT '[]';
ALTER TABLE accounts ADD COLUMN limits jsonb NOT NULL DEFAULT '[]';
ALTER TABLE accounts ALTER COLUMN limit_changes DROP DEFAULT;
ALTER TABLE accounts ALTER COLUMN teams DROP DEFAULT;
ALTER TABLE accounts ALTER COLUMN limits DROP DEFAULT;
COMMENT ON COLUMN accounts.teams IS 'By id: [{team_id, name, created_at_ms, members}, ...].';
COMMENT ON COLUMN accounts.limits IS 'By scope, also those that were taken away: [{scope, limits, version}, ...].';

-- The settings of keys have two more fields; a rebuild writes them as well, so that the tables have to say the same.
UPDATE api_keys SET settings = settings || '{"model_limits": [], "team_id": ""}';
