"""Arguments that the user spells out: all that the sandbox understands of a question that is answered by a call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_NAMED: Final = re.compile(r"\bnamed\s+(?P<quote>['\"])(?P<value>[^'\"\n]{1,200})(?P=quote)")
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
}


def spelled(text: str, tool: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for `tool` that stand in `text`.

    `add(3, "x")` gives the first properties of a tool called `add` their values in order; `named 'Oda'` goes to the
    property whose name ends in `name`. Values that are not of the type of the property do not count.
    """
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    found: dict[str, Any] = {}
    called = re.search(rf"(?<!\w){re.escape(tool)}\(([^()\n]{{0,500}})\)", text)
    if called is not None:
        found.update(zip(properties, _values(called[1]), strict=False))
    named = _NAMED.search(text)
    owner = next((name for name in properties if name.endswith("name")), None)
    if named is not None and owner is not None:
        found.setdefault(owner, named["value"])
    return {name: value for name, value in found.items() if _fits(value, properties[name])}


def _values(written: str) -> list[Any]:
    try:
        values: list[Any] = json.loads(f"[{written}]")
    except ValueError:
        return []
    return values


def _fits(value: Any, schema: Any) -> bool:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if not isinstance(kind, str) or kind not in _TYPES:
        return False
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
