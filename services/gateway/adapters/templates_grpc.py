"""Templates by gRPC at the catalog, for whoever asks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson

from services.common.errors import InvalidArgument
from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.catalog.v1 import templates_pb2 as pb
from services.common.pb.mesh.catalog.v1 import templates_pb2_grpc
from services.common.pb.mesh.events.v1 import templates_pb2 as events_pb
from services.common.security.tokens import Principal
from services.gateway.template_store import (
    Field,
    StoredTemplate,
    StoredVersion,
    TemplateFields,
)

# Names of fields where the catalog's differ from the API's.
_THEIRS = {"messages": "messages_json", "params": "params_json"}


class GrpcTemplates:
    """`Templates` at the catalog."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = templates_pb2_grpc.TemplatesServiceStub(channel.channel())

    async def create(self, principal: Principal, fields: TemplateFields) -> StoredTemplate:
        request = pb.CreateTemplateRequest(content=content_to_pb(fields))
        answer = await self._channel.call(self._stub.CreateTemplate, request, principal=principal)
        return _template_from_pb(answer)

    async def get(self, principal: Principal, template_id: str) -> StoredTemplate:
        request = pb.GetTemplateRequest(template_id=template_id)
        answer = await self._channel.call(self._stub.GetTemplate, request, principal=principal)
        return _template_from_pb(answer)

    async def all(
        self, principal: Principal, *, team_id: str = "", owner_user_id: str = ""
    ) -> list[StoredTemplate]:
        request = pb.ListTemplatesRequest(team_id=team_id, owner_user_id=owner_user_id)
        answer = await self._channel.call(self._stub.ListTemplates, request, principal=principal)
        return [_template_from_pb(one) for one in answer.templates]

    async def update(
        self,
        principal: Principal,
        template_id: str,
        fields: TemplateFields,
        *,
        changed: Collection[Field],
    ) -> StoredTemplate:
        request = pb.UpdateTemplateRequest(
            template_id=template_id,
            content=content_to_pb(fields),
            update_mask=[_THEIRS.get(name, name) for name in sorted(changed)],
        )
        answer = await self._channel.call(self._stub.UpdateTemplate, request, principal=principal)
        return _template_from_pb(answer)

    async def delete(self, principal: Principal, template_id: str) -> None:
        request = pb.DeleteTemplateRequest(template_id=template_id)
        await self._channel.call(self._stub.DeleteTemplate, request, principal=principal)

    async def versions(self, principal: Principal, template_id: str) -> list[StoredVersion]:
        request = pb.ListTemplateVersionsRequest(template_id=template_id)
        answer = await self._channel.call(
            self._stub.ListTemplateVersions, request, principal=principal
        )
        return [
            StoredVersion(
                version=one.version,
                fields=_fields_from_pb(one.content),
                changed_at_ms=one.changed_at_ms,
                changed_by=one.changed_by,
                restored_from=one.restored_from,
            )
            for one in answer.versions
        ]

    async def restore(self, principal: Principal, template_id: str, version: int) -> StoredTemplate:
        request = pb.RestoreTemplateVersionRequest(template_id=template_id, version=version)
        answer = await self._channel.call(
            self._stub.RestoreTemplateVersion, request, principal=principal
        )
        return _template_from_pb(answer)


def content_to_pb(fields: TemplateFields) -> events_pb.TemplateContent:
    """The content as the catalog takes it. Raises InvalidArgument where JSON cannot be written."""
    return events_pb.TemplateContent(
        name=fields.name,
        description=fields.description,
        system=fields.system,
        messages_json=_json("messages", list(fields.messages)),
        model=fields.model,
        params_json=_json("params", fields.params),
        variables=fields.variables,
        team_id=fields.team_id,
    )


def _json(field: str, value: Any) -> str:  # Any: JSON
    if not value:
        return ""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise InvalidArgument.of(field, "has a number or text that JSON cannot carry") from error


def _fields_from_pb(content: events_pb.TemplateContent) -> TemplateFields:
    return TemplateFields(
        name=content.name,
        description=content.description,
        system=content.system,
        messages=orjson.loads(content.messages_json or "[]"),
        model=content.model,
        params=orjson.loads(content.params_json or "{}"),
        variables=list(content.variables),
        team_id=content.team_id,
    )


def _template_from_pb(message: pb.Template) -> StoredTemplate:
    return StoredTemplate(
        template_id=message.template_id,
        account_id=message.account_id,
        owner_user_id=message.owner_user_id,
        fields=_fields_from_pb(message.content),
        version=message.version,
        created_at_ms=message.created_at_ms,
        updated_at_ms=message.updated_at_ms,
    )
