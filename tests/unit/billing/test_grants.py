"""Grants: how much is lent, why not, and how a loan ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.billing.domain.events import (
    CapWindow,
    GrantClosed,
    GrantExpired,
    GrantOpened,
    GrantRenewed,
    GrantResolved,
)
from services.billing.domain.grants import (
    CloseGrant,
    GrantRules,
    OpenGrant,
    OpenState,
    Refusal,
    RenewGrant,
    decide_close,
    decide_expire,
    decide_open,
    decide_renew,
    evolve,
    opened,
    settle,
)
from services.billing.domain.state import Grant, KeyAccount, Wallet
from services.common.errors import Conflict, Forbidden, NotFound
from services.common.ids import AccountId, GrantId, KeyId, WorkerId

ACCOUNT, KEY, WORKER, GRANT = AccountId("acc"), KeyId("key"), WorkerId("w1"), GrantId("gr")
RULES = GrantRules()
NOW = 1_000_000


def ask(needed: int, *, least: int = 0, wanted: int = 0, version: int = 1) -> OpenGrant:
    return OpenGrant(GRANT, WORKER, ACCOUNT, KEY, version, needed, least, wanted)


def state(
    posted: int,
    *,
    granted: int = 0,
    closing: int = 0,
    cap: int | None = None,
    spent: int = 0,
    active: bool = True,
) -> OpenState:
    wallet = Wallet(ACCOUNT, posted, granted, closing)
    key = KeyAccount(ACCOUNT, KEY, cap, CapWindow.LIFETIME, 1, active, spent, granted, closing)
    return OpenState(wallet, key, spent, None)


def decide(given: OpenState, request: OpenGrant) -> GrantOpened | Grant | Refusal:
    return decide_open(given, request, now_ms=NOW, rules=RULES)


def amount(given: OpenState, request: OpenGrant) -> int:
    decision = decide(given, request)
    assert isinstance(decision, GrantOpened), decision
    return decision.amount_nanousd


def refusal(given: OpenState, request: OpenGrant) -> Refusal:
    decision = decide(given, request)
    assert isinstance(decision, Refusal), decision
    return decision


def lent(amount_nanousd: int = 100) -> Grant:
    decision = decide(state(10_000), ask(amount_nanousd))
    assert isinstance(decision, GrantOpened)
    return opened(decision)


def close(spent: int, worker: str = "w1", account: str = "acc") -> CloseGrant:
    return CloseGrant(GRANT, WorkerId(worker), AccountId(account), spent)


def test_a_worker_gets_what_it_wants_while_that_is_a_small_part() -> None:
    assert amount(state(10_000), ask(10, wanted=500)) == 500


def test_a_grant_takes_at_most_an_eighth_unless_the_need_demands_more() -> None:
    assert amount(state(800), ask(10, wanted=500)) == 100
    assert amount(state(800), ask(700, wanted=900)) == 700


def test_the_whole_balance_can_be_lent_where_it_is_needed() -> None:
    assert amount(state(800), ask(800)) == 800


def test_a_smaller_grant_is_given_where_the_worker_can_do_with_less() -> None:
    assert amount(state(300), ask(800, least=200)) == 300


def test_less_than_the_least_is_refused() -> None:
    assert refusal(state(199), ask(800, least=200)) == Refusal("balance", False, 0, 199)


def test_the_key_cap_binds_before_the_balance() -> None:
    assert amount(state(10_000, cap=300, spent=100), ask(200, wanted=5_000)) == 200
    assert refusal(state(10_000, cap=300, spent=100), ask(201)) == Refusal("key_cap", False, 0, 200)


def test_what_open_grants_hold_is_said_to_be_held() -> None:
    held = refusal(state(1_000, granted=900), ask(500))
    assert held == Refusal("balance", True, RULES.retry_after_ms, 100)


def test_what_closed_grants_hold_is_gone_for_it_never_comes_back() -> None:
    assert refusal(state(1_000, granted=900, closing=900), ask(500)).held is False


def test_a_limit_whose_money_is_gone_is_named_before_one_that_is_only_held() -> None:
    given = state(10_000, granted=900, cap=1_000, spent=100)
    poor = replace(given, wallet=Wallet(ACCOUNT, 50, 0))
    assert refusal(poor, ask(500)).limit == "balance"
    assert refusal(poor, ask(500)).held is False


def test_a_cap_of_nothing_refuses_at_once_as_gone() -> None:
    assert refusal(state(10_000, cap=0), ask(1)) == Refusal("key_cap", False, 0, 0)
    assert refusal(state(10_000, granted=500, cap=0), ask(1)).held is False


def test_a_balance_below_zero_is_told_as_nothing() -> None:
    assert refusal(state(-5), ask(1)).available_nanousd == 0


def test_a_suspended_key_is_refused() -> None:
    assert refusal(state(10_000, active=False), ask(1)) == Refusal("key_inactive", False, 0, 0)


def test_an_unknown_key_or_an_older_version_is_worth_another_try() -> None:
    unknown = refusal(replace(state(10_000), key=None), ask(1))
    older = refusal(state(10_000), ask(1, version=2))
    assert unknown == older == Refusal("key_inactive", True, RULES.retry_after_ms, 0, behind=True)


def test_a_retry_of_an_opening_gives_the_same_grant() -> None:
    grant = lent()
    given = replace(state(0), grant=grant)
    assert decide(given, ask(100, version=7)) == grant


def test_the_same_grant_id_with_other_content_is_a_conflict() -> None:
    with pytest.raises(Conflict):
        decide(replace(state(10_000), grant=lent()), ask(101))


def test_a_grant_that_has_ended_is_not_given_again() -> None:
    grant = lent()
    ended = evolve(grant, GrantClosed(GRANT, ACCOUNT, 0, 100))
    with pytest.raises(Conflict, match="ended"):
        decide(replace(state(10_000), grant=ended), ask(100))


def test_a_close_returns_what_was_not_spent_and_keeps_the_rest_held() -> None:
    closed = decide_close(lent(), close(30))
    assert closed.returned_nanousd == 70
    assert closed.events == (GrantClosed(GRANT, ACCOUNT, 30, 70),)
    assert evolve(lent(), closed.events[0]).held_nanousd == 30


def test_a_close_after_settlement_returns_no_more_than_is_left() -> None:
    closed = decide_close(settle(lent(), 60), close(30))
    assert closed.returned_nanousd == 40


def test_a_close_resolves_where_everything_spent_is_settled() -> None:
    closed = decide_close(settle(lent(), 30), close(30))
    assert closed.events == (GrantClosed(GRANT, ACCOUNT, 30, 70), GrantResolved(GRANT, ACCOUNT, 30))


def test_a_worker_that_spent_more_than_it_had_gets_nothing_back() -> None:
    assert decide_close(lent(), close(130)).returned_nanousd == 0


def test_a_second_close_changes_nothing_and_is_answered_with_what_is_recorded() -> None:
    first = decide_close(lent(), close(30))
    grant = evolve(lent(), first.events[0])
    again, higher = decide_close(grant, close(30)), decide_close(grant, close(50))
    assert (again.returned_nanousd, again.events, again.disputed) == (70, (), False)
    assert (higher.returned_nanousd, higher.events, higher.disputed) == (70, (), True)


def test_only_the_worker_and_account_of_a_grant_may_close_it() -> None:
    with pytest.raises(Forbidden):
        decide_close(lent(), close(1, worker="w2"))
    with pytest.raises(NotFound):
        decide_close(lent(), close(1, account="other"))
    with pytest.raises(NotFound):
        decide_close(None, close(1))


def test_a_grant_expires_after_its_grace_and_not_before() -> None:
    grant = lent()
    lapse = grant.expires_at_ms + RULES.grace_ms
    assert decide_expire(grant, now_ms=lapse - 1, rules=RULES) == ()
    assert decide_expire(grant, now_ms=lapse, rules=RULES) == (GrantExpired(GRANT, ACCOUNT, 100),)


def test_an_expiry_returns_no_money() -> None:
    grant = evolve(lent(), GrantExpired(GRANT, ACCOUNT, 100))
    assert (grant.status, grant.held_nanousd) == ("unresolved", 100)


def test_a_worker_that_comes_back_closes_its_unresolved_grant() -> None:
    grant = evolve(lent(), GrantExpired(GRANT, ACCOUNT, 100))
    assert decide_close(grant, close(10)).returned_nanousd == 90


def test_an_expired_grant_that_is_settled_whole_is_resolved_at_once() -> None:
    grant = settle(lent(), 100)
    lapse = grant.expires_at_ms + RULES.grace_ms
    events = decide_expire(grant, now_ms=lapse, rules=RULES)
    assert events == (GrantExpired(GRANT, ACCOUNT, 0), GrantResolved(GRANT, ACCOUNT, 100))


def renew(
    number: int, *, needed: int = 0, least: int = 0, back: int = 0, worker: str = "w1"
) -> RenewGrant:
    return RenewGrant(GRANT, WorkerId(worker), ACCOUNT, number, 1, needed, least, 0, back)


def renewed(
    given: OpenState, grant: Grant, request: RenewGrant, *, now_ms: int = NOW + 60_000
) -> GrantRenewed | Grant | Refusal:
    return decide_renew(replace(given, grant=grant), request, now_ms=now_ms, rules=RULES)


def test_a_renewal_gives_a_whole_life_more_and_no_money() -> None:
    expires_at_ms = NOW + 60_000 + RULES.ttl_ms
    event = renewed(state(0), lent(), renew(1))
    assert event == GrantRenewed(GRANT, ACCOUNT, 1, 0, expires_at_ms)


def test_a_renewal_for_more_money_lends_by_the_same_limits_as_an_opening() -> None:
    given = state(1_000, granted=100)
    assert isinstance(more := renewed(given, lent(), renew(1, needed=900)), GrantRenewed)
    assert more.added_nanousd == 900
    assert isinstance(less := renewed(given, lent(), renew(1, needed=950, least=5)), GrantRenewed)
    assert less.added_nanousd == 900
    assert renewed(given, lent(), renew(1, needed=901)) == Refusal("balance", False, 0, 900)


def test_what_a_grant_holds_itself_is_not_held_by_others_when_it_grows() -> None:
    given = state(1_000, granted=300)
    assert renewed(given, lent(), renew(1, needed=900)) == Refusal(
        "balance", True, RULES.retry_after_ms, 700
    )
    assert renewed(given, lent(), renew(1, needed=901)) == Refusal("balance", False, 0, 700)


def test_a_suspended_key_gets_time_for_what_runs_and_no_more_money() -> None:
    given = state(1_000, active=False)
    assert isinstance(renewed(given, lent(), renew(1)), GrantRenewed)
    assert isinstance(renewed(given, lent(), renew(1, needed=1)), Refusal)


def test_the_same_renewal_again_changes_nothing_and_says_how_the_grant_is() -> None:
    event = renewed(state(1_000), lent(), renew(1, needed=50))
    assert isinstance(event, GrantRenewed)
    grant = evolve(lent(), event)
    assert (grant.amount_nanousd, grant.renewals) == (150, 1)
    assert renewed(state(1_000), grant, renew(1, needed=50)) == grant


def test_a_renewal_that_does_not_follow_is_a_conflict() -> None:
    with pytest.raises(Conflict):
        renewed(state(1_000), lent(), renew(2))


def test_money_given_back_lowers_the_grant_down_to_what_is_settled() -> None:
    grant = settle(lent(), 40)
    event = renewed(state(0), grant, renew(1, back=60))
    assert isinstance(event, GrantRenewed)
    assert evolve(grant, event).held_nanousd == 0
    with pytest.raises(Conflict):
        renewed(state(0), grant, renew(1, back=61))


def test_a_grant_is_never_given_back_to_the_last_nano_dollar() -> None:
    with pytest.raises(Conflict):
        renewed(state(0), lent(100), renew(1, back=100))


def test_a_grant_that_expired_unaccounted_for_is_open_again_once_its_worker_renews_it() -> None:
    grant = replace(lent(), status="unresolved")
    event = renewed(state(0), grant, renew(1))
    assert isinstance(event, GrantRenewed)
    assert evolve(grant, event).status == "open"


def test_a_grant_that_ended_or_is_anothers_cannot_be_renewed() -> None:
    for status in ("closed", "resolved", "written_off"):
        with pytest.raises(Conflict):
            renewed(state(0), replace(lent(), status=status), renew(1))
    with pytest.raises(Forbidden):
        renewed(state(0), lent(), renew(1, worker="w2"))
    with pytest.raises(NotFound):
        decide_renew(state(0), renew(1), now_ms=NOW, rules=RULES)
