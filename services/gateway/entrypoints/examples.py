"""An example of every answer whose route shows none by itself, for the description of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.gateway.entrypoints.model_docs import example as model_example

Json = dict[str, Any]  # Any: JSON
# Method, path and status.
Answer = tuple[str, str, str]

_MOMENT = "2026-09-01T12:00:00.000+00:00"
_KEY_ID, _ADMIN_KEY_ID = "key_01JZ0000000000000000000000", "adk_01JZ0000000000000000000000"
_REQUEST_ID, _USAGE_ID = "req_01JZ0000000000000000000000", "use_01JZ0000000000000000000000"
_TEMPLATE_ID = "0198c2f4-7c1e-7d3a-9f42-3f5d1c2b6a70"
_LIMITS: Json = {
    "spend_cap_usd": "25.00",
    "spend_cap_window": "lifetime",
    "rpm_limit": 60,
    "rpd_limit": None,
    "tpm_limit": None,
}
_KEY: Json = {
    "id": _KEY_ID,
    "label": "web",
    "masked_key": "rsk_01JZ...0000",
    "status": "active",
    **_LIMITS,
    "default_model": "openai/gpt-4o-mini",
    "default_params": {"temperature": 0.2},
    "allowed_models": [],
    "team_id": None,
    "api_version": None,
    "response_cache": True,
    "content_stored": False,
    "expires_at": None,
    "created_at": _MOMENT,
    "updated_at": _MOMENT,
    "created_by": "usr_01JZ0000000000000000000000",
}
_ADMIN_KEY: Json = {
    "id": _ADMIN_KEY_ID,
    "label": "deploy script",
    "masked_key": "mak_01JZ...0000",
    "permissions": ["keys:read", "keys:write"],
    "scope": "team",
    "expires_at": "2026-11-01T12:00:00.000+00:00",
    "last_used_at": None,
    "created_by": "usr_01JZ0000000000000000000000",
    "created_at": _MOMENT,
    "revoked_at": None,
    "revoke_reason": None,
}
_CONTENT: Json = {
    "name": "support",
    "description": None,
    "system": "You answer for {{ product }}, in {{ language }}.",
    "messages": None,
    "model": "openai/gpt-4o-mini",
    "params": {"temperature": 0.2},
    "variables": ["product", "language"],
}
_TEMPLATE: Json = {
    "id": _TEMPLATE_ID,
    "owner": "usr_01JZ0000000000000000000000",
    "is_global": False,
    **_CONTENT,
    "team_id": None,
    "version": 2,
    "created_at": _MOMENT,
    "updated_at": _MOMENT,
}
_VERSION: Json = {
    "version": 2,
    "changed_at": _MOMENT,
    "changed_by": "usr_01JZ0000000000000000000000",
    "restored_from": None,
    **_CONTENT,
}
_EVENT: Json = {
    "event_id": _USAGE_ID,
    "request_id": _REQUEST_ID,
    "key_id": _KEY_ID,
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "route": "/v1/chat/completions",
    "model": "openai/gpt-4o-mini",
    "requested_model": "openai/gpt-4o-mini",
    "stream": True,
    "status": "success",
    "outcome": "success",
    "http_status": 200,
    "error_code": None,
    "failure_stage": None,
    "finish_reason": "stop",
    "created_at": _MOMENT,
    "first_token_ms": 310,
    "latency_ms": 840,
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "cost_usd": "0.0000072",
    "routing_fallback": False,
    "service_tier": "default",
    "session_id": "order-7",
    "end_user_id": "u-1",
    "tags": {"team": "red"},
}
_COUNTS: Json = {
    "successful_requests": 3,
    "error_requests": 1,
    "prompt_tokens": 60,
    "completion_tokens": 21,
    "total_tokens": 81,
    "latency_p50_ms": 840.0,
    "latency_p95_ms": 1200.0,
    "first_token_p50_ms": 310.0,
    "first_token_p95_ms": 400.0,
}
_SUMS: Json = {
    "total_requests": 4,
    **_COUNTS,
    "total_cost_usd": "0.0000216",
    "by_model": [
        {"model": "openai/gpt-4o-mini", "requests": 4, **_COUNTS, "cost_usd": "0.0000216"}
    ],
    "by_model_total": 1,
    "limit": 50,
    "offset": 0,
    "total_platform_fee_usd": "0.00",
    "total_byok_platform_fee_usd": "0.00",
    "total_byok_cost_usd": "0.00",
    "total_byok_requests": 0,
    "total_platform_requests": 4,
    "total_byok_tokens": 0,
    "total_platform_tokens": 81,
    "cached_at": None,
}
_TREND: Json = {
    "granularity": "day",
    "buckets": [
        {
            "start": "2026-09-01T00:00:00.000+00:00",
            "requests": 4,
            "cost_usd": "0.0000216",
            "trailing_average_usd": "0.0000216",
        }
    ],
    "total_requests": 4,
    "total_cost_usd": "0.0000216",
}
_ATTEMPTS: Json = {
    "event_id": _USAGE_ID,
    "attempts": [
        {
            "event_id": _USAGE_ID,
            "request_id": _REQUEST_ID,
            "attempt": number,
            "http_status": status,
            "error_code": code,
            "started_at": _MOMENT,
            "latency_ms": 420,
            "served": code is None,
        }
        for number, status, code in ((1, 503, "provider_not_available"), (2, 200, None))
    ],
}
_BATCH: Json = {
    "id": "batch_01JZ0000000000000000000000",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "status": "in_progress",
    "model": "openai/gpt-4o-mini",
    "created_at": 1760000000,
    "completed_at": None,
    "expires_at": 1760086400,
    "completion_window": "24h",
    "request_counts": {"total": 1, "completed": 0, "failed": 0},
    "metadata": None,
    "usage_synced": False,
    "results": None,
    "errors_detail": None,
}
_RESPONSE_ID = "resp_01JZ0000000000000000000000"
_RESPONSE: Json = {
    "id": _RESPONSE_ID,
    "object": "response",
    "created_at": 1760000000,
    "status": "completed",
    "model": "openai/gpt-4o-mini",
    "output": [
        {
            "id": "msg_01JZ0000000000000000000000",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Paris.", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27},
}
_METER: Json = {
    "current": 12,
    "limit": 60,
    "pct": 20.0,
    "resets_in_seconds": 37,
    "is_default_limit": False,
}
_RECHARGE: Json = {
    "enabled": True,
    "threshold_usd": "10.00",
    "amount_usd": "20.00",
    "day_max_usd": "100.00",
    "month_max_usd": "500.00",
    "state": "waiting",
    "until": None,
    "card": "visa 4242",
    "switched_off_because": None,
    "charges": [
        {
            "id": "rfl_01JZ0000000000000000000000",
            "amount_usd": "20.00",
            "status": "succeeded",
            "failure_code": None,
            "created_at": "2026-09-01T12:00:00.000+00:00",
        }
    ],
}
_RULE: Json = {
    "kind": "balance_low",
    "enabled": True,
    "threshold": "5.00",
    "unit": "usd",
    "window_s": 300,
    "min_requests": 20,
}
_ALERT: Json = {
    "id": "alr_01JZ0000000000000000000000",
    "type": "balance.low",
    "kind": "balance_low",
    "subject": "wallet",
    "value": "4.20",
    "threshold": "5.00",
    "unit": "usd",
    "created_at": _MOMENT,
}
_CSV = (
    "usage_id,request_id,model,http_status,prompt_tokens,completion_tokens,cost_usd\n"
    f"{_USAGE_ID},{_REQUEST_ID},openai/gpt-4o-mini,200,20,7,0.0000072\n"
)


def _page(one: Json) -> Json:
    return {
        "object": "list",
        "data": [one],
        "has_more": False,
        "first_id": one["id"],
        "last_id": one["id"],
    }


EXAMPLES: Mapping[Answer, Any] = {  # Any: JSON
    ("get", "/healthz", "200"): {"alive": True},
    ("get", "/readyz", "200"): {"ready": True, "not_ready": []},
    ("get", "/readyz", "503"): {"ready": False, "not_ready": ["keys"]},
    ("get", "/v1/api-versions", "200"): [
        {
            "label": "2026-08",
            "status": "ga",
            "baseline": True,
            "latest": False,
            "released_on": "2026-08-01",
            "sunset_on": None,
            "capabilities": [],
        }
    ],
    ("get", "/v1/errors", "200"): {
        "version": "2026-09",
        "codes": {
            "rate_limit_exceeded": {"http_status": 429, "category": "limits", "retryable": True}
        },
        "categories": {"limits": {"description": "Wait for `Retry-After` seconds."}},
        "default": {"http_status": 500, "category": "gateway", "retryable": False},
    },
    ("get", "/v1/keys", "200"): [_KEY],
    ("post", "/v1/keys", "201"): {**_KEY, "key": "rsk_" + "X" * 26},
    ("get", "/v1/keys/{key_id}", "200"): _KEY,
    ("patch", "/v1/keys/{key_id}", "200"): _KEY,
    ("get", "/v1/keys/{key_id}/limits", "200"): {
        "key_id": _KEY_ID,
        **_LIMITS,
        "effective_rpm_limit": 60,
        "effective_rpd_limit": 10_000,
        "effective_tpm_limit": None,
        "scopes": {"account": {**_LIMITS, "rpm_limit": None, "rpd_limit": 10_000}},
    },
    ("get", "/v1/admin-keys", "200"): [_ADMIN_KEY],
    ("post", "/v1/admin-keys", "201"): {**_ADMIN_KEY, "key": "mak_" + "X" * 26},
    ("get", "/v1/admin-keys/{key_id}", "200"): _ADMIN_KEY,
    ("post", "/v1/admin-keys/{key_id}/rotate", "200"): {**_ADMIN_KEY, "key": "mak_" + "X" * 26},
    ("get", "/v1/alerts", "200"): {"alerts": [_ALERT], "next_before": None},
    ("get", "/v1/alerts/rules", "200"): [_RULE],
    ("put", "/v1/alerts/rules/{kind}", "200"): _RULE,
    ("get", "/v1/auto-recharge", "200"): _RECHARGE,
    ("post", "/v1/auto-recharge/setup", "200"): _RECHARGE,
    ("get", "/v1/models/search", "200"): {
        "items": [model_example()],
        "total": 1,
        "limit": 50,
        "offset": 0,
        "brands": ["openai"],
    },
    ("get", "/v1/models/{model_id}/providers", "200"): [
        {
            "provider": "openai",
            "available": True,
            "input_modalities": ["text", "image"],
            "output_modalities": ["text"],
            "context_length": 128000,
            "supports_streaming": True,
            "supports_tools": True,
            "supports_structured_output": True,
            "pricing": model_example()["pricing"],
        }
    ],
    ("get", "/v1/templates", "200"): [_TEMPLATE],
    ("post", "/v1/templates", "201"): {**_TEMPLATE, "version": 1},
    ("get", "/v1/templates/{template_id}", "200"): _TEMPLATE,
    ("patch", "/v1/templates/{template_id}", "200"): _TEMPLATE,
    ("get", "/v1/templates/{template_id}/versions", "200"): [_VERSION],
    ("post", "/v1/templates/{template_id}/versions/{version}/restore", "200"): {
        **_TEMPLATE,
        "version": 3,
    },
    ("post", "/v1/usage", "200"): _SUMS,
    ("post", "/v1/usage/events", "200"): {
        "events": [_EVENT],
        "total": 1,
        "limit": 50,
        "offset": 0,
        "next_cursor": None,
    },
    ("get", "/v1/usage/events/{event_id}/attempts", "200"): _ATTEMPTS,
    ("get", "/v1/usage/events/export", "200"): _CSV,
    ("get", "/v1/usage/requests/{request_id}", "200"): {
        "request_id": _REQUEST_ID,
        "outcome": "success",
        "event": _EVENT,
    },
    ("get", "/v1/usage/spend-trend", "200"): _TREND,
    ("get", "/v1/usage/rate-limits", "200"): {
        "as_of": _MOMENT,
        "key": {"rpm": _METER, "rpd": None, "tpm": None},
    },
    ("get", "/v1/batches", "200"): _page(_BATCH),
    ("get", "/v1/batches/{batch_id}", "200"): _BATCH,
    ("post", "/v1/batches/{batch_id}/cancel", "200"): {**_BATCH, "status": "cancelling"},
    ("get", "/v1/responses", "200"): _page(
        {
            "id": _RESPONSE_ID,
            "object": "response",
            "model": "openai/gpt-4o-mini",
            "status": "completed",
            "created_at": 1760000000,
            "completed_at": 1760000009,
            "usage_synced": True,
        }
    ),
    ("get", "/v1/responses/{response_id}", "200"): _RESPONSE,
}


def show(path: str, method: str, responses: Json) -> None:
    """Puts the example of each answer into its description, where it has none."""
    for status, response in responses.items():
        found = EXAMPLES.get((method, path, status))
        contents = response.get("content", {})
        if found is not None and contents:
            first = next(iter(contents.values()))
            first.setdefault("example", found)
