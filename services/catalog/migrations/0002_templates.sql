-- Prompt templates: the fold of their events (rebuild.py). A deleted one leaves the table; its history is in the events.
-- The account is empty for a global template.
CREATE TABLE templates (
    template_id   text   PRIMARY KEY,
    account_id    text   NOT NULL,
    owner_user_id text   NOT NULL,
    version       bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL,
    name          text   NOT NULL,
    description   text   NOT NULL,
    system        text   NOT NULL,
    messages_json text   NOT NULL,
    model         text   NOT NULL,
    params_json   text   NOT NULL,
    variables     text[] NOT NULL,
    team_id       text   NOT NULL,
    CONSTRAINT templates_name UNIQUE (account_id, name)
);

-- A second fence between tenants, behind the queries: their reads run in a role that sees one account's templates and the
-- global ones. Roles belong to the whole server, where another database of ours may have made this one already.
DO $$
BEGIN
    CREATE ROLE mesh_catalog_tenant NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;
DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'mesh_catalog_tenant', 'MEMBER') THEN
        EXECUTE format('GRANT mesh_catalog_tenant TO %I', current_user);
    END IF;
    IF NOT pg_has_role(current_user, 'mesh_catalog_tenant', 'SET') THEN
        EXECUTE format('GRANT mesh_catalog_tenant TO %I WITH SET TRUE', current_user);
    END IF;
END
$$;
GRANT SELECT ON templates TO mesh_catalog_tenant;
ALTER TABLE templates ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_account ON templates FOR SELECT TO mesh_catalog_tenant
    USING (account_id IN (current_setting('mesh.account_id', true), ''));
