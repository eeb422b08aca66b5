"""Templates on the wire: content, events and states to and from their protobuf messages."""

from __future__ import annotations

from typing import assert_never

from google.protobuf.message import Message

from services.catalog.adapters.translation_pb import UnexpectedEvent
from services.catalog.domain.template import (
    Template,
    TemplateChanged,
    TemplateCreated,
    TemplateDeleted,
    TemplateEvent,
)
from services.catalog.domain.template_content import TemplateContent
from services.common.events import EventRecord, record_of
from services.common.ids import AccountId, TemplateId, UserId
from services.common.pb.mesh.events.v1 import templates_pb2 as pb


def content_to_pb(content: TemplateContent) -> pb.TemplateContent:
    return pb.TemplateContent(
        name=content.name,
        description=content.description,
        system=content.system,
        messages_json=content.messages_json,
        model=content.model,
        params_json=content.params_json,
        variables=content.variables,
        team_id=content.team_id,
    )


def content_from_pb(message: pb.TemplateContent) -> TemplateContent:
    return TemplateContent(
        name=message.name,
        description=message.description,
        system=message.system,
        messages_json=message.messages_json,
        model=message.model,
        params_json=message.params_json,
        variables=tuple(message.variables),
        team_id=message.team_id,
    )


def template_event_to_pb(event: TemplateEvent) -> Message:
    """The message of an event; its moment goes to the envelope."""
    match event:
        case TemplateCreated():
            return pb.TemplateCreated(
                template_id=event.template_id,
                account_id=event.account_id,
                owner_user_id=event.owner_user_id,
                content=content_to_pb(event.content),
            )
        case TemplateChanged():
            return pb.TemplateChanged(
                template_id=event.template_id,
                account_id=event.account_id,
                content=content_to_pb(event.content),
                changed_by=event.changed_by,
                restored_from=event.restored_from,
            )
        case TemplateDeleted():
            return pb.TemplateDeleted(
                template_id=event.template_id,
                account_id=event.account_id,
                deleted_by=event.deleted_by,
            )
        case _:
            assert_never(event)


def template_event_from(record: EventRecord) -> TemplateEvent:
    """The event of a record of a template's stream; raises UnexpectedEvent, UndecodableEvent."""
    message, at_ms = record.message(), record.occurred_at_ms
    match message:
        case pb.TemplateCreated():
            return TemplateCreated(
                TemplateId(message.template_id),
                AccountId(message.account_id),
                UserId(message.owner_user_id),
                content_from_pb(message.content),
                at_ms,
            )
        case pb.TemplateChanged():
            return TemplateChanged(
                TemplateId(message.template_id),
                AccountId(message.account_id),
                content_from_pb(message.content),
                UserId(message.changed_by),
                message.restored_from,
                at_ms,
            )
        case pb.TemplateDeleted():
            return TemplateDeleted(
                TemplateId(message.template_id),
                AccountId(message.account_id),
                UserId(message.deleted_by),
                at_ms,
            )
        case _:
            raise UnexpectedEvent(f"{record.type} in {record.stream_id}")


def template_record(event: TemplateEvent) -> EventRecord:
    """The record of a new event."""
    return record_of(
        template_event_to_pb(event), account_id=event.account_id, occurred_at_ms=event.at_ms
    )


def template_state_record(template: Template) -> EventRecord:
    """What gateways know of a template."""
    state = pb.TemplateState(
        template_id=template.template_id,
        account_id=template.account_id,
        owner_user_id=template.owner_user_id,
        content=content_to_pb(template.content),
        version=template.version,
        created_at_ms=template.created_at_ms,
        updated_at_ms=template.updated_at_ms,
    )
    return record_of(state, account_id=template.account_id, occurred_at_ms=template.updated_at_ms)
