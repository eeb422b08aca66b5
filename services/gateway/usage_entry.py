"""What is gathered about one request on its way, and the usage event that it ends in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from services.common.ids import RequestId, UsageId
from services.common.money import TokenKind, cost_nanousd
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.pricing_pb import PriceMessages
from services.gateway.auto_route import Selection
from services.gateway.chat_request import ChatRequest
from services.gateway.metering import UsageBasis, UsageTally
from services.gateway.ports import AdmittedRecord, Hold, KeyPrincipal, QuotaTicket
from services.gateway.routing import Route

Outcome = Literal["success", "refused", "upstream_error", "client_gone", "limit_reached"]
Stage = Literal[
    "",
    "auth",
    "guard_rate_limit",
    "guard_spend_cap",
    "guard_model_access",
    "template",
    "balance",
    "credentials",
    "upstream_submit",
    "upstream_stream",
    "settlement",
]

_OUTCOMES: Mapping[Outcome, usage_pb2.RequestOutcome.ValueType] = {
    "success": usage_pb2.REQUEST_OUTCOME_SUCCESS,
    "refused": usage_pb2.REQUEST_OUTCOME_REFUSED,
    "upstream_error": usage_pb2.REQUEST_OUTCOME_UPSTREAM_ERROR,
    "client_gone": usage_pb2.REQUEST_OUTCOME_CLIENT_GONE,
    "limit_reached": usage_pb2.REQUEST_OUTCOME_LIMIT_REACHED,
}
_BASES: Mapping[UsageBasis, usage_pb2.UsageBasis.ValueType] = {
    "provider": usage_pb2.USAGE_BASIS_PROVIDER,
    "tokenizer": usage_pb2.USAGE_BASIS_TOKENIZER,
    "none": usage_pb2.USAGE_BASIS_NONE,
}

_PRICES = PriceMessages()


@dataclass(slots=True)
class AttemptEntry:
    """One request to one provider; times in milliseconds."""

    provider_id: str
    upstream_model: str
    started_at_ms: int
    latency_ms: int = 0
    http_status: int = 0
    error_code: str = ""
    served: bool = False


@dataclass(slots=True)
class UsageEntry:
    """The growing record of one request. Times are Unix milliseconds, spans milliseconds from its
    arrival.
    """

    usage_id: UsageId
    request_id: RequestId
    worker_id: str
    trace_id: str
    route: str
    received_at_ms: int
    principal: KeyPrincipal
    # The step that the request has come to: where it failed, if it fails.
    stage: Stage = "auth"
    requested_model: str = ""
    request: ChatRequest | None = None
    # Where the choice of the model was left to us.
    selection: Selection | None = None
    # Where it was to go at first, and where it went.
    intended: Route | None = None
    chosen: Route | None = None
    ticket: QuotaTicket | None = None
    hold: Hold | None = None
    admitted_at_ms: int = 0
    tally: UsageTally | None = None
    attempts: list[AttemptEntry] = field(default_factory=list)

    outcome: Outcome = "refused"
    http_status: int = 0
    error_code: str = ""
    finish_reason: str = ""
    first_token_ms: int = 0
    latency_ms: int = 0
    quantities: Mapping[TokenKind, int] = field(default_factory=dict)
    basis: UsageBasis = "none"

    @property
    def cost_nanousd(self) -> int:
        """What is billed: nothing where there is no basis for it."""
        if self.basis == "none" or self.chosen is None:
            return 0
        return cost_nanousd(self.quantities, self.chosen.price)

    def admitted(self) -> AdmittedRecord:
        """What the journal keeps until the request has ended."""
        assert self.request is not None
        assert self.chosen is not None
        return AdmittedRecord(
            usage_id=self.usage_id,
            request_id=self.request_id,
            account_id=self.principal.account_id,
            key_id=self.principal.key_id,
            user_id=self.principal.user_id,
            route=self.route,
            requested_model=self.requested_model,
            received_at_ms=self.received_at_ms,
            admitted_at_ms=self.admitted_at_ms,
            model_id=self.chosen.model.model_id,
            stream=self.request.stream,
            grant_id=self.hold.grant_id if self.hold else "",
            held_nanousd=self.hold.amount_nanousd if self.hold else 0,
            trace_id=self.trace_id,
            session_id=self.request.session_id,
            tags=self.request.tags,
            end_user_id=self.request.end_user_id,
        )

    def event(self) -> usage_pb2.UsageRecorded:
        """The event; the entry must have its outcome."""
        event = usage_pb2.UsageRecorded(
            usage_id=self.usage_id,
            request_id=self.request_id,
            account_id=self.principal.account_id,
            key_id=self.principal.key_id,
            user_id=self.principal.user_id,
            trace_id=self.trace_id,
            worker_id=self.worker_id,
            route=self.route,
            requested_model=self.requested_model,
            outcome=_OUTCOMES[self.outcome],
            http_status=self.http_status,
            error_code=self.error_code,
            failure_stage="" if self.outcome in ("success", "limit_reached") else self.stage,
            finish_reason=self.finish_reason,
            received_at_ms=self.received_at_ms,
            admitted_at_ms=self.admitted_at_ms,
            first_token_ms=self.first_token_ms,
            latency_ms=self.latency_ms,
            usage_basis=_BASES[self.basis],
            cost_nanousd=self.cost_nanousd,
        )
        self._add_request(event)
        self._add_route(event)
        return event

    def _add_request(self, event: usage_pb2.UsageRecorded) -> None:
        if self.request is not None:
            event.stream = self.request.stream
            event.session_id = self.request.session_id
            event.end_user_id = self.request.end_user_id
            if self.request.tags:
                event.tags.update(self.request.tags)
        if self.hold is not None:
            event.grant_id = self.hold.grant_id
            event.held_nanousd = self.hold.amount_nanousd
        for kind, tokens in self.quantities.items():
            event.quantities.add(kind=common_pb2.TokenKind.ValueType(kind), tokens=tokens)

    def _add_route(self, event: usage_pb2.UsageRecorded) -> None:
        if self.chosen is None:
            return
        event.model_id = self.chosen.model.model_id
        event.provider_id = self.chosen.provider.provider_id
        event.upstream_model = self.chosen.model.upstream_model
        event.price.CopyFrom(_PRICES.of(self.chosen.price))
        for attempt in self.attempts:
            event.attempts.add(
                provider_id=attempt.provider_id,
                upstream_model=attempt.upstream_model,
                http_status=attempt.http_status,
                error_code=attempt.error_code,
                started_at_ms=attempt.started_at_ms,
                latency_ms=attempt.latency_ms,
                served=attempt.served,
            )
