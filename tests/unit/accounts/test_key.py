"""An API key: given events, when a command, then events or a refusal; and what gateways are
told.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from services.accounts.domain import account as accounts
from services.accounts.domain import key as keys
from services.accounts.domain.credential import credentials, retired
from services.accounts.domain.key import decide, evolve
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.limits import RPD_MAX, RPM_MAX, CapWindow
from services.common.errors import Conflict, InvalidArgument, NotFound
from tests.unit.accounts.builders import (
    ACCOUNT,
    ISSUED,
    KEY,
    NOW_MS,
    OPENED,
    OWNER,
    account_of,
    key_of,
)

LATER_MS = NOW_MS + 1_000
HOUR_S = 3_600
TOO_LONG = '{"a":"' + "x" * 16_384 + '"}'
TOO_DEEP = '{"a":' * 17 + "1" + "}" * 17


def issue(settings: KeySettings, *, keys_before: int = 0) -> keys.IssueKey:
    return keys.IssueKey(
        key_id=KEY,
        account_id=ACCOUNT,
        key_hash="hash-1",
        masked_key="rsk_01...AAAA",
        settings=settings,
        keys_before=keys_before,
        by=OWNER,
        at_ms=NOW_MS,
    )


def rotate(number: int, grace_s: int, at_ms: int = LATER_MS) -> keys.RotateKey:
    return keys.RotateKey(f"hash-{number}", f"rsk_{number}", grace_s, OWNER, at_ms)


def change(settings: KeySettings, *mask: str, at_ms: int = LATER_MS) -> keys.ChangeKey:
    return keys.ChangeKey(settings, mask, OWNER, at_ms)


def test_a_key_is_issued_with_a_lifetime_cap_window() -> None:
    events = decide(None, issue(KeySettings(label="web")))
    assert events == ISSUED
    assert key_of(events).settings.spend_cap_window is CapWindow.LIFETIME


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("label", KeySettings(label=" ")),
        ("label", KeySettings(label="x" * 101)),
        ("rpm_limit", KeySettings(label="k", rpm_limit=1_001)),
        ("rpm_limit", KeySettings(label="k", rpm_limit=-1)),
        ("rpd_limit", KeySettings(label="k", rpd_limit=1_000_001)),
        ("tpm_limit", KeySettings(label="k", tpm_limit=-5)),
        ("spend_cap_nanousd", KeySettings(label="k", spend_cap_nanousd=-1)),
        ("default_model", KeySettings(label="k", default_model="m" * 201)),
        ("allowed_models", KeySettings(label="k", allowed_models=("",))),
        ("allowed_models", KeySettings(label="k", allowed_models=("m",) * 501)),
        ("default_params_json", KeySettings(label="k", default_params_json="[1]")),
        ("default_params_json", KeySettings(label="k", default_params_json="{")),
        ("default_params_json", KeySettings(label="k", default_params_json='{"a": NaN}')),
        ("default_params_json", KeySettings(label="k", default_params_json="[" * 9_000)),
        ("default_params_json", KeySettings(label="k", default_params_json=TOO_LONG)),
        ("default_params_json", KeySettings(label="k", default_params_json=TOO_DEEP)),
        ("expires_at_ms", KeySettings(label="k", expires_at_ms=NOW_MS)),
        ("expires_at_ms", KeySettings(label="k", expires_at_ms=-1)),
    ],
)  # fmt: skip
def test_a_setting_out_of_bounds_is_refused_by_its_name(field: str, settings: KeySettings) -> None:
    with pytest.raises(InvalidArgument) as refused:
        decide(None, issue(settings))
    assert [error.loc for error in refused.value.details] == [(field,)]


def test_the_greatest_limits_are_allowed() -> None:
    settings = KeySettings(
        label="k",
        rpm_limit=RPM_MAX,
        rpd_limit=RPD_MAX,
        tpm_limit=2**62,
        default_params_json='{"a":' * 16 + "1" + "}" * 16,
    )
    assert key_of(decide(None, issue(settings))).settings == settings


def test_a_limit_of_zero_is_kept_and_is_not_no_limit() -> None:
    zero = KeySettings(label="k", spend_cap_nanousd=0, rpm_limit=0, rpd_limit=0, tpm_limit=0)
    assert key_of(decide(None, issue(zero))).settings == zero


def test_settings_are_kept_in_one_form() -> None:
    loose = KeySettings(
        label=" k ", default_params_json=' {"temperature": 0.2} ', allowed_models=("b", "a", "b")
    )
    kept = key_of(decide(None, issue(loose))).settings
    assert (kept.label, kept.allowed_models) == ("k", ("b", "a"))
    assert kept.default_params_json == '{"temperature":0.2}'


def test_only_the_fields_of_the_mask_change_and_an_absent_one_is_cleared() -> None:
    capped = KeySettings(label="web", spend_cap_nanousd=5, rpm_limit=10)
    key = replace(key_of(ISSUED), settings=capped)
    events = decide(key, change(KeySettings(label="ignored"), "spend_cap_nanousd"))
    expected = KeySettings(label="web", rpm_limit=10)
    assert events == [keys.KeyChanged(KEY, ACCOUNT, expected, OWNER, LATER_MS)]


def test_a_change_to_what_is_already_so_is_no_event() -> None:
    assert decide(key_of(ISSUED), change(KeySettings(label="web"), "label", "rpm_limit")) == []


@pytest.mark.parametrize("mask", [(), ("key_hash",)])
def test_a_mask_names_known_fields(mask: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="update_mask"):
        decide(key_of(ISSUED), change(KeySettings(), *mask))


def test_an_expired_key_can_still_be_renamed_but_not_be_given_a_past_expiry() -> None:
    expiring = replace(key_of(ISSUED), settings=KeySettings(label="web", expires_at_ms=LATER_MS))
    renamed = decide(expiring, change(KeySettings(label="old"), "label", at_ms=LATER_MS + 1))
    assert len(renamed) == 1
    with pytest.raises(InvalidArgument, match="expires_at_ms"):
        decide(expiring, change(KeySettings(expires_at_ms=NOW_MS), "expires_at_ms"))


def test_suspending_twice_is_once() -> None:
    key = key_of(ISSUED)
    events = decide(key, keys.SuspendKey(OWNER, LATER_MS))
    assert events == [keys.KeySuspended(KEY, ACCOUNT, OWNER, LATER_MS)]
    suspended = evolve(key, events[0])
    assert suspended.suspended
    assert decide(suspended, keys.SuspendKey(OWNER, LATER_MS)) == []
    resumed = decide(suspended, keys.ResumeKey(OWNER, LATER_MS))
    assert not evolve(suspended, resumed[0]).suspended
    assert decide(key, keys.ResumeKey(OWNER, LATER_MS)) == []


def test_a_command_on_a_key_that_never_was_is_not_found() -> None:
    with pytest.raises(NotFound):
        decide(None, keys.SuspendKey(OWNER, NOW_MS))


def test_an_account_has_a_bounded_number_of_keys() -> None:
    with pytest.raises(Conflict):
        decide(None, issue(KeySettings(label="k"), keys_before=keys.KEYS_PER_ACCOUNT_MAX))


def test_after_a_rotation_both_secrets_work_until_the_grace_ends() -> None:
    events = decide(key_of(ISSUED), rotate(2, HOUR_S))
    rotated = key_of([*ISSUED, *events])
    told = credentials(rotated, account_of(OPENED))
    end_ms = LATER_MS + HOUR_S * 1_000
    assert [(one.key_hash, one.expires_at_ms) for one in told] == [
        ("hash-1", end_ms),
        ("hash-2", 0),
    ]
    assert {one.version for one in told} == {2}
    assert retired(key_of(ISSUED), rotated) == []


def test_a_rotation_without_grace_ends_every_older_secret() -> None:
    once = key_of([*ISSUED, *decide(key_of(ISSUED), rotate(2, HOUR_S))])
    twice = evolve(once, decide(once, rotate(3, 0))[0])
    assert [one.key_hash for one in credentials(twice, account_of(OPENED))] == ["hash-3"]
    assert retired(once, twice) == ["hash-1", "hash-2"]


def test_a_secret_past_its_grace_is_forgotten_with_the_next_change() -> None:
    rotated = key_of([*ISSUED, *decide(key_of(ISSUED), rotate(2, HOUR_S))])
    after_ms = LATER_MS + HOUR_S * 1_000
    suspended = evolve(rotated, decide(rotated, keys.SuspendKey(OWNER, after_ms))[0])
    assert suspended.retiring == ()
    assert retired(rotated, suspended) == ["hash-1"]


def test_the_number_of_secrets_in_grace_is_bounded_and_no_grace_is_always_possible() -> None:
    key = key_of(ISSUED)
    for number in range(keys.RETIRING_MAX):
        key = evolve(key, decide(key, rotate(number + 2, HOUR_S))[0])
    with pytest.raises(Conflict) as refused:
        decide(key, rotate(99, HOUR_S))
    assert refused.value.extra == {"rule": "secrets_in_grace"}
    assert len(decide(key, rotate(99, 0))) == 1


@pytest.mark.parametrize("grace_s", [-1, keys.GRACE_S_MAX + 1])
def test_grace_is_at_most_seven_days(grace_s: int) -> None:
    with pytest.raises(InvalidArgument, match="grace_s"):
        decide(key_of(ISSUED), rotate(2, grace_s))
    assert decide(key_of(ISSUED), rotate(2, keys.GRACE_S_MAX))


def test_the_earlier_of_expiry_and_grace_is_published() -> None:
    expiring = KeySettings(label="web", expires_at_ms=LATER_MS + 1)
    key = replace(key_of(ISSUED), settings=expiring)
    rotated = evolve(key, decide(key, rotate(2, HOUR_S))[0])
    told = credentials(rotated, account_of(OPENED))
    assert [one.expires_at_ms for one in told] == [LATER_MS + 1, LATER_MS + 1]


def test_the_published_version_grows_with_changes_of_the_key_and_of_the_account() -> None:
    key, account = key_of(ISSUED), account_of(OPENED)
    versions = [credentials(key, account)[0].version]
    account = evolve_account(account, accounts.AccountSuspended(ACCOUNT, "", LATER_MS))
    versions.append(credentials(key, account)[0].version)
    key = evolve(key, keys.KeySuspended(KEY, ACCOUNT, OWNER, LATER_MS))
    versions.append(credentials(key, account)[0].version)
    account = evolve_account(account, accounts.AccountResumed(ACCOUNT, LATER_MS))
    versions.append(credentials(key, account)[0].version)
    assert versions == [1, 2, 3, 4]


def evolve_account(account: accounts.Account, event: accounts.AccountEvent) -> accounts.Account:
    return accounts.evolve(account, event)


def test_default_parameters_keep_their_meaning() -> None:
    text = '{"temperature": 0.25, "stop": ["ä", "\\n"], "big": 12345678901234567890}'
    kept = key_of(decide(None, issue(KeySettings(label="k", default_params_json=text)))).settings
    assert json.loads(kept.default_params_json) == json.loads(text)
