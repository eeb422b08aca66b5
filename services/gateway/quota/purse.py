"""One key's leases and the tickets taken from them. Pure bookkeeping, no clock and no IO.

Invariants, asserted at every change: a lease gives out no more requests and sets aside no more
tokens than it has; a ticket ends once; a lease that was closed gives nothing out any more.
"""

from __future__ import annotations

from services.common.ids import AccountId, KeyId
from services.gateway.ports import QuotaTicket
from services.gateway.quota.ports import Lease, LeaseId, Return


class HeldLease:
    """One lease in the purse. Moments are seconds of the worker's monotonic clock."""

    __slots__ = (
        "closed",
        "day_ends_s",
        "idle_since_s",
        "lease_id",
        "minute_ends_s",
        "reported",
        "requests",
        "reserved_tokens",
        "revision",
        "running",
        "spent_tokens",
        "tokens",
        "usable_until_s",
        "used_requests",
    )

    def __init__(self, lease: Lease, *, asked_s: float) -> None:
        self.lease_id = lease.lease_id
        self.requests = lease.requests
        self.tokens = lease.tokens
        self.usable_until_s = asked_s + lease.usable_s
        self.minute_ends_s = asked_s + lease.minute_ends_in_s
        self.day_ends_s = asked_s + lease.day_ends_in_s
        self.used_requests = 0
        self.spent_tokens = 0
        self.reserved_tokens = 0
        self.running = 0
        self.idle_since_s = asked_s
        self.closed = False
        self.revision = 0
        # The figures that billing has confirmed.
        self.reported: tuple[int, int] | None = None

    @property
    def free_requests(self) -> int | None:
        """Requests that may still be let in; None for any number."""
        return None if self.requests is None else self.requests - self.used_requests

    @property
    def free_tokens(self) -> int | None:
        """Tokens that are neither spent nor set aside; negative after an overrun; None for any."""
        if self.tokens is None:
            return None
        return self.tokens - self.spent_tokens - self.reserved_tokens

    @property
    def figures(self) -> tuple[int, int]:
        """What a return says: requests let in, and tokens spent or set aside."""
        return self.used_requests, self.spent_tokens + self.reserved_tokens

    @property
    def exhausted(self) -> bool:
        """True where it cannot let in any request."""
        requests, tokens = self.free_requests, self.free_tokens
        return requests == 0 or (tokens is not None and tokens <= 0)

    def serves(self, tokens: int, now_s: float) -> bool:
        """True where it can let in a request of so many tokens."""
        if self.closed or now_s >= self.usable_until_s or self.free_requests == 0:
            return False
        free = self.free_tokens
        return free is None or free >= tokens

    def is_due(self, now_s: float) -> bool:
        """True where billing has yet to hear of its figures and can still make use of them."""
        if not self.closed or self.reported == self.figures:
            return False
        # Corrections are of tokens only, and those are counted by the minute.
        return now_s < (self.day_ends_s if self.reported is None else self.minute_ends_s)


class QuotaPurse:
    """The leases of one key, in the order in which they came. `model_id` names the model where they
    are for its requests alone; `model_only` says that they are out of that model's limits alone.
    """

    __slots__ = ("_leases", "_next", "_tickets", "account_id", "key_id", "model_id", "model_only")

    def __init__(
        self,
        account_id: AccountId,
        key_id: KeyId,
        model_id: str = "",
        *,
        model_only: bool = False,
    ) -> None:
        self.account_id = account_id
        self.key_id = key_id
        self.model_id = model_id
        self.model_only = model_only
        self._leases: dict[LeaseId, HeldLease] = {}
        self._tickets: set[int] = set()
        self._next = 0

    def add(self, lease: Lease, *, asked_s: float) -> HeldLease:
        """Puts a lease in; `asked_s` is when it was asked for."""
        assert lease.lease_id not in self._leases, f"{lease.lease_id} is in the purse already"
        held = self._leases[lease.lease_id] = HeldLease(lease, asked_s=asked_s)
        return held

    def take(self, tokens: int, now_s: float) -> QuotaTicket | None:
        """Lets a request of so many tokens in; None where no lease can."""
        for held in self._leases.values():
            if held.serves(tokens, now_s):
                reserved = 0 if held.tokens is None else tokens
                held.used_requests += 1
                held.reserved_tokens += reserved
                held.running += 1
                held.idle_since_s = now_s
                self._check(held)
                self._next += 1
                self._tickets.add(self._next)
                return QuotaTicket(
                    self._next,
                    held.lease_id,
                    self.account_id,
                    self.key_id,
                    reserved,
                    self.model_id,
                    self.model_only,
                )
        return None

    def settle(self, ticket: QuotaTicket, actual_tokens: int) -> None:
        """Ends a ticket with the tokens that its request came to."""
        assert ticket.number in self._tickets, f"ticket {ticket.number} has ended already"
        assert actual_tokens >= 0, f"ticket {ticket.number} used {actual_tokens} tokens"
        self._tickets.remove(ticket.number)
        held = self._leases[LeaseId(ticket.lease_id)]
        held.running -= 1
        held.reserved_tokens -= ticket.tokens
        if held.tokens is not None:
            held.spent_tokens += actual_tokens
        assert held.running >= 0
        assert held.running or not held.reserved_tokens, f"{held.lease_id}: set aside for nobody"

    def close(self, now_s: float, *, idle_s: float) -> int:
        """Ends leases that are used up, too old, or unused for so long; how many."""
        ending = [
            held
            for held in self._leases.values()
            if not held.closed
            and (
                held.exhausted
                or now_s >= held.usable_until_s
                or now_s - held.idle_since_s >= idle_s
            )
        ]
        for held in ending:
            held.closed = True
        return len(ending)

    def due(self, now_s: float, *, corrections: bool = True) -> list[HeldLease]:
        """The leases that billing is to hear of, newly closed or, if so told, corrected."""
        return [
            held
            for held in self._leases.values()
            if held.is_due(now_s) and (corrections or held.reported is None)
        ]

    def next_return(self, held: HeldLease) -> Return:
        """What to tell billing of a lease now; each call gives a new revision."""
        held.revision += 1
        requests, tokens = held.figures
        return Return(held.lease_id, self.account_id, self.key_id, requests, tokens, held.revision)

    def forget(self, now_s: float) -> None:
        """Drops the leases of which nothing more is to be said."""
        over = [
            held
            for held in self._leases.values()
            if held.closed and not held.running and not held.is_due(now_s)
        ]
        for held in over:
            del self._leases[held.lease_id]

    def free(self, now_s: float) -> tuple[int, int]:
        """Requests and tokens that could still be let in from here."""
        open_ones = [
            held
            for held in self._leases.values()
            if not held.closed and now_s < held.usable_until_s
        ]
        return (
            sum(held.free_requests or 0 for held in open_ones),
            sum(max(0, held.free_tokens or 0) for held in open_ones),
        )

    @property
    def running(self) -> int:
        """How many requests have a ticket."""
        return len(self._tickets)

    @property
    def empty(self) -> bool:
        """True without leases (and so without tickets)."""
        return not self._leases

    def _check(self, held: HeldLease) -> None:
        assert not held.closed, f"{held.lease_id} is closed"
        requests, tokens = held.free_requests, held.free_tokens
        assert requests is None or requests >= 0, f"{held.lease_id}: more requests than lent"
        assert tokens is None or tokens >= 0, f"{held.lease_id}: more tokens than lent"
