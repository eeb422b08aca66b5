"""What billing does for its callers: load, decide, save; one unit of work a command.

Grant calls come as a group (see `group_commit.py`): they are decided one after the other by the
pure core over one working set, and written together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.billing.domain import grants
from services.billing.domain.book import Book, KeyRef, ScopeRef
from services.billing.domain.caps import first_day
from services.billing.domain.events import (
    NO_KEY,
    CapWindow,
    GrantOpened,
    GrantRenewed,
    TransactionPosted,
)
from services.billing.domain.grants import (
    Closed,
    CloseGrant,
    GrantRules,
    OpenGrant,
    OpenState,
    Refusal,
    RenewGrant,
)
from services.billing.domain.ledger import PROMO, Draft, post, same_cause, transfer, wallet_account
from services.billing.domain.rooms import ScopeSpent
from services.billing.domain.scopes import scopes_of_key
from services.billing.domain.state import Grant, KeyAccount, ScopeAccount, Wallet
from services.billing.payments.work import start_refills
from services.billing.ports import LedgerStore, LedgerUnit
from services.common.clock import Clock
from services.common.errors import AppError, Conflict, NotFound
from services.common.ids import AccountId, GrantId, TransactionId, new_id

GrantCommand = OpenGrant | RenewGrant | CloseGrant
GrantAnswer = Grant | Refusal | Closed | AppError


@dataclass(frozen=True, slots=True)
class CreditAccount:
    """An operator's credit, in nano-dollars; the idempotency key is the caller's, per account."""

    account_id: AccountId
    amount_nanousd: int
    reason: str
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Credited:
    """The transaction of a credit and the wallet as it is after it."""

    transaction: TransactionPosted
    wallet: Wallet


@dataclass(frozen=True, slots=True)
class Read:
    """What keys and scopes spent in the windows of their caps, in nano-dollars, and which grants
    were given up before they were opened.
    """

    spent_by_key: Mapping[KeyRef, int]
    spent_by_scope: Mapping[ScopeRef, int]
    given_up: set[GrantId]


async def credit_account(store: LedgerStore, clock: Clock, command: CreditAccount) -> Credited:
    """Credits a wallet from `promo`, once for each idempotency key.

    Raises Conflict where the key stands for another credit.
    """
    now_ms = clock.now_ms()
    draft = Draft(
        TransactionId(new_id("tx", now_ms)),
        command.account_id,
        f"credit:{command.idempotency_key}",
        "credit",
        transfer(command.amount_nanousd, source=PROMO, target=wallet_account(command.account_id)),
        now_ms,
        now_ms,
        command.reason,
    )
    return await post_once(store, draft)


async def post_once(store: LedgerStore, draft: Draft) -> Credited:
    """Posts a transaction whose cause is named by its idempotency key, at most once.

    The same content again returns the first result; other content raises Conflict.
    """
    async with store.unit() as unit:
        await unit.ensure_wallets([draft.account_id])
        wallets = await unit.wallets([draft.account_id])
        book = Book(wallets=wallets)
        posted = await unit.transaction(draft.account_id, draft.idempotency_key)
        if posted is not None:
            if not same_cause(posted, draft):
                raise Conflict("the idempotency key was used for another transaction")
            return Credited(posted, wallets[draft.account_id])
        transaction = post(wallets[draft.account_id], draft)
        book.record(transaction, occurred_at_ms=draft.booked_at_ms)
        await unit.save(book)
        return Credited(transaction, book.wallets[draft.account_id])


async def run_grant_commands(
    store: LedgerStore, clock: Clock, commands: Sequence[GrantCommand], *, rules: GrantRules
) -> list[GrantAnswer]:
    """Decides a group of calls in one unit of work; a refused call spoils none of the others."""
    async with store.unit() as unit:
        book = Book(wallets=await unit.wallets({command.account_id for command in commands}))
        now_ms = clock.now_ms()
        read = await _load_for(unit, book, commands, now_ms=now_ms)
        answers: list[GrantAnswer] = []
        given_up: set[GrantId] = set()
        for command in commands:
            try:
                answers.append(_decide(book, command, read, now_ms=now_ms, rules=rules))
            except AppError as error:
                answers.append(error)
                if isinstance(command, CloseGrant) and command.grant_id not in book.grants:
                    # Its opening may be under way still, and must find that it is too late.
                    read.given_up.add(command.grant_id)
                    given_up.add(command.grant_id)
        if given_up:
            await unit.give_up(given_up, now_ms)
        if book.recorded:
            await start_refills(unit, book, now_ms=now_ms)
            await unit.save(book)
        if wanted := _held_by_others(book, commands, answers):
            await unit.ask_back(wanted, now_ms + rules.recall_ms)
        return answers


def _held_by_others(
    book: Book, commands: Sequence[GrantCommand], answers: Sequence[GrantAnswer]
) -> set[KeyRef]:
    """Where money was refused that is only held: other workers may have it idle."""
    wanted: set[KeyRef] = set()
    for command, answer in zip(commands, answers, strict=True):
        if not isinstance(answer, Refusal) or not answer.held or answer.limit == "key_inactive":
            continue
        grant = book.grants.get(command.grant_id)
        key_id = command.key_id if isinstance(command, OpenGrant) else grant and grant.key_id
        of_key = answer.limit in ("key_cap", "model_cap")
        wanted.add((command.account_id, key_id if of_key and key_id else NO_KEY))
    return wanted


async def expire_grants(store: LedgerStore, clock: Clock, *, rules: GrantRules, limit: int) -> int:
    """Marks grants unresolved whose time and grace are over; returns how many it found."""
    now_ms = clock.now_ms()
    lapsed = await store.lapsed_grants(now_ms - rules.grace_ms, limit)
    if not lapsed:
        return 0
    async with store.unit() as unit:
        book = Book(wallets=await unit.wallets({grant.account_id for grant in lapsed}))
        # Read again under the locks: a close may have come between.
        book.grants = await unit.grants([grant.grant_id for grant in lapsed])
        refs = {(grant.account_id, grant.key_id) for grant in book.grants.values()}
        book.keys = await unit.keys(refs)
        book.scopes = await unit.scopes(scopes_of_grants(book.grants.values()))
        for grant in list(book.grants.values()):
            events = grants.decide_expire(grant, now_ms=now_ms, rules=rules)
            book.record_all(events, occurred_at_ms=now_ms)
        if book.recorded:
            await unit.save(book)
    return len(lapsed)


async def write_off_grant(
    store: LedgerStore, clock: Clock, grant_id: GrantId, *, reason: str
) -> Grant:
    """Gives up an unresolved grant and returns it as it is then; once more changes nothing.

    Raises NotFound, and Conflict for a grant that is not unresolved.
    """
    async with store.unit() as unit:
        found = (await unit.grants([grant_id])).get(grant_id)
    if found is None:
        raise NotFound("there is no such grant")
    book = await _write_off(store, [found], reason, now_ms=clock.now_ms())
    return book.grants[grant_id]


async def write_off_overdue(
    store: LedgerStore, clock: Clock, *, rules: GrantRules, limit: int
) -> int:
    """Writes off grants that were unresolved for too long; returns how many it found."""
    now_ms = clock.now_ms()
    overdue = await store.unresolved_grants(now_ms - rules.write_off_after_ms, limit)
    if overdue:
        reason = f"unresolved for {rules.write_off_after_ms // 1000} s"
        await _write_off(store, overdue, reason, now_ms=now_ms, rules=rules)
    return len(overdue)


async def _write_off(
    store: LedgerStore,
    found: Sequence[Grant],
    reason: str,
    *,
    now_ms: int,
    rules: GrantRules | None = None,
) -> Book:
    """With rules, those that are still overdue; without, all of them or Conflict."""
    async with store.unit() as unit:
        book = Book(wallets=await unit.wallets({grant.account_id for grant in found}))
        # Read again under the locks: a close may have come between.
        book.grants = await unit.grants([grant.grant_id for grant in found])
        refs = {(grant.account_id, grant.key_id) for grant in book.grants.values()}
        book.keys = await unit.keys(refs)
        book.scopes = await unit.scopes(scopes_of_grants(book.grants.values()))
        for grant in list(book.grants.values()):
            if rules is None or grants.is_overdue(grant, now_ms=now_ms, rules=rules):
                events = grants.decide_write_off(grant, reason)
                book.record_all(events, occurred_at_ms=now_ms)
        if book.recorded:
            await unit.save(book)
        return book


async def _load_for(
    unit: LedgerUnit, book: Book, commands: Sequence[GrantCommand], *, now_ms: int
) -> Read:
    ids = {command.grant_id for command in commands}
    book.grants, given_up = await unit.grants_or_given_up(ids)
    refs = {(grant.account_id, grant.key_id) for grant in book.grants.values()}
    refs |= {(c.account_id, c.key_id) for c in commands if isinstance(c, OpenGrant)}
    book.keys = await unit.keys(refs)
    opened = [command for command in commands if isinstance(command, OpenGrant)]
    lending = {
        (command.account_id, scope)
        for command in opened
        for scope in scopes_of_key(book.key(command.account_id, command.key_id), command.model_id)
    }
    book.scopes = await unit.scopes(lending | scopes_of_grants(book.grants.values()))
    return Read(
        await window_spend(unit, book.keys, now_ms),
        await scope_spend(unit, book.scopes, now_ms),
        given_up,
    )


def scopes_of_grants(found: Iterable[Grant]) -> set[ScopeRef]:
    """Every scope that lends one of these grants: what a change of them touches."""
    return {(grant.account_id, scope) for grant in found for scope in grant.scopes}


async def scope_spend(
    unit: LedgerUnit, scopes: Mapping[ScopeRef, ScopeAccount], now_ms: int
) -> dict[ScopeRef, int]:
    """What was spent in each scope that has a cap, in its window, in nano-dollars."""
    capped = {
        ref: first_day(scope.window, now_ms)
        for ref, scope in scopes.items()
        if scope.spend_cap_nanousd is not None
    }
    return await unit.scope_spend(capped) if capped else {}


async def window_spend(
    unit: LedgerUnit, keys: Mapping[KeyRef, KeyAccount], now_ms: int
) -> dict[KeyRef, int]:
    """What each key has spent in the window of its cap, in nano-dollars."""
    windowed = {
        ref: first_day(key.window, now_ms)
        for ref, key in keys.items()
        if key.window != CapWindow.LIFETIME
    }
    spent = {ref: key.spent_nanousd for ref, key in keys.items()}
    return spent | await unit.window_spend(windowed)


def _decide(
    book: Book,
    command: GrantCommand,
    read: Read,
    *,
    now_ms: int,
    rules: GrantRules,
) -> GrantAnswer:
    grant = book.grants.get(command.grant_id)
    if isinstance(command, CloseGrant):
        closed = grants.decide_close(grant, command)
        book.record_all(closed.events, occurred_at_ms=now_ms, traceparent=command.traceparent)
        return closed
    key_id = command.key_id if isinstance(command, OpenGrant) else grant.key_id if grant else NO_KEY
    ref = (command.account_id, key_id)
    lending = grant.scopes if grant is not None else ()
    if grant is None and isinstance(command, OpenGrant):
        lending = scopes_of_key(book.key(*ref), command.model_id)
    account_id = command.account_id
    state = OpenState(
        book.wallets.get(account_id),
        book.keys.get(ref),
        read.spent_by_key.get(ref, 0),
        grant,
        tuple(
            ScopeSpent(
                book.scope(account_id, scope), read.spent_by_scope.get((account_id, scope), 0)
            )
            for scope in lending
        ),
        command.grant_id in read.given_up,
    )
    decision: GrantOpened | GrantRenewed | Grant | Refusal
    if isinstance(command, RenewGrant):
        decision = grants.decide_renew(state, command, now_ms=now_ms, rules=rules)
    else:
        decision = grants.decide_open(state, command, now_ms=now_ms, rules=rules)
    if isinstance(decision, GrantOpened | GrantRenewed):
        book.record(decision, occurred_at_ms=now_ms, traceparent=command.traceparent)
        return book.grants[command.grant_id]
    return decision
