"""JSON schemas as they come: parsed without touching their numbers, references followed, `allOf` merged.

Theory. A schema is worked on as the dicts that its text holds. A node is *resolved* when it has neither `$ref` nor
`allOf` nor `oneOf`: what they say has been merged into it. Its children are left for later, each together with the
references that led to it, since a reference that occurs again among them is a cycle.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec

from omniroute.formats.surrogates import mend

Node = dict[str, Any]

_MOST_NESTED: Final = 32
_MOST_PARTS: Final = 3000


# --- JSON whose numbers keep their spelling ------------------------------------------------------------------------


def parse(data: bytes) -> object:
    """Return JSON with each number as its text, or None when it is none."""
    try:
        return json.loads(mend(data), parse_int=_number, parse_float=_number, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def render(value: object) -> msgspec.Raw:
    """Return what :func:`parse` gave, changed or not, as JSON."""
    return msgspec.Raw(msgspec.json.encode(value))


def _number(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _no_constant(name: str) -> None:
    """NaN and the infinities are not JSON."""


# --- references and merging ----------------------------------------------------------------------------------------


class Scoped(NamedTuple):
    """A child schema and the references that led to it."""

    schema: object
    active: frozenset[str]


_NOWHERE: Final[frozenset[str]] = frozenset()


class Source:
    """One schema document, in which references are looked up."""

    def __init__(self, document: object) -> None:
        self._document = document
        self._parts_left = _MOST_PARTS

    def resolved(self, schema: object) -> Node | None:
        """Return a node with its references followed and its parts merged; None where that never ends.

        Alternatives of either kind stand in `anyOf`, which is a list that is not empty.
        """
        schema, active = (schema.schema, schema.active) if isinstance(schema, Scoped) else (schema, _NOWHERE)
        return self._resolved(schema, active, 0)

    def _resolved(self, schema: object, active: frozenset[str], nested: int) -> Node | None:
        if isinstance(schema, Scoped):
            schema, active = schema
        self._parts_left -= 1
        if nested > _MOST_NESTED or self._parts_left < 0:
            return None
        if not isinstance(schema, dict):
            return {}
        node = _scoped(schema, active)
        reference = node.pop("$ref", None)
        parts = node.pop("allOf", None)
        if isinstance(reference, str):
            if reference in active:
                return None
            target = self._target(reference)
            if target is None:
                return {**node, "type": "object"}
            base = self._resolved(target, active | {reference}, nested + 1)
            if base is None:
                return None
            node = self.merged(node, base)
        for part in parts if isinstance(parts, list) else ():
            base = self._resolved(part, active, nested + 1)
            if base is not None:
                node = self.merged(node, base)
        return node

    def merged(self, node: Node, other: Node) -> Node:
        """Return one resolved node that says what two say; where they differ in words, the first has them."""
        both = dict(node)
        for key, value in other.items():
            mine = both.get(key)
            if key not in both:
                both[key] = value
            elif key == "properties" and isinstance(mine, dict) and isinstance(value, dict):
                both[key] = _united(mine, value)
            elif key == "required":
                both[key] = list(dict.fromkeys(strings(mine) + strings(value)))
            elif key == "enum" and isinstance(mine, list) and isinstance(value, list):
                others = {bytes(render(one)) for one in value}
                both[key] = [one for one in mine if bytes(render(one)) in others] or mine
            elif key == "type":
                both[key] = _common_type(mine, value)
            elif key == "nullable":
                both[key] = mine is True and value is True
        return both

    def flattened(self, schema: object) -> Node:
        """Return an object node that allows what any alternative of a schema allows: all properties, few required."""
        scoped = schema if isinstance(schema, Scoped) else Scoped(schema, _NOWHERE)
        return self._flattened(scoped, 0)

    def _flattened(self, schema: Scoped, nested: int) -> Node:
        plain = self._resolved(schema.schema, schema.active, nested) or {}
        branches = plain.pop("anyOf", ())
        if nested > _MOST_NESTED:
            return plain
        found: dict[str, list[Scoped]] = {}
        common: set[str] | None = None
        for branch in branches:
            flat = self._flattened(branch, nested + 1)
            if "object" not in _types_of(flat, "object"):
                continue
            properties = flat.get("properties")
            for name, inner in properties.items() if isinstance(properties, dict) else ():
                choices = found.setdefault(name, [])
                if inner not in choices:
                    choices.append(inner)
            names = strings(flat.get("required"))
            common = set(names) if common is None else common.intersection(names)
        own = plain.get("properties")
        if found:
            known = own if isinstance(own, dict) else {}
            added = {name: _any_of(choices) for name, choices in found.items() if name not in known}
            plain["properties"] = {**known, **added}
        if common:
            # In the order of the properties, since a set has none.
            added_names = [name for name in plain.get("properties", ()) if name in common]
            plain["required"] = list(dict.fromkeys(strings(plain.get("required")) + added_names))
        return plain

    def _target(self, reference: str) -> object | None:
        """Return what a reference inside the document points at."""
        if reference == "#":
            return self._document
        if not reference.startswith("#/"):
            return None
        place: Any = self._document
        for step in reference[2:].split("/"):
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(place, dict) and name in place:
                place = place[name]
            elif isinstance(place, list) and name in (steps := [str(index) for index in range(len(place))]):
                place = place[steps.index(name)]
            else:
                return None
        return place if isinstance(place, dict | bool) else None


def _scoped(schema: Node, active: frozenset[str]) -> Node:
    """Return a copy of a node whose children remember the references that led to them."""
    node = dict(schema)
    branches = node.pop("oneOf", None)
    if not isinstance(node.get("anyOf"), list):
        node.pop("anyOf", None)
        if isinstance(branches, list):
            node["anyOf"] = branches
    for key in ("anyOf", "prefixItems"):
        children = node.get(key)
        if isinstance(children, list):
            node[key] = [_child(one, active) for one in children if one is not False]
            if not node[key]:
                del node[key]
    items = node.get("items")
    if isinstance(items, list):
        node["items"] = [_child(one, active) for one in items]
    elif "items" in node:
        node["items"] = _child(items, active)
    properties = node.get("properties")
    if isinstance(properties, dict):
        node["properties"] = {name: _child(one, active) for name, one in properties.items() if one is not False}
    return node


def _child(schema: object, active: frozenset[str]) -> Scoped:
    return schema if isinstance(schema, Scoped) else Scoped(schema, active)


def _united(mine: Node, other: Node) -> Node:
    both = dict(mine)
    for name, schema in other.items():
        both[name] = Scoped({"allOf": [both[name], schema]}, _NOWHERE) if both.get(name, schema) != schema else schema
    return both


def _any_of(choices: list[Scoped]) -> Scoped:
    return choices[0] if len(choices) == 1 else Scoped({"anyOf": choices}, _NOWHERE)


def _types_of(node: Node, default: str) -> list[object]:
    said = node.get("type", default)
    kinds = said if isinstance(said, list) else [said]
    return [kind.lower() if isinstance(kind, str) else kind for kind in kinds]


def _common_type(mine: object, other: object) -> object:
    kinds = mine if isinstance(mine, list) else [mine]
    others = other if isinstance(other, list) else [other]
    common = [kind for kind in kinds if kind in others]
    if not common:
        return mine
    return common if len(common) > 1 else common[0]


def strings(values: object) -> list[str]:
    """Return the strings of a list, each once; nothing for what is no list."""
    return list(dict.fromkeys(value for value in values if isinstance(value, str))) if isinstance(values, list) else []


def unscoped(value: object) -> object:
    """Return a node without the notes of :class:`Scoped`, ready to be written."""
    if isinstance(value, Scoped):
        return unscoped(value.schema)
    if isinstance(value, dict):
        return {key: unscoped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [unscoped(one) for one in value]
    return value
