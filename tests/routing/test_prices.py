"""What a request is expected to cost, and what a budget leaves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.config import ComboConfig
from omniroute.routing.options import Features, Option, Rates
from omniroute.routing.plan import Reason
from omniroute.routing.prices import OVER_BUDGET, Budgeted, estimate_nano, within_budget
from omniroute.routing.view import Figures, Still
from tests.routing.blocks import asked, option, priced

STEPPED = Rates(100, 1000, steps=((128_000, Rates(200, 1500)), (200_000, Rates(300, None))))


@pytest.mark.parametrize(
    ("facts", "features", "figures", "nano"),
    [
        ({"rates": Rates(3000, 15_000)}, {"estimated_input": 1000}, {}, 3_000_000 + 800 * 15_000),
        ({"rates": Rates(3000, 15_000)}, {"estimated_input": 1000, "max_output": 100}, {}, 3_000_000 + 1_500_000),
        ({"rates": Rates(3000, 15_000)}, {"max_output": 100_000}, {}, 800 * 15_000),
        ({"rates": Rates(3000, 15_000)}, {"max_output": 100_000}, {"output_mean": 50.0}, 50 * 15_000),
        ({"rates": Rates(3000, 15_000)}, {}, {"output_mean": 2000.5}, 30_007_500),
        ({"rates": STEPPED}, {"estimated_input": 128_000, "max_output": 1}, {}, 12_800_000 + 1000),
        ({"rates": STEPPED}, {"estimated_input": 128_001, "max_output": 1}, {}, 25_600_200 + 1500),
        ({"rates": STEPPED}, {"estimated_input": 300_000, "max_output": 1}, {}, 90_000_000 + 1000),
        ({"rates": Rates(0.05, 0.4)}, {"estimated_input": 9, "max_output": 1}, {}, 1),
        ({"rates": Rates(3000, 15_000), "is_unmetered": True}, {"estimated_input": 1000}, {}, 0),
        ({"is_unmetered": True}, {"estimated_input": 1000}, {}, 0),
        ({}, {"estimated_input": 1000}, {}, None),
        ({"rates": Rates(3000, None)}, {"estimated_input": 1000}, {}, None),
        ({"rates": Rates(None, 3000)}, {"estimated_input": 1000}, {}, None),
    ],
)
def test_estimates(facts: dict[str, Any], features: dict[str, Any], figures: dict[str, Any], nano: int | None) -> None:
    assert estimate_nano(option("a", **facts), Features(**features), Figures(**figures)) == nano


def left(leads: list[Option], config: ComboConfig | None = None, **features: Any) -> Budgeted:
    features.setdefault("estimated_input", 1000)
    features.setdefault("max_output", 0)
    return within_budget(leads, range(len(leads)), asked(**features), config or ComboConfig())


CHEAP, DEAR, DEARER, UNKNOWN, FREE = (
    priced("a", 10),
    priced("b", 1000),
    priced("c", 5000),
    priced("d", None),
    priced("e", None, is_unmetered=True),
)


def test_without_a_budget_all_are_left() -> None:
    assert left([CHEAP, DEARER, UNKNOWN]) == Budgeted((0, 1, 2))


def test_what_exceeds_the_budget_is_left_out() -> None:
    found = left([DEAR, CHEAP, DEARER, FREE], budget_nano=10_000)
    assert found.kept == (1, 3)
    assert [(one.target, one.reason) for one in found.exclusions] == [
        ("b/m", Reason.PRICE_ABOVE_BUDGET),
        ("c/m", Reason.PRICE_ABOVE_BUDGET),
    ]
    assert (found.is_refused, found.warnings) == (False, ())


def test_a_combos_cap_counts_and_the_requests_own_budget_before_it() -> None:
    config = ComboConfig(budget_cap=0.000_01)
    assert left([CHEAP, DEAR], config).kept == (0,)
    assert left([CHEAP, DEAR], config, budget_nano=2_000_000).kept == (0, 1)


def test_an_unknown_price_is_left_out_only_by_a_strict_budget() -> None:
    assert left([DEAR, UNKNOWN], budget_nano=10_000).kept == (1,)
    strict = left([CHEAP, UNKNOWN], budget_nano=10_000, is_budget_strict=True)
    assert strict.kept == (0,)
    assert [one.reason for one in strict.exclusions] == [Reason.PRICE_UNKNOWN]


def test_a_soft_budget_gives_way_for_the_cheapest() -> None:
    found = left([DEARER, DEAR, DEAR], budget_nano=10)
    assert found.kept == (1,)
    assert len(found.exclusions) == 2
    assert found.warnings == (OVER_BUDGET,)


@pytest.mark.parametrize(
    ("config", "features"),
    [
        (ComboConfig(), {"is_budget_strict": True}),
        (ComboConfig(budget_fallback="strict"), {}),
    ],
)
def test_a_strict_budget_refuses(config: ComboConfig, features: dict[str, Any]) -> None:
    found = left([DEAR, UNKNOWN], config, budget_nano=10, **features)
    assert found.is_refused
    assert found.kept == ()
    assert len(found.exclusions) == 2


def test_a_budget_of_nothing_leaves_what_costs_nothing() -> None:
    assert left([CHEAP, FREE], budget_nano=0).kept == (1,)


def test_nobody_to_begin_with_is_no_matter_of_budget() -> None:
    found = within_budget([CHEAP], [], asked(budget_nano=1, is_budget_strict=True), ComboConfig())
    assert found == Budgeted(())


@given(
    st.lists(st.none() | st.floats(0, 1e5), max_size=6),
    st.sets(st.integers(0, 5)),
    st.integers(0, 10**8),
    st.booleans(),
)
def test_a_budget_accounts_for_everybody(
    prices: list[float | None], chosen: set[int], budget: int, is_strict: bool
) -> None:
    leads = [priced(chr(ord("a") + index), price) for index, price in enumerate(prices)]
    eligible = sorted(index for index in chosen if index < len(leads))
    question = asked(Still(), budget_nano=budget, is_budget_strict=is_strict, estimated_input=500)

    found = within_budget(leads, eligible, question, ComboConfig())

    gone = {one.target for one in found.exclusions}
    assert {leads[index].name for index in found.kept} | gone == {leads[index].name for index in eligible}
    assert len(found.kept) + len(gone) == len(eligible)
    assert list(found.kept) == sorted(found.kept)
    assert bool(found.kept) or found.is_refused == bool(eligible)
    for index in found.kept:
        nano = estimate_nano(leads[index], question.features, Figures())
        assert found.warnings or (not is_strict if nano is None else nano <= budget)
