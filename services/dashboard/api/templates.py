"""Prompt templates: the account's own, to be changed, and the operator's, to be read."""

from __future__ import annotations

import json

from fastapi import APIRouter

from services.common.pb.mesh.catalog.v1 import templates_pb2
from services.common.pb.mesh.events.v1 import templates_pb2 as events_pb2
from services.dashboard.api import models
from services.dashboard.api.session import BackendsDep, PathId, SessionDep
from services.dashboard.api.translate import moment

router = APIRouter(tags=["templates"])
FIELD_NAMES = {"messages": "messages_json", "params": "params_json"}


@router.get("/templates")
async def list_templates(session: SessionDep, backends: BackendsDep) -> list[models.TemplateOut]:
    """Own and global templates, newest first."""
    answer = await backends.catalog_channel.call(
        backends.templates.ListTemplates,
        templates_pb2.ListTemplatesRequest(),
        principal=session.caller,
    )
    return [template_out(template) for template in answer.templates]


@router.post("/templates", status_code=201)
async def create_template(
    body: models.TemplateIn, session: SessionDep, backends: BackendsDep
) -> models.TemplateOut:
    """A new template, at version 1."""
    template = await backends.catalog_channel.call(
        backends.templates.CreateTemplate,
        templates_pb2.CreateTemplateRequest(content=content_pb(body)),
        principal=session.caller,
    )
    return template_out(template)


@router.get("/templates/{template_id}")
async def get_template(
    template_id: PathId, session: SessionDep, backends: BackendsDep
) -> models.TemplateOut:
    """One template as it is now."""
    template = await backends.catalog_channel.call(
        backends.templates.GetTemplate,
        templates_pb2.GetTemplateRequest(template_id=template_id),
        principal=session.caller,
    )
    return template_out(template)


@router.put("/templates/{template_id}")
async def change_template(
    template_id: PathId, body: models.TemplateIn, *, session: SessionDep, backends: BackendsDep
) -> models.TemplateOut:
    """The next version, whole."""
    fields = sorted(type(body).model_fields)
    template = await backends.catalog_channel.call(
        backends.templates.UpdateTemplate,
        templates_pb2.UpdateTemplateRequest(
            template_id=template_id,
            content=content_pb(body),
            update_mask=[FIELD_NAMES.get(name, name) for name in fields],
        ),
        principal=session.caller,
    )
    return template_out(template)


@router.delete("/templates/{template_id}", status_code=204)
async def delete_template(template_id: PathId, session: SessionDep, backends: BackendsDep) -> None:
    """Requests that name it fail within a second."""
    await backends.catalog_channel.call(
        backends.templates.DeleteTemplate,
        templates_pb2.DeleteTemplateRequest(template_id=template_id),
        principal=session.caller,
    )


@router.get("/templates/{template_id}/versions")
async def list_template_versions(
    template_id: PathId, session: SessionDep, backends: BackendsDep
) -> list[models.TemplateVersionOut]:
    """Every version it had, newest first."""
    answer = await backends.catalog_channel.call(
        backends.templates.ListTemplateVersions,
        templates_pb2.ListTemplateVersionsRequest(template_id=template_id),
        principal=session.caller,
    )
    return [
        models.TemplateVersionOut(
            version=one.version,
            content=content_out(one.content),
            changed_at=moment(one.changed_at_ms) or "",
            changed_by=one.changed_by,
            restored_from=one.restored_from,
        )
        for one in answer.versions
    ]


@router.post("/templates/{template_id}/versions/{version}/restore")
async def restore_template_version(
    template_id: PathId,
    version: models.VersionNumber,
    *,
    session: SessionDep,
    backends: BackendsDep,
) -> models.TemplateOut:
    """A new version with the content of an older one."""
    template = await backends.catalog_channel.call(
        backends.templates.RestoreTemplateVersion,
        templates_pb2.RestoreTemplateVersionRequest(template_id=template_id, version=version),
        principal=session.caller,
    )
    return template_out(template)


def content_pb(body: models.TemplateIn) -> events_pb2.TemplateContent:
    return events_pb2.TemplateContent(
        name=body.name,
        description=body.description,
        system=body.system,
        messages_json=json.dumps([message.model_dump() for message in body.messages])
        if body.messages
        else "",
        model=body.model,
        params_json=json.dumps(body.params) if body.params else "",
        variables=body.variables,
    )


def content_out(content: events_pb2.TemplateContent) -> models.TemplateContentOut:
    messages = json.loads(content.messages_json) if content.messages_json else []
    return models.TemplateContentOut(
        name=content.name,
        description=content.description,
        system=content.system,
        messages=[
            models.TemplateMessage(
                role=str(message.get("role", "")), content=text_of(message.get("content"))
            )
            for message in messages
        ],
        model=content.model,
        params=json.loads(content.params_json) if content.params_json else {},
        variables=list(content.variables),
    )


def text_of(content: object) -> str:
    """A message's text; of other contents, which the public API may have stored, their JSON."""
    return content if isinstance(content, str) else json.dumps(content)


def template_out(template: templates_pb2.Template) -> models.TemplateOut:
    return models.TemplateOut(
        template_id=template.template_id,
        is_global=not template.account_id,
        content=content_out(template.content),
        version=template.version,
        created_at=moment(template.created_at_ms) or "",
        updated_at=moment(template.updated_at_ms) or "",
    )
