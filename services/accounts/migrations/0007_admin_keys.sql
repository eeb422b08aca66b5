-- Admin keys: a read table, folded from the events like the others. A secret has 256 random bits, so that its hash may be
-- in the events. Beside it when each was last used, which is in no event and which a rebuild therefore leaves alone.

CREATE TABLE admin_keys (
    admin_key_id      text   PRIMARY KEY,
    account_id        text   NOT NULL,
    created_by        text   NOT NULL,
    key_hash          text   NOT NULL UNIQUE,
    masked_key        text   NOT NULL,
    label             text   NOT NULL,
    permissions       text[] NOT NULL,
    key_scope         text   NOT NULL CHECK (key_scope IN ('self', 'team', 'org')),
    expires_at_ms     bigint NOT NULL,
    created_at_ms     bigint NOT NULL,
    version           bigint NOT NULL,
    old_key_hash      text   NOT NULL,
    old_expires_at_ms bigint NOT NULL,
    revoked_at_ms     bigint NOT NULL,
    revoke_reason     text   NOT NULL
);
COMMENT ON COLUMN admin_keys.old_key_hash IS 'The secret before the last rotation while its grace lasts; empty without.';
CREATE INDEX admin_keys_of_account ON admin_keys (account_id, admin_key_id);
CREATE INDEX admin_keys_in_grace ON admin_keys (old_key_hash) WHERE old_key_hash <> '';

CREATE TABLE admin_key_uses (
    admin_key_id    text   PRIMARY KEY,
    last_used_at_ms bigint NOT NULL
);
COMMENT ON TABLE admin_key_uses IS 'When each was last used, to the minute.';

GRANT SELECT ON admin_keys TO mesh_accounts_tenant;
ALTER TABLE admin_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_account ON admin_keys FOR SELECT TO mesh_accounts_tenant
    USING (account_id = current_setting('mesh.account_id', true));
-- Of another account's keys the tenant sees no row, so that it sees no use of them.
GRANT SELECT ON admin_key_uses TO mesh_accounts_tenant;
ALTER TABLE admin_key_uses ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_account ON admin_key_uses FOR SELECT TO mesh_accounts_tenant
    USING (EXISTS (SELECT FROM admin_keys WHERE admin_keys.admin_key_id = admin_key_uses.admin_key_id));
