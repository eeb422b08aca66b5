"""People and their sessions: given events, when a command, then events or a refusal."""

from __future__ import annotations

import pytest

from services.accounts.domain import session as sessions
from services.accounts.domain import user as users
from services.common.errors import Conflict, InvalidArgument, NotFound
from services.common.ids import SessionId
from tests.unit.accounts.builders import ACCOUNT, NOW_MS, OWNER

SIGNED_UP = users.UserSignedUp(OWNER, "ada@example.com", "Ada", NOW_MS)
SESSION = SessionId("ses_1")
STARTED = sessions.SessionStarted(SESSION, OWNER, ACCOUNT, "browser", NOW_MS + 60_000, NOW_MS)


def test_a_person_signs_up_once() -> None:
    command = users.SignUpUser(OWNER, "ada@example.com", " Ada ", NOW_MS)
    assert users.decide(None, command) == [SIGNED_UP]
    with pytest.raises(Conflict):
        users.decide(users.evolve(None, SIGNED_UP), command)


def test_someone_without_a_name_is_called_by_their_address() -> None:
    events = users.decide(None, users.SignUpUser(OWNER, "ada@example.com", " ", NOW_MS))
    assert users.evolve(None, events[0]).name == "ada"


def test_a_changed_password_is_an_event_without_the_password() -> None:
    user = users.evolve(None, SIGNED_UP)
    events = users.decide(user, users.ChangeUserPassword(NOW_MS))
    assert events == [users.PasswordChanged(OWNER, NOW_MS)]
    assert users.evolve(user, events[0]).version == 2
    with pytest.raises(NotFound):
        users.decide(None, users.ChangeUserPassword(NOW_MS))


@pytest.mark.parametrize("password", ["", "ninechars", "x" * 1_025])
def test_a_password_has_ten_to_1024_characters(password: str) -> None:
    with pytest.raises(InvalidArgument, match="password"):
        users.check_password("password", password)


def test_a_password_of_ten_characters_will_do() -> None:
    users.check_password("password", "tencharsok")


def test_a_session_lasts_its_lifetime_and_not_a_millisecond_longer() -> None:
    start = sessions.StartSession(SESSION, OWNER, ACCOUNT, "browser", 60_000, NOW_MS)
    events = sessions.decide(None, start)
    assert events == [STARTED]
    session = sessions.evolve(None, events[0])
    assert session.is_open(NOW_MS + 59_999)
    assert not session.is_open(NOW_MS + 60_000)


def test_a_session_ends_once() -> None:
    session = sessions.evolve(None, STARTED)
    end = sessions.EndSession("log_out", NOW_MS + 5)
    events = sessions.decide(session, end)
    assert events == [sessions.SessionEnded(SESSION, OWNER, "log_out", NOW_MS + 5)]
    ended = sessions.evolve(session, events[0])
    assert not ended.is_open(NOW_MS + 5)
    assert sessions.decide(ended, end) == []
    assert sessions.decide(None, end) == []


def test_a_long_user_agent_is_cut() -> None:
    start = sessions.StartSession(SESSION, OWNER, ACCOUNT, "x" * 5_000, 1, NOW_MS)
    assert len(sessions.evolve(None, sessions.decide(None, start)[0]).user_agent) == 400
