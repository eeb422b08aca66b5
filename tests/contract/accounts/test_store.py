"""What every store of accounts promises, kept by the one in memory and the one in PostgreSQL."""

from __future__ import annotations

import asyncio
import json

import pytest

from services.accounts.domain import key as keys
from services.accounts.domain import session as sessions
from services.accounts.domain import user as users
from services.accounts.domain.account import (
    AccountEvent,
    AccountOpened,
    AccountSuspended,
    MemberAdded,
    MemberRemoved,
)
from services.accounts.domain.credential import credentials
from services.accounts.domain.key import KeyEvent
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.limits import CapWindow, Limits, ModelLimits
from services.accounts.domain.roles import Role
from services.common.errors import ConcurrencyConflict, Conflict
from services.common.events import EventRecord
from services.common.ids import AccountId, SessionId, UserId
from services.common.pb.mesh.events.v1 import accounts_pb2
from tests.contract.accounts.conftest import StoreUnderTest
from tests.unit.accounts.builders import (
    ACCOUNT,
    ISSUED,
    KEY,
    NOW_MS,
    OPENED,
    OWNER,
    STAFFED,
    STRANGER,
    VIEWER,
    account_of,
    key_of,
)

OTHER = AccountId("acc_2")
SESSION = SessionId("ses_1")
SIGNED_UP = users.UserSignedUp(OWNER, "ada@example.com", "Ada", NOW_MS)
STARTED = sessions.SessionStarted(SESSION, OWNER, ACCOUNT, "browser", NOW_MS + 60_000, NOW_MS)
EVERY_SETTING = KeySettings(
    label="web",
    spend_cap_nanousd=10**18,
    spend_cap_window=CapWindow.ROLLING_30_DAYS,
    rpm_limit=10,
    rpd_limit=20,
    tpm_limit=30,
    default_model="openai/gpt",
    default_params_json='{"stop":["ä"]}',
    allowed_models=("a", "b"),
    expires_at_ms=NOW_MS + 5,
    model_limits=(ModelLimits("a", Limits(7, CapWindow.DAY, 1, None, 0)),),
    team_id="tm_1",
)
KEY_EVENTS: list[KeyEvent] = [
    *ISSUED,
    keys.KeyChanged(KEY, ACCOUNT, EVERY_SETTING, OWNER, NOW_MS + 1),
    keys.KeyRotated(KEY, ACCOUNT, "hash-2", "rsk_2", "hash-1", NOW_MS + 99, OWNER, NOW_MS + 2),
    keys.KeySuspended(KEY, ACCOUNT, OWNER, NOW_MS + 3),
]


async def test_what_was_appended_is_loaded_again(kept: StoreUnderTest) -> None:
    async with kept.store.transaction() as tx:
        assert await tx.account(ACCOUNT) is None
        written = (
            await tx.append_account(None, STAFFED),
            await tx.append_user(None, [SIGNED_UP], ACCOUNT),
            await tx.append_session(None, [STARTED]),
            await tx.append_key(None, KEY_EVENTS),
        )
    async with kept.store.transaction() as tx:
        loaded = (
            await tx.account(ACCOUNT),
            await tx.user(OWNER),
            await tx.session(SESSION),
            await tx.key(KEY),
        )
    assert loaded == written
    assert loaded[0] == account_of(STAFFED)
    assert loaded[3] == key_of(KEY_EVENTS)


async def test_the_list_of_keys_shows_the_same_states_as_their_streams(
    kept: StoreUnderTest,
) -> None:
    async with kept.store.transaction() as tx:
        await tx.append_account(None, OPENED)
        key = await tx.append_key(None, KEY_EVENTS)
    async with kept.store.transaction() as tx:
        assert await tx.keys_of_account(ACCOUNT) == [key]
        assert await tx.count_keys(ACCOUNT) == 1
        assert await tx.keys_of_account(OTHER) == []
        assert await tx.count_keys(OTHER) == 0


async def test_a_transaction_that_fails_leaves_no_trace(kept: StoreUnderTest) -> None:
    async def fail() -> None:
        async with kept.store.transaction() as tx:
            await tx.append_account(None, OPENED)
            await tx.append_user(None, [SIGNED_UP], ACCOUNT)
            await tx.set_password_hash(OWNER, "hash")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with kept.store.transaction() as tx:
        assert await tx.account(ACCOUNT) is None
        assert await tx.user_id_of_email("ada@example.com") is None
        assert await tx.password_hash(OWNER) is None
    assert await kept.outbox() == []
    assert await kept.audit() == []


