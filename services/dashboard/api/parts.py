"""What several parts of the panel's API say and take: request bodies, amounts, limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.common.money import INT64_MAX, nanousd_from_field, usd_from_nanousd
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2

Window = Literal["lifetime", "day", "week", "month", "rolling_30_days"]
# What a 64-bit field of a message can carry; accounts says which limits make sense.
Whole = Annotated[int, Field(ge=0, le=INT64_MAX)]


class Taken(BaseModel):
    """A request body: a field that is not known is an error, so that a typing mistake is seen."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*")
    @classmethod
    def _storable(cls, value: object) -> object:
        texts = value if isinstance(value, list) else [value]
        # No text column takes one.
        if any(isinstance(text, str) and "\0" in text for text in texts):
            raise ValueError("must not contain a NUL character")
        return value


class LimitsIn(Taken):
    """What a scope may spend and ask; null is no limit, 0 allows nothing of that kind."""

    spend_cap_usd: str | None = None
    spend_cap_window: Window = "lifetime"
    rpm_limit: Whole | None = None
    rpd_limit: Whole | None = None
    tpm_limit: Whole | None = None


class ModelLimitsIn(LimitsIn):
    model_id: str


class LimitsOut(BaseModel):
    spend_cap_usd: str | None
    spend_cap_window: str
    rpm_limit: int | None
    rpd_limit: int | None
    tpm_limit: int | None


class ModelLimitsOut(LimitsOut):
    model_id: str


def short(name_of: Callable[..., str], number: int, prefix: str) -> str:
    """The name of an enumeration's value as the panel's API writes it; a number that this version
    does not know yet stays a number.
    """
    try:
        return name_of(number).removeprefix(prefix).lower()
    except ValueError:
        return str(number)


def window_name(window: common_pb2.CapWindow.ValueType) -> str:
    """The name of a cap's window."""
    return short(common_pb2.CapWindow.Name, window, "CAP_WINDOW_")


def role_pb(role: str) -> common_pb2.Role.ValueType:
    """The role of a name that was checked before."""
    return common_pb2.Role.Value(f"ROLE_{role.upper()}")


def role_name(role: common_pb2.Role.ValueType) -> str:
    """The name of a role."""
    return short(common_pb2.Role.Name, role, "ROLE_")


def limits_pb(body: LimitsIn) -> events_pb2.Limits:
    return events_pb2.Limits(
        spend_cap_nanousd=None
        if body.spend_cap_usd is None
        else nanousd_from_field("spend_cap_usd", body.spend_cap_usd),
        spend_cap_window=common_pb2.CapWindow.Value(f"CAP_WINDOW_{body.spend_cap_window.upper()}"),
        rpm_limit=body.rpm_limit,
        rpd_limit=body.rpd_limit,
        tpm_limit=body.tpm_limit,
    )


def limits_out(limits: events_pb2.Limits) -> LimitsOut:
    has = limits.HasField
    capped = has("spend_cap_nanousd")
    return LimitsOut(
        spend_cap_usd=usd_from_nanousd(limits.spend_cap_nanousd) if capped else None,
        spend_cap_window=window_name(limits.spend_cap_window),
        rpm_limit=limits.rpm_limit if has("rpm_limit") else None,
        rpd_limit=limits.rpd_limit if has("rpd_limit") else None,
        tpm_limit=limits.tpm_limit if has("tpm_limit") else None,
    )


def model_limits_out(found: events_pb2.ModelLimits) -> ModelLimitsOut:
    return ModelLimitsOut(model_id=found.model_id, **limits_out(found.limits).model_dump())
