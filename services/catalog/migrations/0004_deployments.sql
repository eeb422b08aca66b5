-- Further places where models are served. Models that were there have none, as their events say.

ALTER TABLE models ADD COLUMN deployments jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN models.deployments IS 'Provider, upstream model, priority and weight of each place beside the own one.';
