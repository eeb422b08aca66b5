"""The engine of the request log, for the tests of this folder."""

from tests.fixtures.chdb import chdb_dsn, clickhouse, empty_clickhouse, new_database

__all__ = ["chdb_dsn", "clickhouse", "empty_clickhouse", "new_database"]
