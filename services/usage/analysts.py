"""Analysts of accounts: made, listed, revoked, and known again by their tokens."""

from __future__ import annotations

import hashlib
import secrets

from services.common.clock import Clock
from services.common.errors import Conflict, NotFound, Unavailable
from services.common.ids import new_id
from services.usage.domain.analyst import ANALYSTS_MAX, TOKEN_PREFIX, Analyst, new_analyst
from services.usage.ports import AnalystStore

_TOKEN_BYTES = 24


class Analysts:
    """All analysts of this deployment. The store has one writer, so that what was read once and
    written since is what there is.
    """

    def __init__(self, store: AnalystStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._by_hash: dict[str, Analyst] | None = None

    async def open(self) -> None:
        """Reads those that there are."""
        self._by_hash = {found.token_sha256: found for found in await self._store.analysts()}

    async def create(
        self, account_id: str, *, name: str, created_by: str, expires_in_s: int
    ) -> tuple[Analyst, str]:
        """A new analyst and the token, which is kept nowhere. Raises InvalidArgument, and
        Conflict where the account has too many.
        """
        known = self._known()
        now_ms = self._clock.now_ms()
        if sum(a.is_valid(now_ms) for a in self.list(account_id)) >= ANALYSTS_MAX:
            raise Conflict(f"the account has {ANALYSTS_MAX} analysts already; revoke some")
        token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
        analyst = new_analyst(
            account_id,
            analyst_id=new_id("ana", now_ms),
            name=name,
            created_by=created_by,
            token_sha256=_hash(token),
            now_ms=now_ms,
            expires_in_s=expires_in_s,
        )
        await self._store.save(analyst)
        known[analyst.token_sha256] = analyst
        return analyst, token

    def list(self, account_id: str) -> list[Analyst]:
        """The account's analysts, newest first."""
        found = [a for a in self._known().values() if a.account_id == account_id]
        return sorted(found, key=lambda a: (a.created_at_ms, a.analyst_id), reverse=True)

    async def revoke(self, account_id: str, analyst_id: str) -> Analyst:
        """Takes the access away. Raises NotFound."""
        for analyst in self.list(account_id):
            if analyst.analyst_id == analyst_id:
                revoked = analyst.revoked(self._clock.now_ms())
                await self._store.save(revoked)
                self._known()[revoked.token_sha256] = revoked
                return revoked
        raise NotFound(f"the account has no analyst {analyst_id}")

    def by_token(self, token: str) -> Analyst | None:
        """Whose token it is, if it may be used now."""
        analyst = self._known().get(_hash(token))
        valid = analyst is not None and analyst.is_valid(self._clock.now_ms())
        return analyst if valid else None

    def _known(self) -> dict[str, Analyst]:
        if self._by_hash is None:
            raise Unavailable("the request log's store is not open yet")
        return self._by_hash


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
