"""Every reader of every topic, as the table of topics names them: what it makes of messages.

A reader takes the examples in their order, through the code that its service runs, and gives what
it knows afterwards. It raises where it cannot take one.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence

from google.protobuf.message import Message

from services.accounts.adapters import wire as accounts_wire
from services.billing.adapters import events_pb as billing_wire
from services.billing.adapters import seals_pb as seals_wire
from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.catalog.adapters import templates_pb as templates_wire
from services.catalog.adapters import translation_pb as catalog_wire
from services.common.clock import FakeClock
from services.common.events import EventRecord, UndecodableEvent
from services.common.pb.mesh.events.v1 import catalog_pb2
from services.common.topics import (
    ACCOUNTS,
    BALANCES,
    BILLING_DEAD,
    CATALOG,
    CONTENT,
    KEYS,
    LEDGER,
    MODELS,
    TEMPLATES,
    USAGE,
    USAGE_DEAD,
)
from services.gateway.state.tables import CatalogueTable, KeyTable
from services.gateway.state.templates import TemplateTable
from services.usage.adapters.content_event import content_row_from_message
from services.usage.adapters.sink_store_memory import MemorySinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.ports import CONTENTS, REQUESTS
from services.usage.sink.target import RowSink
from tests.contract.events.golden import Example
from tests.fixtures.ledger import Feed, LetterBox

Reader = Callable[[Sequence[Example]], Awaitable[object]]


class PutAside(Exception):
    """The reader went on, and put the message among the dead letters."""


REFUSALS = (PutAside, UndecodableEvent, catalog_wire.UnexpectedEvent)


def _refuse(dead: LetterBox) -> None:
    if dead.letters:
        raise PutAside(dead.letters[0][1])


async def settled(examples: Sequence[Example]) -> object:
    """Billing's books after the usage events: each wallet, and how many entries there are."""
    ledger, dead = MemoryLedger(), LetterBox()
    feed = Feed(USAGE, UsageSettlement(ledger, dead, FakeClock()))
    for example in examples:
        await feed.send(example.envelope)
    _refuse(dead)
    tables = ledger.tables
    return {name: wallet.posted_nanousd for name, wallet in tables.wallets.items()}, len(
        tables.events
    )


async def logged(examples: Sequence[Example]) -> object:
    """The request log's rows, without the positions they came from."""
    store, dead, count = MemorySinkStore(REQUESTS), LetterBox(), len(examples)

    async def bounds(partition: int) -> tuple[int, int]:
        return 0, count

    sink = RowSink(
        store,
        decode=row_from_message,
        dead_letters=dead,
        log_bounds=bounds,
        on_rows=lambda rows: None,
    )
    feed = Feed(USAGE, sink)
    for example in examples:
        await feed.send(example.envelope)
    _refuse(dead)
    return [row._replace(log_offset=0) for row in store.rows]


async def kept(examples: Sequence[Example]) -> object:
    """The rows of prompts and answers, without the positions they came from."""
    store, dead, count = MemorySinkStore(CONTENTS), LetterBox(), len(examples)

    async def bounds(partition: int) -> tuple[int, int]:
        return 0, count

    sink = RowSink(
        store,
        decode=content_row_from_message,
        dead_letters=dead,
        log_bounds=bounds,
        on_rows=lambda rows: None,
    )
    feed = Feed(CONTENT, sink)
    for example in examples:
        await feed.send(example.envelope)
    _refuse(dead)
    return [row._replace(log_offset=0) for row in store.rows]


async def capped(examples: Sequence[Example]) -> object:
    """The caps that billing binds grants by."""
    ledger, dead = MemoryLedger(), LetterBox()
    feed = Feed(KEYS, KeyCaps(ledger, dead, FakeClock()))
    for example in examples:
        await feed.send(example.envelope)
    _refuse(dead)
    return ledger.tables.keys, len(ledger.tables.events)


