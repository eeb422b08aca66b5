-- A second fence between tenants, behind the queries: reads for a tenant run in a role that sees one account's rows.
-- Roles belong to the whole server, where another database of ours may have made this one already.
DO $$
BEGIN
    CREATE ROLE mesh_accounts_tenant NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;
DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'mesh_accounts_tenant', 'MEMBER') THEN
        EXECUTE format('GRANT mesh_accounts_tenant TO %I', current_user);
    END IF;
END
$$;

GRANT SELECT ON accounts, members, users, sessions, api_keys, audit_events TO mesh_accounts_tenant;

ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE users ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_account ON accounts FOR SELECT TO mesh_accounts_tenant
    USING (account_id = current_setting('mesh.account_id', true));
CREATE POLICY own_account ON members FOR SELECT TO mesh_accounts_tenant
    USING (account_id = current_setting('mesh.account_id', true));
CREATE POLICY own_account ON sessions FOR SELECT TO mesh_accounts_tenant
    USING (account_id = current_setting('mesh.account_id', true));
CREATE POLICY own_account ON api_keys FOR SELECT TO mesh_accounts_tenant
    USING (account_id = current_setting('mesh.account_id', true));
CREATE POLICY own_account ON audit_events FOR SELECT TO mesh_accounts_tenant
    USING (account_id = current_setting('mesh.account_id', true));
-- People: those who are members of the account (the members seen here are the account's alone, by the policy above).
CREATE POLICY members_only ON users FOR SELECT TO mesh_accounts_tenant
    USING (EXISTS (SELECT FROM members WHERE members.user_id = users.user_id));
