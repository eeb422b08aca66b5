"""Protobuf messages of the other services to what the panel's API says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from services.common.money import TokenKind, cost_lines, usd_from_nanousd
from services.common.pb.mesh.accounts.v1 import accounts_pb2, keys_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.common.pb.mesh.events.v1 import usage_pb2 as usage_events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2
from services.common.pricing_pb import price_from_pb
from services.dashboard.api import models
from services.dashboard.api.parts import model_limits_out, short, window_name


def moment(unix_ms: int) -> str | None:
    """ISO 8601 in UTC with milliseconds; None for 0, which means never."""
    if unix_ms == 0:
        return None
    stamp = datetime.fromtimestamp(unix_ms / 1000, UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ms % 1000:03d}Z"


def member_out(member: accounts_pb2.Member) -> models.MemberOut:
    return models.MemberOut(
        user_id=member.user_id,
        email=member.email,
        name=member.name,
        role=short(common_pb2.Role.Name, member.role, "ROLE_"),
        added_at=moment(member.added_at_ms) or "",
    )


def audit_out(event: accounts_pb2.AuditEvent) -> models.AuditEventOut:
    return models.AuditEventOut(
        event_id=event.event_id,
        type=event.type,
        actor=event.actor,
        subject=event.subject,
        occurred_at=moment(event.occurred_at_ms) or "",
        details_json=event.details_json,
    )


def attempt_out(attempt: usage_events_pb2.Attempt) -> models.AttemptOut:
    return models.AttemptOut(
        provider_id=attempt.provider_id,
        upstream_model=attempt.upstream_model,
        http_status=attempt.http_status,
        error_code=attempt.error_code,
        started_at=moment(attempt.started_at_ms) or "",
        latency_ms=attempt.latency_ms,
        served=attempt.served,
    )


def price_out(found: common_pb2.PriceVersion) -> models.PriceOut:
    price = price_from_pb(found)
    return models.PriceOut(
        price_version_id=found.price_version_id,
        valid_from=moment(found.valid_from_ms) or "",
        source=found.source,
        request_fee_usd=usd_from_nanousd(found.request_fee_nanousd),
        # As billed: a kind without a rate of its own has that of another.
        usd_per_1m={kind.name.lower(): usd_from_nanousd(price.rate(kind, 0)) for kind in TokenKind},
    )


def cost_out(row: usage_pb2.LoggedRequest, found: common_pb2.PriceVersion) -> models.CostOut:
    """Raises ValueError for kinds of tokens that this version does not know."""
    quantities = {TokenKind(one.kind): one.tokens for one in row.quantities}
    return models.CostOut(
        lines=[
            models.CostLineOut(
                kind=line.kind.name.lower(),
                tokens=line.tokens,
                usd_per_1m=usd_from_nanousd(line.nanousd_per_million),
                cost_usd=line.cost_usd,
            )
            for line in cost_lines(quantities, price_from_pb(found))
        ],
        request_fee_usd=usd_from_nanousd(found.request_fee_nanousd if row.cost_nanousd else 0),
        total_usd=usd_from_nanousd(row.cost_nanousd),
        price_valid_from=moment(found.valid_from_ms) or "",
        price_source=found.source,
    )


def key_out(key: keys_pb2.Key, spend: billing_pb2.KeySpend | None) -> models.KeyOut:
    settings = key.settings
    has = settings.HasField
    return models.KeyOut(
        key_id=key.key_id,
        label=settings.label,
        masked_key=key.masked_key,
        suspended=key.suspended,
        spend_cap_usd=usd_from_nanousd(settings.spend_cap_nanousd)
        if has("spend_cap_nanousd") else None,
        spend_cap_window=window_name(settings.spend_cap_window),
        spent_usd=usd_from_nanousd(spend.spent_nanousd if spend else 0),
        held_usd=usd_from_nanousd(spend.granted_nanousd if spend else 0),
        rpm_limit=settings.rpm_limit if has("rpm_limit") else None,
        rpd_limit=settings.rpd_limit if has("rpd_limit") else None,
        tpm_limit=settings.tpm_limit if has("tpm_limit") else None,
        default_model=settings.default_model,
        default_params_json=settings.default_params_json,
        allowed_models=list(settings.allowed_models),
        expires_at=moment(settings.expires_at_ms),
        created_at=moment(key.created_at_ms) or "",
        created_by=key.created_by,
        team_id=settings.team_id,
        model_limits=[model_limits_out(one) for one in settings.model_limits],
        content_stored=settings.content_stored,
    )  # fmt: skip


def balance_out(balance: billing_pb2.Balance) -> models.BalanceOut:
    return models.BalanceOut(
        posted_usd=usd_from_nanousd(balance.posted_nanousd),
        held_usd=usd_from_nanousd(balance.granted_nanousd),
        available_usd=usd_from_nanousd(balance.available_nanousd),
        updated_at=moment(balance.updated_at_ms),
    )


def transaction_out(posted: ledger_pb2.TransactionPosted) -> models.TransactionOut:
    wallet = f"wallet:{posted.account_id}"
    amount = sum(e.amount_nanousd for e in posted.entries if e.ledger_account == wallet)
    return models.TransactionOut(
        transaction_id=posted.transaction_id,
        sequence=posted.sequence,
        kind=posted.kind,
        amount_usd=usd_from_nanousd(amount),
        reason=posted.reason,
        model_id=posted.model_id,
        request_id=posted.request_id,
        booked_at=moment(posted.booked_at_ms) or "",
    )


def line_out(row: usage_pb2.LoggedRequest) -> models.RequestLineOut:
    return models.RequestLineOut(**_line(row))


def request_out(row: usage_pb2.LoggedRequest) -> models.RequestOut:
    return models.RequestOut(
        **_line(row),
        trace_id=row.trace_id,
        finish_reason=row.finish_reason,
        tags=dict(row.tags),
        route=row.route,
        requested_model=row.requested_model,
        usage_basis=short(usage_events_pb2.UsageBasis.Name, row.usage_basis, "USAGE_BASIS_"),
        price_version_id=row.price_version_id,
        quantities=[
            models.QuantityOut(
                kind=short(common_pb2.TokenKind.Name, one.kind, "TOKEN_KIND_"), tokens=one.tokens
            )
            for one in row.quantities
        ],
        attempts=[attempt_out(attempt) for attempt in row.attempts],
    )


# Any: fields of many types, which the models check.
def _line(row: usage_pb2.LoggedRequest) -> dict[str, Any]:
    return {
        "usage_id": row.usage_id,
        "request_id": row.request_id,
        "key_id": row.key_id,
        "model_id": row.model_id or row.requested_model,
        "provider_id": row.provider_id,
        "stream": row.stream,
        "outcome": short(usage_events_pb2.RequestOutcome.Name, row.outcome, "REQUEST_OUTCOME_"),
        "http_status": row.http_status,
        "error_code": row.error_code,
        "failure_stage": row.failure_stage,
        "received_at": moment(row.received_at_ms) or "",
        "first_token_ms": row.first_token_ms,
        "latency_ms": row.latency_ms,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "cost_usd": usd_from_nanousd(row.cost_nanousd),
        "session_id": row.session_id,
        "end_user_id": row.end_user_id,
    }


def bucket_out(bucket: usage_pb2.UsageBucket) -> models.BucketOut:
    return models.BucketOut(
        value=bucket.value,
        requests=bucket.requests,
        successful_requests=bucket.successful_requests,
        prompt_tokens=bucket.prompt_tokens,
        completion_tokens=bucket.completion_tokens,
        cost_usd=usd_from_nanousd(bucket.cost_nanousd),
        latency_p50_ms=bucket.latency_p50_ms,
        latency_p95_ms=bucket.latency_p95_ms,
    )


def model_out(model: catalog_pb2.Model) -> models.ModelOut:
    settings = model.settings
    price = price_from_pb(model.price) if model.HasField("price") else None
    places = [settings.provider_id, *(one.provider_id for one in settings.deployments)]
    flags = [field.name for field, value in settings.capabilities.ListFields() if value]
    return models.ModelOut(
        model_id=model.model_id,
        name=settings.name,
        description=settings.description,
        brand=settings.brand,
        # In the order in which they are set, each once.
        providers=list(dict.fromkeys(p for p in places if p)),
        context_length=settings.context_length,
        input_modalities=list(settings.input_modalities),
        output_modalities=list(settings.output_modalities),
        capabilities=flags,
        is_free=price is not None and price.is_free,
        prompt_usd_per_1m=usd_from_nanousd(price.rate(TokenKind.PROMPT, 0)) if price else None,
        completion_usd_per_1m=usd_from_nanousd(price.rate(TokenKind.COMPLETION, 0))
        if price else None,
    )  # fmt: skip
