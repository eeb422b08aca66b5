"""What the worker knows: keys and catalogue from messages, credentials, and how fresh it all is."""

from __future__ import annotations

import asyncio
import math

import pytest

from services.common.clock import FakeClock
from services.common.errors import NotFound, Unavailable
from services.common.events import EventRecord, UndecodableEvent, record_of
from services.common.ids import ProviderId
from services.common.kafka.memory import MemoryLog, MemoryTableReader
from services.common.kafka.table_reader import OnMessage
from services.common.money import TokenKind
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2, catalog_pb2
from services.common.topics import KEYS, MODELS, Topic
from services.gateway.state.credentials import Credential
from services.gateway.state.freshness import TableSource
from services.gateway.state.state import GatewayState
from services.gateway.state.tables import CatalogueTable, KeyTable

HASH = "ab" * 32


def key_bytes(**fields: object) -> bytes:
    """A KeyState in its envelope."""
    state = accounts_pb2.KeyState(
        key_hash=HASH, key_id="key_1", account_id="acc_1", user_id="usr_1", version=3
    )
    state.MergeFrom(accounts_pb2.KeyState(**fields))  # type: ignore[arg-type]  # fields by name
    return record_of(state, account_id="acc_1", occurred_at_ms=1).to_bytes()


def model_bytes(model_id: str = "m", *prices: common_pb2.PriceVersion) -> bytes:
    """A ModelState in its envelope."""
    state = catalog_pb2.ModelState(
        model_id=model_id,
        settings=catalog_pb2.ModelSettings(name=model_id, provider_id="prv_1", context_length=100),
        prices=prices,
        available=True,
    )
    return record_of(state, account_id="", occurred_at_ms=1).to_bytes()


def provider_bytes(
    *credentials: tuple[str, int, int, int], version: int = 1, required: bool = True
) -> bytes:
    """A ProviderState in its envelope; of each credential id, version, priority and weight."""
    state = catalog_pb2.ProviderState(
        provider_id="prv_1",
        settings=catalog_pb2.ProviderSettings(
            name="p",
            kind=catalog_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE,
            base_url="http://127.0.0.1:1",
            enabled=True,
            credential_required=required,
        ),
        credential_version=version,
        credentials=[
            catalog_pb2.ProviderCredential(
                credential_id=name,
                credential_version=version,
                priority=priority,
                weight=weight,
                enabled=True,
            )
            for name, version, priority, weight in credentials
        ],
    )
    return record_of(state, account_id="", occurred_at_ms=1).to_bytes()


def price(version: str, from_ms: int, rate: int) -> common_pb2.PriceVersion:
    """A price of prompt tokens."""
    return common_pb2.PriceVersion(
        price_version_id=version,
        valid_from_ms=from_ms,
        rates=[
            common_pb2.Rate(kind=common_pb2.TOKEN_KIND_PROMPT, nanousd_per_million=rate),
        ],
    )


class Vault:
    """The catalogue's credentials."""

    def __init__(self) -> None:
        self.known: dict[str, Credential] = {}
        # Beside `default`, by their ids.
        self.others: dict[str, Credential] = {}
        self.away = False
        self.fetched = 0

    async def fetch(self, provider_id: ProviderId, credential_id: str) -> Credential:
        self.fetched += 1
        if self.away:
            raise Unavailable("the catalogue is away")
        found = self.others if credential_id != "default" else self.known
        name = credential_id if credential_id != "default" else provider_id
        if name not in found:
            raise NotFound("there is no credential")
        return found[name]


