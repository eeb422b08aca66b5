"""Passwords, attempts, secrets and addresses."""

from __future__ import annotations

import asyncio
import re

import pytest

from services.accounts.adapters.attempts_memory import MemoryAttempts
from services.accounts.adapters.email_address import normalised
from services.accounts.adapters.passwords_argon2 import Argon2Passwords
from services.accounts.adapters.secrets_system import SystemSecrets
from services.accounts.domain.secret import masked
from services.common.clock import FakeClock
from services.common.errors import InvalidArgument, RateLimitExceeded, Unavailable
from services.common.ids import is_ulid


def cheap(**changes: int) -> Argon2Passwords:
    return Argon2Passwords(**{"time_cost": 1, "memory_kib": 64, **changes})


async def test_a_password_is_kept_as_a_salted_argon2id_hash() -> None:
    passwords = cheap()
    first, second = await passwords.hash("correct horse"), await passwords.hash("correct horse")
    assert first.startswith("$argon2id$")
    assert first != second
    assert await passwords.verify(first, "correct horse")
    assert not await passwords.verify(first, "correct horsf")
    passwords.close()


async def test_nobody_has_a_password_that_fits() -> None:
    passwords = cheap()
    assert not await passwords.verify(None, "a password that nobody has")
    assert not await passwords.verify("not a hash", "whatever")
    passwords.close()


async def test_a_hash_of_other_parameters_is_outdated() -> None:
    old, new = cheap(), cheap(time_cost=2)
    password_hash = await old.hash("correct horse")
    assert new.is_outdated(password_hash)
    assert not old.is_outdated(password_hash)
    assert await new.verify(password_hash, "correct horse")
    old.close()
    new.close()


async def test_callers_beyond_the_bound_are_turned_away() -> None:
    passwords = cheap(threads=1, waiting_max=2)
    results = await asyncio.gather(
        *(passwords.hash("correct horse") for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(one, Unavailable) for one in results) == 3
    assert await passwords.hash("correct horse")
    passwords.close()


def attempts(clock: FakeClock, subjects_max: int = 100) -> MemoryAttempts:
    return MemoryAttempts(clock, attempts_max=3, window_s=60.0, subjects_max=subjects_max)


async def test_too_many_attempts_have_to_wait_until_the_window_ends() -> None:
    clock = FakeClock()
    limiter = attempts(clock)
    for _ in range(3):
        limiter.begin("a")
    await clock.advance(45.5)
    with pytest.raises(RateLimitExceeded) as refused:
        limiter.begin("a")
    assert refused.value.retry_after_s == 15
    limiter.begin("b")
    await clock.advance(14.5)
    limiter.begin("a")


async def test_success_forgets_the_attempts() -> None:
    limiter = attempts(FakeClock())
    for _ in range(10):
        limiter.begin("a")
        limiter.succeeded("a")


async def test_the_memory_of_attempts_is_bounded() -> None:
    limiter = attempts(FakeClock(), subjects_max=10)
    for number in range(1_000):
        limiter.begin(f"address-{number}")
    assert len(limiter) == 10


def test_a_plain_key_is_a_prefix_and_a_ulid_with_fresh_random_bits() -> None:
    secrets = SystemSecrets(FakeClock())
    keys = [secrets.plain_key() for _ in range(200)]
    assert all(key.startswith("rsk_") and is_ulid(key[4:]) for key in keys)
    # All at one instant: the 16 characters of randomness differ, and do not count up.
    assert len({key[14:] for key in keys}) == 200
    assert sorted(keys) != keys


def test_a_masked_key_shows_only_its_ends() -> None:
    assert masked("rsk_01JZZZZZZZABCDEFGHJKMNPQRS") == "rsk_01JZ...PQRS"


def test_a_session_token_is_long_and_marked_so_that_logs_redact_it() -> None:
    token = SystemSecrets(FakeClock()).session_token()
    assert re.fullmatch(r"mss_[A-Za-z0-9_-]{43}", token)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (" Ada@Example.COM ", "ada@example.com"),
        ("demo@mesh.local", "demo@mesh.local"),
        ("a@b.test", "a@b.test"),
        ("ÄDA@exämple.com", "äda@exämple.com"),
    ],
)
def test_an_address_has_one_form(given: str, kept: str) -> None:
    assert normalised("email", given) == kept


@pytest.mark.parametrize("given", ["", "ada", "a@", "@b.com", "a b@c.com", "a@b..com", "x" * 999])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(InvalidArgument, match="email"):
        normalised("email", given)
