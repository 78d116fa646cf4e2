"""Which price is in force."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from omniroute.money.book import BUILTIN, IMPORT, OVERRIDE, PriceBook, check, is_empty
from omniroute.money.tariff import NANO
from omniroute.records import PriceRow, PriceStep

LISTED = PriceRow(
    "openai",
    "gpt-5",
    BUILTIN,
    0.0,
    0.0,
    input="2",
    output="10",
    cache_read="0.2",
    tiers=(PriceStep(1000, input="4", output="20", cache_read="0.4"),),
)


def row(source: str, model: str = "gpt-5", **prices: Any) -> PriceRow:
    return PriceRow("openai", model, source, 5.0, 6.0, **prices)


def book(*rows: PriceRow) -> PriceBook:
    return PriceBook(rows, lambda provider, model: LISTED if (provider, model) == ("openai", "gpt-5") else None)


def test_what_nobody_said_is_unknown() -> None:
    assert book().tariff("openai", "gpt-6") is None
    assert book().tariff("node_1", "gpt-5") is None
    assert PriceBook().tariff("openai", "gpt-5") is None


def test_the_list_price_holds_where_nothing_lies_above_it() -> None:
    tariff = book().tariff("openai", "gpt-5")

    assert tariff is not None
    assert (tariff.source, tariff.rates.input, tariff.steps[0][0]) == ("builtin", 2 * NANO, 1000)
    assert book().row("openai", "gpt-5") == LISTED


@pytest.mark.parametrize(
    ("rows", "source", "price"),
    [
        ([row(IMPORT, input="3")], "import", 3 * NANO),
        ([row(OVERRIDE, input="1")], "override", NANO),
        ([row(OVERRIDE, input="1"), row(IMPORT, input="3")], "override", NANO),
        ([row(IMPORT, input="3"), row(OVERRIDE, output="1")], "override", 3 * NANO),
        ([row(OVERRIDE, output="0")], "override", 2 * NANO),
        ([row(OVERRIDE, input="0")], "override", 0),
    ],
)
def test_layers_lie_field_by_field(rows: list[PriceRow], source: str, price: int) -> None:
    for order in (rows, rows[::-1]):
        tariff = book(*order).tariff("openai", "gpt-5")
        assert tariff is not None
        assert (tariff.source, tariff.rates.input) == (source, price)


def test_what_is_set_holds_for_prompts_of_every_length() -> None:
    found = book(row(OVERRIDE, input="1", output="5")).row("openai", "gpt-5")

    assert found is not None
    assert found.tiers == (PriceStep(1000, cache_read="0.4"),)
    all_set = book(row(OVERRIDE, input="1", output="5", cache_read="0")).row("openai", "gpt-5")
    assert all_set is not None
    assert all_set.tiers == ()


def test_steps_take_the_place_of_those_below() -> None:
    own = (PriceStep(50, input="9"),)

    found = book(row(OVERRIDE, input="1", tiers=own)).row("openai", "gpt-5")

    assert found is not None
    assert (found.tiers, found.output) == (own, "10")


def test_an_override_alone_is_all_there_is() -> None:
    own = row(OVERRIDE, "gpt-6", per_image="0.04")
    tariff = book(own).tariff("openai", "gpt-6")

    assert tariff is not None
    assert (tariff.rates.input, tariff.per_image) == (None, NANO // 25)
    assert book(own).row("openai", "gpt-6") == own


def test_the_id_changes_with_the_price_and_with_nothing_else() -> None:
    first = book(row(OVERRIDE, input="1")).tariff("openai", "gpt-5")
    same = book(replace(row(OVERRIDE, input="1"), updated_at=99.0, note="x")).tariff("openai", "gpt-5")
    other = book(row(OVERRIDE, input="1.1")).tariff("openai", "gpt-5")

    assert first is not None
    assert same is not None
    assert other is not None
    assert first.id == same.id != other.id


def test_a_tariff_is_made_once() -> None:
    asked: list[str] = []

    def look_up(_provider: str, model: str) -> PriceRow | None:
        asked.append(model)
        return None

    own = PriceBook((), look_up)
    assert [own.tariff("p", "a"), own.tariff("p", "a"), own.tariff("p", "b")] == [None, None, None]
    assert asked == ["a", "b"]


def test_names_that_callers_invent_do_not_pile_up() -> None:
    own = PriceBook()
    for number in range(10_000):
        own.tariff("openai", f"made-up-{number}")

    assert len(own._tariffs) <= 4096


def test_the_pairs_of_the_layers() -> None:
    own = book(row(OVERRIDE, input="1"), row(IMPORT, input="3"), row(IMPORT, "gpt-6", input="3"))

    assert sorted(own.stored()) == [("openai", "gpt-5"), ("openai", "gpt-6")]
    assert list(own.overridden()) == [("openai", "gpt-5")]
    assert [found.model for found in own.imported()] == ["gpt-5", "gpt-6"]
    assert own.is_overridden("openai", "gpt-5")
    assert not own.is_overridden("openai", "gpt-6")
    assert own.builtin("openai", "gpt-5") == LISTED


def test_a_row_without_a_price() -> None:
    assert is_empty(row(OVERRIDE))
    assert not is_empty(row(OVERRIDE, per_second="0"))
    assert not is_empty(row(OVERRIDE, tiers=(PriceStep(1),)))


@pytest.mark.parametrize(
    "bad",
    [row(OVERRIDE, input="-1"), row(OVERRIDE, per_image="x"), row(OVERRIDE, tiers=(PriceStep(1, output="NaN"),))],
)
def test_a_row_that_cannot_be_a_price_is_told(bad: PriceRow) -> None:
    with pytest.raises(ValueError, match=r"number|must be"):
        check(bad)
