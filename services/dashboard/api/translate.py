"""Protobuf messages of the other services to what the panel's API says."""

from __future__ import annotations

from datetime import UTC, datetime

from services.common.money import TokenKind, usd_from_nanousd
from services.common.pb.mesh.accounts.v1 import keys_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.common.pb.mesh.events.v1 import usage_pb2 as usage_events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2
from services.common.pricing_pb import price_from_pb
from services.dashboard.api import models


def moment(unix_ms: int) -> str | None:
    """ISO 8601 in UTC with milliseconds; None for 0, which means never."""
    if unix_ms == 0:
        return None
    stamp = datetime.fromtimestamp(unix_ms / 1000, UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ms % 1000:03d}Z"


def window_name(window: common_pb2.CapWindow.ValueType) -> str:
    return common_pb2.CapWindow.Name(window).removeprefix("CAP_WINDOW_").lower()


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
        allowed_models=list(settings.allowed_models),
        expires_at=moment(settings.expires_at_ms),
        created_at=moment(key.created_at_ms) or "",
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


def request_out(row: usage_pb2.LoggedRequest) -> models.RequestOut:
    outcome = usage_events_pb2.RequestOutcome.Name(row.outcome)
    return models.RequestOut(
        usage_id=row.usage_id,
        request_id=row.request_id,
        trace_id=row.trace_id,
        key_id=row.key_id,
        model_id=row.model_id or row.requested_model,
        provider_id=row.provider_id,
        stream=row.stream,
        outcome=outcome.removeprefix("REQUEST_OUTCOME_").lower(),
        http_status=row.http_status,
        error_code=row.error_code,
        failure_stage=row.failure_stage,
        finish_reason=row.finish_reason,
        received_at=moment(row.received_at_ms) or "",
        first_token_ms=row.first_token_ms,
        latency_ms=row.latency_ms,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cost_usd=usd_from_nanousd(row.cost_nanousd),
        session_id=row.session_id,
        tags=dict(row.tags),
    )


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
    flags = [field.name for field, value in settings.capabilities.ListFields() if value]
    return models.ModelOut(
        model_id=model.model_id,
        name=settings.name,
        description=settings.description,
        brand=settings.brand,
        context_length=settings.context_length,
        input_modalities=list(settings.input_modalities),
        output_modalities=list(settings.output_modalities),
        capabilities=flags,
        is_free=price is not None and price.is_free,
        prompt_usd_per_1m=usd_from_nanousd(price.rate(TokenKind.PROMPT, 0)) if price else None,
        completion_usd_per_1m=usd_from_nanousd(price.rate(TokenKind.COMPLETION, 0))
        if price else None,
    )  # fmt: skip
