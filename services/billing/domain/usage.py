"""Usage becomes money: one balanced transaction, wallet to revenue, for each priced usage event."""

from __future__ import annotations

from dataclasses import dataclass

from services.billing.domain import grants, ledger
from services.billing.domain.book import Book
from services.billing.domain.events import Quantities
from services.billing.domain.scopes import scopes_of_cost
from services.common.ids import AccountId, GrantId, KeyId, TransactionId, UsageId

# A million dollars for one request is a mistake of the price, not a charge.
COST_MAX_NANOUSD = 10**15


@dataclass(frozen=True, slots=True)
class UsageCharge:
    """One usage event as the ledger sees it. `cost_nanousd` is ours, `stated_nanousd` the event's.

    `content_hash` is SHA-256 over the event as it was sent, by which a repeat is told from a
    contradiction. `admitted_at_ms` is the moment whose cap windows it counts in. `quantities` are
    what the cost was computed from.
    """

    usage_id: UsageId
    request_id: str
    account_id: AccountId
    key_id: KeyId
    grant_id: GrantId
    model_id: str
    price_version_id: str
    admitted_at_ms: int
    cost_nanousd: int
    stated_nanousd: int
    content_hash: bytes
    traceparent: str = ""
    quantities: Quantities = ()
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Booked:
    """What stood out when a charge was booked."""

    overrun: bool
    grant_unknown: bool
    cost_differs: bool

    @classmethod
    def of_nothing(cls, charge: UsageCharge) -> Booked:
        """For a charge of nothing, which has no transaction."""
        return cls(False, False, charge.stated_nanousd != 0)


def book_usage(
    book: Book, charge: UsageCharge, *, transaction_id: TransactionId, booked_at_ms: int
) -> Booked:
    """Posts the charge to its account's journal and lowers its grant, whatever state that is in.

    The money is owed once the request was served, so nothing is refused here: a cost above what the
    grant has left, or under no grant that the account has, is booked and flagged as an overrun.
    """
    grant = book.grants.get(charge.grant_id) if charge.grant_id else None
    if grant is not None and grant.account_id != charge.account_id:
        grant = None
    held = grant.held_nanousd if grant is not None else 0
    booked = Booked(
        overrun=charge.cost_nanousd > held,
        grant_unknown=grant is None and bool(charge.grant_id),
        cost_differs=charge.cost_nanousd != charge.stated_nanousd,
    )
    wallet = book.wallets[charge.account_id]
    draft = ledger.Draft(
        transaction_id,
        charge.account_id,
        f"usage:{charge.usage_id}",
        "usage",
        ledger.transfer(
            charge.cost_nanousd,
            source=ledger.wallet_account(charge.account_id),
            target=ledger.REVENUE,
        ),
        charge.admitted_at_ms,
        booked_at_ms,
        _reason(charge, booked),
        charge.key_id,
        charge.grant_id if grant is not None else GrantId(""),
        charge.usage_id,
        charge.request_id,
        charge.model_id,
        charge.price_version_id,
        booked.overrun,
        charge.quantities,
        scopes=scopes_of_cost(
            book.key(charge.account_id, charge.key_id),
            grant,
            key_id=charge.key_id,
            model_id=charge.model_id,
        ),
        provider_id=charge.provider_id,
    )
    posted = ledger.post(wallet, draft)
    book.record(posted, occurred_at_ms=booked_at_ms, traceparent=charge.traceparent)
    if grant is not None:
        for event in grants.resolution(book.grants[grant.grant_id]):
            book.record(event, occurred_at_ms=booked_at_ms, traceparent=charge.traceparent)
    return booked


def _reason(charge: UsageCharge, booked: Booked) -> str:
    """What a person who reads the journal should know; empty where nothing stood out."""
    reasons = []
    if booked.cost_differs:
        reasons.append(f"the event stated {charge.stated_nanousd} nano-dollars")
    if booked.grant_unknown:
        reasons.append(f"the account has no grant {charge.grant_id}")
    return "; ".join(reasons)
