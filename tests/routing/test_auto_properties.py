"""What holds for every pool, every view and every request under `auto`."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from omniroute.routing.asked import Asked, Chance
from omniroute.routing.auto import CHANNELS, channel_block, channel_weights, order_auto, score, weights_of
from omniroute.routing.config import FACTORS, MODES
from omniroute.routing.options import Account, AuthClass, Block, Features, Option, Rates, Task
from omniroute.routing.view import Breaker, BreakerState, Figures, Load, QuotaWindow, Still

NOW = 10_000.0

fractions = st.floats(0, 1)
scores = st.tuples(fractions, fractions, fractions)
rates = st.none() | st.builds(Rates, st.floats(0, 1e6), st.floats(0, 1e6))
times = st.none() | st.floats(1, 1e6)


@st.composite
def figures(draw: st.DrawFn) -> Figures:
    total = draw(st.integers(0, 200))
    return Figures(
        ok=draw(st.integers(0, total)),
        total=total,
        failed_at=tuple(sorted(draw(st.lists(st.floats(NOW - 700, NOW + 5), max_size=5)))),
        ttft_p50=draw(times),
        total_p50=draw(times),
        output_mean=draw(times),
    )


@st.composite
def options(draw: st.DrawFn, least: int = 1, most: int = 12) -> list[Option]:
    made = []
    for number in range(draw(st.integers(least, most))):
        provider = draw(st.sampled_from("abcd"))
        made.append(
            Option(
                f"{provider}/m{number}",
                provider,
                f"m{number}",
                (Account(f"{provider}-1", provider, AuthClass.API_KEY),),
                tier=draw(st.sampled_from(["subscription", "api_key", "free", "local"])),
                window=draw(st.none() | st.integers(1000, 10**6)),
                max_output=draw(st.none() | st.integers(1, 10**5)),
                rates=draw(rates),
                is_unmetered=draw(st.booleans()),
                fitness=draw(st.none() | scores),
                effort=draw(st.sampled_from([None, "low", "high", "max"])),
            )
        )
    return made


@st.composite
def views(draw: st.DrawFn, of: list[Option]) -> Still:
    used = st.none() | st.floats(0, 1.5)
    return Still(
        figures={one.name: draw(figures()) for one in of if draw(st.booleans())},
        breakers={
            provider: Breaker(
                draw(st.sampled_from([BreakerState.CLOSED, BreakerState.HALF_OPEN])), is_degraded=draw(st.booleans())
            )
            for provider in "abcd"
        },
        loads={f"{provider}-1": Load(windows=(QuotaWindow("w", draw(used)),)) for provider in "abcd"},
    )


features = st.builds(
    Features,
    is_stream=st.booleans(),
    estimated_input=st.integers(0, 10**6),
    max_output=st.none() | st.integers(0, 10**6),
    task=st.sampled_from(list(Task)),
    effort=st.sampled_from([None, "low", "medium", "xhigh"]),
    mode=st.sampled_from(["", *MODES]),
    budget_nano=st.none() | st.integers(1, 10**10),
)
channels = st.sampled_from(list(CHANNELS))


def calm(block: Block) -> Block:
    return replace(block, config=replace(block.config, exploration_rate=0.0))


@given(st.data(), options(), features, channels, st.integers(0, 2**64 - 1))
def test_the_order_is_a_permutation_and_the_same_each_time(
    data: st.DataObject, pool: list[Option], request: Features, channel: str, seed: int
) -> None:
    view = data.draw(views(pool))
    eligible = sorted(data.draw(st.sets(st.integers(0, len(pool) - 1), min_size=1)))
    block = replace(channel_block(channel, pool))
    first = order_auto(block, pool, eligible, Asked(request, view, NOW, Chance(seed)))
    assert sorted(first.order) == eligible
    assert [one.target for one in first.scores] == [pool[index].name for index in first.order]
    assert order_auto(block, pool, eligible, Asked(request, view, NOW, Chance(seed))) == first


@given(st.data(), options(), features, channels)
def test_scores_and_factors_are_fractions_and_weights_sum_to_one(
    data: st.DataObject, pool: list[Option], request: Features, channel: str
) -> None:
    asked = Asked(request, data.draw(views(pool)), NOW, Chance(0))
    ordering = order_auto(calm(channel_block(channel, pool)), pool, range(len(pool)), asked)
    for one in ordering.scores:
        assert 0.0 <= one.score <= 1.0
        assert list(one.factors) == list(FACTORS)
        assert all(0.0 <= value <= 1.0 for value, _, _ in one.factors.values())
        assert abs(sum(weight for _, weight, _ in one.factors.values()) - 1.0) < 1e-9
        assert abs(one.score - sum(value * weight for value, weight, _ in one.factors.values())) < 1e-9


@given(channels, st.dictionaries(st.sampled_from(FACTORS), st.floats(-1e6, 1e6)), st.sampled_from([None, "", *MODES]))
def test_weights_sum_to_one_whatever_is_set(channel: str, given_weights: dict[str, float], mode: str | None) -> None:
    weights = channel_weights(channel, mode=mode)
    assert abs(sum(weights.values()) - 1.0) < 1e-9
    block = channel_block(channel, [])
    block = replace(block, config=replace(block.config, weights=given_weights, mode_pack=mode or None))
    tuned = weights_of(block, Features())
    assert all(weight >= 0 for weight in tuned)
    assert abs(sum(tuned) - 1.0) < 1e-9


@given(st.data(), options(2), features, channels)
def test_one_more_or_one_fewer_never_reorders_the_others(
    data: st.DataObject, pool: list[Option], request: Features, channel: str
) -> None:
    asked = Asked(request, data.draw(views(pool)), NOW, Chance(0))
    block = calm(channel_block(channel, pool))
    everybody = order_auto(block, pool, range(len(pool)), asked).order
    gone = data.draw(st.integers(0, len(pool) - 1))
    fewer = order_auto(block, pool, [index for index in range(len(pool)) if index != gone], asked).order
    assert fewer == tuple(index for index in everybody if index != gone)

    smaller = [one for index, one in enumerate(pool) if index != gone]
    alone = order_auto(calm(channel_block(channel, smaller)), smaller, range(len(smaller)), asked).order
    assert [smaller[index].name for index in alone] == [pool[index].name for index in fewer]


@given(st.data(), options(1, 1), features, channels, figures())
def test_improving_a_factor_never_lowers_the_score(
    data: st.DataObject, pool: list[Option], request: Features, channel: str, before: Figures
) -> None:
    (one,) = pool
    better, after = one, before
    match data.draw(st.sampled_from(FACTORS)):
        case "latency":
            known = structs.replace(before, ttft_p50=before.ttft_p50 or 900.0, total_p50=before.total_p50 or 900.0)
            before = known
            share = data.draw(fractions)
            after = structs.replace(
                known, ttft_p50=(known.ttft_p50 or 0) * share, total_p50=(known.total_p50 or 0) * share
            )
        case "cost":
            one = replace(one, rates=one.rates or Rates(5.0, 5.0))
            better = (
                replace(one, rates=Rates(0.0, 0.0))
                if data.draw(st.booleans())
                else replace(one, is_unmetered=True, tier="local")
            )
        case "success":
            after = structs.replace(before, ok=before.total)
        case "context":
            one = replace(one, window=one.window or 1000)
            better = replace(one, window=(one.window or 0) + data.draw(st.integers(0, 10**6)))
        case "fitness":
            one = replace(one, fitness=one.fitness or (0.1, 0.1, 0.1))
            better = replace(one, fitness=(1.0, 1.0, 1.0))
        case "recent":
            after = structs.replace(before, failed_at=before.failed_at[1:])
        case "quota" | "breaker":
            pass
    block = calm(channel_block(channel, pool))
    worse_view = Still(
        figures={one.name: before},
        breakers={one.provider: Breaker(BreakerState.HALF_OPEN)},
        loads={f"{one.provider}-1": Load(windows=(QuotaWindow("w", 0.95),))},
    )
    better_view = Still(
        figures={one.name: after},
        breakers={one.provider: Breaker()},
        loads={f"{one.provider}-1": Load(windows=(QuotaWindow("w", data.draw(st.floats(0, 0.95))),))},
    )
    low = score(one, block, Asked(request, worse_view, NOW, Chance(0))).score
    high = score(better, block, Asked(request, better_view, NOW, Chance(0))).score
    assert high >= low
