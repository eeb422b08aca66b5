-- Limits of requests and tokens of scopes beside keys. Windows and leases are of scopes now; a key's own is `key:<id>`.

CREATE TABLE quota_scope (
    account_id text   NOT NULL,
    scope      text   NOT NULL,
    version    bigint NOT NULL,
    rpm_limit  bigint CHECK (rpm_limit >= 0),
    rpd_limit  bigint CHECK (rpd_limit >= 0),
    tpm_limit  bigint CHECK (tpm_limit >= 0),
    PRIMARY KEY (account_id, scope)
) WITH (fillfactor = 70);
COMMENT ON TABLE quota_scope IS
    'The limits of members, teams, models and accounts. Every writer of quotas locks keys first, then rows of this.';

ALTER TABLE quota_key ADD COLUMN member_id text NOT NULL DEFAULT '';
ALTER TABLE quota_key ADD COLUMN team_id text NOT NULL DEFAULT '';
ALTER TABLE quota_key ADD COLUMN model_ids text NOT NULL DEFAULT '';
COMMENT ON COLUMN quota_key.model_ids IS 'Models with limits of their own under the key, one a line.';

ALTER TABLE quota_window RENAME COLUMN key_id TO scope;
UPDATE quota_window SET scope = 'key:' || scope;

ALTER TABLE quota_lease ADD COLUMN scopes text NOT NULL DEFAULT '';
UPDATE quota_lease SET scopes = 'key:' || key_id;
COMMENT ON COLUMN quota_lease.scopes IS 'The scopes in whose windows it is counted, one a line.';
CREATE INDEX quota_lease_of_account ON quota_lease (account_id, usable_until_ms) WHERE revision = 0;
