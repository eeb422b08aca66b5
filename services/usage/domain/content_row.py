"""The row of what one request asked and was answered."""

from __future__ import annotations

from typing import NamedTuple

from services.usage.domain.row import check_findable


class ContentRow(NamedTuple):
    """The columns of table `request_contents` that the sink writes, in order. Times are Unix
    milliseconds.
    """

    account_id: str
    received_at: int
    usage_id: str
    request_id: str
    key_id: str
    model_id: str
    prompt: str
    answer: str
    prompt_truncated: bool
    answer_truncated: bool
    event_id: str
    log_topic: str
    log_partition: int
    log_offset: int


CONTENT_COLUMNS: tuple[str, ...] = ContentRow._fields


def checked(row: ContentRow) -> ContentRow:
    """The row, where it can be found again. Raises BadUsage naming the field that is wrong."""
    check_findable(row.usage_id, row.account_id, row.received_at)
    return row
