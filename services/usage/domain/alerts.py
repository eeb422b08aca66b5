"""Alerts: when an account is to hear of its money and its errors.

Each subject (an account's wallet, a key's cap) has a level, 0 while all is quiet. A measure moves
it up at a threshold and down again only behind a margin, so that a value that trembles around the
threshold raises one alert. Only a move up, and the return to 0, is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from services.common.errors import InvalidArgument

AlertKind = Literal["balance_low", "spend_cap", "spend_rate", "error_rate"]
KINDS: tuple[AlertKind, ...] = get_args(AlertKind)
NANOUSD_PER_USD = 1_000_000_000
# Percent of a cap at which its alert rises, and points by which it must fall to be quiet again.
CAP_LEVELS = (80, 95, 100)
CAP_MARGIN = 5
# Shares of a threshold behind which the other kinds are quiet again, in percent.
_QUIET_ABOVE = 110
_QUIET_BELOW = 80
WINDOW_MIN_S, WINDOW_MAX_S = 60, 1_800
THRESHOLD_MAX = 10**18
PERMILLE = 1_000

EVENT_TYPES = (
    "balance.low", "balance.recovered", "spend_cap.approaching", "spend_cap.hit",
    "spend_cap.recovered", "spend_rate.high", "spend_rate.recovered", "error_rate.high",
    "error_rate.recovered",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When an account is told. The threshold is nano-dollars (`balance_low`), nano-dollars an hour
    (`spend_rate`) or thousandths of the requests (`error_rate`); caps have levels of their own.
    """

    kind: AlertKind
    threshold: int
    enabled: bool = True
    window_s: int = 300
    min_requests: int = 20

    def checked(self) -> AlertRule:
        """The rule. Raises InvalidArgument naming what is wrong."""
        if self.kind not in KINDS:
            raise InvalidArgument.of("kind", f"is one of {', '.join(KINDS)}")
        highest = PERMILLE if self.kind == "error_rate" else THRESHOLD_MAX
        if not 0 < self.threshold <= highest:
            raise InvalidArgument.of("threshold", f"is between 1 and {highest:,}")
        if not WINDOW_MIN_S <= self.window_s <= WINDOW_MAX_S or self.window_s % 60:
            raise InvalidArgument.of("window_s", f"is 60 to {WINDOW_MAX_S:,}, in whole minutes")
        if not 1 <= self.min_requests <= 1_000_000:
            raise InvalidArgument.of("min_requests", "is between 1 and 1,000,000")
        return self


DEFAULTS: dict[AlertKind, AlertRule] = {
    "balance_low": AlertRule("balance_low", 2 * NANOUSD_PER_USD),
    "spend_cap": AlertRule("spend_cap", 1),
    "spend_rate": AlertRule("spend_rate", 100 * NANOUSD_PER_USD),
    "error_rate": AlertRule("error_rate", 250),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """A value now, in the unit of its rule's threshold; of a cap, thousandths of it."""

    kind: AlertKind
    subject: str
    value: int


@dataclass(frozen=True, slots=True)
class AlertState:
    """How a subject stands; `version` grows by one with each change, 0 before the first."""

    account_id: str
    kind: AlertKind
    subject: str
    level: int = 0
    value: int = 0
    changed_at_ms: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert that was raised."""

    alert_id: str
    account_id: str
    event_type: str
    kind: AlertKind
    subject: str
    level: int
    value: int
    threshold: int
    occurred_at_ms: int


def decide(
    state: AlertState, rule: AlertRule, measure: Measure, *, now_ms: int
) -> AlertState | None:
    """The state after the measure; None where it stays as it is."""
    level = _level(state.level, rule, measure) if rule.enabled else 0
    if level == state.level:
        return None
    return replace(
        state, level=level, value=measure.value, changed_at_ms=now_ms, version=state.version + 1
    )


def told(before: AlertState, after: AlertState, rule: AlertRule) -> str:
    """The type of the event that the change is told as; "" where it is not told: levels of a cap
    that fall without being quiet, and alerts that were turned off.
    """
    if after.level > before.level:
        match after.kind:
            case "balance_low":
                return "balance.low"
            case "spend_cap":
                return "spend_cap.hit" if after.level >= 100 else "spend_cap.approaching"
            case "spend_rate":
                return "spend_rate.high"
            case "error_rate":
                return "error_rate.high"
    if after.level == 0 and rule.enabled:
        return f"{'balance' if after.kind == 'balance_low' else after.kind}.recovered"
    return ""


def threshold_of(state: AlertState, rule: AlertRule) -> int:
    """What the measure was compared with."""
    return state.level * 10 if state.kind == "spend_cap" else rule.threshold


def _level(level: int, rule: AlertRule, measure: Measure) -> int:
    value, threshold = measure.value, rule.threshold
    match measure.kind:
        case "balance_low":
            quiet = value * 100 >= threshold * _QUIET_ABOVE
            return 1 if value < threshold or (level and not quiet) else 0
        case "spend_rate" | "error_rate":
            quiet = value * 100 < threshold * _QUIET_BELOW
            return 1 if value >= threshold or (level and not quiet) else 0
        case "spend_cap":
            reached = max((n for n in CAP_LEVELS if value >= n * 10), default=0)
            kept = max((n for n in CAP_LEVELS if value >= (n - CAP_MARGIN) * 10), default=0)
            return max(reached, min(level, kept))
