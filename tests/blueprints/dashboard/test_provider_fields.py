"""What forms of providers send, as the API takes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from omniroute.blueprints.dashboard import provider_fields as fields


@pytest.mark.parametrize(
    ("text", "whole", "broken"),
    [("", None, None), (" 60 ", 60, 60.0), ("1.5", "1.5", 1.5), ("many", "many", "many"), ("-1", -1, -1.0)],
)
def test_numbers(text: str, whole: Any, broken: Any) -> None:
    assert fields.number(text) == whole
    assert fields.decimal(text) == broken


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("sk-1\n\n sk-2 ", [{"apiKey": "sk-1"}, {"apiKey": "sk-2"}]),
        ("Team A, sk-1", [{"apiKey": "sk-1", "name": "Team A"}]),
        ("Team A\tsk-1", [{"apiKey": "sk-1", "name": "Team A"}]),
        (",sk-1", [{"apiKey": "sk-1"}]),
        ("a, b, sk-1", [{"apiKey": "sk-1", "name": "a, b"}]),
    ],
)
def test_a_key_a_line(text: str, found: list[dict[str, str]]) -> None:
    assert fields.keys(text) == found


def test_headers_are_lines() -> None:
    text = "X-Team: a:b\n\nX-Other:c\nnonsense"
    assert fields.headers(text) == {"X-Team": "a:b", "X-Other": "c", "nonsense": ""}
    assert fields.header_lines({"X-Team": "a"}) == "X-Team: a"


def test_what_a_connection_says_beside_its_key() -> None:
    local = {"isLocal": True, "isNode": False, "parameters": [{"name": "region", "default": None}]}
    assert fields.data_names(local) == ("baseUrl", "region")
    assert fields.data_names({**local, "isNode": True}) == ("region",)
    form = MultiDict([("data.region", " eu "), ("data.baseUrl", "")])
    assert fields.provider_data(form, ("region", "baseUrl")) == {"region": "eu"}
    assert fields.provider_data(form, ("region", "baseUrl"), clears=True) == {"region": "eu", "baseUrl": None}
    assert fields.spelt(("region",))["providerData.region"] == "data.region"
    assert fields.spelt(())["baseUrl"] == "data.baseUrl"


def test_words_and_objects() -> None:
    assert fields.words("a, b\n c") == ["a", "b", "c"]
    assert fields.json_object("") == {}
    assert fields.json_object(fields.json_text({"a": 1})) == {"a": 1}
    assert fields.json_text({}) == ""


@pytest.mark.parametrize(
    ("entry", "step", "found"),
    [("b", -1, "bac"), ("b", 1, "acb"), ("a", -1, "abc"), ("c", 1, "abc"), ("x", 1, "abc")],
)
def test_one_place_further(entry: str, step: int, found: str) -> None:
    assert fields.moved("abc", entry, step) == list(found)


def test_the_order_of_a_page_leaves_the_others_where_they_are() -> None:
    assert fields.in_order("abcde", "dbc") == list("adbce")
    assert fields.in_order("abc", "cx") == list("abc")


@given(st.lists(st.integers(), unique=True), st.randoms(use_true_random=False))
def test_an_order_loses_nothing(everything: list[int], chance: Any) -> None:
    names = [str(one) for one in everything]
    shown = [name for name in names if chance.random() < 0.5]
    chance.shuffle(shown)
    found = fields.in_order(names, shown)
    assert sorted(found) == sorted(names)
    assert [name for name in found if name in shown] == shown
