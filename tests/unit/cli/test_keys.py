"""What `mesh admin keys` makes of its options."""

from __future__ import annotations

import pytest

from services.cli.admin.keys import KeyOptions, key_row, settings_of
from services.common.errors import InvalidArgument
from services.common.money import INT64_MAX
from services.common.pb.mesh.accounts.v1 import keys_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2

LIMITS = ("spend_cap_nanousd", "rpm_limit", "rpd_limit", "tpm_limit")


def test_options_that_are_not_given_change_nothing() -> None:
    assert settings_of(KeyOptions()) == (accounts_pb2.KeySettings(), [])


def test_each_option_sets_its_field_and_names_it_in_the_mask() -> None:
    options = KeyOptions(
        label="web",
        spend_cap="2.5",
        spend_cap_window="rolling_30_days",
        rpm="60",
        rpd="1000",
        tpm="0",
        default_model="a/b",
        default_params='{"temperature": 0}',
        routing_policy='{"retry":{"max_retries":0}}',
        allowed_models=" a/b, c/d ,",
        api_version="2026-09",
        response_cache=False,
        content_stored=True,
        team="tm_1",
        model_limits=["a/b=cap:0.5,window:day,rpm:3", "c/d=rpd:1,tpm:0"],
    )
    settings, mask = settings_of(options)
    assert settings == accounts_pb2.KeySettings(
        label="web",
        spend_cap_nanousd=2_500_000_000,
        spend_cap_window=common_pb2.CAP_WINDOW_ROLLING_30_DAYS,
        rpm_limit=60,
        rpd_limit=1000,
        tpm_limit=0,
        default_model="a/b",
        default_params_json='{"temperature": 0}',
        routing_policy_json='{"retry":{"max_retries":0}}',
        allowed_models=["a/b", "c/d"],
        api_version="2026-09",
        response_cache_disabled=True,
        content_stored=True,
        team_id="tm_1",
        model_limits=[
            accounts_pb2.ModelLimits(
                model_id="a/b",
                limits=accounts_pb2.Limits(
                    spend_cap_nanousd=500_000_000,
                    spend_cap_window=common_pb2.CAP_WINDOW_DAY,
                    rpm_limit=3,
                ),
            ),
            accounts_pb2.ModelLimits(
                model_id="c/d", limits=accounts_pb2.Limits(rpd_limit=1, tpm_limit=0)
            ),
        ],
    )
    assert settings.HasField("tpm_limit")
    known = {field.name for field in accounts_pb2.KeySettings.DESCRIPTOR.fields}
    assert set(mask) == known - {"expires_at_ms"}
    assert len(mask) == len(set(mask))


def test_none_takes_a_limit_away_by_naming_it_without_a_value() -> None:
    settings, mask = settings_of(KeyOptions(spend_cap="none", rpm="none", rpd="none", tpm="none"))
    assert mask == list(LIMITS)
    assert settings == accounts_pb2.KeySettings()


def test_an_empty_text_clears_what_it_names() -> None:
    settings, mask = settings_of(KeyOptions(default_model="", allowed_models=""))
    assert settings == accounts_pb2.KeySettings()
    assert mask == ["default_model", "allowed_models"]


@pytest.mark.parametrize("value", ["", "many", "1.5", "-1", str(INT64_MAX + 1), "9" * 40])
@pytest.mark.parametrize("field", ["rpm", "rpd", "tpm"])
def test_a_bad_limit_is_named(field: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field}: ") as caught:
        settings_of(KeyOptions(**{field: value}))  # type: ignore[arg-type]  # one name of three
    assert caught.value.details[0].loc == (field,)


@pytest.mark.parametrize("value", ["", "much", "nan", "inf", "1e400", "0.0000000001"])
def test_a_bad_spend_cap_is_named(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^spend_cap: "):
        settings_of(KeyOptions(spend_cap=value))


def test_a_key_without_a_cap_shows_neither_cap_nor_window() -> None:
    row = key_row(keys_pb2.Key(key_id="key_1"))
    assert (row["spend_cap_usd"], row["window"], row["expires_at"]) == (None, None, "")


def test_a_cap_of_zero_is_shown_as_one() -> None:
    settings = accounts_pb2.KeySettings(
        spend_cap_nanousd=0, spend_cap_window=common_pb2.CAP_WINDOW_DAY
    )
    row = key_row(keys_pb2.Key(settings=settings))
    assert (row["spend_cap_usd"], row["window"]) == ("0.00", "day")
