"""How long this worker's models have taken until their first token, lately."""

from __future__ import annotations

# What the newest answer counts for.
_NEWEST = 0.2
MODELS_MAX = 10_000


class LatencyBook:
    """A moving mean for each model, in memory; a restart begins anew."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def note(self, model_id: str, first_token_ms: int) -> None:
        """An answer's first token came after so many milliseconds."""
        known = self._means.get(model_id)
        if known is None and len(self._means) >= MODELS_MAX:
            self._means.clear()
        mean = first_token_ms if known is None else known + _NEWEST * (first_token_ms - known)
        self._means[model_id] = float(mean)

    def latency_ms(self, model_id: str) -> float | None:
        """The mean; None where the model has not answered here."""
        return self._means.get(model_id)
