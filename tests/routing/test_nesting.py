"""Combos inside combos: circles and depth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import InvalidRequest
from omniroute.records import Combo, ComboStep
from omniroute.routing.nesting import check


def combos(**references: str) -> dict[str, Combo]:
    """Return combos that refer to those named by the letters."""
    made = {}
    for name, others in references.items():
        steps = tuple(ComboStep(f"{name}.{n}", kind="combo-ref", combo_name=other) for n, other in enumerate(others))
        made[name] = Combo(name, name, steps=(*steps, ComboStep(f"{name}.m", model="m")))
    return made


def outcome(found: dict[str, Combo], name: str, *, depth: int = 3, most: int = 100) -> str:
    try:
        check(found, found[name], depth_of=lambda _combo: depth, most_steps=most)
    except InvalidRequest as error:
        return f"{error.error_code}: {error.message}"
    return "fine"


@pytest.mark.parametrize(
    ("references", "name", "expected"),
    [
        ({"a": ""}, "a", "fine"),
        ({"a": "bc", "b": "c", "c": ""}, "a", "fine"),
        ({"a": "z"}, "a", "fine"),
        ({"a": "a"}, "a", "combo_cycle: Combos would refer to each other in a circle: a → a."),
        ({"a": "b", "b": "a"}, "a", "combo_cycle: Combos would refer to each other in a circle: a → b → a."),
        (
            {"a": "b", "b": "c", "c": "d", "d": ""},
            "a",
            "combo_depth: This combo would be 4 combos deep; 3 are allowed.",
        ),
        (
            {"a": "b", "b": "c", "c": "d", "d": ""},
            "d",
            "combo_depth: The combo 'a', which refers to it, would be 4 combos deep; 3 are allowed.",
        ),
        ({"a": "", "x": "y", "y": "x"}, "a", "fine"),
        ({"a": "x", "x": "", "y": "y"}, "a", "fine"),
    ],
)
def test_what_a_change_would_break(references: dict[str, str], name: str, expected: str) -> None:
    assert outcome(combos(**references), name) == expected


def test_references_multiply() -> None:
    found = combos(a="bbb", b="ccc", c="")
    assert outcome(found, "a", most=25) == "fine"
    assert "25 steps" in outcome(found, "a", most=24)
    assert outcome(found, "c", most=24).startswith("combo_depth: The combo 'a'")


@given(st.dictionaries(st.sampled_from("abcd"), st.text("abcd", max_size=3), min_size=1), st.sampled_from("abcd"))
def test_every_graph_is_judged(references: dict[str, str], name: str) -> None:
    found = combos(**references)
    if name in found:
        verdict = outcome(found, name, depth=4)
        assert verdict == "fine" or verdict.startswith(("combo_cycle", "combo_depth"))
