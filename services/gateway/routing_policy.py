"""What a key's owner may say about retries and fallbacks, within the ceilings of this gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

# accounts clamps to the same ceilings when a policy is saved; this side does not rely on it.
RETRIES_MAX = 5
ATTEMPTS_MAX = 8
BASE_MS_MIN, BASE_MS_MAX = 10, 5_000
MODELS_MAX = 8
# A provider's status, or the one that we make of it: either may be named.
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """How a request is tried again."""

    # At the same place, after a failure that may pass.
    max_retries: int = 2
    retry_on_status: frozenset[int] = TRANSIENT
    # The first wait; it doubles each time.
    base_ms: int = 200
    # Whether another place may serve at all, and whether the same model elsewhere is one.
    fallback: bool = True
    cross_provider_same_model: bool = True
    # Tried after those that the request names.
    models: tuple[str, ...] = ()
    # All together, first one included.
    max_attempts: int = 4
    # What the owner wants most of model "auto".
    weight_profile: str = ""


DEFAULT_POLICY = RoutingPolicy()


def policy_from_json(text: str) -> RoutingPolicy | None:
    """The policy over the default; None where none is set. Raises ValueError where it is no JSON
    object. What is out of bounds is clamped, what is not understood is left out.
    """
    if not text:
        return None
    given = orjson.loads(text)
    if not isinstance(given, dict):
        raise ValueError("a routing policy is a JSON object")
    retry, fallback, budget = (_part(given, name) for name in ("retry", "fallback", "budget"))
    changes: dict[str, Any] = {  # Any: fields of the dataclass, each of its own type
        "max_retries": _whole(retry.get("max_retries"), 0, RETRIES_MAX),
        "retry_on_status": _statuses(retry.get("retry_on_status")),
        "base_ms": _whole(retry.get("base_ms"), BASE_MS_MIN, BASE_MS_MAX),
        "fallback": _flag(fallback.get("enabled")),
        "cross_provider_same_model": _flag(fallback.get("cross_provider_same_model")),
        "models": _names(fallback.get("models")),
        "weight_profile": _text(given.get("weight_profile")),
        "max_attempts": _whole(budget.get("max_attempts"), 1, ATTEMPTS_MAX),
    }
    return replace(DEFAULT_POLICY, **{k: v for k, v in changes.items() if v is not None})


def _part(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:  # Any: JSON
    value = given.get(name)
    return value if isinstance(value, dict) else {}


def _whole(value: object, low: int, high: int) -> int | None:
    return min(high, max(low, value)) if type(value) is int else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _statuses(value: object) -> frozenset[int] | None:
    """Statuses that no retry would help are left out."""
    if not isinstance(value, list):
        return None
    found = (status for status in value if type(status) is int)
    return frozenset(status for status in found if status in (408, 429) or 500 <= status < 600)


def _names(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(name for name in value if isinstance(name, str) and name)[:MODELS_MAX]
