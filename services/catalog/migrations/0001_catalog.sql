-- The read tables of the catalog. All but the credentials and the seed's mark are folds of the events
-- and may be dropped and folded again (rebuild.py), which is why none of them refers to another.

CREATE TABLE providers (
    provider_id             text    PRIMARY KEY,
    version                 bigint  NOT NULL,
    created_at_ms           bigint  NOT NULL,
    name                    text    NOT NULL,
    kind                    text    NOT NULL,
    base_url                text    NOT NULL,
    enabled                 boolean NOT NULL,
    credential_required     boolean NOT NULL,
    timeout_ms              bigint  NOT NULL,
    credential_version      bigint  NOT NULL,
    last_credential_version bigint  NOT NULL,
    CHECK (credential_version IN (0, last_credential_version))
);

CREATE TABLE models (
    model_id          text    PRIMARY KEY,
    version           bigint  NOT NULL,
    created_at_ms     bigint  NOT NULL,
    name              text    NOT NULL,
    description       text    NOT NULL,
    brand             text    NOT NULL,
    provider_id       text    NOT NULL,
    upstream_model    text    NOT NULL,
    context_length    bigint  NOT NULL,
    max_output_tokens bigint  NOT NULL,
    input_modalities  text[]  NOT NULL,
    output_modalities text[]  NOT NULL,
    streaming         boolean NOT NULL,
    tools             boolean NOT NULL,
    structured_output boolean NOT NULL,
    system_prompt     boolean NOT NULL,
    reasoning         boolean NOT NULL,
    embeddings        boolean NOT NULL,
    enabled           boolean NOT NULL,
    model_type        text    NOT NULL,
    tokenizer         text    NOT NULL,
    announced_at_ms   bigint  NOT NULL DEFAULT 0
);
CREATE INDEX models_provider ON models (provider_id);
COMMENT ON COLUMN models.announced_at_ms IS
    'When its ModelState was last put in the outbox; not part of the fold.';

CREATE TABLE prices (
    model_id            text   NOT NULL,
    valid_from_ms       bigint NOT NULL CHECK (valid_from_ms >= 0),
    price_version_id    text   NOT NULL UNIQUE,
    rates               jsonb  NOT NULL,
    request_fee_nanousd bigint NOT NULL CHECK (request_fee_nanousd >= 0),
    source              text   NOT NULL,
    PRIMARY KEY (model_id, valid_from_ms)
);
COMMENT ON COLUMN prices.rates IS
    'By token kind: [nano-dollars per million tokens, [[from prompt tokens, nano-dollars], ...]].';

-- Apart from everything that is published, read back or rebuilt. The associated data of the cipher is
-- the provider and the version, so that a row copied to another provider does not open.
CREATE TABLE provider_credentials (
    provider_id        text   PRIMARY KEY,
    credential_version bigint NOT NULL,
    key_id             text   NOT NULL,
    nonce              bytea  NOT NULL CHECK (length(nonce) = 12),
    ciphertext         bytea  NOT NULL,
    masked             text   NOT NULL,
    set_at_ms          bigint NOT NULL
);

CREATE TABLE seed_mark (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    fingerprint   text    NOT NULL,
    applied_at_ms bigint  NOT NULL
);
