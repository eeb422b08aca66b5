"""Admin keys of the account of whoever is logged in; no key of any kind manages them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.common.security.tokens import Principal
from services.gateway.admin_keys import KeyScope, ManagedAdminKey, Permission
from services.gateway.entrypoints.app import PublicReads, reads_of
from services.gateway.entrypoints.callers import person_of
from services.gateway.entrypoints.system_routes import json_response

router = APIRouter(prefix="/v1/admin-keys", tags=["admin keys"])

Reads = Annotated[PublicReads, Depends(reads_of)]
Person = Annotated[Principal, Depends(person_of)]


class NewAdminKey(BaseModel):
    """`alerts:*`, `limits:*` and `org:read` are for the scope `org` alone."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "label": "deploy script",
                "permissions": ["keys:read", "keys:write"],
                "scope": "team",
                "expires_at": "2027-01-01T00:00:00Z",
            }
        }
    )

    label: str = Field(min_length=1, max_length=100)
    permissions: list[Permission] = Field(min_length=1, max_length=20)
    scope: KeyScope = Field("self", description="Its maker's keys, their teams', or all.")
    expires_at: datetime = Field(description="Within 90 days.")


class Rotation(BaseModel):
    """Both secrets work during the grace."""

    grace_hours: int = Field(24, ge=0, le=168)
    expires_at: datetime | None = Field(None, description="Within 90 days; absent: as it was.")


class AdminKeyObject(BaseModel):
    """One admin key; its secret is not kept."""

    id: str
    label: str
    masked_key: str
    permissions: list[str]
    scope: str
    expires_at: str
    last_used_at: str | None = Field(description="To the minute.")
    created_by: str
    created_at: str
    revoked_at: str | None
    revoke_reason: str | None


class CreatedAdminKey(AdminKeyObject):
    """An admin key with a new secret, which is told this once."""

    key: str


@router.post("", status_code=201, response_model=CreatedAdminKey)
async def create_admin_key(wanted: NewAdminKey, reads: Reads, person: Person) -> Response:
    """Makes an admin key. `key` is in this answer and nowhere else."""
    made, plain = await reads.admin_keys.create(
        person,
        wanted.label,
        permissions=wanted.permissions,
        scope=wanted.scope,
        expires_at_ms=_unix_ms(wanted.expires_at),
    )
    return _with_secret(made, plain, 201)


@router.get("", response_model=list[AdminKeyObject])
async def list_admin_keys(reads: Reads, person: Person) -> Response:
    """The account's admin keys, newest first, also those that work no more."""
    return json_response([_key(key) for key in await reads.admin_keys.all(person)])


@router.get("/{key_id}", response_model=AdminKeyObject)
async def get_admin_key(key_id: str, reads: Reads, person: Person) -> Response:
    """One admin key."""
    return json_response(_key(await reads.admin_keys.get(person, key_id)))


@router.post("/{key_id}/rotate", response_model=CreatedAdminKey)
async def rotate_admin_key(
    key_id: str, reads: Reads, person: Person, *, wanted: Rotation | None = None
) -> Response:
    """Gives the key a new secret, told this once; the old one works on for the grace."""
    asked = wanted or Rotation.model_validate({})
    made, plain = await reads.admin_keys.rotate(
        person,
        key_id,
        grace_s=asked.grace_hours * 3_600,
        expires_at_ms=_unix_ms(asked.expires_at) if asked.expires_at else 0,
    )
    return _with_secret(made, plain, 200)


@router.delete("/{key_id}", status_code=204)
async def revoke_admin_key(
    key_id: str,
    reads: Reads,
    person: Person,
    *,
    reason: Annotated[str, Query(max_length=400)] = "",
) -> Response:
    """Ends a key with all its secrets, within a second."""
    await reads.admin_keys.revoke(person, key_id, reason)
    return Response(status_code=204)


def _with_secret(key: ManagedAdminKey, plain: str, status: int) -> Response:
    response = json_response({**_key(key), "key": plain}, status)
    response.headers["cache-control"] = "no-store"
    return response


def _key(key: ManagedAdminKey) -> dict[str, Any]:  # Any: JSON
    return {
        "id": key.admin_key_id,
        "label": key.label,
        "masked_key": key.masked_key,
        "permissions": list(key.permissions),
        "scope": key.scope,
        "expires_at": _iso(key.expires_at_ms),
        "last_used_at": _iso(key.last_used_at_ms),
        "created_by": key.created_by,
        "created_at": _iso(key.created_at_ms),
        "revoked_at": _iso(key.revoked_at_ms),
        "revoke_reason": key.revoke_reason or None,
    }


def _iso(unix_ms: int) -> str | None:
    if not unix_ms:
        return None
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _unix_ms(moment: datetime) -> int:
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(zoned.timestamp() * 1000)
