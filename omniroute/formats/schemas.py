"""JSON schemas as targets read them: cut down to a subset, given an object at the root, or judged for strict mode.

Schemas come from tool servers of all kinds, so nothing here may fail: what cannot be understood becomes less strict,
never an error. Numbers keep their spelling. The order of members is that of the source, so that the same schema always
gives the same text. Results are remembered, because clients send the same tools with every request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec

from omniroute.formats.schema_source import Node, Source, parse, render, strings, unscoped

_T = TypeVar("_T")

_NO_INPUT: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_MOST_REMEMBERED: Final = 512
_LARGEST_REMEMBERED_BYTES: Final = 16 << 10

# --- the four questions --------------------------------------------------------------------------------------------


def reduce(schema: msgspec.Raw, *, fill_empty: bool = False) -> msgspec.Raw:
    """Return a schema in the OpenAPI subset that Gemini's `parameters` takes; the root is an object.

    Args:
        schema: any JSON.
        fill_empty: give objects without properties one optional property, for targets that refuse empty ones.
    """
    return _remembered(_reduce_filled if fill_empty else _reduce, schema)


def as_object(schema: msgspec.Raw | None) -> msgspec.Raw:
    """Return a schema whose root is an object and no alternative or reference; unchanged if it is that already."""
    return _NO_INPUT if schema is None else _remembered(_as_object, schema)


def is_strictable(schema: msgspec.Raw) -> bool:
    """Say whether a schema meets the rules of strict mode: closed objects, everything required, no free keywords."""
    return _remembered(_is_strictable, schema)


def expand(schema: msgspec.Raw) -> msgspec.Raw:
    """Return a schema of Gemini's subset as JSON Schema: small type names, null as a type, sizes as numbers."""
    return _remembered(_expand, schema)


def _remembered(work: Callable[[bytes], _T], schema: msgspec.Raw) -> _T:
    data = bytes(schema)
    if len(data) > _LARGEST_REMEMBERED_BYTES:
        return work(data)
    return cast("_T", _worked(work, data))


@lru_cache(maxsize=_MOST_REMEMBERED)
def _worked(work: Callable[[bytes], object], data: bytes) -> object:
    return work(data)


# --- the root ------------------------------------------------------------------------------------------------------

_NOT_AT_ROOT: Final = ("$ref", "allOf", "anyOf", "oneOf", "not", "enum", "const", "nullable")


def _as_object(data: bytes) -> msgspec.Raw:
    schema = parse(data)
    if not isinstance(schema, dict):
        return _NO_INPUT
    if schema.get("type") == "object" and not any(key in schema for key in _NOT_AT_ROOT):
        return msgspec.Raw(data)
    plain = Source(schema).flattened(schema)
    root: Node = {"type": "object"}
    root.update((key, value) for key, value in plain.items() if key != "type" and key not in _NOT_AT_ROOT)
    if not isinstance(root.get("properties"), dict):
        root["properties"] = {}
    return render(unscoped(root))


# --- strict mode ---------------------------------------------------------------------------------------------------

