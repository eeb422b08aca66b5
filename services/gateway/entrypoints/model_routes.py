"""GET /v1/models and what hangs below it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.common.errors import ModelNotFound
from services.gateway.entrypoints.app import PublicReads, head_of, reads_of
from services.gateway.entrypoints.callers import settings_of
from services.gateway.entrypoints.head import RequestHead
from services.gateway.entrypoints.model_docs import (
    ModelInfo,
    ModelList,
    ModelPage,
    ModelRoute,
    example,
    shown,
)
from services.gateway.entrypoints.system_routes import json_response
from services.gateway.model_view import (
    ModelObject,
    SortField,
    model_object,
    search_models,
    visible_models,
)
from services.gateway.ports import KeySettings

router = APIRouter(prefix="/v1/models", tags=["models"])

Reads = Annotated[PublicReads, Depends(reads_of)]
Settings = Annotated[KeySettings, Depends(settings_of)]
Head = Annotated[RequestHead, Depends(head_of)]
ModelType = Literal["text", "embedding", "image", "audio", "video"]


def _shown(
    reads: PublicReads,
    settings: KeySettings,
    *,
    free: bool | None = None,
    model_type: str | None = None,
    provider: str | None = None,
) -> list[ModelObject]:
    return visible_models(
        reads.catalogue.models(),
        settings,
        reads.clock.now_ms(),
        free=free,
        model_type=model_type,
        provider=provider,
    )


def _listed(models: list[ModelObject], head: RequestHead) -> Response:
    """A bare list, as Mesh's SDKs want it; in OpenAI's envelope where an OpenAI SDK asks (decision
    0101).
    """
    return json_response({"object": "list", "data": models} if head.openai_sdk else models)


# Any: arguments of the decorator.
_LIST: dict[str, Any] = {
    "response_model": list[ModelInfo] | ModelList,
    "responses": shown([example()]),
}


@router.get("", **_LIST)
def list_models(
    reads: Reads,
    settings: Settings,
    head: Head,
    *,
    free: bool | None = None,
    model_type: Annotated[ModelType | None, Query(alias="type")] = None,
    provider: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """The models that this key may call."""
    return _listed(
        _shown(reads, settings, free=free, model_type=model_type, provider=provider), head
    )


@router.get("/free", **_LIST)
def list_free_models(reads: Reads, settings: Settings, head: Head) -> Response:
    """Those that cost nothing."""
    return _listed(_shown(reads, settings, free=True), head)


@router.get("/paid", **_LIST)
def list_paid_models(reads: Reads, settings: Settings, head: Head) -> Response:
    """Those that cost something."""
    return _listed(_shown(reads, settings, free=False), head)


class SearchQuery(BaseModel):
    """What to look for; every word of `q` must occur in name, id or brand."""

    q: str = Field("", max_length=256)
    free: bool | None = None
    discounted: bool | None = Field(None, description="No model has a discount here.")
    brand: list[str] = Field([], max_length=32)
    input_modality: list[str] = Field([], max_length=8)
    output_modality: list[str] = Field([], max_length=8)
    sort: SortField = "name"
    order: Literal["asc", "desc"] = "asc"
    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0)


@router.get("/search", response_model=ModelPage)
def search(reads: Reads, settings: Settings, wanted: Annotated[SearchQuery, Query()]) -> Response:
    """A page of the models that match."""
    visible = _shown(reads, settings, free=wanted.free)
    found = search_models(
        [] if wanted.discounted else visible,
        words=wanted.q,
        brands=tuple(wanted.brand),
        input_modalities=tuple(wanted.input_modality),
        output_modalities=tuple(wanted.output_modality),
        sort=wanted.sort,
        descending=wanted.order == "desc",
    )
    page: dict[str, Any] = {  # Any: JSON
        "items": found[wanted.offset : wanted.offset + wanted.limit],
        "total": len(found),
        "limit": wanted.limit,
        "offset": wanted.offset,
        "brands": sorted({model["brand"] for model in visible if model["brand"]}),
    }
    return json_response(page)


@router.get(
    "/{model_id:path}/providers",
    response_model=list[ModelRoute],
)
def list_providers(model_id: str, reads: Reads, settings: Settings) -> Response:
    """The ways in which a model is served, and what each of them takes."""
    found = _model(reads, settings, model_id)
    one = {
        "provider": found["provider"],
        "available": True,
        "context_length": found["context_length"],
        "supports_streaming": found["supports_streaming"],
    }
    names = (
        "input_modalities",
        "output_modalities",
        "supports_tools",
        "supports_structured_output",
        "pricing",
    )
    return json_response([{**one, **{name: found[name] for name in names}}])


@router.get("/{model_id:path}", response_model=ModelInfo, responses=shown(example()))
def get_model(model_id: str, reads: Reads, settings: Settings) -> Response:
    """One model; its id may contain slashes."""
    return json_response(_model(reads, settings, model_id))


def _model(reads: PublicReads, settings: KeySettings, model_id: str) -> ModelObject:
    """Raises ModelNotFound, for what this key may not call too."""
    model = reads.catalogue.model(model_id)
    price = model.price_at(reads.clock.now_ms()) if model is not None else None
    allowed = settings.allows(model_id)
    if model is None or price is None or not model.available or not allowed:
        raise ModelNotFound(f"there is no model {model_id!r} for this key")
    return model_object(model, price)
