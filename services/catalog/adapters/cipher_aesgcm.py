"""Credentials at rest: AES-256-GCM, a fresh nonce for each, bound to its provider and version."""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.catalog.domain.provider import masked
from services.catalog.ports import SealedCredential
from services.common.errors import InternalError
from services.common.ids import ProviderId

KEY_BYTES = 32
NONCE_BYTES = 12


class AesGcmCipher:
    """Seals with one key. The id of a key is a hash of it, which tells keys apart and no more."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key must have {KEY_BYTES} bytes")
        self._aead = AESGCM(key)
        self.key_id = hashlib.sha256(b"mesh-catalog-credential-key\0" + key).hexdigest()[:16]

    def seal(self, provider_id: ProviderId, version: int, credential: str) -> SealedCredential:
        nonce = os.urandom(NONCE_BYTES)
        bound_to = _associated_data(provider_id, version)
        return SealedCredential(
            provider_id=provider_id,
            credential_version=version,
            key_id=self.key_id,
            nonce=nonce,
            ciphertext=self._aead.encrypt(nonce, credential.encode(), bound_to),
            masked=masked(credential),
        )

    def open(self, sealed: SealedCredential) -> str:
        """The plain credential. Raises InternalError, which says nothing of it."""
        if sealed.key_id != self.key_id:
            raise InternalError(
                f"the credential of {sealed.provider_id!r} was sealed with the key "
                f"{sealed.key_id}, this process has {self.key_id}: set the credential again"
            )
        bound_to = _associated_data(sealed.provider_id, sealed.credential_version)
        try:
            return self._aead.decrypt(sealed.nonce, sealed.ciphertext, bound_to).decode()
        except InvalidTag:
            raise InternalError(
                f"the credential of {sealed.provider_id!r} was altered where it is stored"
            ) from None


def _associated_data(provider_id: ProviderId, version: int) -> bytes:
    return f"{provider_id}\n{version}".encode()