_STRICT_KEYWORDS: Final = frozenset(
    {"$schema", "$defs", "definitions", "$ref", "$id", "$comment", "title", "description", "type", "enum", "const"}
    | {"properties", "required", "additionalProperties", "items", "anyOf", "pattern", "format", "multipleOf"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"}
)
_STRICT_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
_STRICT_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_STRICT_DEEPEST: Final = 10
_STRICT_MOST_PROPERTIES: Final = 5000


def _is_strictable(data: bytes) -> bool:
    schema = parse(data)
    if not isinstance(schema, dict) or schema.get("type") != "object" or "anyOf" in schema or "$ref" in schema:
        return False
    return _Strict().allows(schema, 0)


class _Strict:
    def __init__(self) -> None:
        self._properties_left = _STRICT_MOST_PROPERTIES

    def allows(self, node: object, depth: int) -> bool:
        if not isinstance(node, dict) or not node.keys() <= _STRICT_KEYWORDS:
            return False
        if not ("type" in node or "anyOf" in node or "$ref" in node or "enum" in node or "const" in node):
            return False
        said = node.get("type", "null")
        kinds = said if isinstance(said, list) else [said]
        if not all(isinstance(kind, str) and kind in _STRICT_TYPES for kind in kinds):
            return False
        if node.get("format", "date") not in _STRICT_FORMATS or not isinstance(node.get("$ref", "#"), str):
            return False
        if ("object" in kinds or "properties" in node) and not self._is_closed(node, depth):
            return False
        if "array" in kinds and "items" not in node:
            return False
        return self._children_allowed(node, depth)

    def _children_allowed(self, node: Node, depth: int) -> bool:
        if "items" in node and not self.allows(node["items"], depth + 1):
            return False
        branches = node.get("anyOf", [])
        if not isinstance(branches, list) or not all(self.allows(branch, depth) for branch in branches):
            return False
        for group in ("$defs", "definitions"):
            named = node.get(group, {})
            if not isinstance(named, dict) or not all(self.allows(inner, 1) for inner in named.values()):
                return False
        return True

    def _is_closed(self, node: Node, depth: int) -> bool:
        known, required = node.get("properties", {}), node.get("required", [])
        if node.get("additionalProperties") is not False or not isinstance(known, dict) or depth > _STRICT_DEEPEST:
            return False
        self._properties_left -= len(known)
        if self._properties_left < 0 or not isinstance(required, list):
            return False
        if {name for name in required if isinstance(name, str)} != known.keys() or len(required) != len(known):
            return False
        return all(self.allows(inner, depth + 1) for inner in known.values())


# --- from Gemini's subset ------------------------------------------------------------------------------------------

_SNAKE: Final[Mapping[str, str]] = {
    "any_of": "anyOf",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
    "property_ordering": "propertyOrdering",
    "additional_properties": "additionalProperties",
    "prefix_items": "prefixItems",
}


def _expand(data: bytes) -> msgspec.Raw:
    schema = parse(data)
    return render(_expanded(schema)) if isinstance(schema, dict) else msgspec.Raw(data)


def _expanded(schema: object) -> object:
    if not isinstance(schema, dict):
        return schema
    node: Node = {}
    for spelt, value in schema.items():
        key = _SNAKE.get(spelt, spelt)
        match key:
            case "type" if isinstance(value, str):
                if value != "TYPE_UNSPECIFIED":
                    node[key] = value.lower()
            case "properties" if isinstance(value, dict):
                node[key] = {name: _expanded(inner) for name, inner in value.items()}
            case "items" | "additionalProperties":
                node[key] = _expanded(value)
            case "anyOf" | "prefixItems" if isinstance(value, list):
                node[key] = [_expanded(inner) for inner in value]
            case "nullable" | "propertyOrdering":
                pass  # null becomes a type below; the order of properties is that of the text
            case "example":
                node["examples"] = [value]
            case "format" if value == "enum":
                pass
            case _ if key in _SIZES:
                size = _size(value)
                node[key] = value if size is None else size
            case _:
                node[key] = value
    if schema.get("nullable") is True:
        _allow_null(node)
    return node


def _allow_null(node: Node) -> None:
    if isinstance(node.get("type"), str) and node["type"] != "null":
        node["type"] = [node["type"], "null"]
    if isinstance(node.get("enum"), list) and None not in node["enum"]:
        node["enum"] = [*node["enum"], None]
    if isinstance(node.get("anyOf"), list) and {"type": "null"} not in node["anyOf"]:
        node["anyOf"] = [*node["anyOf"], {"type": "null"}]


# --- the subset ----------------------------------------------------------------------------------------------------

_DEEPEST: Final = 28  # vendors refuse more levels at around 32
_MOST_NODES: Final = 1500  # references can make a small schema explode
_MOST_SHOWN_VALUES: Final = 50
_INT64_MAX: Final = (1 << 63) - 1

_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_FORMATS: Final[Mapping[str, frozenset[str]]] = {
    "string": frozenset({"enum", "date-time"}),
    "number": frozenset({"float", "double"}),
    "integer": frozenset({"int32", "int64"}),
}
_SIZES: Final[Mapping[str, str]] = {
    "minItems": "array",
    "maxItems": "array",
    "minProperties": "object",
    "maxProperties": "object",
    "minLength": "string",
    "maxLength": "string",
}
"""Keyword to the type that it limits."""
_HINTS: Final[Mapping[str, str]] = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "patternProperties": "object",
    "propertyNames": "object",
    "items": "array",
    "prefixItems": "array",
    "contains": "array",
    "uniqueItems": "array",
    **_SIZES,
    "pattern": "string",
    "format": "string",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
}
"""Keyword to the type that a schema without one must mean."""


