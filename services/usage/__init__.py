"""The request log: every request of an authenticated caller, once, queryable within a second."""
