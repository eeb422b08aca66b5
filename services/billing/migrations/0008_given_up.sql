-- Grants that a worker closed when there was none: their opening may have been under way still, and finds here that it is
-- too late. No money, and so no event; forgotten after longer than any call can be under way.
CREATE TABLE grant_given_up (
    grant_id text   PRIMARY KEY,
    at_ms    bigint NOT NULL
);
CREATE INDEX grant_given_up_at ON grant_given_up (at_ms);
