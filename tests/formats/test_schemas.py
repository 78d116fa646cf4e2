"""Schemas for targets that read less than JSON Schema."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.schemas import as_object, expand, is_strictable, reduce
from tests.formats.tool_schemas import CORPUS

Raw = msgspec.Raw

_KEYWORDS = {"type", "format", "description", "nullable", "enum", "properties", "required", "items", "anyOf", "pattern"}
_KEYWORDS |= {"minimum", "maximum", "propertyOrdering"}
_SIZES = {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
_FORMATS = {"string": {"enum", "date-time"}, "number": {"float", "double"}, "integer": {"int32", "int64"}}
_OF = {"enum": {"string"}, "pattern": {"string"}, "properties": {"object"}, "required": {"object"}, "items": {"array"}}


def _reduced(schema: Any) -> Any:
    data = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    return json.loads(bytes(reduce(Raw(data))))


def _property(schema: Any, **others: Any) -> Any:
    """Return what becomes of a schema that a property of a tool has."""
    return _reduced({"type": "object", "properties": {"p": schema}, **others})["properties"]["p"]


def _check(node: Any, depth: int = 0) -> None:
    """Hold a schema against the subset, more strictly than any vendor."""
    assert isinstance(node, dict)
    assert depth <= 30
    if "anyOf" in node:
        assert node.keys() == {"anyOf"}
        assert len(node["anyOf"]) >= 2
        for branch in node["anyOf"]:
            assert "anyOf" not in branch
            _check(branch, depth + 1)
        return
    kind = node["type"]
    assert kind in {"string", "number", "integer", "boolean", "array", "object"}
    assert node.keys() <= _KEYWORDS | _SIZES
    assert all(kind in _OF.get(key, {kind}) for key in node)
    assert "items" in node or kind != "array"
    assert node.get("nullable", True) is True
    assert isinstance(node.get("description", ""), str)
    assert node.get("format") in _FORMATS.get(kind, set()) | {None}
    options = node.get("enum", ["x"])
    assert options
    assert all(isinstance(option, str) and option for option in options)
    assert len(set(options)) == len(options)
    known = node.get("properties", {})
    assert known or "properties" not in node
    for key in ("required", "propertyOrdering"):
        if key in node:
            assert node[key]
            assert set(node[key]) <= node["properties"].keys()
    for key in _SIZES & node.keys():
        assert isinstance(node[key], int)
        assert 0 <= node[key] < 1 << 63
    for inner in known.values():
        _check(inner, depth + 1)
    if "items" in node:
        _check(node["items"], depth + 1)


# --- T45: the corpus --------------------------------------------------------------------------------------------------


def test_t45_the_corpus_is_reduced_to_the_subset() -> None:
    assert len(set(CORPUS)) == 500
    for data in CORPUS:
        reduced = reduce(Raw(data))
        _check(json.loads(bytes(reduced)))
        assert json.loads(bytes(reduced))["type"] == "object"
        assert bytes(reduce(reduced)) == bytes(reduced)


def test_t45_the_corpus_keeps_its_properties() -> None:
    for data in CORPUS:
        source = json.loads(data)
        if source.get("type") == "object" and "allOf" not in source:
            names = {name for name, schema in source.get("properties", {}).items() if schema is not False}
            assert _reduced(data).get("properties", {}).keys() == names


def test_t49_the_corpus_gets_an_object_at_the_root() -> None:
    for data in CORPUS:
        made = json.loads(bytes(as_object(Raw(data))))
        assert made["type"] == "object"
        assert not made.keys() & {"$ref", "anyOf", "oneOf", "allOf"}
        assert bytes(as_object(as_object(Raw(data)))) == bytes(as_object(Raw(data)))


_NAMES = st.sampled_from(["a", "title", "default", "$id", "type", "properties", "b c", "名"])
_LEAVES: list[Any] = [
    *(True, False, None, 5, "text", [], {}, {"type": "string"}, {"type": ["null", "integer"]}, {"enum": [1, None]}),
    *({"const": {}}, {"$ref": "#"}, {"$ref": "#/$defs/a"}, {"$ref": "#/properties/a"}, {"$ref": 3}, {"enum": []}),
    *({"type": "array", "maxItems": -1}, {"description": "words"}, {"type": "null"}, {"minLength": 1.5}),
]
_LEAF = st.sampled_from(_LEAVES)
_KEYS = st.sampled_from(["anyOf", "oneOf", "allOf", "prefixItems"])


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    table = st.dictionaries(_NAMES, inner, max_size=3)
    return st.one_of(
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["object", "array", "string", "INTEGER", ["object", "null"], "weird", 1]),
                "properties": table,
                "$defs": table,
                "items": inner | st.lists(inner, max_size=2),
                "required": st.lists(_NAMES, max_size=3) | st.just("a"),
                "description": st.sampled_from(["outer", "", 3]),
                "nullable": st.booleans(),
                "additionalProperties": inner,
                "not": inner,
                "enum": st.just(["a", "b"]),
            },
        ),
        st.builds(lambda key, value: {key: value}, _KEYS, st.lists(inner, max_size=3)),
        st.builds(
            lambda key, value, words: {key: value, "description": words, "type": "object"},
            _KEYS,
            st.lists(inner, min_size=1, max_size=3),
            st.sampled_from(["words", "outer"]),
        ),
    )


_SCHEMAS = st.recursive(_LEAF, _grown, max_leaves=12)


@given(_SCHEMAS)
def test_t45_reduction_never_fails_and_is_idempotent(schema: Any) -> None:
    data = json.dumps(schema).encode()
    reduced = reduce(Raw(data))
    _check(json.loads(bytes(reduced)))
    assert bytes(reduce(reduced)) == bytes(reduced)
    assert json.loads(bytes(as_object(Raw(data))))["type"] == "object"
    assert is_strictable(Raw(data)) in (True, False)
    assert json.loads(bytes(expand(Raw(data)))) is not NotImplemented


@given(st.binary(max_size=40))
def test_t45_what_is_no_json_becomes_any_object(data: bytes) -> None:
    assert json.loads(bytes(reduce(Raw(data))))["type"] == "object"
    assert json.loads(bytes(as_object(Raw(data))))["type"] == "object"


# --- rule by rule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["string", "null"]},
        {"type": ["null", "string"]},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"oneOf": [{"type": "null"}, {"type": "string"}]},
        {"type": "string", "nullable": True},
        {"anyOf": [{"type": "string"}, {"enum": [None]}]},
        {"anyOf": [{"$ref": "#/$defs/S"}, {"const": None}]},
        {"allOf": [{"anyOf": [{"type": "null"}, {"type": "string"}]}]},
    ],
)
def test_t47_nullable_unions(schema: Any) -> None:
    assert _property(schema, **{"$defs": {"S": {"type": "string"}}}) == {"type": "string", "nullable": True}


def test_t47_a_union_of_more_is_nullable_in_each_branch() -> None:
    assert _property({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}], "description": "d"}) == {
        "anyOf": [
            {"type": "string", "description": "d", "nullable": True},
            {"type": "number", "description": "d", "nullable": True},
        ]
    }


@pytest.mark.parametrize(
    ("schema", "reduced"),
    [
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"enum": ["a", 1, None]}, {"type": "string", "enum": ["a", "1"], "nullable": True}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer", "description": "One of: 1, 2."}),
        ({"type": "number", "const": 1.50, "description": "d"}, {"type": "number", "description": "d One of: 1.5."}),
        ({"type": "boolean", "const": True}, {"type": "boolean"}),
        ({"enum": [True, False]}, {"type": "boolean"}),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, {"type": "string", "enum": ["a", "b"]}),
    ],
)
def test_enums_and_constants(schema: Any, reduced: Any) -> None:
    assert _property(schema) == reduced


@pytest.mark.parametrize(
    ("schema", "reduced"),
    [
        ({}, {"type": "string"}),
        (True, {"type": "string"}),
        ({"minimum": 1}, {"type": "number", "minimum": 1}),
        ({"properties": {}}, {"type": "object"}),
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}),
        ({"items": {"type": "number"}}, {"type": "array", "items": {"type": "number"}}),
        ({"type": "string", "format": "uri", "minLength": 2}, {"type": "string", "minLength": 2}),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": ["array", "string"], "items": {}}, {"type": "array", "items": {"type": "string"}}),
        ({"$ref": "https://example.com/x"}, {"type": "object"}),
    ],
)
def test_types_are_known_everywhere(schema: Any, reduced: Any) -> None:
    assert _property(schema) == reduced


def test_references_are_inlined_and_cycles_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "at": {"$ref": "#/$defs/Point"}}}
    point = {"type": "object", "title": "Point", "properties": {"x": {"type": "number"}}}
    assert _property({"$ref": "#/$defs/Node", "description": "first"}, **{"$defs": {"Node": node, "Point": point}}) == {
        "type": "object",
        "description": "first",
        "properties": {
            "next": {"type": "object"},
            "at": {"type": "object", "properties": {"x": {"type": "number"}}},
        },
    }


def test_a_base_used_twice_is_no_cycle() -> None:
    schema = {"allOf": [{"$ref": "#/$defs/Base"}], "properties": {"child": {"$ref": "#/$defs/Base"}}}
    base = {"type": "object", "properties": {"id": {"type": "string"}}}
    assert _property(schema, **{"$defs": {"Base": base}})["properties"]["child"] == base


def test_parts_are_merged() -> None:
    assert _property(
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"properties": {"a": {"minLength": 3}, "b": {"type": "integer"}}, "required": ["b"]},
            ]
        }
    ) == {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 3}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    }


def test_alternatives_at_the_root_become_one_object() -> None:
    branches = [
        {"type": "object", "properties": {"op": {"const": "add"}, "x": {"type": "number"}}, "required": ["op", "x"]},
        {"type": "object", "properties": {"op": {"const": "del"}}, "required": ["op"]},
    ]
    assert _reduced({"oneOf": branches}) == {
        "type": "object",
        "properties": {"op": {"type": "string", "enum": ["add", "del"]}, "x": {"type": "number"}},
        "required": ["op"],
    }
    made = json.loads(bytes(as_object(Raw(json.dumps({"oneOf": branches}).encode()))))
    assert made["required"] == ["op"]
    for valid in ({"op": "add", "x": 1}, {"op": "del"}):
        jsonschema.validate(valid, made)


def test_t45_property_names_are_no_keywords() -> None:
    names = ["title", "default", "$id", "$ref", "const", "examples", "not", "if", "allOf", "nullable"]
    schema = {"type": "object", "title": "T", "properties": {name: {"type": "string", "title": "t"} for name in names}}
    assert _reduced(schema)["properties"] == {name: {"type": "string"} for name in names}


def test_empty_objects_are_filled_where_that_is_asked_for() -> None:
    data = Raw(b'{"type":"object","properties":{"e":{"type":"object"}}}')
    assert json.loads(bytes(reduce(data, fill_empty=True)))["properties"]["e"]["properties"].keys() == {"unused"}
    assert "required" not in json.loads(bytes(reduce(data, fill_empty=True)))["properties"]["e"]


def test_t70_numbers_keep_their_spelling() -> None:
    data = b'{"properties":{"a":{"minimum":1.10,"maximum":123456789012345678901234567890,"type":"number"}}}'
    assert b'"minimum":1.10,"maximum":123456789012345678901234567890' in bytes(reduce(Raw(data)))
    union = b'{"oneOf":[{"type":"object","properties":{"a":{"default":1e400,"const":-0}}}]}'
    assert re.search(rb"1e400.*-0", bytes(as_object(Raw(union))))
    assert b"1e400" not in bytes(reduce(Raw(b'{"properties":{"a":{"type":"number","maximum":1e400}}}')))


def test_t71_half_characters_are_no_failure() -> None:
    data = rb'{"type":"object","properties":{"a\ud83d":{"type":"string","description":"\ud83d\ude00 \\ud83d \ude00"}}}'
    found = _reduced(data)["properties"]
    assert found == {"a\ufffd": {"type": "string", "description": "\U0001f600 \\ud83d \ufffd"}}


# --- the root ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        (None, b'{"type":"object","properties":{}}'),
        (b"null", b'{"type":"object","properties":{}}'),
        (b"{}", b'{"type":"object","properties":{}}'),
        (b'{"type":"string"}', b'{"type":"object","properties":{}}'),
        (b'{"properties":{"a":{}}}', b'{"type":"object","properties":{"a":{}}}'),
        (b'{ "type": "object" }', b'{ "type": "object" }'),
        (b'{"type":["object","null"],"properties":{"a":{"$ref":"#/x"}},"x":{}}', None),
    ],
)
def test_t49_the_root_is_an_object(schema: bytes | None, made: bytes | None) -> None:
    found = bytes(as_object(None if schema is None else Raw(schema)))
    assert json.loads(found)["type"] == "object"
    assert made is None or found == made


def test_t49_references_stay_valid_under_a_new_root() -> None:
    schema = {
        "$ref": "#/definitions/Tool",
        "definitions": {
            "Tool": {"type": "object", "properties": {"p": {"$ref": "#/definitions/P"}}, "additionalProperties": False},
            "P": {"type": "integer"},
        },
    }
    made = json.loads(bytes(as_object(Raw(json.dumps(schema).encode()))))
    jsonschema.validate({"p": 1}, made)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"p": "x"}, made)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"q": 1}, made)


# --- strict mode ------------------------------------------------------------------------------------------------------

_CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a": {"type": ["string", "null"]},
        "b": {"type": "array", "items": {"$ref": "#/$defs/T"}},
        "c": {"anyOf": [{"type": "number"}, {"const": "x"}]},
    },
    "required": ["a", "b", "c"],
    "additionalProperties": False,
    "$defs": {"T": {"type": "object", "properties": {}, "required": [], "additionalProperties": False}},
}


def test_t48_a_closed_schema_is_strictable() -> None:
    assert is_strictable(Raw(json.dumps(_CLOSED).encode()))


@pytest.mark.parametrize(
    "changed",
    [
        {"required": ["a", "b"]},
        {"additionalProperties": True},
        {"additionalProperties": {"type": "string"}},
        {"type": "array"},
        {"anyOf": [{"type": "object"}]},
        {"properties": {**_CLOSED["properties"], "a": {"type": "string", "default": "x"}}},
        {"properties": {**_CLOSED["properties"], "a": {"allOf": [{"type": "string"}]}}},
        {"properties": {**_CLOSED["properties"], "a": {"type": "string", "format": "uri"}}},
        {"properties": {**_CLOSED["properties"], "a": {"type": "string", "minLength": 1}}},
        {"properties": {**_CLOSED["properties"], "a": {}}},
        {"properties": {**_CLOSED["properties"], "a": {"type": "array"}}},
        {"properties": {**_CLOSED["properties"], "a": {"type": "object"}}},
        {"$defs": {"T": {"type": "object"}}},
        {"patternProperties": {}},
    ],
)
def test_t48_an_open_schema_is_not(changed: dict[str, Any]) -> None:
    assert not is_strictable(Raw(json.dumps({**_CLOSED, **changed}).encode()))


# --- from Gemini's subset ---------------------------------------------------------------------------------------------


def test_geminis_subset_becomes_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "a": {"type": "STRING", "nullable": True, "enum": ["x"], "format": "enum", "min_length": "5"},
            "b": {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": "1"},
            "c": {"any_of": [{"type": "STRING"}, {"type": "NUMBER"}], "nullable": True},
            "type": {"type": "TYPE_UNSPECIFIED", "example": 1},
        },
        "propertyOrdering": ["a"],
    }
    assert json.loads(bytes(expand(Raw(json.dumps(schema).encode())))) == {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", None], "minLength": 5},
            "b": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            "c": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
            "type": {"examples": [1]},
        },
    }


@given(_SCHEMAS)
def test_what_was_reduced_expands_to_a_valid_json_schema(schema: Any) -> None:
    expanded = json.loads(bytes(expand(reduce(Raw(json.dumps(schema).encode())))))
    jsonschema.Draft202012Validator.check_schema(expanded)
    assert expanded["type"] == "object"


# --- hostile ones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["properties", "allOf", "anyOf"])
def test_references_that_explode_are_cut(kind: str) -> None:
    definitions: dict[str, Any] = {"d60": {"type": "string"}}
    for number in range(60):
        twice = [{"$ref": f"#/$defs/d{number + 1}"}] * 2
        inner = {"x": twice[0], "y": twice[1]} if kind == "properties" else [*twice, {"type": "number"}]
        definitions[f"d{number}"] = {kind: inner}
    data = json.dumps({"properties": {"p": {"$ref": "#/$defs/d0"}}, "$defs": definitions}).encode()
    start = time.process_time()
    reduced = reduce(Raw(data))
    as_object(Raw(data))
    assert time.process_time() - start < 1
    _check(json.loads(bytes(reduced)))
    assert len(bytes(reduced)) < 200_000


def test_long_lists_take_linear_time() -> None:
    names = [f"n{number}" for number in range(20_000)]
    part = {"required": names, "enum": names}
    data = json.dumps({"allOf": [part, part], "anyOf": [part, part], "properties": {}}).encode()
    start = time.process_time()
    assert _reduced(data) == {"type": "object"}
    assert time.process_time() - start < 2
