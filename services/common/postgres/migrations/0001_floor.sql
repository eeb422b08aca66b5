-- The tables that every service with a database has: its events, its outbox, its places in the logs it reads.

CREATE TABLE events (
    global_position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id       text        NOT NULL,
    stream_version  bigint      NOT NULL CHECK (stream_version > 0),
    event_id        text        NOT NULL UNIQUE,
    type            text        NOT NULL,
    version         integer     NOT NULL,
    account_id      text        NOT NULL,
    occurred_at_ms  bigint      NOT NULL,
    recorded_at     timestamptz NOT NULL DEFAULT now(),
    payload         bytea       NOT NULL,
    CONSTRAINT events_stream UNIQUE (stream_id, stream_version)
);
COMMENT ON COLUMN events.payload IS 'The whole serialised mesh.events.v1.Envelope.';

-- Events are facts: nothing may change or remove them.
CREATE FUNCTION events_are_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are immutable';
END
$$;
CREATE TRIGGER events_immutable BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION events_are_immutable();

CREATE TABLE outbox (
    position    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic       text  NOT NULL,
    key         text  NOT NULL,
    value       bytea,
    traceparent text  NOT NULL DEFAULT ''
);
COMMENT ON COLUMN outbox.value IS 'NULL is a tombstone.';

CREATE TABLE consumer_cursor (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    epoch       bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
);
