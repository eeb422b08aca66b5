"""Reads the golden examples of `protos/examples`: what every consumer must be able to take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "protos" / "examples"


@dataclass(frozen=True, slots=True)
class Example:
    """One example: its type, its number in the file, its payload as protobuf JSON, its envelope."""

    type: str
    number: int
    payload: dict[str, object]
    envelope: bytes


def examples(*types: str) -> list[Example]:
    """The examples of these types; of every type when none is named."""
    names = types or tuple(sorted(path.stem for path in EXAMPLES.glob("*.json")))
    return [
        Example(name, number, entry["payload"], bytes.fromhex(entry["envelope_hex"]))
        for name in names
        for number, entry in enumerate(json.loads((EXAMPLES / f"{name}.json").read_text()))
    ]
