"""Limits of scopes: bounds and the normal form, for keys, members, teams, models and accounts.

A limit that is absent is no limit; one of 0 allows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from services.common.errors import InvalidArgument
from services.common.money import INT64_MAX

RPM_MAX = 1_000
RPD_MAX = 1_000_000
# Many keys share a scope, so what it may be set to is not bounded by what one key may be.
SCOPE_RATE_MAX = 10**12
MODEL_ID_LENGTH_MAX = 200
MODEL_LIMITS_MAX = 50


class CapWindow(IntEnum):
    """How long a spend cap counts before it starts again; the numbers of
    `mesh.common.v1.CapWindow`.
    """

    LIFETIME = 1
    DAY = 2
    WEEK = 3
    MONTH = 4
    ROLLING_30_DAYS = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one scope; field names are those of `mesh.events.v1.Limits`."""

    spend_cap_nanousd: int | None = None
    spend_cap_window: CapWindow = CapWindow.LIFETIME
    rpm_limit: int | None = None
    rpd_limit: int | None = None
    tpm_limit: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """The limits of one model under a key."""

    model_id: str
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class ScopeLimits:
    """The limits of a scope as they stand, at the version of the account that set them."""

    scope: str
    limits: Limits
    version: int


def checked_limits(limits: Limits, *, prefix: str = "limits.") -> Limits:
    """The limits in their normal form. Raises InvalidArgument naming the field out of bounds."""
    cap = checked_limit(f"{prefix}spend_cap_nanousd", limits.spend_cap_nanousd, INT64_MAX)
    return replace(
        limits,
        spend_cap_window=limits.spend_cap_window if cap is not None else CapWindow.LIFETIME,
        rpm_limit=checked_limit(f"{prefix}rpm_limit", limits.rpm_limit, SCOPE_RATE_MAX),
        rpd_limit=checked_limit(f"{prefix}rpd_limit", limits.rpd_limit, SCOPE_RATE_MAX),
        tpm_limit=checked_limit(f"{prefix}tpm_limit", limits.tpm_limit, SCOPE_RATE_MAX),
    )


def checked_model_limits(models: Sequence[ModelLimits]) -> tuple[ModelLimits, ...]:
    """In the order of their models, without those that limit nothing."""
    if len(models) > MODEL_LIMITS_MAX:
        raise InvalidArgument.of("model_limits", f"has more than {MODEL_LIMITS_MAX} entries")
    found: dict[str, ModelLimits] = {}
    for one in models:
        checked_model_id("model_limits.model_id", one.model_id)
        if one.model_id in found:
            raise InvalidArgument.of("model_limits", f"names {one.model_id!r} twice")
        limits = checked_limits(one.limits, prefix="model_limits.")
        found[one.model_id] = ModelLimits(one.model_id, limits)
    return tuple(found[name] for name in sorted(found) if found[name].limits != NO_LIMITS)


def checked_model_id(field: str, model_id: str) -> None:
    """Raises InvalidArgument for what can be no model's id."""
    if not 1 <= len(model_id) <= MODEL_ID_LENGTH_MAX or "\0" in model_id:
        raise InvalidArgument.of(field, f"must have 1 to {MODEL_ID_LENGTH_MAX} characters")


def checked_limit(field: str, value: int | None, maximum: int) -> int | None:
    """The limit. Raises InvalidArgument where it is negative or above the maximum."""
    if value is None:
        return None
    if value < 0:
        raise InvalidArgument.of(field, "is negative")
    if value > maximum:
        raise InvalidArgument.of(field, f"is above {maximum:,}")
    return value
