"""Service tokens."""

from __future__ import annotations

import base64

import orjson
import pytest

from services.common.clock import FakeClock
from services.common.errors import Unauthorized
from services.common.security.tokens import (
    CACHE_SIZE_MAX,
    CallIdentity,
    Principal,
    TokenSigner,
    TokenVerifier,
)

SECRET = "a secret of more than thirty-two characters"
USER = Principal("user", "acc_1", user_id="usr_1", role="admin")


async def test_a_token_says_who_calls_and_for_whom() -> None:
    signer, verifier = TokenSigner(SECRET, "dashboard"), TokenVerifier(SECRET)
    for _ in range(2):
        assert verifier.verify(signer.mint(USER)) == CallIdentity("dashboard", USER)
        assert verifier.verify(signer.mint()) == CallIdentity("dashboard", None)


async def test_a_token_expires_and_a_new_one_is_minted_before() -> None:
    clock = FakeClock()
    signer, verifier = (
        TokenSigner(SECRET, "gateway", clock=clock),
        TokenVerifier(SECRET, clock=clock),
    )
    token = signer.mint(ttl_s=60)
    assert signer.mint(ttl_s=60) == token
    await clock.advance(31)
    assert signer.mint(ttl_s=60) != token
    assert verifier.verify(token).service == "gateway"
    await clock.advance(30)
    with pytest.raises(Unauthorized, match="expired"):
        verifier.verify(token)
    with pytest.raises(Unauthorized, match="expired"):
        verifier.verify(token)


def forged(claims: dict[str, object]) -> str:
    body = base64.urlsafe_b64encode(orjson.dumps(claims)).rstrip(b"=").decode()
    return f"{body}.{TokenSigner(SECRET, 'x').mint().partition('.')[2]}"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "abc",
        "abc.",
        "äöü.äöü",
        "a.b.c",
        "!!!.???",
        "x" * 5000 + ".AAAA",
        forged({"iss": "cli", "iat": 0, "exp": 9_999_999_999}),
    ],
)
def test_what_is_no_token_of_ours_is_unauthorized(token: str) -> None:
    with pytest.raises(Unauthorized):
        TokenVerifier(SECRET).verify(token)


def test_every_changed_character_breaks_a_token() -> None:
    token = TokenSigner(SECRET, "gateway").mint(USER)
    verifier = TokenVerifier(SECRET)
    verifier.verify(token)
    # The last character of base64 holds bits that decode to nothing, hence the one before it.
    for at in (0, 10, token.index(".") - 1, token.index(".") + 1, len(token) - 2):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(Unauthorized):
            verifier.verify(changed)


def test_a_token_of_another_secret_is_unauthorized() -> None:
    token = TokenSigner(SECRET + "!", "gateway").mint()
    with pytest.raises(Unauthorized):
        TokenVerifier(SECRET).verify(token)


async def test_a_token_from_the_future_is_unauthorized() -> None:
    ahead, behind = FakeClock(), FakeClock()
    await ahead.advance(31)
    with pytest.raises(Unauthorized, match="future"):
        TokenVerifier(SECRET, clock=behind).verify(TokenSigner(SECRET, "x", clock=ahead).mint())


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        TokenSigner("short", "gateway")
    with pytest.raises(ValueError, match="32"):
        TokenVerifier("short")


def test_what_is_remembered_is_bounded() -> None:
    signer, verifier = TokenSigner(SECRET, "gateway"), TokenVerifier(SECRET)
    tokens = [
        signer.mint(Principal("user", f"acc_{number}")) for number in range(CACHE_SIZE_MAX + 10)
    ]
    for token in tokens:
        verifier.verify(token)
    assert len(verifier._known) == CACHE_SIZE_MAX
    assert len(signer._minted) == CACHE_SIZE_MAX
    assert verifier.verify(tokens[0]).principal == Principal("user", "acc_0")
