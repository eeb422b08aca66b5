"""What is kept of a secret: its hash, and a form that people can tell apart."""

from __future__ import annotations

import hashlib


def sha256_hex(secret: str) -> str:
    """How secrets of full entropy are stored: they need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def masked(plain_key: str) -> str:
    """What stays visible of a key: its first and last characters."""
    return f"{plain_key[:8]}...{plain_key[-4:]}"
