"""Identifiers: ULIDs (48 bits of milliseconds, 80 random bits, Crockford base 32) behind a prefix
that says what it is.

The typed names below are what the rest of the code passes around; a plain `str` with an id in it
stops at an edge.
"""

from __future__ import annotations

import os
import re
import time
from typing import NewType

AccountId = NewType("AccountId", str)
UserId = NewType("UserId", str)
KeyId = NewType("KeyId", str)
TeamId = NewType("TeamId", str)
SessionId = NewType("SessionId", str)
InvitationId = NewType("InvitationId", str)
AdminKeyId = NewType("AdminKeyId", str)
GrantId = NewType("GrantId", str)
UsageId = NewType("UsageId", str)
RequestId = NewType("RequestId", str)
ModelId = NewType("ModelId", str)
ProviderId = NewType("ProviderId", str)
PriceVersionId = NewType("PriceVersionId", str)
EventId = NewType("EventId", str)
WorkerId = NewType("WorkerId", str)
TransactionId = NewType("TransactionId", str)
TemplateId = NewType("TemplateId", str)

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_IDS_AT_ONCE = 256
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def ulid(now_ms: int | None = None) -> str:
    """A new ULID, 26 characters; `now_ms` is Unix milliseconds (default: the wall clock)."""
    moment = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return ulid_from_bytes(moment.to_bytes(6, "big") + _random_bytes())


# The system's own random bytes, fetched for many ids at once; taking one is atomic.
_pool: list[bytes] = []
os.register_at_fork(after_in_child=_pool.clear)


def _random_bytes() -> bytes:
    try:
        return _pool.pop()
    except IndexError:
        raw = os.urandom(10 * _IDS_AT_ONCE)
        pieces = [raw[at : at + 10] for at in range(0, len(raw), 10)]
        _pool.extend(pieces[1:])
        return pieces[0]


def ulid_from_bytes(raw: bytes) -> str:
    """The ULID text of 16 bytes. Raises ValueError on another length."""
    if len(raw) != 16:
        raise ValueError(f"a ULID has 16 bytes, not {len(raw)}")
    # Written out: every event and every request has several, and a loop takes twice as long.
    high, low, pairs = int.from_bytes(raw[:6], "big"), int.from_bytes(raw[6:], "big"), _PAIRS
    return (
        f"{pairs[high >> 40]}{pairs[high >> 30 & 1023]}{pairs[high >> 20 & 1023]}"
        f"{pairs[high >> 10 & 1023]}{pairs[high & 1023]}"
        f"{pairs[low >> 70]}{pairs[low >> 60 & 1023]}{pairs[low >> 50 & 1023]}"
        f"{pairs[low >> 40 & 1023]}{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}"
        f"{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
    )


def is_ulid(text: str) -> bool:
    """True for 26 characters of Crockford base 32 that fit 128 bits."""
    return _ULID.fullmatch(text) is not None


def moment_of_id(text: str) -> int | None:
    """The Unix milliseconds that an id of `new_id` bears; None where it is no such id."""
    one = text.rpartition("_")[2]
    if not is_ulid(one):
        return None
    moment_ms = 0
    for letter in one[:10]:
        moment_ms = moment_ms * 32 + _ALPHABET.index(letter)
    return moment_ms


def new_id(prefix: str, now_ms: int | None = None) -> str:
    """A new id such as `acc_01J...`; prefixes in use: acc, usr, key, tm, ses, gr, use, req, evt,
    tx, prv, pv.
    """
    return f"{prefix}_{ulid(now_ms)}"
