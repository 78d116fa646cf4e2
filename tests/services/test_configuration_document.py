"""The parts of the configuration document that need no server: leaving out what is usual, and comparing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.records import PriceRow, PriceStep
from omniroute.services.configuration_document import COMBOS, KINDS, Kind, differences, plain, price_entry

VALUES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=2)


def document(**members: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {kind.member: [] for kind in KINDS}
    return {"version": 1, "settings": {}, "prices": {}, **empty, **members}


@given(st.sampled_from(KINDS), st.data())
def test_what_is_left_out_comes_back(kind: Kind, data: st.DataObject) -> None:
    entry = {name: data.draw(VALUES | st.just(usual)) for name, usual in kind.usual.items()}
    entry = {name: kind.usual[name] if value is None else value for name, value in entry.items()}
    lean = kind.lean(entry)
    assert {name: plain(value) for name, value in kind.whole(lean).items()} == {
        name: plain(value) for name, value in entry.items()
    }
    assert not any(plain(value) == plain(kind.usual[name]) for name, value in lean.items())


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({}, {}, []),
        (
            {"settings": {"a": {"x": 1, "z": {"q": 1}}}},
            {"settings": {"a": {"x": 2, "y": 3}}},
            [
                ("setting", "a.x", "update", [1, 2]),
                ("setting", "a.y", "create", [None, 3]),
                ("setting", "a.z", "delete", [{"q": 1}, None]),
            ],
        ),
        (
            {"combos": [{"name": "a", "models": ["x"]}, {"name": "b", "models": ["x"]}]},
            {"combos": [{"name": "b", "models": ["x"], "isActive": True}, {"name": "c", "models": ["x"]}]},
            [("combo", "c", "create", None), ("combo", "a", "delete", None)],
        ),
        (
            {"providers": [{"provider": "p", "name": "n", "priority": 1}] * 2},
            {"providers": [{"provider": "p", "name": "n", "priority": 1}]},
            [("connection", "p/n (2)", "delete", None)],
        ),
        (
            {"prices": {"p": {"m": {"input": 1.0}}}},
            {"prices": {"p": {"m": {"input": 1}, "o": {"input": 2}}}},
            [("price", "p/o", "create", None)],
        ),
    ],
)
def test_differences(before: dict[str, Any], after: dict[str, Any], found: list[Any]) -> None:
    changes = differences(document(**before), document(**after))
    assert [
        (one["kind"], one["name"], one["action"], one["fields"]["value"] if "fields" in one else None)
        for one in changes
    ] == found


def test_another_order_of_combos_is_a_difference() -> None:
    a, b = ({"name": name, "models": ["x"], "strategy": "priority"} for name in "ab")
    (change,) = differences(document(combos=[a, b]), document(combos=[b, a]))
    assert change == {"kind": "combo", "name": "*", "action": "update", "fields": {"order": [["a", "b"], ["b", "a"]]}}
    assert COMBOS.name(a) == "a"


def test_prices_are_numbers() -> None:
    row = PriceRow("p", "m", "override", 0.0, 0.0, input="0.125", output="3", tiers=(PriceStep(1000, input="1.50"),))
    assert price_entry(row) == {"input": 0.125, "output": 3, "tiers": [{"above": 1000, "input": 1.5}]}
