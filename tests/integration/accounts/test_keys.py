"""API keys over gRPC, and what gateways are told of them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import pytest

from services.common.errors import InvalidArgument, NotFound
from services.common.events import EventRecord
from services.common.ids import is_ulid
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.accounts.v1 import keys_pb2 as pb
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1.accounts_pb2 import KeySettings, KeyState
from tests.fixtures.waiting import eventually
from tests.integration.accounts.conftest import Person, Service, operator

HOUR_S = 3_600


def hash_of(plain_key: str) -> str:
    return hashlib.sha256(plain_key.encode()).hexdigest()


def told(service: Service, key_hash: str) -> list[KeyState | None]:
    """What the compacted topic says of a hash, oldest first; None is a tombstone."""
    states: list[KeyState | None] = []
    for message in service.log.messages("mesh.keys.v1"):
        if message.key == key_hash.encode():
            value = message.value
            state = EventRecord.from_bytes(value).message() if value is not None else None
            assert state is None or isinstance(state, KeyState)
            states.append(state)
    return states


def newest(service: Service, key_hash: str) -> KeyState:
    state = told(service, key_hash)[-1]
    assert state is not None
    return state


async def update(
    service: Service, person: Person, key_id: str, *mask: str, **settings: Any
) -> pb.Key:
    request = pb.UpdateKeyRequest(key_id=key_id, settings=KeySettings(**settings), update_mask=mask)
    answer = await service.call(service.keys.UpdateKey, request, person.principal)
    assert isinstance(answer, pb.Key)
    return answer


async def test_a_new_key_is_shown_once_and_gateways_learn_its_hash(service: Service) -> None:
    ada = await service.sign_up()
    settings = KeySettings(
        label="web",
        spend_cap_nanousd=5_000_000_000,
        rpm_limit=1_000,
        rpd_limit=1_000_000,
        tpm_limit=10**9,
        default_model="openai/gpt",
        default_params_json='{"temperature":0.2}',
        allowed_models=["openai/gpt"],
        expires_at_ms=service.clock.now_ms() + 1_000,
    )
    request = pb.CreateKeyRequest(settings=settings)
    created = await service.call(service.keys.CreateKey, request, ada.principal)
    plain, key = created.plain_key, created.key
    assert plain.startswith("rsk_")
    assert is_ulid(plain[4:])
    assert key.masked_key == f"{plain[:8]}...{plain[-4:]}"
    assert key.settings.spend_cap_window == common_pb2.CAP_WINDOW_LIFETIME
    assert (key.version, key.created_by) == (1, ada.principal.user_id)
    read = await service.call(
        service.keys.GetKey, pb.GetKeyRequest(key_id=key.key_id), ada.principal
    )
    assert read == key
    await eventually(lambda: told(service, hash_of(plain)))
    state = newest(service, hash_of(plain))
    assert state.settings == key.settings
    assert (state.key_id, state.account_id) == (key.key_id, ada.principal.account_id)
    assert (state.version, state.expires_at_ms) == (1, settings.expires_at_ms)
    rows = await service.pool.fetch("SELECT payload FROM events UNION SELECT value FROM outbox")
    assert not any(plain.encode() in row["payload"] for row in rows)


@pytest.mark.parametrize(
    ("field", "value"), [("rpm_limit", 1_001), ("rpd_limit", 1_000_001), ("tpm_limit", -1)]
)
async def test_a_limit_above_the_maximum_is_refused_by_name(
    service: Service, field: str, value: int
) -> None:
    ada = await service.sign_up()
    request = pb.CreateKeyRequest(settings=KeySettings(label="k", **{field: value}))  # type: ignore[arg-type] # one of the limits
    with pytest.raises(InvalidArgument) as refused:
        await service.call(service.keys.CreateKey, request, ada.principal)
    assert [detail.loc for detail in refused.value.details] == [(field,)]
    key = (await service.create_key(ada)).key
    with pytest.raises(InvalidArgument, match=field):
        await update(service, ada, key.key_id, field, **{field: value})
    with pytest.raises(InvalidArgument, match="spend_cap_window"):
        await update(service, ada, key.key_id, "spend_cap_window", spend_cap_window=99)


async def test_an_update_changes_what_its_mask_names(service: Service) -> None:
    ada = await service.sign_up()
    created = await service.create_key(ada)
    key_id = created.key.key_id
    capped = await update(
        service, ada, key_id, "spend_cap_nanousd", "spend_cap_window",
        spend_cap_nanousd=7, spend_cap_window=common_pb2.CAP_WINDOW_DAY, label="ignored",
    )  # fmt: skip
    assert (capped.settings.label, capped.settings.spend_cap_nanousd) == ("web", 7)
    assert capped.settings.spend_cap_window == common_pb2.CAP_WINDOW_DAY
    cleared = await update(service, ada, key_id, "spend_cap_nanousd", "spend_cap_window")
    assert not cleared.settings.HasField("spend_cap_nanousd")
    assert cleared.settings.spend_cap_window == common_pb2.CAP_WINDOW_LIFETIME
    assert cleared.version == 3
    key_hash = hash_of(created.plain_key)
    await eventually(lambda: len(told(service, key_hash)) == 3)
    assert [state.version for state in told(service, key_hash) if state] == [1, 2, 3]


async def test_updates_at_once_of_different_fields_all_last(service: Service) -> None:
    ada = await service.sign_up()
    created = await service.create_key(ada)
    key_id = created.key.key_id
    await asyncio.gather(
        update(service, ada, key_id, "rpm_limit", rpm_limit=11),
        update(service, ada, key_id, "rpd_limit", rpd_limit=22),
        update(service, ada, key_id, "tpm_limit", tpm_limit=33),
        update(service, ada, key_id, "label", label="renamed"),
        update(service, ada, key_id, "default_model", default_model="m"),
    )
    key = await service.call(service.keys.GetKey, pb.GetKeyRequest(key_id=key_id), ada.principal)
    found = key.settings
    assert (found.rpm_limit, found.rpd_limit, found.tpm_limit) == (11, 22, 33)
    assert (found.label, found.default_model, key.version) == ("renamed", "m", 6)
    key_hash = hash_of(created.plain_key)
    await eventually(lambda: len(told(service, key_hash)) == 6)
    # In the order of the versions, so that the last word on the topic is the newest state.
    assert [state.version for state in told(service, key_hash) if state] == [1, 2, 3, 4, 5, 6]
    assert newest(service, key_hash).settings == found


async def test_a_suspension_reaches_the_log_within_a_second(service: Service) -> None:
    ada = await service.sign_up()
    created = await service.create_key(ada)
    key_id, key_hash = created.key.key_id, hash_of(created.plain_key)
    started_s = time.perf_counter()
    request = pb.SuspendKeyRequest(key_id=key_id)
    key = await service.call(service.keys.SuspendKey, request, ada.principal)
    await eventually(lambda: newest(service, key_hash).suspended, timeout_s=1.0)
    assert time.perf_counter() - started_s < 1.0
    assert key.suspended
    resume = pb.ResumeKeyRequest(key_id=key_id)
    key = await service.call(service.keys.ResumeKey, resume, ada.principal)
    assert (key.suspended, key.version) == (False, 3)
    await eventually(lambda: not newest(service, key_hash).suspended)


async def test_after_a_rotation_both_secrets_work_until_the_grace_ends(service: Service) -> None:
    ada = await service.sign_up()
    created = await service.create_key(ada)
    old_hash = hash_of(created.plain_key)
    request = pb.RotateKeyRequest(key_id=created.key.key_id, grace_s=HOUR_S)
    rotated = await service.call(service.keys.RotateKey, request, ada.principal)
    new_hash = hash_of(rotated.plain_key)
    assert rotated.key.key_id == created.key.key_id
    await eventually(lambda: told(service, new_hash))
    end_ms = service.clock.now_ms() + HOUR_S * 1_000
    assert newest(service, old_hash).expires_at_ms == end_ms
    assert newest(service, new_hash).expires_at_ms == 0
    # What changes later changes for both.
    await update(service, ada, created.key.key_id, "rpm_limit", rpm_limit=5)
    await eventually(lambda: newest(service, new_hash).version == 3)
    assert newest(service, old_hash).settings.rpm_limit == 5
    # Without grace, every older secret is gone at once.
    request = pb.RotateKeyRequest(key_id=created.key.key_id)
    last = await service.call(service.keys.RotateKey, request, ada.principal)
    await eventually(lambda: told(service, hash_of(last.plain_key)))
    await eventually(lambda: told(service, new_hash)[-1] is None)
    assert told(service, old_hash)[-1] is None


async def test_a_suspended_account_takes_all_its_keys_along(service: Service) -> None:
    ada = await service.sign_up()
    created = [await service.create_key(ada, f"k{number}") for number in range(3)]
    hashes = [hash_of(one.plain_key) for one in created]
    acting = operator(ada.principal.account_id)
    await service.call(
        service.accounts.SuspendAccount, accounts_pb2.SuspendAccountRequest(), acting
    )
    await eventually(lambda: all(newest(service, one).account_suspended for one in hashes))
    assert all(newest(service, one).version == 2 for one in hashes)
    # A change meanwhile does not let the key out.
    await update(service, ada, created[0].key.key_id, "label", label="renamed")
    await eventually(lambda: newest(service, hashes[0]).version == 3)
    assert newest(service, hashes[0]).account_suspended
    await service.call(service.accounts.ResumeAccount, accounts_pb2.ResumeAccountRequest(), acting)
    await eventually(lambda: not any(newest(service, one).account_suspended for one in hashes))


async def test_suspending_an_account_while_its_keys_change_leaves_none_working(
    service: Service,
) -> None:
    ada = await service.sign_up()
    created = [await service.create_key(ada, f"k{number}") for number in range(4)]
    suspend = service.call(
        service.accounts.SuspendAccount,
        accounts_pb2.SuspendAccountRequest(),
        operator(ada.principal.account_id),
    )
    changes = [
        update(service, ada, one.key.key_id, "rpm_limit", rpm_limit=number)
        for one in created
        for number in (1, 2)
    ]
    late = service.create_key(ada, "late")
    results = await asyncio.gather(*changes, suspend, late)
    hashes = [hash_of(one.plain_key) for one in [*created, results[-1]]]
    await eventually(lambda: all(told(service, one) for one in hashes))
    await eventually(lambda: all(newest(service, one).account_suspended for one in hashes))
    for one in hashes:
        versions = [state.version for state in told(service, one) if state]
        assert versions == sorted(set(versions))


async def test_the_messages_of_an_account_are_in_the_order_of_its_events(service: Service) -> None:
    ada = await service.sign_up()
    await asyncio.gather(*(service.create_key(ada, f"k{number}") for number in range(5)))

    def published() -> list[EventRecord]:
        records = [
            EventRecord.from_bytes(message.value)
            for message in service.log.messages("mesh.accounts.v1")
        ]
        return [one for one in records if one.account_id == ada.principal.account_id]

    await eventually(lambda: len(published()) == 9)
    rows = await service.pool.fetch(
        "SELECT event_id FROM events WHERE account_id = $1 ORDER BY global_position",
        ada.principal.account_id,
    )
    assert [record.event_id for record in published()] == [row["event_id"] for row in rows]


async def test_keys_are_listed_in_pages(service: Service) -> None:
    ada = await service.sign_up()
    created = []
    for number in range(5):
        created.append((await service.create_key(ada, f"k{number}")).key.key_id)
        await service.clock.advance(1)
    found, token = [], ""
    while True:
        page = common_pb2.PageRequest(page_size=2, page_token=token)
        request = pb.ListKeysRequest(page=page)
        answer = await service.call(service.keys.ListKeys, request, ada.principal)
        found += [one.key_id for one in answer.keys]
        token = answer.page.next_page_token
        if not token:
            break
    assert found == created


async def test_a_key_that_never_was_is_not_found(service: Service) -> None:
    ada = await service.sign_up()
    for method, request in (
        (service.keys.GetKey, pb.GetKeyRequest(key_id="key_none")),
        (service.keys.RotateKey, pb.RotateKeyRequest(key_id="key_none")),
        (service.keys.SuspendKey, pb.SuspendKeyRequest(key_id="")),
    ):
        with pytest.raises(NotFound):
            await service.call(method, request, ada.principal)
