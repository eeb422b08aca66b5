"""The counter at which workers draw quota: groups of calls, the wait for a key's settings."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing import metrics
from services.billing.domain.quotas import DrawQuota, Meter, QuotaRules, ReturnQuota
from services.billing.group_commit import GroupCommit
from services.billing.quota_handlers import (
    Lent,
    QuotaAnswer,
    QuotaCommand,
    Refused,
    Returned,
    read_account_meters,
    read_meters,
    run_quota_commands,
)
from services.billing.quota_ports import QuotaStore
from services.common.clock import Clock
from services.common.errors import AppError, InternalError
from services.common.ids import AccountId, KeyId
from services.common.telemetry import get_logger

log = get_logger(__name__)


class QuotaDesk:
    """Lends and takes back while `run` runs; Unavailable where the store is away.

    `fence_s` and `fence_poll_s` are as in `GrantDesk`.
    """

    def __init__(
        self,
        store: QuotaStore,
        clock: Clock,
        rules: QuotaRules,
        *,
        linger_s: float = 0.003,
        group_max: int = 256,
        waiting_max: int = 8_192,
        fence_s: float = 0.5,
        fence_poll_s: float = 0.025,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules
        self._fence_s = fence_s
        self._fence_poll_s = fence_poll_s
        self._groups: GroupCommit[QuotaCommand, QuotaAnswer] = GroupCommit(
            self._execute, linger_s=linger_s, size_max=group_max, waiting_max=waiting_max
        )

    async def run(self) -> None:
        """Writes groups until cancelled."""
        await self._groups.run()

    async def draw(self, command: DrawQuota) -> Lent | Refused:
        """A lease or the limit that binds. Raises Conflict, Unavailable."""
        deadline_s = self._clock.monotonic_s() + self._fence_s
        while True:
            answer = await self._submit(command)
            if isinstance(answer, Returned):
                raise InternalError("a draw was answered as a return")
            behind = isinstance(answer, Refused) and answer.refusal.behind
            if not behind or self._clock.monotonic_s() >= deadline_s:
                break
            await self._clock.sleep(self._fence_poll_s)
        if isinstance(answer, Refused):
            refusal = answer.refusal
            metrics.QUOTA_REFUSED.labels(refusal.limit, str(refusal.held).lower()).inc()
        else:
            metrics.QUOTA_LEASES.inc()
        return answer

    async def give_back(self, command: ReturnQuota) -> None:
        """Raises NotFound, Forbidden, Unavailable."""
        await self._submit(command)

    async def meters(
        self, account_id: AccountId, key_id: KeyId, model_id: str = ""
    ) -> tuple[tuple[Meter, ...], int]:
        """How far everything that limits the key is taken, and billing's time of that.

        Raises Unavailable.
        """
        return await read_meters(self._store, self._clock, (account_id, key_id), model_id=model_id)

    async def account_meters(self, account_id: AccountId) -> tuple[tuple[Meter, ...], int]:
        """How far the account's own limits are taken, and billing's time of that.

        Raises Unavailable.
        """
        return await read_account_meters(self._store, self._clock, account_id)

    async def _submit(self, command: QuotaCommand) -> Lent | Refused | Returned:
        answer = await self._groups.submit(command)
        if isinstance(answer, AppError):
            raise answer
        return answer

    async def _execute(self, commands: Sequence[QuotaCommand]) -> list[QuotaAnswer]:
        return await run_quota_commands(self._store, self._clock, commands, rules=self._rules)


class QuotaPruner:
    """Forgets windows and leases that are over, until cancelled."""

    def __init__(self, store: QuotaStore, clock: Clock, *, every_s: float, batch_max: int) -> None:
        self._store = store
        self._clock = clock
        self._every_s = every_s
        self._batch_max = batch_max

    async def run(self) -> None:
        """Prunes for ever; where the store is away it tries again at the next turn."""
        while True:
            try:
                while await self._store.prune(self._clock.now_ms(), self._batch_max):
                    pass
            except AppError as error:
                log.warning("quota_prune_failed", error=error.message)
            await self._clock.sleep(self._every_s)
