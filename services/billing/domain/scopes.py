"""Which scopes lend a grant beside its key, and which scopes an entry's cost counts in."""

from __future__ import annotations

from functools import lru_cache

from services.billing.domain.state import Grant, KeyAccount
from services.common import scopes
from services.common.ids import KeyId
from services.common.scopes import Scope

Scopes = tuple[Scope, ...]
_MODEL_ID_LENGTH_MAX = 200
_CACHED = 8_192
_OF_MODELS = ("key_model", "account_model")


def scopes_of_key(key: KeyAccount, model_id: str = "") -> Scopes:
    """The scopes that lend a key's grant, narrow ones first: a refusal names the first that binds.

    `model_id` names the model where the grant is for that model's requests alone.
    """
    found = []
    if is_model_id(model_id):
        found.append(scopes.key_model(key.key_id, model_id))
    if key.member_id:
        found.append(scopes.member(key.member_id))
    if key.team_id:
        found.append(scopes.team(key.team_id))
    if is_model_id(model_id):
        found.append(scopes.account_model(model_id))
    return (*found, scopes.ACCOUNT)


def scopes_of_cost(key: KeyAccount, grant: Grant | None, *, key_id: KeyId, model_id: str) -> Scopes:
    """The scopes that a cost counts in: those that lent its grant, as they were at admission, and
    the model that served. Without a grant that has any, those of the key now.
    """
    lent = grant.scopes if grant is not None and grant.scopes else scopes_of_key(key)
    return _counting(lent, key_id, model_id)


@lru_cache(maxsize=_CACHED)
def _counting(lent: Scopes, key_id: KeyId, model_id: str) -> Scopes:
    """Kept, because one grant pays for many requests to one model."""
    found = [scope for scope in lent if scopes.kind_of(scope) not in _OF_MODELS]
    if key_id and is_model_id(model_id):
        found += [scopes.key_model(key_id, model_id), scopes.account_model(model_id)]
    return tuple(found)


def is_model_id(model_id: str) -> bool:
    """True for what can be a model's id: anything else is counted under no model."""
    return 1 <= len(model_id) <= _MODEL_ID_LENGTH_MAX and model_id.isprintable()
