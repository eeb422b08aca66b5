"""Passwords by Argon2id, hashed in a few threads so that neither the event loop nor the memory
suffers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from services.common.errors import Unavailable

ResultT = TypeVar("ResultT")


class Argon2Passwords:
    """Implements `Passwords`. One hash takes `memory_kib` while it is made; `threads` are made at
    once.

    More than `waiting_max` callers at a time are turned away (Unavailable), which bounds queue and
    memory.
    """

    def __init__(
        self, *, time_cost: int, memory_kib: int, threads: int = 2, waiting_max: int = 64
    ) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._waiting = 0
        self._waiting_max = waiting_max
        # What an unknown person's password is compared with: the same work, and no password fits.
        self._nobody = self._hasher.hash("a password that nobody has")

    async def hash(self, password: str) -> str:
        """The encoded hash, with its parameters and a fresh salt."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """True where the password fits; as slow for None as for a wrong password."""
        fits = await self._run(lambda: self._fits(password_hash or self._nobody, password))
        return fits and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """True where the hash was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Ends the threads after what they are doing."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _fits(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], ResultT]) -> ResultT:
        if self._waiting >= self._waiting_max:
            raise Unavailable("Too many log-ins at this moment.", retry_after_s=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
