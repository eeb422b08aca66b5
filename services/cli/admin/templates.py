"""`mesh admin templates`: prompt templates of an account, or global ones, with their versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from services.cli.admin.common import Count, Options, call, run
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows
from services.common.errors import InvalidArgument
from services.common.pb.mesh.catalog.v1 import templates_pb2 as pb
from services.common.pb.mesh.events.v1 import templates_pb2 as events_pb

app = App(name="templates", help="Prompt templates: list, show, put, versions, restore, delete.")
Account = Annotated[
    str | None,
    Parameter(
        name=["--account", "-a"],
        help="Account id, owner's address or name; left out: global templates.",
    ),
]


def command(account: str | None, name: str, request: Any) -> Any:  # Any: protobuf messages
    """Calls the TemplatesService method `name` for that account, or for all."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account) if account else ""
        method = getattr(found.templates, name)
        return await call(found, "catalog", method=method, request=request, account=account_id)

    return run(work)


def template_row(template: pb.Template) -> Row:
    return {
        "template_id": template.template_id,
        "name": template.content.name,
        "global": not template.account_id,
        "owner": template.owner_user_id,
        "version": template.version,
        "model": template.content.model,
        "updated_at": moment(template.updated_at_ms),
    }


def content_row(content: events_pb.TemplateContent) -> Row:
    return {
        "name": content.name,
        "description": content.description,
        "system": content.system,
        "messages": json.loads(content.messages_json or "[]"),
        "model": content.model,
        "params": json.loads(content.params_json or "{}"),
        "variables": list(content.variables),
    }


def content_of(path: Path, name: str) -> events_pb.TemplateContent:
    """The template in a JSON file: system, messages, model, params, variables, description."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgument.of("file", f"cannot be read as JSON: {error}") from error
    if not isinstance(given, dict):
        raise InvalidArgument.of("file", "must hold a JSON object")
    known = ("description", "system", "messages", "model", "params", "variables")
    for field in given:
        if field not in known:
            raise InvalidArgument.of(field, f"is no field of a template: {', '.join(known)}")
    for field in ("description", "system", "model"):
        if not isinstance(given.get(field, ""), str):
            raise InvalidArgument.of(field, "must be a text")
    variables = given.get("variables", [])
    if not isinstance(variables, list) or not all(isinstance(one, str) for one in variables):
        raise InvalidArgument.of("variables", "must be a list of names")
    return events_pb.TemplateContent(
        name=name,
        description=given.get("description", ""),
        system=given.get("system", ""),
        messages_json=json.dumps(given["messages"]) if given.get("messages") else "",
        model=given.get("model", ""),
        params_json=json.dumps(given["params"]) if given.get("params") else "",
        variables=variables,
    )


def find(account: str | None, named: str) -> pb.Template | None:
    """Of the account's own (or of the global ones) that of this id or name."""
    answer = command(account, "ListTemplates", pb.ListTemplatesRequest())
    for template in answer.templates:
        own = bool(template.account_id) is bool(account)
        if own and named in (template.template_id, template.content.name):
            return template  # type: ignore[no-any-return]  # the stubs' answers are untyped here
    return None


def found_id(account: str | None, named: str) -> str:
    """Raises InvalidArgument where there is none."""
    template = find(account, named)
    if template is None:
        raise InvalidArgument.of("template", f"there is none named {named!r}")
    return template.template_id


@app.command(name="list")
def list_templates(*, account: Account = None, options: Options = Options()) -> None:
    """The global templates; with an account, its own too."""
    answer = command(account, "ListTemplates", pb.ListTemplatesRequest())
    show_rows([template_row(one) for one in answer.templates], as_json=options.json)


@app.command
def show(template: str, *, account: Account = None, options: Options = Options()) -> None:
    """What a template says; by name or id."""
    request = pb.GetTemplateRequest(template_id=found_id(account, template))
    found = command(account, "GetTemplate", request)
    show_one({**template_row(found), **content_row(found.content)}, as_json=options.json)


@app.command
def put(name: str, file: Path, *, account: Account = None, options: Options = Options()) -> None:
    """Makes a template of a JSON file, or a new version of the one of that name."""
    content = content_of(file, name)
    known = find(account, name)
    if known is None:
        request: Any = pb.CreateTemplateRequest(content=content)  # Any: one of two messages
        saved = command(account, "CreateTemplate", request)
    else:
        mask = ["description", "system", "messages_json", "model", "params_json", "variables"]
        request = pb.UpdateTemplateRequest(
            template_id=known.template_id, content=content, update_mask=mask
        )
        saved = command(account, "UpdateTemplate", request)
    show_one(template_row(saved), as_json=options.json)


@app.command
def versions(template: str, *, account: Account = None, options: Options = Options()) -> None:
    """The history of a template, newest first."""
    request = pb.ListTemplateVersionsRequest(template_id=found_id(account, template))
    rows = [
        {
            "version": one.version,
            "changed_at": moment(one.changed_at_ms),
            "changed_by": one.changed_by,
            "restored_from": one.restored_from or None,
            "system": one.content.system[:60],
        }
        for one in command(account, "ListTemplateVersions", request).versions
    ]
    show_rows(rows, as_json=options.json)


@app.command
def restore(
    template: str, version: Count, *, account: Account = None, options: Options = Options()
) -> None:
    """A new version with the content of an older one."""
    request = pb.RestoreTemplateVersionRequest(
        template_id=found_id(account, template), version=version
    )
    saved = command(account, "RestoreTemplateVersion", request)
    show_one(template_row(saved), as_json=options.json)


@app.command
def delete(template: str, *, account: Account = None, options: Options = Options()) -> None:
    """The template is found no longer; its history stays in the log."""
    template_id = found_id(account, template)
    command(account, "DeleteTemplate", pb.DeleteTemplateRequest(template_id=template_id))
    show_one({"template_id": template_id, "deleted": True}, as_json=options.json)
