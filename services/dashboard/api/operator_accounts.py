"""For staff: accounts, what is in them, their suspension, promotional credit."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from services.common.money import nanousd_from_field, usd_from_nanousd
from services.common.pb.mesh.accounts.v1 import accounts_pb2, keys_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2, payments_pb2, payments_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.dashboard.api import operator_models as models
from services.dashboard.api.session import PathId
from services.dashboard.api.staff import OperatorDep
from services.dashboard.api.translate import balance_out, member_out, moment

router = APIRouter(prefix="/operator", tags=["operator"])
PAGE_SIZE = 50
KEYS_COUNTED_MAX = 200
DAY_MS = 86_400_000


def account_out(account: accounts_pb2.Account) -> models.OperatorAccount:
    return models.OperatorAccount(
        account_id=account.account_id,
        name=account.name,
        owner_email=account.owner_email,
        suspended=account.suspended,
        created_at=moment(account.created_at_ms) or "",
    )


def end_of_day_ms(now_ms: int, days: int) -> int:
    """The end of the day, in UTC, that comes so many days after today: the same however often a
    request is sent within a day, since it is part of what the idempotency key stands for.
    """
    return (now_ms // DAY_MS + days + 1) * DAY_MS


@router.get("/accounts")
async def find_accounts(
    operator: OperatorDep, *, search: str = "", page_token: str = ""
) -> models.OperatorAccounts:
    """Accounts, newest first, by part of a name or of the owner's address."""
    page = common_pb2.PageRequest(page_size=PAGE_SIZE, page_token=page_token)
    answer = await operator.backends.accounts_channel.call(
        operator.backends.accounts.ListAccounts,
        accounts_pb2.ListAccountsRequest(page=page, search=search),
        principal=operator.acting(),
    )
    return models.OperatorAccounts(
        accounts=[account_out(one) for one in answer.accounts],
        next_page_token=answer.page.next_page_token,
    )


@router.get("/accounts/{account_id}")
async def account_details(
    account_id: PathId, operator: OperatorDep
) -> models.OperatorAccountDetails:
    """One account with its balance, members and keys."""
    found, acting = operator.backends, operator.acting(account_id)
    account = await found.accounts_channel.call(
        found.accounts.GetAccount, accounts_pb2.GetAccountRequest(), principal=acting
    )
    keys_page = common_pb2.PageRequest(page_size=KEYS_COUNTED_MAX)
    members, keys, balance = await asyncio.gather(
        found.accounts_channel.call(
            found.accounts.ListMembers, accounts_pb2.ListMembersRequest(), principal=acting
        ),
        found.accounts_channel.call(
            found.keys.ListKeys, keys_pb2.ListKeysRequest(page=keys_page), principal=acting
        ),
        found.billing_channel.call(
            found.billing.GetBalance, billing_pb2.GetBalanceRequest(), principal=acting
        ),
    )
    return models.OperatorAccountDetails(
        account=account_out(account),
        balance=balance_out(balance),
        members=[member_out(one) for one in members.members],
        keys=len(keys.keys),
        keys_active=sum(not one.suspended for one in keys.keys),
        keys_more=bool(keys.page.next_page_token),
    )


@router.post("/accounts/{account_id}/suspend")
async def suspend_account(
    account_id: PathId, body: models.Suspension, *, operator: OperatorDep
) -> models.OperatorAccount:
    """Refuses every key of the account, everywhere, within a second."""
    await operator.note("account.suspend", account_id, body.reason)
    account = await operator.backends.accounts_channel.call(
        operator.backends.accounts.SuspendAccount,
        accounts_pb2.SuspendAccountRequest(reason=body.reason),
        principal=operator.acting(account_id),
    )
    return account_out(account)


@router.post("/accounts/{account_id}/resume")
async def resume_account(account_id: PathId, operator: OperatorDep) -> models.OperatorAccount:
    """Ends a suspension."""
    await operator.note("account.resume", account_id)
    account = await operator.backends.accounts_channel.call(
        operator.backends.accounts.ResumeAccount,
        accounts_pb2.ResumeAccountRequest(),
        principal=operator.acting(account_id),
    )
    return account_out(account)


@router.post("/accounts/{account_id}/promo")
async def grant_promo(
    account_id: PathId, body: models.Promo, request: Request, *, operator: OperatorDep
) -> models.PromoGiven:
    """Promotional credit, which is used before paid credit."""
    now_ms = request.app.state.clock.now_ms()
    amount_nanousd = nanousd_from_field("amount_usd", body.amount_usd)
    found, acting = operator.backends, operator.acting(account_id)
    # Billing books for whatever account it is told of; accounts knows which there are.
    await found.accounts_channel.call(
        found.accounts.GetAccount, accounts_pb2.GetAccountRequest(), principal=acting
    )
    note = f"{usd_from_nanousd(amount_nanousd)} USD: {body.reason}"
    await operator.note("account.promo", account_id, note)
    stub = payments_pb2_grpc.PaymentsServiceStub(found.billing_channel.channel())
    answer = await found.billing_channel.call(
        stub.GrantPromo,
        payments_pb2.GrantPromoRequest(
            amount_nanousd=amount_nanousd,
            expires_at_ms=end_of_day_ms(now_ms, body.days) if body.days else 0,
            reason=body.reason,
            idempotency_key=body.idempotency_key,
        ),
        principal=acting,
    )
    return models.PromoGiven(posted_usd=usd_from_nanousd(answer.posted_nanousd))
