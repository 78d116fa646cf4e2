"""Values for JSON schemas, judged by a validator that knows nothing of how they are made."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.providers.sandbox import pattern
from omniroute.providers.sandbox.schema import generate

_TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name", "children"],
}
_LINKED = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        }
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "object"},
        {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        {"type": "object", "properties": {"title": {"type": "string"}, "default": {"type": "integer"}}},
        {"type": "object", "required": ["unlisted"]},
        {"type": "object", "minProperties": 3, "properties": {"a": {"type": "integer"}}, "required": []},
        {"properties": {"a": {"type": "null"}}},
        {"type": ["null", "string"]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        {"type": "array", "items": {"type": "string"}, "maxItems": 0},
        {"type": "integer", "minimum": 5, "maximum": 5},
        {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7},
        {"type": "integer", "maximum": -3},
        {"type": "integer", "exclusiveMaximum": 0},
        {"type": "integer", "minimum": 1, "multipleOf": 7},
        {"type": "integer", "maximum": -1, "multipleOf": 7},
        {"type": "number", "minimum": 0.25, "maximum": 0.5},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "exclusiveMinimum": 0.25, "maximum": 0.5},
        {"minimum": 10},
        {"type": "string", "minLength": 40},
        {"type": "string", "maxLength": 3},
        {"type": "string", "pattern": "^[A-Z]{3}-\\d{4}$"},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "uuid"},
        {"const": {"a": [1, None]}},
        {"enum": [None, 1]},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        {
            "oneOf": [
                {"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"]},
                {"type": "string"},
            ]
        },
        {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "boolean"}}}]},
        {"allOf": [{"minimum": 3}, {"minimum": 8}], "type": "integer"},
        {"type": "string", "allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]},
        {"$defs": {"x": {"type": "integer"}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}},
        {"definitions": {"a/b~c": {"type": "boolean"}}, "$ref": "#/definitions/a~1b~0c"},
        {"type": "integer", "minimum": 123456789012345678901234567890},
        _TREE,
        _LINKED,
    ],
)
def test_value_is_valid(schema: Any) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(generate(schema))


def test_optional_properties_stay_out_when_the_schema_says_which_are_required() -> None:
    properties = {"city": {"type": "string"}, "unit": {"type": "string"}}
    assert generate({"type": "object", "properties": properties, "required": ["city"]}) == {"city": "Lisbon"}
    assert generate({"type": "object", "properties": properties, "required": []}) == {}
    assert set(generate({"type": "object", "properties": properties})) == {"city", "unit"}


def test_schema_that_loops_through_references_ends() -> None:
    assert (
        generate({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}) == "sandbox"
    )
    assert generate({"$ref": "https://elsewhere.example/schema"}) == "sandbox"


_NAMES = st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1, max_size=6)
_LEAVES = st.one_of(
    st.builds(
        lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b}, st.integers(-99, 99), st.integers(0, 9)
    ),
    st.builds(lambda a, b: {"type": "number", "minimum": a, "maximum": a + b}, st.integers(-99, 99), st.integers(0, 9)),
    st.builds(
        lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b}, st.integers(0, 30), st.integers(0, 30)
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers() | st.text() | st.none(), min_size=1)),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"const": 1}, {}, True]),
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def an_object(properties: dict[str, Any], required_count: int) -> dict[str, Any]:
        required = sorted(properties)[:required_count]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    return st.one_of(
        st.builds(an_object, st.dictionaries(_NAMES, inner, max_size=4), st.integers(0, 4)),
        st.builds(lambda items, n: {"type": "array", "items": items, "minItems": n}, inner, st.integers(0, 3)),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda one: {"$defs": {"d": one}, "allOf": [one]}, inner),
    )


@given(st.recursive(_LEAVES, _nested, max_leaves=12))
def test_value_of_any_generated_schema_is_valid(schema: Any) -> None:
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(generate(schema))) == []


@pytest.mark.parametrize(
    "expression",
    [
        "abc",
        "^a+b*c?$",
        "[0-9]{3,5}",
        "^(foo|bar)$",
        "^(?:x(y|z)){2}$",
        "^[^a-z]$",
        "^[]a]$",
        "[\\w.-]+@[\\w-]+\\.\\w{2,}",
        "^\\d{4}-\\d\\d-\\d\\d$",
        "^\\S+\\s\\S+$",
        "^.{3}$",
        "^[A-Z][a-z]*(?P<tail>!+)$",
        "a{2,}?",
        "^\\$\\(\\)$",
        "x(?!y)z",
        "",
    ],
)
def test_example_matches_its_pattern(expression: str) -> None:
    text = pattern.example(expression)
    assert text is not None
    assert re.search(expression, text)


@pytest.mark.parametrize("expression", ["(", "[", "a\\", "(?i)a", "\\p{L}", "(a)\\1", "a{999}", "*", "a(?=b)"])
def test_pattern_that_is_not_understood_has_no_example(expression: str) -> None:
    assert pattern.example(expression) is None
