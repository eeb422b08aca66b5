"""The invariants of the books after a run, to the nano-dollar; each violation is one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from services.common.topics import KEYS, USAGE
from tests.chaos.facts import Ledger, Log, RequestLog
from tests.e2e.load import Seen, recomputed
from tests.e2e.operator import Account

SHOWN_MAX = 5
# Given by a worker that does not know the caller (yet): such a request has no row.
UNKNOWN_CALLER = (401, 503)


def shown(what: str, names: Iterable[str]) -> Iterator[str]:
    """One violation that names some of many; none where there are no names."""
    found = sorted(names)
    if found:
        yield f"{len(found)} {what}: {', '.join(found[:SHOWN_MAX])}"


def of_the_ledger(ledger: Ledger, customers: Sequence[Account]) -> Iterator[str]:
    """The ledger by itself: verified, rebuilt, nothing held, credit - charges = wallet."""
    yield from shown("findings of the verifier", ledger.findings)
    if not ledger.rebuilt_equal:
        yield "the read tables are not what the events say"
    yield from shown("grants are not resolved", ledger.grants_left)
    yield from shown("limits were passed", ledger.limits_broken)
    yield from shown("overruns", (u for u, bill in ledger.bills.items() if bill.overrun))
    if ledger.booked != len(ledger.bills):
        yield f"{ledger.booked} charges for {len(ledger.bills)} usage ids"
    if ledger.outbox:
        yield f"{ledger.outbox} messages are left in the outbox"
    for account, (posted, granted, closing) in ledger.wallets.items():
        if ledger.explained.get(account) != posted:
            yield f"{account} has {posted}, explained {ledger.explained.get(account)}"
        if granted or closing or posted < 0:
            yield f"{account} has {posted} posted, {granted} granted, {closing} closing"
    billed = Counter[str]()
    for bill in ledger.bills.values():
        billed[bill.account_id] += bill.cost_nanousd
    for one in customers:
        posted = ledger.wallets[one.account_id][0]
        if posted != one.credited_nanousd - billed[one.account_id]:
            yield (
                f"{one.account_id} was credited {one.credited_nanousd}, billed "
                f"{billed[one.account_id]}, and has {posted}"
            )


def of_the_log(ledger: Ledger, log: Log) -> Iterator[str]:
    """Kafka and the ledger: every event applied, once, and every entry published."""
    if log.dead:
        yield f"{log.dead} dead letters"
    yield from shown("usage ids have two contents in the log", log.differing)
    yield from shown("usage ids of the log are not in the ledger", set(log.usage) - ledger.marks)
    yield from shown("usage ids of the ledger are not in the log", ledger.marks - set(log.usage))
    yield from shown("ledger events are not in the log", ledger.event_ids - log.ledger_event_ids)
    yield from shown("events of the log are not the ledger's",
                     log.ledger_event_ids - ledger.event_ids)  # fmt: skip
    for (topic, partition), end in log.ends.items():
        applied = ledger.cursors.get((topic, partition), 0)
        if topic in (USAGE.name, KEYS.name) and applied != end:
            yield f"billing's cursor of {topic}/{partition} is at {applied} of {end}"
    for usage_id, event in log.usage.items():
        bill = ledger.bills.get(usage_id)
        if event.cost_nanousd != (bill.cost_nanousd if bill else 0):
            yield f"{usage_id} cost {event.cost_nanousd} and was booked as {bill}"


def of_the_request_log(ledger: Ledger, log: Log, found: RequestLog) -> Iterator[str]:
    """ClickHouse and the ledger: the same usage ids, costs, and sums by account and hour."""
    if found.count != len(found.rows):
        yield f"{found.count} rows for {len(found.rows)} usage ids"
    yield from shown("usage ids are not in the request log", set(log.usage) - set(found.rows))
    yield from shown("rows of the request log have no event", set(found.rows) - set(log.usage))
    for (topic, partition), end in log.ends.items():
        position = found.positions.get(partition, 0)
        if topic == USAGE.name and position != end:
            yield f"the request log is at {position} of {end} in partition {partition}"
    in_log, in_ledger = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    costs_log, costs_ledger = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for row in found.rows.values():
        if row["cost_nanousd"]:
            in_log[row["account_id"], row["hour"]] += 1
            costs_log[row["account_id"], row["hour"]] += row["cost_nanousd"]
        if row["cost_nanousd"] != recomputed(row):
            yield f"{row['usage_id']} cost {row['cost_nanousd']}, tokens x price {recomputed(row)}"
    for bill in ledger.bills.values():
        in_ledger[bill.account_id, bill.hour] += 1
        costs_ledger[bill.account_id, bill.hour] += bill.cost_nanousd
    if in_log != in_ledger or costs_log != costs_ledger:
        yield f"by account and hour: log {in_log} {costs_log}, ledger {in_ledger} {costs_ledger}"


def of_the_clients(seen: Sequence[Seen], found: RequestLog) -> Iterator[str]:
    """Every answer that a client saw is in the request log as it saw it, once."""
    rows: dict[str, list[dict[str, object]]] = {}
    for row in found.rows.values():
        rows.setdefault(row["request_id"], []).append(row)
    for one in seen:
        theirs = rows.get(one.request_id, [])
        if not theirs and one.status in UNKNOWN_CALLER:
            continue
        if len(theirs) != 1:
            yield f"{one.request_id} ({one.ending}, {one.status}) has {len(theirs)} rows"
            continue
        yield from _of_one(one, theirs[0])


def _of_one(one: Seen, row: dict[str, object]) -> Iterator[str]:
    if one.ending == "complete":
        counted = {"prompt": row["prompt"], "completion": row["completion"]}
        ends = ("success",) if one.kind.bounded else ("success", "limit_reached")
        if row["outcome"] not in ends or (one.usage is not None and one.usage != counted):
            yield f"{one.request_id} was complete with {one.usage} and is logged as {row}"
    if one.ending == "refused" and (row["cost_nanousd"] or row["status"] != one.status):
        yield f"{one.request_id} was refused with {one.status} and is logged as {row}"
