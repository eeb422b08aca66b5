"""Given what happened to a provider, when it is commanded, then these events."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.catalog.domain.provider import (
    Provider,
    ProviderChanged,
    ProviderCommand,
    ProviderCredentialRemoved,
    ProviderCredentialSet,
    ProviderEvent,
    ProviderRegistered,
    PutProvider,
    RemoveCredential,
    SetCredential,
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
