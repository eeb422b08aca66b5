"""Ending a task's work from outside, once, without ending the task."""

from __future__ import annotations

import asyncio
from types import TracebackType

from services.gateway.errors import ClientGone


class Interrupt:
    """A block that `trigger` leaves with ClientGone, as a time-out leaves its block with
    TimeoutError.

    Triggered before the block it keeps it from being entered; triggered afterwards it does nothing.
    It must be triggered from outside the task. A cancellation from elsewhere passes through as what
    it is.
    """

    __slots__ = ("_cancelled", "_task", "triggered")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False
        self.triggered = False

    def trigger(self) -> None:
        """The caller has hung up."""
        self.triggered = True
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def __enter__(self) -> None:
        if self.triggered:
            raise ClientGone("the caller hung up")
        self._task = asyncio.current_task()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if not self._cancelled:
            return
        assert task is not None
        others = task.uncancel()
        if others == 0 and (kind is None or issubclass(kind, asyncio.CancelledError)):
            raise ClientGone("the caller hung up") from error


class InterruptGroup:
    """Interrupts of several tasks that work for one caller."""

    __slots__ = ("_members", "triggered")

    def __init__(self) -> None:
        self._members: list[Interrupt] = []
        self.triggered = False

    def new(self) -> Interrupt:
        """One more; triggered already where the group is."""
        member = Interrupt()
        member.triggered = self.triggered
        self._members.append(member)
        return member

    def trigger(self) -> None:
        """The caller has hung up."""
        self.triggered = True
        for member in self._members:
            member.trigger()
