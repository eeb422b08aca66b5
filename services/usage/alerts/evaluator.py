"""Measures accounts against their rules, and records what has changed."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter

from services.common.clock import Clock
from services.common.errors import AppError
from services.common.ids import new_id
from services.common.telemetry import get_logger
from services.usage.alerts.ports import AlertStore, Measures, Rules
from services.usage.domain.alerts import (
    DEFAULTS,
    Alert,
    AlertKind,
    AlertRule,
    AlertState,
    Measure,
    decide,
    threshold_of,
    told,
)

EVERY_S = 5.0
_RAISED = Counter("mesh_alerts_raised_total", "Alerts raised.", ["event_type"])
_log = get_logger(__name__)


class AlertBook:
    """The rules, and changes to them."""

    def __init__(self, store: AlertStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._rules: dict[str, dict[AlertKind, AlertRule]] = {}
        self.changed: set[str] = set()

    async def load(self) -> None:
        """Reads what accounts have set, also by another process."""
        self._rules = await self._store.rules()

    def of(self, account_id: str) -> Rules:
        """All rules of an account: its own over the defaults."""
        return DEFAULTS | self._rules.get(account_id, {})

    async def set(self, account_id: str, rule: AlertRule, *, by: str) -> None:
        """Sets a rule, which holds from the next measuring on. Raises InvalidArgument."""
        rule.checked()
        await self._store.save_rule(account_id, rule, by=by, now_ms=self._clock.now_ms())
        self._rules.setdefault(account_id, {})[rule.kind] = rule
        self.changed.add(account_id)


class AlertEvaluator:
    """Evaluates now and then. What fires is kept in the store: whoever records a change raises its
    alert, once, over restarts and beside other processes.
    """

    def __init__(
        self,
        store: AlertStore,
        measures: Measures,
        *,
        book: AlertBook,
        clock: Clock,
        ready: Callable[[], bool],
    ) -> None:
        self._store = store
        self._measures = measures
        self._book = book
        self._clock = clock
        self._ready = ready
        self._states: dict[tuple[str, str, str], AlertState] | None = None

    async def run(self) -> None:
        """Evaluates until it is cancelled; a store that is away is waited for."""
        while True:
            if self._ready():
                try:
                    await self.evaluate()
                except AppError as error:
                    # What was measured is measured again; states may have changed meanwhile.
                    self._states = None
                    _log.warning("alerts are not evaluated", error=error.message)
            await self._clock.sleep(EVERY_S)

    async def evaluate(self) -> list[Alert]:
        """One round; the alerts that it raised."""
        if self._states is None:
            found = await self._store.states()
            self._states = {(s.account_id, s.kind, s.subject): s for s in found}
        await self._book.load()
        changed, self._book.changed = self._book.changed, set()
        # Those that fire are looked at until they are quiet, also where nothing happens any more.
        firing = {state.account_id for state in self._states.values() if state.level}
        raised = []
        for account_id in sorted({*self._measures.accounts(), *firing, *changed}):
            now_ms = self._clock.now_ms()
            rules = self._book.of(account_id)
            for measure in await self._measures.of(account_id, rules, now_ms=now_ms):
                alert = await self._apply(account_id, rules[measure.kind], measure)
                raised += [alert] if alert else []
        return raised

    async def _apply(self, account_id: str, rule: AlertRule, measure: Measure) -> Alert | None:
        states = self._states
        if states is None:
            # Another process was first a moment ago: what there is is read in the next round.
            return None
        key = (account_id, measure.kind, measure.subject)
        before = states.get(key) or AlertState(account_id, measure.kind, measure.subject)
        after = decide(before, rule, measure, now_ms=self._clock.now_ms())
        if after is None:
            return None
        event_type = told(before, after, rule)
        alert = _alert(event_type, after, rule) if event_type else None
        if not await self._store.change(after, alert):
            self._states = None
            return None
        states[key] = after
        if alert is not None:
            _RAISED.labels(event_type).inc()
            _log.info("alert raised", event_type=event_type, account_id=account_id)
        return alert


def _alert(event_type: str, state: AlertState, rule: AlertRule) -> Alert:
    return Alert(
        alert_id=new_id("alt", state.changed_at_ms),
        account_id=state.account_id,
        event_type=event_type,
        kind=state.kind,
        subject=state.subject,
        level=state.level,
        value=state.value,
        threshold=threshold_of(state, rule),
        occurred_at_ms=state.changed_at_ms,
    )
