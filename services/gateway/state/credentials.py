"""Provider credentials: asked for once per version, in the background, kept in memory only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import AppError
from services.common.ids import ProviderId
from services.common.retry import Backoff
from services.common.telemetry import get_logger

_log = get_logger(__name__)
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 10.0


@dataclass(frozen=True, slots=True)
class Credential:
    """A plain credential and its version. Never printed."""

    version: int
    secret: str = field(repr=False)


class CredentialSource(Protocol):
    """The catalogue's side."""

    async def fetch(self, provider_id: ProviderId) -> Credential:
        """The newest credential. Raises AppError, NotFound where there is none (any more)."""


class CredentialKeeper:
    """Fetches what is wanted until it has it. `on_fetched` is told the provider each time."""

    def __init__(
        self,
        source: CredentialSource,
        on_fetched: Callable[[ProviderId], None],
        *,
        clock: Clock,
    ) -> None:
        self._source = source
        self._on_fetched = on_fetched
        self._clock = clock
        self._known: dict[ProviderId, Credential] = {}
        self._wanted: dict[ProviderId, int] = {}
        self._work = asyncio.Event()

    def want(self, provider_id: ProviderId, version: int) -> None:
        """Says which version is in force; 0 means none, and what is known is forgotten."""
        known = self._known.get(provider_id)
        if version == 0:
            self._known.pop(provider_id, None)
            self._wanted.pop(provider_id, None)
        elif known is None or known.version < version:
            self._wanted[provider_id] = version
            self._work.set()

    def get(self, provider_id: ProviderId) -> str | None:
        """The credential, an older one while the newer is being fetched; None where not known."""
        known = self._known.get(provider_id)
        return known.secret if known is not None else None

    @property
    def complete(self) -> bool:
        """True where nothing is still to be fetched."""
        return not self._wanted

    async def run(self) -> None:
        """Fetches until cancelled; the catalogue being away costs only time."""
        backoff = Backoff(first_s=BACKOFF_FIRST_S, max_s=BACKOFF_MAX_S)
        while True:
            self._work.clear()
            fetched = await asyncio.gather(*(self._fetch(wanted) for wanted in self._wanted))
            if all(fetched):
                backoff.reset()
                if not self._wanted:
                    await self._work.wait()
            else:
                await self._clock.sleep(backoff.next_s())

    async def _fetch(self, provider_id: ProviderId) -> bool:
        try:
            credential = await self._source.fetch(provider_id)
        except AppError as error:
            _log.warning(
                "credential_not_fetched", provider_id=provider_id, error=type(error).__name__
            )
            return False
        wanted = self._wanted.get(provider_id)
        if wanted is None:
            # Withdrawn while it was on its way.
            return True
        if credential.version < wanted:
            return False
        self._known[provider_id] = credential
        del self._wanted[provider_id]
        self._on_fetched(provider_id)
        return True
