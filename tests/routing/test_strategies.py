"""The strategies of combos that keep to numbers: exact orders, and what holds for every one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.config import ComboConfig
from omniroute.routing.options import Block, Option, Rates, Step, Strategy
from omniroute.routing.strategies import _ORDERS, order_steps
from omniroute.routing.view import Figures, Load, QuotaWindow, Rest, Still
from tests.routing.blocks import COMBO, NOW, Table, account, asked, block, names, option, options, priced

NOT_SCORED: list[Strategy] = [strategy for strategy in Strategy if strategy is not Strategy.AUTO]
SEEDLESS = [
    Strategy.PRIORITY,
    Strategy.FILL_FIRST,
    Strategy.LEAST_USED,
    Strategy.COST_OPTIMIZED,
    Strategy.CONTEXT_OPTIMIZED,
    Strategy.CONTEXT_RELAY,
    Strategy.EXPIRING_FIRST,
    Strategy.LKGP,
]

loads = st.builds(
    Load,
    in_flight=st.integers(0, 9),
    free_at=st.sampled_from([0.0, NOW + 5]),
    is_full=st.booleans(),
    windows=st.lists(
        st.builds(
            QuotaWindow,
            id=st.just("w"),
            used=st.none() | st.floats(0, 1),
            resets_at=st.none() | st.floats(NOW - 100, NOW + 700_000),
            length_s=st.sampled_from([None, 18_000.0, 604_800.0]),
        ),
        max_size=2,
    ).map(tuple),
)
figures = st.builds(
    Figures,
    ok=st.integers(0, 20),
    total=st.just(20),
    ttft_p50=st.none() | st.floats(1, 9000),
    output_mean=st.none() | st.floats(1, 9000),
)
rates = st.none() | st.builds(Rates, input=st.floats(0, 90_000), output=st.floats(0, 90_000))


@st.composite
def questions(draw: st.DrawFn, among: list[Strategy]) -> tuple[Block, list[Option], list[int], Any]:
    """A block of any strategy with any numbers, and who of it may serve."""
    count = draw(st.integers(1, 7))
    leads = [
        option(
            chr(ord("a") + index),
            window=draw(st.none() | st.integers(1000, 400_000)),
            max_output=draw(st.none() | st.integers(100, 9000)),
            rates=draw(rates),
            is_unmetered=draw(st.booleans()),
            tier=draw(st.sampled_from(["subscription", "free", "api_key"])),
            has_prompt_cache=draw(st.booleans()),
        )
        for index in range(count)
    ]
    given_block = block(
        draw(st.sampled_from(among)),
        leads,
        weights=[draw(st.sampled_from([0, 1, 2.5, 100])) for _ in leads],
        config=ComboConfig(
            sticky_round_robin_limit=draw(st.integers(1, 3)),
            sticky_weighted_limit=draw(st.integers(1, 3)),
            disable_session_stickiness=draw(st.booleans()),
        ),
    )
    ids = [*(step.id for step in given_block.steps), "gone"]
    cards = st.lists(st.sampled_from(ids), unique=True)
    view = Still(
        loads={lead.provider: draw(loads) for lead in leads},
        figures={lead.name: draw(figures) for lead in leads},
        uses={(COMBO, one): draw(st.integers(0, 5)) for one in ids},
        counters={
            (COMBO, "position"): draw(st.none() | st.integers(0, 40)),
            (COMBO, "deck"): draw(st.none() | st.fixed_dictionaries({"left": cards, "dealt": cards})),
            (COMBO, "head"): draw(
                st.none() | st.fixed_dictionaries({"step": st.sampled_from(ids), "count": st.just(1)})
            ),
            (COMBO, "relay:me"): draw(
                st.none() | st.fixed_dictionaries({"step": st.sampled_from(ids), "window": st.integers(0, 400_000)})
            ),
        },
        last_good={
            (COMBO, who): draw(st.sampled_from(leads)).name for who in draw(st.sets(st.sampled_from(["", "me"])))
        },
    )
    question = asked(
        view,
        seed=draw(st.integers(0, 2**64 - 1)),
        session=draw(st.sampled_from([None, "me"])),
        is_explicit_session=draw(st.booleans()),
        estimated_input=draw(st.integers(0, 300_000)),
        max_output=draw(st.none() | st.integers(1, 9000)),
    )
    eligible = sorted(draw(st.sets(st.integers(0, count - 1))))
    return given_block, leads, eligible, question


def again(question: Any) -> Any:
    """The same question with its chance unspent."""
    return asked(question.view, seed=question.chance.seed, **_features(question))


def _features(question: Any) -> dict[str, Any]:
    kept = ("session", "is_explicit_session", "estimated_input", "max_output")
    return {name: getattr(question.features, name) for name in kept}


@given(questions(NOT_SCORED))
def test_the_order_is_a_permutation_of_who_may_serve_and_the_same_each_time(one: Any) -> None:
    given_block, leads, eligible, question = one

    ordering = order_steps(given_block, leads, eligible, question)

    assert sorted(ordering.order) == eligible
    assert order_steps(given_block, leads, eligible, again(question)) == ordering


@given(questions(SEEDLESS), st.data())
def test_leaving_one_more_out_does_not_change_the_order_of_the_others(one: Any, data: st.DataObject) -> None:
    given_block, leads, eligible, question = one
    if not eligible:
        return
    gone = data.draw(st.sampled_from(eligible))
    before = order_steps(given_block, leads, eligible, question)

    after = order_steps(given_block, leads, [index for index in eligible if index != gone], again(question))

    assert after.order == tuple(index for index in before.order if index != gone)


def test_every_strategy_has_an_order() -> None:
    assert set(_ORDERS) == set(Strategy)


def test_nothing_to_order_is_no_order() -> None:
    for strategy in Strategy:
        assert order_steps(block(strategy, options(2)), options(2), [], asked()).order == ()


def test_the_same_order_under_another_hash_seed() -> None:
    program = """
