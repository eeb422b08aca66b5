"""Who may query an account in SQL: an analyst, known by a token of which only the hash is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.common.errors import InvalidArgument

TOKEN_PREFIX = "mas_"  # noqa: S105 - what tokens begin with
NAME_LENGTH_MAX = 80
ANALYSTS_MAX = 100
# A year; whoever needs longer asks for a token that does not expire.
LIFETIME_MAX_S = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Analyst:
    """One analyst of one account. Times are Unix milliseconds, 0 where there is none."""

    account_id: str
    analyst_id: str
    name: str
    created_by: str
    token_sha256: str
    created_at_ms: int
    expires_at_ms: int = 0
    revoked_at_ms: int = 0

    def is_valid(self, now_ms: int) -> bool:
        """True where the analyst may query at that moment."""
        return not self.revoked_at_ms and (not self.expires_at_ms or now_ms < self.expires_at_ms)

    def revoked(self, now_ms: int) -> Analyst:
        """The analyst without access; unchanged where it had none."""
        return self if self.revoked_at_ms else replace(self, revoked_at_ms=now_ms)


def new_analyst(
    account_id: str,
    *,
    analyst_id: str,
    name: str,
    created_by: str,
    token_sha256: str,
    now_ms: int,
    expires_in_s: int,
) -> Analyst:
    """A new analyst. Raises InvalidArgument naming what is wrong."""
    if not name.strip() or len(name) > NAME_LENGTH_MAX:
        raise InvalidArgument.of("name", f"has 1 to {NAME_LENGTH_MAX} characters")
    if not name.isprintable():
        raise InvalidArgument.of("name", "has characters that cannot be printed")
    if not 0 <= expires_in_s <= LIFETIME_MAX_S:
        raise InvalidArgument.of("expires_in_s", f"is between 0 and {LIFETIME_MAX_S:,}")
    return Analyst(
        account_id=account_id,
        analyst_id=analyst_id,
        name=name.strip(),
        created_by=created_by,
        token_sha256=token_sha256,
        created_at_ms=now_ms,
        expires_at_ms=now_ms + expires_in_s * 1000 if expires_in_s else 0,
    )
