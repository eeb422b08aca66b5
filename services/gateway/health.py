"""How the places that models are served at have fared lately, and which is the best to try next.

A place is one model at one provider. Everything here is in one worker's memory and pure but for
what it is told: times are monotonic seconds and passed in, chance is passed in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HealthRules:
    """When a place is left alone. Times are seconds."""

    # A breaker opens where so many of the attempts of late failed, and at least so many.
    open_at_share: float = 0.5
    open_at_failures: float = 5.0
    # What is "of late": what an attempt counts for halves in this time.
    half_life_s: float = 15.0
    # For how long it stays open; twice as long each time that the probe fails.
    open_s: float = 5.0
    open_max_s: float = 60.0
    # Never longer than this, whatever a provider asks for.
    cooldown_max_s: float = 60.0
    # What the newest latency counts for.
    newest: float = 0.2


@dataclass(slots=True)
class PlaceHealth:
    """One place. Counts fade with time; `opened_for_s` is 0 while the breaker is closed."""

    latency_s: float | None = None
    in_flight: int = 0
    failures: float = 0.0
    attempts: float = 0.0
    faded_at_s: float = 0.0
    open_until_s: float = 0.0
    opened_for_s: float = 0.0
    probing: bool = False
    cool_until_s: float = 0.0


class Health:
    """All places, by a key of the caller's."""

    def __init__(self, rules: HealthRules | None = None) -> None:
        self._rules = rules or HealthRules()
        self._places: dict[Hashable, PlaceHealth] = {}

    def place(self, key: Hashable) -> PlaceHealth:
        """What is known of it."""
        known = self._places.get(key)
        if known is None:
            known = self._places[key] = PlaceHealth()
        return known

    def rests_s(self, key: Hashable, now_s: float) -> float:
        """How long it should still be left alone; 0 where it may be tried."""
        place = self._places.get(key)
        if place is None:
            return 0.0
        until_s = place.cool_until_s
        if place.opened_for_s:
            # Past its time one attempt is let through; others wait for what comes of it.
            probe_s = now_s + self._rules.open_s if place.probing else 0.0
            until_s = max(until_s, place.open_until_s, probe_s)
        return max(0.0, until_s - now_s)

    def begin(self, key: Hashable) -> None:
        """An attempt is sent there."""
        place = self.place(key)
        place.in_flight += 1
        if place.opened_for_s:
            place.probing = True

    def succeeded(self, key: Hashable, now_s: float, *, latency_s: float) -> None:
        """It answered; its first words came after so long."""
        place = self._ended(key, now_s)
        place.attempts += 1
        place.opened_for_s = place.open_until_s = 0.0
        known = place.latency_s
        newest = self._rules.newest
        place.latency_s = latency_s if known is None else known + newest * (latency_s - known)

    def failed(self, key: Hashable, now_s: float) -> None:
        """It is at fault."""
        place = self._ended(key, now_s)
        place.attempts += 1
        place.failures += 1
        rules = self._rules
        if place.opened_for_s:
            place.opened_for_s = min(rules.open_max_s, 2 * place.opened_for_s)
        elif (
            place.failures >= rules.open_at_failures
            and place.failures >= rules.open_at_share * place.attempts
        ):
            place.opened_for_s = rules.open_s
        place.open_until_s = now_s + place.opened_for_s

    def ended(self, key: Hashable, now_s: float) -> None:
        """It ended in a way that says nothing of the place: the caller left, or asked for too
        much.
        """
        self._ended(key, now_s)

    def cool(self, key: Hashable, now_s: float, asked_s: float) -> None:
        """It asked to be left alone for so long."""
        place = self.place(key)
        until_s = now_s + min(asked_s, self._rules.cooldown_max_s)
        place.cool_until_s = max(place.cool_until_s, until_s)

    def _ended(self, key: Hashable, now_s: float) -> PlaceHealth:
        place = self.place(key)
        place.in_flight = max(0, place.in_flight - 1)
        place.probing = False
        fade = 0.5 ** (max(0.0, now_s - place.faded_at_s) / self._rules.half_life_s)
        place.failures *= fade
        place.attempts *= fade
        place.faded_at_s = now_s
        return place

    def burden(self, key: Hashable) -> float:
        """How little it invites: its latency, times what is under way there, over its successes.
        A place that was never tried invites most.
        """
        place = self._places.get(key)
        if place is None:
            return 0.0
        failing = place.failures / place.attempts if place.attempts >= 1 else 0.0
        latency_s = place.latency_s if place.latency_s is not None else 0.001
        return latency_s * (1 + place.in_flight) / max(0.05, 1 - failing)


def in_order(
    places: Sequence[T],
    *,
    weight: Callable[[T], float],
    burden: Callable[[T], float],
    chance: random.Random,
) -> list[T]:
    """The places in the order in which to try them: of two drawn by their weights the one with the
    lesser burden, again and again.

    Drawing two keeps a crowd from running to the one place that was best a moment ago.
    """
    left, ordered = list(places), list[T]()
    while len(left) > 1:
        one, other = _drawn(left, weight, chance), _drawn(left, weight, chance)
        best = other if burden(other) < burden(one) else one
        left.remove(best)
        ordered.append(best)
    return ordered + left


def _drawn(places: Sequence[T], weight: Callable[[T], float], chance: random.Random) -> T:
    return chance.choices(places, weights=[weight(place) for place in places])[0]
