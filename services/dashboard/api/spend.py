"""What was spent, from the journal: by day, provider, model and key, with the sums of each.

The sums are made here, in whole nano-dollars, so that the page never adds up money.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import APIRouter
from pydantic import BaseModel

from services.common.money import usd_from_nanousd
from services.common.pb.mesh.billing.v1 import payments_pb2
from services.dashboard.api.payments import STATEMENT_TIMEOUT_S, stub_of
from services.dashboard.api.session import BackendsDep, SessionDep

router = APIRouter(tags=["spend"])


class SpendRowOut(BaseModel):
    day: str
    provider_id: str
    model_id: str
    key_id: str
    spent_usd: str
    requests: int


class SpendPartOut(BaseModel):
    """What was spent on one day, or with one model, provider or key."""

    value: str
    spent_usd: str
    requests: int


class SpendOut(BaseModel):
    """Everything, and its sums: of days in their order, of others dearest first."""

    spent_usd: str
    rows: list[SpendRowOut]
    days: list[SpendPartOut]
    models: list[SpendPartOut]
    providers: list[SpendPartOut]
    keys: list[SpendPartOut]


@router.get("/spend")
async def get_spend(
    session: SessionDep, backends: BackendsDep, *, from_ms: int = 0, to_ms: int = 0
) -> SpendOut:
    """What was spent by day, provider, model and key, from the journal."""
    request = payments_pb2.GetSpendHistoryRequest(from_ms=max(0, from_ms), to_ms=max(0, to_ms))
    answer = await backends.billing_channel.call(
        stub_of(backends).GetSpendHistory,
        request,
        principal=session.caller,
        timeout_s=STATEMENT_TIMEOUT_S,
    )
    return spend_out(answer)


def spend_out(answer: payments_pb2.GetSpendHistoryResponse) -> SpendOut:
    rows = answer.rows
    days = parts(rows, lambda row: row.day)
    return SpendOut(
        spent_usd=usd_from_nanousd(answer.spent_nanousd),
        rows=[
            SpendRowOut(
                day=one.day,
                provider_id=one.provider_id,
                model_id=one.model_id,
                key_id=one.key_id,
                spent_usd=usd_from_nanousd(one.spent_nanousd),
                requests=one.requests,
            )
            for one in rows
        ],
        days=sorted(days, key=lambda part: part.value),
        models=parts(rows, lambda row: row.model_id),
        providers=parts(rows, lambda row: row.provider_id),
        keys=parts(rows, lambda row: row.key_id),
    )


def parts(
    rows: Iterable[payments_pb2.SpendRow], value_of: Callable[[payments_pb2.SpendRow], str]
) -> list[SpendPartOut]:
    """Sums by what `value_of` says of a row, dearest first."""
    sums: dict[str, tuple[int, int]] = {}
    for row in rows:
        nanousd, requests = sums.get(value_of(row), (0, 0))
        sums[value_of(row)] = nanousd + row.spent_nanousd, requests + row.requests
    return [
        SpendPartOut(value=value, spent_usd=usd_from_nanousd(nanousd), requests=requests)
        for value, (nanousd, requests) in sorted(
            sums.items(), key=lambda item: (-item[1][0], item[0])
        )
    ]
