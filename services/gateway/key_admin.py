"""Keys as people manage them through the public API, and who those people are: ports; the accounts
service is behind them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.common.security.tokens import Principal


@dataclass(frozen=True, slots=True)
class LimitValues:
    """Limits of one scope; None means none. Money in nano-dollars."""

    spend_cap_nanousd: int | None = None
    # lifetime, day, week, month, rolling_30_days
    spend_cap_window: str = "lifetime"
    rpm_limit: int | None = None
    rpd_limit: int | None = None
    tpm_limit: int | None = None


@dataclass(frozen=True, slots=True)
class KeyFields:
    """What may be set on a key; names are those of the accounts service but for `limits`."""

    label: str = ""
    limits: LimitValues = field(default_factory=LimitValues)
    default_model: str = ""
    default_params: Mapping[str, Any] = field(default_factory=dict)  # Any: values are free JSON
    allowed_models: tuple[str, ...] = ()
    # Unix milliseconds; 0 means never.
    expires_at_ms: int = 0
    team_id: str = ""
    api_version: str = ""
    response_cache_disabled: bool = False
    content_stored: bool = False


@dataclass(frozen=True, slots=True)
class ManagedKey:
    """One key as its account sees it; times in Unix milliseconds."""

    key_id: str
    masked_key: str
    fields: KeyFields
    suspended: bool
    created_at_ms: int
    updated_at_ms: int
    created_by: str


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """A key's own limits, and those of the scopes that it is in, by scope."""

    own: LimitValues
    scopes: Mapping[str, LimitValues]


class Sessions(Protocol):
    """Who holds a session's token."""

    async def holder(self, token: str) -> Principal:
        """Raises Unauthorized where the session has ended or never was, Unavailable."""


class KeyAdmin(Protocol):
    """The keys of the principal's account.

    All raise NotFound, Forbidden where the principal's role does not suffice, InvalidArgument that
    names the field, Unavailable.
    """

    async def create(self, principal: Principal, fields: KeyFields) -> tuple[ManagedKey, str]:
        """The key and its plain text, which is told this once."""

    async def all(self, principal: Principal) -> list[ManagedKey]:
        """Newest first, at most 200."""

    async def get(self, principal: Principal, key_id: str) -> ManagedKey: ...

    async def update(
        self, principal: Principal, key_id: str, fields: KeyFields, *, changed: Collection[str]
    ) -> ManagedKey:
        """`changed` names fields of KeyFields and of LimitValues."""

    async def suspend(self, principal: Principal, key_id: str) -> ManagedKey: ...

    async def resume(self, principal: Principal, key_id: str) -> ManagedKey: ...

    async def limits(self, principal: Principal, key_id: str) -> KeyLimits: ...
