"""The connection pool, and what the errors of the driver mean to us."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import asyncpg

from services.common.errors import AppError, ConcurrencyConflict, InvalidArgument, Unavailable

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 30.0
IDLE_TRANSACTION_TIMEOUT_MS = 60_000

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    # The pool is closing, or the connection was closed under a query.
    asyncpg.InterfaceError,
)
# A NUL: PostgreSQL's texts cannot hold one, so it can only have come from a caller.
_UNSTORABLE = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
_RACES = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)


async def open_pool(dsn: str, *, size_max: int = 10) -> asyncpg.Pool:
    """A pool for `dsn` (a host or, with `?host=/dir`, a unix socket). Raises Unavailable.

    Connections that break are replaced when they are next asked for, so that the pool outlives the
    server.
    """
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={
                "application_name": "mesh",
                "idle_in_transaction_session_timeout": str(IDLE_TRANSACTION_TIMEOUT_MS),
            },
        )
    except _AWAY as error:
        raise Unavailable(f"PostgreSQL cannot be reached: {type(error).__name__}") from error


def app_error_from(error: BaseException) -> AppError | None:
    """Ours for an error of the driver: away, a lost race, a bad text; None for any other."""
    if isinstance(error, AppError):
        return None
    if isinstance(error, _RACES):
        return ConcurrencyConflict("another transaction was first")
    if isinstance(error, _UNSTORABLE):
        return InvalidArgument("a text has a character that cannot be stored (NUL)")
    if isinstance(error, _AWAY):
        return Unavailable(f"PostgreSQL is not available: {type(error).__name__}")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Turns the driver's errors into ours: Unavailable, ConcurrencyConflict, InvalidArgument."""
    try:
        yield
    except Exception as error:
        ours = app_error_from(error)
        if ours is None:
            raise
        raise ours from error


@asynccontextmanager
async def acquired(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the pool, for the time of the block. Errors are the driver's."""
    async with pool.acquire() as proxy:
        # The pool's proxy has every method of a connection without being one to the type checker.
        yield cast(asyncpg.Connection, proxy)
