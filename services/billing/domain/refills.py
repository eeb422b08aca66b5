"""Automatic refills: when the saved card is charged, how much, and when it is let alone.

One charge at a time for each account; it clears the whole shortfall at once; what it charges was
pinned when it was decided. A charge counts against the ceiling of each UTC day and month that it
touches, from its start to its end, so that no clock can squeeze one past a ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from services.billing.domain.caps import DAY_MS, day_of
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_events import (
    RefillChanged,
    RefillConfigured,
    RefillStarted,
)
from services.billing.domain.payment_seen import CENT, PaymentSeen, Step
from services.billing.domain.payment_state import OPEN_REFILL, PayingAccount, Refill
from services.common.errors import InvalidArgument
from services.common.ids import AccountId

# What one refill may be set to; a charge that clears a longer shortfall may be more.
LEAST_NANOUSD = 5_000_000_000
MOST_NANOUSD = 100_000_000_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

RefillStateName = Literal[
    "off",
    "switched_off",
    "no_card",
    "needs_action",
    "charging",
    "waiting",
    "cooling_down",
    "day_ceiling",
    "month_ceiling",
    "due",
]


@dataclass(frozen=True, slots=True)
class RefillRules:
    """Pauses, and when to stop.

    After a decline it waits `backoff_ms`, four times as long after each further one; after
    `failures_max` in a row it switches itself off. A charge of unknown fate is given up on
    `give_up_after_ms` after its start, which is less than the gateway keeps idempotency keys.
    """

    cool_down_ms: int = 60_000
    backoff_ms: int = 3_600_000
    failures_max: int = 3
    give_up_after_ms: int = 12 * 3_600_000


@dataclass(frozen=True, slots=True)
class RefillState:
    """What a refill is waiting for; `until_ms` where a moment ends it, `amount` where it is due."""

    name: RefillStateName
    until_ms: int = 0
    amount_nanousd: int = 0


def decide_configuration(wanted: RefillConfigured) -> list[Step]:
    """Takes new settings. Raises InvalidArgument naming the field that is out of bounds."""
    if not wanted.enabled:
        return [wanted]
    fields = {
        "amount_nanousd": (wanted.amount_nanousd, LEAST_NANOUSD, MOST_NANOUSD),
        "threshold_nanousd": (wanted.threshold_nanousd, CENT, 10 * MOST_NANOUSD),
        "day_max_nanousd": (wanted.day_max_nanousd, wanted.amount_nanousd, 10**15),
        "month_max_nanousd": (wanted.month_max_nanousd, wanted.day_max_nanousd, 10**16),
    }
    for name, (value, least, most) in fields.items():
        if not least <= value <= most:
            raise InvalidArgument.of(
                name, f"must be from ${least / 10**9:.2f} to ${most / 10**9:.2f}"
            )
        if value % CENT:
            raise InvalidArgument.of(name, "must be whole cents")
    return [wanted]


def refill_state(
    book: PaymentBook,
    account: PayingAccount,
    *,
    available_nanousd: int,
    now_ms: int,
) -> RefillState:
    """Where the account's refill stands at this moment."""
    if not account.refill_enabled:
        return RefillState("switched_off" if account.switched_off_because else "off")
    if account.open_refill_id:
        return RefillState("charging")
    if account.pause:
        return RefillState("needs_action")
    if not account.payment_method_id:
        return RefillState("no_card")
    if available_nanousd >= account.threshold_nanousd:
        return RefillState("waiting")
    if now_ms < account.next_attempt_at_ms:
        return RefillState("cooling_down", account.next_attempt_at_ms)
    shortfall = account.threshold_nanousd - available_nanousd
    wanted = max(account.amount_nanousd, -(-shortfall // CENT) * CENT)
    mine = [one for one in book.refill.values() if one.account_id == account.account_id]
    month_room = account.month_max_nanousd - _charged(mine, _first_of_month(now_ms), now_ms)
    day_room = account.day_max_nanousd - _charged(mine, day_of(now_ms), now_ms)
    if min(month_room, wanted) < LEAST_NANOUSD:
        return RefillState("month_ceiling", _next_month_ms(now_ms))
    if min(day_room, wanted) < LEAST_NANOUSD:
        return RefillState("day_ceiling", (day_of(now_ms) + 1) * DAY_MS)
    return RefillState("due", amount_nanousd=min(wanted, month_room, day_room) // CENT * CENT)


def decide_refill(
    book: PaymentBook,
    account_id: AccountId,
    *,
    refill_id: str,
    available_nanousd: int,
    now_ms: int,
) -> list[Step]:
    """The command to charge, where one is due; nothing otherwise."""
    account = book.account(account_id)
    state = refill_state(book, account, available_nanousd=available_nanousd, now_ms=now_ms)
    if state.name != "due":
        return []
    started = RefillStarted(
        refill_id,
        account_id,
        state.amount_nanousd,
        account.customer_id,
        account.payment_method_id,
        available_nanousd,
    )
    return [started]


def decide_charged(
    book: PaymentBook, seen: PaymentSeen, *, now_ms: int, rules: RefillRules
) -> list[Step]:
    """How a refill goes on after what the gateway says about its payment."""
    refill = book.refill.get(seen.refill_id)
    if refill is None or refill.status not in OPEN_REFILL:
        return []
    match seen.status:
        case "succeeded":
            return _ended(book, refill, "succeeded", seen=seen, now_ms=now_ms, rules=rules)
        case "processing":
            if refill.status == "processing":
                return []
            return [
                RefillChanged(refill.refill_id, refill.account_id, "processing", seen.payment_id)
            ]
        case "waiting" | "failed" | "canceled":
            needs = seen.failure_code == "authentication_required"
            status: Literal["needs_action", "declined"] = "needs_action" if needs else "declined"
            return _ended(book, refill, status, seen=seen, now_ms=now_ms, rules=rules)


def decide_given_up(
    book: PaymentBook, refill_id: str, *, now_ms: int, rules: RefillRules
) -> list[Step]:
    """Ends a refill that the gateway does not know although it was asked long ago."""
    refill = book.refill.get(refill_id)
    if refill is None or refill.status != "started" or not is_stale(refill, now_ms, rules):
        return []
    next_ms = now_ms + rules.cool_down_ms
    return [RefillChanged(refill_id, refill.account_id, "abandoned", "", "no_answer", next_ms)]


def is_stale(refill: Refill, now_ms: int, rules: RefillRules) -> bool:
    """True once it may not be asked for again: the gateway might have forgotten its key."""
    return now_ms - refill.started_at_ms >= rules.give_up_after_ms


def _ended(
    book: PaymentBook,
    refill: Refill,
    status: Literal["succeeded", "needs_action", "declined"],
    *,
    seen: PaymentSeen,
    now_ms: int,
    rules: RefillRules,
) -> list[Step]:
    account = book.account(refill.account_id)
    pause_ms = rules.cool_down_ms
    if status == "declined":
        pause_ms = rules.backoff_ms * 4**account.failures
    steps: list[Step] = [
        RefillChanged(
            refill.refill_id,
            refill.account_id,
            status,
            seen.payment_id,
            seen.failure_code,
            now_ms + pause_ms,
        )
    ]
    if status == "declined" and account.failures + 1 >= rules.failures_max:
        steps.append(
            RefillConfigured(
                refill.account_id,
                False,
                account.threshold_nanousd,
                account.amount_nanousd,
                account.day_max_nanousd,
                account.month_max_nanousd,
                "mesh",
                f"the card was declined {rules.failures_max} times: {seen.failure_code}",
            )
        )
    return steps


def _charged(refills: list[Refill], first_day: int, now_ms: int) -> int:
    """What refills that were not in vain charged, or may, from this UTC day on."""
    today = day_of(now_ms)
    total = 0
    for one in refills:
        if one.status in (*OPEN_REFILL, "succeeded"):
            ended = day_of(one.ended_at_ms) if one.ended_at_ms else today
            if ended >= first_day:
                total += one.amount_nanousd
    return total


def _first_of_month(now_ms: int) -> int:
    today = day_of(now_ms)
    return today - date.fromordinal(today + _EPOCH_ORDINAL).day + 1


def _next_month_ms(now_ms: int) -> int:
    first = date.fromordinal(_first_of_month(now_ms) + _EPOCH_ORDINAL)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return (following.toordinal() - _EPOCH_ORDINAL) * DAY_MS
