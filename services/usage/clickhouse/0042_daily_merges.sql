-- Figures of a month that is over become one part, as the requests do: what a query costs is how many parts it opens.
ALTER TABLE requests_daily MODIFY SETTING min_age_to_force_merge_seconds = 7200,
    min_age_to_force_merge_on_partition_only = 1;
