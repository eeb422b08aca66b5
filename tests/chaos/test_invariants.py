"""The checks after a chaos run see what they are there for: each kind of wrong book is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from services.common.pb.mesh.events.v1.usage_pb2 import UsageRecorded
from services.common.topics import KEYS, USAGE
from tests.chaos import invariants
from tests.chaos.facts import Bill, Ledger, Log, RequestLog
from tests.e2e.load import Kind, Seen
from tests.e2e.operator import Account

ACCOUNT = Account("acc_1", credited_nanousd=1_000_000)
COST = 20 * 3_000 + 7 * 15_000
BILL = Bill("acc_1", "req_1", COST, hour=9, overrun=False)
EVENT = UsageRecorded(usage_id="use_1", account_id="acc_1", request_id="req_1", cost_nanousd=COST)
ROW = {
    "usage_id": "use_1", "request_id": "req_1", "account_id": "acc_1", "hour": 9, "status": 200,
    "model_id": "test/ok-priced", "outcome": "success", "usage_basis": "provider", "prompt": 20,
    "completion": 7, "cost_nanousd": COST,
}  # fmt: skip
ENDS = {(USAGE.name, 0): 1, (KEYS.name, 0): 3}
LEDGER = Ledger(
    bills={"use_1": BILL},
    booked=1,
    marks={"use_1"},
    wallets={"acc_1": (1_000_000 - COST, 0, 0)},
    explained={"acc_1": 1_000_000 - COST},
    grants_left=[],
    limits_broken=[],
    event_ids={"evt_1"},
    cursors=dict(ENDS),
    outbox=0,
    findings=[],
    rebuilt_equal=True,
)
LOG = Log(
    usage={"use_1": EVENT},
    usage_messages=2,
    differing=[],
    ledger_event_ids={"evt_1"},
    ends=dict(ENDS),
    dead=0,
)
ROWS = RequestLog(rows={"use_1": ROW}, count=1, positions={0: 1})
ANSWERED = Seen(
    "req_1", Kind("test/ok-priced", stream=False), "complete", 200, {"prompt": 20, "completion": 7}
)
REFUSED = replace(ANSWERED, ending="refused", usage=None)


def violations(
    ledger: Ledger = LEDGER, log: Log = LOG, rows: RequestLog = ROWS, seen: Seen = ANSWERED
) -> list[str]:
    def found() -> Iterator[str]:
        yield from invariants.of_the_ledger(ledger, [ACCOUNT])
        yield from invariants.of_the_log(ledger, log)
        yield from invariants.of_the_request_log(ledger, log, rows)
        yield from invariants.of_the_clients([seen], rows)

    return list(found())


def rows_with(**changes: object) -> RequestLog:
    return replace(ROWS, rows={"use_1": {**ROW, **changes}})


def test_books_that_agree_have_no_violation() -> None:
    assert violations() == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: violations(replace(LEDGER, findings=["acc_1: a changed byte"])),
        lambda: violations(replace(LEDGER, rebuilt_equal=False)),
        lambda: violations(replace(LEDGER, grants_left=["gr_1 is unresolved"])),
        lambda: violations(replace(LEDGER, limits_broken=["key_1 had 2 of 1"])),
        lambda: violations(replace(LEDGER, booked=2)),
        lambda: violations(replace(LEDGER, outbox=1)),
        lambda: violations(replace(LEDGER, wallets={"acc_1": (1_000_001 - COST, 0, 0)})),
        lambda: violations(replace(LEDGER, wallets={"acc_1": (1_000_000 - COST, 1, 0)})),
        lambda: violations(replace(LEDGER, bills={"use_1": replace(BILL, overrun=True)})),
        lambda: violations(replace(LEDGER, bills={"use_1": replace(BILL, cost_nanousd=COST + 1)})),
        lambda: violations(replace(LEDGER, bills={"use_1": replace(BILL, hour=10)})),
        lambda: violations(replace(LEDGER, bills={})),
        lambda: violations(replace(LEDGER, marks=set())),
        lambda: violations(replace(LEDGER, event_ids={"evt_1", "evt_2"})),
        lambda: violations(replace(LEDGER, cursors={**ENDS, (USAGE.name, 0): 0})),
        lambda: violations(log=replace(LOG, usage={})),
        lambda: violations(log=replace(LOG, differing=["use_1"])),
        lambda: violations(log=replace(LOG, dead=1)),
        lambda: violations(rows=replace(ROWS, count=2)),
        lambda: violations(rows=replace(ROWS, positions={0: 0})),
        lambda: violations(rows=replace(ROWS, rows={}, count=0)),
        lambda: violations(rows=rows_with(cost_nanousd=COST - 1)),
        lambda: violations(rows=rows_with(completion=8)),
        lambda: violations(rows=rows_with(request_id="req_2")),
        lambda: violations(rows=rows_with(outcome="crashed")),
        lambda: violations(seen=REFUSED),
    ],
)
def test_each_kind_of_wrong_book_is_a_violation(wrong: Callable[[], list[str]]) -> None:
    assert wrong()
