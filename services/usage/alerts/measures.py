"""Values of alerts: rates from the live windows, balances from their compacted topic, caps from
billing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import AppError
from services.common.events import message_of_type
from services.common.grpc import GrpcChannel
from services.common.pb.mesh.billing.v1 import billing_pb2, billing_pb2_grpc
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.common.security.tokens import Principal
from services.common.telemetry import get_logger
from services.usage.alerts.ports import Rules
from services.usage.domain.alerts import PERMILLE, Measure
from services.usage.domain.live import LiveSet

# Windows that are further behind tell nothing about now.
LAG_MAX_MS = 60_000
CAPS_EVERY_MS = 15_000
_log = get_logger(__name__)


class Caps(Protocol):
    """What of their caps is spent."""

    async def of(self, account_id: str) -> list[Measure]:
        """One measure for each cap. Raises Unavailable."""


class GrpcCaps:
    """`Caps` at billing."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = billing_pb2_grpc.BillingServiceStub(channel.channel())

    async def of(self, account_id: str) -> list[Measure]:
        principal = Principal("operator", account_id, "usage")
        keys = await self._channel.call(
            self._stub.ListKeySpend, billing_pb2.ListKeySpendRequest(), principal=principal
        )
        scopes = await self._channel.call(
            self._stub.ListScopeSpend, billing_pb2.ListScopeSpendRequest(), principal=principal
        )
        capped = [
            (f"key:{key.key_id}", key) for key in keys.keys if key.HasField("spend_cap_nanousd")
        ] + [(scope.scope, scope) for scope in scopes.scopes if scope.HasField("spend_cap_nanousd")]
        return [
            Measure("spend_cap", subject, share_of_cap(one.spent_nanousd, one.spend_cap_nanousd))
            for subject, one in capped
        ]


def share_of_cap(spent_nanousd: int, cap_nanousd: int) -> int:
    """Thousandths of the cap that are spent; a cap of nothing is spent."""
    if cap_nanousd <= 0:
        return PERMILLE
    return min(spent_nanousd * PERMILLE // cap_nanousd, 1_000_000)


class LiveMeasures:
    """`Measures` of this deployment."""

    def __init__(
        self, windows: LiveSet, caps: Caps, clock: Clock, *, lag_ms: Callable[[], int]
    ) -> None:
        self._windows = windows
        self._caps = caps
        self._clock = clock
        self._lag_ms = lag_ms
        self._balances: dict[str, int] = {}
        self._changed: set[str] = set()
        self._caps_at_ms: dict[str, int] = {}
        self._capped: dict[str, set[str]] = {}

    def take_balance(self, _key: str, value: bytes | None) -> None:
        """One message of the balances' topic. Raises UndecodableEvent."""
        if value is None:
            return
        _, state = message_of_type(
            value, ledger_pb2.BalanceState, event_type="billing.BalanceState", version_max=1
        )
        if self._balances.get(state.account_id) != state.posted_nanousd:
            self._balances[state.account_id] = state.posted_nanousd
            self._changed.add(state.account_id)

    def accounts(self) -> Collection[str]:
        changed, self._changed = self._changed, set()
        return changed | set(self._windows.accounts())

    async def of(self, account_id: str, rules: Rules, *, now_ms: int) -> list[Measure]:
        measures = []
        balance = self._balances.get(account_id)
        if balance is not None:
            measures.append(Measure("balance_low", "wallet", balance))
        if self._lag_ms() <= LAG_MAX_MS:
            measures += self._rates(account_id, rules, now_ms)
        if now_ms - self._caps_at_ms.get(account_id, 0) >= CAPS_EVERY_MS:
            try:
                measures += self._with_lifted(account_id, await self._caps.of(account_id))
                self._caps_at_ms[account_id] = now_ms
            except AppError as error:
                _log.warning("caps are not known", account_id=account_id, error=error.message)
        return measures

    def _with_lifted(self, account_id: str, caps: list[Measure]) -> list[Measure]:
        """The caps, and those that are no longer there as caps of which nothing is spent."""
        subjects = {measure.subject for measure in caps}
        lifted = self._capped.get(account_id, set()) - subjects
        self._capped[account_id] = subjects
        return caps + [Measure("spend_cap", subject, 0) for subject in sorted(lifted)]

    def _rates(self, account_id: str, rules: Rules, now_ms: int) -> list[Measure]:
        # Whole minutes, the running one included as far as it goes.
        until_s = now_ms // 60_000 * 60 + 60
        spend, errors = rules["spend_rate"], rules["error_rate"]
        spent = self._windows.sums(account_id, since_s=until_s - spend.window_s, until_s=until_s)
        tried = self._windows.sums(account_id, since_s=until_s - errors.window_s, until_s=until_s)
        enough = tried.requests >= errors.min_requests
        share = tried.errors * PERMILLE // tried.requests if enough else 0
        hourly = spent.cost_nanousd * 3_600 // spend.window_s
        return [
            Measure("spend_rate", "account", hourly),
            Measure("error_rate", "account", share),
        ]
