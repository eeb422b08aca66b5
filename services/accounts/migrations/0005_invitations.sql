-- Invitations into accounts: a read table, folded from the events like the others. The hash of a link's token is in the
-- events too: it is one of 256 random bits.

CREATE TABLE invitations (
    invitation_id text     PRIMARY KEY,
    account_id    text     NOT NULL,
    email         text     NOT NULL,
    role          smallint NOT NULL CHECK (role BETWEEN 1 AND 4),
    token_hash    text     NOT NULL UNIQUE,
    expires_at_ms bigint   NOT NULL,
    invited_by    text     NOT NULL,
    invited_at_ms bigint   NOT NULL,
    ended         text     NOT NULL,
    version       bigint   NOT NULL
);
COMMENT ON COLUMN invitations.ended IS 'Empty while it stands, then accepted or revoked.';
CREATE INDEX invitations_standing ON invitations (account_id, invited_at_ms) WHERE ended = '';

GRANT SELECT ON invitations TO mesh_accounts_tenant;
ALTER TABLE invitations ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_account ON invitations FOR SELECT TO mesh_accounts_tenant
    USING (account_id = current_setting('mesh.account_id', true));
