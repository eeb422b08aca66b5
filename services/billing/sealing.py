"""Seals every hour of the ledger, one after the other, once it can have no more events.

An event bears the moment at which its unit of work ran, and no unit lasts longer than the settings
allow. The delay is longer than that, with room for clocks that differ.
"""

from __future__ import annotations

from services.billing import metrics
from services.billing.domain.seals import HOUR_MS, LedgerSealed, SealChain, hour_of, sealed
from services.billing.ports import LedgerStore
from services.common.clock import Clock
from services.common.errors import AppError
from services.common.telemetry import get_logger

log = get_logger(__name__)


async def seal_next_hour(store: LedgerStore, clock: Clock, *, delay_ms: int) -> LedgerSealed | None:
    """Seals the first hour that has no seal; None where it is not over for long enough.

    Raises Unavailable, and InternalError where an event of the hour cannot be read.
    """
    chain = await _chain(store)
    hour_start_ms = await _next_hour(store, chain)
    now_ms = clock.now_ms()
    if hour_start_ms is None or now_ms < hour_start_ms + HOUR_MS + delay_ms:
        return None
    # Counted outside the unit of work: the hour does not change any more, and it may be long.
    figures = await store.hour_figures(hour_start_ms)
    async with store.unit() as unit:
        if await unit.seal_chain() != chain:
            return None
        seal = sealed(chain, figures, hour_start_ms=hour_start_ms, sealed_at_ms=now_ms)
        await unit.save_seal(chain, seal)
        return seal


async def _chain(store: LedgerStore) -> SealChain:
    async with store.unit() as unit:
        return await unit.seal_chain()


async def _next_hour(store: LedgerStore, chain: SealChain) -> int | None:
    if chain.sequence:
        return chain.hour_start_ms + HOUR_MS
    first_ms = await store.first_event_ms()
    return None if first_ms is None else hour_of(first_ms)


class Sealer:
    """Runs until cancelled; looks every `every_s` whether an hour is to be sealed."""

    def __init__(self, store: LedgerStore, clock: Clock, *, delay_s: float, every_s: float) -> None:
        self._store = store
        self._clock = clock
        self._delay_ms = round(delay_s * 1000)
        self._every_s = every_s

    async def run(self) -> None:
        """Seals for ever; where it cannot, it says so and tries again at the next turn."""
        while True:
            try:
                while await self.seal():
                    pass
            except AppError as error:
                log.warning("sealing_failed", error=error.message)
            await self._clock.sleep(self._every_s)

    async def seal(self) -> bool:
        """Seals one hour; False where there is none to seal, or another replica was first."""
        seal = await seal_next_hour(self._store, self._clock, delay_ms=self._delay_ms)
        if seal is None:
            return False
        metrics.SEALS.inc()
        log.info("hour_sealed", hour_start_ms=seal.hour_start_ms, events=seal.figures.events)
        return True
