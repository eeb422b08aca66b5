"""The caps that bind grants, taken over from the keys topic into the accounts' own streams; and the
limits that bind quotas, which are no money and stand in tables of their own.

A key's state carries the limits of every scope that it is in, each with a version of its own: the
highest wins, from whichever key it comes.

The topic is keyed by the hash of a key, so after a rotation two messages speak of one key id, from
two partitions and in any order: the highest version of the key wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from services.billing import metrics
from services.billing.domain.book import Book
from services.billing.domain.events import CapWindow, KeyCapSet, ScopeCapSet
from services.billing.domain.quotas import KeyLimits, ScopeLimits
from services.billing.domain.scopes import is_model_id
from services.billing.domain.state import KeyAccount
from services.billing.ports import LedgerStore
from services.billing.quota_ports import QuotaStore
from services.billing.settlement.decode import ID_LENGTH_MAX, Unacceptable
from services.billing.settlement.settle import DeadLetterBox
from services.common import scopes
from services.common.clock import Clock
from services.common.events import EventRecord, UndecodableEvent
from services.common.ids import AccountId, KeyId
from services.common.kafka import Batch, Claim, LogMessage
from services.common.pb.mesh.events.v1 import accounts_pb2
from services.common.scopes import Scope


class KeyCaps:
    """The target of the keys pump."""

    def __init__(
        self,
        store: LedgerStore,
        dead_letters: DeadLetterBox,
        clock: Clock,
        *,
        quotas: QuotaStore | None = None,
    ) -> None:
        self._store = store
        self._quotas = quotas
        self._dead_letters = dead_letters
        self._clock = clock

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        """Where this owner goes on, partition by partition."""
        return await self._store.claim(topic, partitions)

    async def apply(self, batch: Batch) -> None:
        """Takes over one batch in one unit of work, as `UsageSettlement.apply` does."""
        async with self._store.unit() as unit:
            read = await self._decode(await unit.advance(batch))
            if not read:
                return
            if self._quotas is not None:
                # Before the batch is done, so that none is lost; twice is as good as once.
                await self._quotas.put_limits(
                    [limits_from_state(state) for state in read],
                    [limits for state in read for limits in scope_limits_from_state(state)],
                )
            states = [cap_from_state(state) for state in read]
            caps = [cap for state in read for cap in scope_caps_from_state(state)]
            accounts = {state.account_id for state in states}
            await unit.ensure_wallets(accounts)
            book = Book(wallets=await unit.wallets(accounts))
            book.keys = await unit.keys({(state.account_id, state.key_id) for state in states})
            book.scopes = await unit.scopes(
                {(cap.account_id, cap.scope) for cap in caps}
                | {ref for key in book.keys.values() for ref in _models_of(key)}
            )
            now_ms = self._clock.now_ms()
            for state in read:
                for event in changes_of(book, state):
                    book.record(event, occurred_at_ms=now_ms)
            if book.recorded:
                await unit.save(book)

    async def _decode(self, messages: Sequence[LogMessage]) -> list[accounts_pb2.KeyState]:
        states = []
        for message in messages:
            # A tombstone says that one hash is gone, not that the key's cap is.
            if message.value is None:
                continue
            try:
                states.append(state_from_message(message))
            except Unacceptable as error:
                metrics.ALARMS.labels("key_state").inc()
                await self._dead_letters.put(message, str(error))
        return states


def changes_of(book: Book, state: accounts_pb2.KeyState) -> Iterator[KeyCapSet | ScopeCapSet]:
    """What a key's state changes of what is known. Caps of models come with the key's settings:
    those that are not there any more are taken away.
    """
    cap = cap_from_state(state)
    key = book.key(cap.account_id, cap.key_id)
    moved = (cap.member_id, cap.team_id, cap.model_ids) != (
        key.member_id,
        key.team_id,
        key.model_ids,
    )
    for one in scope_caps_from_state(state):
        own = scopes.kind_of(one.scope) == "key_model"
        known = book.scope(one.account_id, one.scope)
        if not own and one.version > known.version:
            yield one
        same = (known.spend_cap_nanousd, known.window) == (one.spend_cap_nanousd, one.window)
        if own and cap.key_version >= key.version and not same:
            yield one
    if cap.key_version < key.version or (cap.key_version == key.version and not moved):
        return
    for account_id, scope in _models_of(key):
        if scopes.model_of(scope) not in cap.model_ids:
            yield ScopeCapSet(account_id, scope, None, CapWindow.LIFETIME, cap.key_version)
    yield cap


def _models_of(key: KeyAccount) -> list[tuple[AccountId, Scope]]:
    return [(key.account_id, scopes.key_model(key.key_id, model_id)) for model_id in key.model_ids]


def state_from_message(message: LogMessage) -> accounts_pb2.KeyState:
    """A key's state, with nothing in it that cannot be stored. Raises Unacceptable."""
    try:
        state = EventRecord.from_bytes(message.value).message()
    except UndecodableEvent as error:
        raise Unacceptable(str(error)) from error
    if not isinstance(state, accounts_pb2.KeyState):
        raise Unacceptable("not the state of a key")
    for value in (state.account_id, state.key_id):
        if not value or len(value) > ID_LENGTH_MAX or "\0" in value:
            raise Unacceptable("an account id or key id is not an id")
    for value in (state.user_id, state.settings.team_id):
        if len(value) > ID_LENGTH_MAX or not value.isprintable():
            raise Unacceptable("a user id or team id is not an id")
    settings = state.settings
    _check_scopes(state)
    if state.version < 1 or settings.spend_cap_nanousd < 0:
        raise Unacceptable("a version below 1 or a cap below 0")
    if min(settings.rpm_limit, settings.rpd_limit, settings.tpm_limit) < 0:
        raise Unacceptable("a rate limit below 0")
    _check_window(settings.spend_cap_window)
    return state


