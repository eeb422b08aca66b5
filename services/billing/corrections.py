"""What puts wrong entries right: reversals and re-ratings. Each part is one unit of work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

from services.billing.domain.book import Book
from services.billing.domain.corrections import (
    RERATE,
    REVERSAL,
    USAGE,
    Rerating,
    decide_rerate,
    decide_reversal,
    reversal_key,
)
from services.billing.domain.events import TransactionPosted
from services.billing.domain.ledger import post
from services.billing.ports import LedgerStore, LedgerUnit
from services.common.clock import Clock
from services.common.errors import Conflict, NotFound
from services.common.ids import AccountId, TransactionId, new_id
from services.common.money import Price

NO_ACCOUNT = AccountId("")
# Re-ratings in one unit of work: short enough not to keep an account waiting.
RERATE_PART = 200


@dataclass(frozen=True, slots=True)
class PostCorrection:
    """An operator takes a transaction back; with an account named, only one of its own."""

    transaction_id: TransactionId
    reason: str
    account_id: AccountId = NO_ACCOUNT


@dataclass(frozen=True, slots=True)
class RerateModel:
    """An operator puts the price right by which a model's use was charged."""

    model_id: str
    wrong_price_version_id: str
    price: Price
    dry_run: bool
    account_id: AccountId = NO_ACCOUNT


async def post_correction(
    store: LedgerStore, clock: Clock, command: PostCorrection
) -> TransactionPosted:
    """Reverses a transaction, once; the same again returns the first reversal.

    Raises NotFound; Conflict where it was reversed for another reason, or where a correction stands
    on top of it.
    """
    target = await store.find_transaction(command.transaction_id)
    if target is None or command.account_id not in ("", target.account_id):
        raise NotFound("there is no such transaction")
    root = await _root(store, target)
    async with store.unit() as unit:
        book = Book(wallets=await unit.wallets([target.account_id]))
        posted = await unit.transaction(target.account_id, reversal_key(target.transaction_id))
        if posted is not None:
            if posted.reason != command.reason:
                raise Conflict("the transaction was reversed for another reason")
            return posted
        now_ms = clock.now_ms()
        draft = decide_reversal(
            target,
            await _corrections(unit, target.account_id, [root.transaction_id]),
            transaction_id=TransactionId(new_id("tx", now_ms)),
            reason=command.reason,
            booked_at_ms=now_ms,
        )
        await _load_keys(unit, book, [target])
        reversal = post(book.wallets[target.account_id], draft)
        book.record(reversal, occurred_at_ms=now_ms)
        await unit.save(book)
        return reversal


async def rerate_model(
    store: LedgerStore, clock: Clock, command: RerateModel
) -> AsyncGenerator[Rerating, None]:
    """Every usage that stands under the wrong price, by account and in the order of its journal.

    Each part is booked before its results are given, unless it is a dry run. What was booked by an
    earlier run comes again as it is. Raises Conflict as `decide_rerate` does.
    """
    async for part in _concerned(store, command):
        async with store.unit() as unit:
            results = await _rerate(unit, part, command, now_ms=clock.now_ms())
        for result in results:
            yield result


async def _rerate(
    unit: LedgerUnit, part: Sequence[TransactionPosted], command: RerateModel, *, now_ms: int
) -> list[Rerating]:
    """One part, of one account."""
    account_id = part[0].account_id
    book = Book(wallets=await unit.wallets([account_id]))
    await _load_keys(unit, book, part)
    corrections = await _corrections(unit, account_id, [one.transaction_id for one in part])
    of_usage = _by_root(part, corrections)
    results = []
    for usage in part:
        result = decide_rerate(
            usage,
            of_usage[usage.transaction_id],
            wrong_price_version_id=command.wrong_price_version_id,
            price=command.price,
            transaction_id=TransactionId(new_id("tx", now_ms)),
            booked_at_ms=now_ms,
        )
        if result is None:
            continue
        if result.draft is not None and not command.dry_run:
            posted = post(book.wallets[account_id], result.draft)
            book.record(posted, occurred_at_ms=now_ms)
            result = Rerating(usage, result.booked_nanousd, result.correct_nanousd, posted)
        results.append(result)
    if book.recorded:
        await unit.save(book)
    return results


async def _concerned(
    store: LedgerStore, command: RerateModel
) -> AsyncGenerator[list[TransactionPosted], None]:
    """The usage booked under the wrong price, or re-rated to it; in parts of one account each."""
    wrong = command.wrong_price_version_id
    rerated = {
        posted.corrects_transaction_id
        async for posted in store.journal_of_model(command.model_id, command.account_id)
        if posted.kind == RERATE and posted.price_version_id == wrong
    }
    part: list[TransactionPosted] = []
    async for posted in store.journal_of_model(command.model_id, command.account_id):
        if posted.kind != USAGE:
            continue
        if posted.price_version_id != wrong and posted.transaction_id not in rerated:
            continue
        if part and (part[0].account_id != posted.account_id or len(part) >= RERATE_PART):
            yield part
            part = []
        part.append(posted)
    if part:
        yield part


async def _root(store: LedgerStore, target: TransactionPosted) -> TransactionPosted:
    """The transaction below a chain of corrections. Raises NotFound where it is missing."""
    while target.corrects_transaction_id:
        below = await store.find_transaction(target.corrects_transaction_id)
        if below is None:
            raise NotFound("the transaction corrects one that is not there")
        target = below
    return target


async def _corrections(
    unit: LedgerUnit, account_id: AccountId, roots: Iterable[TransactionId]
) -> list[TransactionPosted]:
    """Everything that corrects one of the roots, and what corrects that, and so on."""
    found: list[TransactionPosted] = []
    below = list(roots)
    while below:
        layer = await unit.corrections(account_id, below)
        found += layer
        below = [one.transaction_id for one in layer]
    return found


def _by_root(
    roots: Sequence[TransactionPosted], corrections: Sequence[TransactionPosted]
) -> dict[TransactionId, list[TransactionPosted]]:
    """The corrections of each root; they come layer by layer, so what is below is known."""
    root_of = {one.transaction_id: one.transaction_id for one in roots}
    sorted_out: dict[TransactionId, list[TransactionPosted]] = {one: [] for one in root_of}
    for one in corrections:
        assert one.kind in (RERATE, REVERSAL)
        root_of[one.transaction_id] = root_of[one.corrects_transaction_id]
        sorted_out[root_of[one.transaction_id]].append(one)
    return sorted_out


async def _load_keys(unit: LedgerUnit, book: Book, about: Sequence[TransactionPosted]) -> None:
    """Without its keys a book would begin them anew, and forget their caps."""
    book.keys = await unit.keys({(one.account_id, one.key_id) for one in about if one.key_id})
