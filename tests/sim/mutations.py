"""The mutants: what each puts in the place of which part of production code."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from services.billing import grant_desk, handlers
from services.billing.adapters import ledger_memory
from services.billing.domain import grants, rooms
from services.billing.domain.book import Book
from services.billing.domain.events import GrantClosed
from services.billing.domain.grants import Closed, CloseGrant, GrantRules
from services.billing.domain.state import Grant, KeyAccount, Wallet
from services.billing.settlement import decode, settle
from services.common.events import EventRecord
from services.common.ids import GrantId, UsageId
from services.common.kafka import Batch, Claim, LogMessage
from services.common.kafka.ports import noticed
from services.common.money import PROMPT_KINDS, TOKENS_PER_RATE, Price, TokenKind
from services.common.topics import LEDGER, USAGE
from services.gateway import money as gateway_money
from services.gateway.budget import purse
from services.gateway.journal import delivery, flusher, segments, state
from services.gateway.journal.journal import FileJournal, JournalGrantLog
from services.gateway.ports import Hold
from services.usage import ports as usage_ports
from services.usage.sink.target import RowSink
from tests.sim import workload
from tests.sim.loop import PROCESS
from tests.sim.mutations_renewal import RENEWAL_MUTANTS
from tests.sim.scope_mutations import (
    cost_follows_the_moved_key,
    model_purse_for_any_model,
    scope_caps_without_grants,
    scope_spend_not_asked,
    team_left_out_of_a_moved_key,
)
from tests.sim.simulation import Target


def cap_without_grants() -> list[Target]:
    """The cap is checked against what was spent, without what is lent."""
    of_all = rooms.rooms_of

    def mutated(
        wallet: Wallet,
        key: KeyAccount,
        window_spent_nanousd: int,
        *,
        scopes: Sequence[rooms.ScopeSpent] = (),
    ) -> list[rooms.Room]:
        return of_all(wallet, replace(key, granted_nanousd=0), window_spent_nanousd, scopes=scopes)

    return [(grants, "rooms_of", mutated)]


def balance_without_grants() -> list[Target]:
    """What is lent already counts as available."""
    return [(Wallet, "available_nanousd", property(lambda wallet: wallet.posted_nanousd))]


def cursor_before_entries() -> list[Target]:
    """The cursor moves in a transaction of its own, before the entries."""

    async def apply(self: settle.UsageSettlement, batch: Batch) -> None:
        async with self._store.unit() as unit:
            messages = await unit.advance(batch)
        charges = await self._decode(messages)
        if charges:
            async with self._store.unit() as unit:
                await self._book(unit, charges)

    return [(settle.UsageSettlement, "apply", apply)]


def expiry_returns_money() -> list[Target]:
    """A grant that expired gives back what was not settled."""

    def decide(grant: Grant, *, now_ms: int, rules: GrantRules) -> tuple[Any, ...]:  # Any: events
        if grant.status != "open" or now_ms < grant.expires_at_ms + rules.grace_ms:
            return ()
        spent = grant.settled_nanousd
        closed = GrantClosed(
            grant.grant_id, grant.account_id, spent, max(0, grant.amount_nanousd - spent)
        )
        return (closed, *grants.resolution(grants.evolve(grant, closed)))

    return [(grants, "decide_expire", decide)]


def zombie_not_checked() -> list[Target]:
    """An owner that lost its partition may still apply."""
    advance = ledger_memory._MemoryUnit.advance

    async def mutated(self: ledger_memory._MemoryUnit, batch: Batch) -> Sequence[LogMessage]:
        claim = self._tables.cursors.get((batch.topic, batch.partition), Claim(0, 0))
        return await advance(self, replace(batch, epoch=claim.epoch))

    return [(ledger_memory._MemoryUnit, "advance", mutated)]


def usage_not_deduplicated() -> list[Target]:
    """No usage id was ever seen before."""

    async def mark(
        self: ledger_memory._MemoryUnit, hashes: Mapping[UsageId, bytes]
    ) -> dict[UsageId, bytes]:
        return {}

    return [(ledger_memory._MemoryUnit, "mark_usage", mark)]


def settled_twice() -> list[Target]:
    """A cost lowers its grant twice."""
    settled = grants.settle
    return [(grants, "settle", lambda grant, cost: settled(settled(grant, cost), cost))]


def rounded_per_kind() -> list[Target]:
    """Each kind of tokens is rounded by itself, in the gateway and in billing alike."""

    def cost(quantities: Mapping[TokenKind, int], price: Price) -> int:
        prompt = sum(n for kind, n in quantities.items() if kind in PROMPT_KINDS)
        return price.request_fee_nanousd + sum(
            (2 * tokens * price.rate(kind, prompt) + TOKENS_PER_RATE) // (2 * TOKENS_PER_RATE)
            for kind, tokens in quantities.items()
        )

    return [(decode, "cost_nanousd", cost), (workload, "cost_nanousd", cost)]


def close_returns_unsettled() -> list[Target]:
    """A close gives back what is not settled yet, instead of what was not spent."""
    decided = grants.decide_close

    def decide(grant: Grant | None, request: CloseGrant) -> Closed:
        closed = decided(grant, request)
        if grant is None or not closed.events:
            return closed
        first = closed.events[0]
        assert isinstance(first, GrantClosed)
        returned = max(0, grant.amount_nanousd - grant.settled_nanousd)
        event = replace(first, returned_nanousd=returned)
        after = grants.evolve(grant, event)
        return Closed(returned, (event, *grants.resolution(after)))

    return [(grants, "decide_close", decide)]


def recorded_after_answer() -> list[Target]:
    """The caller has the answer before the event is in the write-ahead file."""
    record = FileJournal.record

    async def later(self: FileJournal, event: Any, hold: Hold | None) -> None:  # Any: protobuf
        await asyncio.sleep(0.05)
        await record(self, event, hold)

    async def mutated(self: FileJournal, event: Any, hold: Hold | None) -> None:  # Any: protobuf
        PROCESS.get().tasks.append(asyncio.create_task(later(self, event, hold)))

    return [(FileJournal, "record", mutated)]


def replay_skipped() -> list[Target]:
    """A worker begins with an empty state, whatever its file says."""

    def apply(self: Any, frame: Any, *, first: bool) -> None:  # Any: internals of the journal
        """Nothing."""

    return [(state.JournalState, "apply", apply)]


def crashed_not_recorded() -> list[Target]:
    """What was admitted and has not ended is forgotten at the start."""

    async def record_crashed(self: FileJournal) -> int:
        return 0

    return [(FileJournal, "record_crashed", record_crashed)]


def published_before_commit() -> list[Target]:
    """Events go to the log while their transaction is still open."""
    save = ledger_memory._MemoryUnit.save

    async def mutated(self: Any, book: Book) -> None:  # Any: the simulator's unit
        await save(self, book)
        log = self.log
        for topic, key, value in self._tables.outbox:
            if topic is LEDGER and log.available:
                log.append(topic.name, key.encode(), value)

    return [(ledger_memory._MemoryUnit, "save", mutated)]


def rows_not_looked_up() -> list[Target]:
    """Whoever finishes a batch of the sink writes all of it again, whatever is stored."""

    # Any: the insides of any sink.
    async def missing(_: RowSink[Any], rows: Any) -> Any:
        return list(rows)

    return [(RowSink, "_missing", missing)]


def rows_taken_for_stored() -> list[Target]:
    """Whoever finishes a batch of the sink takes it for written."""

    async def missing(_: RowSink[Any], rows: Any) -> Any:
        del rows
        return []

    return [(RowSink, "_missing", missing)]


def bounds_not_recorded() -> list[Target]:
    """The sink inserts without writing down which batch it inserts."""

    # Any: the insides of any sink.
    async def store_batch(self: RowSink[Any], owned: Any, messages: Any) -> None:
        rows = await self._rows(messages)
        owned.next_offset = messages[-1].offset + 1
        bounds = usage_ports.Bounds(
            messages[0].topic,
            messages[0].partition,
            messages[0].offset,
            messages[-1].offset,
            len(rows),
        )
        await self._store.insert(bounds, rows)
        self._done(owned, rows)

    return [(RowSink, "_store_batch", store_batch)]


def purse_without_holds() -> list[Target]:
    """A worker's purse lends the same money to many requests."""
    free = property(lambda lent: lent.amount_nanousd - lent.spent_nanousd)
    return [(purse.LentGrant, "free_nanousd", free)]


