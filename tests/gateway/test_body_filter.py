"""What operators want changed in requests: exactly that, and no other byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.gateway.body_filter import NAME, PROTECTED, BodyFilter, clashing
from omniroute.records import ParamFilters


def filtered(body: bytes, strip: tuple[str, ...] = (), **force: Any) -> bytes:
    return BodyFilter.of(ParamFilters(strip, force)).apply(body, lambda: None)


def forced(body: bytes, force: dict[str, Any], strip: tuple[str, ...] = ()) -> bytes:
    return BodyFilter.of(ParamFilters(strip, force)).apply(body, lambda: None)


BODY = b'{ "model":"m", "temperature": 1.00, "messages" : [{"role":"user","content":"\\u00e9"}],"seed":7 }'


def test_what_is_not_named_stays_byte_for_byte() -> None:
    assert filtered(BODY, ("top_p", "generationConfig.seed")) == BODY
    assert filtered(BODY, ("temperature",)) == (
        b'{ "model":"m", "messages" : [{"role":"user","content":"\\u00e9"}],"seed":7 }'
    )


def test_members_are_set_or_replaced() -> None:
    assert filtered(BODY, temperature=0.2) == BODY.replace(b"1.00", b"0.2")
    assert json.loads(filtered(BODY, top_p=0.5))["top_p"] == 0.5


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"contents":[]}', {"contents": [], "generationConfig": {"topK": 1}}),
        (b'{"contents":[],"generationConfig":null}', {"contents": [], "generationConfig": {"topK": 1}}),
        (b'{"contents":[],"generationConfig":{}}', {"contents": [], "generationConfig": {"topK": 1}}),
        (
            b'{"contents":[],"generationConfig":{"seed":1,"topK":9,"stop":[1.50]}}',
            {"contents": [], "generationConfig": {"topK": 1, "stop": [1.5]}},
        ),
        (b'{"contents":[],"generationConfig":{"seed":1}}', {"contents": [], "generationConfig": {"topK": 1}}),
    ],
)
def test_names_with_dots_lead_into_objects(body: bytes, expected: dict[str, Any]) -> None:
    made = forced(body, {"generationConfig.topK": 1}, ("generationConfig.seed",))
    assert json.loads(made) == expected


def test_taking_everything_out_of_an_object_leaves_it_empty() -> None:
    body = b'{"contents":[],"options":{"a":1,"b":{"c":2}, "d" : 3}}'
    assert json.loads(filtered(body, ("options.a", "options.b.c", "options.d"))) == {
        "contents": [],
        "options": {"b": {}},
    }


def test_taking_out_of_what_is_no_object_changes_nothing() -> None:
    body = b'{"contents":[],"options":[{"a":1}]}'
    assert filtered(body, ("options.a", "missing.a")) == body


NAMES = st.sampled_from(["a", "b", "c", "d", "o.a", "o.b", "o.p.a", "o.p.b"])
SCALARS = st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=4), st.lists(st.integers(), max_size=2))
INNER = st.dictionaries(st.sampled_from(["a", "b", "c"]), SCALARS, max_size=3)
BODIES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"messages": st.just([])},
    optional={
        **dict.fromkeys("abcd", SCALARS),
        "o": st.one_of(SCALARS, st.builds(lambda inner, p: {**inner, "p": p}, INNER, st.one_of(SCALARS, INNER)), INNER),
    },
)


def expected_of(document: Any, strip: tuple[str, ...], force: dict[str, Any]) -> Any:
    """The same on values, as simply as can be."""
    made = json.loads(json.dumps(document))
    for name, value in force.items():
        at = made
        *path, last = name.split(".")
        for part in path:
            if not isinstance(at.get(part), dict):
                at[part] = {}
            at = at[part]
        at[last] = value
    for name in strip:
        at = made
        *path, last = name.split(".")
        for part in path:
            at = at.get(part) if isinstance(at, dict) else None
        if isinstance(at, dict):
            at.pop(last, None)
    return made


@given(BODIES, st.lists(NAMES, unique=True, max_size=8), st.data())
def test_the_bytes_say_what_the_values_would(document: dict[str, Any], names: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(names)))
    strip, force = tuple(names[:cut]), {name: data.draw(SCALARS) for name in names[cut:]}
    spaced = data.draw(st.booleans())
    body = json.dumps(document, indent=1 if spaced else None).encode()
    assert json.loads(forced(body, force, strip)) == expected_of(document, strip, force)


@pytest.mark.parametrize(
    ("names", "clash"),
    [((), None), (("a", "b", "a.b"), "a.b"), (("a.b", "a.c"), None), (("a", "ab"), None), (("x.y.z", "x.y"), "x.y.z")],
)
def test_names_may_not_lead_through_each_other(names: tuple[str, ...], clash: str | None) -> None:
    assert clashing(names) == clash


def test_a_name_that_stands_twice_clashes() -> None:
    assert clashing(["temperature", "temperature"]) == "temperature"


@pytest.mark.parametrize("name", ["", "a.", ".a", "a b", "a..b", "1a", "a.b.c.d.e", "é"])
def test_what_is_no_name(name: str) -> None:
    assert NAME.fullmatch(name) is None


def test_the_request_itself_is_protected() -> None:
    assert {"model", "messages", "input", "contents", "prompt", "tools", "stream"} <= PROTECTED
