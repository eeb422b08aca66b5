"""Form bodies and query strings as the gateway's API writes them: `a[b][0][c]=v`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

Params = dict[str, Any]  # Any: texts, lists and dicts of such
_PART = re.compile(r"\[([^\]]*)\]")


def params_from_text(text: str) -> Params:
    """The nested parameters; lists where the keys are numbers or empty."""
    found: Params = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head, *rest = [name.split("[", 1)[0], *_PART.findall(name)]
        _put(found, [head, *rest], value)
    lists: Params = _lists(found)
    return lists


def flag(value: object) -> bool:
    """A truth value of a form."""
    return str(value).lower() == "true"


def whole(value: object, default: int = 0) -> int:
    """A number of a form."""
    return int(str(value)) if value not in (None, "") else default


def _put(target: Params, path: list[str], value: str) -> None:
    for part in path[:-1]:
        target = target.setdefault(part or str(len(target)), {})
    target[path[-1] or str(len(target))] = value


def _lists(value: Any) -> Any:  # Any: as above
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(one) for key, one in value.items()}
    if inner and all(key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner
