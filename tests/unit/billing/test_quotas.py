"""The pure core of quotas: what is lent, what comes back, what a refusal says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.billing.domain.quotas import (
    DrawQuota,
    DrawState,
    KeyLimits,
    Lease,
    LeaseId,
    QuotaRefusal,
    QuotaRules,
    ReturnQuota,
    ScopeLimits,
    ScopeWindows,
    Window,
    decide_draw,
    decide_return,
    moved,
    window_end,
    window_start,
)
from services.common import scopes
from services.common.errors import Conflict, Forbidden, NotFound
from services.common.ids import AccountId, KeyId, WorkerId

ACCOUNT, KEY = AccountId("acc"), KeyId("key")
EMPTY = Window()
NOW_MS = 1_763_800_030_000
RULES = QuotaRules(ttl_ms=15_000, share_max=4, retry_after_ms=50)


def key(**limits: int | None) -> KeyLimits:
    return replace(KeyLimits(ACCOUNT, KEY, 3, True), **limits)  # type: ignore[arg-type]  # only limits


def draw(one: str = "ql_1", *, worker: str = "w1", **counts: int) -> DrawQuota:
    plain = DrawQuota(LeaseId(one), WorkerId(worker), ACCOUNT, KEY, 3, 1, 1, 0, 0)
    return replace(plain, **counts)  # type: ignore[arg-type]  # only counts


def give_back(
    lease: Lease, requests: int = 0, tokens: int = 0, revision: int = 1, worker: str = "w1"
) -> ReturnQuota:
    return ReturnQuota(lease.lease_id, WorkerId(worker), ACCOUNT, KEY, requests, tokens, revision)


def state(
    limits: KeyLimits | None,
    *leases: Lease,
    minute: Window = EMPTY,
    day: Window = EMPTY,
    before: Lease | None = None,
) -> DrawState:
    windows = (ScopeWindows(limits.own, minute, day),) if limits else ()
    return DrawState(limits, windows, leases, before)


def lent(decision: Lease | QuotaRefusal) -> Lease:
    assert isinstance(decision, Lease)
    return decision


def refused(decision: Lease | QuotaRefusal) -> QuotaRefusal:
    assert isinstance(decision, QuotaRefusal)
    return decision


def test_windows_are_the_utc_minute_and_day() -> None:
    midnight = 1_763_769_600_000
    assert window_start("day", midnight + 5) == midnight
    assert window_end("day", midnight) == midnight + 86_400_000
    assert window_start("minute", midnight + 59_999) == midnight
    assert window_end("minute", midnight + 59_999) == midnight + 60_000


def test_a_lease_is_a_share_of_what_is_left_and_shrinks_to_one_request() -> None:
    sizes = [
        lent(
            decide_draw(
                state(key(rpm=60), minute=Window(taken)),
                draw(wanted_requests=100),
                now_ms=NOW_MS,
                rules=RULES,
            )
        ).requests
        for taken in (0, 30, 50, 56, 59)
    ]
    assert sizes == [15, 7, 2, 1, 1]


def test_a_lease_takes_no_more_than_is_wanted_and_at_least_what_is_needed() -> None:
    asked = draw(wanted_requests=3, needed_tokens=700, wanted_tokens=700)
    lease = lent(decide_draw(state(key(rpm=60, tpm=1000)), asked, now_ms=NOW_MS, rules=RULES))
    assert (lease.requests, lease.tokens) == (3, 700)


def test_what_is_not_limited_is_not_counted() -> None:
    lease = lent(decide_draw(state(key(tpm=10)), draw(), now_ms=NOW_MS, rules=RULES))
    assert lease.requests is None
    assert lease.counted == Window(0, 0)
    lease = lent(decide_draw(state(key(rpm=10)), draw(), now_ms=NOW_MS, rules=RULES))
    assert (lease.requests, lease.tokens) == (1, None)


def test_a_lease_never_outlives_its_minute() -> None:
    late = window_end("minute", NOW_MS) - 100
    lease = lent(decide_draw(state(key(rpm=10)), draw(), now_ms=late, rules=RULES))
    assert lease.usable_until_ms == window_end("minute", NOW_MS)
    lease = lent(decide_draw(state(key(rpm=10)), draw(), now_ms=NOW_MS, rules=RULES))
    assert lease.usable_until_ms == NOW_MS + 15_000


def test_the_day_binds_as_well_as_the_minute() -> None:
    found = state(key(rpm=60, rpd=100), day=Window(100))
    refusal = refused(decide_draw(found, draw(), now_ms=NOW_MS, rules=RULES))
    assert (refusal.limit, refusal.limit_value, refusal.held) == ("rpd", 100, False)
    assert refusal.retry_after_ms == window_end("day", NOW_MS) - NOW_MS


def test_a_limit_of_zero_allows_nothing() -> None:
    refusal = refused(decide_draw(state(key(rpm=0)), draw(), now_ms=NOW_MS, rules=RULES))
    assert (refusal.limit, refusal.limit_value, refusal.held) == ("rpm", 0, False)
    assert refusal.retry_after_ms == window_end("minute", NOW_MS) - NOW_MS


def test_quota_under_leases_that_may_come_back_is_held_and_otherwise_gone() -> None:
    other = lent(
        decide_draw(state(key(rpm=4)), draw(wanted_requests=1), now_ms=NOW_MS, rules=RULES)
    )
    full = state(key(rpm=1), other, minute=Window(1))
    refusal = refused(decide_draw(full, draw("ql_2"), now_ms=NOW_MS, rules=RULES))
    assert (refusal.held, refusal.retry_after_ms) == (True, 50)
    # A worker that has not said anything since its lease lapsed is taken to have used it.
    lapsed = replace(full, leases=(replace(other, usable_until_ms=NOW_MS),))
    assert not refused(decide_draw(lapsed, draw("ql_2"), now_ms=NOW_MS, rules=RULES)).held
    used = replace(full, leases=(decide_return(other, give_back(other, requests=1)),))
    assert not refused(decide_draw(used, draw("ql_2"), now_ms=NOW_MS, rules=RULES)).held


def test_a_limit_that_was_lowered_lends_nothing_until_enough_came_back() -> None:
    plain = Lease(LeaseId("ql_0"), ACCOUNT, KEY, WorkerId("w2"), 5, None, NOW_MS, NOW_MS + 9, b"")
    other = replace(plain, scopes=(scopes.key(KEY),))
    found = state(key(rpm=10), other, minute=Window(30))
    assert not refused(decide_draw(found, draw(), now_ms=NOW_MS, rules=RULES)).held
    found = state(key(rpm=28), other, minute=Window(30))
    assert refused(decide_draw(found, draw(), now_ms=NOW_MS, rules=RULES)).held


def test_older_settings_than_the_workers_are_waited_for_and_a_suspended_key_gets_nothing() -> None:
    for known in (None, replace(key(rpm=5), version=2)):
        refusal = refused(decide_draw(state(known), draw(), now_ms=NOW_MS, rules=RULES))
        assert (refusal.limit, refusal.held, refusal.behind) == ("key_inactive", True, True)
    suspended = replace(key(rpm=5), active=False)
    refusal = refused(decide_draw(state(suspended), draw(), now_ms=NOW_MS, rules=RULES))
    assert (refusal.limit, refusal.held, refusal.behind) == ("key_inactive", False, False)


def test_a_draw_that_is_sent_again_gets_the_same_lease() -> None:
    lease = lent(decide_draw(state(key(rpm=5)), draw(), now_ms=NOW_MS, rules=RULES))
    again = state(key(rpm=5), lease, minute=lease.counted, before=lease)
    assert decide_draw(again, draw(), now_ms=NOW_MS + 1, rules=RULES) == lease
    with pytest.raises(Conflict):
        decide_draw(again, draw(wanted_requests=2), now_ms=NOW_MS, rules=RULES)
    ended = replace(again, before=decide_return(lease, give_back(lease)))
    with pytest.raises(Conflict):
        decide_draw(ended, draw(), now_ms=NOW_MS, rules=RULES)


def test_a_return_is_absolute_and_an_older_one_that_comes_late_changes_nothing() -> None:
    asked = draw(needed_requests=5, needed_tokens=500)
    lease = lent(decide_draw(state(key(rpm=5, tpm=500)), asked, now_ms=NOW_MS, rules=RULES))
    assert lease.counted == Window(5, 500)
    first = decide_return(lease, give_back(lease, 2, 300))
    assert first.counted == Window(2, 300)
    assert decide_return(first, give_back(lease, 2, 300)) == first
    second = decide_return(first, give_back(lease, 2, 90, revision=2))
    assert second.counted == Window(2, 90)
    assert decide_return(second, give_back(lease, 2, 300)) == second


def test_only_the_worker_that_drew_a_lease_returns_it() -> None:
    lease = lent(decide_draw(state(key(rpm=5)), draw(), now_ms=NOW_MS, rules=RULES))
    with pytest.raises(Forbidden):
        decide_return(lease, give_back(lease, worker="w2"))
    with pytest.raises(NotFound):
        decide_return(None, give_back(lease))
    with pytest.raises(NotFound):
        decide_return(lease, replace(give_back(lease), key_id=KeyId("another")))


@dataclass
class Counter:
    """A key with its windows over time: what a store keeps."""

    limits: KeyLimits
    windows: dict[tuple[str, int], Window] = field(default_factory=dict)
    leases: dict[LeaseId, Lease] = field(default_factory=dict)

    def window(self, kind: str, moment_ms: int) -> Window:
        start = window_start("day" if kind == "day" else "minute", moment_ms)
        return self.windows.get((kind, start), Window())

    def put(self, before: Lease | None, after: Lease) -> None:
        was, becomes = before.counted if before else Window(), after.counted
        minute = ("minute", window_start("minute", after.drawn_at_ms))
        day = ("day", window_start("day", after.drawn_at_ms))
        self.windows[minute] = moved(self.windows.get(minute, Window()), was, becomes)
        self.windows[day] = moved(
            self.windows.get(day, Window()), Window(was.requests), Window(becomes.requests)
        )
        self.leases[after.lease_id] = after


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("draw"), st.integers(1, 3), st.integers(0, 12), st.integers(0, 60)),
        st.tuples(st.just("return"), st.integers(0, 30), st.floats(0, 1), st.floats(0, 1)),
        st.tuples(st.just("wait"), st.integers(0, 20_000), st.none(), st.none()),
    ),
    max_size=60,
)
LIMIT = st.none() | st.integers(0, 40)


@given(rpm=LIMIT, rpd=LIMIT, tpm=LIMIT, share=st.integers(1, 8), steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_no_window_ever_lends_above_a_limit_and_nothing_returned_is_lost(
    rpm: int | None,
    rpd: int | None,
    tpm: int | None,
    share: int,
    steps: list[tuple[str, int, float, float]],
) -> None:
    counter = Counter(key(rpm=rpm, rpd=rpd, tpm=tpm))
    now_ms = NOW_MS
    rules = replace(RULES, share_max=share)
    for number, (step, first, second, third) in enumerate(steps):
        if step == "wait":
            now_ms += first
        elif step == "draw":
            asked = draw(
                f"ql_{number}",
                needed_requests=first,
                wanted_requests=int(second),
                needed_tokens=int(third),
                wanted_tokens=2 * int(third),
            )
            found = state(
                counter.limits,
                *counter.leases.values(),
                minute=counter.window("minute", now_ms),
                day=counter.window("day", now_ms),
            )
            decision = decide_draw(found, asked, now_ms=now_ms, rules=rules)
            if isinstance(decision, Lease):
                counter.put(None, decision)
        elif counter.leases:
            lease = list(counter.leases.values())[first % len(counter.leases)]
            used = give_back(
                lease,
                int((lease.requests or 0) * second),
                int(lease.counted.tokens * third),
                revision=lease.revision + 1,
            )
            counter.put(lease, decide_return(lease, used))
        for (kind, start), window in counter.windows.items():
            inside = [
                lease.counted
                for lease in counter.leases.values()
                if window_start("day" if kind == "day" else "minute", lease.drawn_at_ms) == start
            ]
            assert window.requests == sum(one.requests for one in inside)
            limit = rpd if kind == "day" else rpm
            assert limit is None or window.requests <= limit
            if kind == "minute":
                assert window.tokens == sum(one.tokens for one in inside)
                assert tpm is None or window.tokens <= tpm


def test_a_lease_takes_from_every_scope_that_limits_the_key_or_from_none() -> None:
    found = state(key(rpm=10))
    team = ScopeLimits(ACCOUNT, scopes.team("tm"), 1, rpm=8)
    account = ScopeLimits(ACCOUNT, scopes.ACCOUNT, 1, tpm=100)
    member = ScopeLimits(ACCOUNT, scopes.member("usr"), 1)
    windows = (*found.scopes, *(ScopeWindows(one) for one in (member, team, account)))
    found = replace(found, scopes=windows)
    lease = lent(decide_draw(found, draw(needed_tokens=7), now_ms=NOW_MS, rules=RULES))
    assert lease.scopes == (scopes.key(KEY), team.scope, account.scope)
    assert (lease.requests, lease.tokens) == (1, 7)
    full = replace(found, scopes=(*windows[:2], ScopeWindows(team, Window(8)), windows[3]))
    refusal = refused(decide_draw(full, draw(), now_ms=NOW_MS, rules=RULES))
    assert (refusal.scope, refusal.limit, refusal.limit_value) == (team.scope, "rpm", 8)
    assert not refusal.held


def test_what_another_keys_lease_holds_of_a_shared_scope_is_held_and_of_no_other() -> None:
    plain = Lease(LeaseId("ql_0"), ACCOUNT, KEY, WorkerId("w2"), 5, None, NOW_MS, NOW_MS + 9, b"")
    team = ScopeLimits(ACCOUNT, scopes.team("tm"), 1, rpm=5)
    found = DrawState(key(), (ScopeWindows(team, Window(5)),), (plain,), None)
    assert not refused(decide_draw(found, draw(), now_ms=NOW_MS, rules=RULES)).held
    inside = replace(plain, scopes=(team.scope,))
    found = replace(found, leases=(inside,))
    assert refused(decide_draw(found, draw(), now_ms=NOW_MS, rules=RULES)).held


def test_a_model_is_limited_by_its_scopes_only_where_it_is_named() -> None:
    limits = replace(key(), member_id="usr", team_id="tm", model_ids=("m",))
    assert limits.scopes() == ("member:usr", "team:tm", "account")
    assert limits.scopes("m") == (
        "key_model:key/m", "member:usr", "team:tm", "account_model:m", "account",
    )  # fmt: skip
    assert "key_model:key/other" not in limits.scopes("other")