def _reduce(data: bytes) -> msgspec.Raw:
    return _Reducer(parse(data), fill_empty=False).root()


def _reduce_filled(data: bytes) -> msgspec.Raw:
    return _Reducer(parse(data), fill_empty=True).root()


class _Reducer:
    def __init__(self, schema: object, *, fill_empty: bool) -> None:
        self._schema = schema
        self._source = Source(schema)
        self._fills_empty = fill_empty
        self._nodes_left = _MOST_NODES

    def root(self) -> msgspec.Raw:
        """Return the whole schema; its root takes the arguments of a call, so it is an object."""
        plain = self._source.flattened(self._schema)
        plain = {**plain, "type": "object"}
        plain.pop("nullable", None)
        return render(self._typed("object", plain, 0))

    def _node(self, schema: object, depth: int) -> Node:
        self._nodes_left -= 1
        if depth > _DEEPEST or self._nodes_left < 0:
            return {"type": "object"}
        plain = self._source.resolved(schema)
        if plain is None:
            return {"type": "object"}
        if "anyOf" in plain:
            return self._alternatives(plain, depth)
        kind, is_nullable = _kind_of(plain)
        node = self._typed(kind, plain, depth)
        if is_nullable:
            node["nullable"] = True
        return node

    def _alternatives(self, plain: Node, depth: int) -> Node:
        """Reduce `anyOf`. Some targets take nothing beside it, so its own members move into the branches."""
        if isinstance(plain.get("properties"), dict):
            return self._node(self._source.flattened(plain), depth)
        own = {key: value for key, value in plain.items() if key not in ("anyOf", "description")}
        is_nullable = _kind_of(own)[1]
        branches: list[Node] = []
        for branch in plain["anyOf"]:
            resolved = self._source.resolved(branch)
            if resolved is not None and _is_null(resolved):
                is_nullable = True
                continue
            node = self._node(branch if resolved is None else self._source.merged(resolved, own), depth + 1)
            branches += node.get("anyOf", (node,))
        branches = _joined_enums(_distinct(branches))
        description = plain.get("description")
        if isinstance(description, str) and description:
            _describe(branches, description)
        if is_nullable:
            for node in branches:
                node["nullable"] = True
        branches = _distinct([_arranged(node) for node in branches])
        match branches:
            case []:
                return {"type": "string", "nullable": True}
            case [node]:
                return node
            case _:
                return {"anyOf": branches}

    def _typed(self, kind: str, plain: Node, depth: int) -> Node:
        node: Node = {"type": kind}
        for key, value in plain.items():
            match key:
                case "description" if isinstance(value, str) and value:
                    node[key] = value
                case "format" if value in _FORMATS.get(kind, ()):
                    node[key] = value
                case "pattern" if kind == "string" and isinstance(value, str):
                    node[key] = value
                case "minimum" | "maximum" if kind in ("number", "integer") and _is_finite(value):
                    node[key] = value
                case "properties" if kind == "object" and isinstance(value, dict):
                    known = {name: self._node(inner, depth + 1) for name, inner in value.items() if inner is not False}
                    if known:
                        node[key] = known
                case "items" if kind == "array":
                    node[key] = self._items(value, depth)
                case _ if _SIZES.get(key) == kind and (size := _size(value)) is not None:
                    node[key] = size
        if kind == "array" and "items" not in node:
            node["items"] = self._items(plain.get("prefixItems"), depth)
        if kind == "object":
            self._finish_object(node, plain)
        _finish_enum(node, plain)
        return _arranged(node)

    def _items(self, schema: object, depth: int) -> Node:
        if isinstance(schema, list):  # one schema for each position
            schema = {"anyOf": schema} if schema else {}
        return self._node(schema, depth + 1)

    def _finish_object(self, node: Node, plain: Node) -> None:
        known = node.get("properties", {})
        for key in ("required", "propertyOrdering"):
            names = plain.get(key)
            kept = [name for name in strings(names) if name in known]
            if kept:
                node[key] = kept
        if not known and self._fills_empty:
            node["properties"] = {"unused": {"type": "string", "description": "Leave this out."}}


