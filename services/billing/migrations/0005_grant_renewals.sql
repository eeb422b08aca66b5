-- A grant can be renewed: more time, and more money or less.
ALTER TABLE grants ADD COLUMN renewals bigint NOT NULL DEFAULT 0 CHECK (renewals >= 0);
COMMENT ON COLUMN grants.renewals IS 'How often it was changed since it was opened; the next change has the next number.';

-- Where money is wanted that is only held. No money itself: a hint to workers that have some idle, over in a moment.
CREATE TABLE grant_recall (
    account_id text   NOT NULL,
    key_id     text   NOT NULL,
    until_ms   bigint NOT NULL,
    PRIMARY KEY (account_id, key_id)
) WITH (fillfactor = 50);
COMMENT ON COLUMN grant_recall.key_id IS 'The key whose cap binds; empty where the limit is of more than one key.';
