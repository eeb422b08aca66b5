"""What staff may do, and that nobody else may do any of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from pydantic import ValidationError

from services.common.errors import Forbidden
from services.common.grpc import Principal
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2, ledger_pb2, ledger_pb2_grpc
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.common.v1 import operations_pb2, operations_pb2_grpc
from services.dashboard.config import DashboardSettings
from tests.integration.dashboard.conftest import (
    PASSWORD,
    STAFF,
    Browser,
    Panel,
    notes,
    serve_panel,
)
from tests.integration.dashboard.test_session import ROUTES

THEIRS = [(method, path) for method, path in ROUTES if path.startswith("/operator")]
OF_THE_INSTALLATION = {
    "provider_id": "local", "credential_id": "default", "grant_id": "grt_1",
    "keeper": "billing", "position": "0",
}  # fmt: skip
BODIES: dict[str, dict[str, object]] = {
    "/operator/accounts/{account_id}/suspend": {"reason": "no"},
    "/operator/accounts/{account_id}/promo": {
        "amount_usd": "5", "reason": "no", "idempotency_key": "0123456789",
    },
    "/operator/providers/{provider_id}/enabled": {"enabled": False},
    "/operator/providers/{provider_id}/credentials": {"label": "a", "credential": "sk-0123456789"},
    "/operator/providers/{provider_id}/credentials/{credential_id}": {"label": "a"},
    "/operator/providers/{provider_id}/credentials/{credential_id}/secret": {
        "credential": "sk-0123456789abcdef",
    },
    "/operator/prices": {"model_id": "local/m", "prompt_usd": "1", "completion_usd": "1"},
    "/operator/grants/{grant_id}/write-off": {"reason": "no"},
    "/operator/dead-letters/{keeper}/{position}/discard": {"reason": "no"},
}  # fmt: skip


@pytest.fixture
async def ada(staffed: Panel) -> Browser:
    """The owner of a new account, logged in."""
    found = await staffed.browser()
    await found.sign_up()
    return found


def address(path: str, account_id: str) -> str:
    known = {**OF_THE_INSTALLATION, "account_id": account_id}
    return "/api" + re.sub(r"\{(\w+)\}", lambda name: known[name[1]], path)


@pytest.mark.parametrize("who", ["owner", "member of the staff's account", "nobody"])
async def test_whoever_is_not_staff_can_call_none_of_the_operators_routes(
    who: str, ada: Browser, grace: Browser, staffed: Panel
) -> None:
    eve = ada
    if who == "nobody":
        eve = await staffed.browser()
    elif who != "owner":
        eve = await staffed.add_member(grace, "admin")
    account_id = ada.session["account_id"]
    assert len(THEIRS) > 15
    before = await notes(grace)
    for method, path in THEIRS:
        answer = await eve.call(method, address(path, account_id), BODIES.get(path))
        assert answer.status == (401 if who == "nobody" else 404), (method, path, answer.body)
        assert account_id.encode() not in answer.body or "{account_id}" in path
    if who != "nobody":
        assert (await eve.call("GET", "/api/session")).json["is_operator"] is False
        unknown = await eve.call("GET", "/api/no-such-route")
        assert answer.json["error"] == unknown.json["error"], "the routes are as if not there"
    assert await notes(grace) == before
    assert (await ada.call("POST", "/api/keys", {"label": "still there"})).status == 201


def calls(panel: Panel) -> Iterator[tuple[object, object, object]]:
    """Channel, method and request of what the owning services do for operators alone."""
    has = panel.backends
    ledger = ledger_pb2_grpc.LedgerServiceStub(has.billing_channel.channel())
    yield has.billing_channel, has.billing.ListGrants, billing_pb2.ListGrantsRequest()
    yield has.billing_channel, ledger.WriteOffGrant, ledger_pb2.WriteOffGrantRequest(grant_id="g")
    yield has.billing_channel, ledger.Verify, ledger_pb2.VerifyRequest()
    yield has.accounts_channel, has.accounts.ListAccounts, accounts_pb2.ListAccountsRequest()
    yield has.accounts_channel, has.accounts.SuspendAccount, accounts_pb2.SuspendAccountRequest()
    yield has.accounts_channel, has.accounts.RecordOperation, accounts_pb2.RecordOperationRequest()
    yield has.catalog_channel, has.catalog.ListProviders, catalog_pb2.ListProvidersRequest()
    yield has.catalog_channel, has.catalog.TestProvider, catalog_pb2.TestProviderRequest()
    for channel in (has.billing_channel, has.usage_channel):
        operations = operations_pb2_grpc.OperationsServiceStub(channel.channel())
        yield channel, operations.ListConsumerLag, operations_pb2.ListConsumerLagRequest()
        yield channel, operations.ListDeadLetters, operations_pb2.ListDeadLettersRequest()
        yield channel, operations.RetryDeadLetter, operations_pb2.RetryDeadLetterRequest()
        yield channel, operations.GetDeadLetter, operations_pb2.GetDeadLetterRequest()
        yield channel, operations.DiscardDeadLetter, operations_pb2.DiscardDeadLetterRequest()


async def test_the_owning_services_refuse_an_owner_whatever_the_panel_would_do(
    staffed: Panel, ada: Browser
) -> None:
    owner = Principal("user", ada.session["account_id"], user_id="usr_1", role="owner")
    for channel, method, request in calls(staffed):
        with pytest.raises(Forbidden):
            await channel.call(method, request, principal=owner)  # type: ignore[attr-defined]  # a GrpcChannel


async def test_staff_find_an_account_and_see_its_money_and_people(
    ada: Browser, grace: Browser
) -> None:
    assert (await grace.call("GET", "/api/session")).json["is_operator"] is True
    await ada.create_key()
    email = ada.session["email"]
    found = (await grace.call("GET", f"/api/operator/accounts?search={email}")).json["accounts"]
    assert [one["account_id"] for one in found] == [ada.session["account_id"]]
    details = (await grace.call("GET", f"/api/operator/accounts/{found[0]['account_id']}")).json
    assert (details["keys"], details["keys_active"], details["keys_more"]) == (1, 1, False)
    assert [one["email"] for one in details["members"]] == [email]
    assert details["balance"]["available_usd"] == "0.00"
    missing = await grace.call("GET", "/api/operator/accounts/acc_none")
    assert (missing.status, missing.code) == (404, "not_found")


async def test_staff_suspend_and_resume_an_account_and_it_is_written_down_who(
    ada: Browser, grace: Browser
) -> None:
    account_id = ada.session["account_id"]
    path = f"/api/operator/accounts/{account_id}"
    without = await grace.call("POST", f"{path}/suspend", {"reason": ""})
    assert (without.status, without.code) == (422, "validation_error")
    suspended = await grace.call("POST", f"{path}/suspend", {"reason": "unpaid"})
    assert suspended.json["suspended"] is True
    assert (await grace.call("POST", f"{path}/resume")).json["suspended"] is False
    assert (await notes(grace))[:2] == [
        ("account.resume", account_id, ""),
        ("account.suspend", account_id, "unpaid"),
    ]
    [event] = [
        one
        for one in (await grace.call("GET", "/api/audit?page_size=1")).json["events"]
        if one["type"] == "accounts.OperatorActed"
    ]
    members = (await grace.call("GET", "/api/members")).json
    assert event["actor"] in {one["user_id"] for one in members if one["email"] == STAFF}


async def test_promotional_credit_is_given_once_however_often_it_is_sent(
    ada: Browser, grace: Browser
) -> None:
    path = f"/api/operator/accounts/{ada.session['account_id']}/promo"
    body = {"amount_usd": "2.50", "days": 30, "reason": "sorry", "idempotency_key": "0123456789"}
    for _ in range(2):
        answer = await grace.call("POST", path, body)
        assert (answer.status, answer.json) == (200, {"posted_usd": "2.50"})
    assert (await ada.call("GET", "/api/balance")).json["available_usd"] == "2.50"
    assert ("account.promo", ada.session["account_id"], "2.50 USD: sorry") in await notes(grace)
    nowhere = await grace.call("POST", "/api/operator/accounts/acc_none/promo", body)
    assert (nowhere.status, nowhere.code) == (404, "not_found")


async def test_staff_publish_a_price_and_see_its_history(grace: Browser) -> None:
    priced = (await grace.call("GET", "/api/operator/models")).json
    model_id = next(one["model_id"] for one in priced if not one["model_id"].endswith(":free"))
    body = {"model_id": model_id, "prompt_usd": "0.15", "completion_usd": "0.60"}
    answer = await grace.call("POST", "/api/operator/prices", body)
    assert answer.status == 201, answer.body
    newest, *older = answer.json["prices"]
    assert newest["usd_per_1m"]["completion"] == "0.60"
    assert newest["source"].startswith("operator usr_")
    assert older
    assert (await notes(grace))[0] == ("price.publish", model_id, "USD per million: 0.15, 0.60")
    wrong = await grace.call("POST", "/api/operator/prices", {**body, "prompt_usd": "a lot"})
    assert (wrong.status, wrong.code) == (422, "validation_error")
    assert "prompt_usd" in wrong.json["error"]["message"] + str(wrong.json["error"]["details"])


async def test_the_books_are_compared_and_verified(grace: Browser) -> None:
    verified = (await grace.call("POST", "/api/operator/verify")).json
    assert verified["findings"] == []
    assert verified["accounts"] >= 0
    compared = await grace.call("POST", "/api/operator/reconcile")
    assert compared.status == 200, compared.body
    known = (await grace.call("GET", "/api/operator/differences")).json
    assert [one["account_id"] for one in known["differences"]] == [
        one["account_id"] for one in compared.json["differences"]
    ]
    grants = await grace.call("GET", "/api/operator/grants")
    assert grants.json == {"grants": [], "next_page_token": ""}
    missing = await grace.call("POST", "/api/operator/grants/grt_none/write-off", {"reason": "x"})
    assert (missing.status, missing.code) == (404, "not_found")


@pytest.mark.parametrize(
    "email",
    [
        "other@mesh.example",
        " Other@MESH.example",
        "other@mesh\u3002example",
        "other@me\u00adsh.example",
    ],
)
async def test_nobody_becomes_staff_by_signing_up_with_an_address_of_the_staff(
    email: str, staffed: Panel, ada: Browser
) -> None:
    eve = await staffed.browser()
    body = {"email": email, "password": PASSWORD, "name": "Eve"}
    tried = [
        await eve.call("POST", "/api/sign-up", body),
        await ada.call("POST", "/api/members", {"email": email, "role": "viewer",
                                                "initial_password": PASSWORD}),
        await ada.call("POST", "/api/invitations", {"email": email, "role": "viewer"}),
    ]  # fmt: skip
    for answer in tried:
        assert (answer.status, answer.code) == (403, "forbidden"), answer.body
        assert "mesh admin accounts create" in answer.json["error"]["message"]


async def test_an_invitation_from_before_does_not_make_anybody_staff(
    panel: Panel, settings_for: Callable[..., DashboardSettings]
) -> None:
    """Invited while the address was nobody's in particular."""
    owner = await panel.browser()
    await owner.sign_up()
    email = "later@mesh.example"
    invited = await owner.call("POST", "/api/invitations", {"email": email, "role": "viewer"})
    token = invited.json["link"].partition("#")[2]
    body = {"token": token, "password": PASSWORD, "name": "Eve"}
    async with serve_panel(settings_for(operators=email)) as later:
        eve = await later.browser()
        answer = await eve.call("POST", "/api/invitation/sign-up", body)
        assert (answer.status, answer.code) == (403, "forbidden"), answer.body


def test_a_setting_that_names_no_address_is_refused() -> None:
    assert DashboardSettings(operators="").staff == frozenset()
    assert DashboardSettings(operators=" A@b.c,, d@e.f ").staff == {"a@b.c", "d@e.f"}
    with pytest.raises(ValidationError, match="is not an e-mail address"):
        DashboardSettings(operators="a@b.c, staff")
