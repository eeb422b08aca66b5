"""The gateway broken on purpose, one requirement of the wire at a time: the test of each must fail.

A mutant changes the text of one module while it is imported; nothing is written to disk. Each runs
in a process of its own, forked from one that has loaded the third-party packages alone.
`python -m tests.checklist.mutants [words]` ends with 1 where one survives.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import io
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from tests.checklist.breaks import Break
from tests.checklist.items import ITEMS

ROOT = Path(__file__).resolve().parents[2]
# Loaded once for all; none of ours, or a mutant would find the whole module already there.
_PRELOADED = ("openai", "meshapi", "aiohttp.web", "fastapi", "hypothesis")
_PROCESSES_MAX = 4


class BrokenLoader(SourceFileLoader):
    """Loads a module with one piece of its text replaced."""

    def __init__(self, name: str, path: str, broken: Break) -> None:
        super().__init__(name, path)
        self._broken = broken

    def get_code(self, fullname: str) -> CodeType:
        """Compiled anew: neither is a cached byte code read, nor this one kept."""
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(self._broken.applied(source), self.path, "exec", dont_inherit=True)


class BrokenFinder:
    """Finds the module that is to be broken, and no other."""

    def __init__(self, broken: Break) -> None:
        self._broken = broken
        self._name = broken.file.removesuffix(".py").replace("/", ".")

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if name != self._name:
            return None
        path = str(ROOT / self._broken.file)
        return importlib.util.spec_from_loader(name, BrokenLoader(name, path, self._broken))


@dataclass(slots=True, eq=False)
class Watch:
    """What became of the tests: one that fails in its own body has noticed."""

    failed: list[str] = field(default_factory=list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            told = str(crash.message if crash is not None else report.longrepr)
            self.failed.append(" ".join(told.split()))


@dataclass(frozen=True, slots=True)
class Verdict:
    """`told` is what the test failed with, or the end of what was printed where none did."""

    broken: Break
    caught: bool
    told: str


def hunt(broken: Break) -> Verdict:
    """Runs the break's test on the broken gateway. For a process of its own."""
    ours = [name for name in sys.modules if name.startswith("services")]
    assert not ours, f"loaded too early: {ours}"
    # A finder need not derive from importlib's own class.
    sys.meta_path.insert(0, BrokenFinder(broken))
    watch, printed = Watch(), io.StringIO()
    arguments = ["-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"]
    arguments += [
        "--disable-plugin-autoload",
        "-p",
        "pytest_asyncio.plugin",
        "-p",
        "pytest_timeout",
    ]
    # Of packages that are loaded already and have a plugin of pytest's too.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning", *broken.tests]
    with redirect_stdout(printed), redirect_stderr(printed):
        pytest.main(arguments, plugins=[watch])
    if watch.failed:
        return Verdict(broken, caught=True, told=watch.failed[0])
    return Verdict(broken, caught=False, told=printed.getvalue()[-2_000:])


def chosen(words: Sequence[str]) -> list[Break]:
    """The breaks whose item or file contains one of the words; all without any."""
    found = [broken for item in ITEMS for broken in item.breaks]
    if not words:
        return found
    return [one for one in found if any(word in f"{one.what} {one.file}" for word in words)]


def misfits(broken: Break) -> list[str]:
    """Why the break cannot be tried: its text is not in the code once, or there is no such test."""
    faults = []
    try:
        source = broken.applied((ROOT / broken.file).read_text(encoding="utf-8"))
        compile(source, broken.file, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError) as error:
        faults.append(f"{error}; change the break of that name in tests/checklist with it")
    for test in broken.tests:
        path, _, name = test.partition("::")
        if name not in functions_of(path):
            faults.append(f"there is no test {test}: {broken.what}")
    return faults


@cache
def functions_of(path: str) -> frozenset[str]:
    """The names of a module's functions; of none, where there is no module."""
    if not (ROOT / path).is_file():
        return frozenset()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunts those that are asked for, or all."""
    parser = argparse.ArgumentParser(prog="tests.checklist.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of what is broken, or of the file")
    parser.add_argument("--check", action="store_true", help="only whether all fit the code")
    given = parser.parse_args(arguments)
    breaks = chosen(given.words)
    os.chdir(ROOT)
    if given.check:
        faults = [fault for one in breaks for fault in misfits(one)]
        for fault in faults:
            print(fault)
        return 1 if faults else 0
    for name in _PRELOADED:
        importlib.import_module(name)
    started_s, caught = time.monotonic(), 0
    processes = min(_PROCESSES_MAX, os.cpu_count() or 1)
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        for verdict in pool.imap(hunt, breaks, chunksize=1):
            caught += verdict.caught
            word = "caught   " if verdict.caught else "SURVIVED "
            print(f"{word} {verdict.broken.what}", flush=True)
            told = verdict.told[:160] if verdict.caught else verdict.told
            print(f"          {told}", file=sys.stderr, flush=True)
    elapsed_s = time.monotonic() - started_s
    print(f"checklist-mutants: {caught}/{len(breaks)} mutants caught ({elapsed_s:.0f} s)")
    return 0 if breaks and caught == len(breaks) else 1


if __name__ == "__main__":
    sys.exit(main())
