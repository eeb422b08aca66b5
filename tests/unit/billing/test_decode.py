"""From the wire: which messages become charges and caps, and which are put aside."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from services.billing.domain.events import CapWindow
from services.billing.settlement.decode import Unacceptable, charge_from_message
from services.billing.settlement.keys import (
    cap_from_message,
    limits_from_state,
    state_from_message,
)
from services.common.events import EventRecord, record_of
from services.common.kafka import LogMessage
from services.common.money import Price, Rate, TokenKind
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2, usage_pb2
from tests.fixtures.ledger import NOW_MS, PRICE, key_record, usage_record


def message(value: EventRecord | bytes | None) -> LogMessage:
    raw = value.to_bytes() if isinstance(value, EventRecord) else value
    return LogMessage("mesh.usage.v1", 0, 0, NOW_MS, b"acc_1", raw)


def test_a_usage_event_becomes_a_charge_at_its_pinned_price() -> None:
    record = usage_record(
        "use_1", account_id="acc_1", grant_id="gr_1", tokens=123, stated_nanousd=7
    )
    charge = charge_from_message(message(record))
    assert (charge.cost_nanousd, charge.stated_nanousd) == (123, 7)
    assert (charge.account_id, charge.key_id, charge.grant_id) == ("acc_1", "key_1", "gr_1")
    assert charge.price_version_id == PRICE.price_version_id
    assert charge.admitted_at_ms == NOW_MS
    assert charge.content_hash == hashlib.sha256(record.payload).digest()


def test_the_moment_of_arrival_stands_in_for_one_of_admission() -> None:
    record = usage_record("use_1", account_id="acc_1", admitted_at_ms=0, received_at_ms=NOW_MS - 1)
    assert charge_from_message(message(record)).admitted_at_ms == NOW_MS - 1


def test_a_request_fee_is_not_taken_for_what_is_not_billed() -> None:
    price = Price("pv_2", {TokenKind.COMPLETION: Rate(1)}, request_fee_nanousd=50)
    billed = usage_record("u", account_id="a", tokens=0, price=price)
    unbilled = usage_record("u", account_id="a", tokens=0, price=price, http_status=429)
    assert charge_from_message(message(billed)).cost_nanousd == 50
    assert charge_from_message(message(unbilled)).cost_nanousd == 0


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xff\xff",
        key_record("key_1", account_id="acc_1"),
        usage_record("", account_id="acc_1"),
        usage_record("use_1", account_id=""),
        usage_record("use\0", account_id="acc_1"),
        usage_record("use_1", account_id="a" * 201),
        usage_record("use_1", account_id="acc_1", grant_id="gr\0"),
        usage_record("use_1", account_id="acc_1", tokens=10**18, stated_nanousd=0),
        record_of(
            usage_pb2.UsageRecorded(usage_id="u", account_id="acc_1"),
            account_id="acc_2",
            occurred_at_ms=NOW_MS,
        ),
    ],
)
def test_what_cannot_be_booked_is_put_aside_with_a_reason(value: EventRecord | None) -> None:
    with pytest.raises(Unacceptable) as caught:
        charge_from_message(message(value))
    assert str(caught.value)


def test_a_newer_version_of_an_event_is_put_aside_and_not_guessed_at() -> None:
    newer = replace(usage_record("use_1", account_id="acc_1"), version=2)
    with pytest.raises(Unacceptable, match=r"version 2 of gateway\.UsageRecorded is newer"):
        charge_from_message(message(newer))


@pytest.mark.parametrize("tokens", [-1, -(10**12)])
def test_negative_quantities_are_put_aside(tokens: int) -> None:
    record = usage_record("use_1", account_id="acc_1", tokens=5, stated_nanousd=0)
    usage = record.message()
    assert isinstance(usage, usage_pb2.UsageRecorded)
    usage.quantities[0].tokens = tokens
    with pytest.raises(Unacceptable, match="negative"):
        charge_from_message(message(record_of(usage, account_id="acc_1", occurred_at_ms=NOW_MS)))


def test_a_keys_state_becomes_its_cap() -> None:
    record = key_record(
        "key_1",
        account_id="acc_1",
        cap_nanousd=0,
        window=common_pb2.CAP_WINDOW_MONTH,
        version=4,
    )
    cap = cap_from_message(message(record))
    assert (cap.spend_cap_nanousd, cap.window, cap.key_version, cap.active) == (
        0,
        CapWindow.MONTH,
        4,
        True,
    )


def test_a_key_without_a_cap_or_window_has_none_for_its_lifetime() -> None:
    cap = cap_from_message(message(key_record("key_1", account_id="acc_1", window=0)))
    assert (cap.spend_cap_nanousd, cap.window) == (None, CapWindow.LIFETIME)


@pytest.mark.parametrize("flag", ["suspended", "account_suspended"])
def test_a_suspended_key_or_account_makes_the_key_inactive(flag: str) -> None:
    record = key_record("key_1", account_id="acc_1", **{flag: True})  # type: ignore[arg-type]  # a flag
    assert not cap_from_message(message(record)).active


@pytest.mark.parametrize(
    "state",
    [
        accounts_pb2.KeyState(account_id="acc_1", version=1),
        accounts_pb2.KeyState(account_id="acc_1", key_id="k\0", version=1),
        accounts_pb2.KeyState(account_id="acc_1", key_id="k", version=0),
        accounts_pb2.KeyState(
            account_id="acc_1",
            key_id="k",
            version=1,
            settings=accounts_pb2.KeySettings(spend_cap_nanousd=-1),
        ),
    ],
)
def test_a_nonsensical_key_state_is_put_aside(state: accounts_pb2.KeyState) -> None:
    with pytest.raises(Unacceptable):
        cap_from_message(message(record_of(state, account_id="acc_1", occurred_at_ms=NOW_MS)))


def test_the_limits_of_a_key_are_none_where_absent_and_zero_where_nothing_is_allowed() -> None:
    settings = accounts_pb2.KeySettings(rpm_limit=0, tpm_limit=9)
    state = accounts_pb2.KeyState(
        key_hash="h", key_id="key_1", account_id="acc_1", settings=settings, version=3
    )
    record = record_of(state, account_id="acc_1", occurred_at_ms=NOW_MS)
    limits = limits_from_state(state_from_message(message(record)))
    assert (limits.rpm, limits.rpd, limits.tpm) == (0, None, 9)
    assert (limits.version, limits.active) == (3, True)
    settings.rpd_limit = -1
    state.settings.CopyFrom(settings)
    with pytest.raises(Unacceptable):
        state_from_message(message(record_of(state, account_id="acc_1", occurred_at_ms=NOW_MS)))
