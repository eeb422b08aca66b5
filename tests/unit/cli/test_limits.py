"""What `mesh admin limits set` makes of its options."""

from __future__ import annotations

import pytest

from services.cli.admin.keys import model_limits_of
from services.cli.admin.limits import LimitOptions, limits_of, limits_row
from services.common.errors import InvalidArgument
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2

BEFORE = accounts_pb2.Limits(
    spend_cap_nanousd=5, spend_cap_window=common_pb2.CAP_WINDOW_DAY, rpm_limit=1, tpm_limit=2
)


def test_what_is_not_named_stays_and_none_takes_away() -> None:
    found = limits_of(BEFORE, LimitOptions(spend_cap="2.5", rpm="none", rpd="0"))
    assert found == accounts_pb2.Limits(
        spend_cap_nanousd=2_500_000_000,
        spend_cap_window=common_pb2.CAP_WINDOW_DAY,
        rpd_limit=0,
        tpm_limit=2,
    )
    assert limits_of(found, LimitOptions()) == found
    taken = limits_of(found, LimitOptions(spend_cap="none", tpm="none", spend_cap_window="month"))
    assert not taken.HasField("spend_cap_nanousd")
    assert taken.spend_cap_window == common_pb2.CAP_WINDOW_MONTH


@pytest.mark.parametrize("name", ["spend_cap", "rpm", "rpd", "tpm"])
def test_a_limit_that_is_no_number_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        limits_of(BEFORE, LimitOptions(**{name: "many"}))  # type: ignore[arg-type]  # one of the limits
    assert [error.loc for error in refused.value.details] == [(name,)]


def test_a_row_shows_what_is_set_and_nothing_else() -> None:
    row = limits_row("team:tm_1", BEFORE)
    assert (row["scope"], row["window"], row["rpm"], row["rpd"]) == ("team:tm_1", "day", 1, None)
    assert limits_row("account", accounts_pb2.Limits(rpm_limit=0))["rpm"] == 0
    assert limits_row("account", accounts_pb2.Limits())["spend_cap_usd"] is None


@pytest.mark.parametrize("text", ["m=cap:x", "m=window:year", "m=rpm:-1", "m=speed:3", "m", "m="])
def test_limits_of_a_model_that_say_something_else_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="model_limits"):
        model_limits_of(text)
