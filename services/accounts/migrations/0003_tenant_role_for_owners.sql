-- A server's superuser may take on any role. Whoever else owns these tables has made the role, but may take it on only
-- when that is granted too (since PostgreSQL 16 the two are apart).
DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'mesh_accounts_tenant', 'SET') THEN
        EXECUTE format('GRANT mesh_accounts_tenant TO %I WITH SET TRUE', current_user);
    END IF;
END
$$;
