"""The pipeline's step for `model: "auto"`: the request with a model's name in it, and what the
caller is told of the choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from services.gateway import tokens
from services.gateway.auto_route import AutoRouter, Selection, is_auto, needs_of, profile_of
from services.gateway.chat_request import ChatRequest
from services.gateway.latencies import LatencyBook
from services.gateway.ports import KeySettings
from services.gateway.usage_entry import UsageEntry


@dataclass(frozen=True, slots=True)
class AutoStep:
    """Chooses for requests that leave the choice to us, and learns from answers."""

    router: AutoRouter
    latencies: LatencyBook

    async def resolve(
        self, request: ChatRequest, settings: KeySettings, now_ms: int, *, profile: str = ""
    ) -> tuple[ChatRequest, Selection | None]:
        """The request over named models; None where it named its model itself.

        `profile` is the caller's header, which the body's field outdoes.
        """
        if not request.models or not is_auto(request.models[0]):
            return request, None
        counted = await tokens.count_prompt(request.prompt, "")
        chosen = self.router.select(
            needs_of(request, counted),
            settings,
            now_ms,
            profile=profile_of(request.weight_profile, profile),
        )
        named = (chosen.model_id, *request.models[1:], *chosen.alternates)
        return replace(request, models=tuple(dict.fromkeys(named))), chosen

    def note(self, entry: UsageEntry) -> None:
        """Learns from a request that has ended."""
        if entry.first_token_ms and entry.chosen is not None:
            self.latencies.note(entry.chosen.model.model_id, entry.first_token_ms)


def answer_fields(chosen: Selection, served: str) -> dict[str, Any]:  # Any: JSON
    """What a whole answer says of the choice; `served` is the model that answers."""
    shown: dict[str, Any] = {  # Any: JSON
        "x_auto_routed": True,
        "x_resolved_model_id": served,
    }
    if chosen.fallback_reason:
        shown["x_auto_routed_fallback"] = True
        shown["x_auto_routed_fallback_reason"] = chosen.fallback_reason
    return shown


def answer_headers(chosen: Selection, served: str) -> list[tuple[bytes, bytes]]:
    """What the head of an answer says of it; streams say it nowhere else."""
    headers = [
        (b"x-auto-routed", b"true"),
        (b"x-resolved-model-id", served.encode()),
    ]
    if chosen.fallback_reason:
        headers += [
            (b"x-auto-routed-fallback", b"true"),
            (b"x-auto-routed-fallback-reason", chosen.fallback_reason.encode()),
        ]
    return headers
