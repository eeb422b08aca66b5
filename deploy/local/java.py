"""Finds the machine's Java and asks its version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploy.local.problems import StackProblem

JAVA_MINIMUM = 17


class NoJava(StackProblem):
    """There is no Java that can run Apache Kafka."""


def find_java(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The path of `java` (JAVA_HOME first, then PATH) and its version, such as "17.0.15".

    Raises:
        NoJava: none is found, it does not run, or it is older than Java 17.
    """
    path = _candidate(environment)
    advice = (
        f"install Java {JAVA_MINIMUM} or newer (Debian: apt-get install openjdk-17-jre-headless)"
    )
    if path is None:
        raise NoJava(f"Java is missing: {advice}, or set JAVA_HOME.")
    try:
        answer = subprocess.run([path, "-version"], capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoJava(f"{path} does not run ({error}): {advice}, or set JAVA_HOME.") from error
    text = answer.stderr.decode(errors="replace")
    match = re.search(r'version "([\d._]+)', text)
    version = match.group(1) if match else "0"
    if int(version.split(".", maxsplit=1)[0]) < JAVA_MINIMUM:
        raise NoJava(f"{path} is Java {version}: {advice}, or set JAVA_HOME.")
    return path, version


def _candidate(environment: Mapping[str, str]) -> str | None:
    home = environment.get("JAVA_HOME", "")
    if home and (Path(home) / "bin" / "java").exists():
        return str(Path(home) / "bin" / "java")
    return shutil.which("java", path=environment.get("PATH", ""))
