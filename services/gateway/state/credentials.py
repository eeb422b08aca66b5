"""Provider credentials: asked for once per version, in the background, kept in memory only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import AppError
from services.common.ids import ProviderId
from services.common.retry import Backoff
from services.common.telemetry import get_logger

# A provider and one of its credentials.
Which = tuple[ProviderId, str]

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

    async def fetch(self, provider_id: ProviderId, credential_id: str) -> Credential:
        """The newest of that credential. Raises AppError, NotFound where there is none now."""


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
        self._known: dict[Which, Credential] = {}
        self._wanted: dict[Which, int] = {}
        self._work = asyncio.Event()

    def want(self, provider_id: ProviderId, versions: Mapping[str, int]) -> None:
        """Says which credentials of the provider are in force, each in which version; what is known
        of all others is forgotten.
        """
        for which in [one for one in (*self._known, *self._wanted) if one[0] == provider_id]:
            if which[1] not in versions:
                self._known.pop(which, None)
                self._wanted.pop(which, None)
        for credential_id, version in versions.items():
            known = self._known.get((provider_id, credential_id))
            if known is None or known.version < version:
                self._wanted[provider_id, credential_id] = version
                self._work.set()

    def get(self, provider_id: ProviderId, credential_id: str) -> str | None:
        """The credential, an older one while the newer is being fetched; None where not known."""
        known = self._known.get((provider_id, credential_id))
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

    async def _fetch(self, which: Which) -> bool:
        provider_id, credential_id = which
        try:
            credential = await self._source.fetch(provider_id, credential_id)
        except AppError as error:
            _log.warning(
                "credential_not_fetched",
                provider_id=provider_id,
                credential_id=credential_id,
                error=type(error).__name__,
            )
            return False
        wanted = self._wanted.get(which)
        if wanted is None:
            # Withdrawn while it was on its way.
            return True
        if credential.version < wanted:
            return False
        self._known[which] = credential
        del self._wanted[which]
        self._on_fetched(provider_id)
        return True
