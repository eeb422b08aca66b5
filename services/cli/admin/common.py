"""Options that all `mesh admin` commands share, and the running of one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter
from cyclopts.validators import Number

from services.cli.context import Services, operator, services

T = TypeVar("T")


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Options:
    """How to print."""

    json: Annotated[bool, Parameter(negative="", help="Print JSON, one object a line.")] = False


AccountOption = Annotated[
    str | None,
    Parameter(
        name=["--account", "-a"],
        help="Account id, owner's address or name; may be left out where there is only one.",
    ),
]

# Numbers that the fields of our messages can carry.
INT32_MAX = 2**31 - 1
Count = Annotated[int, Parameter(validator=Number(gte=1, lte=INT32_MAX))]
CountOrNone = Annotated[int, Parameter(validator=Number(gte=0, lte=INT32_MAX))]
Status = Annotated[int, Parameter(validator=Number(gte=100, lte=599))]


def run(work: Callable[[Services], Awaitable[T]]) -> T:
    """Runs `work` with open channels."""

    async def opened() -> T:
        async with services() as found:
            return await work(found)

    return asyncio.run(opened())


async def call(
    found: Services,
    service: str,
    *,
    method: Any,  # Any: the stubs' multi-callables are generic over their messages
    request: Any,  # Any: the message that `method` takes
    account: str = "",
) -> Any:  # Any: the message that `method` returns
    """Calls one method as the operator, acting for `account`."""
    return await found.channels[service].call(method, request, principal=operator(account))
