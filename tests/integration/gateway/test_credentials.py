"""A provider with several credentials: how they share the traffic, and what follows a bad one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from services.gateway.ports import KeySettings, ProviderEntry
from services.gateway.routing import Router
from services.gateway.routing_policy import DEFAULT_POLICY
from tests.fixtures.gateway import GatewayHarness, scripted_model
from tests.fixtures.wire import ask, chat


def with_credentials(provider: ProviderEntry, *ranks_and_weights: tuple[int, int]) -> ProviderEntry:
    """The provider with credentials `sk-0`, `sk-1` and so on, of these ranks and weights."""
    variants = tuple(
        replace(
            provider,
            credential=f"sk-{number}",
            credential_id=f"crd_{number}",
            rank=rank,
            weight=weight,
        )
        for number, (rank, weight) in enumerate(ranks_and_weights)
    )
    return replace(variants[0], variants=variants)


def use(gateway: GatewayHarness, *ranks_and_weights: tuple[int, int]) -> None:
    known = gateway.catalogue.providers
    known["prv_script"] = with_credentials(known["prv_script"], *ranks_and_weights)


def bearers(gateway: GatewayHarness) -> list[str]:
    sent = gateway.upstream.headers
    return [headers["Authorization"].removeprefix("Bearer ") for headers in sent]


@pytest.mark.parametrize("status", ["401", "403", "429"])
async def test_where_a_credential_is_refused_the_next_one_is_used_and_the_caller_is_served(
    gateway: GatewayHarness, status: str
) -> None:
    use(gateway, (0, 1), (1, 1))
    model = scripted_model(f"{status}.ok")
    gateway.catalogue.add(model)
    answer = await ask(gateway, {**chat(), "model": str(model.model_id)})
    assert answer.status == 200
    assert bearers(gateway) == ["sk-0", "sk-1"]
    event = await gateway.event()
    assert [(one.provider_id, one.served) for one in event.attempts] == [
        ("prv_script", False), ("prv_script", True),
    ]  # fmt: skip


async def test_a_policy_that_stays_with_the_provider_still_turns_to_its_other_credential(
    gateway: GatewayHarness,
) -> None:
    use(gateway, (0, 1), (1, 1))
    model = scripted_model("401.ok")
    gateway.catalogue.add(model)
    policy = replace(DEFAULT_POLICY, cross_provider_same_model=False)
    gateway.key = gateway.keys.issue(KeySettings(routing=policy))
    answer = await ask(gateway, {**chat(), "model": str(model.model_id)})
    assert (answer.status, bearers(gateway)) == (200, ["sk-0", "sk-1"])


async def test_credentials_of_one_rank_share_the_traffic_by_weight_and_the_others_wait(
    gateway: GatewayHarness,
) -> None:
    use(gateway, (0, 3), (0, 1), (1, 5))
    router = Router(gateway.catalogue, ["openai_compatible"])
    [first, second] = router.tiers(["vendor/ok"], KeySettings(), 0)
    shares = [[(one.provider.credential, one.weight) for one in tier] for tier in (first, second)]
    assert shares == [[("sk-0", 0.75), ("sk-1", 0.25)], [("sk-2", 1.0)]]
    assert len({one.place for one in (*first, *second)}) == 3
    for _ in range(12):
        await ask(gateway, chat())
    assert set(Counter(bearers(gateway))) <= {"sk-0", "sk-1"}
