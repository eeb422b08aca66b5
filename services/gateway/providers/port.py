"""The port of model providers: one attempt opened, a stream of chunks back, every failure said in
our words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from services.common.errors import AppError
from services.gateway.chat_request import Operation
from services.gateway.ports import ModelEntry, ProviderEntry

FailureStage = Literal["credentials", "upstream_submit", "upstream_stream"]


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """How long an attempt may take, in seconds."""

    connect_s: float = 5.0
    # Until the first piece of the answer's body.
    first_byte_s: float = 120.0
    # Between two pieces of it.
    idle_s: float = 60.0
    total_s: float = 300.0

    def lowered_to(self, timeout_s: float | None) -> UpstreamLimits:
        """The same, nothing above `timeout_s`."""
        if timeout_s is None:
            return self
        return UpstreamLimits(
            min(self.connect_s, timeout_s),
            min(self.first_byte_s, timeout_s),
            min(self.idle_s, timeout_s),
            min(self.total_s, timeout_s),
        )


@dataclass(frozen=True, slots=True)
class UpstreamAttempt:
    """One request to one provider."""

    provider: ProviderEntry
    model: ModelEntry
    # The caller's parameters in OpenAI's spelling, without model, stream and output limit.
    payload: dict[str, Any]  # Any: JSON
    # For each choice; None leaves it to the provider.
    output_tokens_max: int | None
    limits: UpstreamLimits
    # False where the answer can only be had in one piece.
    stream: bool = True
    operation: Operation = "chat"


class AttemptFailed(Exception):
    """An attempt came to nothing, or broke off: `error` is what a caller may know of it."""

    def __init__(
        self,
        error: AppError,
        *,
        stage: FailureStage,
        http_status: int = 0,
        asked_s: int | None = None,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.stage: FailureStage = stage
        # What the provider answered; 0 where it did not.
        self.http_status = http_status
        # How long the provider asked to be left alone; None where it did not.
        self.asked_s = asked_s


class UpstreamStream(Protocol):
    """The answer of one attempt as it arrives."""

    @property
    def complete(self) -> bool:
        """True once the provider said that this was all."""

    async def read(self) -> list[Any] | None:  # Any: JSON of one chunk, not yet checked
        """All chunks that have arrived, one or more; None at the end. Raises AttemptFailed."""

    def abort(self) -> None:
        """Drops the connection at once, so that the provider stops working."""

    def release(self) -> None:
        """Gives the connection back once the answer's last bytes are read, without making anyone
        wait.
        """


class ChatProvider(Protocol):
    """One way of speaking to providers."""

    async def open(self, attempt: UpstreamAttempt) -> UpstreamStream:
        """Sends the request; returns with the first chunks there. Raises AttemptFailed.

        Cancelling drops the connection.
        """
