"""From messages of the services to what the panel says, and from a body to a message."""

from __future__ import annotations

import pytest

from services.common.errors import InvalidArgument
from services.common.pb.mesh.accounts.v1 import keys_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2, ledger_pb2, usage_pb2
from services.common.pb.mesh.events.v1 import catalog_pb2 as catalog_events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2 as log_pb2
from services.dashboard.api.accounts import settings_pb
from services.dashboard.api.models import KeyChange, KeySettingsIn
from services.dashboard.api.session import csrf_token
from services.dashboard.api.translate import (
    key_out,
    model_out,
    moment,
    request_out,
    transaction_out,
)


def test_a_moment_is_in_utc_and_zero_means_never() -> None:
    assert moment(0) is None
    assert moment(1_767_225_601_007) == "2026-01-01T00:00:01.007Z"


def test_a_limit_that_is_absent_is_null_and_one_of_zero_is_zero() -> None:
    settings = accounts_pb2.KeySettings(
        rpm_limit=0, spend_cap_nanousd=0, spend_cap_window=common_pb2.CAP_WINDOW_DAY
    )
    out = key_out(keys_pb2.Key(key_id="key_1", settings=settings), None)
    assert (out.rpm_limit, out.rpd_limit, out.tpm_limit) == (0, None, None)
    assert (out.spend_cap_usd, out.spend_cap_window) == ("0.00", "day")
    assert (out.spent_usd, out.held_usd, out.expires_at) == ("0.00", "0.00", None)


def test_money_is_exact() -> None:
    spend = billing_pb2.KeySpend(spent_nanousd=2**63 - 1, granted_nanousd=1)
    settings = accounts_pb2.KeySettings(spend_cap_window=common_pb2.CAP_WINDOW_LIFETIME)
    out = key_out(keys_pb2.Key(settings=settings), spend)
    assert (out.spent_usd, out.held_usd) == ("9223372036.854775807", "0.000000001")


def test_a_transaction_shows_what_it_did_to_the_wallet_of_its_account() -> None:
    entries = [
        ledger_pb2.LedgerEntry(ledger_account="wallet:acc_1", amount_nanousd=-5),
        ledger_pb2.LedgerEntry(ledger_account="revenue", amount_nanousd=5),
    ]
    posted = ledger_pb2.TransactionPosted(account_id="acc_1", entries=entries, booked_at_ms=1)
    assert transaction_out(posted).amount_usd == "-0.000000005"


def test_a_refused_request_shows_the_model_that_was_asked_for() -> None:
    row = log_pb2.LoggedRequest(
        requested_model="no/such", outcome=usage_pb2.REQUEST_OUTCOME_REFUSED, received_at_ms=1
    )
    out = request_out(row)
    assert (out.model_id, out.outcome, out.cost_usd) == ("no/such", "refused", "0.00")


def test_a_model_without_a_price_is_neither_free_nor_priced() -> None:
    able = catalog_events_pb2.ModelCapabilities(streaming=True, tools=False)
    out = model_out(catalog_pb2.Model(settings=catalog_events_pb2.ModelSettings(capabilities=able)))
    assert (out.is_free, out.prompt_usd_per_1m, out.capabilities) == (False, None, ["streaming"])


def test_a_model_names_every_provider_that_serves_it_once() -> None:
    places = [catalog_events_pb2.Deployment(provider_id=name) for name in ("b", "a", "b")]
    settings = catalog_events_pb2.ModelSettings(provider_id="a", deployments=places)
    assert model_out(catalog_pb2.Model(settings=settings)).providers == ["a", "b"]
    nobody = catalog_events_pb2.ModelSettings()
    assert model_out(catalog_pb2.Model(settings=nobody)).providers == []


def test_a_body_becomes_settings_in_which_absent_limits_stay_absent() -> None:
    settings = settings_pb(KeySettingsIn(label="web", spend_cap_usd="0.5", rpm_limit=0))
    assert settings == accounts_pb2.KeySettings(
        label="web",
        spend_cap_nanousd=500_000_000,
        spend_cap_window=common_pb2.CAP_WINDOW_LIFETIME,
        rpm_limit=0,
    )
    assert not settings.HasField("tpm_limit")


def test_a_change_tells_null_from_absent() -> None:
    change = KeyChange.model_validate({"rpm_limit": None})
    assert change.model_fields_set == {"rpm_limit"}
    assert not settings_pb(change).HasField("rpm_limit")


@pytest.mark.parametrize("text", ["", "a lot", "NaN", "-Infinity", "1e400", "0.0000000001"])
def test_an_amount_that_is_none_names_its_field(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^spend_cap_usd: "):
        settings_pb(KeyChange(spend_cap_usd=text))


def test_the_csrf_token_depends_on_the_session_and_on_the_secret() -> None:
    tokens = {csrf_token(secret, session) for secret in ("a", "b") for session in ("x", "y")}
    assert len(tokens) == 4
    assert csrf_token("a", "x") in tokens
