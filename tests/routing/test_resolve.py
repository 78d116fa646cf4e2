"""From a name to what it stands for, stage by stage."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import InvalidRequest, ModelNotFound
from omniroute.records import Combo, ComboPattern, ModelAlias
from omniroute.routing.auto import CHANNELS
from omniroute.routing.options import Option
from omniroute.routing.resolve import Book, Kind, Resolution, is_reserved, resolve

MODELS = {
    "openai/gpt-5": [Option("openai/gpt-5", "openai", "gpt-5")],
    "gpt-5": [Option("openai/gpt-5", "openai", "gpt-5"), Option("or/gpt-5", "openrouter", "gpt-5")],
    "openai/gpt-oss": [Option("groq/openai/gpt-oss", "groq", "openai/gpt-oss")],
    "combo": [Option("x/combo", "x", "combo")],
}


def find(name: str) -> list[Option]:
    if name not in MODELS:
        raise ModelNotFound(f"no {name}", extras={"reason": "unknown", "suggestions": ["gpt-5"]})
    return MODELS[name]


def combos(*names: str, **changes: Any) -> list[Combo]:
    return [Combo(f"combo_{name}", name, **changes) for name in names]


def alias(pattern: str, target: str, **changes: Any) -> ModelAlias:
    return ModelAlias(f"alias_{pattern}", pattern, target, **changes)


def meaning(found: Resolution) -> str:
    match found.kind:
        case Kind.COMBO:
            assert found.combo is not None
            return f"combo {found.combo.name}"
        case Kind.CHANNEL:
            return found.channel
        case Kind.OPTIONS:
            return ", ".join(option.name for option in found.options)


BOOK = Book(
    combos=[*combos("fast", "gpt-5", "x[1m]", "a b"), *combos("off", is_active=False)],
    aliases=[
        alias("daily", "openai/gpt-5"),
        alias("best", "combo/fast"),
        alias("cheapest", "auto/cheap"),
        alias("claude-*", "daily"),
        alias("claude-opus-*", "auto"),
        alias("unused", "openai/gpt-5", enabled=False),
        alias("gone", "nobody/has-it"),
        alias("secret-*", "x[1m]"),
    ],
    patterns=[
        ComboPattern("map_1", "secret-*", "combo_fast", created_at=5),
        ComboPattern("map_2", "off-*", "combo_off"),
        ComboPattern("map_3", "not-*", "combo_fast", enabled=False),
    ],
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fast", "combo fast"),
        ("combo/fast", "combo fast"),
        ("combo/x[1m]", "combo x[1m]"),
        ("a b", "combo a b"),
        ("gpt-5", "combo gpt-5"),
        ("openai/gpt-5", "openai/gpt-5"),
        (" openai/gpt-5 ", "openai/gpt-5"),
        ("models/openai/gpt-5", "openai/gpt-5"),
        ("openai/gpt-oss", "groq/openai/gpt-oss"),
        ("combo", "x/combo"),
        ("auto", "auto"),
        ("auto/coding", "auto/coding"),
        ("daily", "openai/gpt-5"),
        ("best", "combo fast"),
        ("cheapest", "auto/cheap"),
        ("claude-sonnet", "openai/gpt-5"),
        ("claude-opus-9", "auto"),
        ("secret-plan", "combo fast"),
    ],
)
def test_what_a_name_stands_for(name: str, expected: str) -> None:
    assert meaning(resolve(name, BOOK, find)) == expected


@pytest.mark.parametrize("name", ["off", "combo/off", "combo/nobody", "FAST", "unused", "off-x", "not-x", "Auto"])
def test_what_nothing_stands_for(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(name, BOOK, find)
    assert caught.value.extras["reason"] == "unknown"


def test_an_unknown_combo_ends_the_search_and_names_the_nearest() -> None:
    def fail(name: str) -> list[Option]:
        raise AssertionError(name)

    book = Book(combos("fast"), [alias("*", "openai/gpt-5")])
    with pytest.raises(ModelNotFound) as caught:
        resolve("combo/fest", book, fail)
    assert caught.value.extras["suggestions"] == ["combo/fast"]


def test_an_unknown_channel_lists_the_seven() -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve("auto/magic", BOOK, find)
    assert all(channel in caught.value.message for channel in CHANNELS)
    assert len(CHANNELS) == 7


@pytest.mark.parametrize("name", ["", "   ", "models/", "x" * 301, "a\nb", "a\x00", "\ud800"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidRequest):
        resolve(name, BOOK, find)


@pytest.mark.parametrize("name", ["auto", "auto/fast", "combo/fast"])
def test_no_pattern_takes_over_a_reserved_name(name: str) -> None:
    book = Book(combos("fast", "trap"), [alias("*", "combo/trap", priority=9)], [])
    assert meaning(resolve(name, book, find)) == name.replace("combo/", "combo ")
    assert meaning(resolve("anything", book, find)) == "combo trap"
    assert is_reserved(name)


def test_a_catch_all_leaves_combos_alone_and_takes_models() -> None:
    book = Book(combos("fast", "trap"), [], [ComboPattern("map", "*", "combo_trap")])
    assert meaning(resolve("fast", book, find)) == "combo fast"
    assert meaning(resolve("openai/gpt-5", book, find)) == "combo trap"


@pytest.mark.parametrize(
    ("aliases", "patterns", "expected"),
    [
        ([alias("x", "auto/fast"), alias("*", "auto", priority=9)], [], "auto/fast"),
        ([alias("x*", "auto/fast"), alias("*", "auto", priority=9)], [], "auto"),
        ([alias("xy*", "auto/fast"), alias("x*", "auto")], [], "auto"),
        ([alias("x*", "auto", created_at=2), alias("*x", "auto/fast", created_at=1)], [], "auto/fast"),
        ([alias("x", "auto")], [ComboPattern("m", "x", "combo_c", created_at=9)], "combo c"),
        ([alias("x", "auto", priority=1)], [ComboPattern("m", "x", "combo_c")], "auto"),
        ([alias("x", "auto")], [ComboPattern("m", "x*", "combo_c", priority=9)], "auto"),
        ([alias("*", "auto", created_at=0)], [ComboPattern("m", "*", "combo_c", created_at=9)], "combo c"),
    ],
)
def test_the_closest_row_counts(aliases: list[ModelAlias], patterns: list[ComboPattern], expected: str) -> None:
    assert meaning(resolve("x", Book(combos("c"), aliases, patterns), find)) == expected


def test_a_pattern_may_lead_to_a_name_that_it_matches() -> None:
    found = resolve("gpt-4", Book((), [alias("gpt-*", "gpt-5")]), find)
    assert meaning(found) == "openai/gpt-5, or/gpt-5"
    assert found.alias_ids == ("alias_gpt-*",)


def test_a_circle_of_an_old_import_ends() -> None:
    book = Book((), [alias("a", "b"), alias("b", "a")])
    with pytest.raises(ModelNotFound):
        resolve("a", book, find)


def test_five_hops_and_no_more() -> None:
    def chain(length: int) -> Book:
        names = [f"n{number}" for number in range(length)]
        return Book((), [alias(name, to) for name, to in zip(names, [*names[1:], "openai/gpt-5"], strict=True)])

    assert len(resolve("n0", chain(5), find).alias_ids) == 5
    with pytest.raises(ModelNotFound, match="no n5"):
        resolve("n0", chain(6), find)


def test_an_alias_that_leads_nowhere_says_where_it_leads() -> None:
    with pytest.raises(ModelNotFound, match="'gone' is another name for 'nobody/has-it'") as caught:
        resolve("gone", BOOK, find)
    assert caught.value.extras == {"reason": "unknown", "suggestions": ["gpt-5"]}


def test_the_trace_tells_each_stage() -> None:
    assert [tuple(hop) for hop in resolve("claude-sonnet", BOOK, find).trace] == [
        ("combo", "claude-sonnet", None),
        ("alias", "claude-sonnet", "daily"),
        ("combo", "daily", None),
        ("alias", "daily", "openai/gpt-5"),
        ("combo", "openai/gpt-5", None),
        ("alias", "openai/gpt-5", None),
        ("provider", "openai/gpt-5", "openai/gpt-5"),
    ]
    assert resolve("openai/gpt-oss", BOOK, find).trace[-1] == ("bare", "openai/gpt-oss", "groq/openai/gpt-oss")
    assert resolve("combo/fast", BOOK, find).trace == (("combo/", "combo/fast", "fast"),)
    assert resolve("auto", BOOK, find).trace[-1] == ("auto", "auto", "auto")


NAMES = st.sampled_from(["a", "b", "c", "auto", "combo/a", "openai/gpt-5", "z", "ab"])
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "*", "a*", "?"]), NAMES), unique_by=lambda row: row[0])


@given(NAMES, ROWS)
def test_every_book_gives_an_answer(name: str, rows: list[tuple[str, str]]) -> None:
    book = Book(combos("c"), [alias(pattern, target) for pattern, target in rows])
    try:
        found = resolve(name, book, find)
    except ModelNotFound:
        return
    assert len(found.alias_ids) == len(set(found.alias_ids)) <= 5


def test_a_plain_name_costs_next_to_nothing() -> None:
    book = Book(combos(*(f"c{number}" for number in range(200))))
    rounds = 5000
    best = 1.0
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(rounds):
            resolve("openai/gpt-5", book, find)
        best = min(best, (time.perf_counter() - started) / rounds)
    assert best < 50e-6, f"{best * 1e6:.1f} µs"
