"""Names of scopes: what limits of spend and of rates bind beside a key's own.

A scope is a text, as it stands in messages and tables: `account`, `account_model:<model id>`,
`member:<user id>`, `team:<team id>`, `key_model:<key id>/<model id>`, and `key:<key id>` where keys
and scopes stand side by side. It is always one of an account, which is named beside it.
"""

from __future__ import annotations

from typing import Literal, NewType, cast

Scope = NewType("Scope", str)
ScopeKind = Literal["key", "key_model", "member", "team", "account", "account_model"]

ACCOUNT = Scope("account")


def account_model(model_id: str) -> Scope:
    """A model, whichever key of the account asks for it."""
    return Scope(f"account_model:{model_id}")


def member(user_id: str) -> Scope:
    """All keys that a member made."""
    return Scope(f"member:{user_id}")


def team(team_id: str) -> Scope:
    """All keys that are in a team."""
    return Scope(f"team:{team_id}")


def key(key_id: str) -> Scope:
    """One key."""
    return Scope(f"key:{key_id}")


def key_model(key_id: str, model_id: str) -> Scope:
    """One model under one key."""
    return Scope(f"key_model:{key_id}/{model_id}")


def kind_of(scope: str) -> ScopeKind:
    """What a scope is of; the caller has checked the text, or made it here."""
    return cast(ScopeKind, scope.partition(":")[0])


def id_of(scope: str) -> str:
    """What follows the kind; empty for the account."""
    return scope.partition(":")[2]


def model_of(scope: str) -> str:
    """The model of a scope of one model."""
    return id_of(scope).partition("/")[2] if kind_of(scope) == "key_model" else id_of(scope)
