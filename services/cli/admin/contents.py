"""`mesh admin contents`: prompts and answers, where they are stored at all."""

from __future__ import annotations

from typing import Any

from cyclopts import App

from services.cli.admin.common import AccountOption, Options, call, run
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.usage.v1 import content_pb2

SHOWN_MAX = 100
_BRIEF = 80

app = App(name="contents", help="Stored prompts and answers: show, search, erase.")


def content_row(content: content_pb2.StoredContent, *, brief: bool = False) -> Row:
    prompt, answer = content.prompt, content.answer
    return {
        "usage_id": content.usage_id,
        "request_id": content.request_id,
        "key_id": content.key_id,
        "model": content.model_id,
        "received_at": moment(content.received_at_ms),
        "prompt": " ".join(prompt.split())[:_BRIEF] if brief else prompt,
        "answer": " ".join(answer.split())[:_BRIEF] if brief else answer,
        "prompt_truncated": content.prompt_truncated,
        "answer_truncated": content.answer_truncated,
    }


def command(account: str | None, name: str, request: Any) -> Any:  # Any: protobuf messages
    """Calls the ContentService method `name` for that account."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        method = getattr(found.contents, name)
        return await call(found, "usage", method=method, request=request, account=account_id)

    return run(work)


@app.command
def show(usage_id: str, *, account: AccountOption = None, options: Options = Options()) -> None:
    """What one request asked and was answered."""
    request = content_pb2.GetContentRequest(usage_id=usage_id)
    show_one(content_row(command(account, "GetContent", request)), as_json=options.json)


@app.command
def search(words: str, *, account: AccountOption = None, options: Options = Options()) -> None:
    """The newest in which every word occurs."""
    request = content_pb2.SearchContentRequest(
        words=words, page=common_pb2.PageRequest(page_size=SHOWN_MAX)
    )
    answer = command(account, "SearchContent", request)
    rows = [content_row(one, brief=not options.json) for one in answer.contents]
    show_rows(rows, as_json=options.json)


@app.command
def erase(*, account: AccountOption = None, options: Options = Options()) -> None:
    """Erases everything that is stored of the account until now. It cannot be taken back."""
    answer = command(account, "EraseContent", content_pb2.EraseContentRequest())
    row = {"erased": answer.erased, "erased_until": moment(answer.erased_until_ms)}
    show_one(row, as_json=options.json)