def _check_scopes(state: accounts_pb2.KeyState) -> None:
    for model in state.settings.model_limits:
        if not is_model_id(model.model_id):
            raise Unacceptable("limits of what is no model")
        _check_limits(model.limits)
    for one in state.scopes:
        kind, name = scopes.kind_of(one.scope), scopes.id_of(one.scope)
        known = kind in ("account", "account_model", "member", "team")
        if not known or len(name) > ID_LENGTH_MAX or not name.isprintable() or one.version < 1:
            raise Unacceptable(f"limits of what is no scope: {one.scope[:ID_LENGTH_MAX]!r}")
        _check_limits(one.limits)


def _check_limits(limits: accounts_pb2.Limits) -> None:
    values = (limits.spend_cap_nanousd, limits.rpm_limit, limits.rpd_limit, limits.tpm_limit)
    if min(values) < 0:
        raise Unacceptable("a limit of a scope below 0")
    _check_window(limits.spend_cap_window)


def _check_window(window: int) -> None:
    try:
        CapWindow(window or CapWindow.LIFETIME)
    except ValueError as error:
        raise Unacceptable(f"unknown cap window {window}") from error


def cap_from_message(message: LogMessage) -> KeyCapSet:
    """The cap that a key's message stands for. Raises Unacceptable."""
    return cap_from_state(state_from_message(message))


def limits_from_state(state: accounts_pb2.KeyState) -> KeyLimits:
    """The limits of requests and tokens that a key's state stands for."""
    settings = state.settings
    return KeyLimits(
        AccountId(state.account_id),
        KeyId(state.key_id),
        state.version,
        not (state.suspended or state.account_suspended),
        rpm=settings.rpm_limit if settings.HasField("rpm_limit") else None,
        rpd=settings.rpd_limit if settings.HasField("rpd_limit") else None,
        tpm=settings.tpm_limit if settings.HasField("tpm_limit") else None,
        member_id=state.user_id,
        team_id=settings.team_id,
        model_ids=tuple(sorted(one.model_id for one in settings.model_limits)),
    )


def scope_limits_from_state(state: accounts_pb2.KeyState) -> Iterator[ScopeLimits]:
    """The limits of requests and tokens of the scopes in a key's state."""
    for scope, limits, version in _scopes_in(state):
        yield ScopeLimits(
            AccountId(state.account_id),
            scope,
            version,
            rpm=limits.rpm_limit if limits.HasField("rpm_limit") else None,
            rpd=limits.rpd_limit if limits.HasField("rpd_limit") else None,
            tpm=limits.tpm_limit if limits.HasField("tpm_limit") else None,
        )


def scope_caps_from_state(state: accounts_pb2.KeyState) -> Iterator[ScopeCapSet]:
    """The caps of the scopes in a key's state."""
    for scope, limits, version in _scopes_in(state):
        yield ScopeCapSet(
            AccountId(state.account_id),
            scope,
            limits.spend_cap_nanousd if limits.HasField("spend_cap_nanousd") else None,
            CapWindow(limits.spend_cap_window or CapWindow.LIFETIME),
            version,
        )


def _scopes_in(
    state: accounts_pb2.KeyState,
) -> Iterator[tuple[Scope, accounts_pb2.Limits, int]]:
    for model in state.settings.model_limits:
        yield scopes.key_model(state.key_id, model.model_id), model.limits, state.version
    for one in state.scopes:
        yield Scope(one.scope), one.limits, one.version


def cap_from_state(state: accounts_pb2.KeyState) -> KeyCapSet:
    """The cap that a key's state stands for."""
    settings = state.settings
    cap = settings.spend_cap_nanousd if settings.HasField("spend_cap_nanousd") else None
    window = CapWindow(settings.spend_cap_window or CapWindow.LIFETIME)
    return KeyCapSet(
        AccountId(state.account_id),
        KeyId(state.key_id),
        cap,
        window,
        state.version,
        not (state.suspended or state.account_suspended),
        member_id=state.user_id,
        team_id=settings.team_id,
        model_ids=tuple(
            sorted(
                one.model_id
                for one in settings.model_limits
                if one.limits.HasField("spend_cap_nanousd")
            )
        ),
    )
