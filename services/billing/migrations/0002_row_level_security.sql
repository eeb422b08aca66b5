-- A second fence between tenants, behind the queries: reads for a tenant run in a role that sees one account's rows.
-- Roles belong to the whole server, where another database of ours may have made this one already.
DO $$
BEGIN
    CREATE ROLE mesh_billing_tenant NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;
DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'mesh_billing_tenant', 'MEMBER') THEN
        EXECUTE format('GRANT mesh_billing_tenant TO %I', current_user);
    END IF;
END
$$;

GRANT SELECT ON wallet, key_account, key_day, events TO mesh_billing_tenant;

ALTER TABLE wallet ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_account ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_day ENABLE ROW LEVEL SECURITY;
ALTER TABLE events ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_account ON wallet FOR SELECT TO mesh_billing_tenant
    USING (account_id = current_setting('mesh.account_id', true));
CREATE POLICY own_account ON key_account FOR SELECT TO mesh_billing_tenant
    USING (account_id = current_setting('mesh.account_id', true));
CREATE POLICY own_account ON key_day FOR SELECT TO mesh_billing_tenant
    USING (account_id = current_setting('mesh.account_id', true));
CREATE POLICY own_account ON events FOR SELECT TO mesh_billing_tenant
    USING (account_id = current_setting('mesh.account_id', true));
