"""A piece of a long text around the words that somebody looked for."""

from __future__ import annotations

from services.dashboard.snippets import BEFORE, CUT, LENGTH, Part, snippet, words_of


def test_words_are_marked_whole_whatever_their_case_and_the_rest_is_left() -> None:
    assert snippet("A Ledger, ledgers; LEDGER!", words_of("ledger")) == [
        Part("A "),
        Part("Ledger", marked=True),
        Part(", ledgers; "),
        Part("LEDGER", marked=True),
        Part("!"),
    ]


def test_markup_is_text_like_any_other() -> None:
    parts = snippet("<script>alert(1)</script>", words_of("alert"))
    assert parts == [Part("<script>"), Part("alert", marked=True), Part("(1)</script>")]


def test_of_a_long_text_the_neighbourhood_of_the_first_word_is_shown() -> None:
    text = "before " * 100 + "needle " + "after " * 100
    parts = snippet(text, words_of("needle"))
    assert (parts[0], parts[-1]) == (Part(CUT), Part(CUT))
    assert parts[2] == Part("needle", marked=True)
    assert len(parts[1].text) == BEFORE
    assert len("".join(part.text for part in parts)) == LENGTH + 2


def test_without_any_of_the_words_it_is_the_beginning() -> None:
    assert snippet("  one\n two ", words_of("three")) == [Part("one two")]
    assert snippet("", words_of("three")) == []
    assert snippet("x" * 300, words_of("y")) == [Part("x" * LENGTH), Part(CUT)]


def test_words_beyond_ascii_are_found_as_the_search_finds_them() -> None:
    parts = snippet("Die Straße, ÜBER alles", words_of("über straße"))
    assert [part.text for part in parts if part.marked] == ["Straße", "ÜBER"]
