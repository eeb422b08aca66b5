"""A random history of one account against an independent model in plain integers.

The model knows nothing of events: it keeps dictionaries of numbers and predicts what each step must
do to the money. After every step the invariants of the ledger are checked, and at the end the
recorded events are folded again from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.billing.domain import grants
from services.billing.domain.book import Book
from services.billing.domain.caps import DAY_MS, day_of, first_day
from services.billing.domain.events import (
    CapWindow,
    GrantOpened,
    GrantRenewed,
    GrantResolved,
    KeyCapSet,
    ScopeCapSet,
    TransactionPosted,
)
from services.billing.domain.grants import (
    CloseGrant,
    GrantRules,
    OpenGrant,
    OpenState,
    Refusal,
    RenewGrant,
)
from services.billing.domain.ledger import Draft, follows, post, transfer, wallet_account
from services.billing.domain.rooms import ScopeSpent
from services.billing.domain.scopes import scopes_of_key
from services.billing.domain.state import Wallet
from services.billing.domain.usage import UsageCharge, book_usage
from services.common import scopes
from services.common.errors import Conflict
from services.common.ids import AccountId, GrantId, KeyId, TransactionId, UsageId, WorkerId
from services.common.scopes import Scope

ACCOUNT, WORKER = AccountId("acc"), WorkerId("w1")
RULES = GrantRules(ttl_ms=60_000, grace_ms=10_000)
KEYS = st.sampled_from([KeyId("key_a"), KeyId("key_b")])
ALL_SCOPES = (scopes.ACCOUNT, scopes.team("a"), scopes.team("b"))
SCOPES = st.sampled_from(ALL_SCOPES)
MONEY = st.integers(0, 2_000)
START_MS = 1_763_800_000_000


@dataclass
class ModelGrant:
    """A grant as the auditor sees it."""

    key: KeyId
    amount: int
    expires_ms: int
    settled: int = 0
    returned: int = 0
    closed: bool = False
    lapsed: bool = False
    renewals: int = 0
    scopes: tuple[Scope, ...] = ()

    @property
    def held(self) -> int:
        return max(0, self.amount - self.returned - self.settled)


class LedgerMachine(RuleBasedStateMachine):
    """Steps of the world; `book` is ours, everything named `model` is the auditor's."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book(wallets={ACCOUNT: Wallet(ACCOUNT)})
        self.now_ms = START_MS
        self.serial = 0
        self.model_posted = 0
        self.model_grants: dict[GrantId, ModelGrant] = {}
        self.model_caps: dict[KeyId, tuple[int | None, CapWindow, bool]] = {}
        self.model_spend: list[tuple[KeyId, int, int]] = []
        # Of each key: its team; of each scope: its cap and window, and what was spent in it by day.
        self.model_teams: dict[KeyId, str] = {}
        self.model_scope_caps: dict[Scope, tuple[int | None, CapWindow]] = {}
        self.model_scope_spend: list[tuple[Scope, int, int]] = []

    def next(self) -> int:
        self.serial += 1
        return self.serial

    def model_window_spend(self, key: KeyId) -> int:
        window = self.model_caps[key][1]
        start = first_day(window, self.now_ms)
        return sum(n for who, day, n in self.model_spend if who == key and day >= start)

    @rule(amount=st.integers(1, 3_000))
    def credit(self, amount: int) -> None:
        draft = Draft(
            TransactionId(f"tx_{self.next()}"),
            ACCOUNT,
            f"credit:{self.serial}",
            "credit",
            transfer(amount, source="promo", target=wallet_account(ACCOUNT)),
            self.now_ms,
            self.now_ms,
        )
        self.book.record(post(self.book.wallets[ACCOUNT], draft), occurred_at_ms=self.now_ms)
        self.model_posted += amount

    def model_scopes(self, key: KeyId) -> tuple[Scope, ...]:
        """The scopes that lend a key's grant now, by the settings that the model has."""
        team = self.model_teams.get(key, "")
        return (*([scopes.team(team)] if team else []), scopes.ACCOUNT)

    def model_scope_left(self, found: tuple[Scope, ...]) -> list[int]:
        """What the caps of these scopes leave."""
        left = []
        for scope in found:
            cap, window = self.model_scope_caps.get(scope, (None, CapWindow.LIFETIME))
            if cap is not None:
                held = sum(one.held for one in self.model_grants.values() if scope in one.scopes)
                left.append(cap - self.model_spent_in(scope, window) - held)
        return left

    def model_spent_in(self, scope: Scope, window: CapWindow) -> int:
        start = first_day(window, self.now_ms)
        return sum(n for one, day, n in self.model_scope_spend if one == scope and day >= start)

    def lending(self, found: tuple[Scope, ...]) -> tuple[ScopeSpent, ...]:
        """The scopes as the book has them, with the model's word for what was spent."""
        return tuple(
            ScopeSpent(
                self.book.scope(ACCOUNT, scope),
                self.model_spent_in(scope, self.book.scope(ACCOUNT, scope).window),
            )
            for scope in found
        )

    @rule(scope=SCOPES, cap=st.none() | MONEY, window=st.sampled_from(CapWindow))
    def set_scope_cap(self, scope: Scope, cap: int | None, window: CapWindow) -> None:
        event = ScopeCapSet(ACCOUNT, scope, cap, window, self.next())
        self.book.record(event, occurred_at_ms=self.now_ms)
        self.model_scope_caps[scope] = (cap, window)

    @rule(
        key=KEYS,
        team=st.sampled_from(["", "a", "b"]),
        cap=st.none() | MONEY,
        window=st.sampled_from(CapWindow),
        active=st.sampled_from([True, True, True, False]),
    )
    def set_cap(
        self, key: KeyId, team: str, cap: int | None, window: CapWindow, active: bool
    ) -> None:
        event = KeyCapSet(ACCOUNT, key, cap, window, self.next(), active, team_id=team)
        self.book.record(event, occurred_at_ms=self.now_ms)
        self.model_teams[key] = team
        self.model_caps[key] = (cap, window, active)

    @rule(key=KEYS, needed=st.integers(1, 900), least=st.integers(0, 900), wanted=MONEY)
    def open(self, key: KeyId, needed: int, least: int, wanted: int) -> None:
        least = min(least, needed)
        grant_id = GrantId(f"gr_{self.next()}")
        request = OpenGrant(grant_id, WORKER, ACCOUNT, key, 0, needed, least, wanted)
        spent = self.model_window_spend(key) if key in self.model_caps else 0
        state = OpenState(
            self.book.wallets[ACCOUNT],
            self.book.keys.get((ACCOUNT, key)),
            spent,
            None,
            self.lending(scopes_of_key(self.book.key(ACCOUNT, key))),
        )
        decision = grants.decide_open(state, request, now_ms=self.now_ms, rules=RULES)
        held = sum(grant.held for grant in self.model_grants.values())
        limits = [self.model_posted - held]
        cap, _, active = self.model_caps.get(key, (None, CapWindow.LIFETIME, False))
        if cap is not None:
            mine = sum(grant.held for grant in self.model_grants.values() if grant.key == key)
            limits.append(cap - spent - mine)
        limits += self.model_scope_left(self.model_scopes(key))
        fits = active and min(limits) >= (least or needed)
        assert isinstance(decision, GrantOpened) == fits
        if isinstance(decision, GrantOpened):
            assert (least or needed) <= decision.amount_nanousd <= max(needed, wanted)
            assert decision.amount_nanousd <= min(limits)
            self.book.record(decision, occurred_at_ms=self.now_ms)
            assert decision.scopes == self.model_scopes(key)
            self.model_grants[grant_id] = ModelGrant(
                key, decision.amount_nanousd, decision.expires_at_ms, scopes=decision.scopes
            )
        else:
            assert isinstance(decision, Refusal)
            told = {max(0, limit) for limit in limits} if active else {0}
            assert decision.available_nanousd in told

    @precondition(lambda self: self.model_grants)
    @rule(data=st.data(), needed=st.just(0) | MONEY, least=MONEY, back=st.just(0) | MONEY)
    def renew(self, data: st.DataObject, needed: int, least: int, back: int) -> None:
        grant_id = data.draw(st.sampled_from(sorted(self.model_grants)))
        model = self.model_grants[grant_id]
        number = model.renewals + data.draw(st.sampled_from([0, 1, 1, 1, 2]))
        least = min(least, needed)
        request = RenewGrant(
            grant_id, WORKER, ACCOUNT, number, 0, needed, least, 0, 0 if needed else back
        )
        spent = self.model_window_spend(model.key) if model.key in self.model_caps else 0
        state = OpenState(
            self.book.wallets[ACCOUNT],
            self.book.keys.get((ACCOUNT, model.key)),
            spent,
            self.book.grants[grant_id],
            self.lending(model.scopes),
        )
        held = sum(grant.held for grant in self.model_grants.values())
        limits = [self.model_posted - held]
        cap, _, active = self.model_caps.get(model.key, (None, CapWindow.LIFETIME, False))
        if cap is not None:
            mine = sum(one.held for one in self.model_grants.values() if one.key == model.key)
            limits.append(cap - spent - mine)
        limits += self.model_scope_left(model.scopes)
        try:
            decision = grants.decide_renew(state, request, now_ms=self.now_ms, rules=RULES)
        except Conflict:
            ended = model.closed or (model.lapsed and model.held == 0)
            too_much = not needed and model.amount - back < max(1, model.settled)
            assert ended or number > model.renewals + 1 or too_much
            return
        if isinstance(decision, GrantRenewed):
            assert number == model.renewals + 1
            if needed:
                assert active
                assert (least or needed) <= decision.added_nanousd <= min(needed, *limits)
            else:
                assert decision.added_nanousd == -back
            self.book.record(decision, occurred_at_ms=self.now_ms)
            model.amount += decision.added_nanousd
            model.expires_ms, model.renewals, model.lapsed = decision.expires_at_ms, number, False
        elif isinstance(decision, Refusal):
            assert not active or min(limits) < (least or needed)
        else:
            assert number == model.renewals

    @precondition(lambda self: self.model_grants)
    @rule(data=st.data(), spent=MONEY)
    def close(self, data: st.DataObject, spent: int) -> None:
        grant_id = data.draw(st.sampled_from(sorted(self.model_grants)))
        model = self.model_grants[grant_id]
        request = CloseGrant(grant_id, WORKER, ACCOUNT, spent)
        closed = grants.decide_close(self.book.grants[grant_id], request)
        self.book.record_all(closed.events, occurred_at_ms=self.now_ms)
        resolved = model.lapsed and model.held == 0
        if not model.closed and not resolved:
            model.returned = max(0, model.amount - max(spent, model.settled))
            model.closed = True
        assert closed.returned_nanousd == model.returned

    @precondition(lambda self: self.model_caps)
    @rule(data=st.data(), cost=st.integers(1, 1_500), days_ago=st.integers(0, 40))
    def settle(self, data: st.DataObject, cost: int, days_ago: int) -> None:
        grant_id = data.draw(st.sampled_from(["", "gr_unknown", *sorted(self.model_grants)]))
        model = self.model_grants.get(GrantId(grant_id))
        key = model.key if model else data.draw(KEYS)
        admitted_ms = self.now_ms - days_ago * DAY_MS
        number = self.next()
        charge = UsageCharge(
            UsageId(f"use_{number}"),
            f"req_{number}",
            ACCOUNT,
            key,
            GrantId(grant_id),
            "model",
            "pv",
            admitted_ms,
            cost,
            cost,
            b"",
        )
        booked = book_usage(
            self.book,
            charge,
            transaction_id=TransactionId(f"tx_{number}"),
            booked_at_ms=self.now_ms,
        )
        assert booked.overrun == (cost > (model.held if model else 0))
        self.model_posted -= cost
        self.model_spend.append((key, day_of(admitted_ms), cost))
        # Where it was lent counts, wherever the key has been moved since.
        found = model.scopes if model else self.model_scopes(key)
        models = (scopes.key_model(key, "model"), scopes.account_model("model"))
        self.model_scope_spend += [
            (scope, day_of(admitted_ms), cost) for scope in (*found, *models)
        ]
        if model:
            model.settled += cost

    @rule(seconds=st.integers(1, 200_000))
    def time_passes(self, seconds: int) -> None:
        self.now_ms += seconds * 1000
        available = self.book.wallets[ACCOUNT].available_nanousd
        for grant_id, model in self.model_grants.items():
            events = grants.decide_expire(
                self.book.grants[grant_id], now_ms=self.now_ms, rules=RULES
            )
            self.book.record_all(events, occurred_at_ms=self.now_ms)
            over = self.now_ms >= model.expires_ms + RULES.grace_ms
            assert bool(events) == (over and not model.closed and not model.lapsed)
            model.lapsed = model.lapsed or bool(events)
        assert self.book.wallets[ACCOUNT].available_nanousd == available

    @invariant()
    def the_wallet_is_what_the_auditor_says(self) -> None:
        wallet = self.book.wallets[ACCOUNT]
        assert wallet.posted_nanousd == self.model_posted
        assert wallet.granted_nanousd == sum(grant.held for grant in self.model_grants.values())
        held = sum(grant.held_nanousd for grant in self.book.grants.values())
        assert wallet.granted_nanousd == held >= 0
        assert sum(self.book.totals.values()) == 0
        for key in self.model_caps:
            mine = sum(grant.held for grant in self.model_grants.values() if grant.key == key)
            assert self.book.key(ACCOUNT, key).granted_nanousd == mine
        for scope in (*ALL_SCOPES, scopes.key_model(KeyId("key_a"), "model")):
            inside = sum(one.held for one in self.model_grants.values() if scope in one.scopes)
            assert self.book.scope(ACCOUNT, scope).granted_nanousd == inside
            booked = sum(n for ref, n in self.book.scope_spend.items() if ref[1] == scope)
            assert booked == sum(n for one, _, n in self.model_scope_spend if one == scope)

    @invariant()
    def a_grant_resolves_once_and_then_holds_nothing(self) -> None:
        resolved = [
            recorded.event.grant_id
            for recorded in self.book.recorded
            if isinstance(recorded.event, GrantResolved)
        ]
        assert len(resolved) == len(set(resolved))
        for grant in self.book.grants.values():
            ended = grant.status in ("closed", "unresolved", "resolved")
            assert (grant.status == "resolved") == (ended and grant.held_nanousd == 0)

    def teardown(self) -> None:
        folded = Book()
        wallet = Wallet(ACCOUNT)
        for recorded in self.book.recorded:
            if isinstance(recorded.event, TransactionPosted):
                assert follows(wallet, recorded.event)
            folded.record(recorded.event, occurred_at_ms=recorded.occurred_at_ms)
            wallet = folded.wallets[ACCOUNT]
        if self.book.recorded:
            assert folded.wallets == self.book.wallets
        assert folded.grants == self.book.grants
        assert folded.keys == self.book.keys
        assert folded.day_spend == self.book.day_spend
        assert folded.scopes == self.book.scopes
        assert folded.scope_spend == self.book.scope_spend
        assert folded.totals == self.book.totals


LedgerMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, print_blob=True
)
test_a_random_history_keeps_every_invariant = LedgerMachine.TestCase
