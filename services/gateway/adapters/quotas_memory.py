"""Billing's quotas in memory: the twin of `quotas_grpc`, exact to the request.

For tests of the worker's side. Windows are the minutes and days of its clock; it lends once per
lease id and can be told to be away or to lose its answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.common import scopes
from services.common.clock import Clock
from services.common.errors import Conflict, NotFound, Unavailable
from services.common.ids import AccountId, KeyId
from services.gateway.ports import QuotaLimit
from services.gateway.quota.ports import Draw, Lease, LeaseId, Meter, Refusal, Return

_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_WINDOWS: dict[QuotaLimit, int] = {"rpm": _MINUTE_MS, "rpd": _DAY_MS, "tpm": _MINUTE_MS}


@dataclass(slots=True)
class LentByMemory:
    """One lease as billing sees it; `used` is None until it is returned."""

    draw: Draw
    requests: int | None
    tokens: int | None
    drawn_at_ms: int
    usable_until_ms: int
    used: tuple[int, int] | None = None
    revision: int = 0
    scopes: tuple[str, ...] = ()

    def counted(self, limit: QuotaLimit) -> int:
        """What it takes from a limit."""
        lent = self.tokens if limit == "tpm" else self.requests
        if lent is None:
            return 0
        return lent if self.used is None else self.used[limit == "tpm"]


class MemoryQuotas:
    """Implements `quota.ports.QuotaSource`. A key without an entry in `limits` is unknown."""

    def __init__(self, *, clock: Clock, ttl_s: float = 15.0, share: int = 8) -> None:
        self._clock = clock
        self._ttl_ms = int(ttl_s * 1000)
        self._share = share
        # Whose the limits of the scope `account` are.
        self.account_id = AccountId("")
        self.limits: dict[KeyId, dict[QuotaLimit, int]] = {}
        # The scopes that a key is in beside its own limits, and what each is limited to.
        self.scopes_of: dict[KeyId, tuple[str, ...]] = {}
        self.scope_limits: dict[str, dict[QuotaLimit, int]] = {}
        self.inactive: set[KeyId] = set()
        self.lent: dict[LeaseId, LentByMemory] = {}
        self.draws = 0
        self.returns = 0
        # While `away` nothing is done; while `answers_lost` everything is done and nothing said.
        self.away = False
        self.answers_lost = False

    async def draw(self, request: Draw, *, timeout_s: float) -> Lease | Refusal:  # noqa: ARG002 - it answers at once
        """Lends, or refuses; the same id twice gets the same answer."""
        self.draws += 1
        self._reach()
        answer = self._draw(request)
        self._answer()
        return answer

    async def give_back(self, request: Return, *, timeout_s: float) -> None:  # noqa: ARG002 - it answers at once
        """Takes the figures; an older revision changes nothing."""
        self.returns += 1
        self._reach()
        lent = self.lent.get(request.lease_id)
        if lent is None or lent.draw.key_id != request.key_id:
            raise NotFound(f"no lease {request.lease_id}")
        if request.revision > lent.revision:
            lent.used = (request.used_requests, request.used_tokens)
            lent.revision = request.revision
        self._answer()

    async def meters(self, account_id: AccountId, key_id: KeyId) -> tuple[Meter, ...]:  # noqa: ARG002 - keys are enough here
        """How far the key is into its limits."""
        self._reach()
        return self._meters(self._limits(key_id, ""))

    async def account_meters(self, account_id: AccountId) -> tuple[Meter, ...]:
        """How far the account is into its own limits."""
        self._reach()
        if account_id != self.account_id:
            return ()
        return self._meters({scopes.ACCOUNT: self.scope_limits.get(scopes.ACCOUNT, {})})

    def taken(self, key_id: KeyId, limit: QuotaLimit) -> int:
        """What is used or leased of a limit of the key in its window of now."""
        return self.taken_of(scopes.key(key_id), limit)

    def taken_of(self, scope: str, limit: QuotaLimit) -> int:
        """The same of any scope."""
        length = _WINDOWS[limit]
        start = self._clock.now_ms() // length
        return sum(
            lent.counted(limit)
            for lent in self.lent.values()
            if scope in lent.scopes and lent.drawn_at_ms // length == start
        )

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("billing is away")

    def _answer(self) -> None:
        if self.answers_lost:
            raise Unavailable("the answer was lost")

    def _draw(self, request: Draw) -> Lease | Refusal:
        before = self.lent.get(request.lease_id)
        if before is not None:
            if replace(before.draw, key_version=request.key_version) != request:
                raise Conflict(f"{request.lease_id} was used for another draw")
            if before.used is not None:
                raise Conflict(f"{request.lease_id} has ended")
            return self._lease(before)
        limits = self.limits.get(request.key_id)
        if limits is None or request.key_id in self.inactive:
            return Refusal("key_inactive", 0, 0.05, held=limits is None, meters=())
        drawn_from = self._drawn_from(request)
        meters = self._meters(drawn_from)
        short = [meter for meter in meters if meter.left < _needed(request, meter.limit)]
        if short:
            return self._refusal(request, short, meters)
        now_ms = self._clock.now_ms()
        lent = LentByMemory(
            request,
            self._size(request.needed_requests, request.wanted_requests, meters, tokens=False),
            self._size(request.needed_tokens, request.wanted_tokens, meters, tokens=True),
            now_ms,
            min(now_ms + self._ttl_ms, now_ms - now_ms % _MINUTE_MS + _MINUTE_MS),
            scopes=tuple(drawn_from),
        )
        self.lent[request.lease_id] = lent
        return self._lease(lent)

    def _refusal(self, request: Draw, short: list[Meter], meters: tuple[Meter, ...]) -> Refusal:
        now_ms = self._clock.now_ms()
        out = [
            lent
            for lent in self.lent.values()
            if lent.used is None and now_ms < lent.usable_until_ms
        ]
        gone = [
            meter
            for meter in short
            if meter.left
            + sum(lent.counted(meter.limit) for lent in out if meter.scope in lent.scopes)
            < _needed(request, meter.limit)
        ]
        named = max(gone or short, key=lambda meter: meter.resets_in_s)
        wait_s = named.resets_in_s if gone else 0.05
        return Refusal(
            named.limit, named.limit_value, wait_s, held=not gone, meters=meters, scope=named.scope
        )

    def _size(
        self, needed: int, wanted: int, meters: tuple[Meter, ...], *, tokens: bool
    ) -> int | None:
        left = [meter.left for meter in meters if (meter.limit == "tpm") == tokens]
        return max(needed, min(wanted, min(left) // self._share)) if left else None

    def _lease(self, lent: LentByMemory) -> Lease:
        now_ms = self._clock.now_ms()
        return Lease(
            lent.draw.lease_id,
            lent.requests,
            lent.tokens,
            max(0, lent.usable_until_ms - now_ms) / 1000,
            (_MINUTE_MS - now_ms % _MINUTE_MS) / 1000,
            (_DAY_MS - now_ms % _DAY_MS) / 1000,
            self._meters(self._drawn_from(lent.draw)),
        )

    def _drawn_from(self, request: Draw) -> dict[str, dict[QuotaLimit, int]]:
        """What limits a draw, by scope."""
        found = self._limits(request.key_id, request.model_id)
        if not request.model_scopes_only:
            return found
        of_model = ("key_model", "account_model")
        return {scope: found[scope] for scope in found if scopes.kind_of(scope) in of_model}

    def _limits(self, key_id: KeyId, model_id: str) -> dict[str, dict[QuotaLimit, int]]:
        """What limits the key, by scope, itself first; a model where it is named."""
        found: dict[str, dict[QuotaLimit, int]] = {scopes.key(key_id): self.limits.get(key_id, {})}
        models = (scopes.key_model(key_id, model_id), scopes.account_model(model_id))
        for scope in (*(models if model_id else ()), *self.scopes_of.get(key_id, ())):
            found[scope] = self.scope_limits.get(scope, {})
        return {scope: limits for scope, limits in found.items() if limits}

    def _meters(self, of: dict[str, dict[QuotaLimit, int]]) -> tuple[Meter, ...]:
        now_ms = self._clock.now_ms()
        return tuple(
            Meter(
                limit,
                value,
                self.taken_of(scope, limit),
                (_WINDOWS[limit] - now_ms % _WINDOWS[limit]) / 1000,
                scope,
            )
            for scope, limits in of.items()
            for limit, value in limits.items()
        )


def _needed(request: Draw, limit: QuotaLimit) -> int:
    return request.needed_tokens if limit == "tpm" else request.needed_requests
