"""Names of tools fit the target and find their way back."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.tool_names import Names
from tests.formats.strategies import ODD_NAMES, TOOL_NAMES


@given(st.lists(ODD_NAMES, unique=True), st.sampled_from([64, 128]), st.booleans())
def test_t06_names_are_legal_different_and_lead_back(names: list[str], limit: int, needs_letter: bool) -> None:
    table = Names(limit, names, needs_letter=needs_letter)
    sent = {name: table.sent(name) for name in names}
    pattern = r"[A-Za-z_][A-Za-z0-9_-]*" if needs_letter else r"[A-Za-z0-9_-]+"
    assert all(re.fullmatch(pattern, made) and len(made) <= limit for made in sent.values())
    assert len(set(sent.values())) == len(names)
    assert {table.changed.get(made, made): made for made in sent.values()} == sent


@given(st.lists(TOOL_NAMES))
def test_legal_names_stay(names: list[str]) -> None:
    table = Names(64, names, needs_letter=True)
    assert [table.sent(name) for name in names] == names
    assert table.changed == {}


@given(st.lists(ODD_NAMES, unique=True), st.randoms())
def test_the_order_of_other_tools_does_not_matter(names: list[str], rng: object) -> None:
    one = Names(64, names)
    assert [one.sent(name) for name in names] == [Names(64, reversed(names)).sent(name) for name in names]


def test_a_legal_name_is_never_given_to_another_tool() -> None:
    made = Names(64, ["a.b"]).sent("a.b")
    table = Names(64, ["a.b", made])
    assert table.sent(made) == made
    assert table.sent("a.b") not in ("a.b", made)


def test_a_name_of_our_own_gives_way_to_the_clients() -> None:
    table = Names(64, ["answer"])
    assert table.fresh("answer") != "answer"
    assert Names(64, []).fresh("answer") == "answer"
    assert Names(64, []).fresh("ä" * 90).startswith("_" * 55)


def test_a_name_only_seen_in_the_history_is_made_legal_too() -> None:
    table = Names(64, ["f"])
    made = table.sent("old.tool")
    assert made.startswith("old_tool_")
    assert table.changed == {made: "old.tool"}


def test_the_first_character_is_only_changed_where_it_must_be() -> None:
    assert Names(64, ["1st"]).sent("1st") == "1st"
    assert Names(64, ["1st"], needs_letter=True).sent("1st").startswith("_1st_")
