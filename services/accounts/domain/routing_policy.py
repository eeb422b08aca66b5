"""What a key's owner may say about retries and fallbacks: one form, within the ceilings.

Numbers beyond a ceiling are brought down to it when they are saved, so that what is shown is what
holds. What is misspelt or of the wrong kind is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from services.accounts.domain.limits import MODEL_ID_LENGTH_MAX
from services.common.errors import InvalidArgument

FIELD = "routing_policy_json"
BYTES_MAX = 8_192
# The gateway reads policies with the same ceilings (services/gateway/routing_policy.py).
RETRIES_MAX = 5
ATTEMPTS_MAX = 8
BASE_MS_MIN, BASE_MS_MAX = 10, 5_000
MODELS_MAX = 8
WEIGHT_PROFILES = ("quality_first", "balanced", "cost_first", "latency_first")

Check = Callable[[str, object], object]


def checked_policy(text: str) -> str:
    """The policy in its normal form; empty where it says nothing. Raises InvalidArgument."""
    if not text.strip():
        return ""
    if len(text.encode()) > BYTES_MAX:
        raise InvalidArgument.of(FIELD, f"has more than {BYTES_MAX} bytes")
    try:
        given: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument.of(FIELD, "is not JSON") from error
    checked = _object(_POLICY)(FIELD, given)
    return json.dumps(checked, separators=(",", ":"), ensure_ascii=False) if checked else ""


def _object(known: Mapping[str, Check]) -> Check:
    def check(where: str, value: object) -> object:
        if not isinstance(value, dict):
            raise InvalidArgument.of(where, "is not a JSON object")
        unknown = sorted(value.keys() - known.keys())
        if unknown:
            names = ", ".join(known)
            raise InvalidArgument.of(where, f"there is no {unknown[0]!r} among {names}")
        return {
            name: known[name](f"{where}.{name}", value[name])
            for name in known
            if value.get(name) is not None
        }

    return check


def _whole(low: int, high: int) -> Check:
    def check(where: str, value: object) -> object:
        if type(value) is not int:
            raise InvalidArgument.of(where, "is not a whole number")
        return min(high, max(low, value))

    return check


def _flag(where: str, value: object) -> object:
    if not isinstance(value, bool):
        raise InvalidArgument.of(where, "is neither true nor false")
    return value


def _statuses(where: str, value: object) -> object:
    if not isinstance(value, list):
        raise InvalidArgument.of(where, "is not a list")
    for status in value:
        if type(status) is not int or not (status in (408, 429) or 500 <= status < 600):
            raise InvalidArgument.of(where, "may have 408, 429 and what is 500 to 599")
    return sorted(set(value))


def _models(where: str, value: object) -> object:
    if not isinstance(value, list) or len(value) > MODELS_MAX:
        raise InvalidArgument.of(where, f"is not a list of at most {MODELS_MAX} models")
    for name in value:
        if not isinstance(name, str) or not 1 <= len(name) <= MODEL_ID_LENGTH_MAX:
            raise InvalidArgument.of(where, "has an entry that is no model's id")
    return list(dict.fromkeys(value))


def _profile(where: str, value: object) -> object:
    if value not in WEIGHT_PROFILES:
        raise InvalidArgument.of(where, f"must be one of {', '.join(WEIGHT_PROFILES)}")
    return value


_POLICY: Mapping[str, Check] = {
    "retry": _object(
        {
            "max_retries": _whole(0, RETRIES_MAX),
            "retry_on_status": _statuses,
            "base_ms": _whole(BASE_MS_MIN, BASE_MS_MAX),
        }
    ),
    "fallback": _object({"enabled": _flag, "cross_provider_same_model": _flag, "models": _models}),
    "budget": _object({"max_attempts": _whole(1, ATTEMPTS_MAX)}),
    "weight_profile": _profile,
}