def delivered_before_acknowledged() -> list[Target]:
    """Events count as delivered once they were handed to the producer."""

    async def send(self: delivery.UsageDelivery, envelopes: list[bytes]) -> None:
        for envelope in envelopes:
            key = EventRecord.from_bytes(envelope).account_id.encode()
            future = await self._producer.enqueue(USAGE.name, key, envelope)
            future.add_done_callback(noticed)

    return [(delivery.UsageDelivery, "_send", send)]


def flush_not_awaited() -> list[Target]:
    """A record counts as durable once it was written, not once it was flushed."""

    async def durable(self: flusher.Flusher) -> None:
        self.synced = self._wal.end
        self._on_synced()

    return [(flusher.Flusher, "durable", durable)]


def replayed_not_flushed() -> list[Target]:
    """A segment that a killed worker left is followed by the next without being flushed."""
    return [(segments, "_finish", lambda segment: None)]


def grant_forgotten_at_recovery() -> list[Target]:
    """After a crash the grants of the write-ahead file are not given back."""

    async def recover(self: gateway_money.Money) -> None:
        await self.journal.record_crashed()

    return [(gateway_money.Money, "recover", recover)]


def spent_by_this_life_alone() -> list[Target]:
    """A close says what this life of the worker spent, not what the file says was spent."""

    def spent(self: JournalGrantLog, grant_id: GrantId) -> int:
        return 0

    async def recover(self: gateway_money.Money) -> None:
        await self.journal.record_crashed()
        for total in list(self.wal.state.grants.values()):
            self.budget.closer.add(replace(total, spent_nanousd=0))

    return [(JournalGrantLog, "spent_nanousd", spent), (gateway_money.Money, "recover", recover)]


