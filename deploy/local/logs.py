"""What children say: one bounded file each, and a prefixed, coloured line on the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

FILE_BYTES_MAX = 16 * 1024 * 1024
LINE_BYTES_MAX = 16 * 1024
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_RESET = "\x1b[0m"


class LogFile:
    """The log of one child; the newest file and the one before it are kept."""

    def __init__(self, path: Path, bytes_max: int = FILE_BYTES_MAX) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._file: IO[bytes] | None = None
        self._rotate()

    def write(self, line: bytes) -> None:
        """Add one line, with its line feed."""
        assert self._file is not None
        if self._file.tell() + len(line) > self._bytes_max:
            self._rotate()
        self._file.write(line)
        self._file.flush()

    def tail(self, lines: int) -> str:
        """The newest lines."""
        text = self.path.read_bytes()[-64 * 1024 :].decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotate(self) -> None:
        self.close()
        if self.path.exists() and self.path.stat().st_size > 0:
            self.path.replace(self.path.with_name(self.path.name + ".1"))
        self._file = self.path.open("wb")


class Console:
    """The terminal of `mesh up`: its own words, and the children's unless quiet."""

    def __init__(self, stream: IO[str] | None = None, *, quiet: bool = False) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._quiet = quiet
        self._coloured = self._stream.isatty()
        self._names: dict[str, int] = {}

    def child(self, name: str, line: bytes) -> None:
        """A line that a child wrote."""
        if not self._quiet:
            text = line.decode(errors="replace").rstrip("\n")
            self._write(f"{self._prefix(name)} {text}")

    def say(self, text: str) -> None:
        """A line of the stack itself."""
        self._write(f"{self._prefix('mesh')} {text}")

    def warn(self, text: str) -> None:
        """A line that must not be overlooked."""
        loud = f"\x1b[1;97;41m {text} {_RESET}" if self._coloured else f"WARNING: {text}"
        self._write(f"{self._prefix('mesh')} {loud}")

    def plain(self, text: str) -> None:
        """Text without a prefix: the summary."""
        self._write(text)

    def _prefix(self, name: str) -> str:
        label = f"{name:<10} |"
        if not self._coloured:
            return label
        index = self._names.setdefault(name, len(self._names))
        return f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{label}{_RESET}"

    def _write(self, text: str) -> None:
        # A closed terminal must not stop what runs behind it.
        try:
            print(text, file=self._stream, flush=True)
        except (OSError, ValueError):
            self._quiet = True
