-- A provider has several credentials, each with a place of its own; `default` is the one that was there before.

ALTER TABLE providers DROP CONSTRAINT providers_check;
ALTER TABLE providers ADD COLUMN credentials jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN providers.credentials IS
    'In the order in which they came: [id, version, label, priority, weight, enabled].';
UPDATE providers SET credentials = jsonb_build_array(
    jsonb_build_array('default', credential_version, '', 0, 1, true)
) WHERE credential_version > 0;

ALTER TABLE provider_credentials ADD COLUMN credential_id text NOT NULL DEFAULT 'default';
ALTER TABLE provider_credentials DROP CONSTRAINT provider_credentials_pkey;
ALTER TABLE provider_credentials ADD PRIMARY KEY (provider_id, credential_id);
