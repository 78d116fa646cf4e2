"""Strict reading of management bodies."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from omniroute.blueprints.management import bodies
from omniroute.errors import InvalidJson, OmniRouteError, RequestTooLarge, UnsupportedMediaType, ValidationFailed

FIELDS = bodies.Fields(
    bodies.text("name", required=True, max_length=20),
    bodies.text("apiKey", secret=True, nullable=True),
    bodies.text("kind", choices=("a", "b")),
    bodies.integer("priority", minimum=1, maximum=100),
    bodies.integer("concurrentRequests", alias="maxConcurrent", minimum=1, nullable=True),
    bodies.number("share", minimum=0, maximum=1),
    bodies.flag("isActive"),
    bodies.moment("expiresAt", nullable=True),
    bodies.texts("models", max_items=3),
    bodies.integers("days", minimum=0, maximum=6),
    bodies.mapping("providerData", alias="providerSpecificData", max_bytes=200),
    bodies.nested("schedule", bodies.Fields(bodies.flag("enabled", required=True))),
    bodies.objects("limits", bodies.Fields(bodies.integer("limit", minimum=1, required=True))),
)


def request(data: bytes, content_type: str | None = "application/json", **headers: str) -> Request:
    return Request(
        EnvironBuilder(method="POST", data=data, content_type=content_type, headers=Headers(headers)).get_environ()
    )


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"   ", "empty"),
        (b"[]", "must be a JSON object"),
        (b"nul", "not valid JSON"),
        (b'{"a":1', "not valid JSON"),
        (b'{"a":1} x', "not valid JSON"),
        (b'{"a":1}{"b":2}', "not valid JSON"),
        (b'{"a":1,"a":1}', "twice"),
        (b'{"x":[{"a":1,"b":2,"\\u0061":3}]}', "twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "JSON"),
        (b'{"\\ud800":1}', "surrogate"),
        (b'{"a":' + b"9" * 5000 + b"}", "too long"),
        (b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "deeper"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper"),
        (b'{"a":"\x01"}', "not valid JSON"),
    ],
)
def test_refuses_what_parsers_read_differently(raw: bytes, says: str) -> None:
    with pytest.raises(InvalidJson, match=says):
        bodies.parse_object(raw)


def test_counts_members_over_the_whole_document() -> None:
    wide = {"a": [{str(n): n for n in range(1000)} for _ in range(101)]}
    with pytest.raises(InvalidJson, match="too many"):
        bodies.parse_object(json.dumps(wide).encode())


def test_brackets_inside_strings_are_not_levels() -> None:
    value = {"a": "[" * 200, 'b"[[': '\\"{{' * 100}
    assert bodies.parse_object(json.dumps(value).encode()) == value


@pytest.mark.parametrize("tail", [b"", b"\\"])
def test_an_unterminated_string_is_scanned_once(tail: bytes) -> None:
    with pytest.raises(InvalidJson):
        bodies.parse_object(b'{"' + b'\\"' * 2_000_000 + tail)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(st.characters(codec="utf-8")),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=4)
            ),
            max_leaves=20,
        ),
        max_size=5,
    )
)
def test_reads_what_json_writes(value: dict[str, Any]) -> None:
    assert bodies.parse_object(json.dumps(value).encode()) == value
    assert bodies.parse_object(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=60))
def test_raises_only_its_own_error(raw: bytes) -> None:
    try:
        found: object = bodies.parse_object(raw)
    except InvalidJson:
        found = {}
    assert isinstance(found, dict)


@pytest.mark.parametrize(
    ("data", "content_type", "headers", "error"),
    [
        (b"{}", "text/plain", {}, UnsupportedMediaType),
        (b"{}", None, {}, UnsupportedMediaType),
        (b"{}", "application/json; charset=latin-1", {}, UnsupportedMediaType),
        (b"{}", "application/json", {"Content-Encoding": "gzip"}, UnsupportedMediaType),
        (b'{"name":"' + b"x" * 200 + b'"}', "application/json", {}, RequestTooLarge),
    ],
)
def test_refuses_the_wrong_envelope(
    data: bytes, content_type: str | None, headers: dict[str, str], error: type[OmniRouteError]
) -> None:
    with pytest.raises(error):
        FIELDS.read(request(data, content_type, **headers), limit=100)


def test_reads_a_body_and_an_absent_one() -> None:
    assert FIELDS.read(request(b'{"name":" x "}', "application/json; charset=UTF-8")) == {"name": "x"}
    assert bodies.read_object(request(b"", None), optional=True) == {}


def test_returns_given_fields_under_main_names() -> None:
    given_body = {
        "name": "n",
        "apiKey": None,
        "maxConcurrent": 2,
        "providerSpecificData": {"a": None},
        "expiresAt": "1970-01-01T00:01:00Z",
        "models": ["b", "a"],
        "days": [0, 6],
        "schedule": {"enabled": False},
        "limits": [{"limit": 1}],
    }
    assert FIELDS.check(given_body) == {
        "name": "n",
        "apiKey": None,
        "concurrentRequests": 2,
        "providerData": {"a": None},
        "expiresAt": 60.0,
        "models": ("b", "a"),
        "days": (0, 6),
        "schedule": {"enabled": False},
        "limits": ({"limit": 1},),
    }
    assert FIELDS.check({"name": "n", "maxConcurrent": 2, "concurrentRequests": 2})["concurrentRequests"] == 2


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({}, "name", "required"),
        ({"name": None}, "name", "null"),
        ({"name": 1}, "name", "string"),
        ({"name": "  "}, "name", "1 to 20"),
        ({"name": "x" * 21}, "name", "1 to 20"),
        ({"name": "a\nb"}, "name", "one line"),
        ({"name": "a\x00b"}, "name", "control"),
        ({"name": "a\ud800"}, "name", "control"),
        ({"name": "n", "Name": "n"}, "Name", "did you mean name"),
        ({"name": "n", "extra": 1}, "extra", "unknown"),
        ({"name": "n", "kind": "c"}, "kind", "a, b"),
        ({"name": "n", "priority": 0}, "priority", "between"),
        ({"name": "n", "priority": True}, "priority", "whole"),
        ({"name": "n", "priority": 1.0}, "priority", "whole"),
        ({"name": "n", "concurrentRequests": 1, "maxConcurrent": 2}, "maxConcurrent", "twice"),
        ({"name": "n", "share": 1.5}, "share", "between"),
        ({"name": "n", "share": 10**400}, "share", "between"),
        ({"name": "n", "isActive": 1}, "isActive", "true or false"),
        ({"name": "n", "expiresAt": "2027-01-01T00:00:00"}, "expiresAt", "zone"),
        ({"name": "n", "expiresAt": "soon"}, "expiresAt", "ISO"),
        ({"name": "n", "models": ["a", "a"]}, "models", "twice"),
        ({"name": "n", "models": ["a", 1]}, "models", "entry 2"),
        ({"name": "n", "models": list("abcd")}, "models", "0 to 3"),
        ({"name": "n", "models": "a"}, "models", "list"),
        ({"name": "n", "days": [7]}, "days", "entry 1"),
        ({"name": "n", "providerData": []}, "providerData", "object"),
        ({"name": "n", "providerData": {"a": "x" * 300}}, "providerData", "bytes"),
        ({"name": "n", "providerData": {"a": "\ud800"}}, "providerData", "stored"),
        ({"name": "n", "schedule": {}}, "schedule.enabled", "required"),
        ({"name": "n", "limits": [{"limit": 0}]}, "limits.limit", "between"),
    ],
)
def test_names_the_field_that_is_wrong(body: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        FIELDS.check(body)
    assert [detail["field"] for detail in caught.value.details] == [field]
    assert says in caught.value.details[0]["message"]


def test_reports_every_fault_at_once_and_no_secret() -> None:
    with pytest.raises(ValidationFailed) as caught:
        FIELDS.check({"apiKey": "sk-hidden\nvalue", "priority": 0, "x": 1})
    assert {detail["field"] for detail in caught.value.details} == {"apiKey", "priority", "x", "name"}
    assert "hidden" not in str(caught.value.details)


@pytest.mark.parametrize(
    ("query", "page"), [("", (50, 0)), ("limit=5&offset=10", (5, 10)), ("limit=", (50, 0)), ("limit=200", (200, 0))]
)
def test_reads_the_page(query: str, page: tuple[int, int]) -> None:
    read = bodies.Page.read(Request(EnvironBuilder(query_string=query).get_environ()))
    assert (read.limit, read.offset) == page


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "offset=-1", "limit=1.5", "offset=٣"])
def test_refuses_a_wrong_page(query: str) -> None:
    with pytest.raises(ValidationFailed):
        bodies.Page.read(Request(EnvironBuilder(query_string=query).get_environ()))


def test_lists_carry_their_size() -> None:
    page = bodies.Page(2, 1)
    response = bodies.listing("things", page.cut([1, 2, 3, 4]), total=4, page=page)
    assert response.get_json() == {"things": [2, 3], "total": 4, "limit": 2, "offset": 1}
    assert response.headers["X-Total-Count"] == "4"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, None), (0, "1970-01-01T00:00:00.000Z"), (1.5, "1970-01-01T00:00:01.500Z")]
)
def test_times_are_utc(seconds: float | None, shown: str | None) -> None:
    assert bodies.iso_time(seconds) == shown


@pytest.mark.parametrize(("query", "value"), [("", None), ("a=true", True), ("a=0", False)])
def test_reads_query_flags(query: str, value: bool | None) -> None:
    assert bodies.query_flag(Request(EnvironBuilder(query_string=query).get_environ()), "a") is value


def test_refuses_a_vague_query_flag() -> None:
    with pytest.raises(ValidationFailed):
        bodies.query_flag(Request(EnvironBuilder(query_string="a=maybe").get_environ()), "a")


# --- what the fields say of themselves -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "is_fit"),
    [
        ({"name": "n"}, True),
        ({"name": "n", "apiKey": None, "kind": "a", "priority": 1, "share": 0.5, "isActive": True}, True),
        ({"name": "n", "maxConcurrent": None, "providerSpecificData": {"a": [1]}, "expiresAt": None}, True),
        ({"name": "n", "models": ["a", "b"], "days": [0, 6], "limits": [{"limit": 1}]}, True),
        ({"name": "n", "schedule": {"enabled": True}}, True),
        ({}, False),
        ({"name": None}, False),
        ({"name": ""}, False),
        ({"name": "x" * 21}, False),
        ({"name": "n", "nam": 1}, False),
        ({"name": "n", "kind": "c"}, False),
        ({"name": "n", "priority": 0}, False),
        ({"name": "n", "priority": "1"}, False),
        ({"name": "n", "share": 1.5}, False),
        ({"name": "n", "isActive": 1}, False),
        ({"name": "n", "concurrentRequests": 0}, False),
        ({"name": "n", "maxConcurrent": 0}, False),
        ({"name": "n", "models": ["a", "a"]}, False),
        ({"name": "n", "models": ["a", "b", "c", "d"]}, False),
        ({"name": "n", "days": [7]}, False),
        ({"name": "n", "schedule": {}}, False),
        ({"name": "n", "limits": [{"limit": 0}]}, False),
        ({"name": "n", "providerData": []}, False),
    ],
)
def test_the_schema_says_what_is_taken(body: dict[str, Any], is_fit: bool) -> None:
    faults = list(jsonschema.Draft202012Validator(FIELDS.schema).iter_errors(body))
    assert (faults == []) is is_fit
    if is_fit:
        FIELDS.check(body)
    else:
        with pytest.raises(ValidationFailed):
            FIELDS.check(body)


def test_the_schema_names_aliases_secrets_and_forms() -> None:
    properties = FIELDS.schema["properties"]
    assert properties["maxConcurrent"]["x-omniroute-alias-of"] == "concurrentRequests"
    assert properties["apiKey"] | {"format": "password", "writeOnly": True} == properties["apiKey"]
    assert properties["expiresAt"] == {"type": ["string", "null"], "format": "date-time"}
    clock = bodies.Fields(bodies.text("at", alias="time", required=True, pattern=r"\d\d:\d\d", nullable=True)).schema
    assert clock["properties"]["at"]["pattern"] == r"^(?:\d\d:\d\d)$"
    assert clock["allOf"] == [{"anyOf": [{"required": ["at"]}, {"required": ["time"]}]}]
    assert "required" not in clock


def test_the_schema_of_a_choice_that_may_be_null_holds_null() -> None:
    schema = bodies.text("kind", choices=("a", "b"), nullable=True).value_schema
    assert schema == {"type": ["string", "null"], "enum": ["a", "b", None]}
    assert bodies.Field("any", lambda value: value, nullable=True).value_schema == {}
    either = bodies.Field("either", lambda value: value, nullable=True, schema={"anyOf": [{"type": "string"}]})
    assert either.value_schema == {"anyOf": [{"anyOf": [{"type": "string"}]}, {"type": "null"}]}
