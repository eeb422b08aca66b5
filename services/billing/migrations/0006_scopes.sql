-- Scopes beside keys: the account, its models, members, teams, and single models under a key. Folds of the events, as
-- those of 0001 are; entries and grants from before scopes count in none (docs/decisions/0011-limits-are-of-scopes.md).

CREATE TABLE scope_account (
    account_id        text    NOT NULL,
    scope             text    NOT NULL,
    spend_cap_nanousd bigint  CHECK (spend_cap_nanousd >= 0),
    cap_window        integer NOT NULL CHECK (cap_window BETWEEN 1 AND 5),
    version           bigint  NOT NULL,
    granted_nanousd   bigint  NOT NULL,
    closing_nanousd   bigint  NOT NULL,
    PRIMARY KEY (account_id, scope),
    CONSTRAINT scope_account_held CHECK (granted_nanousd >= closing_nanousd AND closing_nanousd >= 0)
) WITH (fillfactor = 70);
COMMENT ON TABLE scope_account IS 'The cap of a scope, and what grants that it lends hold.';

CREATE TABLE scope_day (
    account_id    text   NOT NULL,
    scope         text   NOT NULL,
    day           bigint NOT NULL,
    spent_nanousd bigint NOT NULL,
    PRIMARY KEY (account_id, scope, day)
) WITH (fillfactor = 70);
COMMENT ON COLUMN scope_day.day IS 'UTC day of admission, counted from 1970-01-01.';

ALTER TABLE grants ADD COLUMN scopes text NOT NULL DEFAULT '';
COMMENT ON COLUMN grants.scopes IS 'The scopes that lend it beside its key, one a line.';
ALTER TABLE key_account ADD COLUMN member_id text NOT NULL DEFAULT '';
ALTER TABLE key_account ADD COLUMN team_id text NOT NULL DEFAULT '';
ALTER TABLE key_account ADD COLUMN model_ids text NOT NULL DEFAULT '';
COMMENT ON COLUMN key_account.model_ids IS 'Models with a cap of their own under the key, one a line.';

GRANT SELECT ON scope_account, scope_day TO mesh_billing_tenant;
ALTER TABLE scope_account ENABLE ROW LEVEL SECURITY;
ALTER TABLE scope_day ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_account ON scope_account FOR SELECT TO mesh_billing_tenant
    USING (account_id = current_setting('mesh.account_id', true));
CREATE POLICY own_account ON scope_day FOR SELECT TO mesh_billing_tenant
    USING (account_id = current_setting('mesh.account_id', true));

-- Keys that were read before there was a place for their member and team are read once more.
UPDATE consumer_cursor SET next_offset = 0 WHERE topic = 'mesh.keys.v1';
