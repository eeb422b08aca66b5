"""What the panel's API says and takes: money as decimal strings of USD, time as ISO 8601 in UTC."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, Field, JsonValue

from services.common.money import INT64_MAX
from services.dashboard.api.parts import LimitsIn, ModelLimitsIn, ModelLimitsOut, Taken, Whole
from services.dashboard.api.parts import Window as Window

Role = Literal["owner", "admin", "developer", "viewer"]
Label = Annotated[str, Field(min_length=1, max_length=100)]

VersionNumber = Annotated[int, Path(ge=1, le=INT64_MAX)]


class LogIn(Taken):
    email: str
    password: str


class SignUp(Taken):
    email: str
    password: str
    name: str = ""


class SessionOut(BaseModel):
    email: str
    name: str
    account_id: str
    account_name: str
    role: str
    csrf_token: str
    public_api_url: str
    # Sees the operators' pages.
    is_operator: bool
    # The operator lets prompts and answers be stored, for the keys that say so.
    content_stored: bool


class SignedIn(BaseModel):
    """One place where the person is logged in."""

    session_id: str
    user_agent: str
    started_at: str
    expires_at: str
    is_this: bool


class PasswordChange(Taken):
    current_password: str
    new_password: str


class MemberIn(Taken):
    email: str
    name: str = ""
    role: Role
    # For a person who has no user yet.
    initial_password: str = ""


class MemberChange(Taken):
    role: Role


class MemberOut(BaseModel):
    user_id: str
    email: str
    name: str
    role: str
    added_at: str


class AuditEventOut(BaseModel):
    event_id: str
    type: str
    actor: str
    subject: str
    occurred_at: str
    # What changed, as JSON; never a secret.
    details_json: str


class AuditOut(BaseModel):
    events: list[AuditEventOut]
    next_page_token: str


class KeySettingsIn(LimitsIn):
    label: Label
    default_model: str = ""
    # A JSON object of request parameters, as text.
    default_params_json: str = ""
    allowed_models: list[str] = Field(default=[])
    # Unix milliseconds; 0 means never.
    expires_at_ms: Whole = 0
    # Empty: in no team.
    team_id: str = ""
    model_limits: list[ModelLimitsIn] = Field(default=[])
    # Prompts and answers are stored, where the operator allows it.
    content_stored: bool = False


class KeyChange(Taken):
    """What is absent stays as it is; null takes a limit away."""

    label: Label | None = None
    spend_cap_usd: str | None = None
    spend_cap_window: Window | None = None
    rpm_limit: Whole | None = None
    rpd_limit: Whole | None = None
    tpm_limit: Whole | None = None
    default_model: str | None = None
    default_params_json: str | None = None
    allowed_models: list[str] | None = None
    expires_at_ms: Whole | None = None
    team_id: str | None = None
    model_limits: list[ModelLimitsIn] | None = None
    content_stored: bool | None = None


class KeyOut(BaseModel):
    key_id: str
    label: str
    masked_key: str
    suspended: bool
    spend_cap_usd: str | None
    spend_cap_window: str
    spent_usd: str
    held_usd: str
    rpm_limit: int | None
    rpd_limit: int | None
    tpm_limit: int | None
    default_model: str
    default_params_json: str
    allowed_models: list[str]
    expires_at: str | None
    created_at: str
    created_by: str
    team_id: str
    model_limits: list[ModelLimitsOut]
    content_stored: bool


class KeyCreated(BaseModel):
    key: KeyOut
    # Shown this once.
    secret: str


class BucketOut(BaseModel):
    value: str
    requests: int
    successful_requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: str
    latency_p50_ms: float
    latency_p95_ms: float


class KeyUsageOut(BaseModel):
    """What a key did: totals, buckets of hours or days in order of time, its last request."""

    total: BucketOut
    buckets: list[BucketOut]
    last_used_at: str | None


class BalanceOut(BaseModel):
    posted_usd: str
    held_usd: str
    available_usd: str
    updated_at: str | None


class TransactionOut(BaseModel):
    transaction_id: str
    sequence: int
    kind: str
    amount_usd: str
    reason: str
    model_id: str
    request_id: str
    booked_at: str


class TransactionsOut(BaseModel):
    transactions: list[TransactionOut]
    next_page_token: str


class QuantityOut(BaseModel):
    """Tokens of one kind."""

    kind: str
    tokens: int


class AttemptOut(BaseModel):
    """One try at a provider."""

    provider_id: str
    upstream_model: str
    http_status: int
    error_code: str
    started_at: str
    latency_ms: int
    served: bool


class RequestLineOut(BaseModel):
    """A line of the request log."""

    usage_id: str
    request_id: str
    key_id: str
    model_id: str
    provider_id: str
    stream: bool
    outcome: str
    http_status: int
    error_code: str
    failure_stage: str
    received_at: str
    first_token_ms: int
    latency_ms: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: str
    session_id: str
    end_user_id: str


class RequestOut(RequestLineOut):
    """Everything of one request."""

    trace_id: str
    finish_reason: str
    tags: dict[str, str]
    route: str
    requested_model: str
    usage_basis: str
    price_version_id: str
    quantities: list[QuantityOut]
    attempts: list[AttemptOut]


class CostLineOut(BaseModel):
    """Tokens of one kind at their price; `cost_usd` is exact, before the sum is rounded."""

    kind: str
    tokens: int
    usd_per_1m: str
    cost_usd: str


class CostOut(BaseModel):
    """How the cost of one request came about."""

    lines: list[CostLineOut]
    request_fee_usd: str
    total_usd: str
    price_valid_from: str
    price_source: str


class RequestsOut(BaseModel):
    requests: list[RequestLineOut]
    next_page_token: str


class SummaryOut(BaseModel):
    total: BucketOut
    buckets: list[BucketOut]


class ModelOut(BaseModel):
    model_id: str
    name: str
    description: str
    brand: str
    # Who serves it.
    providers: list[str]
    context_length: int
    input_modalities: list[str]
    output_modalities: list[str]
    capabilities: list[str]
    is_free: bool
    prompt_usd_per_1m: str | None
    completion_usd_per_1m: str | None


class PriceOut(BaseModel):
    """One dated price; a kind that is not named costs nothing."""

    price_version_id: str
    valid_from: str
    source: str
    request_fee_usd: str
    usd_per_1m: dict[str, str]


class TemplateMessage(BaseModel):
    """One message of a template, as text."""

    role: str
    content: str


class TemplateIn(Taken):
    name: str
    description: str = ""
    system: str = ""
    messages: list[TemplateMessage] = Field(default=[])
    model: str = ""
    # Request parameters beneath those of a request and of its key.
    params: dict[str, JsonValue] = Field(default={})
    # For people: which slots there are.
    variables: list[str] = Field(default=[])


class TemplateContentOut(BaseModel):
    name: str
    description: str
    system: str
    messages: list[TemplateMessage]
    model: str
    params: dict[str, JsonValue]
    variables: list[str]


class TemplateOut(BaseModel):
    template_id: str
    is_global: bool
    content: TemplateContentOut
    version: int
    created_at: str
    updated_at: str


class TemplateVersionOut(BaseModel):
    version: int
    content: TemplateContentOut
    changed_at: str
    changed_by: str
    # The version whose content it is again; 0 where it is new.
    restored_from: int
