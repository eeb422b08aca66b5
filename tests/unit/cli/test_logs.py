"""What `mesh admin logs` filters by and prints."""

from __future__ import annotations

import re
import time

import pytest

from services.cli.admin.logs import brief_row, filter_of, full_row, show_live, since_ms
from services.common.errors import InvalidArgument
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import usage_pb2 as events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2


@pytest.mark.parametrize(
    ("since", "ago_s"), [("0s", 0), ("45s", 45), ("15m", 900), ("2h", 7_200), ("7d", 604_800)]
)
def test_a_duration_is_that_long_ago(since: str, ago_s: int) -> None:
    before = time.time()
    found_ms = since_ms(since)
    after = time.time()
    assert int((before - ago_s) * 1000) <= found_ms <= int((after - ago_s) * 1000)


@pytest.mark.parametrize("since", ["", "m", "15", "1w", "-1h", "1.5h", "15m ", "1h30m", "9" * 7])
def test_anything_else_is_no_duration(since: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(f"since: not a duration such as 15m, 2h or "
                                                        f"7d: {since!r}")):  # fmt: skip
        since_ms(since)


def test_a_filter_names_only_what_was_asked_for() -> None:
    assert filter_of(model=None, key=None, status=None, since=None) == usage_pb2.RequestFilter()
    assert filter_of(model="a/b", key="key_1", status=402, since=None) == usage_pb2.RequestFilter(
        model_ids=["a/b"], key_ids=["key_1"], http_statuses=[402]
    )


def test_a_refused_request_shows_the_model_that_was_asked_for() -> None:
    request = usage_pb2.LoggedRequest(
        requested_model="no/such", outcome=events_pb2.REQUEST_OUTCOME_REFUSED, http_status=404
    )
    row = brief_row(request)
    assert (row["model_id"], row["outcome"], row["received_at"]) == ("no/such", "refused", "")


def test_the_whole_of_a_request_is_told_in_words_and_exact_numbers() -> None:
    request = usage_pb2.LoggedRequest(
        model_id="a/b",
        outcome=events_pb2.REQUEST_OUTCOME_SUCCESS,
        usage_basis=events_pb2.USAGE_BASIS_PROVIDER,
        cost_nanousd=9_900,
        quantities=[common_pb2.TokenQuantity(kind=common_pb2.TOKEN_KIND_CACHED_PROMPT, tokens=7)],
        tags={"team": "search"},
        attempts=[
            events_pb2.Attempt(
                provider_id="p", upstream_model="m", http_status=502, error_code="bad", latency_ms=3
            )
        ],
    )
    row = full_row(request)
    assert (row["cost_usd"], row["cost_nanousd"]) == ("0.0000099", 9_900)
    assert row["tokens"] == {"cached_prompt": "7"}
    assert row["usage_basis"] == "provider"
    assert row["tags"] == {"team": "search"}
    assert row["attempts"] == ["p/m 502 bad 3 ms"]


@pytest.mark.parametrize("request_id", ["req_1", "[/]", "[link=http://x]y", "a\x1b[31m"])
def test_a_live_line_shows_a_callers_own_request_id_as_it_is(
    request_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_live(
        usage_pb2.LoggedRequest(request_id=request_id, http_status=200, received_at_ms=1), "line"
    )
    shown = capsys.readouterr().out
    assert request_id.replace("\x1b", "\ufffd") in shown
    assert shown.startswith("1970-01-01T00:00:00.001Z 200 ")
    assert shown.count("\n") == 1
