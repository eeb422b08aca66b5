"""A sealed credential opens with its key, for its provider and version, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.catalog.adapters.cipher_aesgcm import AesGcmCipher
from services.common.errors import InternalError
from services.common.ids import ProviderId
from tests.unit.catalog.builders import CREDENTIAL, KEY, OPENAI


def test_a_credential_comes_back() -> None:
    cipher = AesGcmCipher(KEY)
    sealed = cipher.seal(OPENAI, 3, CREDENTIAL)
    assert cipher.open(sealed) == CREDENTIAL
    assert (sealed.credential_version, sealed.masked) == (3, "sk-…ghij")


def test_the_same_credential_is_sealed_differently_each_time() -> None:
    cipher = AesGcmCipher(KEY)
    one, other = (cipher.seal(OPENAI, 1, CREDENTIAL) for _ in range(2))
    assert one.nonce != other.nonce
    assert one.ciphertext != other.ciphertext
    assert CREDENTIAL.encode() not in one.ciphertext


def test_what_was_moved_or_altered_does_not_open() -> None:
    cipher = AesGcmCipher(KEY)
    sealed = cipher.seal(OPENAI, 1, CREDENTIAL)
    flipped = bytes([sealed.ciphertext[0] ^ 1]) + sealed.ciphertext[1:]
    for altered in (
        replace(sealed, provider_id=ProviderId("groq")),
        replace(sealed, credential_version=2),
        replace(sealed, ciphertext=flipped),
        replace(sealed, nonce=bytes(12)),
    ):
        with pytest.raises(InternalError, match="altered"):
            cipher.open(altered)


def test_another_key_is_named_by_its_id_alone() -> None:
    other = AesGcmCipher(bytes(32))
    with pytest.raises(InternalError, match=other.key_id):
        other.open(AesGcmCipher(KEY).seal(OPENAI, 1, CREDENTIAL))


def test_a_key_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AesGcmCipher(b"short")


def test_a_sealed_credential_does_not_show_itself_in_a_log() -> None:
    sealed = AesGcmCipher(KEY).seal(OPENAI, 1, CREDENTIAL)
    assert "ciphertext" not in repr(sealed)
    assert "nonce" not in repr(sealed)
