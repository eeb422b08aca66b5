"""The size rules of the house: bounds on files, on functions and on positional parameters.

Run by `make check`. Prints each offence as `path:line: what`, and exits 1 when there is one.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
POSITIONAL_MAX = 3
# Generated, or data rather than code.
EXEMPT = ("services/common/pb/", "services/dashboard/web/src/api/generated")
SUFFIXES = (".py", ".ts", ".tsx", ".sh", ".sql")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tracked_files() -> list[Path]:
    """Every source file that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git of the PATH
        check=True, capture_output=True, text=True,
    ).stdout.split("\n")  # fmt: skip
    names = [name for name in listed if name.endswith(SUFFIXES) and not name.startswith(EXEMPT)]
    return [path for path in map(Path, names) if path.is_file()]


def offences_in_functions(path: Path, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, Function):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES_MAX:
            yield f"{path}:{node.lineno}: {node.name} has {length} lines (max {FUNCTION_LINES_MAX})"
        positional = [
            a for a in node.args.posonlyargs + node.args.args if a.arg not in ("self", "cls")
        ]
        if len(positional) > POSITIONAL_MAX and path.parts[0] != "tests":
            yield (
                f"{path}:{node.lineno}: {node.name} takes {len(positional)} positional parameters "
                f"(more than {POSITIONAL_MAX} are keyword-only)"
            )


def offences(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{path}:1: {lines} lines (at most {FILE_LINES_MAX})"
    if path.suffix == ".py":
        tree = ast.parse(text)
        if tree.body and ast.get_docstring(tree) is None:
            yield f"{path}:1: no module docstring that says what the file owns"
        yield from offences_in_functions(path, tree)


def main() -> int:
    found = [line for path in tracked_files() for line in offences(path)]
    print("\n".join(found) if found else "sizes: every file and function is within bounds")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
