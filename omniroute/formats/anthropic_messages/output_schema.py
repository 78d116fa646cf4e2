"""JSON schemas as the vendor's constrained decoding takes them, for answers and for strict tools.

It takes closed objects, alternatives, references, enumerations and a few formats; anything else is refused with a 400.
What is not taken stands in the description instead, where the model can still see it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from omniroute.formats.schema_source import Node, parse, render

_KEPT: Final = frozenset({"type", "enum", "const", "$ref", "description", "title", "default", "required"})
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_OF_SCHEMAS: Final = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_OF_NAMED_SCHEMAS: Final = frozenset({"properties", "$defs", "definitions"})
_LEFT_OUT: Final = frozenset({"$schema", "$id", "$comment", "additionalProperties"})
_DEEPEST: Final = 64
_MOST_REMEMBERED: Final = 128


def constrainable(schema: msgspec.Raw) -> msgspec.Raw:
    """Return the schema cut down to what is taken; one that is no object at all comes back as it is."""
    return _constrainable(bytes(schema))


@lru_cache(maxsize=_MOST_REMEMBERED)
def _constrainable(data: bytes) -> msgspec.Raw:
    parsed = parse(data)
    return render(_node(parsed, 0)) if isinstance(parsed, dict) else msgspec.Raw(data)


def _node(schema: object, depth: int) -> object:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema
    node: Node = {}
    unsaid: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _OF_SCHEMAS and isinstance(value, list):
            node[_OF_SCHEMAS[key]] = [_node(one, depth + 1) for one in value]
        elif key in _OF_NAMED_SCHEMAS and isinstance(value, dict):
            node[key] = {name: _node(one, depth + 1) for name, one in value.items()}
        elif key == "items" and isinstance(value, dict):
            node[key] = _node(value, depth + 1)
        elif key in _KEPT or _is_taken(key, value):
            node[key] = value
        elif key not in _LEFT_OUT:
            unsaid[key] = value
    if _is_of_object(schema):
        # Nothing else is taken; an object of free keys cannot be constrained.
        node["additionalProperties"] = False
    if unsaid:
        text = ", ".join(f"{key}: {bytes(render(value)).decode()}" for key, value in unsaid.items())
        described = node.get("description")
        node["description"] = f"{described}\n\n({text})" if isinstance(described, str) else f"({text})"
    return node


def _is_taken(key: str, value: object) -> bool:
    if key == "format":
        return isinstance(value, str) and value in _FORMATS
    return key == "minItems" and isinstance(value, msgspec.Raw) and bytes(value) in (b"0", b"1")


def _is_of_object(schema: Node) -> bool:
    said = schema.get("type")
    return (
        said == "object" or (isinstance(said, list) and "object" in said) or (said is None and "properties" in schema)
    )
