"""What a key or a person may read of their account, as ports: the balance, and rows of the request
log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from services.common.security.tokens import Principal

Result = Literal["success", "error"]


@dataclass(frozen=True, slots=True)
class BalanceView:
    """A wallet, in nano-dollars; the moment in Unix milliseconds."""

    posted_nanousd: int
    granted_nanousd: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which rows; times in Unix milliseconds, 0 for open; empty lists mean all."""

    since_ms: int = 0
    until_ms: int = 0
    model_ids: Sequence[str] = ()
    results: Sequence[Result] = ()
    http_statuses: Sequence[int] = ()
    session_ids: Sequence[str] = ()
    end_user_ids: Sequence[str] = ()
    key_ids: Sequence[str] = ()
    user_ids: Sequence[str] = ()
    error_codes: Sequence[str] = ()
    failure_stages: Sequence[str] = ()
    trace_id: str = ""
    min_latency_ms: int = 0
    max_latency_ms: int = 0
    min_cost_nanousd: int = 0
    max_cost_nanousd: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    limit: int = 50
    # Where the page begins: after so many, or where the page before said that it goes on.
    offset: int = 0
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One row of the request log; times in milliseconds, money in nano-dollars."""

    usage_id: str
    request_id: str
    key_id: str
    trace_id: str
    route: str
    requested_model: str
    model_id: str
    stream: bool
    outcome: str
    http_status: int
    error_code: str
    failure_stage: str
    finish_reason: str
    received_at_ms: int
    first_token_ms: int
    latency_ms: int
    prompt_tokens: int
    completion_tokens: int
    cost_nanousd: int
    session_id: str = ""
    end_user_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestPage:
    """Requests newest first, how many there are in all, and where the next page begins; "" on the
    last.
    """

    rows: list[LoggedRequest]
    total: int
    next_cursor: str


class Balances(Protocol):
    """Billing's side."""

    async def balance(self, principal: Principal) -> BalanceView:
        """The wallet of the principal's account. Raises AppError."""


class RequestLog(Protocol):
    """The usage service's side; a key sees its own requests only, people their account's."""

    async def requests(self, principal: Principal, query: UsageQuery) -> RequestPage:
        """One page. Raises AppError, InvalidArgument for a cursor that no page gave."""

    async def request(self, principal: Principal, request_id: str) -> LoggedRequest:
        """The newest of that id. Raises NotFound until it is in the log."""
