"""Alerts: the adapter over the usage service's own servicer and its twin do the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import cast

import pytest

from services.common.clock import FakeClock
from services.common.errors import Forbidden, InvalidArgument
from services.common.grpc import GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.pb.mesh.usage.v1 import alerts_pb2_grpc
from services.common.security.tokens import Principal
from services.gateway.adapters.alerts_grpc import GrpcAlerts
from services.gateway.adapters.alerts_memory import MemoryAlerts
from services.gateway.alerts import AlertRule, Alerts, RaisedAlert
from services.usage.alerts.evaluator import AlertBook
from services.usage.alerts.grpc_alerts import POLICIES, AlertServicer
from services.usage.alerts.store_memory import MemoryAlertStore
from services.usage.alerts.webhooks import Webhooks
from services.usage.domain.alerts import Alert, AlertState
from services.usage.domain.alerts import AlertRule as Rule

SECRET = "a-secret-of-the-tests-that-is-long-enough"
OWNER = Principal("user", "acc_1", "usr_1", role="owner")
DEVELOPER = replace(OWNER, role="developer")
VIEWER = replace(OWNER, role="viewer")
SCRIPT = replace(OWNER, key_id="adk_1", role="admin")
OTHER = replace(OWNER, account_id="acc_2")


class NotingStore(MemoryAlertStore):
    """Remembers who set rules."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by: list[str] = []

    async def save_rule(self, account_id: str, rule: Rule, *, by: str, now_ms: int) -> None:
        self.set_by.append(by)
        await super().save_rule(account_id, rule, by=by, now_ms=now_ms)


@dataclass(frozen=True, slots=True)
class Side:
    """One implementation; how an alert is raised in it; usage's store, where there is one."""

    alerts: Alerts
    raise_alert: Callable[[str, RaisedAlert], Awaitable[None]]
    store: NotingStore | None = None


def _memory() -> Side:
    twin = MemoryAlerts()

    async def raise_alert(account_id: str, alert: RaisedAlert) -> None:
        twin.raised_by_account.setdefault(account_id, []).append(alert)

    return Side(twin, raise_alert)


async def _remote() -> AsyncIterator[Side]:
    store = NotingStore()
    server = GrpcServer(listen="127.0.0.1:0", verifier=TokenVerifier(SECRET), policies=POLICIES)
    # No method of webhooks is called.
    servicer = AlertServicer(store, AlertBook(store, FakeClock()), cast("Webhooks", None))
    alerts_pb2_grpc.add_AlertServiceServicer_to_server(servicer, server.grpc)
    await server.start()
    channel = GrpcChannel(f"127.0.0.1:{server.port}", TokenSigner(SECRET, "gateway"))

    async def raise_alert(account_id: str, alert: RaisedAlert) -> None:
        # Each of a subject of its own, so that it is the first change of that subject.
        raised = Alert(
            account_id=account_id,
            level=1,
            **{**asdict(alert), "kind": "balance_low"},
        )
        state = AlertState(account_id, "balance_low", alert.subject, 1, alert.value, version=1)
        assert await store.change(state, raised)

    yield Side(GrpcAlerts(channel), raise_alert, store)
    await channel.close()
    await server.stop(0.1)


@pytest.fixture(params=["memory", "grpc"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "memory":
        yield _memory()
        return
    async for one in _remote():
        yield one


async def test_every_kind_has_a_rule_and_each_account_its_own(side: Side) -> None:
    before = await side.alerts.rules(VIEWER)
    assert [(rule.kind, rule.threshold) for rule in before] == [
        ("balance_low", 2 * 10**9),
        ("spend_cap", 0),
        ("spend_rate", 100 * 10**9),
        ("error_rate", 250),
    ]
    wanted = AlertRule("error_rate", 125, enabled=False, window_s=600, min_requests=5)
    assert await side.alerts.set_rule(OWNER, wanted) == wanted
    assert await side.alerts.set_rule(OWNER, AlertRule("spend_cap", 0)) == before[1]
    assert await side.alerts.rules(VIEWER) == [*before[:3], wanted]
    assert await side.alerts.rules(OTHER) == before


async def test_only_admins_set_rules_and_what_is_none_is_named(side: Side) -> None:
    rule = AlertRule("balance_low", 10**9)
    for caller in (VIEWER, DEVELOPER):
        with pytest.raises(Forbidden):
            await side.alerts.set_rule(caller, rule)
    for wrong, named in (
        (replace(rule, kind="smell"), "kind"),  # type: ignore[arg-type]  # on purpose
        (replace(rule, threshold=0), "threshold"),
        (AlertRule("error_rate", 1_001), "threshold"),
        (replace(rule, window_s=90), "window_s"),
        (replace(rule, min_requests=1_000_001), "min_requests"),
    ):
        with pytest.raises(InvalidArgument, match=named):
            await side.alerts.set_rule(OWNER, wrong)
    assert (await side.alerts.rules(OWNER))[0].threshold == 2 * 10**9


async def test_an_admin_key_sets_rules_under_its_own_id() -> None:
    async for side in _remote():
        await side.alerts.set_rule(OWNER, AlertRule("balance_low", 10**9))
        await side.alerts.set_rule(SCRIPT, AlertRule("balance_low", 3 * 10**9))
        assert side.store is not None
        assert side.store.set_by == ["usr_1", "adk_1"]


async def test_what_was_raised_comes_newest_first_and_goes_on_before_an_id(side: Side) -> None:
    raised = [
        RaisedAlert(f"alr_{n}", "balance.low", "balance_low", f"wallet{n}", 5, 9, 1_000 + n)
        for n in range(4)
    ]
    for alert in raised[:3]:
        await side.raise_alert("acc_1", alert)
    await side.raise_alert("acc_2", raised[3])
    assert await side.alerts.raised(VIEWER, limit=2, before="") == [raised[2], raised[1]]
    assert await side.alerts.raised(VIEWER, limit=2, before="alr_1") == [raised[0]]
    assert await side.alerts.raised(OTHER, limit=9, before="") == [raised[3]]
