"""The list of breaks holds: each still fits the code, and names tests that there are."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.checklist.breaks import Break
from tests.checklist.items import ITEMS
from tests.checklist.mutants import ROOT, chosen

BREAKS = [broken for item in ITEMS for broken in item.breaks]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def test_every_break_still_fits_the_code_and_leaves_python() -> None:
    for broken in BREAKS:
        source = (ROOT / broken.file).read_text(encoding="utf-8")
        assert broken.applied(source) != source, broken.what
        compile(broken.applied(source), broken.file, "exec", dont_inherit=True)


def test_every_break_names_tests_that_there_are() -> None:
    for broken in BREAKS:
        assert broken.tests, broken.what
        for test in broken.tests:
            path, _, name = test.partition("::")
            assert name in functions_of(path), f"{broken.what}: {test}"


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
