"""For staff: money that is held, and whether the books agree."""

from __future__ import annotations

from fastapi import APIRouter

from services.common.money import usd_from_nanousd
from services.common.pb.mesh.billing.v1 import billing_pb2, ledger_pb2, ledger_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2
from services.dashboard.api import operator_models as models
from services.dashboard.api.session import PathId
from services.dashboard.api.staff import Operator, OperatorDep
from services.dashboard.api.translate import moment

router = APIRouter(prefix="/operator", tags=["operator"])
PAGE_SIZE = 100
DIFFERENCES_SHOWN_MAX = 200
# Both read all that there is of a day, or of everything.
LONG_TIMEOUT_S = 120.0


def ledger_stub(operator: Operator) -> ledger_pb2_grpc.LedgerServiceAsyncStub:
    stub: ledger_pb2_grpc.LedgerServiceAsyncStub = ledger_pb2_grpc.LedgerServiceStub(
        operator.backends.billing_channel.channel()
    )
    return stub


def grant_out(grant: billing_pb2.GrantInfo) -> models.HeldGrant:
    held = grant.amount_nanousd - grant.settled_nanousd - grant.returned_nanousd
    return models.HeldGrant(
        grant_id=grant.grant_id,
        account_id=grant.account_id,
        key_id=grant.key_id,
        worker_id=grant.worker_id,
        status=grant.status,
        amount_usd=usd_from_nanousd(grant.amount_nanousd),
        settled_usd=usd_from_nanousd(grant.settled_nanousd),
        held_usd=usd_from_nanousd(held),
        expires_at=moment(grant.expires_at_ms),
    )


def difference_out(one: usage_pb2.LedgerDifference) -> models.DifferenceOut:
    return models.DifferenceOut(
        account_id=one.account_id,
        hour=moment(one.hour_start_ms) or "",
        log_requests=one.log_requests,
        log_cost_usd=usd_from_nanousd(one.log_cost_nanousd),
        ledger_requests=one.ledger_requests,
        ledger_cost_usd=usd_from_nanousd(one.ledger_cost_nanousd),
        only_in_log=list(one.only_in_log),
        only_in_ledger=list(one.only_in_ledger),
        cost_differs=list(one.cost_differs),
    )


@router.get("/grants")
async def held_grants(
    operator: OperatorDep, *, unresolved: bool = True, page_token: str = ""
) -> models.HeldGrants:
    """Grants that hold money: those that no worker answers for any more, or all."""
    page = common_pb2.PageRequest(page_size=PAGE_SIZE, page_token=page_token)
    answer = await operator.backends.billing_channel.call(
        operator.backends.billing.ListGrants,
        billing_pb2.ListGrantsRequest(page=page, unresolved_only=unresolved),
        principal=operator.acting(),
    )
    return models.HeldGrants(
        grants=[grant_out(one) for one in answer.grants],
        next_page_token=answer.page.next_page_token,
    )


@router.post("/grants/{grant_id}/write-off")
async def write_off(
    grant_id: PathId, body: models.WriteOff, *, operator: OperatorDep
) -> models.WrittenOff:
    """Gives up an unresolved grant: what it still holds is available again."""
    await operator.note("grant.write_off", grant_id, body.reason)
    answer = await operator.backends.billing_channel.call(
        ledger_stub(operator).WriteOffGrant,
        ledger_pb2.WriteOffGrantRequest(grant_id=grant_id, reason=body.reason),
        principal=operator.acting(),
    )
    return models.WrittenOff(
        account_id=answer.account_id, written_off_usd=usd_from_nanousd(answer.written_off_nanousd)
    )


@router.get("/differences")
async def differences(operator: OperatorDep) -> models.DifferencesOut:
    """Where log and ledger did not agree when they were last compared."""
    answer = await operator.backends.usage_channel.call(
        operator.backends.usage.ListDifferences,
        usage_pb2.ListDifferencesRequest(limit=DIFFERENCES_SHOWN_MAX),
        principal=operator.acting(),
    )
    return models.DifferencesOut(
        differences=[difference_out(one) for one in answer.differences],
        compared_at=moment(answer.compared_at_ms),
    )


@router.post("/reconcile")
async def reconcile(operator: OperatorDep) -> models.Compared:
    """Compares the log with the ledger over the settled hours of the last day."""
    answer = await operator.backends.usage_channel.call(
        operator.backends.usage.Reconcile,
        usage_pb2.ReconcileRequest(),
        principal=operator.acting(),
        timeout_s=LONG_TIMEOUT_S,
    )
    return models.Compared(
        hours=answer.hours,
        requests=answer.requests,
        cost_usd=usd_from_nanousd(answer.cost_nanousd),
        differences=[difference_out(one) for one in answer.differences],
    )


@router.post("/verify")
async def verify(operator: OperatorDep) -> models.Verified:
    """Folds every account's journal again and computes every seal again."""
    answer = await operator.backends.billing_channel.call(
        ledger_stub(operator).Verify,
        ledger_pb2.VerifyRequest(),
        principal=operator.acting(),
        timeout_s=LONG_TIMEOUT_S,
    )
    return models.Verified(
        accounts=answer.accounts,
        events=answer.events,
        transactions=answer.transactions,
        seals=answer.seals,
        findings=[
            models.FindingOut(account_id=one.account_id, what=one.what) for one in answer.findings
        ],
    )
