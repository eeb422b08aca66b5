"""Given what happened to a provider, when it is commanded, then these events."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.catalog.domain.provider import (
    CREDENTIALS_MAX,
    AddCredential,
    ChangeCredential,
    Provider,
    ProviderChanged,
    ProviderCommand,
    ProviderCredentialAdded,
    ProviderCredentialChanged,
    ProviderCredentialRemoved,
    ProviderCredentialSet,
    ProviderEvent,
    ProviderRegistered,
    PutProvider,
    RemoveCredential,
    SetCredential,
    Slot,
    checked_credential,
    decide,
    evolve,
    masked,
)
from services.common.errors import InvalidArgument, NotFound
from services.common.ids import ProviderId
from tests.unit.catalog.builders import NOW_MS, OPENAI, provider_settings

REGISTERED = ProviderRegistered(OPENAI, provider_settings(), NOW_MS)


def after(events: Sequence[ProviderEvent]) -> Provider | None:
    state: Provider | None = None
    for event in events:
        state = evolve(state, event)
    return state


def happens(given: Sequence[ProviderEvent], when: ProviderCommand) -> list[ProviderEvent]:
    return decide(after(given), when)


def test_a_new_provider_is_registered() -> None:
    assert happens([], PutProvider(OPENAI, provider_settings(), NOW_MS)) == [REGISTERED]


def test_other_settings_are_a_change_and_the_same_ones_are_nothing() -> None:
    other = provider_settings(enabled=False)
    assert happens([REGISTERED], PutProvider(OPENAI, other, NOW_MS + 1)) == [
        ProviderChanged(OPENAI, other, NOW_MS + 1)
    ]
    assert happens([REGISTERED], PutProvider(OPENAI, provider_settings(), NOW_MS + 1)) == []


def test_a_base_url_loses_the_slash_at_its_end() -> None:
    given = provider_settings(base_url="https://api.openai.com/v1/")
    assert happens([REGISTERED], PutProvider(OPENAI, given, NOW_MS)) == []


def test_each_credential_gets_the_next_version_even_after_one_was_removed() -> None:
    first = ProviderCredentialSet(OPENAI, 1, NOW_MS)
    removed = ProviderCredentialRemoved(OPENAI, 1, NOW_MS)
    assert happens([REGISTERED], SetCredential(OPENAI, NOW_MS)) == [first]
    assert happens([REGISTERED, first], RemoveCredential(OPENAI, NOW_MS)) == [removed]
    assert happens([REGISTERED, first, removed], SetCredential(OPENAI, NOW_MS)) == [
        ProviderCredentialSet(OPENAI, 2, NOW_MS)
    ]


FIRST = ProviderCredentialSet(OPENAI, 1, NOW_MS)
SECOND = ProviderCredentialAdded(OPENAI, Slot("crd_2", 2, "Batch", 1, 3), NOW_MS)


def test_a_credential_is_added_beside_the_others_under_the_next_version() -> None:
    command = AddCredential(OPENAI, "crd_2", "  Batch \t ", NOW_MS, priority=1, weight=3)
    assert happens([REGISTERED, FIRST], command) == [SECOND]
    state = after([REGISTERED, FIRST, SECOND])
    assert state is not None
    assert [one.credential_id for one in state.slots] == ["default", "crd_2"]


def test_another_credential_put_in_place_of_one_keeps_its_label_and_share() -> None:
    given: list[ProviderEvent] = [REGISTERED, FIRST, SECOND]
    rotated = ProviderCredentialSet(OPENAI, 3, NOW_MS, "crd_2")
    assert happens(given, SetCredential(OPENAI, NOW_MS, "crd_2")) == [rotated]
    state = after([*given, rotated])
    assert state is not None
    assert state.slot("crd_2") == Slot("crd_2", 3, "Batch", 1, 3)
    assert state.slot("default") == Slot("default", 1)


def test_a_credential_that_is_switched_off_is_not_in_use_and_its_provider_is_while_another_is() -> (
    None
):
    given: list[ProviderEvent] = [REGISTERED, FIRST, SECOND]
    off = ChangeCredential(OPENAI, "crd_2", "Batch", NOW_MS, priority=1, weight=3, enabled=False)
    [changed] = happens(given, off)
    assert changed == ProviderCredentialChanged(
        OPENAI, Slot("crd_2", 2, "Batch", 1, 3, enabled=False), NOW_MS
    )
    assert happens([*given, changed], off) == []
    state = after([*given, changed])
    assert state is not None
    assert (state.usable, [one.credential_id for one in state.slots_in_use]) == (True, ["default"])
    gone = after([*given, changed, ProviderCredentialRemoved(OPENAI, 1, NOW_MS)])
    assert gone is not None
    assert (gone.usable, gone.credential_version) == (False, 0)


def test_credentials_are_used_in_the_order_of_their_priorities() -> None:
    behind = ProviderCredentialChanged(OPENAI, Slot("default", 1, priority=5), NOW_MS)
    state = after([REGISTERED, FIRST, SECOND, behind])
    assert state is not None
    assert [one.credential_id for one in state.slots_in_use] == ["crd_2", "default"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", " "), ("label", "x" * 61), ("label", "a\x00b"),
        ("priority", -1), ("priority", 101), ("weight", 0), ("weight", 1_001),
    ],
)  # fmt: skip
def test_a_credential_s_settings_out_of_bounds_are_refused_by_name(
    field: str, value: object
) -> None:
    given: list[ProviderEvent] = [REGISTERED, FIRST, SECOND]
    asked: dict[str, object] = {"label": "Batch", "priority": 0, "weight": 1, field: value}
    for command in (AddCredential, ChangeCredential):
        name = "crd_3" if command is AddCredential else "crd_2"
        with pytest.raises(InvalidArgument, match=field):
            happens(given, command(OPENAI, name, at_ms=NOW_MS, **asked))  # type: ignore[arg-type]  # by name


def test_a_provider_has_a_bounded_number_of_credentials() -> None:
    many = [
        ProviderCredentialAdded(OPENAI, Slot(f"crd_{n}", n, "one of many"), NOW_MS)
        for n in range(1, CREDENTIALS_MAX + 1)
    ]
    with pytest.raises(InvalidArgument, match="credentials"):
        happens([REGISTERED, *many], AddCredential(OPENAI, "crd_99", "more", NOW_MS))


@pytest.mark.parametrize(
    "command", [SetCredential(OPENAI, 1, "crd_9"), ChangeCredential(OPENAI, "crd_9", "x", 1)]
)
def test_a_credential_that_nobody_added_cannot_be_set_or_changed(command: ProviderCommand) -> None:
    with pytest.raises(NotFound, match="crd_9"):
        happens([REGISTERED, FIRST], command)


def test_removing_a_credential_that_is_not_there_is_nothing() -> None:
    assert happens([REGISTERED], RemoveCredential(OPENAI, NOW_MS)) == []


@pytest.mark.parametrize("command", [SetCredential(OPENAI, 1), RemoveCredential(OPENAI, 1)])
def test_a_provider_that_nobody_registered_has_no_credential(command: ProviderCommand) -> None:
    with pytest.raises(NotFound):
        happens([], command)


def test_a_provider_is_usable_when_enabled_and_with_the_credential_it_needs() -> None:
    credential = ProviderCredentialSet(OPENAI, 1, NOW_MS)
    needs_none = ProviderChanged(OPENAI, provider_settings(credential_required=False), NOW_MS)
    disabled = ProviderChanged(OPENAI, provider_settings(enabled=False), NOW_MS)
    usable = [
        state is not None and state.usable
        for state in (
            after([REGISTERED]),
            after([REGISTERED, credential]),
            after([REGISTERED, needs_none]),
            after([REGISTERED, credential, disabled]),
        )
    ]
    assert usable == [False, True, True, False]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com",
        "ftp://example.test",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "https://user:secret@example.test",
        "https://example.test/v1?key=secret",
        "https://example.test/v1#part",
        "https://example.test:0/v1",
        "https://example.test:port/v1",
        "https://exa mple.test",
        "https://example.test/\nHost: other",
        "https://example.test\\@other.test",
        "https://" + "a" * 500,
    ],
)
def test_a_base_url_that_is_no_plain_http_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"settings\.base_url"):
        happens([], PutProvider(OPENAI, provider_settings(base_url=url), NOW_MS))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8300/v1", "https://[::1]:8443/v1", "http://models.internal"]
)
def test_a_base_url_may_be_any_http_address_of_the_operator(url: str) -> None:
    (event,) = happens([], PutProvider(OPENAI, provider_settings(base_url=url), NOW_MS))
    assert isinstance(event, ProviderRegistered)
    assert event.settings.base_url == url


@pytest.mark.parametrize(
    ("field", "value"), [("name", " "), ("name", "n" * 201), ("timeout_ms", 0)]
)
def test_settings_out_of_bounds_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=f"settings.{field}"):
        happens([], PutProvider(OPENAI, provider_settings(**{field: value}), NOW_MS))


@pytest.mark.parametrize("provider_id", ["", "Open AI", "a/b", "-x", "x" * 64])
def test_a_provider_id_is_short_and_plain(provider_id: str) -> None:
    with pytest.raises(InvalidArgument, match="provider_id"):
        happens([], PutProvider(ProviderId(provider_id), provider_settings(), NOW_MS))


@pytest.mark.parametrize("text", ["", "  ", "two words", "line\nbreak", "ключ", "x" * 4097])
def test_an_unusable_credential_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        checked_credential(text)
    assert not text.strip() or text not in refused.value.message


def test_people_see_the_ends_of_a_long_credential_and_nothing_of_a_short_one() -> None:
    assert masked("sk-0123456789abcdefWXYZ") == "sk-…WXYZ"
    assert masked("sk-short") == "…"
