"""An event loop without a clock, threads or IO: time jumps to the next timer.

Every handle belongs to the process in whose context it was made. A process that is killed simply
never runs again: no `finally`, no cancellation, exactly what `kill -9` leaves.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Killed(BaseException):
    """Thrown through the code of a process that dies in the middle of a call."""


class Stuck(Exception):
    """Nothing can happen any more, or far too much does."""


class Process:
    """One operating system process, from its start to its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        # Kept until the run is over: a coroutine that is collected would run its `finally`.
        self.tasks: list[asyncio.Task[Any]] = []  # Any: results of all kinds
        self.on_death: list[Callable[[], None]] = []

    def check(self) -> None:
        """Raises Killed where the process is dead."""
        if not self.alive:
            raise Killed(self.name)


# Whatever outlives every process: wires, brokers, supervisors.
NETWORK = Process("network")
PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process", default=NETWORK)


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs handles in order; `step` counts them. Threads are refused, executors run inline."""

    _ready: deque[asyncio.Handle]

    def __init__(self, *, steps_max: int) -> None:
        super().__init__()
        self._now_s = 0.0
        # By moment, and by the order in which they were set.
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_set = 0
        self._steps_max = steps_max
        self.step = 0
        # What a thread would do takes this long, by the seed.
        self.executor_delay: Callable[[], tuple[float, bool]] = lambda: (0.0, True)
        self.failures: list[str] = []
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now_s

    def jump(self, seconds: float) -> None:
        """Time that passes for everybody at once, as when a machine sleeps."""
        self._now_s += seconds

    def create_task(  # type: ignore[override]  # coroutines alone
        self,
        coro: Coroutine[Any, Any, T],  # Any: of any coroutine
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """A task that its process keeps for as long as the run lasts."""
        process = PROCESS.get() if context is None else context.get(PROCESS, NETWORK)
        assert process is not None
        task = asyncio.Task(
            coro, loop=self, name=None if name is None else str(name), context=context
        )
        process.tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]  # the futures are of this loop
        self,
        executor: Any,  # Any: no executor is ever used
        func: Callable[..., T],
        *args: Any,  # Any: whatever the function takes
    ) -> asyncio.Future[T]:
        """The call takes effect at its beginning or at its end, and its answer takes time."""
        process = PROCESS.get()
        future: asyncio.Future[T] = self.create_future()
        delay_s, at_once = self.executor_delay()
        answer = _answer_of(process, func, args) if at_once else None

        def finish() -> None:
            value, error = answer or _answer_of(process, func, args)
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)  # type: ignore[arg-type]  # a value where no error is

        self.call_later(delay_s, finish)
        return future

    def call_soon(  # type: ignore[override]  # without the types of the arguments
        self,
        callback: Callable[..., object],
        *args: Any,  # Any: whatever it takes
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As the base does it, without its checks."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]  # as above
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,  # Any: whatever it takes
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As the base does it, with timers that are cheap to compare."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_set += 1
        heapq.heappush(self._timers, (when, self._timers_set, timer))
        return timer

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Stuck("nobody has anything to do")
            self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.cancelled():
                continue
            process = handle._context.get(PROCESS)  # type: ignore[attr-defined]  # of asyncio
            if process is None or process.alive:
                self.step += 1
                handle._run()
        if self.step > self._steps_max:
            raise Stuck(f"no end after {self.step} steps")

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is no selector to be woken."""

    def _failed(
        self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]
    ) -> None:  # Any: asyncio's
        error = context.get("exception")
        if not isinstance(error, Killed) and error is not None:
            self.failures.append(f"{context.get('message')}: {error!r}")


def spawn(
    process: Process,
    work: Coroutine[Any, Any, T],
    name: str = "",  # Any: of any coroutine
) -> asyncio.Task[T]:
    """A task of that process."""
    context = contextvars.copy_context()
    context.run(PROCESS.set, process)
    return asyncio.get_running_loop().create_task(work, name=name or None, context=context)


def call_in(process: Process, call: Callable[..., object], *args: object) -> None:
    """Calls something in the context of a process, now; a process that dies of it is just dead."""
    if process.alive:
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        try:
            context.run(call, *args)
        except Killed:
            return


def _answer_of(
    process: Process,
    func: Callable[..., T],
    args: tuple[Any, ...],  # Any: as above
) -> tuple[T | None, Exception | None]:
    process.check()
    try:
        return func(*args), None
    except Exception as error:  # noqa: BLE001 - it is the caller's
        return None, error
