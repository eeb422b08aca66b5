"""The attempts of one request: one place after another until one answers, or none is left.

Nothing is tried again once the caller has had a byte. What a failed attempt produced is nobody's
bill. A different model is billed at its own price, pinned when the request was admitted, and only
served where the money that is held is enough for it or can be made so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import Counter

from services.common.clock import Clock
from services.common.errors import AppError, ProviderNotAvailable, SpendLimitExceeded, Unavailable
from services.common.money import Price
from services.gateway.attempt_plan import AttemptPlan
from services.gateway.chat_request import ChatRequest
from services.gateway.errors import UpstreamRateLimited
from services.gateway.health import Health, in_order
from services.gateway.metering import Estimate, EstimateRules, affordable_output, estimate
from services.gateway.ports import Budget, HoldRequest, KeySettings, ProviderKind, Quotas
from services.gateway.providers.port import (
    AttemptFailed,
    ChatProvider,
    UpstreamAttempt,
    UpstreamLimits,
)
from services.gateway.providers.trial import Trial
from services.gateway.relay import Relay
from services.gateway.routing import Route, Router
from services.gateway.routing_policy import RoutingPolicy
from services.gateway.slices import HoldSlices
from services.gateway.usage_entry import UsageEntry

FURTHER_ATTEMPTS = Counter(
    "mesh_gateway_further_attempts",
    "Attempts after a failed one, by where they went.",
    ["to"],
)
RESTING = Counter("mesh_gateway_resting", "Requests refused as every place was to be left alone.")


@dataclass(slots=True)
class Job:
    """One admitted request on its way to an answer."""

    entry: UsageEntry
    request: ChatRequest
    relay: Relay
    # In the order in which to try them.
    routes: Sequence[Route]
    policy: RoutingPolicy
    # Of the model that the hold is for now, and what the hold affords of it.
    guess: Estimate
    output_tokens_max: int | None
    # Milliseconds since the request came.
    since: Callable[[], int]
    # Called when a place answers, before anything goes to the caller.
    on_open: Callable[[], None]
    # Whether the answer is to be kept for the response cache.
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts of every request of this worker, and the health of the places they go to."""

    router: Router
    providers: Mapping[ProviderKind, ChatProvider]
    quotas: Quotas
    budget: Budget
    clock: Clock
    upstream: UpstreamLimits
    estimates: EstimateRules
    policy: RoutingPolicy
    health: Health = field(default_factory=Health)
    # For waits and for choosing among equals; nobody gains by guessing it.
    chance: random.Random = field(default_factory=random.Random)

    def policy_of(self, settings: KeySettings) -> RoutingPolicy:
        """The key's policy, or this gateway's."""
        return settings.routing or self.policy

    def routes(self, request: ChatRequest, settings: KeySettings, now_ms: int) -> list[Route]:
        """The places of a request, best first. Raises as `Router.tiers` does."""
        policy = self.policy_of(settings)
        names = request.models
        if policy.fallback and policy.models and request.operation == "chat":
            # Vectors of another model would not be comparable.
            names = tuple(dict.fromkeys((*names, *policy.models)))
        tiers = self.router.tiers(names, settings, now_ms, operation=request.operation)
        found = [route for tier in tiers for route in self._in_order(tier)]
        if not policy.fallback:
            return found[:1]
        if not policy.cross_provider_same_model:
            # The same place with another credential is no other provider.
            firsts: dict[str, tuple[str, ...]] = {}
            for route in found:
                firsts.setdefault(route.model.model_id, route.place[:2])
            return [route for route in found if route.place[:2] == firsts[route.model.model_id]]
        return found

    async def run(self, job: Job) -> None:
        """Returns when the answer has come whole and `job.output_tokens_max` is what was sent.

        Raises AttemptFailed, the last one's; ProviderNotAvailable or UpstreamRateLimited where
        every place is to be left alone.
        """
        deadline_s = self.clock.monotonic_s() + self._total_s(job.request)
        plan = AttemptPlan(
            job.routes, job.policy, deadline_s=deadline_s, rests_s=self._rests_s, chance=self.chance
        )
        step = plan.first()
        if step is None:
            raise self._resting(job.routes, plan.soonest_s())
        failure: AttemptFailed | None = None
        while True:
            if step.wait_s:
                await self.clock.sleep(step.wait_s)
            try:
                await self._fit(job, step.route)
            except AppError as error:
                step = plan.skip()
                if step is None:
                    raise failure or error from error
                continue
            if failure is not None:
                FURTHER_ATTEMPTS.labels(_direction(job.entry.chosen, step.route)).inc()
            try:
                await self._attempt(job, step.route, deadline_s)
            except AttemptFailed as failed:
                failure = failed
                following = None
                if not job.relay.begun:
                    following = plan.after(failed, self.clock.monotonic_s())
                if following is None:
                    raise
                _forget(job)
                step = following
            else:
                return

    async def _attempt(self, job: Job, route: Route, deadline_s: float) -> None:
        entry, request = job.entry, job.request
        entry.chosen, entry.stage = route, "upstream_submit"
        started_s = self.clock.monotonic_s()
        provider_s = route.provider.timeout_ms / 1000 or None
        attempt = UpstreamAttempt(
            provider=route.provider,
            model=route.model,
            payload=request.upstream,
            output_tokens_max=job.output_tokens_max,
            limits=self.upstream.lowered_to(provider_s).lowered_to(deadline_s - started_s),
            stream=request.streams_upstream,
            operation=request.operation,
        )
        provider = self.providers[route.provider.kind]
        self.health.begin(route.place)
        try:
            async with Trial(provider, attempt, entry=entry, clock=self.clock) as upstream:
                opened_s = self.clock.monotonic_s()
                entry.stage = "upstream_stream"
                job.relay.start(request, route, self.clock.now_ms(), keep=job.keep)
                job.on_open()
                entry.tally = job.relay.tally
                await job.relay.pass_on(
                    upstream, on_first=lambda: _note_first(job), slices=self._slices(job, route)
                )
        except AttemptFailed as failure:
            self._note(route, failure)
            raise
        except BaseException:
            self.health.ended(route.place, self.clock.monotonic_s())
            raise
        self.health.succeeded(route.place, self.clock.monotonic_s(), latency_s=opened_s - started_s)

    async def _fit(self, job: Job, route: Route) -> None:
        """Makes the request fit another model: its limits, and what is held. Raises AppError where
        that cannot be.
        """
        entry, request = job.entry, job.request
        assert entry.chosen is not None
        model_id = route.model.model_id
        if model_id == entry.chosen.model.model_id:
            return
        counted = entry.principal.counts_tokens(model_id)
        guess = await estimate(
            request, route.model, route.price, rules=self.estimates, counted=counted
        )
        await self._admit(entry, guess, model_id)
        if not route.price.is_free:
            await self._hold_for(entry, guess, route)
        amount = entry.hold.amount_nanousd if entry.hold is not None else 0
        job.guess = guess
        job.output_tokens_max = output_limit(request, guess, route.price, held_nanousd=amount)

    async def _admit(self, entry: UsageEntry, guess: Estimate, model_id: str) -> None:
        """A model with limits of its own wants its own ticket; the key then counts it twice."""
        if not entry.principal.scoped.limited_model(model_id):
            return
        tokens = guess.prompt_tokens + guess.output_tokens
        ticket = await self.quotas.admit(entry.principal, tokens, model_id=model_id)
        if entry.ticket is not None:
            self.quotas.settle(entry.ticket, 0)
        entry.ticket = ticket

    async def _hold_for(self, entry: UsageEntry, guess: Estimate, route: Route) -> None:
        full, least = max(1, guess.full_nanousd), guess.least_nanousd or guess.full_nanousd
        hold, model_id = entry.hold, route.model.model_id
        if hold is None or hold.model_id != entry.principal.scoped.capped_model(model_id):
            # A model whose spend is capped has its money apart.
            entry.hold = await self.budget.place(
                HoldRequest(
                    principal=entry.principal,
                    price=route.price,
                    usage_id=entry.usage_id,
                    full_nanousd=full,
                    least_nanousd=least,
                    model_id=model_id,
                )
            )
            if hold is not None:
                self.budget.release(hold)
        elif hold.amount_nanousd < full:
            lacking = least - hold.amount_nanousd
            try:
                await self.budget.grow(
                    hold, more_nanousd=full - hold.amount_nanousd, least_nanousd=max(1, lacking)
                )
            except (SpendLimitExceeded, Unavailable):
                if lacking > 0:
                    raise

    def _slices(self, job: Job, route: Route) -> HoldSlices | None:
        """The growth of the hold, where nobody bounds the answer; see `slices.py`."""
        hold = job.entry.hold
        if hold is None or route.price.is_free or not job.guess.slice_tokens:
            return None
        return HoldSlices(
            self.budget,
            hold,
            job.guess,
            price=route.price,
            tokenizer=route.model.tokenizer,
            rules=self.estimates,
        )

    def _in_order(self, tier: Sequence[Route]) -> Sequence[Route]:
        if len(tier) == 1:
            return tier
        return in_order(
            tier,
            weight=lambda route: route.weight,
            burden=lambda route: self.health.burden(route.place),
            chance=self.chance,
        )

    def _rests_s(self, route: Route) -> float:
        return self.health.rests_s(route.place, self.clock.monotonic_s())

    def _note(self, route: Route, failure: AttemptFailed) -> None:
        """What the failure says of the place; a refusal of the request says nothing."""
        now_s = self.clock.monotonic_s()
        if failure.asked_s is not None:
            self.health.cool(route.place, now_s, failure.asked_s)
            self.health.ended(route.place, now_s)
        elif failure.error.http_status < 500 and failure.error.http_status != 429:
            self.health.ended(route.place, now_s)
        else:
            self.health.failed(route.place, now_s)

    def _resting(self, routes: Sequence[Route], soonest_s: float) -> AppError:
        RESTING.inc()
        after_s = max(1, round(soonest_s))
        now_s = self.clock.monotonic_s()
        if all(self.health.place(route.place).cool_until_s > now_s for route in routes):
            return UpstreamRateLimited(
                "the upstream provider is limiting its rate; try again later", retry_after_s=after_s
            )
        return ProviderNotAvailable("the upstream provider is not available", retry_after_s=after_s)

    def _total_s(self, request: ChatRequest) -> float:
        return self.upstream.lowered_to(request.timeout_s).total_s


