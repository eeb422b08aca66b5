"""Owners of scopes: which they cap at the start, and what a worker knows of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2
from services.common.scopes import Scope, key_model
from services.gateway.scoped import Scoped, ScopeRates
from tests.sim.facts import DAY, LIFETIME, Key, ScopeOwner

LIMITED_MODEL = "m_pv_1"


def scopes_of_account(rng: Random, account: str) -> Iterator[ScopeOwner]:
    """Some of an account's scopes are capped."""
    for name in ("account", "team:a", "team:b", "member:usr_1", f"account_model:{LIMITED_MODEL}"):
        if rng.random() < 0.35:
            window = rng.choice([LIFETIME, LIFETIME, DAY])
            owner = ScopeOwner(account, name, rng.randint(1_000, 60_000), window)
            owner.published[1] = owner.cap
            yield owner


def scoped_of(key: Key, binding: Iterable[ScopeOwner]) -> Scoped:
    """What a worker knows of the key's scopes by its newest settings."""
    models: dict[str, list[ScopeRates]] = {}
    for model in key.models:
        rates = ScopeRates(key_model(key.key_id, model), capped=True)
        models.setdefault(model, []).append(rates)
    for one in binding:
        if one.name.startswith("account_model:"):
            rates = ScopeRates(Scope(one.name), capped=True)
            models.setdefault(one.name.partition(":")[2], []).append(rates)
    return Scoped(key.team, models={name: tuple(found) for name, found in models.items()})


def capped(cap: int, window: int) -> accounts_pb2.Limits:
    """Limits with this cap alone."""
    kind = common_pb2.CapWindow.ValueType(window)
    return accounts_pb2.Limits(spend_cap_nanousd=cap, spend_cap_window=kind)
