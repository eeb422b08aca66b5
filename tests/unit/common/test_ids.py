"""Ids are new ones, whoever makes them."""

from __future__ import annotations

import subprocess
import sys
import threading

from services.common.ids import is_ulid, moment_of_id, new_id, ulid


def test_threads_that_make_ids_at_once_make_different_ones() -> None:
    found: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(ulid(7) for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [one for into in found for one in into]
    assert len(set(made)) == len(made)
    assert all(is_ulid(one) for one in made)


def test_a_forked_child_makes_ids_of_its_own() -> None:
    script = (
        "import os, sys\n"
        "from services.common.ids import ulid\n"
        "ulid()\n"
        "child = os.fork()\n"
        "child and os.waitpid(child, 0)\n"
        "print(*(ulid(7) for _ in range(50)), flush=True)\n"
    )
    both = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    made = both.decode().split()
    assert len(set(made)) == len(made) == 100


def test_an_id_bears_its_moment() -> None:
    assert moment_of_id(new_id("use", 1_700_000_000_123)) == 1_700_000_000_123
