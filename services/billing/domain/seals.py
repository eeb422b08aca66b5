"""Hourly seals: what all accounts' events of one hour come to, in a chain of its own.

A seal is made once the hour can have no more events. Whoever keeps a seal, or reads it on the log,
can tell later whether the hour still says the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass, field, fields
from typing import assert_never

from services.billing.domain.corrections import CORRECTIONS, USAGE
from services.billing.domain.events import (
    ZERO_HASH,
    GrantClosed,
    GrantExpired,
    GrantOpened,
    GrantRenewed,
    GrantResolved,
    GrantWrittenOff,
    KeyCapSet,
    LedgerEvent,
    ScopeCapSet,
    TransactionPosted,
)
from services.billing.domain.ledger import wallet_change
from services.billing.domain.payment_events import PAYMENT_EVENTS

HOUR_MS = 3_600_000


@dataclass(slots=True)
class HourFigures:
    """Counts, and sums in nano-dollars, of the events recorded in one hour; of all accounts."""

    events: int = 0
    grants_opened: int = 0
    granted_nanousd: int = 0
    grants_closed: int = 0
    returned_nanousd: int = 0
    grants_expired: int = 0
    grants_written_off: int = 0
    written_off_nanousd: int = 0
    transactions: int = 0
    wallets_nanousd: int = 0
    usage_booked: int = 0
    cost_nanousd: int = 0
    settlements: int = 0
    settled_nanousd: int = 0
    corrections: int = 0
    corrected_nanousd: int = 0

    def count(self, event: LedgerEvent) -> None:
        """Adds one event."""
        self.events += 1
        match event:
            case TransactionPosted():
                self._count_transaction(event)
            case GrantOpened():
                self.grants_opened += 1
                self.granted_nanousd += event.amount_nanousd
            case GrantRenewed():
                # Counted with what was lent and what came back, so that seals keep their form.
                self.granted_nanousd += max(0, event.added_nanousd)
                self.returned_nanousd += max(0, -event.added_nanousd)
            case GrantClosed():
                self.grants_closed += 1
                self.returned_nanousd += event.returned_nanousd
            case GrantExpired():
                self.grants_expired += 1
            case GrantWrittenOff():
                self.grants_written_off += 1
                self.written_off_nanousd += event.written_off_nanousd
            case GrantResolved() | KeyCapSet() | ScopeCapSet():
                pass
            case _ if isinstance(event, PAYMENT_EVENTS):
                pass
            case _:
                assert_never(event)

    def _count_transaction(self, event: TransactionPosted) -> None:
        change = wallet_change(event.account_id, event.entries)
        self.transactions += 1
        self.wallets_nanousd += change
        if event.kind == USAGE:
            self.usage_booked += 1
            self.cost_nanousd -= change
            self.settlements += bool(event.grant_id)
            self.settled_nanousd -= change if event.grant_id else 0
        elif event.kind in CORRECTIONS:
            self.corrections += 1
            self.corrected_nanousd += change


FIGURES = tuple(one.name for one in fields(HourFigures))


@dataclass(frozen=True, slots=True)
class LedgerSealed:
    """The seal of the hour from `hour_start_ms` on; `sequence` counts from 1 without gaps."""

    hour_start_ms: int
    sequence: int
    hash: bytes
    sealed_at_ms: int
    figures: HourFigures


@dataclass(frozen=True, slots=True)
class SealChain:
    """Where the chain of seals stands; `log_hash` chains the bytes of their events."""

    sequence: int = 0
    hour_start_ms: int = 0
    hash: bytes = field(default=ZERO_HASH)
    log_hash: bytes = field(default=ZERO_HASH)


def hour_of(moment_ms: int) -> int:
    """The beginning of the hour, in Unix milliseconds."""
    return moment_ms - moment_ms % HOUR_MS


def sealed(
    chain: SealChain, figures: HourFigures, *, hour_start_ms: int, sealed_at_ms: int
) -> LedgerSealed:
    """The next seal of the chain."""
    sequence = chain.sequence + 1
    content = [hour_start_ms, sequence, sealed_at_ms, *astuple(figures)]
    return LedgerSealed(
        hour_start_ms, sequence, _chained(chain.hash, content), sealed_at_ms, figures
    )


def broken(chain: SealChain, seal: LedgerSealed) -> str:
    """How a stored seal does not follow the chain; empty where it does."""
    again = sealed(
        chain, seal.figures, hour_start_ms=seal.hour_start_ms, sealed_at_ms=seal.sealed_at_ms
    )
    if again != seal:
        return "breaks the chain of hashes"
    if chain.sequence and seal.hour_start_ms != chain.hour_start_ms + HOUR_MS:
        return "is not of the hour after the last one's"
    return ""


def _chained(previous: bytes, content: list[int]) -> bytes:
    """SHA-256 over the previous hash and a JSON array of every other field, in order."""
    canonical = json.dumps(content, separators=(",", ":"))
    return hashlib.sha256(previous + canonical.encode()).digest()