async def admitted(examples: Sequence[Example]) -> object:
    """The keys that a gateway knows."""
    table, hashes = KeyTable(), set[str]()
    for example in examples:
        key = str(getattr(message_of(example), "key_hash", ""))
        table.apply(key, example.envelope)
        hashes.add(key)
    found = {name: table.find(name) for name in sorted(hashes)}
    assert None not in found.values()
    return found


async def served(examples: Sequence[Example]) -> object:
    """The models and providers that a gateway knows."""
    table, providers = CatalogueTable(), set[str]()
    for example in examples:
        state = message_of(example)
        if isinstance(state, catalog_pb2.ProviderState):
            table.apply(f"provider:{state.provider_id}", example.envelope)
            providers.add(state.provider_id)
        else:
            model_id = str(getattr(state, "model_id", ""))
            table.apply(f"model:{model_id}", example.envelope)
            assert table.model(model_id) is not None
    found = {name: table.provider(name) for name in sorted(providers)}
    assert None not in found.values()
    return table.models(), found


async def rendered(examples: Sequence[Example]) -> object:
    """What a gateway renders of the templates that it knows."""
    table, found = TemplateTable(), dict[str, object]()
    for example in examples:
        template_id = str(getattr(message_of(example), "template_id", ""))
        table.apply(template_id, example.envelope)
        template = table.by_id(template_id)
        assert template is not None
        found[template_id] = template.render(dict.fromkeys(template.slots, "x"))
    return found


def through_accounts(record: EventRecord) -> Message:
    return accounts_wire.message_from_event(accounts_wire.event_from_record(record))


def through_billing(record: EventRecord) -> Message:
    if record.type == seals_wire.SEAL_TYPE:
        return seals_wire.seal_to_pb(seals_wire.seal_from_record(record))
    return billing_wire.message_from_event(billing_wire.event_from_record(record))


def through_catalog(record: EventRecord) -> Message:
    if record.type.startswith("catalog.Template"):
        return templates_wire.template_event_to_pb(templates_wire.template_event_from(record))
    of_provider = record.type.startswith("catalog.Provider")
    read = catalog_wire.provider_event_from if of_provider else catalog_wire.model_event_from
    return catalog_wire.event_to_pb(read(record))


def decoded(record: EventRecord) -> Message:
    return record.message()


def in_and_out(through: Callable[[EventRecord], Message]) -> Reader:
    """A reader that keeps domain events: each must be written back as it was read."""

    async def reader(examples: Sequence[Example]) -> object:
        records = [EventRecord.from_bytes(example.envelope) for example in examples]
        written = [through(record) for record in records]
        assert written == [record.message() for record in records]
        # The same event twice in a row is the same event.
        return [message for message, _ in itertools.groupby(written)]

    return reader


def message_of(example: Example) -> Message:
    return EventRecord.from_bytes(example.envelope).message()


# Read by people and by programs of others: what is promised is that the message can be decoded.
OUTSIDE = in_and_out(decoded)

READERS: dict[tuple[str, str], Reader] = {
    (USAGE.name, "billing"): settled,
    (USAGE.name, "usage"): logged,
    (CONTENT.name, "usage"): kept,
    (KEYS.name, "gateway"): admitted,
    (KEYS.name, "billing"): capped,
    (MODELS.name, "gateway"): served,
    (TEMPLATES.name, "gateway"): rendered,
    (ACCOUNTS.name, "rebuilds"): in_and_out(through_accounts),
    (LEDGER.name, "rebuilds"): in_and_out(through_billing),
    (CATALOG.name, "rebuilds"): in_and_out(through_catalog),
    (ACCOUNTS.name, "usage"): OUTSIDE,
    (LEDGER.name, "usage"): OUTSIDE,
    (LEDGER.name, "audit"): OUTSIDE,
    (BALANCES.name, "gateway"): OUTSIDE,
    (BALANCES.name, "dashboard"): OUTSIDE,
    (BILLING_DEAD.name, "operator tools"): OUTSIDE,
    (USAGE_DEAD.name, "operator tools"): OUTSIDE,
}
# The topics that no service of this repository reads.
OUTSIDE_ONLY = {BALANCES.name, BILLING_DEAD.name, USAGE_DEAD.name}
