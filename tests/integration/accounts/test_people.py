"""People, sessions, members and accounts, over gRPC."""

from __future__ import annotations

import asyncio
import json

import pytest

from services.common.errors import (
    Conflict,
    Forbidden,
    InvalidArgument,
    NotFound,
    Unauthorized,
)
from services.common.pb.mesh.accounts.v1 import accounts_pb2 as pb
from services.common.pb.mesh.common.v1 import common_pb2
from tests.integration.accounts.conftest import PASSWORD, Service, operator


async def resolve(service: Service, token: str) -> pb.ResolveSessionResponse:
    request = pb.ResolveSessionRequest(session_token=token)
    answer = await service.call(service.accounts.ResolveSession, request)
    assert isinstance(answer, pb.ResolveSessionResponse)
    return answer


async def test_a_person_signs_up_and_their_session_tells_who_they_are(service: Service) -> None:
    request = pb.SignUpRequest(
        email="Ada.L@Example.com", password=PASSWORD, name="Ada L", account_name="Engines"
    )
    started = await service.call(service.accounts.SignUp, request)
    found = await resolve(service, started.session_token)
    assert found.principal == started.principal
    assert found.expires_at_ms == started.expires_at_ms
    assert found.principal.email == "ada.l@example.com"
    assert found.principal.account_name == "Engines"
    assert found.principal.role == common_pb2.ROLE_OWNER


async def test_a_person_logs_in_by_their_address_in_any_case(service: Service) -> None:
    ada = await service.sign_up()
    again = await service.log_in(ada.email.upper())
    assert again.principal == ada.principal
    assert again.token != ada.token


async def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(
    service: Service,
) -> None:
    ada = await service.sign_up()
    with pytest.raises(Unauthorized) as wrong:
        await service.log_in(ada.email, "a wrong password")
    with pytest.raises(Unauthorized) as unknown:
        await service.log_in("nobody@example.com", PASSWORD)
    assert wrong.value.message == unknown.value.message


