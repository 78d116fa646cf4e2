"""`auto`: factors, weights, who is let in, the order, and what moves the head of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from omniroute.records import ChannelTuning
from omniroute.routing.asked import AccountRules, Asked, Chance
from omniroute.routing.auto import (
    CHANNELS,
    MOST_EXPLAINED,
    Admitted,
    admit,
    channel_block,
    channel_weights,
    order_auto,
    score,
    tunings_for,
    weights_of,
)
from omniroute.routing.config import DEFAULTS, FACTORS, MODES
from omniroute.routing.options import Account, AuthClass, Block, Features, Option, Rates, Step, Strategy, Task
from omniroute.routing.view import Binding, Breaker, BreakerState, Figures, Load, QuotaWindow, Still

NOW = 10_000.0
ABLE = frozenset({"tools"})
OPEN = Breaker(BreakerState.OPEN, until=NOW + 60)


def account(name: str, provider: str = "p") -> Account:
    return Account(name, provider, AuthClass.API_KEY)


def option(name: str, /, **changes: Any) -> Option:
    provider, _, model = name.partition("/")
    plain = Option(
        name,
        provider,
        model,
        (account(f"{provider}-1", provider),),
        window=200_000,
        capabilities=ABLE,
        rates=Rates(1000.0, 2000.0),
        fitness=(0.5, 0.5, 0.5),
    )
    return replace(plain, **changes)


def asked(view: Still | None = None, /, *, seed: int = 1, rules: AccountRules | None = None, **features: Any) -> Asked:
    return Asked(Features(**features), view or Still(), NOW, Chance(seed), rules or AccountRules())


def block(options: Sequence[Option], channel: str = "auto", **config: Any) -> Block:
    config.setdefault("exploration_rate", 0.0)
    steps = tuple(Step(one.name, one, name=one.name) for one in options)
    return Block(Strategy.AUTO, steps, scope=channel, channel=channel, config=replace(DEFAULTS, **config))


def names(options: Sequence[Option], made: Block, question: Asked) -> list[str]:
    return [options[index].name for index in order_auto(made, options, range(len(options)), question).order]


def factors(one: Option, question: Asked, channel: str = "auto") -> Mapping[str, tuple[float, float, bool]]:
    return score(one, block([one], channel), question).factors


# --- factors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "changes", "figures", "features", "value", "is_known"),
    [
        ("latency", {}, Figures(), {"is_stream": True}, 0.5, False),
        ("latency", {}, Figures(ttft_p50=1500), {"is_stream": True}, 0.5, True),
        ("latency", {}, Figures(ttft_p50=500, total_p50=99), {"is_stream": True}, 0.75, True),
        ("latency", {}, Figures(total_p50=8000, ttft_p50=1), {}, 0.5, True),
        ("latency", {}, Figures(ttft_p50=500), {}, 0.5, False),
        ("cost", {"rates": None}, Figures(), {}, 0.3, False),
        ("cost", {"is_unmetered": True, "rates": None}, Figures(), {}, 1.0, True),
        ("cost", {}, Figures(), {"estimated_input": 8_400, "max_output": 800}, 0.5, True),
        ("success", {}, Figures(), {}, 0.8, False),
        ("success", {}, Figures(ok=0, total=15), {}, 0.2, True),
        ("context", {"window": None}, Figures(), {}, 0.5, False),
        ("context", {}, Figures(), {"estimated_input": 90_000, "max_output": 10_000}, 1.0, True),
        ("context", {}, Figures(), {"estimated_input": 150_000, "max_output": 0}, 0.5, True),
        ("context", {}, Figures(), {"estimated_input": 300_000}, 0.0, True),
        ("fitness", {"fitness": None}, Figures(), {}, 0.5, False),
        ("fitness", {"fitness": (0.1, 0.2, 0.3)}, Figures(), {"task": Task.CODING}, 0.2, True),
        ("fitness", {"fitness": (0.1, 0.2, 0.3)}, Figures(), {"task": Task.REASONING, "effort": "high"}, 0.32, True),
        ("fitness", {"fitness": (0.1, 0.2, 0.3), "effort": "low"}, Figures(), {"task": Task.REASONING}, 0.25, True),
        ("recent", {}, Figures(), {}, 1.0, True),
        ("recent", {}, Figures(failed_at=(NOW - 120,)), {}, 1 / 1.5, True),
        ("recent", {}, Figures(failed_at=(NOW - 240, NOW)), {}, 1 / 2.25, True),
        ("recent", {}, Figures(failed_at=(NOW - 601,)), {}, 1.0, True),
        ("quota", {}, Figures(), {}, 1.0, True),
        ("quota", {"is_unmetered": True, "tier": "local"}, Figures(), {}, 1.0, True),
        ("quota", {"is_unmetered": True, "tier": "subscription"}, Figures(), {}, 0.7, False),
        ("breaker", {}, Figures(), {}, 1.0, True),
    ],
)
def test_factors(
    factor: str, changes: dict[str, Any], figures: Figures, features: dict[str, Any], value: float, is_known: bool
) -> None:
    found = factors(option("p/m", **changes), asked(Still(figures={"p/m": figures}), **features))[factor]
    assert found[0] == pytest.approx(value)
    assert found[1:] == (CHANNELS["auto"].weights[factor], is_known)


@pytest.mark.parametrize(
    ("used", "value", "is_known"),
    [
        ([[0.5]], 1.0, True),
        ([[0.7]], 1.0, True),
        ([[0.85]], 0.5, True),
        ([[0.1, 0.97]], 0.1, True),  # the fullest window counts
        ([[0.97], [0.85]], 0.5, True),  # of the account that has most left
        ([[0.97], [None]], 0.7, False),
        ([[1.2]], 0.0, True),
        ([[None]], 0.7, False),
        ([[]], 0.7, False),
    ],
)
def test_quota_is_what_the_best_account_has_left(used: list[list[float | None]], value: float, is_known: bool) -> None:
    accounts = tuple(account(f"a{number}") for number in range(len(used)))
    loads = {
        f"a{number}": Load(windows=tuple(QuotaWindow(f"w{place}", one) for place, one in enumerate(windows)))
        for number, windows in enumerate(used)
    }
    one = option("p/m", accounts=accounts, is_unmetered=True, tier="subscription")
    found = factors(one, asked(Still(loads=loads)))["quota"]
    assert found[0] == pytest.approx(value)
    assert found[1:] == (0.10, is_known)


@pytest.mark.parametrize(
    ("breaker", "value"),
    [
        (Breaker(), 1.0),
        (Breaker(is_degraded=True), 0.6),
        (Breaker(BreakerState.HALF_OPEN), 0.3),
        (Breaker(BreakerState.OPEN, until=NOW - 1), 0.3),
    ],
)
def test_the_breaker_counts(breaker: Breaker, value: float) -> None:
    assert factors(option("p/m"), asked(Still(breakers={"p": breaker})))["breaker"][0] == value


def test_the_score_is_the_weighted_sum() -> None:
    found = score(option("p/m"), block([option("p/m")]), asked(is_stream=True, estimated_input=8_400, max_output=800))
    by_hand = 0.2 * 0.5 + 0.2 * 0.5 + 0.2 * 0.8 + 0.08 * 1 + 0.1 * 0.5 + 0.07 + 0.1 + 0.05
    assert found.score == pytest.approx(by_hand)
    assert found.target == "p/m"


# --- weights ---------------------------------------------------------------------------------------------------------


def test_there_are_the_seven_channels() -> None:
    words = ("coding", "cheap", "fast", "offline", "smart", "lkgp")
    assert tuple(CHANNELS) == ("auto", *(f"auto/{word}" for word in words))
    for channel in CHANNELS.values():
        assert tuple(channel.weights) == FACTORS
        assert sum(channel.weights.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("mode", "heaviest", "weight"),
    [
        ("fast", "latency", 0.60),
        ("cheap", "cost", 0.60),
        ("quality", "fitness", 0.55),
        ("balanced", "latency", 0.20),
        ("default", "latency", 0.20),
        ("reliable", "success", 0.40),
        ("offline", "latency", 0.30),
    ],
)
def test_a_mode_takes_the_place_of_the_weights(mode: str, heaviest: str, weight: float) -> None:
    made = block([], "auto/smart", weights={"cost": 5.0})
    weights = dict(zip(FACTORS, weights_of(made, Features(mode=mode)), strict=True))
    assert mode in MODES
    assert weights[heaviest] == weight == max(weights.values())
    assert sum(weights.values()) == pytest.approx(1.0)
    assert channel_weights("auto", mode=mode) == weights
    assert weights_of(block([], mode_pack=mode), Features()) == tuple(weights.values())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"latency": 0.2, "cost": 0.2}),
        ({"latency": 1.2}, {"latency": 1.2 / 2, "cost": 0.2 / 2}),  # the others keep theirs
        ({"latency": -3.0}, {"latency": 0.0, "cost": 0.2 / 0.8}),
        (dict.fromkeys(FACTORS, 0.0), {"latency": 0.2, "cost": 0.2}),
        ({**dict.fromkeys(FACTORS, 0.0), "cost": 7}, {"latency": 0.0, "cost": 1.0}),
        ({"charm": 5.0}, {"latency": 0.2, "cost": 0.2}),
    ],
)
def test_an_operators_weights_are_clamped_and_scaled(given: dict[str, float], expected: dict[str, float]) -> None:
    weights = channel_weights("auto", [ChannelTuning("auto", weights=given)])
    assert sum(weights.values()) == pytest.approx(1.0)
    assert {name: weights[name] for name in expected} == pytest.approx(expected)
    of_combo = dict(zip(FACTORS, weights_of(block([], weights=given), Features()), strict=True))
    assert {name: of_combo[name] for name in expected} == pytest.approx(expected)


def test_a_keys_tuning_comes_on_top_of_the_general_one() -> None:
    general = ChannelTuning("auto", weights={"cost": 0.0}, exploration=0.3, excluded_providers=("a",))
    own = ChannelTuning("auto", "key-1", weights={"latency": 0.0}, excluded_models=("b/x",))
    others = [ChannelTuning("auto/fast", weights={"quota": 9.0}), ChannelTuning("auto", "key-2", exploration=0.0)]
    options = [option("a/m"), option("b/x"), option("b/y")]

    tunings = tunings_for("auto", "key-1", [own, *others, general])
    made = channel_block("auto", options, tunings)

    assert tunings == (general, own)
    assert [step.problem for step in made.steps] == ["channel_excluded", "channel_excluded", None]
    assert made.config.exploration_rate == 0.3
    weights = dict(zip(FACTORS, weights_of(made, Features()), strict=True))
    assert weights["cost"] == weights["latency"] == 0
    assert weights["success"] == pytest.approx(0.2 / 0.6)


@pytest.mark.parametrize(
    ("tuning", "is_out"),
    [
        (ChannelTuning("auto", excluded_providers=("openrouter",)), True),
        (ChannelTuning("auto", excluded_providers=("or",)), True),
        (ChannelTuning("auto", excluded_models=("or/anthropic/claude-x",)), True),
        (ChannelTuning("auto", excluded_models=("anthropic/claude-x",)), True),
        (ChannelTuning("auto", excluded_families=("Claude",)), True),
        (ChannelTuning("auto", excluded_families=("gpt",), excluded_providers=("anthropic",)), False),
    ],
)
def test_providers_models_and_families_can_be_excluded(tuning: ChannelTuning, is_out: bool) -> None:
    one = replace(option("or/anthropic/claude-x"), provider="openrouter")
    (step,) = channel_block("auto", [one], [tuning]).steps
    assert (step.problem == "channel_excluded") is is_out


# --- the order -------------------------------------------------------------------------------------------------------


def test_the_best_score_leads_and_ties_go_by_cost_provider_and_model() -> None:
    options = [
        option("b/z"),
        option("b/a"),
        option("a/z"),
        option("c/better", fitness=(0.9, 0.9, 0.9)),
        option("a/cheap", rates=Rates(1000.0, 1000.0)),
        option("a/dear", rates=Rates(1000.0, 3000.0)),
    ]
    no_cost = {**dict.fromkeys(FACTORS, 0.0), "fitness": 1.0}
    assert names(options, block(options, weights=no_cost), asked()) == [
        "c/better",
        "a/cheap",
        "a/z",
        "b/a",
        "b/z",
        "a/dear",
    ]


def test_only_who_is_eligible_is_ordered() -> None:
    options = [option(f"p{number}/m") for number in range(6)]
    ordering = order_auto(block(options), options, [1, 4, 5], asked())
    assert sorted(ordering.order) == [1, 4, 5]
    assert {one.target for one in ordering.scores} == {"p1/m", "p4/m", "p5/m"}


def test_the_leaders_are_explained_and_the_rest_is_scored() -> None:
    options = [option(f"p{number:03}/m") for number in range(MOST_EXPLAINED + 6)]
    ordering = order_auto(block(options), options, range(len(options)), asked())
    assert [options[index].name for index in ordering.order] == [one.target for one in ordering.scores]
    assert [bool(one.factors) for one in ordering.scores] == [True] * MOST_EXPLAINED + [False] * 6
    assert list(ordering.scores[0].factors) == list(FACTORS)


def test_cheap_puts_unknown_prices_behind_all_known_ones() -> None:
    options = [option("a/unknown", rates=None), option("b/dear", rates=Rates(900_000.0, 900_000.0))]
    question = asked(estimated_input=50_000)
    assert names(options, block(options, "auto/cheap"), question) == ["b/dear", "a/unknown"]
    assert names(options, block(options, "auto"), question) == ["a/unknown", "b/dear"]


@pytest.mark.parametrize(
    ("channel", "task", "head"),
    [
        ("auto", Task.GENERAL, "a/general"),
        ("auto", Task.CODING, "b/coder"),
        ("auto/coding", Task.GENERAL, "b/coder"),
        ("auto/smart", Task.CODING, "c/thinker"),
    ],
)
def test_the_channel_says_which_task_counts_or_else_the_request(channel: str, task: Task, head: str) -> None:
    options = [
        option("a/general", fitness=(0.9, 0.1, 0.1)),
        option("b/coder", fitness=(0.1, 0.9, 0.1)),
        option("c/thinker", fitness=(0.1, 0.1, 0.9)),
    ]
    assert names(options, block(options, channel), asked(task=task))[0] == head


def test_fast_goes_by_latency_alone_when_all_else_is_equal() -> None:
    options = [option("a/slow"), option("b/fast", rates=Rates(90_000.0, 90_000.0))]
    view = Still(figures={"a/slow": Figures(ttft_p50=2000), "b/fast": Figures(ttft_p50=300)})
    question = asked(view, is_stream=True, estimated_input=100_000)
    assert names(options, block(options, "auto/fast"), question)[0] == "b/fast"
    assert names(options, block(options, "auto/cheap"), question)[0] == "a/slow"


# --- sessions --------------------------------------------------------------------------------------------------------

NEAR = [option("a/best", fitness=(0.9, 0.9, 0.9)), option("b/near", fitness=(0.6, 0.6, 0.6)), option("c/x")]
"""At a weight of 0.1 for fitness, 0.03 of score lie between the first two."""


def bound(target: str | None, **changes: Any) -> Still:
    return Still(bindings={("s", ""): Binding("conn", target)}, **changes)


def test_a_session_keeps_its_target_within_the_margin() -> None:
    ordering = order_auto(block(NEAR), NEAR, range(3), asked(bound("b/near"), session="s", is_explicit_session=True))
    assert ordering.order == (1, 0, 2)
    assert ordering.is_sticky
    assert [one.target for one in ordering.scores] == ["b/near", "a/best", "c/x"]


@pytest.mark.parametrize(
    ("view", "features", "config", "rules"),
    [
        (bound("b/near"), {}, {}, AccountRules()),  # no session
        (bound("b/near"), {"session": "other"}, {}, AccountRules()),
        (bound("b/near"), {"session": "s"}, {"disable_session_stickiness": True}, AccountRules()),
        (bound("b/near"), {"session": "s"}, {}, AccountRules(switch_margin=0.02)),
        (bound("gone/m"), {"session": "s"}, {}, AccountRules()),
        (bound(None), {"session": "s"}, {}, AccountRules()),
        (bound("b/near"), {"session": "s", "is_explicit_session": False}, {}, AccountRules()),  # no prompt cache there
    ],
)
def test_what_does_not_hold_a_session(
    view: Still, features: dict[str, Any], config: dict[str, Any], rules: AccountRules
) -> None:
    features = {"is_explicit_session": True, **features}
    ordering = order_auto(block(NEAR, **config), NEAR, range(3), asked(view, rules=rules, **features))
    assert ordering.order == (0, 1, 2)
    assert not ordering.is_sticky


def test_a_derived_session_is_held_where_prompts_are_cached() -> None:
    options = [NEAR[0], replace(NEAR[1], has_prompt_cache=True), NEAR[2]]
    ordering = order_auto(block(options), options, range(3), asked(bound("b/near"), session="s"))
    assert ordering.order[0] == 1


def test_where_a_session_was_served_last_holds_it_too() -> None:
    view = Still(last_good={("auto", "s"): "b/near"})
    ordering = order_auto(block(NEAR), NEAR, range(3), asked(view, session="s", is_explicit_session=True))
    assert ordering.order[0] == 1


@pytest.mark.parametrize(
    ("served", "features", "head", "is_sticky"),
    [
        ({("auto/lkgp", "s"): "c/x", ("auto/lkgp", "key:k"): "b/near"}, {"session": "s"}, "c/x", True),
        ({("auto/lkgp", "key:k"): "b/near"}, {"session": "s"}, "b/near", True),
        ({("auto/lkgp", "key:k"): "b/near"}, {}, "b/near", True),
        ({("auto/lkgp", "key:other"): "b/near"}, {}, "a/best", False),
        ({("auto/lkgp", "s"): "gone/m"}, {"session": "s"}, "a/best", False),
        ({}, {}, "a/best", False),
    ],
)
def test_the_last_known_good_leads(
    served: dict[tuple[str, str], str], features: dict[str, Any], head: str, is_sticky: bool
) -> None:
    ordering = order_auto(
        block(NEAR, "auto/lkgp"), NEAR, range(3), asked(Still(last_good=served), key_id="k", **features)
    )
    assert NEAR[ordering.order[0]].name == head
    assert ordering.is_sticky is is_sticky


# --- exploration -----------------------------------------------------------------------------------------------------

FEW = [option(f"p{number}/m", fitness=(1 - number / 20,) * 3) for number in range(8)]


def heads(options: Sequence[Option], rounds: int, made: Block, **features: Any) -> Counter[str]:
    return Counter(names(options, made, asked(seed=seed, **features))[0] for seed in range(rounds))


def test_now_and_then_one_of_the_next_four_leads() -> None:
    counted = heads(FEW, 4000, block(FEW, exploration_rate=0.2))
    assert set(counted) == {f"p{number}/m" for number in range(5)}
    assert 0.78 < counted["p0/m"] / 4000 < 0.82
    assert all(0.04 < counted[f"p{number}/m"] / 4000 < 0.06 for number in range(1, 5)), counted


def test_the_head_changes_places_and_nobody_else_moves() -> None:
    made = block(FEW, exploration_rate=1.0)
    for seed in range(50):
        order = order_auto(made, FEW, range(8), asked(seed=seed)).order
        place = order.index(0)
        assert 1 <= place <= 4
        assert [one for one in order if one not in (0, order[0])] == [n for n in range(8) if n not in (0, order[0])]
        assert order[0] == place


def test_what_is_much_worse_is_not_explored() -> None:
    options = [
        option("a/m", fitness=(1.0, 1.0, 1.0)),
        option("b/m", fitness=(0.5, 0.5, 0.5)),
        option("c/m", fitness=(0,) * 3),
    ]
    only_fitness = {**dict.fromkeys(FACTORS, 0.0), "fitness": 0.5, "success": 0.5}
    counted = heads(options, 100, block(options, exploration_rate=1.0, weights=only_fitness))
    assert counted == {"b/m": 100}, "0.25 of score away, and no more"


def test_nothing_dearer_is_explored_under_a_budget() -> None:
    options = [FEW[0], replace(FEW[1], rates=Rates(5000.0, 5000.0)), replace(FEW[2], rates=Rates(500.0, 500.0))]
    options[1] = replace(options[1], fitness=(0.99,) * 3)
    made = block(options, exploration_rate=1.0, weights={**dict.fromkeys(FACTORS, 0.0), "fitness": 1.0})
    assert set(heads(options, 60, made)) == {"p1/m", "p2/m"}
    assert set(heads(options, 60, made, budget_nano=10**9)) == {"p2/m"}


def test_a_bound_session_is_not_explored_with() -> None:
    made = block(FEW, exploration_rate=1.0)
    for target in ("p0/m", "gone/m"):
        ordering = order_auto(made, FEW, range(8), asked(bound(target), session="s", is_explicit_session=True))
        assert ordering.order == tuple(range(8))


@pytest.mark.parametrize(
    ("channel", "rate"), [("auto", 0.05), ("auto/smart", 0.10), ("auto/fast", 0.0), ("auto/lkgp", 0)]
)
def test_channels_explore_as_often_as_they_say(channel: str, rate: float) -> None:
    assert CHANNELS[channel].exploration == rate
    made = channel_block(channel, FEW)
    counted = heads(FEW, 3000, made)
    assert 1 - counted["p0/m"] / 3000 == pytest.approx(rate, abs=0.015)


def test_no_chance_is_drawn_where_none_is_needed() -> None:
    class Forbidden(Chance):
        @property
        def rng(self) -> Any:
            raise AssertionError("seeding is not cheap")

    question = structs.replace(asked(), chance=Forbidden(1))
    assert order_auto(block(FEW), FEW, range(8), question).order == tuple(range(8))


# --- who is let in ---------------------------------------------------------------------------------------------------


def admitted(options: Sequence[Option], question: Asked, channel: str = "auto", **config: Any) -> tuple[Any, Any]:
    found = admit(block(options, channel, **config), options, range(len(options)), question)
    return [options[index].name for index in found.kept], {one.target: one.reason for one in found.exclusions}


LOCAL = option("l/m", tier="local", is_loopback=True)
PLACES = [LOCAL, option("far/m", tier="local"), option("odd/m", is_loopback=True), option("cloud/m")]
NOT_LOCAL = dict.fromkeys(("far/m", "odd/m", "cloud/m"), "not_local")


def test_offline_never_leaves_the_machine() -> None:
    assert admitted(PLACES, asked(), "auto/offline") == (["l/m"], NOT_LOCAL)
    assert admitted(PLACES, asked(mode="offline")) == (["l/m"], NOT_LOCAL)
    assert admitted(PLACES, asked(), mode_pack="offline") == (["l/m"], NOT_LOCAL)
    assert admitted(PLACES[1:], asked(), "auto/offline") == ([], NOT_LOCAL), "an empty pool, never a remote target"
    assert admitted(PLACES, asked(mode="fast"), "auto/offline") == (["l/m"], NOT_LOCAL), "a mode lifts no demand"
    assert admitted(PLACES, asked())[1] == {}


def test_coding_needs_tools_and_room() -> None:
    options = [
        option("a/m"),
        option("dumb/m", capabilities=frozenset({"vision"})),
        option("unknown/m", capabilities=None),
        option("small/m", window=32_000),
        option("assumed/m", window=None),
    ]
    kept, left_out = admitted(options, asked(), "auto/coding")
    assert kept == ["a/m", "unknown/m", "assumed/m"]
    assert left_out == {"dumb/m": "capability:tools", "small/m": "context_too_small"}
    assert admitted(options[3:4], asked(), "auto/coding") == (["small/m"], {}), "unless none has room"
    assert admitted(options, asked(), "auto")[1] == {}


def figures_view(found: Mapping[str, Figures], **changes: Any) -> Still:
    return Still(figures=found, **changes)


def test_a_bad_score_leaves_out_until_its_time() -> None:
    options = [option("a/m"), option("b/m")]
    view = figures_view({"a/m": Figures(low_score_until=NOW + 300, low_score_trips=1)})
    found = admit(block(options), options, [0, 1], asked(view))
    assert found.kept == (1,)
    assert [(one.target, one.reason, one.until) for one in found.exclusions] == [("a/m", "low_score", NOW + 300)]
    assert admitted(options[:1], asked(view)) == (["a/m"], {}), "nobody else is left"


def test_who_comes_back_is_on_trial_if_the_score_is_good_enough() -> None:
    options = [option("a/m"), option("b/m")]
    back = figures_view({"a/m": Figures(needs_probe=True, low_score_trips=1)})
    found = admit(block(options), options, [0, 1], asked(back))
    assert found == Admitted((0, 1), on_trial=frozenset({0}))

    only_success = {**dict.fromkeys(FACTORS, 0.0), "success": 1.0}
    still_bad = figures_view({"a/m": Figures(ok=0, total=10, needs_probe=True)})
    found = admit(block(options, weights=only_success), options, [0, 1], asked(still_bad))
    assert found.kept == (1,), "4 of 15 is below 0.30"
    assert [one.reason for one in found.exclusions] == ["low_score"]


# --- incidents -------------------------------------------------------------------------------------------------------


def test_in_an_incident_only_health_counts() -> None:
    options = [
        option("a/m"),
        option("b/m"),
        option("c/m"),
        option("d/fit", fitness=(1.0, 1.0, 1.0), is_unmetered=True),
        option("e/well"),
    ]
    figures = {"d/fit": Figures(ok=9, total=10, low_score_until=NOW + 9), "e/well": Figures(ok=10, total=10)}
    calm = figures_view(figures, breakers={"a": OPEN, "b": OPEN})
    crisis = figures_view(figures, breakers={"a": OPEN, "b": OPEN, "c": OPEN})
    made = block(options, exploration_rate=1.0)

    assert admit(made, options, [3, 4], asked(calm)).kept == (4,)
    assert admit(made, options, [3, 4], asked(crisis)).kept == (3, 4), "low scores are lifted"

    ordering = order_auto(made, options, [3, 4], asked(crisis))
    assert ordering.order == (4, 3), "and nothing is explored"
    weights = {name: weight for name, (_, weight, _) in ordering.scores[0].factors.items() if weight}
    assert weights == {"success": pytest.approx(1 / 3), "recent": pytest.approx(1 / 3), "breaker": pytest.approx(1 / 3)}
    assert order_auto(block(options), options, [3, 4], asked(calm)).order == (3, 4)


def test_half_of_the_providers_is_no_incident() -> None:
    options = [option("a/m"), option("a/n"), option("a/o"), option("b/m", is_unmetered=True)]
    view = Still(breakers={"a": OPEN})
    assert order_auto(block(options), options, [3], asked(view)).scores[0].factors["cost"][1] == 0.2
    expired = Still(breakers={"a": structs.replace(OPEN, until=NOW - 1), "b": structs.replace(OPEN, until=NOW - 1)})
    assert order_auto(block(options), options, [0], asked(expired)).scores[0].factors["cost"][1] == 0.2
