"""The read table of templates: rows to states and states to rows."""

from __future__ import annotations

import asyncpg

from services.catalog.domain.template import Template
from services.catalog.domain.template_content import TemplateContent
from services.common.ids import AccountId, TemplateId, UserId

TEMPLATE_COLUMNS = (
    "template_id", "account_id", "owner_user_id", "version", "created_at_ms", "updated_at_ms",
    "name", "description", "system", "messages_json", "model", "params_json", "variables",
    "team_id",
)  # fmt: skip
_PLACES = ", ".join(f"${n}" for n in range(1, len(TEMPLATE_COLUMNS) + 1))
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in TEMPLATE_COLUMNS[1:])
PUT_TEMPLATE = (
    f"INSERT INTO templates ({', '.join(TEMPLATE_COLUMNS)}) VALUES ({_PLACES})"  # noqa: S608 - constants
    f" ON CONFLICT (template_id) DO UPDATE SET {_CHANGES}"
)


def template_row(template: Template) -> tuple[object, ...]:
    """In the order of TEMPLATE_COLUMNS."""
    content = template.content
    return (
        template.template_id,
        template.account_id,
        template.owner_user_id,
        template.version,
        template.created_at_ms,
        template.updated_at_ms,
        content.name,
        content.description,
        content.system,
        content.messages_json,
        content.model,
        content.params_json,
        list(content.variables),
        content.team_id,
    )


def template_from(row: asyncpg.Record) -> Template:
    return Template(
        template_id=TemplateId(row["template_id"]),
        account_id=AccountId(row["account_id"]),
        owner_user_id=UserId(row["owner_user_id"]),
        content=TemplateContent(
            name=row["name"],
            description=row["description"],
            system=row["system"],
            messages_json=row["messages_json"],
            model=row["model"],
            params_json=row["params_json"],
            variables=tuple(row["variables"]),
            team_id=row["team_id"],
        ),
        version=row["version"],
        created_at_ms=row["created_at_ms"],
        updated_at_ms=row["updated_at_ms"],
    )
