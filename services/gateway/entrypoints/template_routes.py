"""Prompt templates of the caller's account: create, read, change, delete, and their versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from services.common.errors import InvalidArgument
from services.common.security.tokens import Principal
from services.gateway import template_store as store
from services.gateway.entrypoints.app import PublicReads, reads_of
from services.gateway.entrypoints.callers import account_caller_of
from services.gateway.entrypoints.system_routes import json_response
from services.gateway.template_store import StoredTemplate, StoredVersion, TemplateFields

router = APIRouter(prefix="/v1/templates", tags=["templates"])

Reads = Annotated[PublicReads, Depends(reads_of)]
Caller = Annotated[Principal, Depends(account_caller_of)]
_EXAMPLE: JsonDict = {
    "name": "support",
    "system": "You answer for {{ product }}, in {{ language }}.",
    "messages": [],
    "model": "openai/gpt-4o-mini",
    "params": {"temperature": 0.2},
    "variables": ["product", "language"],
}


class TemplateChanges(BaseModel):
    """What may be set on a template. Absent fields and nulls are left as they are."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    name: str | None = Field(None, min_length=1, max_length=128)
    description: str | None = Field(None, max_length=4_000)
    system: str | None = Field(None, max_length=256 * 1024)
    messages: list[dict[str, Any]] | None = Field(None, max_length=256)  # Any: JSON
    model: str | None = Field(None, max_length=256)
    params: dict[str, Any] | None = None  # Any: values are free JSON
    variables: list[str] | None = Field(None, max_length=256)

    def fields(self) -> TemplateFields:
        """What is set; the rest is empty."""
        return TemplateFields(**self.model_dump(exclude_none=True))


class NewTemplate(TemplateChanges):
    """A template to be made."""

    name: str = Field(min_length=1, max_length=128)
    team_id: str | None = Field(None, max_length=64)


class TemplateObject(BaseModel):
    """One template. `owner` is the user who made it; null where the template is global."""

    id: str
    name: str
    owner: str | None
    is_global: bool
    description: str | None
    system: str | None
    messages: list[dict[str, Any]] | None  # Any: JSON
    model: str | None
    params: dict[str, Any] | None  # Any: values are free JSON
    variables: list[str] | None
    team_id: str | None
    version: int
    created_at: str
    updated_at: str


class TemplateVersionObject(BaseModel):
    """One version in a template's history."""

    version: int
    changed_at: str
    changed_by: str | None
    restored_from: int | None
    name: str
    description: str | None
    system: str | None
    messages: list[dict[str, Any]] | None  # Any: JSON
    model: str | None
    params: dict[str, Any] | None  # Any: values are free JSON
    variables: list[str] | None


@router.post("", status_code=201, response_model=TemplateObject)
async def create_template(wanted: NewTemplate, reads: Reads, caller: Caller) -> Response:
    """Makes a template of the caller's account; 409 where it has one of that name."""
    made = await reads.templates.create(caller, wanted.fields())
    return json_response(_template(made), 201)


@router.get("", response_model=list[TemplateObject])
async def list_templates(
    reads: Reads,
    caller: Caller,
    *,
    team_id: Annotated[str, Query(max_length=64)] = "",
    member_owner: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The account's own and the global ones, newest first."""
    found = await reads.templates.all(caller, team_id=team_id, owner_user_id=member_owner)
    return json_response([_template(one) for one in found])


@router.get("/{template_id}", response_model=TemplateObject)
async def get_template(template_id: str, reads: Reads, caller: Caller) -> Response:
    """One template; 404 for every id that is none."""
    return json_response(_template(await reads.templates.get(caller, template_id)))


@router.patch("/{template_id}", response_model=TemplateObject)
async def update_template(
    template_id: str, changes: TemplateChanges, *, reads: Reads, caller: Caller
) -> Response:
    """A new version; what the body does not name stays."""
    changed = changes.model_dump(exclude_none=True)
    if not changed:
        return await get_template(template_id, reads, caller)
    # The names are the model's fields.
    names = cast("set[store.Field]", set(changed))
    updated = await reads.templates.update(caller, template_id, changes.fields(), changed=names)
    return json_response(_template(updated))


@router.delete("/{template_id}", status_code=204)
async def delete_template(template_id: str, reads: Reads, caller: Caller) -> Response:
    """The template is found no longer, by nobody."""
    await reads.templates.delete(caller, template_id)
    return Response(status_code=204)


@router.get("/{template_id}/versions", response_model=list[TemplateVersionObject])
async def list_versions(template_id: str, reads: Reads, caller: Caller) -> Response:
    """What the template was, newest first."""
    found = await reads.templates.versions(caller, template_id)
    return json_response([_version(one) for one in found])


@router.post("/{template_id}/versions/{version}/restore", response_model=TemplateObject)
async def restore_version(
    template_id: str, version: int, *, reads: Reads, caller: Caller
) -> Response:
    """A new version with the content of an older one."""
    if not 1 <= version < 2**63:
        raise InvalidArgument.of("path.version", "must be 1 or more")
    return json_response(_template(await reads.templates.restore(caller, template_id, version)))


def _template(stored: StoredTemplate) -> dict[str, Any]:  # Any: JSON
    return {
        "id": stored.template_id,
        "owner": stored.owner_user_id or None,
        "is_global": not stored.account_id,
        **_content(stored.fields),
        "team_id": stored.fields.team_id or None,
        "version": stored.version,
        "created_at": _iso(stored.created_at_ms),
        "updated_at": _iso(stored.updated_at_ms),
    }


def _version(stored: StoredVersion) -> dict[str, Any]:  # Any: JSON
    return {
        "version": stored.version,
        "changed_at": _iso(stored.changed_at_ms),
        "changed_by": stored.changed_by or None,
        "restored_from": stored.restored_from or None,
        **_content(stored.fields),
    }


def _content(fields: TemplateFields) -> dict[str, Any]:  # Any: JSON
    return {
        "name": fields.name,
        "description": fields.description or None,
        "system": fields.system or None,
        "messages": list(fields.messages) or None,
        "model": fields.model or None,
        "params": fields.params or None,
        "variables": list(fields.variables) or None,
    }


def _iso(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
