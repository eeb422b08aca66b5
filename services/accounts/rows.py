"""States to rows of the read tables and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import asyncpg
import orjson

from services.accounts.domain.account import Account
from services.accounts.domain.admin_key import AdminKey
from services.accounts.domain.invitation import Invitation
from services.accounts.domain.key import Key, RetiringSecret
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.limits import CapWindow, Limits, ModelLimits, ScopeLimits
from services.accounts.domain.roles import Role
from services.accounts.domain.session import Session
from services.accounts.domain.team import Team
from services.accounts.domain.user import User
from services.common.ids import TeamId, UserId

# A connection as a pool hands it out, or by itself.
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
# Any: a row of asyncpg, whose values have the types of the columns.
Row = Mapping[str, Any] | asyncpg.Record

USER_COLUMNS = (
    "user_id", "email", "name", "created_at_ms", "issuer", "subject", "version",
)  # fmt: skip
ACCOUNT_COLUMNS = (
    "account_id", "name", "owner_user_id", "created_at_ms", "suspended", "suspension_changes",
    "limit_changes", "teams", "limits", "version",
)  # fmt: skip
INVITATION_COLUMNS = (
    "invitation_id", "account_id", "email", "role", "token_hash", "expires_at_ms", "invited_by",
    "invited_at_ms", "ended", "version",
)  # fmt: skip
ADMIN_KEY_COLUMNS = (
    "admin_key_id", "account_id", "created_by", "key_hash", "masked_key", "label", "permissions",
    "key_scope", "expires_at_ms", "created_at_ms", "version", "old_key_hash", "old_expires_at_ms",
    "revoked_at_ms", "revoke_reason",
)  # fmt: skip
SESSION_COLUMNS = (
    "session_id", "user_id", "account_id", "user_agent", "started_at_ms", "expires_at_ms",
    "ended_at_ms", "version",
)  # fmt: skip
KEY_COLUMNS = (
    "key_id", "account_id", "created_by", "key_hash", "masked_key", "settings", "retiring",
    "suspended", "created_at_ms", "updated_at_ms", "version",
)  # fmt: skip


def upsert(table: str, columns: Sequence[str]) -> str:
    """INSERT ... ON CONFLICT on the first column, the primary key, with one parameter a column."""
    values = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in columns[1:])
    # The names are constants of this module, so that nothing from outside gets into the text.
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608
        f" ON CONFLICT ({columns[0]}) DO UPDATE SET {updates}"
    )


def user_row(user: User) -> tuple[object, ...]:
    return tuple(getattr(user, name) for name in USER_COLUMNS)


def account_row(account: Account) -> tuple[object, ...]:
    teams = [
        {**asdict(team), "members": sorted(team.members)}
        for _, team in sorted(account.teams.items())
    ]
    limits = [asdict(one) for _, one in sorted(account.limits.items())]
    values = {"teams": orjson.dumps(teams).decode(), "limits": orjson.dumps(limits).decode()}
    return tuple(values.get(name, getattr(account, name)) for name in ACCOUNT_COLUMNS)


def teams_from_row(row: Row) -> list[Team]:
    """The teams of a row of `accounts`, by id."""
    return [
        Team(
            TeamId(one["team_id"]),
            one["name"],
            one["created_at_ms"],
            frozenset(UserId(user_id) for user_id in one["members"]),
        )
        for one in orjson.loads(row["teams"])
    ]


def limits_from_row(row: Row) -> list[ScopeLimits]:
    """The limits of a row of `accounts`, by scope."""
    return [
        ScopeLimits(one["scope"], _limits(one["limits"]), one["version"])
        for one in orjson.loads(row["limits"])
    ]


def _limits(values: Mapping[str, Any]) -> Limits:  # Any: JSON
    return Limits(**{**values, "spend_cap_window": CapWindow(values["spend_cap_window"])})


def invitation_row(invitation: Invitation) -> tuple[object, ...]:
    values = {"role": int(invitation.role)}
    return tuple(values.get(name, getattr(invitation, name)) for name in INVITATION_COLUMNS)


def invitation_from_row(row: Row) -> Invitation:
    values = {name: row[name] for name in INVITATION_COLUMNS}
    return Invitation(**{**values, "role": Role(values["role"])})


def admin_key_row(key: AdminKey) -> tuple[object, ...]:
    return tuple(getattr(key, name) for name in ADMIN_KEY_COLUMNS)


def admin_key_from_row(row: Row) -> AdminKey:
    values = {name: row[name] for name in ADMIN_KEY_COLUMNS}
    return AdminKey(**{**values, "permissions": tuple(values["permissions"])})


def session_row(session: Session) -> tuple[object, ...]:
    return tuple(getattr(session, name) for name in SESSION_COLUMNS)


def session_from_row(row: Row) -> Session:
    return Session(**{name: row[name] for name in SESSION_COLUMNS})


def key_row(key: Key) -> tuple[object, ...]:
    retiring = [[secret.key_hash, secret.expires_at_ms] for secret in key.retiring]
    values = {
        "settings": orjson.dumps(asdict(key.settings)).decode(),
        "retiring": orjson.dumps(retiring).decode(),
    }
    return tuple(values.get(name, getattr(key, name)) for name in KEY_COLUMNS)


def key_from_row(row: Row) -> Key:
    values = {name: row[name] for name in KEY_COLUMNS}
    settings = orjson.loads(values["settings"])
    settings["spend_cap_window"] = CapWindow(settings["spend_cap_window"])
    settings["allowed_models"] = tuple(settings["allowed_models"])
    settings["model_limits"] = tuple(
        ModelLimits(one["model_id"], _limits(one["limits"])) for one in settings["model_limits"]
    )
    values["settings"] = KeySettings(**settings)
    values["retiring"] = tuple(RetiringSecret(*pair) for pair in orjson.loads(values["retiring"]))
    return Key(**values)
