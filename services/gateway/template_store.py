"""Templates as the public API reads and writes them: a port; the catalog is behind it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from services.common.security.tokens import Principal

Field = Literal["name", "description", "system", "messages", "model", "params", "variables"]


@dataclass(frozen=True, slots=True)
class TemplateFields:
    """What may be set on a template; empty means absent."""

    name: str = ""
    description: str = ""
    system: str = ""
    messages: Sequence[dict[str, Any]] = ()  # Any: JSON of chat messages
    model: str = ""
    params: dict[str, Any] = field(default_factory=dict)  # Any: values are free JSON
    variables: Sequence[str] = ()
    team_id: str = ""


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A template as of one version; the account is empty for a global one. Times in Unix
    milliseconds.
    """

    template_id: str
    account_id: str
    owner_user_id: str
    fields: TemplateFields
    version: int
    created_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of a template; `restored_from` 0 means that its content was new."""

    version: int
    fields: TemplateFields
    changed_at_ms: int
    changed_by: str
    restored_from: int


class Templates(Protocol):
    """The templates of the principal's account, and the global ones.

    All raise NotFound where there is none that the principal may see, Forbidden where it may see
    but not change it, InvalidArgument that names the field, Conflict where a name is taken,
    Unavailable.
    """

    async def create(self, principal: Principal, fields: TemplateFields) -> StoredTemplate: ...

    async def get(self, principal: Principal, template_id: str) -> StoredTemplate: ...

    async def all(
        self, principal: Principal, *, team_id: str = "", owner_user_id: str = ""
    ) -> list[StoredTemplate]:
        """Newest first; empty filters mean all."""

    async def update(
        self,
        principal: Principal,
        template_id: str,
        fields: TemplateFields,
        *,
        changed: Collection[Field],
    ) -> StoredTemplate:
        """A new version; only the fields in `changed` are others, empty ones are cleared."""

    async def delete(self, principal: Principal, template_id: str) -> None: ...

    async def versions(self, principal: Principal, template_id: str) -> list[StoredVersion]:
        """Newest first."""

    async def restore(
        self, principal: Principal, template_id: str, version: int
    ) -> StoredTemplate: ...
