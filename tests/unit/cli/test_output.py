"""What commands print."""

from __future__ import annotations

import json

import pytest

from services.cli.output import Row, Value, moment, show_one, show_rows, text

ROWS: list[Row] = [
    {"key_id": "key_1", "spent_usd": "1.50", "requests": 3, "suspended": False, "models": ["a"]},
    {"key_id": "key_2", "spent_usd": "0.00", "requests": 12, "suspended": True, "models": []},
]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1.5, "1.5"),
        ("", ""),
        ("a", "a"),
        (["a", "b"], "a, b"),
        ([], ""),
        ({"a": "1", "b": "2"}, "a=1 b=2"),
    ],
)
def test_a_cell_is_the_text_of_its_value(value: Value, shown: str) -> None:
    assert text(value) == shown


def test_json_is_one_object_a_line_with_numbers_as_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_rows(ROWS, as_json=True)
    shown = capsys.readouterr()
    assert [json.loads(line) for line in shown.out.splitlines()] == ROWS
    assert shown.err == ""


def test_a_table_has_a_head_and_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS, as_json=False)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["key", "id", "spent", "usd", "requests", "suspended", "models"]
    assert first.split() == ["key_1", "1.50", "3", "no", "a"]
    assert second.split() == ["key_2", "0.00", "12", "yes"]


def test_nothing_is_said_beside_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([], as_json=False)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "nothing to show\n")
    show_rows([], as_json=True)
    assert capsys.readouterr() == ("", "")


def test_markup_in_a_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    label = "[bold]x[/bold] [/] [link=http://x]y"
    show_one({"label": label}, as_json=False)
    assert label in capsys.readouterr().out
    show_rows([{"label": label}], as_json=False)
    assert label in capsys.readouterr().out


def test_a_text_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_one({"label": "a\x1b]0;title\x07\x9b31m\r\nb\u202ec"}, as_json=False)
    shown = capsys.readouterr().out
    assert [c for c in shown if not c.isprintable() and c != "\n"] == []
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("unix_ms", "shown"),
    [(0, ""), (1, "1970-01-01T00:00:00.001Z"), (1_767_225_601_999, "2026-01-01T00:00:01.999Z")],
)
def test_a_moment_is_in_utc_with_milliseconds(unix_ms: int, shown: str) -> None:
    assert moment(unix_ms) == shown
