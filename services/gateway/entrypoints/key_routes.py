"""API keys of an account, for who is logged in and for admin keys. No API key can make or change
another.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.common.money import nanousd_from_field, usd_from_nanousd
from services.gateway.entrypoints.app import PublicReads, reads_of
from services.gateway.entrypoints.callers import Manager, manager_of
from services.gateway.entrypoints.system_routes import json_response
from services.gateway.key_admin import KeyFields, KeyLimits, LimitValues, ManagedKey

router = APIRouter(prefix="/v1/keys", tags=["keys"])

Reads = Annotated[PublicReads, Depends(reads_of)]
Reader = Annotated[Manager, Depends(manager_of("keys:read", "keys:write"))]
Writer = Annotated[Manager, Depends(manager_of("keys:write"))]
# Limits alone may also be read and changed by who has that permission.
LimitsReader = Annotated[Manager, Depends(manager_of("limits:read", "limits:write"))]
LimitsWriter = Annotated[Manager, Depends(manager_of("keys:write", "limits:write"))]
Whole = Annotated[int, Field(ge=0, lt=2**63)]
Window = Literal["lifetime", "day", "week", "month", "rolling_30_days"]


class KeyChanges(BaseModel):
    """What is absent stays as it is; null takes a limit or a default away."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"rpm_limit": 60, "spend_cap_usd": "25", "tpm_limit": None}}
    )

    label: str | None = Field(None, max_length=100)
    spend_cap_usd: str | None = Field(None, max_length=40, description="Decimal US dollars.")
    spend_cap_window: Window | None = None
    rpm_limit: Whole | None = None
    rpd_limit: Whole | None = None
    tpm_limit: Whole | None = None
    default_model: str | None = Field(None, max_length=256)
    default_params: dict[str, Any] | None = None  # Any: values are free JSON
    allowed_models: list[str] | None = Field(None, max_length=500)
    expires_at: datetime | None = None
    team_id: str | None = Field(None, max_length=64)
    api_version: str | None = Field(None, max_length=16)
    response_cache: bool | None = Field(None, description="`false`: this key goes past it.")
    content_stored: bool | None = Field(
        None, description="`true`: prompts and answers are stored, where the operator allows it."
    )

    def fields(self) -> KeyFields:
        """What is set; the rest is empty. Raises InvalidArgument for an amount that is none."""
        expires = self.expires_at
        if expires is not None and expires.tzinfo is None:
            expires = expires.replace(tzinfo=UTC)
        return KeyFields(
            label=self.label or "",
            limits=LimitValues(
                spend_cap_nanousd=_nanousd(self.spend_cap_usd),
                spend_cap_window=self.spend_cap_window or "lifetime",
                rpm_limit=self.rpm_limit,
                rpd_limit=self.rpd_limit,
                tpm_limit=self.tpm_limit,
            ),
            default_model=self.default_model or "",
            default_params=self.default_params or {},
            allowed_models=tuple(self.allowed_models or ()),
            expires_at_ms=round(expires.timestamp() * 1000) if expires else 0,
            team_id=self.team_id or "",
            api_version=self.api_version or "",
            response_cache_disabled=self.response_cache is False,
            content_stored=self.content_stored is True,
        )


class NewKey(KeyChanges):
    """A key to be made."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"label": "web", "rpm_limit": 60, "spend_cap_usd": "25"}}
    )

    label: str = Field(min_length=1, max_length=100)


class KeyUpdate(KeyChanges):
    """Changes of a key; `status` suspends it or puts it back in force."""

    status: Literal["active", "suspended"] | None = None


class KeyObject(BaseModel):
    """One key; its secret is not kept."""

    id: str
    label: str
    masked_key: str
    status: Literal["active", "suspended"]
    spend_cap_usd: str | None
    spend_cap_window: str
    rpm_limit: int | None
    rpd_limit: int | None
    tpm_limit: int | None
    default_model: str | None
    default_params: dict[str, Any]  # Any: values are free JSON
    allowed_models: list[str]
    team_id: str | None
    api_version: str | None
    response_cache: bool
    content_stored: bool
    expires_at: str | None
    created_at: str
    updated_at: str
    created_by: str


class CreatedKey(KeyObject):
    """A new key with its secret, which is told this once."""

    key: str


class KeyLimitsObject(BaseModel):
    """The key's own limits; the smallest of all that bind it; those of the scopes it is in."""

    key_id: str
    spend_cap_usd: str | None
    spend_cap_window: str
    rpm_limit: int | None
    rpd_limit: int | None
    tpm_limit: int | None
    effective_rpm_limit: int | None
    effective_rpd_limit: int | None
    effective_tpm_limit: int | None
    scopes: dict[str, dict[str, Any]]  # Any: JSON