async def test_a_decision_on_an_old_state_is_refused(kept: StoreUnderTest) -> None:
    suspended = [AccountSuspended(ACCOUNT, "", NOW_MS)]
    async with kept.store.transaction() as tx:
        old = await tx.append_account(None, OPENED)
    async with kept.store.transaction() as tx:
        await tx.append_account(old, suspended)
    with pytest.raises(ConcurrencyConflict):
        async with kept.store.transaction() as tx:
            await tx.append_account(old, suspended)
    with pytest.raises(ConcurrencyConflict):
        async with kept.store.transaction() as tx:
            await tx.append_account(None, OPENED)


async def test_an_address_has_one_user(kept: StoreUnderTest) -> None:
    async with kept.store.transaction() as tx:
        await tx.append_user(None, [SIGNED_UP], ACCOUNT)
    other = users.UserSignedUp(STRANGER, "ada@example.com", "Eve", NOW_MS)
    with pytest.raises(Conflict):
        async with kept.store.transaction() as tx:
            await tx.append_user(None, [other], OTHER)
    async with kept.store.transaction() as tx:
        assert await tx.user_id_of_email("ada@example.com") == OWNER


async def test_two_sign_ups_at_once_with_one_address_make_one_user(kept: StoreUnderTest) -> None:
    async def sign_up(name: str) -> None:
        signed_up = users.UserSignedUp(UserId(name), "ada@example.com", "Ada", NOW_MS)
        async with kept.store.transaction() as tx:
            await tx.append_user(None, [signed_up], ACCOUNT)

    results = await asyncio.gather(*(sign_up(f"usr_{n}") for n in range(5)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in results) == ["Conflict"] * 4 + ["NoneType"]


async def test_a_persons_accounts_come_longest_membership_first(kept: StoreUnderTest) -> None:
    later: list[AccountEvent] = [
        AccountOpened(OTHER, "Other", STRANGER, NOW_MS),
        MemberAdded(OTHER, STRANGER, Role.OWNER, STRANGER, NOW_MS),
        MemberAdded(OTHER, VIEWER, Role.ADMIN, STRANGER, NOW_MS + 9),
    ]
    async with kept.store.transaction() as tx:
        await tx.append_account(None, later)
        account = await tx.append_account(None, STAFFED)
    async with kept.store.transaction() as tx:
        assert await tx.accounts_of_user(VIEWER) == [ACCOUNT, OTHER]
        removed = MemberRemoved(ACCOUNT, VIEWER, OWNER, NOW_MS + 10)
        await tx.append_account(account, [removed])
        assert await tx.accounts_of_user(VIEWER) == [OTHER]
        assert await tx.accounts_of_user(UserId("usr_nobody")) == []


async def test_sessions_are_found_by_person_and_by_token(kept: StoreUnderTest) -> None:
    async with kept.store.transaction() as tx:
        session = await tx.append_session(None, [STARTED])
        await tx.set_session_token(SESSION, "token-hash")
    async with kept.store.transaction() as tx:
        assert await tx.sessions_of_user(OWNER) == [session]
        assert await tx.sessions_of_user(VIEWER) == []
        assert await tx.session_of_token("token-hash") == session
        assert await tx.session_of_token("other") is None
        ended = sessions.SessionEnded(SESSION, OWNER, "log_out", NOW_MS + 5)
        await tx.append_session(session, [ended])
        assert await tx.sessions_of_user(OWNER) == []


async def test_the_tokens_of_expired_sessions_are_forgotten(kept: StoreUnderTest) -> None:
    async with kept.store.transaction() as tx:
        await tx.append_session(None, [STARTED])
        await tx.set_session_token(SESSION, "token-hash")
        await tx.forget_expired_tokens(OWNER, STARTED.expires_at_ms - 1)
        assert await tx.session_of_token("token-hash") is not None
        await tx.forget_expired_tokens(OWNER, STARTED.expires_at_ms)
        assert await tx.session_of_token("token-hash") is None


async def test_a_password_hash_is_replaced(kept: StoreUnderTest) -> None:
    async with kept.store.transaction() as tx:
        await tx.set_password_hash(OWNER, "first")
    async with kept.store.transaction() as tx:
        await tx.set_password_hash(OWNER, "second")
        assert await tx.password_hash(OWNER) == "second"


async def test_messages_are_in_the_outbox_in_the_order_of_the_events(kept: StoreUnderTest) -> None:
    async with kept.store.transaction() as tx:
        await tx.append_user(None, [SIGNED_UP], ACCOUNT)
        account = await tx.append_account(None, OPENED)
        key = await tx.append_key(None, ISSUED)
        await tx.publish_keys(credentials(key, account), ["gone-hash"])
    rows = await kept.outbox()
    records = [EventRecord.from_bytes(value) for _, _, value in rows[:-1]]
    assert [(topic, key) for topic, key, _ in rows] == [
        *[("mesh.accounts.v1", ACCOUNT)] * 4,
        ("mesh.keys.v1", "hash-1"),
        ("mesh.keys.v1", "gone-hash"),
    ]
    assert [record.type.rpartition(".")[2] for record in records] == [
        "UserSignedUp", "AccountOpened", "MemberAdded", "KeyIssued", "KeyState",
    ]  # fmt: skip
    assert [(record.stream_id, record.stream_version) for record in records[:4]] == [
        (f"user:{OWNER}", 1),
        (f"account:{ACCOUNT}", 1),
        (f"account:{ACCOUNT}", 2),
        (f"key:{KEY}", 1),
    ]
    assert {record.account_id for record in records} == {ACCOUNT}
    assert rows[-1][2] is None


async def test_a_key_state_carries_all_that_a_gateway_needs(kept: StoreUnderTest) -> None:
    async with kept.store.transaction() as tx:
        account = await tx.append_account(None, OPENED)
        key = await tx.append_key(None, KEY_EVENTS)
        await tx.publish_keys(credentials(key, account), [])
    values = [value for topic, _, value in await kept.outbox() if topic == "mesh.keys.v1"]
    states = [EventRecord.from_bytes(value).message() for value in values]
    old, new = states
    assert isinstance(old, accounts_pb2.KeyState)
    assert isinstance(new, accounts_pb2.KeyState)
    assert (old.key_hash, old.expires_at_ms) == ("hash-1", NOW_MS + 5)
    assert (new.key_hash, new.expires_at_ms) == ("hash-2", NOW_MS + 5)
    assert (new.key_id, new.account_id, new.user_id) == (KEY, ACCOUNT, OWNER)
    assert (new.suspended, new.account_suspended, new.version) == (True, False, 4)
    assert new.settings.spend_cap_nanousd == 10**18
    assert list(new.settings.allowed_models) == ["a", "b"]


async def test_the_audit_trail_says_who_did_what_and_never_a_secret(kept: StoreUnderTest) -> None:
    async with kept.store.transaction() as tx:
        await tx.append_account(None, OPENED)
        await tx.append_key(None, KEY_EVENTS)
    trail = await kept.audit()
    assert [(row.type.rpartition(".")[2], row.actor, row.subject) for row in trail] == [
        ("AccountOpened", OWNER, ACCOUNT),
        ("MemberAdded", OWNER, OWNER),
        ("KeyIssued", OWNER, KEY),
        ("KeyChanged", OWNER, KEY),
        ("KeyRotated", OWNER, KEY),
        ("KeySuspended", OWNER, KEY),
    ]
    changed = json.loads(trail[3].details_json)["settings"]
    assert changed["rpm_limit"] == {"from": None, "to": 10}
    assert changed["spend_cap_window"] == {"from": "lifetime", "to": "rolling_30_days"}
    assert "label" not in changed
    assert not any("hash-" in row.details_json for row in trail)


async def test_transactions_that_hold_an_account_run_one_after_the_other(
    kept: StoreUnderTest,
) -> None:
    async with kept.store.transaction() as tx:
        await tx.append_account(None, OPENED)
        await tx.append_key(None, ISSUED)

    async def rename(number: int) -> None:
        async with kept.store.transaction() as tx:
            await tx.lock(ACCOUNT)
            key = await tx.key(KEY)
            assert key is not None
            settings = KeySettings(label=f"{key.settings.label}+{number}")
            await tx.append_key(key, [keys.KeyChanged(KEY, ACCOUNT, settings, OWNER, NOW_MS)])

    await asyncio.gather(*(rename(number) for number in range(6)))
    async with kept.store.transaction() as tx:
        key = await tx.key(KEY)
    assert key is not None
    # Nothing was lost: each saw what the one before had written.
    assert sorted(key.settings.label.split("+")[1:]) == list("012345")
    versions = [
        EventRecord.from_bytes(value).stream_version
        for topic, _, value in await kept.outbox()
        if topic == "mesh.accounts.v1"
    ]
    assert versions[3:] == [2, 3, 4, 5, 6, 7]
