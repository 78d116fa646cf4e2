"""Five hundred schemas of tools, put together from the shapes that tool servers and coding agents really send.

Each generator has its own way of writing the same thing: pydantic writes `anyOf` with null and `title` everywhere,
zod-to-json-schema writes `$schema`, `additionalProperties` and references into itself, C# writes type lists, Go writes
bare types, OpenAPI importers write `nullable`, `example` and `discriminator`. The corpus crosses properties in all
these styles with the ways in which whole schemas are built.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any, Final

Schema = dict[str, Any]

_PROPERTIES: Final[list[tuple[str, Any]]] = [
    ("path", {"type": "string", "description": "Absolute path of the file"}),
    ("file_path", {"type": "string", "minLength": 1, "maxLength": 4096, "pattern": "^/.*$"}),
    ("title", {"type": "string", "title": "Title"}),
    ("default", {"type": "string", "default": "none"}),
    ("$id", {"type": "string"}),
    ("const", {"const": "fixed"}),
    ("type", {"type": "string", "enum": ["file", "dir", "file"]}),
    ("properties", {"type": "object", "properties": {"required": {"type": "boolean"}}}),
    ("required", {"type": "array", "items": {"type": "string"}}),
    ("items", {"type": "array"}),
    ("examples", {"type": "array", "items": {}, "examples": [[1]]}),
    ("additionalProperties", {"type": "boolean", "default": False}),
    ("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}),
    ("offset", {"type": "integer", "exclusiveMinimum": 0, "format": "int64"}),
    ("timeout", {"type": "number", "exclusiveMinimum": True, "minimum": 0, "multipleOf": 0.5}),
    ("ratio", {"type": "number", "format": "float", "minimum": -0.0, "maximum": 1e3}),
    ("huge", {"type": "integer", "maximum": 123456789012345678901234567890}),
    ("level", {"type": "integer", "enum": [1, 2, 3]}),
    ("flag", {"type": "boolean", "const": True}),
    ("mixed", {"enum": ["a", 1, True, None]}),
    ("empty_enum", {"type": "string", "enum": ["", "x"]}),
    ("nothing", {"type": "null"}),
    ("anything", {}),
    ("always", True),
    ("never", False),
    ("when", {"type": "string", "format": "date-time"}),
    ("url", {"type": "string", "format": "uri", "contentMediaType": "text/html"}),
    ("email", {"type": "string", "format": "email", "example": "a@b.c"}),
    ("note", {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Note"}),
    ("size", {"type": ["integer", "null"], "description": "May be absent"}),
    ("value", {"type": ["string", "number", "boolean"]}),
    ("state", {"type": "string", "nullable": True, "enum": ["open", "closed", None]}),
    ("target", {"oneOf": [{"type": "string"}, {"type": "integer"}], "description": "Name or number"}),
    ("mode", {"anyOf": [{"const": "r", "type": "string"}, {"const": "w", "type": "string"}, {"type": "null"}]}),
    ("filter", {"anyOf": [{"type": "object", "properties": {"q": {"type": "string"}}}, {"type": "string"}]}),
    ("tags", {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 5, "uniqueItems": True}),
    ("pair", {"type": "array", "items": [{"type": "number"}, {"type": "string"}], "additionalItems": False}),
    ("range", {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}], "items": False}),
    ("matrix", {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}),
    ("env", {"type": "object", "additionalProperties": {"type": "string"}}),
    (
        "headers",
        {"type": "object", "patternProperties": {"^x-": {"type": "string"}}, "propertyNames": {"minLength": 1}},
    ),
    ("empty", {"type": "object", "properties": {}, "required": []}),
    (
        "todos",
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "content": {"type": "string", "minLength": 1},
                    "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
                    "activeForm": {"type": "string", "minLength": 1},
                },
                "required": ["content", "status", "activeForm"],
                "additionalProperties": False,
            },
        },
    ),
    (
        "edits",
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"old_string": {"type": "string"}, "new_string": {"type": "string", "default": ""}},
                "required": ["old_string", "new_string", "missing"],
            },
        },
    ),
    (
        "both",
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"properties": {"b": {"type": "integer"}}, "required": ["b"]},
            ]
        },
    ),
    ("not_this", {"type": "string", "not": {"enum": ["x"]}, "$comment": "no"}),
    (
        "branch",
        {
            "type": "object",
            "properties": {"k": {"type": "string"}},
            "if": {"required": ["k"]},
            "then": {"minProperties": 2},
            "else": {},
            "dependentRequired": {"k": ["l"]},
        },
    ),
    (
        "one_of_required",
        {
            "type": "object",
            "properties": {"id": {"type": "string"}, "name": {"type": "string"}},
            "oneOf": [{"required": ["id"]}, {"required": ["name"]}],
        },
    ),
    (
        "shape",
        {
            "discriminator": {"propertyName": "kind"},
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}},
                    "required": ["kind", "r"],
                },
                {
                    "type": "object",
                    "properties": {"kind": {"const": "square"}, "a": {"type": "number"}},
                    "required": ["kind"],
                },
            ],
        },
    ),
    ("ref", {"$ref": "#/$defs/Point"}),
    ("ref_with_words", {"$ref": "#/$defs/Point", "description": "Where"}),
    ("node", {"$ref": "#/$defs/Node"}),
    ("old_ref", {"$ref": "#/definitions/Colour"}),
    ("lost_ref", {"$ref": "https://example.com/schema.json"}),
    ("maybe_ref", {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]}),
    ("pointer", {"$ref": "#/properties/path"}),
    ("broken", {"type": 5, "properties": [], "required": "x", "enum": {}, "items": 3}),
    ("upper", {"type": "STRING", "format": "byte"}),
    (
        "ordered",
        {
            "type": "object",
            "properties": {"b": {"type": "string"}, "a": {"type": "string"}},
            "propertyOrdering": ["b", "a", "c"],
            "minProperties": "1",
        },
    ),
    ("unicode \u202e名", {"type": "string", "description": "\u0000 \ud83d\ude00"}),
]

_DEFS: Final[Schema] = {
    "Point": {
        "type": "object",
        "title": "Point",
        "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
        "required": ["x", "y"],
    },
    "Node": {
        "type": "object",
        "properties": {"value": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
    },
}


def _plain(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)[:2]}


def _zod(properties: Schema) -> Schema:
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": properties,
        "required": [*properties, "gone"],
        "additionalProperties": False,
    }


def _pydantic(properties: Schema) -> Schema:
    return {"$defs": _DEFS, "properties": properties, "title": "Arguments", "type": "object"}


def _self_reference(properties: Schema) -> Schema:
    return {"$ref": "#/definitions/Tool", "definitions": {"Tool": _plain(properties), "Colour": {"enum": ["red", 5]}}}


def _union(properties: Schema) -> Schema:
    return {"anyOf": [_plain(properties), {"type": "object", "properties": {"path": {"type": "integer"}}}]}


def _parts(properties: Schema) -> Schema:
    return {"type": "object", "allOf": [{"properties": properties}, {"required": list(properties)[-1:]}]}


def _bare(properties: Schema) -> Schema:
    return {"properties": properties}


def _nested(properties: Schema) -> Schema:
    return _zod({"input": _plain(properties), "list": {"type": "array", "items": _plain(properties)}})


_WAYS: Final[list[Callable[[Schema], Schema]]] = [
    _plain,
    _zod,
    _pydantic,
    _self_reference,
    _union,
    _parts,
    _bare,
    _nested,
]


def _all() -> Iterator[Schema]:
    yield from ({}, {"type": "object"}, {"type": "object", "properties": {}}, {"type": "string"}, {"$ref": "#"})
    for number in count():
        size = 1 + number % 6
        chosen = [_PROPERTIES[(number * 7 + step * (1 + number // 60)) % len(_PROPERTIES)] for step in range(size)]
        schema = _WAYS[number % len(_WAYS)](dict(chosen))
        yield {**schema, "$defs": _DEFS} if number % 3 == 0 else schema


CORPUS: Final = tuple(islice(dict.fromkeys(json.dumps(schema).encode() for schema in islice(_all(), 1000)), 500))
