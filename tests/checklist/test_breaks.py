"""The list of breaks holds: each still fits the code, and names tests that there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.checklist.breaks import Break
from tests.checklist.items import ITEMS
from tests.checklist.mutants import ROOT, chosen, main, misfits

BREAKS = [broken for item in ITEMS for broken in item.breaks]


def test_every_break_fits_the_code_and_names_tests_that_there_are() -> None:
    for broken in BREAKS:
        assert misfits(broken) == []
        source = (ROOT / broken.file).read_text(encoding="utf-8")
        assert broken.applied(source) != source, broken.what
        assert broken.tests, broken.what


def test_a_break_that_does_not_fit_is_told() -> None:
    real = BREAKS[0]
    for wrong, told in (
        (replace(real, old="nowhere to be found"), "0 times"),
        (replace(real, new="redirect_slashes=(", old="redirect_slashes=False"), "never closed"),
        (replace(real, file="services/none.py"), "No such file"),
        (replace(real, tests=("tests/none.py::test_x",)), "no test"),
        (replace(real, tests=(f"{real.tests[0]}_x",)), "no test"),
    ):
        assert told in "".join(misfits(wrong))
    assert main(["--check"]) == 0


def test_every_item_can_be_broken_and_has_a_name_of_its_own() -> None:
    names = [item.name for item in ITEMS]
    assert len(set(names)) == len(names)
    assert all(item.breaks for item in ITEMS)


def test_a_text_that_is_not_there_once_is_no_break() -> None:
    broken = Break("twice", "x.py", "a", "b", ("t",))
    assert broken.applied("cad") == "cbd"
    for source in ("", "aa"):
        with pytest.raises(ValueError, match="twice"):
            broken.applied(source)


def test_breaks_are_chosen_by_words_of_theirs() -> None:
    assert chosen([]) == BREAKS
    assert {one.what for one in chosen(["[DONE]"])} >= {"no [DONE]"}
    assert chosen(["nothing is called this"]) == []
