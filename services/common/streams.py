"""Streams of bytes whose first piece was waited for, so that what is wrong is an answer of its own
and not a torn file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator


async def continued(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first piece and then the others."""
    yield first
    async for piece in rest:
        yield piece
