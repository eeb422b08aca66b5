"""The golden examples of what billing reads and writes, each taken twice in a row."""

from __future__ import annotations

import pytest

from services.billing.adapters.events_pb import event_from_record, message_from_event
from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.adapters.seals_pb import SEAL_TYPE, seal_from_record, seal_to_pb
from services.billing.domain.events import KeyCapSet, ScopeCapSet
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.common.clock import FakeClock
from services.common.events import EventRecord
from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.topics import KEYS, LEDGER, USAGE
from tests.contract.events.golden import Example, examples
from tests.fixtures.ledger import Feed, LetterBox


async def test_every_example_of_usage_is_settled_once_at_the_cost_it_states() -> None:
    ledger, dead = MemoryLedger(), LetterBox()
    feed = Feed(USAGE, UsageSettlement(ledger, dead, FakeClock()))
    stated: dict[str, int] = {}
    for example in examples("gateway.UsageRecorded"):
        usage = EventRecord.from_bytes(example.envelope).message()
        assert isinstance(usage, usage_pb2.UsageRecorded)
        stated[usage.account_id] = stated.get(usage.account_id, 0) + usage.cost_nanousd
        await feed.send(example.envelope, example.envelope)
        await feed.send(example.envelope)
    assert dead.letters == []
    booked = {one: -wallet.posted_nanousd for one, wallet in ledger.tables.wallets.items()}
    assert booked == stated


async def test_every_example_of_a_key_is_taken_over_once() -> None:
    ledger, dead = MemoryLedger(), LetterBox()
    feed = Feed(KEYS, KeyCaps(ledger, dead, FakeClock()))
    found = examples("accounts.KeyState")
    for example in found:
        await feed.send(example.envelope, example.envelope)
    assert dead.letters == []
    taken = [one.event for one in ledger.tables.events if isinstance(one.event, KeyCapSet)]
    assert len(ledger.tables.keys) == len(taken) == len(found)
    caps = [one.event for one in ledger.tables.events if isinstance(one.event, ScopeCapSet)]
    assert len({cap.scope for cap in caps}) == len(caps) > 3


@pytest.mark.parametrize("example", examples(*LEDGER.event_types), ids=lambda one: one.type)
def test_every_example_of_a_ledger_event_is_read_and_written_the_same(example: Example) -> None:
    record = EventRecord.from_bytes(example.envelope)
    if record.type == SEAL_TYPE:
        assert seal_to_pb(seal_from_record(record)) == record.message()
    else:
        assert message_from_event(event_from_record(record)) == record.message()
