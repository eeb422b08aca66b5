"""The counter at which workers ask for grants: groups of calls, the wait for a key's settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from services.billing import metrics
from services.billing.domain.book import KeyRef
from services.billing.domain.grants import (
    Closed,
    CloseGrant,
    GrantRules,
    OpenGrant,
    Refusal,
    RenewGrant,
)
from services.billing.domain.state import Grant
from services.billing.group_commit import GroupCommit
from services.billing.handlers import GrantAnswer, GrantCommand, run_grant_commands
from services.billing.ports import LedgerStore
from services.common.clock import Clock
from services.common.errors import AppError, InternalError
from services.common.ids import AccountId
from services.common.telemetry import get_logger

log = get_logger(__name__)


class GrantDesk:
    """Opens and closes grants while `run` runs; Unavailable where the store is away.

    `fence_s` is how long an opening waits for the version of the key by which its worker admitted
    the request; `fence_poll_s` how often it looks, in the store, since another replica may be the
    one that reads the keys.
    """

    def __init__(
        self,
        store: LedgerStore,
        clock: Clock,
        rules: GrantRules,
        *,
        linger_s: float,
        group_max: int,
        waiting_max: int,
        fence_s: float,
        fence_poll_s: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules
        self._fence_s = fence_s
        self._fence_poll_s = fence_poll_s
        self._groups: GroupCommit[GrantCommand, GrantAnswer] = GroupCommit(
            self._execute, linger_s=linger_s, size_max=group_max, waiting_max=waiting_max
        )

    async def run(self) -> None:
        """Writes groups until cancelled."""
        await self._groups.run()

    async def open(self, request: OpenGrant) -> Grant | Refusal:
        """A grant or the limit that binds. Raises Conflict, Unavailable."""
        answer = await self._lend(request)
        if not isinstance(answer, Refusal):
            metrics.GRANTS_OPENED.inc()
        return answer

    async def renew(self, request: RenewGrant) -> Grant | Refusal:
        """The grant as it is then, or the limit that binds. Raises NotFound, Forbidden, Conflict,
        Unavailable.
        """
        answer = await self._lend(request)
        if not isinstance(answer, Refusal):
            metrics.GRANTS_RENEWED.inc()
        return answer

    async def recalls(self, accounts: Collection[AccountId]) -> list[KeyRef]:
        """Where idle money is wanted now; an empty key id: anywhere in the account. Raises
        Unavailable.
        """
        return await self._store.recalls(accounts, self._clock.now_ms())

    async def close(self, request: CloseGrant) -> Closed:
        """What came back to the wallet. Raises NotFound, Forbidden, Unavailable."""
        answer = await self._submit(request)
        if not isinstance(answer, Closed):
            raise InternalError("a close was answered as an opening")
        if answer.disputed:
            metrics.ALARMS.labels("grant_close").inc()
            log.error(
                "grant_closed_otherwise_before",
                grant_id=request.grant_id,
                account_id=request.account_id,
                spent_nanousd=request.spent_nanousd,
            )
        return answer

    async def _lend(self, request: OpenGrant | RenewGrant) -> Grant | Refusal:
        """The answer, after a wait for the key's settings where these are behind the worker's."""
        deadline_s = self._clock.monotonic_s() + self._fence_s
        while True:
            answer = await self._submit(request)
            if isinstance(answer, Closed):
                raise InternalError("a loan was answered as a close")
            behind = isinstance(answer, Refusal) and answer.behind
            if not behind or self._clock.monotonic_s() >= deadline_s:
                break
            await self._clock.sleep(self._fence_poll_s)
        if isinstance(answer, Refusal):
            metrics.GRANTS_REFUSED.labels(answer.limit, str(answer.held).lower()).inc()
        return answer

    async def _submit(self, command: GrantCommand) -> Grant | Refusal | Closed:
        answer = await self._groups.submit(command)
        if isinstance(answer, AppError):
            raise answer
        return answer

    async def _execute(self, commands: Sequence[GrantCommand]) -> list[GrantAnswer]:
        metrics.GRANT_GROUP.observe(len(commands))
        return await run_grant_commands(self._store, self._clock, commands, rules=self._rules)
