"""What must be true after everything came to rest."""

# ruff: noqa: B023 - what went wrong is put into words at once or never

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from services.billing.adapters.events_pb import event_from_record
from services.billing.adapters.ledger_memory import LedgerTables
from services.billing.domain.book import Book
from services.common.events import EventRecord
from services.common.topics import USAGE
from services.usage.domain.row import RequestRow
from tests.sim.auditor import Auditor
from tests.sim.facts import Ask


def check_all(auditor: Auditor, tables: LedgerTables, parts: list[list[RequestRow]]) -> None:
    """Every invariant of rest, the plainest first."""
    for ask in auditor.asks.values():
        _check_ask(auditor, ask)
    _check_money(auditor)
    _check_topic(auditor)
    _check_rebuild(auditor, tables)
    _check_request_log(auditor, parts)


def _check_ask(auditor: Auditor, ask: Ask) -> None:
    """Each admitted request has its one event; what was recorded is in it and is booked."""
    require, event = auditor.world.require, auditor.events.get(ask.usage_id)
    if ask.sure or (ask.admitted and not ask.forgotten):
        require("event_for_each", event is not None, lambda: f"no event of {ask}")
    if event is None:
        return
    if ask.sure:
        right = event.cost_nanousd == ask.cost
        require("recorded_is_logged", right, lambda: f"{ask}: {event}")
    cost = auditor.books.charges[ask.usage_id][3]
    booked = auditor.books.booked.get(ask.usage_id, 0)
    require("logged_is_settled", booked == cost, lambda: f"{ask} was booked as {booked}")


def _check_money(auditor: Auditor) -> None:
    """Nothing is held, every grant has ended as it was spent, every credit was booked once."""
    books, require = auditor.books, auditor.world.require
    for loan in books.loans.values():
        require("nothing_held", loan.ended and not loan.held, lambda: f"left: {loan}")
        spent = sum(
            auditor.books.charges[ask.usage_id][3]
            for ask in auditor.asks.values()
            if ask.grant_id == loan.grant_id and ask.usage_id in auditor.events
        )
        require("spent_is_settled", loan.settled == spent, lambda: f"{loan}: {spent}")
    for cause, credit in books.credits.items():
        done = cause in books.credited or not credit.sure
        require("credit_booked", done, lambda: f"{credit}")
    for account_id, purse in books.accounts.items():
        credited = sum(
            credit.amount
            for (account, name), credit in books.credits.items()
            if account == account_id and (account, name) in books.credited
        )
        charged = sum(
            cost
            for usage_id, cost in books.booked.items()
            if auditor.asks[usage_id].key.account_id == account_id
        )
        right = purse.posted == credited - charged and purse.held == 0
        require("balance", right, lambda: f"{account_id} {purse.posted}: {credited} - {charged}")


def _check_topic(auditor: Auditor) -> None:
    """The ledger topic holds what was committed, all of it, in the order of each account."""
    missing = auditor.committed_rows - set(auditor.ledger_rows)
    auditor.world.require("all_published", not missing, lambda: f"{len(missing)} events missing")


def _check_rebuild(auditor: Auditor, tables: LedgerTables) -> None:
    """The topic alone, read from its start by production's own fold, gives the same tables."""
    book = Book()
    versions: dict[str, int] = {}
    for raw in auditor.ledger_rows:
        record = EventRecord.from_bytes(raw)
        before = versions.get(record.account_id, 0)
        if record.stream_version <= before:
            continue
        follows = record.stream_version == before + 1
        auditor.world.require("topic_in_order", follows, lambda: f"{record.stream_id} has a gap")
        versions[record.account_id] = record.stream_version
        book.record(event_from_record(record), occurred_at_ms=record.occurred_at_ms)
    live = {name: wallet for name, wallet in tables.wallets.items() if wallet.version}
    folded = (book.day_spend, book.totals, book.scopes, book.scope_spend)
    rebuilt = _hash(book.wallets, book.grants, book.keys, *folded)
    kept = (tables.days, tables.totals, tables.scopes, tables.scope_days)
    stored = _hash(live, tables.grants, tables.keys, *kept)
    auditor.world.require("rebuild_is_state", rebuilt == stored, lambda: f"{rebuilt}, {stored}")


def _hash(*tables: object) -> str:
    digest = hashlib.sha256()
    for table in tables:
        assert isinstance(table, dict)
        digest.update(
            repr(sorted((repr(key), repr(value)) for key, value in table.items())).encode()
        )
    return digest.hexdigest()[:16]


def _check_request_log(auditor: Auditor, parts: Iterable[list[RequestRow]]) -> None:
    """ClickHouse after its merges: each logged request once, with the ledger's sums by account."""
    require = auditor.world.require
    kept: dict[tuple[str, int, str], RequestRow] = {}
    for part in parts:
        for row in part:
            kept[row.account_id, row.received_at, row.usage_id] = row
    ids = [usage_id for _, _, usage_id in kept]
    require("log_row_once", len(ids) == len(set(ids)), lambda: "a request has two rows")
    missing, extra = set(auditor.events) - set(ids), set(ids) - set(auditor.events)
    require(
        "log_rows_complete", not missing and not extra, lambda: f"missing {missing}, extra {extra}"
    )
    sums: dict[str, list[int]] = {}
    for row in kept.values():
        if row.cost_nanousd:
            pair = sums.setdefault(row.account_id, [0, 0])
            pair[0] += 1
            pair[1] += row.cost_nanousd
    booked: dict[str, list[int]] = {}
    for usage_id, cost in auditor.books.booked.items():
        pair = booked.setdefault(auditor.asks[usage_id].key.account_id, [0, 0])
        pair[0] += 1
        pair[1] += cost
    require("log_is_ledger", sums == booked, lambda: f"{USAGE.name}: {sums}, ledger {booked}")
