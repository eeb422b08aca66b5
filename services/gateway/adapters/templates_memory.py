"""Templates in memory, for tests and single-process demonstrations: the store, and at once the
directory that requests look in.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import replace

from services.common.clock import Clock
from services.common.errors import Conflict, Forbidden, InvalidArgument, NotFound
from services.common.grpc.auth import has_role
from services.common.ids import AccountId, TemplateId
from services.common.security.tokens import Principal
from services.gateway.template_store import (
    Field,
    StoredTemplate,
    StoredVersion,
    TemplateFields,
)
from services.gateway.templates import CompiledTemplate, compile_template


class MemoryTemplates:
    """`Templates` and `TemplateDirectory` over one dictionary."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._history: dict[str, list[StoredVersion]] = {}
        self.by_template_id: dict[str, StoredTemplate] = {}

    async def create(self, principal: Principal, fields: TemplateFields) -> StoredTemplate:
        now_ms = self._clock.now_ms()
        _require_writer(principal)
        made = StoredTemplate(
            template_id=str(uuid.uuid4()),
            account_id=principal.account_id,
            owner_user_id=principal.user_id,
            fields=fields,
            version=1,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
        )
        return self._put(made, principal, restored_from=0)

    async def get(self, principal: Principal, template_id: str) -> StoredTemplate:
        found = self.by_template_id.get(template_id)
        if found is None or found.account_id not in (principal.account_id, ""):
            raise NotFound(f"there is no template {template_id!r}")
        return found

    async def all(
        self, principal: Principal, *, team_id: str = "", owner_user_id: str = ""
    ) -> list[StoredTemplate]:
        found = [
            one
            for one in self.by_template_id.values()
            if one.account_id in (principal.account_id, "")
            and team_id in ("", one.fields.team_id)
            and owner_user_id in ("", one.owner_user_id)
        ]
        return sorted(found, key=lambda one: (one.created_at_ms, one.template_id), reverse=True)

    async def update(
        self,
        principal: Principal,
        template_id: str,
        fields: TemplateFields,
        *,
        changed: Collection[Field],
    ) -> StoredTemplate:
        known = await self._changeable(principal, template_id)
        changes = {name: getattr(fields, name) for name in changed}
        return self._next(known, replace(known.fields, **changes), principal)

    async def delete(self, principal: Principal, template_id: str) -> None:
        await self._changeable(principal, template_id)
        del self.by_template_id[template_id]

    async def versions(self, principal: Principal, template_id: str) -> list[StoredVersion]:
        await self.get(principal, template_id)
        return self._history[template_id][::-1]

    async def restore(self, principal: Principal, template_id: str, version: int) -> StoredTemplate:
        known = await self._changeable(principal, template_id)
        history = self._history[template_id]
        if not 1 <= version <= len(history):
            raise NotFound(f"the template has no version {version}")
        return self._next(known, history[version - 1].fields, principal, restored_from=version)

    def by_id(self, template_id: str) -> CompiledTemplate | None:
        """See `templates.TemplateDirectory.by_id`."""
        found = self.by_template_id.get(template_id)
        return _compiled(found) if found is not None else None

    def by_name(self, account_id: AccountId, name: str) -> CompiledTemplate | None:
        """See `templates.TemplateDirectory.by_name`."""
        for one in self.by_template_id.values():
            if (one.account_id, one.fields.name) == (account_id, name):
                return _compiled(one)
        return None

    async def _changeable(self, principal: Principal, template_id: str) -> StoredTemplate:
        found = await self.get(principal, template_id)
        _require_writer(principal)
        administers = principal.kind == "operator" or (
            principal.kind == "user" and has_role(principal.role, "admin")
        )
        owned = found.owner_user_id == principal.user_id
        if found.account_id != principal.account_id or not (owned or administers):
            raise Forbidden("this template is another's: its owner or an admin may change it")
        return found

    def _next(
        self,
        known: StoredTemplate,
        fields: TemplateFields,
        principal: Principal,
        *,
        restored_from: int = 0,
    ) -> StoredTemplate:
        if fields == known.fields:
            return known
        changed = replace(
            known,
            fields=fields,
            version=known.version + 1,
            updated_at_ms=self._clock.now_ms(),
        )
        return self._put(changed, principal, restored_from=restored_from)

    def _put(
        self, template: StoredTemplate, principal: Principal, *, restored_from: int
    ) -> StoredTemplate:
        fields = template.fields
        if not 1 <= len(fields.name.strip()) <= 128:
            raise InvalidArgument.of("name", "must have 1 to 128 characters")
        for other in self.by_template_id.values():
            same = (other.account_id, other.fields.name) == (template.account_id, fields.name)
            if same and other.template_id != template.template_id:
                raise Conflict(f"there is a template named {fields.name!r} already")
        self.by_template_id[template.template_id] = template
        self._history.setdefault(template.template_id, []).append(
            StoredVersion(
                template.version,
                fields,
                template.updated_at_ms,
                principal.user_id,
                restored_from,
            )
        )
        return template


def _require_writer(principal: Principal) -> None:
    if principal.kind == "user" and not has_role(principal.role, "developer"):
        raise Forbidden("this needs the role developer")


def _compiled(template: StoredTemplate) -> CompiledTemplate:
    fields = template.fields
    return compile_template(
        template_id=TemplateId(template.template_id),
        account_id=AccountId(template.account_id),
        name=fields.name,
        system=fields.system,
        messages=list(fields.messages),
        model=fields.model,
        params=fields.params,
    )
