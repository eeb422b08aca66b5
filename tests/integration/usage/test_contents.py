"""Prompts and answers in the store: each once, found by their words, forgotten when told to."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from services.common.clock import FakeClock
from services.common.errors import InvalidArgument, NotFound
from services.common.events import record_of
from services.common.kafka.ports import Batch, LogMessage
from services.common.pb.mesh.events.v1 import content_pb2
from services.common.topics import CONTENT
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.content_event import content_row_from_message
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.contents.erasures import Erasures
from services.usage.contents.retention import ContentRetention
from services.usage.contents.search_index import Kind, SearchIndex
from services.usage.contents.sink_store import ContentSinkStore
from services.usage.contents.views import ContentViews
from services.usage.domain.content_row import ContentRow
from services.usage.ports import CONTENTS
from services.usage.sink.target import RowSink
from tests.fixtures.ledger import LetterBox
from tests.unit.usage.builders import DAY_MS, START_MS

ACCOUNT = "acc_1"


def message(number: int, prompt: str, account_id: str = ACCOUNT, *, days: int = 0) -> LogMessage:
    content = content_pb2.ContentRecorded(
        usage_id=f"use_{number:03d}",
        request_id=f"req_{number}",
        account_id=account_id,
        key_id="key_1",
        received_at_ms=START_MS + number + days * DAY_MS,
        model_id="local/smol",
        prompt=prompt,
        answer=f"Antwort Nr {number * 7}",
        answer_truncated=True,
    )
    record = record_of(content, account_id=account_id, occurred_at_ms=content.received_at_ms)
    return LogMessage(CONTENT.name, 0, number, START_MS, account_id.encode(), record.to_bytes())


@dataclass(slots=True)
class Town:
    """A store, what reads it, and a log of so many messages of which the first are gone."""

    clickhouse: ClickHouse
    clock: FakeClock = field(default_factory=lambda: FakeClock(START_MS + DAY_MS))
    log_start: int = 0

    @property
    def erasures(self) -> Erasures:
        return Erasures(self.clickhouse, self.clock)

    async def views(self, kind: Kind = "text") -> ContentViews:
        index = SearchIndex(self.clickhouse)
        assert await index.open((kind,)) == kind
        return ContentViews(self.clickhouse, self.erasures, index)

    async def bounds(self, _partition: int) -> tuple[int, int]:
        return self.log_start, 1_000

    def sink(self) -> RowSink[ContentRow]:
        store = ClickHouseSinkStore(self.clickhouse, CONTENTS)
        return RowSink(
            ContentSinkStore(store, self.erasures, self.bounds),
            decode=content_row_from_message,
            dead_letters=LetterBox(),
            log_bounds=self.bounds,
            on_rows=lambda _rows: None,
        )

    async def store(self, *messages: LogMessage) -> None:
        """Claims the partition anew and applies the messages that are not applied yet."""
        sink = self.sink()
        claim = (await sink.claim(CONTENT.name, [0]))[0]
        rest = tuple(one for one in messages if one.offset >= claim.next_offset)
        if rest:
            await sink.apply(Batch(CONTENT.name, 0, claim.epoch, rest))

    async def count(self) -> int:
        return int((await self.clickhouse.query("SELECT count() FROM request_contents"))[0][0])


@pytest.fixture
def town(clickhouse: ClickHouse) -> Town:
    return Town(clickhouse)


@pytest.mark.parametrize("kind", ["text", "tokenbf_v1"])
async def test_words_are_found_in_prompts_and_answers_of_the_account(
    town: Town, kind: Kind
) -> None:
    views = await town.views(kind)
    await town.store(
        message(0, "Was kostet die Wörterbuch-Ausgabe?"),
        message(1, "Nothing of the kind"),
        message(2, "die wörterbuch ausgabe, noch einmal"),
        message(3, "die Wörterbuch Ausgabe", "acc_2"),
    )

    async def found(words: str, account_id: str = ACCOUNT) -> list[str]:
        return [row.usage_id for row in (await views.search(account_id, words)).rows]

    assert await found("AUSGABE wörterbuch") == ["use_002", "use_000"]
    assert await found("ausgabe 14") == ["use_002"]
    assert await found("ausgab") == []
    assert await found("ausgabe", "acc_2") == ["use_003"]
    assert await found("ausgabe", "acc_9") == []
    first = await views.search(ACCOUNT, "ausgabe", page_size=1)
    assert [row.usage_id for row in first.rows] == ["use_002"]
    then = await views.search(ACCOUNT, "ausgabe", page_size=1, page_token=first.next_page_token)
    assert ([row.usage_id for row in then.rows], then.next_page_token) == (["use_000"], "")
    until = await views.search(ACCOUNT, "ausgabe", until_ms=START_MS + 2)
    assert [row.usage_id for row in until.rows] == ["use_000"]


async def test_what_cannot_be_searched_is_refused_by_name(town: Town) -> None:
    views = await town.views()
    for words in ("", " ?! ", "x" * 201):
        with pytest.raises(InvalidArgument, match="words"):
            await views.search(ACCOUNT, words)
    with pytest.raises(InvalidArgument, match="page_size"):
        await views.search(ACCOUNT, "x", page_size=101)


async def test_one_request_is_found_by_its_account_alone(town: Town) -> None:
    views = await town.views()
    await town.store(message(0, "Hello"))
    row = await views.get(ACCOUNT, "use_000")
    assert (row.prompt, row.answer, row.answer_truncated) == ("Hello", "Antwort Nr 0", True)
    for account_id, usage_id in (("acc_2", "use_000"), (ACCOUNT, "use_001")):
        with pytest.raises(NotFound):
            await views.get(account_id, usage_id)


async def test_a_batch_again_and_an_event_again_are_stored_once(town: Town) -> None:
    batch = [message(number, "Hello") for number in range(5)]
    await town.store(*batch)
    await town.store(*batch)
    again = message(3, "Hello")
    await town.store(LogMessage(CONTENT.name, 0, 5, START_MS, again.key, again.value))
    views = await town.views()
    assert len((await views.search(ACCOUNT, "hello")).rows) == 5
    await town.clickhouse.work("OPTIMIZE TABLE request_contents FINAL")
    assert await town.count() == 5


async def test_an_erasure_takes_all_of_the_account_and_what_is_on_its_way(town: Town) -> None:
    views = await town.views()
    sent = [message(0, "Hello"), message(1, "Hello", days=1), message(2, "Hello", "acc_2")]
    await town.store(*sent)
    # Erased a day after START_MS: of the second request, which came later, nothing is lost.
    erased, until = await town.erasures.erase(ACCOUNT)
    assert (erased, until) == (1, START_MS + DAY_MS)
    assert await town.count() == 2
    # Who takes the partition over finds rows missing and reads the batch again.
    await town.store(*sent, message(3, "Hello"), message(4, "Hello", days=1))
    assert [row.usage_id for row in (await views.search(ACCOUNT, "hello")).rows] == [
        "use_004",
        "use_001",
    ]
    assert len((await views.search("acc_2", "hello")).rows) == 1
    assert (await town.erasures.erase(ACCOUNT))[0] == 0


async def test_what_was_stored_while_it_was_erased_is_hidden_and_then_gone(town: Town) -> None:
    views = await town.views()
    await town.erasures.erase(ACCOUNT)
    # Past the sink's look at the erasures, as a batch under way is.
    row = content_row_from_message(message(0, "Hello"))
    await ClickHouseSinkStore(town.clickhouse, CONTENTS).insert_missing([row])
    with pytest.raises(NotFound):
        await views.get(ACCOUNT, "use_000")
    assert await town.erasures.round() == 1
    assert await town.count() == 0


async def test_the_sink_goes_on_where_rows_and_log_are_gone(town: Town) -> None:
    await town.store(message(0, "Hello"), message(1, "Hello"))
    await town.erasures.erase(ACCOUNT)
    # Erased, but the log still has the batch: it is read again and stays erased.
    await town.store(message(0, "Hello"), message(1, "Hello"), message(2, "Hello", days=1))
    assert await town.count() == 1
    # The log has part of the newest batch, then none of it, then begins behind it.
    for start, offset in ((3, 3), (9, 9)):
        town.log_start = start
        await town.clickhouse.command("TRUNCATE TABLE request_contents")
        await town.store(message(offset, "Hello", days=1))
        assert await town.count() == 1


async def test_days_that_are_wholly_over_the_time_are_dropped(town: Town) -> None:
    # START_MS is a minute before the end of the 31st of January.
    await town.store(*[message(n, "Hello", days=n) for n in range(3)])
    clock = FakeClock(START_MS + 3 * DAY_MS)
    keep = ContentRetention(town.clickhouse, clock, town.erasures, 2)
    assert await keep.apply() == ["20260131"]
    assert await keep.apply() == []
    assert await town.count() == 2
