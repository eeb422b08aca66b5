"""What must not be in a commit: registry hosts, paths of one machine, secrets that look real.

Run by `make check` over every file that git knows or would add.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Spelled in pieces, so that this file does not name them itself.
REGISTRY_HOSTS = (
    "pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js.org",
    "repo.maven" + ".apache.org", "repo1.maven" + ".org", "deb.debian" + ".org",
)  # fmt: skip
FORBIDDEN: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a registry's host name", re.compile("|".join(map(re.escape, REGISTRY_HOSTS)))),
    ("a path of one machine", re.compile(r"(?<![\w.$}~])/(?:home|root|work|Users)/[\w.-]+/")),
    ("a live Stripe key", re.compile(r"\b[sr]k_live_[0-9A-Za-z]{16,}")),
    ("a private key", re.compile(r"-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY-----")),
)  # fmt: skip


def tracked_text_files() -> Iterator[tuple[Path, str]]:
    """Path and text of every tracked file that is text."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git of the PATH
        check=True, capture_output=True, text=True,
    ).stdout.split("\n")  # fmt: skip
    for path in map(Path, filter(None, listed)):
        if not path.is_file():
            continue
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def main() -> int:
    found = [
        f"{path}:{number}: {what}"
        for path, text in tracked_text_files()
        for number, line in enumerate(text.split("\n"), start=1)
        for what, pattern in FORBIDDEN
        if pattern.search(line)
    ]
    print("\n".join(found) if found else "repository: nothing that must not be in a commit")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
