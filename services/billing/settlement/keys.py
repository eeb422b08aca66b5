"""The caps that bind grants, taken over from the keys topic into the accounts' own streams; and the
limits that bind quotas, which are no money and stand in a table of their own.

The topic is keyed by the hash of a key, so after a rotation two messages speak of one key id, from
two partitions and in any order: the highest version of the key wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.billing import metrics
from services.billing.domain.book import Book
from services.billing.domain.events import CapWindow, KeyCapSet
from services.billing.domain.quotas import KeyLimits
from services.billing.ports import LedgerStore
from services.billing.quota_ports import QuotaStore
from services.billing.settlement.decode import ID_LENGTH_MAX, Unacceptable
from services.billing.settlement.settle import DeadLetterBox
from services.common.clock import Clock
from services.common.events import EventRecord, UndecodableEvent
from services.common.ids import AccountId, KeyId
from services.common.kafka import Batch, Claim, LogMessage
from services.common.pb.mesh.events.v1 import accounts_pb2


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
                await self._quotas.put_limits([limits_from_state(state) for state in read])
            states = [cap_from_state(state) for state in read]
            accounts = {state.account_id for state in states}
            await unit.ensure_wallets(accounts)
            book = Book(wallets=await unit.wallets(accounts))
            book.keys = await unit.keys({(state.account_id, state.key_id) for state in states})
            now_ms = self._clock.now_ms()
            for state in states:
                if state.key_version > book.key(state.account_id, state.key_id).version:
                    book.record(state, occurred_at_ms=now_ms)
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
    settings = state.settings
    if state.version < 1 or settings.spend_cap_nanousd < 0:
        raise Unacceptable("a version below 1 or a cap below 0")
    if min(settings.rpm_limit, settings.rpd_limit, settings.tpm_limit) < 0:
        raise Unacceptable("a rate limit below 0")
    try:
        CapWindow(settings.spend_cap_window or CapWindow.LIFETIME)
    except ValueError as error:
        raise Unacceptable(f"unknown cap window {settings.spend_cap_window}") from error
    return state


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
    )


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
    )
