"""Plans: who is left out and why, nested blocks, what the estimate may and may not decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from omniroute.routing.asked import Asked, Chance
from omniroute.routing.config import DEFAULTS, ComboConfig
from omniroute.routing.options import Account, AuthClass, Block, Features, Option, Step, Strategy
from omniroute.routing.plan import Plan, Probe, Reason
from omniroute.routing.planning import plan
from omniroute.routing.prepared import EXPANDED
from omniroute.routing.view import Breaker, BreakerState, Load, Rest, Still

NOW = 10_000.0


def option(name: str, *accounts: str, **facts: Any) -> Option:
    provider, _, model = name.partition("/")
    made = tuple(
        Account(one, provider, AuthClass.API_KEY, priority=i + 1, rest_scope=f"connection:{one}")
        for i, one in enumerate(accounts or (f"{provider}-1",))
    )
    return Option(name, provider, model, made, **facts)


def block(*parts: Option | Block | Step, strategy: Strategy = Strategy.PRIORITY, **facts: Any) -> Block:
    steps = []
    for i, part in enumerate(parts):
        match part:
            case Option():
                steps.append(Step(f"s{i}", option=part, name=part.name))
            case Block():
                steps.append(Step(f"s{i}", block=part, name=part.name))
            case Step():
                steps.append(part)
    return Block(strategy, tuple(steps), **{"scope": "cmb", **facts})


def asked(view: Still | None = None, *, seed: int = 1, **features: Any) -> Asked:
    return Asked(Features(**features), view or Still(), NOW, Chance(seed))


def names(made: Plan) -> list[str]:
    return [entry.option.name for entry in made.entries]


def reasons(made: Plan) -> list[tuple[str, str, str | None]]:
    return [(one.target, str(one.reason), one.connection_id) for one in made.exclusions]


def test_one_model_with_its_accounts_in_order() -> None:
    made = plan(block(option("p/m", "a", "b"), scope=""), asked())
    (entry,) = made.entries
    assert [seat.account.id for seat in entry.seats] == ["a", "b"]
    assert entry.waits_when_paced
    assert not made.exclusions


@pytest.mark.parametrize(
    ("rest", "is_out", "probes"),
    [
        (Rest(Reason.COOLING, NOW + 5, kind="rate"), True, 0),
        (Rest(Reason.CREDENTIAL_DEAD, None), True, 0),
        (Rest(Reason.NO_CREDIT, NOW + 3600), True, 0),
        (Rest(Reason.COOLING, NOW - 1, needs_probe=True), False, 1),
        (Rest(Reason.COOLING, NOW - 1), False, 0),
        (Rest(Reason.COOLING, NOW + 900, needs_probe=True), False, 1),
    ],
)
def test_a_resting_account_is_left_out_until_it_may_be_tried(rest: Rest, is_out: bool, probes: int) -> None:
    made = plan(block(option("p/m", "a", "b"), scope=""), asked(Still(rests={"a": rest})))
    (entry,) = made.entries
    assert [seat.account.id for seat in entry.seats] == (["b"] if is_out else ["a", "b"])
    if is_out:
        assert reasons(made) == [("p/m", str(rest.reason), "a")]
        assert made.exclusions[0].until == rest.until
    else:
        assert len(entry.seats[0].probes) == probes


def test_a_lockout_holds_for_one_model_only() -> None:
    view = Still(lockouts={("p-1", "m"): Rest(Reason.LOCKED_OUT, NOW + 60, kind="model_missing")})
    made = plan(block(option("p/m"), option("p/n")), asked(view))
    assert names(made) == ["p/n"]
    assert reasons(made) == [("p/m", "locked_out", "p-1")]
    over = Still(lockouts={("p-1", "m"): Rest(Reason.LOCKED_OUT, NOW - 1, needs_probe=True)})
    assert plan(block(option("p/m"), option("p/n")), asked(over)).entries[0].seats[0].probes == (Probe("model:p-1|m"),)


def test_an_open_breaker_leaves_out_a_provider_and_a_half_open_one_asks_for_a_probe() -> None:
    pool = block(option("p/m", "a", "b"), option("q/m"))
    closed = plan(pool, asked(Still(breakers={"p": Breaker(BreakerState.OPEN, until=NOW + 9)})))
    assert names(closed) == ["q/m"]
    assert {reason for _, reason, _ in reasons(closed)} == {"breaker_open"}
    for breaker in (Breaker(BreakerState.OPEN, until=NOW), Breaker(BreakerState.HALF_OPEN)):
        half = plan(pool, asked(Still(breakers={"p": breaker})))
        assert names(half) == ["p/m", "q/m"]
        assert half.entries[0].seats[0].probes == (Probe("provider:p"),)


def test_what_a_key_may_not_use_is_skipped() -> None:
    made = plan(
        block(option("p/m", "a", "b"), option("q/m")),
        structs.replace(asked(), permits=lambda one, account: account.id not in {"a", "q-1"}),
    )
    assert [seat.account.id for entry in made.entries for seat in entry.seats] == ["b"]
    assert set(reasons(made)) == {("p/m", "key_policy", "a"), ("q/m", "key_policy", "q-1")}


def test_a_pinned_connection_is_the_only_one() -> None:
    made = plan(block(option("p/m", "a", "b"), option("q/m")), asked(connection_id="b"))
    assert [(e.option.name, [s.account.id for s in e.seats]) for e in made.entries] == [("p/m", ["b"])]
    assert {reason for _, reason, _ in reasons(made)} == {"feature_pinned"}
    step = Step("s0", option=option("p/m", "a", "b"), connection_id="b", name="p/m")
    assert [seat.account.id for seat in plan(block(step), asked()).entries[0].seats] == ["b"]


def test_dead_steps_are_exclusions_and_no_errors() -> None:
    made = plan(block(Step("s0", name="gone/m", problem="inactive"), option("q/m")), asked())
    assert names(made) == ["q/m"]
    assert reasons(made) == [("gone/m", "inactive", None)]
    assert plan(block(Step("s0", name="gone/m", problem="inactive")), asked()).entries == ()


# --- what a request needs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "features", "reason"),
    [
        ({"capabilities": frozenset({"tools"})}, {"needs": frozenset({"vision"})}, "capability:vision"),
        ({"capabilities": frozenset({"vision"})}, {"needs": frozenset({"vision"})}, None),
        ({}, {"needs": frozenset({"vision"})}, None),
        ({"window": 8000}, {"estimated_input": 7000, "max_output": 2000}, "context_too_small"),
        ({"window": 8000}, {"estimated_input": 3000}, None),
        ({}, {"estimated_input": 130_000}, "context_too_small"),
        ({"max_output": 4096}, {"max_output": 8000}, "output_too_small"),
    ],
)
def test_a_step_that_cannot_serve_the_request_is_left_out(
    facts: dict[str, Any], features: dict[str, Any], reason: str | None
) -> None:
    made = plan(block(option("p/m", **facts), option("q/m", window=1_000_000)), asked(**features))
    assert reasons(made) == ([] if reason is None else [("p/m", reason, None)])
    assert names(made) == (["p/m", "q/m"] if reason is None else ["q/m"])


def test_who_names_one_model_gets_it_whatever_the_catalogue_says() -> None:
    alone = block(option("p/m", window=100, capabilities=frozenset()), scope="")
    made = plan(alone, asked(estimated_input=10_000, needs=frozenset({"vision"})))
    assert names(made) == ["p/m"]
    assert not made.exclusions


def test_where_all_windows_seem_too_small_the_largest_is_asked() -> None:
    made = plan(block(option("p/m", window=1000), option("q/m", window=3000)), asked(estimated_input=9000))
    assert names(made) == ["q/m"]
    assert reasons(made) == [("p/m", "context_too_small", None)]
    assert made.warnings == ("context_estimate_exceeds_window",)


def test_limits_of_a_combo() -> None:
    pool = block(option("p/gpt-5"), option("q/claude-x"), option("r/gpt-4", window=9000))
    assert names(plan(replace(pool, allowed_providers=("q", "r")), asked())) == ["q/claude-x", "r/gpt-4"]
    assert names(plan(replace(pool, allowed_families=("gpt",)), asked())) == ["p/gpt-5", "r/gpt-4"]
    config = ComboConfig(context_requirements={"minContextWindow": 100_000})
    assert names(plan(replace(pool, config=config), asked())) == ["p/gpt-5", "q/claude-x"]


# --- nesting ---------------------------------------------------------------------------------------------------------


def test_a_block_inside_keeps_its_place_and_its_own_order() -> None:
    cheap = option("b/cheap", is_unmetered=True)
    inner = block(option("a/dear"), cheap, strategy=Strategy.COST_OPTIMIZED, scope="inner")
    made = plan(block(option("x/m"), inner, option("y/m")), asked())
    assert names(made) == ["x/m", "b/cheap", "a/dear", "y/m"]
    assert [entry.scope for entry in made.entries] == ["cmb", "inner", "inner", "cmb"]
    sick = plan(block(option("x/m"), inner, option("y/m")), asked(Still(rests={"b-1": Rest(Reason.COOLING, NOW + 5)})))
    assert names(sick) == ["x/m", "a/dear", "y/m"]


def test_an_inner_block_that_has_nobody_is_no_place() -> None:
    inner = block(option("a/m"), scope="inner")
    made = plan(block(inner, option("y/m")), asked(Still(rests={"a-1": Rest(Reason.COOLING, NOW + 5)})))
    assert names(made) == ["y/m"]
    assert reasons(made) == [("a/m", "cooling", "a-1")]


def test_only_the_leaders_are_expanded() -> None:
    pool = block(*(option(f"p{i}/m", *(f"p{i}-{k}" for k in range(5))) for i in range(EXPANDED + 4)))
    made = plan(pool, asked())
    assert [len(entry.seats) for entry in made.entries] == [5] * EXPANDED + [1] * 4


# --- for every strategy ----------------------------------------------------------------------------------------------

_SEEDED = [strategy for strategy in Strategy if strategy is not Strategy.AUTO]


@given(
    strategy=st.sampled_from(_SEEDED),
    sick=st.sets(st.integers(0, 7)),
    count=st.integers(1, 8),
    seed=st.integers(0, 2**64 - 1),
    session=st.sampled_from([None, "ses"]),
)
def test_a_plan_holds_every_eligible_target_once_and_is_the_same_each_time(
    strategy: Strategy, sick: set[int], count: int, seed: int, session: str | None
) -> None:
    options = [option(f"p{i}/m", f"a{i}", f"b{i}", window=100_000 * (i + 1)) for i in range(count)]
    rests = {account: Rest(Reason.COOLING, NOW + 60) for i in sick if i < count for account in (f"a{i}", f"b{i}")}
    view = Still(rests=rests, loads={"a0": Load(in_flight=3, last_used_at=NOW - 1)})
    pool = block(*options, strategy=strategy)
    question = asked(view, seed=seed, session=session, is_explicit_session=True)
    made = plan(pool, question)
    assert sorted(names(made)) == sorted(f"p{i}/m" for i in range(count) if i not in sick)
    again = plan(pool, asked(view, seed=seed, session=session, is_explicit_session=True))
    assert again == made
    assert all(_is_permutation(entry.seats) for entry in made.entries)


def _is_permutation(seats: Sequence[Any]) -> bool:
    return len({seat.account.id for seat in seats}) == len(seats) == 2


def test_never_a_resting_leg_while_a_healthy_one_is_there() -> None:
    pool = block(option("p/m", "a", "b"), option("q/m"))
    view = Still(rests={"a": Rest(Reason.COOLING, NOW + 1), "q-1": Rest(Reason.QUOTA_EXHAUSTED, NOW + 1)})
    made = plan(pool, asked(view))
    assert [seat.account.id for entry in made.entries for seat in entry.seats] == ["b"]


def test_the_settings_of_the_inner_block_go_with_its_entries() -> None:
    inner = block(option("a/m"), scope="inner", config=replace(DEFAULTS, queue_timeout_ms=7))
    made = plan(block(inner, option("y/m")), asked())
    assert [entry.config.queue_timeout_ms for entry in made.entries] == [7, DEFAULTS.queue_timeout_ms]
