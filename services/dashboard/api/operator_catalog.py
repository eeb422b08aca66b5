"""For staff: models and their prices."""

from __future__ import annotations

from fastapi import APIRouter

from services.common.money import nanousd_from_field, usd_from_nanousd
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.dashboard.api import operator_models as models
from services.dashboard.api.staff import OperatorDep
from services.dashboard.api.translate import model_out, price_out

router = APIRouter(prefix="/operator", tags=["operator"])


@router.get("/models")
async def list_priced(operator: OperatorDep) -> list[models.PricedModel]:
    """Every model, served or not, with its price of now."""
    answer = await operator.backends.catalog_channel.call(
        operator.backends.catalog.ListModels,
        catalog_pb2.ListModelsRequest(include_unavailable=True),
        principal=operator.acting(),
    )
    found = []
    for model in answer.models:
        shown = model_out(model)
        priced = model.HasField("price")
        found.append(
            models.PricedModel(
                model_id=model.model_id,
                provider_id=model.settings.provider_id,
                available=model.available,
                prompt_usd_per_1m=shown.prompt_usd_per_1m if priced else None,
                completion_usd_per_1m=shown.completion_usd_per_1m if priced else None,
            )
        )
    return found


@router.get("/prices")
async def price_history(operator: OperatorDep, *, model_id: str) -> models.PriceHistory:
    """Every price that a model ever had, newest first."""
    answer = await operator.backends.catalog_channel.call(
        operator.backends.catalog.ListPrices,
        catalog_pb2.ListPricesRequest(model_id=model_id),
        principal=operator.acting(),
    )
    newest_first = sorted(answer.prices, key=lambda price: price.valid_from_ms, reverse=True)
    return models.PriceHistory(
        model_id=model_id, prices=[price_out(price) for price in newest_first]
    )


@router.post("/prices", status_code=201)
async def publish_price(body: models.NewPrice, operator: OperatorDep) -> models.PriceHistory:
    """A new price version, in force from now on."""
    wanted = {
        common_pb2.TOKEN_KIND_PROMPT: ("prompt_usd", body.prompt_usd),
        common_pb2.TOKEN_KIND_COMPLETION: ("completion_usd", body.completion_usd),
        common_pb2.TOKEN_KIND_CACHED_PROMPT: ("cached_prompt_usd", body.cached_prompt_usd),
    }
    rates = [
        common_pb2.Rate(kind=kind, nanousd_per_million=nanousd_from_field(name, value))
        for kind, (name, value) in wanted.items()
        if value is not None
    ]
    fee_nanousd = nanousd_from_field("request_fee_usd", body.request_fee_usd)
    prices = ", ".join(usd_from_nanousd(rate.nanousd_per_million) for rate in rates)
    await operator.note("price.publish", body.model_id, f"USD per million: {prices}")
    await operator.backends.catalog_channel.call(
        operator.backends.catalog.PublishPrice,
        catalog_pb2.PublishPriceRequest(
            model_id=body.model_id,
            rates=rates,
            request_fee_nanousd=fee_nanousd,
            source=f"operator {operator.session.principal.user_id}",
        ),
        principal=operator.acting(),
    )
    return await price_history(operator, model_id=body.model_id)
