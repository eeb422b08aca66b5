"""Where a request is tried, and after a failure where next: pure, for one request.

The order: the same place again after a pause, the same model elsewhere, a different model. Together
they stay within the policy's attempts and the deadline, and while there is another place to turn
to, one attempt is kept for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from services.common.errors import GatewayTimeout
from services.gateway.errors import CapabilityNotSupported, ContextWindowExceeded
from services.gateway.providers.port import AttemptFailed
from services.gateway.routing import Route
from services.gateway.routing_policy import RoutingPolicy

# What to do after a failure: give up, try again, turn to another place or to another model.
Verdict = Literal["stop", "again", "elsewhere", "other_model"]
# Longer than this nobody is kept waiting for one place.
WAIT_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt to make, after a pause."""

    route: Route
    wait_s: float = 0.0


class AttemptPlan:
    """The places of one request. `rests_s` tells how long a place should still be left alone."""

    def __init__(
        self,
        routes: Sequence[Route],
        policy: RoutingPolicy,
        *,
        deadline_s: float,
        rests_s: Callable[[Route], float],
        chance: random.Random,
    ) -> None:
        self._routes = routes
        self._policy = policy
        self._deadline_s = deadline_s
        self._rests_s = rests_s
        self._chance = chance
        self._at = -1
        self._retries = 0
        self.made = 0

    def first(self) -> Step | None:
        """Where to begin; None where every place is to be left alone."""
        return self._move(0)

    def soonest_s(self) -> float:
        """When the first of the places may be tried again, in seconds."""
        return min((self._rests_s(route) for route in self._routes), default=0.0)

    def after(self, failure: AttemptFailed, now_s: float) -> Step | None:
        """What follows a failure; None where it is the end."""
        if self.made >= self._policy.max_attempts or now_s >= self._deadline_s:
            return None
        verdict = verdict_of(failure, self._policy)
        if verdict == "stop":
            return None
        other = self._next(self._at + 1)
        if verdict == "again":
            wait_s = self._wait_s(failure)
            if self._may_stay(failure, other, wait_s, now_s=now_s):
                self._retries += 1
                self.made += 1
                return Step(self._routes[self._at], wait_s)
        if verdict == "other_model":
            model_id = self._routes[self._at].model.model_id
            place = self._at + 1
            while place < len(self._routes) and self._routes[place].model.model_id == model_id:
                place += 1
            return self._move(place)
        return self._move(self._at + 1)

    def skip(self) -> Step | None:
        """The step after one that could not be made, which then counts for nothing."""
        self.made -= 1
        return self._move(self._at + 1)

    def _may_stay(
        self, failure: AttemptFailed, other: int | None, wait_s: float, *, now_s: float
    ) -> bool:
        left = self._policy.max_attempts - self.made
        if self._retries >= self._policy.max_retries or left <= (0 if other is None else 1):
            return False
        if other is not None and failure.asked_s is not None:
            # It asked to be left alone, and there is someone else.
            return False
        rests_s = self._rests_s(self._routes[self._at])
        return max(wait_s, rests_s) <= min(wait_s, WAIT_MAX_S, self._deadline_s - now_s)

    def _wait_s(self, failure: AttemptFailed) -> float:
        """Twice as long each time, the half of it by chance; at least what was asked for."""
        longest_s = self._policy.base_ms * 2.0**self._retries / 1000
        drawn_s = longest_s / 2 + self._chance.random() * longest_s / 2
        return max(drawn_s, failure.asked_s or 0.0)

    def _next(self, place: int) -> int | None:
        for index in range(place, len(self._routes)):
            if self._rests_s(self._routes[index]) <= 0:
                return index
        return None

    def _move(self, place: int) -> Step | None:
        found = self._next(place)
        if found is None:
            return None
        self._at, self._retries = found, 0
        self.made += 1
        return Step(self._routes[found])


def verdict_of(failure: AttemptFailed, policy: RoutingPolicy) -> Verdict:
    """What a failure calls for."""
    error = failure.error
    if isinstance(error, CapabilityNotSupported) or failure.stage == "credentials":
        # Another provider may say it, or know us.
        return "elsewhere"
    if isinstance(error, ContextWindowExceeded):
        return "other_model"
    if not {failure.http_status, error.http_status} & policy.retry_on_status:
        return "stop"
    # What took too long would take as long again, and may still be under way there.
    return "elsewhere" if isinstance(error, GatewayTimeout) else "again"
