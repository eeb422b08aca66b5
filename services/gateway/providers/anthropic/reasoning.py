"""How Claude models are asked to think, which differs from one generation to the next."""

from __future__ import annotations

import re

from services.gateway.providers.wire import Json

BUDGET_LEAST = 1_024
BUDGET_MOST = 32_000
_SHARES = {"low": 0.2, "medium": 0.5, "high": 0.8}
# claude-opus-4-7, claude-sonnet-5, anthropic.claude-haiku-4-5-20251001-v1:0; a date is no version.
_VERSION = re.compile(r"claude-[a-z]+-(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
_ADAPTIVE_SINCE = (4, 6)
_NO_SAMPLING_SINCE = (4, 7)


def version_of(upstream_model: str) -> tuple[int, int]:
    """The generation that a name tells; (0, 0) for names that tell none, such as claude-3-opus."""
    found = _VERSION.search(upstream_model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def takes_sampling(upstream_model: str) -> bool:
    """False where temperature and top_p are refused."""
    return version_of(upstream_model) < _NO_SAMPLING_SINCE


def thinking_of(payload: Json, upstream_model: str, output_tokens: int) -> Json:
    """The fields that ask for thinking; none where nobody asked, or where there is no room for it.

    Thinking counts into the output limit, so what is held for a request stays enough.
    """
    effort, budget = payload.get("reasoning_effort"), payload.get("reasoning_budget")
    if budget is None and effort not in _SHARES:
        return {}
    if version_of(upstream_model) >= _ADAPTIVE_SINCE:
        wanted = effort if effort in _SHARES else _effort_of(budget or 0, output_tokens)
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": wanted}}
    if budget is None:
        budget = int(output_tokens * _SHARES[effort or "medium"])
    budget = max(BUDGET_LEAST, min(budget, BUDGET_MOST))
    if output_tokens <= BUDGET_LEAST:
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": min(budget, output_tokens - 1)}}


def _effort_of(budget: int, output_tokens: int) -> str:
    share = budget / output_tokens
    return next((name for name, most in _SHARES.items() if share <= most), "high")
