"""Schemas for constrained decoding."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from anthropic import transform_schema

from omniroute.formats.anthropic_messages.output_schema import constrainable


def constrained(schema: Any) -> Any:
    return json.loads(bytes(constrainable(msgspec.Raw(json.dumps(schema).encode()))))


PERSON: dict[str, Any] = {
    "type": "object",
    "description": "A person.",
    "properties": {
        "title": {"type": "string", "maxLength": 5, "description": "The title."},
        "age": {"type": "integer", "minimum": 0},
        "mail": {"type": "string", "format": "email"},
        "zip": {"type": "string", "format": "zip"},
        "tags": {"type": "array", "items": {"type": "object", "properties": {}}, "minItems": 1},
        "pair": {"type": "array", "items": {"$ref": "#/$defs/one"}, "minItems": 2},
        "either": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["title"],
    "additionalProperties": {"type": "string"},
    "$defs": {"one": {"enum": ["a", 1]}},
}


def test_what_is_not_taken_stands_in_the_description() -> None:
    found = constrained(PERSON)
    properties = found["properties"]
    assert found["additionalProperties"] is False
    assert properties["title"] == {"type": "string", "description": "The title.\n\n(maxLength: 5)"}
    assert properties["age"] == {"type": "integer", "description": "(minimum: 0)"}
    assert properties["mail"] == {"type": "string", "format": "email"}
    assert properties["zip"]["description"] == '(format: "zip")'
    assert properties["tags"]["minItems"] == 1
    assert properties["tags"]["items"]["additionalProperties"] is False
    assert "minItems" not in properties["pair"]
    assert properties["either"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert found["$defs"] == {"one": {"enum": ["a", 1]}}


def test_it_is_as_the_vendors_own_client_does_it_but_for_the_wording() -> None:
    def bare(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: bare(value) for key, value in node.items() if key != "description"}
        return [bare(one) for one in node] if isinstance(node, list) else node

    assert bare(constrained(PERSON)) == bare(transform_schema(PERSON))


@pytest.mark.parametrize("schema", [PERSON, {}, {"type": "object"}, {"anyOf": [{"type": "string"}]}])
def test_t45_it_is_idempotent(schema: Any) -> None:
    assert constrained(constrained(schema)) == constrained(schema)


@pytest.mark.parametrize("schema", [True, [], "x", {"properties": 5}, {"items": []}, {"type": 7, "anyOf": {}}])
def test_t45_it_never_fails(schema: Any) -> None:
    assert constrained(schema) is not None


def test_t47_nullable_unions_stay() -> None:
    assert constrained({"type": ["string", "null"]}) == {"type": ["string", "null"]}
