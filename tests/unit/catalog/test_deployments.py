"""Models that are served at several places."""

from __future__ import annotations

import pytest

from services.catalog import handlers
from services.catalog.adapters.translation_pb import model_settings_from_pb, model_settings_to_pb
from services.catalog.domain.model import Model, PutModel
from services.catalog.domain.provider import PutProvider
from services.catalog.domain.settings import Deployment, checked_model
from services.common.errors import InvalidArgument
from services.common.ids import ProviderId
from services.common.pb.mesh.events.v1 import catalog_pb2
from services.gateway.state.decode import model_from_state
from tests.unit.catalog.builders import (
    GPT,
    NOW_MS,
    OPENAI,
    memory_context,
    model_settings,
    price,
    provider_settings,
)

AZURE = ProviderId("azure")
PLACE = Deployment(AZURE, "gpt-4o-eu", priority=1, weight=3)


def test_places_go_to_gateways_and_back() -> None:
    settings = model_settings(deployments=(PLACE,))
    message = model_settings_to_pb(settings)
    assert model_settings_from_pb(message) == settings
    known = model_from_state(catalog_pb2.ModelState(model_id=GPT, settings=message))
    (place,) = known.deployments
    assert (place.provider_id, place.upstream_model) == (AZURE, "gpt-4o-eu")
    assert (place.priority, place.weight) == (1, 3)


@pytest.mark.parametrize(
    "places",
    [
        (PLACE, PLACE),
        (Deployment(OPENAI, "gpt-4o"),),
        (Deployment(AZURE, ""),),
        (Deployment(ProviderId("Azure!"), "x"),),
        (Deployment(AZURE, "x", weight=0),),
        (Deployment(AZURE, "x", priority=-1),),
        tuple(Deployment(AZURE, f"x{n}") for n in range(33)),
    ],
)
def test_places_that_make_no_sense_are_refused(places: tuple[Deployment, ...]) -> None:
    with pytest.raises(InvalidArgument):
        checked_model(model_settings(deployments=places))


def test_a_model_with_several_places_is_available_though_its_own_is_not_usable() -> None:
    several = Model(GPT, model_settings(deployments=(PLACE,)), 0, (price(),))
    assert several.available(None, NOW_MS)
    assert not Model(GPT, model_settings(), 0, (price(),)).available(None, NOW_MS)
    off = Model(GPT, model_settings(deployments=(PLACE,), enabled=False), 0, (price(),))
    assert not off.available(None, NOW_MS)


async def test_every_place_must_be_at_a_known_provider() -> None:
    context, _ = memory_context()
    await handlers.put_provider(context, PutProvider(OPENAI, provider_settings(), NOW_MS))
    command = PutModel(GPT, model_settings(deployments=(PLACE,)), NOW_MS)
    with pytest.raises(InvalidArgument, match="azure"):
        await handlers.put_model(context, command)
    await handlers.put_provider(context, PutProvider(AZURE, provider_settings(), NOW_MS))
    model = await handlers.put_model(context, command)
    assert model.settings.deployments == (PLACE,)
