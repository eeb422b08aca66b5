"""Automatic recharge of the balance: read by people and by admin keys with `org:read`, set up by
people alone, because it charges a card.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.common.errors import InvalidArgument
from services.common.money import nanousd_from_field, usd_from_nanousd
from services.common.security.tokens import Principal
from services.gateway.entrypoints.account_routes import iso_from_unix_ms
from services.gateway.entrypoints.app import PublicReads, reads_of
from services.gateway.entrypoints.callers import Manager, manager_of, person_of
from services.gateway.entrypoints.system_routes import json_response
from services.gateway.recharge import Recharge, RechargeSettings

router = APIRouter(prefix="/v1/auto-recharge", tags=["account"])

Reads = Annotated[PublicReads, Depends(reads_of)]
Reader = Annotated[Manager, Depends(manager_of("org:read"))]
Person = Annotated[Principal, Depends(person_of)]
# What is charged at most where the request does not say: so many amounts in a day and a month.
_DAY_AMOUNTS = 5
_MONTH_AMOUNTS = 25
_NAMES = ("amount", "threshold", "day_max", "month_max")


class RechargeSetup(BaseModel):
    """The whole set-up; amounts are decimal strings of US dollars, whole cents."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"threshold_usd": "10.00", "amount_usd": "20.00"}}
    )

    enabled: bool = True
    threshold_usd: str = Field(max_length=40, description="Below it the card is charged.")
    amount_usd: str = Field(max_length=40, description="5.00 to 100.00.")
    day_max_usd: str | None = Field(
        None, max_length=40, description="Charged at most in a UTC day; default 5 amounts."
    )
    month_max_usd: str | None = Field(
        None, max_length=40, description="Charged at most in a UTC month; default 25 amounts."
    )


class RechargeChargeObject(BaseModel):
    """One charge of the card."""

    id: str
    amount_usd: str
    status: str
    failure_code: str | None
    created_at: str


class RechargeObject(BaseModel):
    """The set-up and where it stands; the newest charge comes first."""

    enabled: bool
    threshold_usd: str
    amount_usd: str
    day_max_usd: str
    month_max_usd: str
    state: str = Field(
        description="off, switched_off, no_card, needs_action, charging, waiting, cooling_down, "
        "day_ceiling, month_ceiling or due."
    )
    until: str | None = Field(description="When the state ends by itself.")
    card: str | None
    switched_off_because: str | None
    charges: list[RechargeChargeObject]


@router.get("", response_model=RechargeObject)
async def get_auto_recharge(reads: Reads, manager: Reader) -> Response:
    """The account's automatic recharge; there is one of each account."""
    return await _answered(reads.recharges.recharge(manager.principal))


@router.post("/setup", response_model=RechargeObject)
async def set_up_auto_recharge(wanted: RechargeSetup, reads: Reads, person: Person) -> Response:
    """In place of the set-up before; `enabled: false` stops it. Needs the role admin."""
    amount = nanousd_from_field("body.amount_usd", wanted.amount_usd)
    settings = RechargeSettings(
        wanted.enabled,
        nanousd_from_field("body.threshold_usd", wanted.threshold_usd),
        amount,
        _most("day_max", wanted.day_max_usd, _DAY_AMOUNTS * amount),
        _most("month_max", wanted.month_max_usd, _MONTH_AMOUNTS * amount),
    )
    return await _answered(reads.recharges.set_up(person, settings))


def _most(name: str, given: str | None, default_nanousd: int) -> int:
    return default_nanousd if given is None else nanousd_from_field(f"body.{name}_usd", given)


async def _answered(asked: Awaitable[Recharge]) -> Response:
    try:
        found = await asked
    except InvalidArgument as error:
        for name in _NAMES:
            field, colon, message = error.message.partition(": ")
            if colon and field == f"{name}_nanousd":
                raise InvalidArgument.of(f"body.{name}_usd", message) from error
        raise
    response = json_response(_recharge(found))
    response.headers["cache-control"] = "no-store"
    return response


def _recharge(found: Recharge) -> dict[str, Any]:  # Any: JSON
    settings = found.settings
    return {
        "enabled": settings.enabled,
        "threshold_usd": usd_from_nanousd(settings.threshold_nanousd),
        "amount_usd": usd_from_nanousd(settings.amount_nanousd),
        "day_max_usd": usd_from_nanousd(settings.day_max_nanousd),
        "month_max_usd": usd_from_nanousd(settings.month_max_nanousd),
        "state": found.state,
        "until": iso_from_unix_ms(found.until_ms) if found.until_ms else None,
        "card": found.card or None,
        "switched_off_because": found.switched_off_because or None,
        "charges": [
            {
                "id": one.charge_id,
                "amount_usd": usd_from_nanousd(one.amount_nanousd),
                "status": one.status,
                "failure_code": one.failure_code or None,
                "created_at": iso_from_unix_ms(one.started_at_ms),
            }
            for one in found.charges
        ],
    }
