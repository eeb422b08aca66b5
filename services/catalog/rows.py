"""The read tables: rows to states and states to rows, for the store, the views and the rebuild."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from services.catalog.domain.model import Model
from services.catalog.domain.provider import Provider, Slot
from services.catalog.domain.settings import (
    Deployment,
    ModelCapabilities,
    ModelSettings,
    ProviderKind,
    ProviderSettings,
)
from services.catalog.ports import Loaded
from services.common.ids import ModelId, ProviderId
from services.common.money import Price, Rate, RateTier, TokenKind

# A pool lends its connections wrapped.
Connection = asyncpg.Connection | PoolConnectionProxy

PROVIDER_COLUMNS = (
    "provider_id", "version", "created_at_ms", "name", "kind", "base_url", "enabled",
    "credential_required", "timeout_ms", "credential_version", "last_credential_version",
    "region", "api_version", "credentials",
)  # fmt: skip
MODEL_COLUMNS = (
    "model_id", "version", "created_at_ms", "name", "description", "brand", "provider_id",
    "upstream_model", "context_length", "max_output_tokens", "input_modalities",
    "output_modalities", "streaming", "tools", "structured_output", "system_prompt", "reasoning",
    "embeddings", "enabled", "model_type", "tokenizer", "deployments",
)  # fmt: skip
PRICE_COLUMNS = (
    "model_id", "valid_from_ms", "price_version_id", "rates", "request_fee_nanousd", "source",
)  # fmt: skip


def _upsert(table: str, columns: Sequence[str], *, keys: int = 1) -> str:
    """The first `keys` columns are the primary key."""
    places = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[keys:])
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - constants
        f" ON CONFLICT ({', '.join(columns[:keys])}) DO UPDATE SET {changes}"
    )


PUT_PROVIDER = _upsert("providers", PROVIDER_COLUMNS)
PUT_MODEL = _upsert("models", MODEL_COLUMNS)
INSERT_PRICE = (
    f"INSERT INTO prices ({', '.join(PRICE_COLUMNS)})"  # noqa: S608 - constants
    " VALUES ($1, $2, $3, $4::jsonb, $5, $6)"
)
PUT_CREDENTIAL = _upsert(
    "provider_credentials",
    (
        "provider_id", "credential_id", "credential_version", "key_id", "nonce", "ciphertext",
        "masked", "set_at_ms",
    ),
    keys=2,
)  # fmt: skip


def provider_row(provider: Provider, version: int) -> tuple[object, ...]:
    """In the order of PROVIDER_COLUMNS."""
    settings = provider.settings
    return (
        provider.provider_id,
        version,
        provider.created_at_ms,
        settings.name,
        settings.kind.value,
        settings.base_url,
        settings.enabled,
        settings.credential_required,
        settings.timeout_ms,
        provider.credential_version,
        provider.last_credential_version,
        settings.region,
        settings.api_version,
        _slots_to_json(provider.slots),
    )


def _slots_to_json(slots: Iterable[Slot]) -> str:
    return orjson.dumps(
        [
            [one.credential_id, one.version, one.label, one.priority, one.weight, one.enabled]
            for one in slots
        ]
    ).decode()


def provider_from(row: asyncpg.Record) -> Provider:
    return Provider(
        provider_id=ProviderId(row["provider_id"]),
        settings=ProviderSettings(
            name=row["name"],
            kind=ProviderKind(row["kind"]),
            base_url=row["base_url"],
            enabled=row["enabled"],
            credential_required=row["credential_required"],
            timeout_ms=row["timeout_ms"],
            region=row["region"],
            api_version=row["api_version"],
        ),
        created_at_ms=row["created_at_ms"],
        slots=tuple(Slot(*one) for one in orjson.loads(row["credentials"])),
        last_credential_version=row["last_credential_version"],
    )


def model_row(model: Model, version: int) -> tuple[object, ...]:
    """In the order of MODEL_COLUMNS."""
    settings, able = model.settings, model.settings.capabilities
    return (
        model.model_id,
        version,
        model.created_at_ms,
        settings.name,
        settings.description,
        settings.brand,
        settings.provider_id,
        settings.upstream_model,
        settings.context_length,
        settings.max_output_tokens,
        list(settings.input_modalities),
        list(settings.output_modalities),
        able.streaming,
        able.tools,
        able.structured_output,
        able.system_prompt,
        able.reasoning,
        able.embeddings,
        settings.enabled,
        settings.model_type,
        settings.tokenizer,
        orjson.dumps(settings.deployments).decode(),
    )


def model_from(row: asyncpg.Record, prices: Iterable[Price]) -> Model:
    settings = ModelSettings(
        name=row["name"],
        description=row["description"],
        brand=row["brand"],
        provider_id=ProviderId(row["provider_id"]),
        upstream_model=row["upstream_model"],
        context_length=row["context_length"],
        max_output_tokens=row["max_output_tokens"],
        input_modalities=tuple(row["input_modalities"]),
        output_modalities=tuple(row["output_modalities"]),
        capabilities=ModelCapabilities(
            streaming=row["streaming"],
            tools=row["tools"],
            structured_output=row["structured_output"],
            system_prompt=row["system_prompt"],
            reasoning=row["reasoning"],
            embeddings=row["embeddings"],
        ),
        enabled=row["enabled"],
        model_type=row["model_type"],
        tokenizer=row["tokenizer"],
        deployments=tuple(
            Deployment(
                provider_id=ProviderId(place["provider_id"]),
                upstream_model=place["upstream_model"],
                priority=place["priority"],
                weight=place["weight"],
            )
            for place in orjson.loads(row["deployments"])
        ),
    )
    return Model(ModelId(row["model_id"]), settings, row["created_at_ms"], tuple(prices))


def price_row(price: Price) -> tuple[object, ...]:
    """In the order of PRICE_COLUMNS."""
    rates = {
        kind.name.lower(): [
            rate.nanousd_per_million,
            [[tier.from_prompt_tokens, tier.nanousd_per_million] for tier in rate.tiers],
        ]
        for kind, rate in sorted(price.rates.items())
    }
    return (
        price.model_id,
        price.valid_from_ms,
        price.price_version_id,
        orjson.dumps(rates).decode(),
        price.request_fee_nanousd,
        price.source,
    )


def price_from(row: asyncpg.Record) -> Price:
    rates: Mapping[str, tuple[int, list[tuple[int, int]]]] = orjson.loads(row["rates"])
    return Price(
        price_version_id=row["price_version_id"],
        rates={
            TokenKind[name.upper()]: Rate(amount, tuple(RateTier(*tier) for tier in tiers))
            for name, (amount, tiers) in sorted(rates.items())
        },
        request_fee_nanousd=row["request_fee_nanousd"],
        model_id=row["model_id"],
        valid_from_ms=row["valid_from_ms"],
        source=row["source"],
    )


async def read_models(
    connection: Connection, where: str = "true", *arguments: object
) -> list[Loaded[Model]]:
    """Models with all their prices, by id; `where` is SQL of ours over `models`, never input."""
    rows = await connection.fetch(
        f"SELECT * FROM models WHERE {where} ORDER BY model_id",  # noqa: S608 - `where` is ours
        *arguments,
    )
    # A person may publish a price now and again, but most models have one or two in all.
    prices: dict[str, list[Price]] = {row["model_id"]: [] for row in rows}
    for row in await connection.fetch(
        "SELECT * FROM prices WHERE model_id = ANY($1) ORDER BY model_id, valid_from_ms",
        list(prices),
    ):
        prices[row["model_id"]].append(price_from(row))
    return [Loaded(model_from(row, prices[row["model_id"]]), row["version"]) for row in rows]
