"""Secrets from the operating system's randomness."""

from __future__ import annotations

import secrets

from services.common.clock import Clock
from services.common.ids import new_id, ulid

TOKEN_BYTES = 32


class SystemSecrets:
    """Implements `Secrets`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self._clock.now_ms())

    def plain_key(self) -> str:
        """`rsk_` + ULID. Its 80 random bits are read afresh; a ULID that counts up could be
        guessed.
        """
        return f"rsk_{ulid(self._clock.now_ms())}"

    def session_token(self) -> str:
        """256 random bits as text."""
        return f"mss_{secrets.token_urlsafe(TOKEN_BYTES)}"

    def admin_key(self) -> str:
        """As a session's, with a prefix of its own."""
        return f"mak_{secrets.token_urlsafe(TOKEN_BYTES)}"

    def invitation_token(self) -> str:
        """As a session's, with a prefix of its own."""
        return f"min_{secrets.token_urlsafe(TOKEN_BYTES)}"
