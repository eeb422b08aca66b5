-- The rows of payments: folds of the payment events in the streams `wallet:<account>`, made again by `rebuild.py`. Each
-- table has the columns of a class of `domain/payment_state.py`, in its order; '' and 0 stand for nothing.

CREATE TABLE paying_account (
    account_id           text    PRIMARY KEY,
    customer_id          text    NOT NULL,
    payment_method_id    text    NOT NULL,
    card_label           text    NOT NULL,
    refill_enabled       boolean NOT NULL,
    threshold_nanousd    bigint  NOT NULL,
    amount_nanousd       bigint  NOT NULL,
    day_max_nanousd      bigint  NOT NULL,
    month_max_nanousd    bigint  NOT NULL,
    pause                text    NOT NULL,
    failures             bigint  NOT NULL,
    next_attempt_at_ms   bigint  NOT NULL,
    open_refill_id       text    NOT NULL,
    switched_off_because text    NOT NULL,
    promo_spent_nanousd  bigint  NOT NULL
);
CREATE INDEX paying_account_refilled ON paying_account (account_id)
    WHERE refill_enabled AND open_refill_id = '' AND pause = '';

CREATE TABLE top_up (
    top_up_id      text    PRIMARY KEY,
    account_id     text    NOT NULL,
    amount_nanousd bigint  NOT NULL CHECK (amount_nanousd > 0),
    save_card      boolean NOT NULL,
    requested_by   text    NOT NULL,
    started_at_ms  bigint  NOT NULL,
    status         text    NOT NULL CHECK (status IN ('started', 'open', 'processing', 'paid', 'failed', 'expired')),
    session_id     text    NOT NULL,
    payment_id     text    NOT NULL,
    reason         text    NOT NULL
);
CREATE INDEX top_up_account ON top_up (account_id);
CREATE INDEX top_up_open ON top_up (started_at_ms) WHERE status IN ('started', 'open', 'processing');

CREATE TABLE payment (
    payment_id           text   PRIMARY KEY,
    account_id           text   NOT NULL,
    received_nanousd     bigint NOT NULL CHECK (received_nanousd > 0),
    credited_nanousd     bigint NOT NULL CHECK (credited_nanousd BETWEEN 0 AND received_nanousd),
    top_up_id            text   NOT NULL,
    refill_id            text   NOT NULL,
    received_at_ms       bigint NOT NULL,
    taken_nanousd        bigint NOT NULL CHECK (taken_nanousd >= 0),
    wallet_taken_nanousd bigint NOT NULL
);
CREATE INDEX payment_account ON payment (account_id);

CREATE TABLE refund (
    refund_id         text   PRIMARY KEY,
    account_id        text   NOT NULL,
    payment_id        text   NOT NULL,
    amount_nanousd    bigint NOT NULL CHECK (amount_nanousd > 0),
    wallet_nanousd    bigint NOT NULL,
    requested_by      text   NOT NULL,
    since_ms          bigint NOT NULL,
    status            text   NOT NULL CHECK (status IN ('requested', 'made', 'failed', 'refused')),
    gateway_refund_id text   NOT NULL,
    reason            text   NOT NULL
);
CREATE INDEX refund_account ON refund (account_id);
CREATE INDEX refund_open ON refund (since_ms) WHERE status = 'requested';
CREATE UNIQUE INDEX refund_of_gateway ON refund (gateway_refund_id) WHERE gateway_refund_id <> '';

CREATE TABLE dispute (
    dispute_id     text   PRIMARY KEY,
    account_id     text   NOT NULL,
    payment_id     text   NOT NULL,
    amount_nanousd bigint NOT NULL CHECK (amount_nanousd > 0),
    wallet_nanousd bigint NOT NULL,
    since_ms       bigint NOT NULL,
    status         text   NOT NULL CHECK (status IN ('open', 'won', 'lost')),
    reason         text   NOT NULL
);
CREATE INDEX dispute_account ON dispute (account_id);

CREATE TABLE refill (
    refill_id         text   PRIMARY KEY,
    account_id        text   NOT NULL,
    amount_nanousd    bigint NOT NULL CHECK (amount_nanousd > 0),
    customer_id       text   NOT NULL,
    payment_method_id text   NOT NULL,
    started_at_ms     bigint NOT NULL,
    ended_at_ms       bigint NOT NULL,
    status            text   NOT NULL CHECK
        (status IN ('started', 'processing', 'succeeded', 'needs_action', 'declined', 'abandoned')),
    payment_id        text   NOT NULL,
    failure_code      text   NOT NULL
);
CREATE INDEX refill_account ON refill (account_id);
-- The last fence against two charges for one dip.
CREATE UNIQUE INDEX refill_open ON refill (account_id) WHERE status IN ('started', 'processing');

CREATE TABLE promo (
    promo_id          text   PRIMARY KEY,
    account_id        text   NOT NULL,
    amount_nanousd    bigint NOT NULL CHECK (amount_nanousd > 0),
    remaining_nanousd bigint NOT NULL CHECK (remaining_nanousd BETWEEN 0 AND amount_nanousd),
    expires_at_ms     bigint NOT NULL,
    granted_at_ms     bigint NOT NULL,
    reason            text   NOT NULL
);
CREATE INDEX promo_account ON promo (account_id);
CREATE INDEX promo_left ON promo (expires_at_ms) WHERE remaining_nanousd > 0 AND expires_at_ms > 0;

-- Not a fold: the notices of the payment gateway as they came, of which none is ever trusted for more than its ids.
CREATE TABLE payment_inbox (
    event_id       text   PRIMARY KEY,
    type           text   NOT NULL,
    object_id      text   NOT NULL,
    payment_id     text   NOT NULL,
    created_at_ms  bigint NOT NULL,
    received_at_ms bigint NOT NULL,
    source         text   NOT NULL CHECK (source IN ('webhook', 'reconciler')),
    deliveries     bigint NOT NULL,
    status         text   NOT NULL CHECK (status IN ('new', 'done', 'ignored', 'failed')),
    attempts       bigint NOT NULL,
    next_at_ms     bigint NOT NULL,
    error          text   NOT NULL
);
CREATE INDEX payment_inbox_due ON payment_inbox (next_at_ms) WHERE status = 'new';
CREATE INDEX payment_inbox_newest ON payment_inbox (received_at_ms DESC, event_id);
