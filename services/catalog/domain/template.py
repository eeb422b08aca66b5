"""A prompt template: its versions, who may read and who may change it.

A template is its account's, or everyone's where it has no account (a global one, the operator's).
Every change is a new version, whole; an older one is restored by making its content the newest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from services.catalog.domain.template_content import TemplateContent, checked_content
from services.common.errors import Forbidden, InvalidArgument, NotFound
from services.common.ids import AccountId, TemplateId, UserId

GLOBAL = AccountId("")
# Of one account, and global ones: gateways keep all of them in memory.
TEMPLATES_MAX = 1_000
_TEMPLATE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Template:
    """A template as of its newest version. `version` counts the events that made content."""

    template_id: TemplateId
    account_id: AccountId
    owner_user_id: UserId
    content: TemplateContent
    version: int
    created_at_ms: int
    updated_at_ms: int
    deleted: bool = False

    def visible_to(self, account_id: AccountId) -> bool:
        """True where this account may read it."""
        return not self.deleted and self.account_id in (account_id, GLOBAL)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, as the caller's token says. The operator acts for an account or, without one, for
    all.
    """

    kind: Literal["user", "key", "operator"]
    account_id: AccountId
    user_id: UserId
    # True for admins and owners of the account.
    administers: bool = False

    def may_change(self, template: Template) -> bool:
        """Own ones; those of others in the account by its admins; global ones by the operator."""
        if template.account_id != self.account_id:
            return False
        if self.kind == "operator":
            return True
        owned = template.owner_user_id == self.user_id
        return template.account_id != GLOBAL and (owned or self.administers)


@dataclass(frozen=True, slots=True)
class CreateTemplate:
    template_id: TemplateId
    content: TemplateContent
    actor: Actor
    at_ms: int


@dataclass(frozen=True, slots=True)
class UpdateTemplate:
    """The fields that `mask` names become those of `content`."""

    template_id: TemplateId
    content: TemplateContent
    mask: tuple[str, ...]
    actor: Actor
    at_ms: int


@dataclass(frozen=True, slots=True)
class RestoreTemplate:
    """`content` is that of `version`, which the handler found."""

    template_id: TemplateId
    version: int
    content: TemplateContent
    actor: Actor
    at_ms: int


@dataclass(frozen=True, slots=True)
class DeleteTemplate:
    template_id: TemplateId
    actor: Actor
    at_ms: int


TemplateCommand = CreateTemplate | UpdateTemplate | RestoreTemplate | DeleteTemplate


@dataclass(frozen=True, slots=True)
class TemplateCreated:
    template_id: TemplateId
    account_id: AccountId
    owner_user_id: UserId
    content: TemplateContent
    at_ms: int


@dataclass(frozen=True, slots=True)
class TemplateChanged:
    """`restored_from` is the version whose content it is again; 0 where it is new."""

    template_id: TemplateId
    account_id: AccountId
    content: TemplateContent
    changed_by: UserId
    restored_from: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class TemplateDeleted:
    template_id: TemplateId
    account_id: AccountId
    deleted_by: UserId
    at_ms: int


TemplateEvent = TemplateCreated | TemplateChanged | TemplateDeleted


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """One version in a template's history."""

    version: int
    content: TemplateContent
    changed_at_ms: int
    changed_by: UserId
    restored_from: int = 0


def decide(state: Template | None, command: TemplateCommand) -> list[TemplateEvent]:
    """What happens; nothing where it is so already. Raises InvalidArgument, NotFound, Forbidden."""
    match command:
        case CreateTemplate(template_id, content, actor, at_ms):
            assert state is None
            content = checked_content(content)
            return [TemplateCreated(template_id, actor.account_id, actor.user_id, content, at_ms)]
        case UpdateTemplate(template_id, content, mask, actor, at_ms):
            known = _changeable(state, template_id, actor)
            changed = checked_content(_merged(known.content, content, mask))
            return _changed(known, changed, actor, at_ms=at_ms)
        case RestoreTemplate(template_id, version, content, actor, at_ms):
            known = _changeable(state, template_id, actor)
            return _changed(known, content, actor, at_ms=at_ms, restored_from=version)
        case DeleteTemplate(template_id, actor, at_ms):
            known = _changeable(state, template_id, actor)
            return [TemplateDeleted(template_id, known.account_id, actor.user_id, at_ms)]
        case _:
            assert_never(command)


def evolve(state: Template | None, event: TemplateEvent) -> Template:
    """The template after the event."""
    match event:
        case TemplateCreated(template_id, account_id, owner_user_id, content, at_ms):
            assert state is None
            return Template(template_id, account_id, owner_user_id, content, 1, at_ms, at_ms)
        case TemplateChanged(content=content, at_ms=at_ms):
            assert state is not None
            assert not state.deleted
            return replace(state, content=content, version=state.version + 1, updated_at_ms=at_ms)
        case TemplateDeleted(at_ms=at_ms):
            assert state is not None
            return replace(state, deleted=True, updated_at_ms=at_ms)
        case _:
            assert_never(event)


def folded(events: Sequence[TemplateEvent]) -> Template | None:
    """The template after all its events; None where there are none."""
    state: Template | None = None
    for event in events:
        state = evolve(state, event)
    return state


def history(events: Sequence[TemplateEvent]) -> list[TemplateVersion]:
    """Every version, oldest first."""
    versions: list[TemplateVersion] = []
    for event in events:
        number = len(versions) + 1
        match event:
            case TemplateCreated():
                versions.append(
                    TemplateVersion(number, event.content, event.at_ms, event.owner_user_id)
                )
            case TemplateChanged():
                versions.append(
                    TemplateVersion(
                        number, event.content, event.at_ms, event.changed_by, event.restored_from
                    )
                )
            case TemplateDeleted():
                pass
            case _:
                assert_never(event)
    return versions


def is_template_id(text: str) -> bool:
    """True for a UUID as templates have it: in lower case."""
    return _TEMPLATE_ID.fullmatch(text) is not None


def require_visible(state: Template | None, template_id: TemplateId, actor: Actor) -> Template:
    """Raises NotFound where there is none that this caller may see."""
    if state is None or not state.visible_to(actor.account_id):
        raise NotFound(f"there is no template {template_id!r}")
    return state


def _changeable(state: Template | None, template_id: TemplateId, actor: Actor) -> Template:
    known = require_visible(state, template_id, actor)
    if not actor.may_change(known):
        raise Forbidden("this template is another's: its owner or an admin may change it")
    return known


def _changed(
    known: Template,
    content: TemplateContent,
    actor: Actor,
    *,
    at_ms: int,
    restored_from: int = 0,
) -> list[TemplateEvent]:
    if content == known.content:
        return []
    return [
        TemplateChanged(
            known.template_id, known.account_id, content, actor.user_id, restored_from, at_ms
        )
    ]


def _merged(known: TemplateContent, given: TemplateContent, mask: Sequence[str]) -> TemplateContent:
    unknown = [name for name in mask if name not in TemplateContent.__slots__]
    if unknown:
        raise InvalidArgument.of("update_mask", f"there is no field {unknown[0]!r}")
    # The names are fields of both.
    changes = {name: getattr(given, name) for name in mask}
    return replace(known, **changes)
