-- Rules that an account has set; where there is none the defaults of `domain/alerts.py` hold.
CREATE TABLE alert_rule (
    account_id text NOT NULL,
    kind text NOT NULL,
    enabled boolean NOT NULL,
    threshold bigint NOT NULL CHECK (threshold > 0),
    window_s integer NOT NULL,
    min_requests integer NOT NULL,
    updated_by text NOT NULL,
    updated_at_ms bigint NOT NULL,
    PRIMARY KEY (account_id, kind)
);

-- Which alerts fire. Whoever moves `version` on raises the alert; nobody else does.
CREATE TABLE alert_state (
    account_id text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    level integer NOT NULL CHECK (level >= 0),
    value bigint NOT NULL,
    changed_at_ms bigint NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    PRIMARY KEY (account_id, kind, subject)
);

-- What was raised, for good.
CREATE TABLE alert (
    alert_id text PRIMARY KEY,
    account_id text NOT NULL,
    event_type text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    level integer NOT NULL,
    value bigint NOT NULL,
    threshold bigint NOT NULL,
    occurred_at_ms bigint NOT NULL
);
CREATE INDEX alert_of_account ON alert (account_id, alert_id DESC);

-- Where an account wants to hear of them. Secrets are sealed.
CREATE TABLE webhook_endpoint (
    endpoint_id text PRIMARY KEY,
    account_id text NOT NULL,
    url text NOT NULL,
    event_types text[] NOT NULL,
    secret bytea NOT NULL,
    previous_secret bytea,
    previous_until_ms bigint NOT NULL,
    created_at_ms bigint NOT NULL
);
CREATE INDEX webhook_endpoint_of_account ON webhook_endpoint (account_id);

CREATE TABLE webhook_delivery (
    delivery_id text PRIMARY KEY,
    endpoint_id text NOT NULL REFERENCES webhook_endpoint ON DELETE CASCADE,
    alert_id text NOT NULL REFERENCES alert,
    account_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL,
    next_at_ms bigint NOT NULL,
    last_status integer NOT NULL,
    last_error text NOT NULL,
    UNIQUE (endpoint_id, alert_id)
);
CREATE INDEX webhook_delivery_due ON webhook_delivery (next_at_ms) WHERE state = 'pending';
CREATE INDEX webhook_delivery_of_account ON webhook_delivery (account_id, delivery_id DESC);
