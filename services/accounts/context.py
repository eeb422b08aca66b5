"""What every handler works with, put together once in `bootstrap.py`."""

from __future__ import annotations

from dataclasses import dataclass

from services.accounts.ports import AccountsStore, Attempts, Passwords, Secrets
from services.common.clock import Clock


@dataclass(frozen=True, slots=True)
class Context:
    """The ports, and the figures that handlers need from the settings."""

    store: AccountsStore
    passwords: Passwords
    attempts: Attempts
    secrets: Secrets
    clock: Clock
    session_lifetime_ms: int
    invitation_lifetime_ms: int