class Worker:
    """A state over a log in memory."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.log = MemoryLog(clock=self.clock)
        self.vault = Vault()
        self.readers: list[MemoryTableReader] = []
        self.state = GatewayState(self._reader, self.vault, clock=self.clock)

    def _reader(self, topic: Topic, on_message: OnMessage) -> TableSource:
        reader = MemoryTableReader(self.log, topic=topic, on_message=on_message, clock=self.clock)
        self.readers.append(reader)
        return reader

    def poll(self) -> None:
        """Reads what is new."""
        for reader in self.readers:
            reader.poll()

    async def fetch(self, seconds: float = 0.0) -> None:
        """Lets the credential keeper work for so long."""
        running = asyncio.create_task(self.state.credentials.run())
        for _ in range(10):
            await asyncio.sleep(0)
        await self.clock.advance(seconds)
        running.cancel()
        await asyncio.wait({running})


def test_a_key_knows_what_its_scopes_limit_and_which_models_lie_apart() -> None:
    table = KeyTable()
    capped = accounts_pb2.Limits(spend_cap_nanousd=0, tpm_limit=7)
    settings = accounts_pb2.KeySettings(
        rpm_limit=5,
        team_id="tm_1",
        model_limits=[accounts_pb2.ModelLimits(model_id="m", limits=capped)],
    )
    scopes = [
        accounts_pb2.ScopeLimits(scope=scope, limits=limits, version=1)
        for scope, limits in {
            "account": accounts_pb2.Limits(rpd_limit=9),
            "member:usr_1": accounts_pb2.Limits(),
            "account_model:n": accounts_pb2.Limits(spend_cap_nanousd=1),
        }.items()
    ]
    table.apply(HASH, key_bytes(settings=settings, scopes=scopes))
    found = table.find(HASH)
    assert found is not None
    assert found.scoped.team_id == "tm_1"
    assert [(one.scope, one.rates) for one in found.limits()] == [
        ("key:key_1", (5, None, None)),
        ("account", (None, 9, None)),
    ]
    assert [one.scope for one in found.limits("m")][2:] == ["key_model:key_1/m"]
    assert (found.counts_tokens("m"), found.counts_tokens("n")) == (True, False)
    assert [found.scoped.capped_model(one) for one in "mno"] == ["m", "n", ""]
    assert [found.scoped.limited_model(one) for one in "mno"] == ["m", "", ""]


def test_a_key_is_found_by_its_hash_with_its_settings() -> None:
    table = KeyTable()
    settings = accounts_pb2.KeySettings(
        label="l",
        rpm_limit=5,
        tpm_limit=0,
        default_model="m",
        default_params_json='{"temperature": 0.2}',
        allowed_models=["m"],
        expires_at_ms=500,
    )
    table.apply(HASH, key_bytes(settings=settings, expires_at_ms=300))
    found = table.find(HASH)
    assert found is not None
    assert (found.account_id, found.key_id, found.key_version) == ("acc_1", "key_1", 3)
    assert (found.settings.rpm_limit, found.settings.tpm_limit) == (5, 0)
    assert found.settings.default_params == {"temperature": 0.2}
    assert found.settings.allows("m")
    assert not found.settings.allows("other")
    assert found.expires_at_ms == 300
    assert [found.expired(299), found.expired(300)] == [False, True]
    assert table.find("cd" * 32) is None


def test_a_suspended_key_is_known_and_a_removed_one_is_not() -> None:
    table = KeyTable()
    table.apply(HASH, key_bytes(suspended=True))
    found = table.find(HASH)
    assert found is not None
    assert found.suspended
    table.apply(HASH, None)
    assert table.find(HASH) is None
    table.apply(HASH, None)


@pytest.mark.parametrize(
    "bad",
    [
        b"not an envelope",
        model_bytes(),
        key_bytes(settings=accounts_pb2.KeySettings(default_params_json="[1]")),
        key_bytes(settings=accounts_pb2.KeySettings(default_params_json="{")),
        key_bytes(key_hash="cd" * 32),
        EventRecord("evt_1", "accounts.Unknown", 1, 1, "a", "", b"").to_bytes(),
    ],
)
def test_a_bad_message_leaves_what_was_known(bad: bytes) -> None:
    table = KeyTable()
    table.apply(HASH, key_bytes())
    with pytest.raises(UndecodableEvent):
        table.apply(HASH, bad)
    assert table.find(HASH) is not None


def test_the_price_in_force_is_found_by_the_moment() -> None:
    table = CatalogueTable()
    table.apply("model:m", model_bytes("m", price("pv_2", 200, 7), price("pv_1", 100, 5)))
    model = table.model("m")
    assert model is not None
    assert model.price_at(99) is None
    for moment, rate in ((100, 5), (199, 5), (200, 7), (10**15, 7)):
        found = model.price_at(moment)
        assert found is not None
        assert found.rate(TokenKind.PROMPT, 1) == rate


def test_models_are_listed_by_id_and_can_go() -> None:
    table = CatalogueTable()
    for model_id in ("b", "a", "c"):
        table.apply(f"model:{model_id}", model_bytes(model_id))
    assert [model.model_id for model in table.models()] == ["a", "b", "c"]
    table.apply("model:b", None)
    assert [model.model_id for model in table.models()] == ["a", "c"]


def test_a_model_with_a_price_of_an_unknown_kind_is_skipped() -> None:
    table = CatalogueTable()
    bad = common_pb2.PriceVersion(rates=[common_pb2.Rate(nanousd_per_million=1)])
    with pytest.raises(UndecodableEvent):
        table.apply("model:m", model_bytes("m", bad))
    assert table.model("m") is None


async def test_a_provider_is_usable_once_its_credential_is_there() -> None:
    worker = Worker()
    worker.log.append(MODELS.name, b"provider:prv_1", provider_bytes())
    worker.poll()
    found = worker.state.catalogue.provider("prv_1")
    assert found is not None
    assert not found.usable
    worker.vault.known["prv_1"] = Credential(1, "sk-plain")
    await worker.fetch()
    found = worker.state.catalogue.provider("prv_1")
    assert found is not None
    assert found.usable
    assert found.credential == "sk-plain"
    assert "sk-plain" not in repr(found)
    assert "sk-plain" not in repr(worker.vault.known)


async def test_a_credential_is_fetched_once_for_each_version() -> None:
    worker = Worker()
    worker.vault.known["prv_1"] = Credential(1, "one")
    for _ in range(3):
        worker.log.append(MODELS.name, b"provider:prv_1", provider_bytes())
        worker.poll()
        await worker.fetch()
    assert worker.vault.fetched == 1
    worker.vault.known["prv_1"] = Credential(2, "two")
    worker.log.append(MODELS.name, b"provider:prv_1", provider_bytes(version=2))
    worker.poll()
    before = worker.state.catalogue.provider("prv_1")
    assert before is not None
    assert before.credential == "one"
    await worker.fetch()
    after = worker.state.catalogue.provider("prv_1")
    assert after is not None
    assert after.credential == "two"
    assert worker.vault.fetched == 2


async def test_a_credential_is_asked_for_until_the_catalogue_answers() -> None:
    worker = Worker()
    worker.vault.away = True
    worker.log.append(MODELS.name, b"provider:prv_1", provider_bytes())
    worker.poll()
    await worker.fetch(30)
    assert worker.vault.fetched > 3
    worker.vault.away = False
    worker.vault.known["prv_1"] = Credential(1, "one")
    await worker.fetch(30)
    assert worker.state.credentials.complete


async def test_a_provider_has_each_of_its_credentials_in_the_order_of_their_priorities() -> None:
    worker = Worker()
    worker.vault.known["prv_1"] = Credential(1, "one")
    worker.vault.others = {"crd_2": Credential(2, "two"), "crd_3": Credential(3, "three")}
    message = provider_bytes(("default", 1, 9, 1), ("crd_2", 2, 4, 3), ("crd_3", 3, 4, 1))
    worker.log.append(MODELS.name, b"provider:prv_1", message)
    worker.poll()
    await worker.fetch()
    found = worker.state.catalogue.provider("prv_1")
    assert found is not None
    assert (found.usable, found.credential) == (True, "two")
    assert [(one.credential, one.rank, one.weight) for one in found.variants] == [
        ("two", 0, 3), ("three", 0, 1), ("one", 1, 1),
    ]  # fmt: skip
    assert "two" not in repr(found)


async def test_a_credential_that_cannot_be_fetched_does_not_keep_the_others_back() -> None:
    worker = Worker()
    worker.vault.known["prv_1"] = Credential(1, "one")
    message = provider_bytes(("default", 1, 0, 1), ("crd_2", 2, 0, 1))
    worker.log.append(MODELS.name, b"provider:prv_1", message)
    worker.poll()
    await worker.fetch()
    found = worker.state.catalogue.provider("prv_1")
    assert found is not None
    assert (found.credential, found.variants) == ("one", ())
    assert not worker.state.credentials.complete


async def test_a_credential_that_was_switched_off_is_forgotten_and_the_other_one_kept() -> None:
    worker = Worker()
    worker.vault.known["prv_1"] = Credential(1, "one")
    worker.vault.others = {"crd_2": Credential(2, "two")}
    both = provider_bytes(("default", 1, 0, 1), ("crd_2", 2, 0, 1))
    worker.log.append(MODELS.name, b"provider:prv_1", both)
    worker.poll()
    await worker.fetch()
    left = provider_bytes(("crd_2", 2, 0, 1), version=0)
    worker.log.append(MODELS.name, b"provider:prv_1", left)
    worker.poll()
    found = worker.state.catalogue.provider("prv_1")
    assert found is not None
    assert (found.credential, found.credential_id, found.variants) == ("two", "crd_2", ())
    assert worker.state.credentials.get(ProviderId("prv_1"), "default") is None


async def test_a_removed_credential_is_forgotten_at_once() -> None:
    worker = Worker()
    worker.vault.known["prv_1"] = Credential(1, "one")
    worker.log.append(MODELS.name, b"provider:prv_1", provider_bytes())
    worker.poll()
    await worker.fetch()
    worker.log.append(MODELS.name, b"provider:prv_1", provider_bytes(version=0))
    worker.poll()
    found = worker.state.catalogue.provider("prv_1")
    assert found is not None
    assert found.credential is None
    assert not found.usable


async def test_a_worker_that_lost_the_log_fails_closed_after_its_limit() -> None:
    worker = Worker()
    freshness = worker.state.freshness
    assert math.isinf(freshness.stale_for_s())
    with pytest.raises(Unavailable, match="starting"):
        freshness.require()
    assert not freshness.ready()
    worker.log.append(KEYS.name, HASH.encode(), key_bytes())
    worker.poll()
    assert freshness.ready()
    assert freshness.parts() == {"keys": True, "models": True, "templates": True}
    await worker.clock.advance(60)
    freshness.require()
    await worker.clock.advance(0.1)
    with pytest.raises(Unavailable, match="lost touch"):
        freshness.require()
    worker.poll()
    freshness.require()
    assert worker.state.keys.find(HASH) is not None


async def test_one_topic_that_is_behind_is_enough_to_be_stale() -> None:
    worker = Worker()
    worker.poll()
    await worker.clock.advance(61)
    worker.readers[0].poll()
    with pytest.raises(Unavailable):
        worker.state.freshness.require()