def refused_as_gone() -> list[Target]:
    """Money that is only held is said to be gone."""
    refusal = grants._refusal_of_money

    def mutated(rooms: Any, least: int, rules: GrantRules) -> grants.Refusal:  # Any: inside
        return replace(refusal(rooms, least, rules), held=False, retry_after_ms=0)

    return [(grants, "_refusal_of_money", mutated)]


class _Forgetful:
    """A store whose units of work are never committed."""

    def __init__(self, store: Any) -> None:  # Any: the simulator's store
        self._store = store

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[ledger_memory._MemoryUnit]:
        yield ledger_memory._MemoryUnit(self._store.tables.copy())


def answered_without_commit() -> list[Target]:
    """Now and then a group's calls are answered though nothing was committed."""
    run = handlers.run_grant_commands
    count = itertools.count(1)

    async def mutated(store: Any, clock: Any, commands: Any, *, rules: Any) -> Any:  # Any: inside
        chosen: Any = store if next(count) % 7 else _Forgetful(store)  # Any: as above
        return await run(chosen, clock, commands, rules=rules)

    return [(grant_desk, "run_grant_commands", mutated)]


def key_version_not_awaited() -> list[Target]:
    """Billing lends by whatever settings of the key it has."""
    inactive = grants._refusal_of_key

    def mutated(known: Any, request: Any, rules: Any) -> Any:  # Any: inside
        return inactive(known, replace(request, key_version=1), rules)

    return [(grants, "_refusal_of_key", mutated)]


MUTANTS: dict[str, Callable[[], list[Target]]] = {
    one.__name__: one
    for one in (
        cap_without_grants,
        scope_caps_without_grants,
        scope_spend_not_asked,
        team_left_out_of_a_moved_key,
        cost_follows_the_moved_key,
        model_purse_for_any_model,
        balance_without_grants,
        cursor_before_entries,
        expiry_returns_money,
        zombie_not_checked,
        usage_not_deduplicated,
        settled_twice,
        rounded_per_kind,
        close_returns_unsettled,
        recorded_after_answer,
        replay_skipped,
        crashed_not_recorded,
        published_before_commit,
        rows_not_looked_up,
        rows_taken_for_stored,
        bounds_not_recorded,
        purse_without_holds,
        delivered_before_acknowledged,
        flush_not_awaited,
        replayed_not_flushed,
        grant_forgotten_at_recovery,
        spent_by_this_life_alone,
        refused_as_gone,
        answered_without_commit,
        key_version_not_awaited,
        *RENEWAL_MUTANTS,
    )
}