@router.post("", status_code=201, response_model=CreatedKey)
async def create_key(wanted: NewKey, reads: Reads, manager: Writer) -> Response:
    """Makes a key. `key` is in this answer and nowhere else."""
    manager.require_team(wanted.team_id or "")
    made, plain = await reads.key_admin.create(manager.principal, wanted.fields())
    response = json_response({**_key(made), "key": plain}, 201)
    response.headers["cache-control"] = "no-store"
    return response


@router.get("", response_model=list[KeyObject])
async def list_keys(reads: Reads, manager: Reader) -> Response:
    """The account's keys, newest first; an admin key sees those of its scope."""
    found = await reads.key_admin.all(manager.principal)
    return json_response([_key(key) for key in found if manager.sees(key)])


@router.get("/{key_id}", response_model=KeyObject)
async def get_key(key_id: str, reads: Reads, manager: Reader) -> Response:
    """One key."""
    return json_response(
        _key(manager.require(await reads.key_admin.get(manager.principal, key_id)))
    )


@router.patch("/{key_id}", response_model=KeyObject)
async def update_key(
    key_id: str, changes: KeyUpdate, *, reads: Reads, manager: LimitsWriter, request: Request
) -> Response:
    """Changes a key, in force within a second."""
    if not changes.model_fields_set <= _LIMIT_FIELDS:
        manager = await manager_of("keys:write")(request)
    person = manager.principal
    manager.require(await reads.key_admin.get(person, key_id))
    names = {_OURS.get(name, name) for name in changes.model_fields_set - {"status"}}
    if "team_id" in names:
        manager.require_team(changes.team_id or "")
    if names:
        await reads.key_admin.update(person, key_id, changes.fields(), changed=names)
    if changes.status == "suspended":
        await reads.key_admin.suspend(person, key_id)
    elif changes.status == "active":
        await reads.key_admin.resume(person, key_id)
    return json_response(_key(await reads.key_admin.get(person, key_id)))


@router.delete("/{key_id}", status_code=204)
async def delete_key(key_id: str, reads: Reads, manager: Writer) -> Response:
    """Suspends a key at once; its history stays."""
    manager.require(await reads.key_admin.get(manager.principal, key_id))
    await reads.key_admin.suspend(manager.principal, key_id)
    return Response(status_code=204)


@router.get("/{key_id}/limits", response_model=KeyLimitsObject)
async def key_limits(key_id: str, reads: Reads, manager: LimitsReader) -> Response:
    """Every limit that binds a key."""
    found = await reads.key_admin.limits(manager.principal, key_id)
    effective = {
        f"effective_{name}": _smallest(found, name)
        for name in ("rpm_limit", "rpd_limit", "tpm_limit")
    }
    return json_response(
        {
            "key_id": key_id,
            **_limits(found.own),
            **effective,
            "scopes": {scope: _limits(limits) for scope, limits in found.scopes.items()},
        }
    )


_LIMIT_FIELDS = {"spend_cap_usd", "spend_cap_window", "rpm_limit", "rpd_limit", "tpm_limit"}
# Names of fields where the account's differ from the API's.
_OURS = {
    "spend_cap_usd": "spend_cap_nanousd",
    "expires_at": "expires_at_ms",
    "response_cache": "response_cache_disabled",
}


def _smallest(found: KeyLimits, name: str) -> int | None:
    """Limits of single models bind those alone."""
    binding = [found.own] + [
        limits for scope, limits in found.scopes.items() if not scope.startswith("account_model:")
    ]
    values = [getattr(limits, name) for limits in binding]
    return min((value for value in values if value is not None), default=None)


def _nanousd(amount: str | None) -> int | None:
    return None if amount is None else nanousd_from_field("body.spend_cap_usd", amount)


def _limits(limits: LimitValues) -> dict[str, Any]:  # Any: JSON
    cap = limits.spend_cap_nanousd
    return {
        "spend_cap_usd": usd_from_nanousd(cap) if cap is not None else None,
        "spend_cap_window": limits.spend_cap_window,
        "rpm_limit": limits.rpm_limit,
        "rpd_limit": limits.rpd_limit,
        "tpm_limit": limits.tpm_limit,
    }


def _key(key: ManagedKey) -> dict[str, Any]:  # Any: JSON
    fields = key.fields
    return {
        "id": key.key_id,
        "label": fields.label,
        "masked_key": key.masked_key,
        "status": "suspended" if key.suspended else "active",
        **_limits(fields.limits),
        "default_model": fields.default_model or None,
        "default_params": dict(fields.default_params),
        "allowed_models": list(fields.allowed_models),
        "team_id": fields.team_id or None,
        "api_version": fields.api_version or None,
        "response_cache": not fields.response_cache_disabled,
        "content_stored": fields.content_stored,
        "expires_at": _iso(fields.expires_at_ms) if fields.expires_at_ms else None,
        "created_at": _iso(key.created_at_ms),
        "updated_at": _iso(key.updated_at_ms),
        "created_by": key.created_by,
    }


def _iso(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
