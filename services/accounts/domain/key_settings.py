"""What may be set on an API key: bounds, defaults and partial change.

A limit that is absent is no limit; one of 0 allows nothing. A cap counts over the key's lifetime
unless another window is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from services.accounts.domain.limits import (
    MODEL_ID_LENGTH_MAX,
    RPD_MAX,
    RPM_MAX,
    CapWindow,
    ModelLimits,
    checked_limit,
    checked_model_limits,
)
from services.accounts.domain.routing_policy import checked_policy
from services.common.errors import InvalidArgument
from services.common.money import INT64_MAX

LABEL_LENGTH_MAX = 100
ALLOWED_MODELS_MAX = 500
PARAMS_BYTES_MAX = 16_384
PARAMS_DEPTH_MAX = 16
_API_VERSION = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class KeySettings:
    """The settings of one key; field names are those of `mesh.events.v1.KeySettings`."""

    label: str = ""
    spend_cap_nanousd: int | None = None
    spend_cap_window: CapWindow = CapWindow.LIFETIME
    rpm_limit: int | None = None
    rpd_limit: int | None = None
    tpm_limit: int | None = None
    default_model: str = ""
    # A JSON object of request parameters, as text; empty means none.
    default_params_json: str = ""
    # Empty means every model.
    allowed_models: tuple[str, ...] = ()
    # Unix milliseconds; 0 means never.
    expires_at_ms: int = 0
    # Ascending by model.
    model_limits: tuple[ModelLimits, ...] = ()
    # Whether there is such a team is for the account to say. Empty: none.
    team_id: str = ""
    # A JSON object that `routing_policy` describes, as text; empty means the gateway's own way.
    routing_policy_json: str = ""
    # `YYYY-MM`; empty means the oldest version that is served.
    api_version: str = ""
    response_cache_disabled: bool = False
    # Prompts and answers are stored, where the operator allows it.
    content_stored: bool = False


FIELD_NAMES = frozenset(field.name for field in fields(KeySettings))
NO_SETTINGS = KeySettings()


def merged(settings: KeySettings, change: KeySettings, mask: Sequence[str]) -> KeySettings:
    """`settings` with the fields that `mask` names taken from `change`. InvalidArgument for an
    unknown name.
    """
    if not mask:
        raise InvalidArgument.of("update_mask", "names no field")
    unknown = sorted(set(mask) - FIELD_NAMES)
    if unknown:
        raise InvalidArgument.of("update_mask", f"there is no field {unknown[0]!r}")
    return replace(settings, **{name: getattr(change, name) for name in set(mask)})


def checked(settings: KeySettings, *, before: KeySettings | None, now_ms: int) -> KeySettings:
    """The settings in their normal form. Raises InvalidArgument naming the field that is out of
    bounds.

    An expiry has to lie ahead only where it is new: a key that has expired can still be renamed.
    """
    _check_label(settings.label)
    _check_model("default_model", settings.default_model)
    if settings.api_version and not _API_VERSION.fullmatch(settings.api_version):
        raise InvalidArgument.of("api_version", "must look like 2026-08")
    if not 0 <= settings.expires_at_ms <= INT64_MAX:
        raise InvalidArgument.of("expires_at_ms", "is not a time")
    is_new = before is None or before.expires_at_ms != settings.expires_at_ms
    if is_new and settings.expires_at_ms and settings.expires_at_ms <= now_ms:
        raise InvalidArgument.of("expires_at_ms", "lies in the past")
    return replace(
        settings,
        label=settings.label.strip(),
        spend_cap_nanousd=checked_limit("spend_cap_nanousd", settings.spend_cap_nanousd, INT64_MAX),
        rpm_limit=checked_limit("rpm_limit", settings.rpm_limit, RPM_MAX),
        rpd_limit=checked_limit("rpd_limit", settings.rpd_limit, RPD_MAX),
        tpm_limit=checked_limit("tpm_limit", settings.tpm_limit, INT64_MAX),
        default_params_json=_params(settings.default_params_json),
        allowed_models=_models(settings.allowed_models),
        model_limits=checked_model_limits(settings.model_limits),
        routing_policy_json=checked_policy(settings.routing_policy_json),
    )


def _check_label(label: str) -> None:
    if not 1 <= len(label.strip()) <= LABEL_LENGTH_MAX:
        raise InvalidArgument.of("label", f"must have 1 to {LABEL_LENGTH_MAX} characters")


def _check_model(field: str, model_id: str) -> None:
    if len(model_id) > MODEL_ID_LENGTH_MAX:
        raise InvalidArgument.of(field, f"has more than {MODEL_ID_LENGTH_MAX} characters")


def _models(models: tuple[str, ...]) -> tuple[str, ...]:
    if len(models) > ALLOWED_MODELS_MAX:
        raise InvalidArgument.of("allowed_models", f"has more than {ALLOWED_MODELS_MAX} entries")
    for model_id in models:
        _check_model("allowed_models", model_id)
        if not model_id:
            raise InvalidArgument.of("allowed_models", "has an empty entry")
    return tuple(dict.fromkeys(models))


def _params(text: str) -> str:
    """The same parameters in compact form; an empty object is no parameters."""
    if not text.strip():
        return ""
    if len(text.encode()) > PARAMS_BYTES_MAX:
        raise InvalidArgument.of("default_params_json", f"has more than {PARAMS_BYTES_MAX} bytes")
    try:
        value: object = json.loads(text, parse_constant=_not_a_number)
        too_deep = _is_deeper(value, PARAMS_DEPTH_MAX)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument.of("default_params_json", "is not JSON") from error
    if not isinstance(value, dict):
        raise InvalidArgument.of("default_params_json", "is not a JSON object")
    if too_deep:
        raise InvalidArgument.of(
            "default_params_json", f"is nested deeper than {PARAMS_DEPTH_MAX} levels"
        )
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) if value else ""


def _not_a_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)
