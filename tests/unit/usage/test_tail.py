"""A tail gives what is wanted and in scope, and ends clearly when its reader is too slow."""

from __future__ import annotations

import pytest

from services.common.errors import RateLimitExceeded, Unavailable
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.sink.tail import TailHub
from tests.unit.usage.builders import row


async def test_a_tail_gives_wanted_rows_of_its_account_and_key_only() -> None:
    hub = TailHub()
    wanted = RequestFilter(any_of={"http_status": frozenset({200})})
    with hub.subscribe(Scope("acc_1", "key_1"), wanted) as tail:
        mine = row(1)
        hub.publish(
            [
                row(2, account_id="acc_2"),
                row(3, key_id="key_2"),
                row(4, http_status=500),
                mine,
            ]
        )
        assert await anext(tail.rows()) == mine
    assert hub.count == 0


async def test_an_operator_without_an_account_sees_all() -> None:
    hub = TailHub()
    with hub.subscribe(Scope(""), RequestFilter()) as tail:
        rows = [row(1), row(2, account_id="acc_2")]
        hub.publish(rows)
        stream = tail.rows()
        assert [await anext(stream), await anext(stream)] == rows


async def test_a_slow_reader_gets_what_was_queued_and_then_a_clear_error() -> None:
    hub = TailHub(queue_max=2)
    with hub.subscribe(Scope("acc_1"), RequestFilter()) as tail:
        rows = [row(1), row(2), row(3)]
        hub.publish(rows)
        stream = tail.rows()
        assert [await anext(stream), await anext(stream)] == rows[:2]
        with pytest.raises(RateLimitExceeded, match="2 rows behind"):
            await anext(stream)


async def test_a_stopping_service_ends_its_tails_after_what_is_queued() -> None:
    hub = TailHub()
    with hub.subscribe(Scope("acc_1"), RequestFilter()) as tail:
        hub.publish([row(1)])
        hub.close()
        stream = tail.rows()
        assert await anext(stream) == row(1)
        with pytest.raises(Unavailable, match="tail again"):
            await anext(stream)


async def test_too_many_tails_are_refused_and_closed_ones_make_room() -> None:
    hub = TailHub(subscribers_max=1)
    with hub.subscribe(Scope("acc_1"), RequestFilter()):
        with pytest.raises(RateLimitExceeded):
            with hub.subscribe(Scope("acc_1"), RequestFilter()):
                pass
    with hub.subscribe(Scope("acc_1"), RequestFilter()):
        assert hub.count == 1