async def test_an_address_signs_up_once_even_at_the_same_moment(service: Service) -> None:
    results = await asyncio.gather(
        *(service.sign_up("twice@example.com") for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(one, Conflict) for one in results) == 3
    users = await service.pool.fetch("SELECT FROM users WHERE email = 'twice@example.com'")
    assert len(users) == 1


async def test_bad_input_names_its_field(service: Service) -> None:
    for field, request in (
        ("email", pb.SignUpRequest(email="nonsense", password=PASSWORD)),
        ("password", pb.SignUpRequest(email="short@example.com", password="short")),
        ("name", pb.SignUpRequest(email="a@example.com", password=PASSWORD, name="x" * 201)),
    ):
        with pytest.raises(InvalidArgument) as refused:
            await service.call(service.accounts.SignUp, request)
        assert [detail.loc for detail in refused.value.details] == [(field,)]


async def test_a_session_ends_with_the_log_out(service: Service) -> None:
    ada = await service.sign_up()
    await service.call(service.accounts.LogOut, pb.LogOutRequest(session_token=ada.token))
    with pytest.raises(Unauthorized):
        await resolve(service, ada.token)
    with pytest.raises(Unauthorized):
        await resolve(service, "mss_never_was")


async def test_a_session_ends_with_its_time(service: Service) -> None:
    ada = await service.sign_up()
    await resolve(service, ada.token)
    await service.clock.advance(14 * 86_400)
    with pytest.raises(Unauthorized):
        await resolve(service, ada.token)


async def test_a_person_sees_and_revokes_their_sessions(service: Service) -> None:
    first = await service.sign_up()
    second = await service.log_in(first.email)
    listed = await service.call(
        service.accounts.ListSessions, pb.ListSessionsRequest(), first.principal
    )
    assert {one.session_id for one in listed.sessions} == {first.session_id, second.session_id}
    request = pb.RevokeSessionRequest(session_id=second.session_id)
    await service.call(service.accounts.RevokeSession, request, first.principal)
    with pytest.raises(Unauthorized):
        await resolve(service, second.token)
    await resolve(service, first.token)


async def test_a_new_password_ends_the_other_sessions(service: Service) -> None:
    kept = await service.sign_up()
    other = await service.log_in(kept.email)
    request = pb.ChangePasswordRequest(
        current_password=PASSWORD, new_password="a better password", session_token=kept.token
    )
    await service.call(service.accounts.ChangePassword, request, kept.principal)
    await resolve(service, kept.token)
    with pytest.raises(Unauthorized):
        await resolve(service, other.token)
    with pytest.raises(Unauthorized):
        await service.log_in(kept.email)
    await service.log_in(kept.email, "a better password")


async def test_a_log_in_during_a_change_of_password_leaves_no_session_behind(
    service: Service,
) -> None:
    ada = await service.sign_up()
    request = pb.ChangePasswordRequest(
        current_password=PASSWORD, new_password="a better password", session_token=ada.token
    )
    change = service.call(service.accounts.ChangePassword, request, ada.principal)
    log_ins = [service.log_in(ada.email) for _ in range(6)]
    _, *results = await asyncio.gather(change, *log_ins, return_exceptions=True)
    for one in results:
        if not isinstance(one, BaseException):
            with pytest.raises(Unauthorized):
                await resolve(service, one.token)


async def test_a_role_that_changes_is_seen_with_the_next_request(service: Service) -> None:
    owner = await service.sign_up()
    bob = await service.add(owner, "viewer")
    request = pb.ChangeMemberRoleRequest(
        user_id=bob.principal.user_id, role=common_pb2.ROLE_DEVELOPER
    )
    await service.call(service.accounts.ChangeMemberRole, request, owner.principal)
    found = await resolve(service, bob.token)
    assert found.principal.role == common_pb2.ROLE_DEVELOPER
    await service.call(
        service.accounts.RemoveMember,
        pb.RemoveMemberRequest(user_id=bob.principal.user_id),
        owner.principal,
    )
    with pytest.raises(Unauthorized):
        await resolve(service, bob.token)


async def test_of_two_owners_who_demote_each_other_at_once_one_remains(service: Service) -> None:
    ada = await service.sign_up()
    eve = await service.add(ada, "owner")

    async def demote(who: str, by: str) -> None:
        people = {"ada": ada, "eve": eve}
        request = pb.ChangeMemberRoleRequest(
            user_id=people[who].principal.user_id, role=common_pb2.ROLE_VIEWER
        )
        await service.call(service.accounts.ChangeMemberRole, request, people[by].principal)

    results = await asyncio.gather(
        demote("ada", "eve"), demote("eve", "ada"), return_exceptions=True
    )
    assert sum(isinstance(one, Forbidden) for one in results) == 1
    members = await service.call(
        service.accounts.ListMembers, pb.ListMembersRequest(), ada.principal
    )
    roles = [one.role for one in members.members]
    assert sorted(roles) == [common_pb2.ROLE_VIEWER, common_pb2.ROLE_OWNER]


async def test_the_last_owner_stays(service: Service) -> None:
    ada = await service.sign_up()
    request = pb.RemoveMemberRequest(user_id=ada.principal.user_id)
    with pytest.raises(Conflict) as refused:
        await service.call(service.accounts.RemoveMember, request, ada.principal)
    assert refused.value.extra == {"rule": "last_owner"}


async def test_the_operator_finds_suspends_and_resumes_an_account(service: Service) -> None:
    ada = await service.sign_up("findme@needle.example")
    request = pb.ListAccountsRequest(search="@Needle.")
    listed = await service.call(service.accounts.ListAccounts, request, operator())
    assert [one.account_id for one in listed.accounts] == [ada.principal.account_id]
    assert listed.accounts[0].owner_email == "findme@needle.example"
    acting = operator(ada.principal.account_id)
    suspend = pb.SuspendAccountRequest(reason="unpaid")
    assert (await service.call(service.accounts.SuspendAccount, suspend, acting)).suspended
    again = await service.log_in(ada.email)
    account = await service.call(
        service.accounts.GetAccount, pb.GetAccountRequest(), again.principal
    )
    assert account.suspended
    resumed = await service.call(service.accounts.ResumeAccount, pb.ResumeAccountRequest(), acting)
    assert not resumed.suspended


async def test_the_operator_lists_accounts_newest_first_in_pages(service: Service) -> None:
    people = []
    for number in range(5):
        people.append(await service.sign_up(f"{number}@pages.example"))
        await service.clock.advance(1)
    found, token = [], ""
    while True:
        page = common_pb2.PageRequest(page_size=2, page_token=token)
        answer = await service.call(
            service.accounts.ListAccounts,
            pb.ListAccountsRequest(page=page, search="pages.example"),
            operator(),
        )
        found += [one.account_id for one in answer.accounts]
        token = answer.page.next_page_token
        if not token:
            break
    assert found == [person.principal.account_id for person in reversed(people)]


async def test_an_operator_names_the_account_and_it_has_to_exist(service: Service) -> None:
    with pytest.raises(InvalidArgument):
        await service.call(service.accounts.GetAccount, pb.GetAccountRequest(), operator())
    with pytest.raises(NotFound):
        await service.call(
            service.accounts.SuspendAccount, pb.SuspendAccountRequest(), operator("acc_none")
        )


async def test_the_audit_trail_is_read_newest_first_in_pages(service: Service) -> None:
    ada = await service.sign_up()
    for label in ("first", "second", "third"):
        await service.create_key(ada, label)
        await service.clock.advance(1)
    trail, token = [], ""
    while True:
        page = common_pb2.PageRequest(page_size=3, page_token=token)
        request = pb.ListAuditEventsRequest(page=page)
        answer = await service.call(service.accounts.ListAuditEvents, request, ada.principal)
        trail += list(answer.events)
        token = answer.page.next_page_token
        if not token:
            break
    assert [one.type.rpartition(".")[2] for one in trail] == [
        *["KeyIssued"] * 3, "SessionStarted", "MemberAdded", "AccountOpened", "UserSignedUp",
    ]  # fmt: skip
    labels = [json.loads(one.details_json)["settings"]["label"]["to"] for one in trail[:3]]
    assert labels == ["third", "second", "first"]
    assert trail[0].actor == ada.principal.user_id


@pytest.mark.parametrize("token", ["nonsense!", "bm9uc2Vuc2U=", "//8="])
async def test_a_page_token_that_is_not_ours_is_refused(service: Service, token: str) -> None:
    ada = await service.sign_up()
    page = common_pb2.PageRequest(page_token=token)
    with pytest.raises(InvalidArgument, match="page_token"):
        await service.call(
            service.accounts.ListAuditEvents, pb.ListAuditEventsRequest(page=page), ada.principal
        )
    with pytest.raises(InvalidArgument, match="page_size"):
        await service.call(
            service.accounts.ListAuditEvents,
            pb.ListAuditEventsRequest(page=common_pb2.PageRequest(page_size=201)),
            ada.principal,
        )
