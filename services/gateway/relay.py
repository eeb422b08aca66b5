"""From the provider's chunks to the caller's: relayed as they come, or folded into one answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from services.common.errors import UpstreamError
from services.common.ids import new_id
from services.gateway.answer import AnswerFold, BadUpstreamAnswer, ChunkNormaliser, Piece
from services.gateway.chat_request import ChatRequest
from services.gateway.dialects.port import Dialect
from services.gateway.envelope import Ending
from services.gateway.metering import UsageTally
from services.gateway.piece_frames import PieceFrames
from services.gateway.providers.port import AttemptFailed, UpstreamStream
from services.gateway.routing import Route
from services.gateway.slices import HoldSlices
from services.gateway.whole_answer import WholeAnswer

PRELUDE_CHUNKS_MAX = 64


class StreamWriter(Protocol):
    """Where a stream goes."""

    async def begin_stream(self) -> None: ...

    async def write(self, data: bytes) -> None: ...


class Relay:
    """One answer on its way from an attempt to the caller."""

    def __init__(self, writer: StreamWriter, dialect: Dialect) -> None:
        self._writer = writer
        self._dialect = dialect
        self._chunks: ChunkNormaliser | WholeAnswer | None = None
        self._fold: AnswerFold | WholeAnswer | None = None
        self._prelude: list[Piece] = []
        self._frames: PieceFrames | None = None
        # True once the head of a stream has gone out: from then on failures are frames.
        self.begun = False
        # What is folded beside a stream, for the response cache.
        self._copy: AnswerFold | None = None
        # Further fields of a whole answer.
        self.extra: dict[str, Any] = {}  # Any: JSON
        # True where the answer was ended because no more money was to be had for it.
        self.limited = False

    def start(
        self, request: ChatRequest, chosen: Route, now_ms: int, *, keep: bool = False
    ) -> None:
        """Makes ready for the chunks of an answer; `keep` says that `whole_answer` will be asked
        for.
        """
        if request.operation != "chat":
            self._chunks = self._fold = WholeAnswer(request, chosen.model.model_id)
            return
        self._chunks = ChunkNormaliser(
            model_id=chosen.model.model_id,
            answer_id=new_id("chatcmpl", now_ms).replace("_", "-", 1),
            created_s=now_ms // 1000,
        )
        self._frames = PieceFrames(self._dialect, self._chunks)
        self._fold = None if request.stream else AnswerFold()
        self._copy = AnswerFold() if request.stream and keep else None

    def forget(self) -> None:
        """Drops what an attempt brought that came to nothing before the caller had any of it."""
        assert not self.begun
        self._chunks = self._fold = None
        self._prelude = []
        self.extra = {}
        self.limited = False

    @property
    def tally(self) -> UsageTally:
        """What was produced so far."""
        assert self._chunks is not None
        return self._chunks.tally

    @property
    def texts(self) -> Sequence[str]:
        """The pieces of text of the answer so far; empty before there is one."""
        return self._chunks.tally.texts if self._chunks is not None else ()

    @property
    def finish_reason(self) -> str:
        """The first choice's reason; empty before it has one."""
        if self._chunks is None or not self._chunks.finish_reasons:
            return ""
        return self._chunks.finish_reasons[min(self._chunks.finish_reasons)]

    async def pass_on(
        self,
        upstream: UpstreamStream,
        *,
        on_first: Callable[[], None],
        slices: HoldSlices | None = None,
    ) -> None:
        """Takes the answer to its end, or to that of its money where its hold grows in slices; what
        one read brought goes out in one write.

        Raises AttemptFailed where the provider fails, ends early or sends what is no answer.
        """
        chunks = self._chunks
        assert chunks is not None
        waiting_for_first = True
        try:
            while not self.limited and (batch := await upstream.read()) is not None:
                uniform = await self._take(batch, slices)
                if waiting_for_first and chunks.tally.produced:
                    waiting_for_first = False
                    on_first()
                await self._send(uniform)
        finally:
            if slices is not None:
                slices.close()
        ended = self.limited or chunks.finished or (upstream.complete and chunks.started)
        if not ended:
            early = UpstreamError("the upstream provider ended its answer early")
            raise AttemptFailed(early, stage="upstream_stream", http_status=200)
        await self._send([], all_of_it=True)

    async def _take(self, batch: Sequence[Any], slices: HoldSlices | None) -> list[Piece]:
        """The uniform chunks of one read; none behind the end of the money."""
        chunks = self._chunks
        assert chunks is not None
        uniform: list[Piece] = []
        for raw in batch:
            words = chunks.words(raw)
            if words is not None and (slices is None or slices.covers_words(words)):
                uniform.append(words)
                continue
            mark = chunks.tally.mark()
            finished = tuple(chunks.finish_reasons)
            piece: Piece | None = words
            if words is not None:
                mark = (mark[0] - 1, mark[1])
            else:
                try:
                    piece = chunks.take(raw)
                except BadUpstreamAnswer as error:
                    raise AttemptFailed(error, stage="upstream_stream", http_status=200) from error
            if slices is not None and (words is not None or not slices.covers(chunks.tally)):
                # Who reads along need not wait for money with what is paid for.
                await self._send(uniform)
                uniform = []
                if not await slices.fund(chunks.tally):
                    assert isinstance(chunks, ChunkNormaliser)
                    chunks.tally.rewind(mark)
                    self.limited = True
                    return [chunks.limit_chunk(finished)]
            if piece is not None:
                uniform.append(piece)
        return uniform

    async def _send(self, uniform: Sequence[Piece], *, all_of_it: bool = False) -> None:
        """Passes the chunks on; what comes before the first token waits for it, as it says nothing
        and would bind the answer to this attempt.
        """
        if self._fold is not None:
            for chunk in uniform:
                self._fold.add(chunk)
            return
        if not self.begun:
            self._prelude += uniform
            waits = not (self.tally.produced or all_of_it)
            if not self._prelude or (waits and len(self._prelude) < PRELUDE_CHUNKS_MAX):
                return
            uniform, self._prelude = self._prelude, []
            self.begun = True
            await self._writer.begin_stream()
        if self._copy is not None:
            for chunk in uniform:
                self._copy.add(chunk)
        assert self._frames is not None
        if uniform and (data := self._frames.of(uniform)):
            await self._writer.write(data)

    def ending(self, usage: dict[str, Any]) -> Ending:  # Any: JSON
        """The last frames of the stream, or the whole answer."""
        assert self._chunks is not None
        if self._fold is not None:
            return Ending(200, self._dialect.whole({**self._fold.whole(usage), **self.extra}))
        return Ending(200, self._dialect.last(self._chunks.usage_chunk(usage)))

    def whole_answer(self, usage: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        """The `chat.completion` that came, of a stream too; `start` was told to keep it."""
        fold = self._copy or self._fold
        assert fold is not None
        return fold.whole(usage)

    async def replay(
        self, request: ChatRequest, chosen: Route, content: dict[str, Any], *, now_ms: int
    ) -> Ending:  # Any: JSON
        """An answer out of the response cache, in the form that this caller asked for."""
        chunks = self._chunks = ChunkNormaliser(
            model_id=chosen.model.model_id,
            answer_id=new_id("chatcmpl", now_ms).replace("_", "-cached-", 1),
            created_s=now_ms // 1000,
        )
        chunks.finish_reasons.update(
            (choice["index"], choice["finish_reason"]) for choice in content["choices"]
        )
        texts = (choice["message"].get("content") for choice in content["choices"])
        chunks.tally.texts += [text for text in texts if isinstance(text, str)]
        last = chunks.usage_chunk(content["usage"])
        head = {name: last[name] for name in ("id", "created", "model")}
        if not request.stream:
            whole = {**head, "object": "chat.completion", **content, **self.extra}
            return Ending(200, self._dialect.whole(whole))
        self.begun = True
        await self._writer.begin_stream()
        choices = [
            {
                **{key: value for key, value in one.items() if key != "message"},
                "delta": one["message"],
            }
            for one in content["choices"]
        ]
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices}
        if data := self._dialect.frames([chunk]):
            await self._writer.write(data)
        return Ending(200, self._dialect.last(last))