def output_limit(
    request: ChatRequest, guess: Estimate, price: Price, *, held_nanousd: int
) -> int | None:
    """The output limit to send upstream, for each choice: what was asked for, or what is held
    affords.
    """
    limit = request.output_tokens_max
    if guess.send_limit:
        limit = guess.output_tokens // request.choices
    held_at_once = not (price.is_free or guess.slice_tokens)
    if held_at_once and held_nanousd < guess.full_nanousd:
        affordable = affordable_output(guess, price, held_nanousd)
        limit = max(1, affordable // request.choices)
    return limit


def routing_headers(entry: UsageEntry) -> list[tuple[bytes, bytes]]:
    """How an answer came about; for answers that are no streams."""
    if not entry.attempts or entry.chosen is None or entry.intended is None:
        return []
    elsewhere = entry.chosen.place != entry.intended.place
    return [
        (b"x-mesh-routing-attempts", str(len(entry.attempts)).encode()),
        (b"x-mesh-routing-fallback", b"true" if elsewhere else b"false"),
        (b"x-mesh-routing-model", entry.chosen.model.model_id.encode()),
    ]


def _direction(before: Route | None, to: Route) -> str:
    if before is None or before.model.model_id != to.model.model_id:
        return "other_model"
    return "same_place" if before.place == to.place else "elsewhere"


def _forget(job: Job) -> None:
    """What a failed attempt produced is gone."""
    job.relay.forget()
    job.entry.tally = None
    job.entry.first_token_ms = 0


def _note_first(job: Job) -> None:
    job.entry.first_token_ms = job.entry.first_token_ms or max(1, job.since())
