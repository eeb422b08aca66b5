"""TemplatesService over gRPC: who may call what, messages to commands, results to messages."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from services.catalog import template_handlers as handlers
from services.catalog.adapters.templates_pb import content_from_pb, content_to_pb
from services.catalog.domain.template import (
    Actor,
    CreateTemplate,
    DeleteTemplate,
    Template,
    UpdateTemplate,
)
from services.catalog.template_handlers import TemplateContext
from services.catalog.template_views import TemplateViews
from services.common.clock import Clock
from services.common.errors import Forbidden
from services.common.grpc import Access, principal
from services.common.grpc.auth import has_role
from services.common.ids import AccountId, TemplateId, UserId
from services.common.pb.mesh.catalog.v1 import templates_pb2 as pb
from services.common.pb.mesh.catalog.v1 import templates_pb2_grpc

TEMPLATES_SERVICE = "mesh.catalog.v1.TemplatesService"

# Who may write what is decided by the domain: a key acts for the user who made it.
_CALLERS = Access(frozenset({"dashboard", "gateway", "cli"}), "any")

TEMPLATE_POLICIES: Mapping[str, Access] = {
    f"/{TEMPLATES_SERVICE}/{method}": _CALLERS
    for method in (
        "CreateTemplate",
        "GetTemplate",
        "ListTemplates",
        "UpdateTemplate",
        "DeleteTemplate",
        "ListTemplateVersions",
        "RestoreTemplateVersion",
    )
}


class TemplatesServicer(templates_pb2_grpc.TemplatesServiceServicer):
    """Translates; decides nothing."""

    def __init__(self, context: TemplateContext, views: TemplateViews, clock: Clock) -> None:
        self._context = context
        self._views = views
        self._clock = clock

    async def CreateTemplate(self, request: pb.CreateTemplateRequest, _: object) -> pb.Template:
        command = CreateTemplate(
            template_id=TemplateId(str(uuid.uuid4())),
            content=content_from_pb(request.content),
            actor=_writer(),
            at_ms=self._clock.now_ms(),
        )
        return _template_to_pb(await handlers.create_template(self._context, command))

    async def GetTemplate(self, request: pb.GetTemplateRequest, _: object) -> pb.Template:
        found = await self._views.template(_actor().account_id, TemplateId(request.template_id))
        return _template_to_pb(found)

    async def ListTemplates(
        self, request: pb.ListTemplatesRequest, _: object
    ) -> pb.ListTemplatesResponse:
        found = await self._views.templates(
            _actor().account_id, team_id=request.team_id, owner_user_id=request.owner_user_id
        )
        return pb.ListTemplatesResponse(templates=[_template_to_pb(one) for one in found])

    async def UpdateTemplate(self, request: pb.UpdateTemplateRequest, _: object) -> pb.Template:
        command = UpdateTemplate(
            template_id=TemplateId(request.template_id),
            content=content_from_pb(request.content),
            mask=tuple(request.update_mask),
            actor=_writer(),
            at_ms=self._clock.now_ms(),
        )
        return _template_to_pb(await handlers.change_template(self._context, command))

    async def DeleteTemplate(
        self, request: pb.DeleteTemplateRequest, _: object
    ) -> pb.DeleteTemplateResponse:
        template_id = TemplateId(request.template_id)
        command = DeleteTemplate(template_id, _writer(), self._clock.now_ms())
        await handlers.change_template(self._context, command)
        return pb.DeleteTemplateResponse()

    async def ListTemplateVersions(
        self, request: pb.ListTemplateVersionsRequest, _: object
    ) -> pb.ListTemplateVersionsResponse:
        template_id = TemplateId(request.template_id)
        versions = await handlers.template_history(self._context, template_id, _actor())
        return pb.ListTemplateVersionsResponse(
            versions=[
                pb.TemplateVersion(
                    version=one.version,
                    content=content_to_pb(one.content),
                    changed_at_ms=one.changed_at_ms,
                    changed_by=one.changed_by,
                    restored_from=one.restored_from,
                )
                for one in versions
            ]
        )

    async def RestoreTemplateVersion(
        self, request: pb.RestoreTemplateVersionRequest, _: object
    ) -> pb.Template:
        restored = await handlers.restore_template(
            self._context,
            TemplateId(request.template_id),
            request.version,
            actor=_writer(),
            at_ms=self._clock.now_ms(),
        )
        return _template_to_pb(restored)


def _actor() -> Actor:
    """Whom the call is made for, as its token says."""
    caller = principal()
    return Actor(
        kind=caller.kind,
        account_id=AccountId(caller.account_id),
        user_id=UserId(caller.user_id),
        administers=caller.kind == "user" and has_role(caller.role, "admin"),
    )


def _writer() -> Actor:
    """Raises Forbidden for a user who may only look."""
    caller = principal()
    if caller.kind == "user" and not has_role(caller.role, "developer"):
        raise Forbidden("this needs the role developer")
    return _actor()


def _template_to_pb(template: Template) -> pb.Template:
    return pb.Template(
        template_id=template.template_id,
        account_id=template.account_id,
        owner_user_id=template.owner_user_id,
        content=content_to_pb(template.content),
        version=template.version,
        created_at_ms=template.created_at_ms,
        updated_at_ms=template.updated_at_ms,
    )
