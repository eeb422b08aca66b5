"""Secrets of webhooks: made, sealed at rest (AES-256-GCM, bound to their endpoint), signed with."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.errors import InternalError

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with
KEY_BYTES = 32
_NONCE_BYTES = 12


def new_secret() -> str:
    """A secret of 192 random bits."""
    return SECRET_PREFIX + secrets.token_urlsafe(24)


def signature(secret: str, *, timestamp_s: int, body: bytes) -> str:
    """`v1=` and the HMAC-SHA256 of `{timestamp}.{body}` in hex."""
    mac = hmac.digest(secret.encode(), f"{timestamp_s}.".encode() + body, hashlib.sha256)
    return f"v1={mac.hex()}"


class SecretBox:
    """Seals with one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key must have {KEY_BYTES} bytes")
        self._aead = AESGCM(key)

    def seal(self, endpoint_id: str, secret: str) -> bytes:
        """What is stored."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, secret.encode(), endpoint_id.encode())

    def open(self, endpoint_id: str, sealed: bytes) -> str:
        """The secret. Raises InternalError, which says nothing of it."""
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._aead.decrypt(nonce, ciphertext, endpoint_id.encode()).decode()
        except InvalidTag:
            raise InternalError(
                f"the secret of {endpoint_id} was sealed with another key, or altered"
            ) from None
