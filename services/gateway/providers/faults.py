"""What a provider's failure means to the caller: status, code and a message without the operator's
affairs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

import orjson

from services.common.errors import GatewayTimeout, ProviderNotAvailable, UpstreamError
from services.common.telemetry.logs import redact
from services.gateway.errors import (
    ContextWindowExceeded,
    InvalidRequest,
    UpstreamCredentials,
    UpstreamRateLimited,
)
from services.gateway.providers.port import AttemptFailed, FailureStage, UpstreamAttempt

MESSAGE_CHARACTERS_MAX = 500
RETRY_AFTER_DEFAULT_S = 1
RETRY_AFTER_MAX_S = 3600

# Statuses that say that the operator's account or configuration is at fault, not the caller.
_OPERATORS_FAULT = frozenset({401, 402, 403, 404, 407})
# Of the fourth hundred, and yet the model's own failure: Bedrock's ModelErrorException.
_PROVIDERS_FAULT = frozenset({424})
_ADDRESSES = re.compile(
    r"(?:https?|wss?)://[^\s\"'<>]+"
    r"|\b(?:[a-z0-9-]+\.)+(?:com|net|org|io|ai|dev|cloud|internal|local)\b(?:/[^\s\"'<>]*)?"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b",
    re.IGNORECASE,
)
# Said in words alone by those who have no code for it.
_TOO_LONG = re.compile(
    r"prompt is too long|input is too long|maximum context length|input token count .*exceeds"
    r"|exceeds? the (model'?s )?context window|too many input tokens",
    re.IGNORECASE,
)
# A 400 that is about the operator's account and none of the caller's business.
_OPERATORS_WORDS = re.compile(
    r"credit balance is too low|api key (not valid|expired)|api_key_invalid|billing is not",
    re.IGNORECASE,
)
_ACCOUNT_IDS = re.compile(r"\b(?:org|proj|req|acct|user)[-_][A-Za-z0-9]{6,}\b")


class ContentPolicyViolation(InvalidRequest):
    """The provider's filter refused the content."""

    code: ClassVar[str] = "content_policy_violation"


def failure_from_status(
    status: int, *, headers: Mapping[str, str], body: bytes, attempt: UpstreamAttempt
) -> AttemptFailed:
    """The failure that a provider's answer of this status means."""
    said, code = _said(body)
    if status in _OPERATORS_FAULT or (status == 400 and _OPERATORS_WORDS.search(said)):
        error = UpstreamCredentials("the upstream provider could not serve this request")
        return AttemptFailed(error, stage="credentials", http_status=status)
    if status == 429:
        asked_s = retry_after_s(headers.get("Retry-After")) or _retry_delay_s(body)
        limited = UpstreamRateLimited(
            "the upstream provider is limiting its rate; try again later",
            retry_after_s=asked_s or RETRY_AFTER_DEFAULT_S,
        )
        return AttemptFailed(limited, stage="upstream_submit", http_status=status, asked_s=asked_s)
    if status in (408, 504):
        late = GatewayTimeout("the upstream provider took too long")
        return AttemptFailed(late, stage="upstream_submit", http_status=status)
    if status in (503, 529):
        asked_s = retry_after_s(headers.get("Retry-After"))
        away = ProviderNotAvailable("the upstream provider is not available", retry_after_s=asked_s)
        return AttemptFailed(away, stage="upstream_submit", http_status=status, asked_s=asked_s)
    if 400 <= status < 500 and status not in _PROVIDERS_FAULT:
        refused = _refusal(code, said)(
            scrubbed(said, attempt) or "the upstream provider refused this"
        )
        return AttemptFailed(refused, stage="upstream_submit", http_status=status)
    failed = UpstreamError("the upstream provider failed")
    return AttemptFailed(failed, stage="upstream_submit", http_status=status)


def failure_from_frame(
    error: Any,  # Any: JSON
    attempt: UpstreamAttempt,
    *,
    stage: FailureStage,
    http_status: int,
) -> AttemptFailed:
    """The failure that an `error` inside an answer of status 200 means."""
    said = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    if type(code) is int and 400 <= code < 600:
        body = orjson.dumps({"error": {"message": said}})
        found = failure_from_status(code, headers={}, body=body, attempt=attempt)
        return AttemptFailed(
            found.error,
            stage="credentials" if found.stage == "credentials" else stage,
            http_status=http_status,
            asked_s=found.asked_s,
        )
    refusal = _refusal(code if isinstance(code, str) else "", said)
    if refusal is InvalidRequest:
        generic = UpstreamError("the upstream provider failed")
        return AttemptFailed(generic, stage=stage, http_status=http_status)
    text = scrubbed(said if isinstance(said, str) else "", attempt)
    return AttemptFailed(refusal(text), stage=stage, http_status=http_status)


def scrubbed(message: str, attempt: UpstreamAttempt) -> str:
    """The provider's words without addresses, credentials, account ids and the provider's name."""
    words = message[: 4 * MESSAGE_CHARACTERS_MAX]
    if attempt.provider.credential:
        words = words.replace(attempt.provider.credential, "[redacted]")
    words = _ADDRESSES.sub("[address]", str(redact(words)))
    words = _ACCOUNT_IDS.sub("[id]", words)
    words = words.replace(attempt.model.upstream_model, str(attempt.model.model_id))
    for name in (attempt.provider.name, str(attempt.provider.provider_id)):
        if len(name) > 2 and name.lower() not in str(attempt.model.model_id).lower():
            words = re.sub(re.escape(name), "the provider", words, flags=re.IGNORECASE)
    return " ".join(words.split())[:MESSAGE_CHARACTERS_MAX]


def retry_after_s(value: str | None) -> int | None:
    """Whole seconds of a Retry-After that counts seconds, bounded; None where it is absent or says
    no number.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _RETRY_AT_DATE_S if _is_date(value) else None
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return min(RETRY_AFTER_MAX_S, max(1, math.ceil(seconds)))


_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"([0-9.]+)s"')
# A date would have to be read by a clock that agrees with the provider's; a few seconds serve as
# well.
_RETRY_AT_DATE_S = 5


def _is_date(value: str) -> bool:
    try:
        parsedate_to_datetime(value)
    except ValueError:
        return False
    return True


def _retry_delay_s(body: bytes) -> int | None:
    """What Google's error bodies say of waiting, such as `"retryDelay": "13s"`."""
    found = _RETRY_DELAY.search(body)
    return retry_after_s(found[1].decode()) if found else None


def _refusal(code: str, said: object) -> type[InvalidRequest | ContextWindowExceeded]:
    if isinstance(said, str) and _TOO_LONG.search(said):
        return ContextWindowExceeded
    if code in ("context_length_exceeded", "context_window_exceeded", "exceed_context_size_error"):
        return ContextWindowExceeded
    if code in ("content_filter", "content_policy_violation"):
        return ContentPolicyViolation
    return InvalidRequest


def _said(body: bytes) -> tuple[str, str]:
    """Message and code of an error body in any of the shapes that are about; empty where it has
    none.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", ""
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    if isinstance(error, str):
        return error, ""
    if not isinstance(error, dict):
        return "", ""
    message, code = error.get("message") or error.get("detail"), error.get("code")
    kind = error.get("type")
    named = code if isinstance(code, str) else kind if isinstance(kind, str) else ""
    return (message if isinstance(message, str) else ""), named
