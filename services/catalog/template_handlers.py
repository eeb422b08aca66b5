"""What the catalog does with templates on command: load, decide, append."""

from __future__ import annotations

from dataclasses import dataclass

from services.catalog.domain.template import (
    TEMPLATES_MAX,
    Actor,
    CreateTemplate,
    DeleteTemplate,
    RestoreTemplate,
    Template,
    TemplateCommand,
    TemplateVersion,
    UpdateTemplate,
    decide,
    folded,
    history,
    is_template_id,
    require_visible,
)
from services.catalog.template_ports import TemplateStore, TemplateTransaction
from services.common.errors import Conflict, NotFound
from services.common.ids import TemplateId


@dataclass(frozen=True, slots=True)
class TemplateContext:
    """What the handlers work with."""

    store: TemplateStore


async def create_template(context: TemplateContext, command: CreateTemplate) -> Template:
    """Raises InvalidArgument, and Conflict where the name is taken or there are too many."""
    async with context.store.transaction() as work:
        events = decide(None, command)
        if await work.count(command.actor.account_id) >= TEMPLATES_MAX:
            raise Conflict(f"an account has at most {TEMPLATES_MAX} templates")
        return await work.append(command.template_id, 0, events)


async def change_template(
    context: TemplateContext, command: UpdateTemplate | DeleteTemplate
) -> Template:
    """Raises NotFound, Forbidden, InvalidArgument, Conflict where a new name is taken."""
    _require_id(command.template_id)
    async with context.store.transaction() as work:
        return await _apply(work, command)


async def restore_template(
    context: TemplateContext, template_id: TemplateId, version: int, *, actor: Actor, at_ms: int
) -> Template:
    """The content of that version becomes the newest. Raises NotFound where there is none."""
    _require_id(template_id)
    async with context.store.transaction() as work:
        events = await work.events(template_id)
        require_visible(folded(events), template_id, actor)
        found = next((one for one in history(events) if one.version == version), None)
        if found is None:
            raise NotFound(f"the template has no version {version}")
        command = RestoreTemplate(template_id, version, found.content, actor, at_ms)
        return await _apply(work, command)


async def template_history(
    context: TemplateContext, template_id: TemplateId, actor: Actor
) -> list[TemplateVersion]:
    """Every version, newest first. Raises NotFound."""
    _require_id(template_id)
    async with context.store.transaction() as work:
        events = await work.events(template_id)
    require_visible(folded(events), template_id, actor)
    return history(events)[::-1]


def _require_id(template_id: TemplateId) -> None:
    if not is_template_id(template_id):
        raise NotFound(f"there is no template {template_id!r}")


async def _apply(work: TemplateTransaction, command: TemplateCommand) -> Template:
    known = await work.events(command.template_id)
    state = folded(known)
    events = decide(state, command)
    if not events:
        assert state is not None
        return state
    return await work.append(command.template_id, len(known), events)
