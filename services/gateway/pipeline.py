"""One chat request from its key to its usage event: the steps stand in `ChatPipeline._answer`, top
to bottom.

Every request of an authenticated caller ends in exactly one usage event, which is on disk before
the caller gets the last byte. What was delivered is billed; an answer that is no success and was
not a stream yet is not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from services.common.clock import Clock
from services.common.errors import (
    AppError,
    Forbidden,
    InternalError,
    RateLimitExceeded,
    SpendLimitExceeded,
    Unavailable,
)
from services.common.ids import UsageId, new_id
from services.common.telemetry import Span, get_logger
from services.gateway.attempts import Attempts, Job, output_limit, routing_headers
from services.gateway.auth import authenticate, require_active
from services.gateway.auto_step import AutoStep, answer_fields, answer_headers
from services.gateway.cache_step import look_up
from services.gateway.calls import ChatCall, Reply
from services.gateway.chat_request import ChatRequest, body_from_bytes
from services.gateway.contents.port import Contents
from services.gateway.envelope import Ending
from services.gateway.errors import ClientGone
from services.gateway.interrupt import Interrupt
from services.gateway.metering import Estimate, EstimateRules, estimate
from services.gateway.ports import (
    Budget,
    Freshness,
    HoldRequest,
    KeyDirectory,
    KeyPrincipal,
    Quotas,
    UsageJournal,
)
from services.gateway.providers.port import AttemptFailed
from services.gateway.relay import Relay
from services.gateway.response_cache import ResponseCache
from services.gateway.routing import Route
from services.gateway.sealing import seal
from services.gateway.templated_chat import request_over_template
from services.gateway.templates import TemplateDirectory
from services.gateway.usage_entry import UsageEntry

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PipelineRules:
    """Bounds of the pipeline."""

    worker_id: str
    estimates: EstimateRules = field(default_factory=EstimateRules)


@dataclass(frozen=True, slots=True)
class ChatPipeline:
    """The pipeline over its ports."""

    keys: KeyDirectory
    freshness: Freshness
    templates: TemplateDirectory
    attempts: Attempts
    auto: AutoStep
    cache: ResponseCache
    quotas: Quotas
    budget: Budget
    journal: UsageJournal
    contents: Contents
    clock: Clock
    rules: PipelineRules

    async def serve(
        self, call: ChatCall, reply: Reply, *, interrupt: Interrupt, trace: Span
    ) -> UsageEntry:
        """Answers one call. Raises Unavailable and Unauthorized, which leave no usage event,
        unanswered.

        `interrupt` ends the work early where the caller hangs up; the settlement is done all the
        same. Where the task itself is cancelled (the process ends), it settles too and then lets
        the cancellation go on.
        """
        self.freshness.require()
        principal = call.principal or authenticate(
            call.authorization, self.keys, call.received_at_ms
        )
        entry = self._entry(call, principal, trace)
        relay = Relay(reply, call.dialect)
        cancelled = False
        try:
            with interrupt:
                ending = await self._answer(call, entry, relay, reply=reply)
        except asyncio.CancelledError:
            cancelled = True
            stopping = Unavailable("this gateway is shutting down", retry_after_s=1)
            ending = await self._break_off(call, entry, relay, cause=stopping)
        except (AppError, AttemptFailed) as error:
            ending = await self._break_off(call, entry, relay, cause=error)
        except Exception as error:  # noqa: BLE001 - an edge: whatever it was, the request must settle
            _log.error("request failed inside", request_id=call.request_id, exc_info=error)
            fault = InternalError("something went wrong inside the gateway")
            ending = await self._break_off(call, entry, relay, cause=fault)
        entry.latency_ms = self._since(call)
        if entry.ticket is not None:
            self.quotas.settle(entry.ticket, sum(entry.quantities.values()))
        self.auto.note(entry)
        cancelled = await seal(call, entry, ending) or cancelled
        ending = await self._record(call, entry, relay, ending=ending)
        self.contents.note(entry, relay.texts)
        if not relay.begun:
            reply.add_headers(routing_headers(entry))
        await reply.finish(ending)
        if cancelled:
            raise asyncio.CancelledError
        return entry

    async def _answer(
        self, call: ChatCall, entry: UsageEntry, relay: Relay, *, reply: Reply
    ) -> Ending:
        """The steps of a request, in the order in which it may be refused."""
        # 1. The caller: a suspended key is known, and therefore logged.
        require_active(entry.principal)
        # 2. Its limits of requests, as far as they are known to be used up: no work for the rest.
        entry.stage = "guard_rate_limit"
        self._check_quotas(entry, reply)
        # 3. The request, the key's defaults beneath it.
        entry.stage = "template"
        request = entry.request = await self._read(call, entry)
        # 4. The model, its provider, and the price, which is pinned from here on.
        entry.stage = "guard_model_access"
        entry.admitted_at_ms = self.clock.now_ms()
        request, routes = await self._choose(call, entry, request)
        chosen = entry.chosen = entry.intended = routes[0]
        guess = await estimate(
            request,
            chosen.model,
            chosen.price,
            rules=self.rules.estimates,
            counted=entry.principal.counts_tokens(chosen.model.model_id),
        )
        # 5. The limits of requests and tokens; free models count too.
        entry.stage = "guard_rate_limit"
        await self._admit_to_quotas(entry, guess, reply)
        # 6. The same question asked before: its answer costs nothing.
        cached = look_up(self.cache, entry, request, chosen=chosen, bypass=call.cache_bypass)
        if cached.found is not None:
            self._tell_choice(entry, relay, reply)
            now_ms = self.clock.now_ms()
            return await cached.replay(
                entry, relay, reply, request=request, chosen=chosen, now_ms=now_ms
            )
        # 7. The money, and the promise that the request will end in an event.
        entry.stage = "balance"
        output_tokens_max = await self._admit(entry, request, chosen, guess=guess)
        # 8. The provider, or the next; what it sends goes to the caller as it comes.
        entry.stage = "upstream_submit"
        job = Job(
            entry=entry,
            request=request,
            relay=relay,
            routes=routes,
            policy=self.attempts.policy_of(entry.principal.settings),
            guess=guess,
            output_tokens_max=output_tokens_max,
            since=lambda: self._since(call),
            on_open=lambda: self._tell_choice(entry, relay, reply),
            keep=cached.wanted,
        )
        await self.attempts.run(job)
        chosen = entry.chosen
        # 9. What it used, and the last bytes, which wait until that is on disk.
        entry.stage = "settlement"
        usage, entry.basis = await relay.tally.settle(request, chosen.model.tokenizer)
        entry.quantities = usage.quantities()
        entry.finish_reason = relay.finish_reason
        entry.outcome = "success"
        clamped = job.output_tokens_max != request.output_tokens_max
        if relay.limited or (relay.finish_reason == "length" and clamped):
            entry.outcome = "limit_reached"
        entry.http_status = 200
        if chosen is entry.intended:
            # What another place answered is no answer to the same question asked of this one.
            cached.keep(entry, relay, usage.to_wire())
        return relay.ending(usage.to_wire())

    async def _read(self, call: ChatCall, entry: UsageEntry) -> ChatRequest:
        """The checked request: what the caller said over the key's defaults over its template."""
        given = body_from_bytes(await call.read_body())
        entry.requested_model = _name(given.get("model"))
        entry.requested_model = entry.requested_model or entry.principal.settings.default_model
        body = await call.dialect.chat_body(given, entry.principal)
        request = request_over_template(
            call.dialect.operation, body, entry.principal, directory=self.templates
        )
        entry.requested_model = request.models[0]
        return request

    async def _choose(
        self, call: ChatCall, entry: UsageEntry, request: ChatRequest
    ) -> tuple[ChatRequest, list[Route]]:
        """Where the request may go; it names models afterwards, whatever it said."""
        settings = entry.principal.settings
        profile = call.weight_profile or self.attempts.policy_of(settings).weight_profile
        request, entry.selection = await self.auto.resolve(
            request, settings, entry.admitted_at_ms, profile=profile
        )
        return request, self.attempts.routes(request, settings, entry.admitted_at_ms)

    def _tell_choice(self, entry: UsageEntry, relay: Relay, reply: Reply) -> None:
        if entry.selection is not None and entry.chosen is not None:
            served = entry.chosen.model.model_id
            reply.add_headers(answer_headers(entry.selection, served))
            relay.extra = answer_fields(entry.selection, served)

    def _check_quotas(self, entry: UsageEntry, reply: Reply) -> None:
        try:
            self.quotas.check(entry.principal)
        except RateLimitExceeded:
            reply.announce(self.quotas.standing(entry.principal))
            raise

    async def _admit_to_quotas(self, entry: UsageEntry, guess: Estimate, reply: Reply) -> None:
        """Takes a ticket, where the key has limits; the answer tells how far it is into them."""
        model_id = entry.chosen.model.model_id if entry.chosen is not None else ""
        if not entry.principal.limits(model_id):
            return
        tokens = guess.prompt_tokens + guess.output_tokens
        try:
            entry.ticket = await self.quotas.admit(entry.principal, tokens, model_id=model_id)
        finally:
            reply.announce(self.quotas.standing(entry.principal, model_id=model_id))

    async def _admit(
        self, entry: UsageEntry, request: ChatRequest, chosen: Route, *, guess: Estimate
    ) -> int | None:
        """Places the hold and tells the journal; returns the output limit to send upstream."""
        if not chosen.price.is_free:
            entry.hold = await self.budget.place(
                HoldRequest(
                    principal=entry.principal,
                    price=chosen.price,
                    usage_id=entry.usage_id,
                    # A charge that rounds to nothing is held all the same, so that it has a grant.
                    full_nanousd=max(1, guess.full_nanousd),
                    least_nanousd=guess.least_nanousd,
                    model_id=chosen.model.model_id,
                )
            )
        try:
            self.journal.admitted(entry.admitted())
        except Unavailable:
            if entry.hold is not None:
                self.budget.release(entry.hold)
                entry.hold = None
            raise
        amount = entry.hold.amount_nanousd if entry.hold is not None else 0
        return output_limit(request, guess, chosen.price, held_nanousd=amount)

    async def _break_off(
        self,
        call: ChatCall,
        entry: UsageEntry,
        relay: Relay,
        *,
        cause: AppError | AttemptFailed,
    ) -> Ending:
        """Settles what was produced and says why it ended; nothing delivered or produced costs
        nothing.
        """
        error = cause.error if isinstance(cause, AttemptFailed) else cause
        gone = isinstance(error, ClientGone)
        entry.basis, entry.quantities = "none", {}
        if isinstance(cause, AttemptFailed):
            entry.stage = cause.stage
        elif isinstance(error, SpendLimitExceeded) and error.extra.get("limit") != "balance":
            entry.stage = "guard_spend_cap"
        elif isinstance(error, Forbidden):
            entry.stage = "auth"
        entry.outcome = "client_gone" if gone else "upstream_error" if entry.attempts else "refused"
        entry.error_code = error.code
        entry.http_status = 200 if relay.begun else error.http_status
        entry.finish_reason = relay.finish_reason
        if entry.tally is not None and entry.request and entry.chosen and (relay.begun or gone):
            tokenizer = entry.chosen.model.tokenizer
            usage, entry.basis = await entry.tally.settle(entry.request, tokenizer)
            entry.quantities = usage.quantities()
        if relay.begun:
            return Ending(200, call.dialect.broken(error, entry.request_id))
        return call.dialect.refusal(error, entry.request_id)

    async def _record(
        self, call: ChatCall, entry: UsageEntry, relay: Relay, *, ending: Ending
    ) -> Ending:
        """Writes the event and settles the hold; where that is impossible the answer says so."""
        try:
            await self.journal.record(entry.event(), entry.hold)
        except Unavailable as error:
            _log.error("usage event not written", usage_id=entry.usage_id)
            entry.outcome, entry.stage, entry.http_status = "refused", "settlement", 503
            entry.basis = "none"
            if relay.begun:
                return Ending(200, call.dialect.broken(error, entry.request_id))
            return call.dialect.refusal(error, entry.request_id)
        return ending

    def _entry(self, call: ChatCall, principal: KeyPrincipal, trace: Span) -> UsageEntry:
        return UsageEntry(
            usage_id=call.usage_id or UsageId(new_id("use", call.received_at_ms)),
            request_id=call.request_id,
            worker_id=self.rules.worker_id,
            trace_id=trace.trace_id,
            route=call.route,
            received_at_ms=call.received_at_ms,
            principal=principal,
        )

    def _since(self, call: ChatCall) -> int:
        return round((self.clock.monotonic_s() - call.received_s) * 1000)


def _name(value: object) -> str:
    return value[:256] if isinstance(value, str) else ""
