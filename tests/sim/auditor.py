"""The auditor: watches commits, the log, the wires and the workers, and predicts or bounds all.

It shares no arithmetic with production. `Books` holds its ledger; this is what it checks where.
"""

# ruff: noqa: B023 - what went wrong is put into words at once or never

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from services.billing.adapters.ledger_memory import LedgerTables
from services.billing.domain.grants import GrantRules
from services.common.ids import AccountId, GrantId, KeyId
from services.common.kafka.ports import LogMessage
from services.common.pb.mesh.billing.v1 import grants_pb2 as pb
from services.common.pb.mesh.events.v1 import envelope_pb2, usage_pb2
from services.common.topics import BILLING_DEAD, LEDGER, USAGE, USAGE_DEAD
from services.usage.domain.row import RequestRow
from services.usage.ports import Bounds
from tests.sim.books import Books, Purse
from tests.sim.facts import DAY, Ask, Key, day_of
from tests.sim.world import World


class Auditor:
    """See the module."""

    def __init__(self, world: World, rules: GrantRules) -> None:
        self.world = world
        self.books = Books(world, rules)
        self.asks: dict[str, Ask] = {}
        # The usage topic: what each id said, and the ids by partition in the order of the log.
        self.logged: dict[str, bytes] = {}
        self.events: dict[str, usage_pb2.UsageRecorded] = {}
        self.order: dict[int, list[str]] = {}
        self.committed_rows: set[bytes] = set()
        self.ledger_rows: list[bytes] = []
        self.recorded_bounds: Callable[[], list[Bounds]] = list
        self.parts_seen: set[tuple[int, tuple[int, ...]]] = set()
        self.places_seen: set[tuple[int, int]] = set()
        # Of two, one that was taken for dead may still write what the other has written.
        self.sink_is_alone = True
        self._seen = 0
        self._epochs: dict[tuple[str, int], int] = {}
        self._cursors: dict[tuple[str, int], int] = {}

    def claimed(self, topic: str, partition: int, epoch: int) -> None:
        """A partition was taken over."""
        last = self._epochs.get((topic, partition), 0)
        self.world.require("epoch_grows", epoch > last, lambda: f"{topic}/{partition} {epoch}")
        self._epochs[topic, partition] = epoch

    def committed(self, tables: LedgerTables, advanced: list[tuple[str, int, int]]) -> None:
        """Billing's database has a new state."""
        new, self._seen = tables.events[self._seen :], len(tables.events)
        for topic, _, value in tables.outbox:
            if topic is LEDGER:
                self.committed_rows.add(value)
        touched = self.books.fold(new)
        for account in sorted(touched):
            self._compare(tables, account)
        for topic_name, partition, epoch in advanced:
            newest = self._epochs.get((topic_name, partition))
            self.world.require(
                "zombie_refused", epoch == newest, lambda: f"{topic_name}/{partition} by a zombie"
            )
        moved = {(topic_name, partition) for topic_name, partition, _ in advanced}
        for place, claim in tables.cursors.items():
            self._cursor_moved(place, claim.next_offset, place in moved)

    def _cursor_moved(self, place: tuple[str, int], now: int, moved: bool) -> None:
        before = self._cursors.get(place, 0)
        if now == before:
            return
        self._cursors[place] = now
        ahead = moved and now > before
        self.world.require("cursor_contiguous", ahead, lambda: f"{place} {before} to {now}")
        if place[0] != USAGE.name:
            return
        for usage_id in self.order.get(place[1], [])[before:now]:
            cost = self.books.charges[usage_id][3]
            booked = cost == 0 or usage_id in self.books.booked
            self.world.require(
                "cursor_with_entries",
                booked,
                lambda: f"{usage_id} lies before the cursor, unbooked",
            )

    def _compare(self, tables: LedgerTables, account_id: str) -> None:
        """Billing's read tables against the auditor's fold, and the limits that always hold."""
        books = self.books
        mine = books.account(account_id)
        wallet = tables.wallets[AccountId(account_id)]
        theirs = (wallet.posted_nanousd, wallet.granted_nanousd, wallet.closing_nanousd)
        ours = (mine.posted, mine.held, mine.closing)
        self.world.require("wallet_is_fold", theirs == ours, lambda: f"{theirs}, not {ours}")
        loans = books.by_account.get(account_id, [])
        held = sum(loan.held for loan in loans)
        self.world.require("granted_is_sum", mine.held == held >= 0, lambda: f"{ours}: {held}")
        self.world.require(
            "balance_not_negative",
            mine.posted - mine.held >= -mine.overrun,
            lambda: f"{account_id} {ours}, overruns {mine.overrun}",
        )
        for loan in loans:
            self._compare_loan(tables, loan)
        books.by_account[account_id] = [loan for loan in loans if not loan.ended]
        _remember(mine, self.world, mine.posted)
        for key_id, owner in books.owner_keys.items():
            if owner.account_id == account_id and key_id in books.keys:
                self._compare_key(tables, owner)
        books.scoped.compare(tables, account_id)

    def _compare_loan(self, tables: LedgerTables, loan: Any) -> None:  # Any: a Loan, read by name
        grant = tables.grants.get(GrantId(loan.grant_id))
        same = grant is not None and (
            grant.status,
            grant.amount_nanousd,
            grant.settled_nanousd,
            grant.returned_nanousd,
            grant.spent_nanousd,
        ) == (loan.status, loan.amount, loan.settled, loan.returned, loan.spent)
        self.world.require("grant_is_fold", same, lambda: f"{grant}, not {loan}")

    def _compare_key(self, tables: LedgerTables, owner: Key) -> None:
        mine = self.books.keys[owner.key_id]
        key = tables.keys[AccountId(owner.account_id), KeyId(owner.key_id)]
        theirs = (key.spent_nanousd, key.granted_nanousd, key.closing_nanousd)
        ours = (sum(mine.days.values()), mine.held, mine.closing)
        self.world.require("key_is_fold", theirs == ours, lambda: f"{theirs}, not {ours}")
        today = day_of(self.world.now_ms())
        capped = all(cap is not None for cap, _, _ in owner.published.values())
        # Around midnight machines do not agree about the day.
        midnight = day_of(self.world.now_ms() - 10_000) != day_of(self.world.now_ms() + 10_000)
        if capped and not (mine.window == DAY and midnight):
            used = mine.spent(today) + mine.held
            self.world.require(
                "cap_holds",
                used <= mine.cap_peak + mine.overrun,
                lambda: f"{owner.key_id} {used} of {mine.cap_peak}, overruns {mine.overrun}",
            )
        if mine.cap is not None:
            _remember(mine, self.world, mine.cap - mine.spent(today))
        else:
            mine.past.append((self.world.loop.time(), 1 << 62, 1 << 62))

    def appended(self, message: LogMessage) -> None:
        """The log has one more message."""
        if message.topic in (BILLING_DEAD.name, USAGE_DEAD.name):
            self.world.fail("no_dead_letters", f"{message.value!r}")
        if message.topic == LEDGER.name:
            value = message.value or b""
            committed = value in self.committed_rows
            self.world.require(
                "published_after_commit", committed, lambda: "a ledger event nobody committed"
            )
            self.ledger_rows.append(value)
        if message.topic == USAGE.name:
            self._usage(message)

    def _usage(self, message: LogMessage) -> None:
        envelope = envelope_pb2.Envelope.FromString(message.value or b"")
        event = usage_pb2.UsageRecorded.FromString(envelope.payload)
        usage_id = event.usage_id
        self.order.setdefault(message.partition, []).append(usage_id)
        self.world.note(f"log usage {usage_id} {event.cost_nanousd} @{message.offset}")
        if usage_id in self.logged:
            same = self.logged[usage_id] == envelope.payload
            self.world.require("one_event", same, lambda: f"{usage_id} says two things: {event}")
            return
        self.logged[usage_id], self.events[usage_id] = envelope.payload, event
        ask = self.asks.get(usage_id)
        if ask is None:
            self.world.fail("event_of_request", f"{usage_id} is nobody's request")
            return
        crashed = event.outcome == usage_pb2.REQUEST_OUTCOME_CRASHED
        cost = 0 if crashed else ask.cost
        right = cost is not None and event.cost_nanousd == cost and not (crashed and ask.sure)
        right = right and not (ask.void and event.cost_nanousd)
        self.world.require("event_says_truth", right, lambda: f"{ask}: {event}")
        self.books.models[usage_id] = ask.model_id
        self.books.charges[usage_id] = (
            ask.key.account_id,
            ask.key.key_id,
            ask.grant_id,
            cost or 0,
            ask.admitted_at_ms,
        )

    def called(self, request: Message) -> None:
        """A worker calls billing."""
        if isinstance(request, pb.OpenGrantRequest):
            self.books.asked[request.grant_id] = request
            self.world.note(
                f"asks {request.grant_id} {request.key_id} needs {request.needed_nanousd} "
                f"least {request.least_nanousd} wants {request.wanted_nanousd}"
            )
        elif isinstance(request, pb.RenewGrantRequest):
            place = (request.grant_id, request.number)
            self.books.renewals.setdefault(place, []).append(request)
            self.world.note(
                f"renews {request.grant_id} #{request.number} needs {request.needed_nanousd} "
                f"least {request.least_nanousd} back {request.give_back_nanousd}"
            )
        elif isinstance(request, pb.CloseGrantRequest):
            said = self.books.closes.setdefault(request.grant_id, set())
            self.world.note(f"closes {request.grant_id} spent {request.spent_nanousd}")
            mine = [ask for ask in self.asks.values() if ask.grant_id == request.grant_id]
            sure = sum(ask.cost or 0 for ask in mine if ask.sure)
            most = sum(ask.cost or 0 for ask in mine if not ask.void)
            self.world.require(
                "close_says_truth",
                sure <= request.spent_nanousd <= most,
                lambda: f"{request.grant_id}: {request.spent_nanousd}, between {sure} and {most}",
            )
            said.add(request.spent_nanousd)

    def part_written(self, rows: list[RequestRow], by_token: bool) -> None:
        """ClickHouse has one more part."""
        if self.sink_is_alone:
            for row in rows:
                place = row.log_partition, row.log_offset
                self.world.require(
                    "row_once", place not in self.places_seen, lambda: f"{row.usage_id} again"
                )
                self.places_seen.add(place)
        if not rows or not by_token:
            return
        first, last = rows[0].log_offset, rows[-1].log_offset
        partition = rows[0].log_partition
        known = any(
            bounds.partition == partition
            and bounds.first_offset <= first
            and last <= bounds.last_offset
            for bounds in self.recorded_bounds()
        )
        self.world.require(
            "bounds_before_rows", known, lambda: f"{partition}: {first} to {last} without bounds"
        )
        part = (partition, tuple(row.log_offset for row in rows))
        self.world.require("part_once", part not in self.parts_seen, lambda: f"{part} again")
        self.parts_seen.add(part)

    def least(self, purse: Purse, since_s: float) -> Mapping[str, int]:
        """The least that was available, and that could have become so, from a moment until now."""
        before = [one for one in purse.past if one[0] < since_s][-1:]
        during = [one for one in purse.past if one[0] >= since_s]
        seen = before + during if before else [(0.0, 0, 0), *during]
        return {
            "held": min(available for _, available, _ in seen),
            "gone": min(reachable for _, _, reachable in seen),
        }


def _remember(purse: Purse, world: World, total: int) -> None:
    purse.past.append((world.loop.time(), total - purse.held, total - purse.closing))
