"""PostgreSQL plumbing: the pool, migrations, the event store, the outbox relay and consumer
cursors.
"""

from services.common.postgres.cursors import PostgresCursors
from services.common.postgres.event_store import COPY_ROWS_MIN, EventStore, Transaction
from services.common.postgres.migrations import MigrationError, migrate
from services.common.postgres.outbox import OutboxRelay
from services.common.postgres.pool import open_pool, translated
from services.common.postgres.together import columns_of

__all__ = [
    "COPY_ROWS_MIN",
    "EventStore",
    "MigrationError",
    "OutboxRelay",
    "PostgresCursors",
    "Transaction",
    "columns_of",
    "migrate",
    "open_pool",
    "translated",
]