from tests.routing.blocks import asked, block, options
from omniroute.routing.options import Strategy
from omniroute.routing.strategies import order_steps
for strategy in Strategy:
    if strategy is not Strategy.AUTO:
        leads = options(9)
        print(strategy, order_steps(block(strategy, leads), leads, list(range(9)), asked(seed=7, session="s")))
"""
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, zone in (("0", "UTC"), ("4711", "Asia/Tokyo"))
    }
    assert len(printed) == 1
    assert printed.pop().count("Ordering") == len(NOT_SCORED)


def order(strategy: Strategy, leads: list[Option], view: Still | None = None, **features: Any) -> str:
    ordering = order_steps(block(strategy, leads), leads, list(range(len(leads))), asked(view, **features))
    return names(leads, ordering)


# --- priority, fill-first --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Strategy.PRIORITY, Strategy.FILL_FIRST])
def test_with_all_healthy_and_unpaced_the_head_never_changes(strategy: Strategy) -> None:
    table = Table(block(strategy, options(4)), loads={name: Load(in_flight=50, last_used_at=NOW) for name in "abcd"})
    assert table.heads(50) == [0] * 50


def test_priority_leads_with_a_head_that_is_paced() -> None:
    assert order(Strategy.PRIORITY, options(3), Still(loads={"a": Load(is_full=True, free_at=NOW + 9)})) == "abc"


@pytest.mark.parametrize(
    "load",
    [
        Load(is_full=True),
        Load(free_at=NOW + 0.1),
        Load(windows=(QuotaWindow("5h", used=0.9, resets_at=NOW + 9000, length_s=18_000),)),
        Load(
            windows=(QuotaWindow("5h", used=0.1, resets_at=NOW + 9000, length_s=18_000), QuotaWindow("7d", used=0.95))
        ),
    ],
    ids=["slots", "pace", "reserve", "reserve of one window"],
)
def test_fill_first_passes_over_a_step_without_room(load: Load) -> None:
    assert order(Strategy.FILL_FIRST, options(4), Still(loads={"a": load, "c": load})) == "bdac"


@pytest.mark.parametrize(
    "load",
    [
        Load(in_flight=99),
        Load(free_at=NOW),
        Load(windows=(QuotaWindow("5h", used=0.85, resets_at=NOW + 9000, length_s=18_000),)),
        Load(windows=(QuotaWindow("5h", used=None),)),
        Load(windows=(QuotaWindow("5h", used=0.99, resets_at=NOW - 1, length_s=18_000),)),
    ],
    ids=["busy", "its turn", "above reserve", "unknown", "read before its reset"],
)
def test_fill_first_stays_while_there_is_room(load: Load) -> None:
    assert order(Strategy.FILL_FIRST, options(3), Still(loads={"a": load})) == "abc"


def test_fill_first_needs_one_account_with_room_that_may_serve() -> None:
    several = option("a", accounts=(account("a1"), account("a2")))
    leads = [several, option("b")]
    full = {"a1": Load(is_full=True)}
    assert order(Strategy.FILL_FIRST, leads, Still(loads=full)) == "ab"
    assert order(Strategy.FILL_FIRST, leads, Still(loads=full, rests={"a2": Rest("cooling", NOW + 60)})) == "ba"


def test_fill_first_looks_only_at_the_connection_of_a_step() -> None:
    several = option("a", accounts=(account("a1"), account("a2")))
    leads = [several, option("b")]
    pinned = Block(
        Strategy.FILL_FIRST, (Step("s0", option=several, connection_id="a1"), Step("s1", option=leads[1])), scope=COMBO
    )
    view = Still(loads={"a1": Load(is_full=True)})
    assert order_steps(pinned, leads, [0, 1], asked(view)).order == (1, 0)


def test_fill_first_spends_the_reserve_for_who_may_use_it() -> None:
    view = Still(loads={"a": Load(windows=(QuotaWindow("5h", used=0.95),))})
    assert order(Strategy.FILL_FIRST, options(2), view) == "ba"
    assert order(Strategy.FILL_FIRST, options(2), view, may_use_reserve=True) == "ab"


# --- least-used, cost-optimized, context-optimized -------------------------------------------------------------------


def test_least_used_counts_uses_then_what_runs_then_the_list() -> None:
    view = Still(
        uses={(COMBO, "s0"): 5, (COMBO, "s1"): 2, (COMBO, "s2"): 2, (COMBO, "s3"): 2},
        loads={"b": Load(in_flight=3), "c": Load(in_flight=1), "d": Load(in_flight=1)},
    )
    assert order(Strategy.LEAST_USED, options(4), view) == "cdba"


def test_cost_optimized_takes_the_cheapest_for_this_request() -> None:
    reader = option("a", rates=Rates(input=1.0, output=100.0))
    writer = option("b", rates=Rates(input=10.0, output=10.0))
    leads = [reader, writer]
    assert order(Strategy.COST_OPTIMIZED, leads, estimated_input=100_000, max_output=100) == "ab"
    assert order(Strategy.COST_OPTIMIZED, leads, estimated_input=1000, max_output=4000) == "ba"


def test_cost_optimized_puts_free_first_and_unknown_last_and_ties_by_the_list() -> None:
    leads = [priced("a", None), priced("b", 5), priced("c", 1), priced("d", 1), priced("e", 9, is_unmetered=True)]
    assert order(Strategy.COST_OPTIMIZED, leads, estimated_input=100) == "ecdba"


@given(st.lists(rates, min_size=2, max_size=6), st.data(), st.integers(0, 300_000), st.floats(0, 1e6), st.booleans())
def test_raising_one_price_never_moves_that_step_forward(
    given_rates: list[Rates | None], data: st.DataObject, tokens: int, more: float, is_input: bool
) -> None:
    leads = [option(chr(ord("a") + index), rates=one) for index, one in enumerate(given_rates)]
    which = data.draw(st.sampled_from(range(len(leads))))
    old = given_rates[which]
    if old is None:
        return
    assert old.input is not None
    assert old.output is not None
    dearer = replace(old, input=old.input + more) if is_input else replace(old, output=old.output + more)
    before = order(Strategy.COST_OPTIMIZED, leads, estimated_input=tokens)
    raised = [*leads[:which], replace(leads[which], rates=dearer), *leads[which + 1 :]]

    after = order(Strategy.COST_OPTIMIZED, raised, estimated_input=tokens)

    name = leads[which].name[0]
    assert after.index(name) >= before.index(name)


def test_context_optimized_puts_most_free_window_first() -> None:
    leads = [option("a", window=32_000), option("b", window=200_000), option("c"), option("d", window=200_000)]
    assert order(Strategy.CONTEXT_OPTIMIZED, leads, estimated_input=1000) == "bdca"


def test_context_optimized_counts_what_the_answer_may_take() -> None:
    leads = [option("a", window=100_000, max_output=64_000), option("b", window=99_000, max_output=1000)]
    assert order(Strategy.CONTEXT_OPTIMIZED, leads, estimated_input=1000) == "ba"
    assert order(Strategy.CONTEXT_OPTIMIZED, leads, estimated_input=1000, max_output=500) == "ab"


def test_context_optimized_asks_the_largest_when_all_are_too_small() -> None:
    leads = [option("a", window=8000, max_output=10), option("b", window=8100), option("c", window=9000)]
    assert order(Strategy.CONTEXT_OPTIMIZED, leads, estimated_input=50_000) == "cba"


@given(st.lists(st.integers(1000, 300_000), min_size=2, max_size=6), st.data(), st.integers(0, 400_000))
def test_enlarging_one_window_never_moves_that_step_back(windows: list[int], data: st.DataObject, tokens: int) -> None:
    leads = [option(chr(ord("a") + index), window=window) for index, window in enumerate(windows)]
    which = data.draw(st.sampled_from(range(len(leads))))
    larger = replace(leads[which], window=windows[which] + data.draw(st.integers(0, 300_000)))
    before = order(Strategy.CONTEXT_OPTIMIZED, leads, estimated_input=tokens)

    after = order(Strategy.CONTEXT_OPTIMIZED, [*leads[:which], larger, *leads[which + 1 :]], estimated_input=tokens)

    assert after.index(larger.name[0]) <= before.index(larger.name[0])


# --- lkgp ------------------------------------------------------------------------------------------------------------


def test_lkgp_leads_with_what_last_served_the_session_else_the_combo() -> None:
    view = Still(last_good={(COMBO, ""): "b/m", (COMBO, "me"): "c/m"})
    assert order(Strategy.LKGP, options(4), view, session="me") == "cabd"
    assert order(Strategy.LKGP, options(4), view, session="another") == "bacd"
    assert order(Strategy.LKGP, options(4), view) == "bacd"
    assert order(Strategy.LKGP, options(4)) == "abcd"


def test_lkgp_is_in_list_order_when_its_entry_may_not_serve() -> None:
    table = Table(block(Strategy.LKGP, options(4)), last_good={(COMBO, ""): "d/m", (COMBO, "me"): "c/m"})
    assert table.ask(session="me").is_sticky
    ordering = table.ask(session="me", without=[2])
    assert ordering.order == (0, 1, 3)
    assert not ordering.is_sticky


def test_lkgp_goes_by_the_combo_where_sessions_do_not_stick() -> None:
    leads = options(3)
    config = ComboConfig(disable_session_stickiness=True)
    view = Still(last_good={(COMBO, ""): "b/m", (COMBO, "me"): "c/m"})
    ordering = order_steps(block(Strategy.LKGP, leads, config=config), leads, [0, 1, 2], asked(view, session="me"))
    assert names(leads, ordering) == "bac"
    assert not ordering.is_sticky


def test_lkgp_finds_the_block_that_holds_what_last_served() -> None:
    inner = block(Strategy.PRIORITY, [option("x"), option("y")], scope="combo_2")
    outer = Block(Strategy.LKGP, (Step("s0", option=option("a")), Step("s1", block=inner)), scope=COMBO)
    view = Still(last_good={(COMBO, ""): "y/m"})
    assert order_steps(outer, [option("a"), option("x")], [0, 1], asked(view)).order == (1, 0)


@given(st.integers(1, 6), st.data())
def test_lkgp_leads_with_what_succeeded_while_it_may_serve(count: int, data: st.DataObject) -> None:
    leads = options(count)
    winner = data.draw(st.sampled_from(range(count)))
    others = data.draw(st.sets(st.integers(0, count - 1)))
    eligible = sorted(others | {winner})
    view = Still(last_good={(COMBO, "me"): leads[winner].name})

    ordering = order_steps(block(Strategy.LKGP, leads), leads, eligible, asked(view, session="me"))

    assert ordering.order[0] == winner
    assert ordering.is_sticky