def _kind_of(plain: Node) -> tuple[str, bool]:
    """Return the one type of a schema, guessed where it has none, and whether null is allowed beside it."""
    said = plain.get("type")
    kinds = [kind.lower() for kind in (said if isinstance(said, list) else [said]) if isinstance(kind, str)]
    values = _values(plain)
    is_nullable = "null" in kinds or plain.get("nullable") is True or (values is not None and None in values)
    for kind in kinds:
        if kind in _TYPES:
            return kind, is_nullable
    if values is not None and any(value is not None for value in values):
        return ("boolean" if all(isinstance(value, bool | None) for value in values) else "string"), is_nullable
    if "null" not in kinds:
        for key in plain:
            if key in _HINTS:
                return _HINTS[key], is_nullable
    return "string", is_nullable


def _values(plain: Node) -> list[Any] | None:
    values = plain.get("enum")
    if isinstance(values, list) and values:
        return values
    return [plain["const"]] if "const" in plain else None


def _is_null(plain: Node) -> bool:
    said = plain.get("type")
    kinds = said if isinstance(said, list) else [said]
    if kinds and all(isinstance(kind, str) and kind.lower() == "null" for kind in kinds):
        return True
    values = _values(plain)
    return values is not None and all(value is None for value in values)


def _finish_enum(node: Node, plain: Node) -> None:
    values = _values(plain)
    if values is None:
        return
    kind = node["type"]
    written = list(dict.fromkeys(text for value in values if value is not None and (text := _text_of(value))))
    if kind == "string":
        if written:
            node["enum"] = written
        return
    # The subset has enums of strings only, and a tool that wants a number refuses "1": so the values are told in words.
    if kind in ("number", "integer") and written:
        shown = ", ".join(written[:_MOST_SHOWN_VALUES]) + (", …" if len(written) > _MOST_SHOWN_VALUES else "")
        said = f"One of: {shown}."
        node["description"] = f"{node['description']} {said}" if "description" in node else said


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else bytes(render(value)).decode()


def _joined_enums(branches: list[Node]) -> list[Node]:
    """Make one choice of values out of branches that are nothing but values: a union of constants."""
    if len(branches) < 2 or any(node.keys() != {"type", "enum"} for node in branches):
        return branches
    return [{"type": "string", "enum": list(dict.fromkeys(value for node in branches for value in node["enum"]))}]


def _distinct(branches: list[Node]) -> list[Node]:
    found: list[Node] = []
    for node in branches:
        if node not in found:
            found.append(node)
    return found


def _arranged(node: Node) -> Node:
    """Return a node with what was added to it where it stands when it is reduced again."""
    first: Node = {key: node[key] for key in ("type", "description") if key in node}
    last: Node = {key: node[key] for key in ("nullable",) if key in node}
    return {**first, **{key: value for key, value in node.items() if key not in first and key not in last}, **last}


def _describe(branches: list[Node], description: str) -> None:
    """Hand the description of a union down, since some targets take none there."""
    if len(branches) == 1:
        branches[0]["description"] = description
        return
    silent = [node for node in branches if "description" not in node]
    for node in silent:
        node["description"] = description
    if branches and not silent:
        first = branches[0]
        first["description"] = f"{description} {first['description']}"


def _size(value: object) -> msgspec.Raw | None:
    # Gemini's clients may write 64-bit numbers as strings.
    text = bytes(value).decode() if isinstance(value, msgspec.Raw) else value
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _INT64_MAX:
        return msgspec.Raw(str(int(text)).encode())
    return None


def _is_finite(value: object) -> bool:
    return isinstance(value, msgspec.Raw) and math.isfinite(float(bytes(value)))
