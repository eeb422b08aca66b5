"""The purse of leases: what it lets in, what it says was used."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.ids import AccountId, KeyId
from services.gateway.ports import QuotaTicket
from services.gateway.quota.ports import Lease, LeaseId
from services.gateway.quota.purse import QuotaPurse


def lease(
    one: str = "ql_1",
    *,
    requests: int | None = None,
    tokens: int | None = None,
    usable_s: float = 10.0,
) -> Lease:
    return Lease(LeaseId(one), requests, tokens, usable_s, 40.0, 4_000.0, ())


def purse(*leases: Lease) -> QuotaPurse:
    made = QuotaPurse(AccountId("acc"), KeyId("key"))
    for one in leases:
        made.add(one, asked_s=0.0)
    return made


def taken(found: QuotaTicket | None) -> QuotaTicket:
    assert found is not None
    return found


def test_it_lets_in_as_many_requests_as_were_lent() -> None:
    found = purse(lease(requests=2), lease("ql_2", requests=1))
    tickets = [taken(found.take(500, 1.0)) for _ in range(3)]
    assert found.take(500, 1.0) is None
    # Tokens are not limited, so none are set aside.
    assert [(ticket.lease_id, ticket.tokens) for ticket in tickets] == [
        ("ql_1", 0),
        ("ql_1", 0),
        ("ql_2", 0),
    ]
    found.settle(tickets[0], 40)
    # A request that has ended was let in all the same.
    assert found.take(1, 1.0) is None


def test_tokens_that_were_set_aside_and_not_used_are_free_again() -> None:
    found = purse(lease(tokens=100))
    first = taken(found.take(80, 1.0))
    assert found.take(30, 1.0) is None
    found.settle(first, 10)
    assert found.free(1.0) == (0, 90)
    taken(found.take(90, 1.0))
    assert found.free(1.0) == (0, 0)


def test_more_tokens_than_were_set_aside_are_taken_from_what_is_left() -> None:
    found = purse(lease(tokens=100))
    found.settle(taken(found.take(50, 1.0)), 120)
    assert found.take(1, 1.0) is None
    assert found.close(1.0, idle_s=9.0) == 1
    [held] = found.due(1.0)
    assert found.next_return(held).used_tokens == 120


def test_a_lease_gives_nothing_out_after_its_time() -> None:
    found = purse(lease(requests=5, usable_s=2.0))
    taken(found.take(0, 1.99))
    assert found.take(0, 2.0) is None
    assert found.free(2.0) == (0, 0)
    assert found.close(2.0, idle_s=9.0) == 1


def test_a_lease_is_closed_when_used_up_or_unused_for_a_while() -> None:
    found = purse(lease(requests=1), lease("ql_2", requests=5))
    assert found.close(0.1, idle_s=0.5) == 0
    taken(found.take(0, 0.2))
    assert found.close(0.3, idle_s=0.5) == 1
    assert found.close(0.49, idle_s=0.5) == 0
    assert found.close(0.5, idle_s=0.5) == 1
    assert found.take(0, 0.5) is None
    returns = [found.next_return(held) for held in found.due(0.5)]
    assert [(one.lease_id, one.used_requests, one.revision) for one in returns] == [
        ("ql_1", 1, 1),
        ("ql_2", 0, 1),
    ]


def test_figures_are_corrected_while_the_minute_lasts_and_then_forgotten() -> None:
    found = purse(lease(tokens=100))
    ticket = taken(found.take(80, 1.0))
    found.close(1.0, idle_s=0.0)
    [held] = found.due(1.0)
    assert found.next_return(held).used_tokens == 80
    held.reported = (1, 80)
    assert found.due(1.0) == []
    found.forget(1.0)
    assert not found.empty
    found.settle(ticket, 7)
    assert found.due(39.9, corrections=False) == []
    [held] = found.due(39.9)
    again = found.next_return(held)
    assert (again.used_tokens, again.revision) == (7, 2)
    # Tokens are counted by the minute.
    assert found.due(40.0) == []
    found.forget(40.0)
    assert found.empty


def test_requests_that_billing_has_not_heard_of_are_due_as_long_as_the_day_lasts() -> None:
    found = purse(lease(requests=5))
    found.close(1.0, idle_s=0.0)
    assert found.due(3_999.0)
    assert not found.due(4_000.0)


def test_a_ticket_ends_once() -> None:
    found = purse(lease(requests=5))
    ticket = taken(found.take(0, 1.0))
    found.settle(ticket, 0)
    with pytest.raises(AssertionError, match="ended already"):
        found.settle(ticket, 0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "settle", "close", "wait"]), st.integers(0, 50)),
    max_size=80,
)


@given(
    sizes=st.lists(
        st.tuples(st.none() | st.integers(0, 9), st.none() | st.integers(0, 99)), max_size=4
    ),
    steps=STEPS,
)
@settings(max_examples=200, deadline=None)
def test_what_is_let_in_never_exceeds_what_was_lent_and_every_figure_adds_up(
    sizes: list[tuple[int | None, int | None]], steps: list[tuple[str, int]]
) -> None:
    leases = [
        lease(f"ql_{number}", requests=requests, tokens=tokens)
        for number, (requests, tokens) in enumerate(sizes)
    ]
    found = purse(*leases)
    now_s = 0.0
    running: list[QuotaTicket] = []
    let_in: dict[str, int] = {}
    spent: dict[str, int] = {}
    for step, size in steps:
        if step == "wait":
            now_s += size / 20
        elif step == "close":
            found.close(now_s, idle_s=size / 10)
        elif step == "settle" and running:
            ticket = running.pop(size % len(running))
            actual = min(size, ticket.tokens)
            found.settle(ticket, actual)
            spent[ticket.lease_id] = spent.get(ticket.lease_id, 0) + actual
        elif step == "take":
            ticket_or_none = found.take(size, now_s)
            if ticket_or_none is not None:
                running.append(ticket_or_none)
                name = ticket_or_none.lease_id
                let_in[name] = let_in.get(name, 0) + 1
        for one in leases:
            reserved = sum(ticket.tokens for ticket in running if ticket.lease_id == one.lease_id)
            assert one.requests is None or let_in.get(one.lease_id, 0) <= one.requests
            assert one.tokens is None or spent.get(one.lease_id, 0) + reserved <= one.tokens
    found.close(now_s, idle_s=0.0)
    for held in found.due(now_s):
        said = found.next_return(held)
        reserved = sum(ticket.tokens for ticket in running if ticket.lease_id == said.lease_id)
        assert said.used_requests == let_in.get(said.lease_id, 0)
        if held.tokens is not None:
            assert said.used_tokens == spent.get(said.lease_id, 0) + reserved
