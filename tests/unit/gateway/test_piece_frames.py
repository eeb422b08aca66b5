"""Words that are passed on as such: nobody can tell them from chunks that were built."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.answer import AnswerFold, ChunkNormaliser, Piece
from services.gateway.dialects.chat import CHAT
from services.gateway.dialects.messages import MessagesDialect
from services.gateway.dialects.port import Dialect
from services.gateway.piece_frames import PieceFrames

Json = dict[str, Any]  # Any: JSON

_TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(['"content":""', " the", "é\n", "\u2028"]))
_DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, _TEXTS),
    st.builds(lambda text: {"content": text, "role": "assistant"}, _TEXTS),
    st.builds(lambda text: {"content": text, "reasoning_content": "hm"}, _TEXTS),
    st.sampled_from([{}, {"content": None}, {"role": None}, {"reasoning": "so"}]),
)
_CHOICES = st.builds(
    lambda index, delta, rest: {"index": index, "delta": delta, **rest},
    st.sampled_from([0, 0, 0, 1, None, True]),
    _DELTAS,
    st.sampled_from([{}, {}, {"finish_reason": None}, {"finish_reason": "stop"}, {"logprobs": {}}]),
)
_CHUNKS = st.builds(
    lambda choices, rest: {"choices": choices, **rest},
    st.lists(_CHOICES, max_size=2),
    st.sampled_from(
        [
            {},
            {"usage": None, "service_tier": "default"},
            {"usage": {"prompt_tokens": 1, "completion_tokens": 2}},
            {"system_fingerprint": "fp_1"},
            {"system_fingerprint": "fp_2"},
        ]
    ),
)


def _normaliser() -> ChunkNormaliser:
    return ChunkNormaliser(model_id='v/"content":""', answer_id="chatcmpl-1", created_s=7)


def _pieces(raw: list[Json], *, plain: bool) -> tuple[ChunkNormaliser, list[Piece]]:
    """The pieces of an answer; `plain` has a chunk built for each."""
    chunks, found = _normaliser(), []
    for one in raw:
        piece: Piece | None = None if plain else chunks.words(one)
        piece = chunks.take(one) if piece is None else piece
        if piece is not None:
            found.append(piece)
    return chunks, found


def _events(data: bytes) -> list[bytes]:
    return [orjson.dumps(orjson.loads(line[6:])) for line in data.split(b"\n") if line[:1] == b"d"]


@given(raw=st.lists(_CHUNKS, max_size=12), cut=st.integers(0, 12))
def test_frames_tallies_and_folds_are_those_of_the_chunks(raw: list[Json], cut: int) -> None:
    made, chunks = _pieces(raw, plain=True)
    said, pieces = _pieces(raw, plain=False)
    dialects: list[tuple[Dialect, Dialect]] = [
        (CHAT, CHAT),
        (MessagesDialect(), MessagesDialect()),
    ]
    for one, other in dialects:
        frames, plain = PieceFrames(one, said), PieceFrames(other, made)
        sent = frames.of(pieces[:cut]) + frames.of(pieces[cut:])
        assert _events(sent) == _events(plain.of(chunks))
    assert said.tally == made.tally
    assert said.finish_reasons == made.finish_reasons
    if chunks:
        folds = AnswerFold(), AnswerFold()
        for fold, parts in zip(folds, (pieces, chunks), strict=True):
            for piece in parts:
                fold.add(piece)
        assert folds[0].whole({}) == folds[1].whole({})


def test_a_chunk_of_words_alone_stands_as_its_words_once_its_choice_has_begun() -> None:
    chunks = _normaliser()
    raw = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    assert chunks.words(raw) is None
    chunks.take(raw)
    assert chunks.words(raw) == "Hi"
    assert chunks.tally.texts == ["Hi", "Hi"]
