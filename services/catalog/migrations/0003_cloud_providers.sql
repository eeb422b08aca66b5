-- What the endpoints of clouds need beside their address. Providers that were there have neither, as their events say.

ALTER TABLE providers
    ADD COLUMN region      text NOT NULL DEFAULT '',
    ADD COLUMN api_version text NOT NULL DEFAULT '';
