"""`mesh dlq`: messages that a consumer put aside, and what becomes of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from services.cli.admin.common import Count, Options, call, run
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows
from services.common.pb.mesh.common.v1 import operations_pb2, operations_pb2_grpc

app = App(name="dlq", help="Dead letters: list, show, retry, discard.")

Keeper = Annotated[
    Literal["billing", "usage"],
    Parameter(name=["--service", "-s"], help="Whose consumers put it aside."),
]
Status = Literal["open", "sent_again", "discarded"]
_STATUS = "DEAD_LETTER_STATUS_"


def letter_row(letter: operations_pb2.PutAside) -> Row:
    status = operations_pb2.DeadLetterStatus.Name(letter.status)
    return {
        "position": letter.position,
        "put_at": moment(letter.put_at_ms),
        "status": status.removeprefix(_STATUS).lower(),
        "from": f"{letter.topic}/{letter.partition}:{letter.offset}",
        "key": letter.key,
        "bytes": letter.value_bytes,
        "why": letter.reason,
        "retryable": letter.retryable,
        "decided_by": letter.decided_by,
        "decided_at": moment(letter.decided_at_ms),
        "decision_reason": letter.decision_reason,
    }


def command(service: str, name: str, request: Any) -> Any:  # Any: protobuf messages
    """Calls the OperationsService method `name` of that service."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        stub = operations_pb2_grpc.OperationsServiceStub(found.channels[service].channel())
        return await call(found, service, method=getattr(stub, name), request=request)

    return run(work)


@app.command(name="list")
def list_letters(
    *,
    service: Keeper = "billing",
    status: Status | None = None,
    limit: Count = 50,
    options: Options = Options(),
) -> None:
    """The newest, newest first; decided ones stay listed."""
    request = operations_pb2.ListDeadLettersRequest(limit=limit)
    if status is not None:
        request.status = operations_pb2.DeadLetterStatus.Value(f"{_STATUS}{status.upper()}")
    answer = command(service, "ListDeadLetters", request)
    rows = [letter_row(one) for one in answer.letters]
    show_rows(rows, as_json=options.json, nothing="nothing was put aside")


@app.command
def show(position: int, *, service: Keeper = "billing", options: Options = Options()) -> None:
    """One of them with what is in it; secrets are masked."""
    request = operations_pb2.GetDeadLetterRequest(position=position)
    found = command(service, "GetDeadLetter", request)
    row: dict[str, Any] = {  # Any: values of a row, as `Row` has them
        **letter_row(found.letter),
        "event_type": found.event_type,
        "event_id": found.event_id,
        "account_id": found.account_id,
        "event": found.event_json,
        "undecodable": found.undecodable,
        "preview": found.preview,
    }
    show_one(row, as_json=options.json)


@app.command
def retry(position: int, *, service: Keeper = "billing", options: Options = Options()) -> None:
    """Sends it to its topic again; what was taken meanwhile is not taken twice."""
    request = operations_pb2.RetryDeadLetterRequest(position=position)
    sent = command(service, "RetryDeadLetter", request)
    row = {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset}
    show_one(row, as_json=options.json)


@app.command
def discard(
    position: int, *, reason: str, service: Keeper = "billing", options: Options = Options()
) -> None:
    """Writes down that nothing will come of it, and why. It stays listed."""
    request = operations_pb2.DiscardDeadLetterRequest(position=position, reason=reason)
    show_one(letter_row(command(service, "DiscardDeadLetter", request)), as_json=options.json)
