"""Putting seeds in the catalog at start: idempotent, in one unit of work, without undoing anyone.

A provider or model that is there already keeps its settings: an operator may have changed them. Its
price follows the source for as long as its newest version came from that source; a changed figure
is a new version from now on. What the environment names (a local model, credentials) is decided by
the environment at every start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from services.catalog import handlers
from services.catalog.domain import model as models
from services.catalog.domain import provider as providers
from services.catalog.domain.model import ImportModel, Model, ModelEvent, PublishPrice
from services.catalog.domain.provider import Provider, PutProvider, SetCredential
from services.catalog.handlers import Context
from services.catalog.ports import Loaded, ModelChange, ProviderChange, SeedSource, Snapshot
from services.catalog.seeds import SeedModel, SeedProvider, Seeds, identified, same_figures
from services.common.errors import InvalidArgument, NotFound
from services.common.ids import ModelId, ProviderId
from services.common.money import Price
from services.common.telemetry import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SeedReport:
    """How many streams were changed, and how many models the source could not offer exactly."""

    providers: int
    models: int
    prices: int
    skipped: Mapping[str, int]


async def seed(context: Context, source: SeedSource) -> SeedReport | None:
    """Puts in what is new or changed; None where the source is the same as the last time."""
    fingerprint = source.fingerprint()
    async with context.store.transaction() as work:
        if await work.seed_mark() == fingerprint:
            return None
    return await _put_in(context, source.read(), source=source.name, fingerprint=fingerprint)


async def seed_environment(context: Context, seeds: Seeds) -> None:
    """Providers and models as the environment describes them; nothing where they are so already."""
    for provider in seeds.providers:
        now_ms = context.clock.now_ms()
        await handlers.put_provider(
            context, PutProvider(provider.provider_id, provider.settings, now_ms)
        )
    for model in seeds.models:
        now_ms = context.clock.now_ms()
        async with context.store.transaction() as work:
            known = (await work.model(model.model_id)).state
        prices = model.prices if known is None or not known.prices else ()
        command: models.PutModel | ImportModel = models.PutModel(
            model.model_id, model.settings, now_ms
        )
        if prices:
            command = ImportModel(model.model_id, model.settings, prices, now_ms)
        await handlers.put_model(context, command)


async def set_credentials(context: Context, credentials: Mapping[ProviderId, str]) -> None:
    """Stores credentials that came with the environment; a new version only where one changed.

    Raises InvalidArgument naming the provider whose credential cannot be one.
    """
    for provider_id, credential in credentials.items():
        command = SetCredential(provider_id, context.clock.now_ms())
        try:
            await handlers.set_credential(context, command, credential)
        except NotFound:
            _log.warning("a credential is of no provider of the catalog", provider=provider_id)
        except InvalidArgument as error:
            raise InvalidArgument(f"of the provider {provider_id}: {error.message}") from error


def changed_prices(state: Model, seed_model: SeedModel, *, source: str, now_ms: int) -> list[Price]:
    """The versions to publish so that the model costs what the seed says from now on."""
    newest = state.prices[-1]
    if not newest.source.startswith(source):
        return []
    wanted: list[Price] = []
    as_seeded = Model(seed_model.model_id, seed_model.settings, 0, seed_model.prices)
    for price in as_seeded.prices_from(now_ms):
        starts_ms = max(price.valid_from_ms, now_ms)
        before = wanted[-1] if wanted else state.price_at(starts_ms)
        if before is not None and same_figures(before, price):
            continue
        # A version published for later cannot be taken back: what would come before it waits.
        if starts_ms > newest.valid_from_ms:
            wanted.append(identified(replace(price, valid_from_ms=starts_ms)))
    return wanted


async def _put_in(context: Context, seeds: Seeds, *, source: str, fingerprint: str) -> SeedReport:
    now_ms = context.clock.now_ms()
    async with context.store.transaction() as work:
        snapshot = await work.snapshot()
        new_providers = _provider_changes(seeds.providers, snapshot, now_ms)
        new_models = _model_changes(seeds.models, snapshot, source=source, now_ms=now_ms)
        registered = await work.append_providers(new_providers)
        changed = await work.append_models(new_models)
        known = {key: at.state for key, at in snapshot.providers.items()}
        known |= {provider.provider_id: provider for provider in registered}
        await work.announce_providers(registered, now_ms)
        served: list[tuple[Model, Provider | None]] = [
            (model, known.get(model.settings.provider_id)) for model in changed
        ]
        await work.announce_models(served, now_ms)
        await work.put_seed_mark(fingerprint, now_ms)
    prices = sum(
        isinstance(e, models.PricePublished) for _, _, events in new_models for e in events
    )
    report = SeedReport(len(registered), len(changed), prices, seeds.skipped)
    _log.info(
        "the catalog was seeded",
        source=source,
        providers=report.providers,
        models=report.models,
        prices=report.prices,
        skipped_models=sum(seeds.skipped.values()),
        skipped_because=dict(seeds.skipped),
    )
    return report


def _provider_changes(
    seeds: Iterable[SeedProvider], snapshot: Snapshot, now_ms: int
) -> list[ProviderChange]:
    new: Loaded[Provider] = Loaded(None, 0)
    return [
        (
            seed.provider_id,
            new,
            providers.decide(None, PutProvider(seed.provider_id, seed.settings, now_ms)),
        )
        for seed in seeds
        if seed.provider_id not in snapshot.providers
    ]


def _model_changes(
    seeds: Iterable[SeedModel], snapshot: Snapshot, *, source: str, now_ms: int
) -> list[ModelChange]:
    changes: list[ModelChange] = []
    for seed in seeds:
        at = snapshot.models.get(seed.model_id, Loaded(None, 0))
        events = _model_events(at.state, seed, source=source, now_ms=now_ms)
        if events:
            changes.append((ModelId(seed.model_id), at, events))
    return changes


def _model_events(
    state: Model | None, seed: SeedModel, *, source: str, now_ms: int
) -> list[ModelEvent]:
    if state is None or not state.prices:
        settings = seed.settings if state is None else state.settings
        return models.decide(state, ImportModel(seed.model_id, settings, seed.prices, now_ms))
    events: list[ModelEvent] = []
    for price in changed_prices(state, seed, source=source, now_ms=now_ms):
        published = models.decide(state, PublishPrice(price, now_ms))
        for event in published:
            state = models.evolve(state, event)
        events += published
    return events
