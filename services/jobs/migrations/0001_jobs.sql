-- Jobs are rows, not events: they hold texts of customers, which must be forgettable, and they are no record of money.
CREATE TABLE jobs (
    job_id          text    PRIMARY KEY,
    kind            text    NOT NULL CHECK (kind IN ('response', 'batch')),
    account_id      text    NOT NULL,
    key_id          text    NOT NULL,
    user_id         text    NOT NULL,
    model           text    NOT NULL,
    created_at_ms   bigint  NOT NULL,
    completed_at_ms bigint  NOT NULL,
    expires_at_ms   bigint  NOT NULL,
    keep_until_ms   bigint  NOT NULL,
    metadata_json   text    NOT NULL,
    context         bytea   NOT NULL,
    background      boolean NOT NULL,
    cancelled       boolean NOT NULL DEFAULT false,
    expired         boolean NOT NULL DEFAULT false,
    total           integer NOT NULL,
    completed       integer NOT NULL,
    failed          integer NOT NULL,
    open            integer NOT NULL CHECK (open >= 0)
);
CREATE INDEX jobs_of_key ON jobs (account_id, key_id, kind, job_id DESC) WHERE background;
CREATE INDEX jobs_open ON jobs (expires_at_ms) WHERE open > 0;
CREATE INDEX jobs_kept ON jobs (keep_until_ms);

CREATE TABLE items (
    job_id      text    NOT NULL REFERENCES jobs ON DELETE CASCADE,
    number      integer NOT NULL,
    custom_id   text    NOT NULL,
    route       text    NOT NULL,
    body        bytea   NOT NULL,
    state       text    NOT NULL CHECK (state IN ('queued', 'running', 'done', 'cancelled')),
    run         integer NOT NULL DEFAULT 0,
    worker_id   text    NOT NULL DEFAULT '',
    -- While it is queued: not before then; while it runs: until then it is its worker's.
    due_at_ms   bigint  NOT NULL DEFAULT 0,
    http_status integer NOT NULL,
    answer      bytea   NOT NULL,
    request_id  text    NOT NULL,
    PRIMARY KEY (job_id, number)
);
CREATE INDEX items_due ON items (due_at_ms) WHERE state IN ('queued', 'running');
