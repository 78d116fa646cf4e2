from __future__ import annotations

import json
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.figures import (
    GOOD,
    MOST_FAILURES,
    OUT_S,
    Digest,
    Spread,
    Standing,
    Tally,
    judged,
    merged,
    tried,
)
from omniroute.routing.view import UNKNOWN

NOW = 1_800_000_000.0


def tally_of(*outcomes: tuple[float, bool], ttft_ms: float | None = None, tokens_out: int | None = None) -> Tally:
    tally = Tally()
    for at, ok in outcomes:
        tally.note(ok=ok, at=at, ttft_ms=ttft_ms, total_ms=ttft_ms, tokens_out=tokens_out)
    return tally


# --- outcomes


def test_nothing_seen_is_unknown() -> None:
    assert merged([], GOOD, NOW) is UNKNOWN
    assert merged([Digest.from_json("of another release")], GOOD, NOW) is UNKNOWN


@pytest.mark.parametrize(
    ("ages_s", "counted"), [((0,), 1), ((0, 60, 120), 3), ((0, 14 * 60), 2), ((0, 15 * 60), 1), ((3600,), 0)]
)
def test_outcomes_count_for_fifteen_minutes(ages_s: tuple[float, ...], counted: int) -> None:
    tally = tally_of(*((NOW - age, True) for age in reversed(ages_s)))
    figures = merged([tally.digest()], GOOD, NOW)
    assert (figures.ok, figures.total) == (counted, counted)


def test_failures_are_known_by_their_time_for_ten_minutes() -> None:
    tally = tally_of((NOW - 700, False), (NOW - 500, False), (NOW - 10, True), (NOW - 5, False))
    figures = merged([tally.digest()], GOOD, NOW)
    assert figures.failed_at == (NOW - 500, NOW - 5)
    assert (figures.ok, figures.total) == (1, 4)


def test_a_tally_stays_small_however_much_it_counts() -> None:
    tally = Tally()
    for second in range(20_000):
        tally.note(ok=second % 2 == 0, at=NOW + second / 2, ttft_ms=1.0, total_ms=2.0, tokens_out=3)
    digest = tally.digest()
    assert len(digest.minutes) <= 15
    assert len(digest.failed_at) == MOST_FAILURES
    assert len(json.dumps(digest.to_json())) < 2500


# --- times


def test_percentiles_of_one_bucket_are_those_of_its_times() -> None:
    spread = Spread()
    assert spread.percentiles() is None
    for value in range(1, 21):
        spread.add(float(value), NOW)
    assert spread.percentiles() == (10.0, 19.0)


def test_buckets_are_smoothed() -> None:
    spread = Spread()
    for value, at in ((100.0, NOW), (200.0, NOW + 60), (200.0, NOW + 120)):
        for _ in range(8):
            spread.add(value, at)
    assert spread.percentiles() == pytest.approx((136.0, 136.0))  # 100, then two steps of a fifth towards 200


def test_few_times_share_a_bucket_until_it_is_old() -> None:
    spread = Spread()
    for minute, value in enumerate((100.0, 200.0, 300.0)):
        spread.add(value, NOW + 60 * minute)
    assert spread.percentiles() == (200.0, 300.0)
    spread.add(1000.0, NOW + 900)
    assert spread.percentiles() == pytest.approx((360.0, 440.0))


def test_a_change_is_followed_within_some_minutes() -> None:
    rng = random.Random(1)
    spread = Spread()
    for second in range(1200):
        spread.add(rng.uniform(100, 200) if second < 300 else rng.uniform(1000, 2000), NOW + second)
    found = spread.percentiles()
    assert found is not None
    assert found[0] == pytest.approx(1500, rel=0.15)
    assert 1700 < found[1] < 2000


def test_the_mean_of_answers_follows_the_newest_fifty() -> None:
    tally = Tally()
    for number in range(400):
        tally.note(ok=True, at=NOW, ttft_ms=None, total_ms=None, tokens_out=100 if number < 100 else 500)
    mean = tally.digest().output_mean
    assert mean == pytest.approx(500, rel=0.01)
    assert tally_of((NOW, True)).digest().output_mean is None
    assert tally_of((NOW, True), tokens_out=0).digest().output_mean == 0


# --- several workers


def test_workers_figures_become_one() -> None:
    much = tally_of(*((NOW, True) for _ in range(9)), ttft_ms=100, tokens_out=10)
    little = tally_of((NOW - 1, False), ttft_ms=1000, tokens_out=100)
    figures = merged([much.digest(), little.digest(), Tally().digest()], GOOD, NOW)
    assert (figures.ok, figures.total, figures.failed_at) == (9, 10, (NOW - 1,))
    assert figures.ttft_p50 == figures.total_p95 == pytest.approx((10 * 100 + 2 * 1000) / 12)
    assert figures.output_mean == pytest.approx((10 * 10 + 2 * 100) / 12)


def test_times_of_an_hour_ago_are_better_than_none() -> None:
    figures = merged([tally_of((NOW - 3600, True), ttft_ms=250).digest()], GOOD, NOW)
    assert (figures.total, figures.ttft_p50) == (0, 250)


@given(
    st.lists(
        st.tuples(st.floats(0, 2000), st.booleans(), st.none() | st.floats(0, 1e6), st.none() | st.integers(0, 10_000)),
        max_size=40,
    )
)
def test_a_digest_survives_json(outcomes: list[tuple[float, bool, float | None, int | None]]) -> None:
    tally = Tally()
    for age, ok, ttft_ms, tokens_out in sorted(outcomes, reverse=True, key=lambda one: one[0]):
        tally.note(ok=ok, at=NOW - age, ttft_ms=ttft_ms, total_ms=ttft_ms, tokens_out=tokens_out)
    digest = tally.digest()
    assert Digest.from_json(json.loads(json.dumps(digest.to_json()))) == digest
    figures = merged([digest], GOOD, NOW)
    assert 0 <= figures.ok <= figures.total <= len(outcomes)
    times = [ttft_ms for _, _, ttft_ms, _ in outcomes if ttft_ms is not None]
    if times:
        assert figures.ttft_p50 is not None
        assert figures.ttft_p95 is not None
        assert min(times) <= figures.ttft_p50 * 1.0000001
        assert figures.ttft_p50 <= figures.ttft_p95 * 1.0000001 <= max(times) * 1.000001 + 1e-9
    else:
        assert figures.ttft_p50 is None


@pytest.mark.parametrize("damaged", [None, {}, [], [1, 2], [[[1]], [], None, None, None, 0], [[], [], [1], None, 0, 0]])
def test_what_cannot_be_read_says_nothing(damaged: object) -> None:
    assert Digest.from_json(damaged) == Digest()  # type: ignore[arg-type]


# --- bad scores


@pytest.mark.parametrize(
    ("score", "ok", "total", "is_out"),
    [
        (0.9, 0, 0, False),
        (0.20, 0, 0, False),
        (0.199, 0, 0, True),
        (0.9, 2, 8, True),
        (0.9, 2, 7, False),
        (0.9, 3, 8, False),
        (0.9, 35, 100, False),
        (0.9, 34, 100, True),
    ],
)
def test_who_is_out(score: float, ok: int, total: int, is_out: bool) -> None:
    standing = judged(GOOD, score=score, ok=ok, total=total, now=NOW)
    assert (standing.out_until == NOW + OUT_S[0]) is is_out
    assert is_out or standing is GOOD


def test_each_time_out_is_longer_up_to_the_longest() -> None:
    standing, now, lengths = GOOD, NOW, []
    for _ in range(6):
        standing = judged(standing, score=0.1, ok=0, total=0, now=now)
        lengths.append(standing.out_until - now)
        now = standing.out_until
    assert lengths == [300, 600, 1200, 1800, 1800, 1800]


def test_while_out_nothing_changes() -> None:
    out = judged(GOOD, score=0.1, ok=0, total=0, now=NOW)
    assert judged(out, score=0.99, ok=0, total=0, now=NOW + 299) is out
    assert tried(out, ok=True, now=NOW + 299) is out
    assert not out.needs_probe(NOW + 299)


@pytest.mark.parametrize(("score", "is_back"), [(0.29, False), (0.30, True)])
def test_the_way_back_needs_a_better_score_than_the_way_out(score: float, is_back: bool) -> None:
    out = judged(GOOD, score=0.1, ok=0, total=0, now=NOW)
    after = judged(out, score=score, ok=0, total=9, now=out.out_until)
    assert after.is_on_trial is is_back
    assert after.out_until == (0 if is_back else out.out_until + OUT_S[1])


def test_the_first_request_after_the_way_back_decides() -> None:
    out = judged(GOOD, score=0.9, ok=0, total=8, now=NOW)
    back = judged(out, score=0.5, ok=0, total=8, now=NOW + 300)
    assert back.needs_probe(NOW + 300)
    served = tried(back, ok=True, now=NOW + 310)
    assert (served.needs_probe(NOW + 311), served.out_until, served.since) == (False, 0, NOW + 310)
    failed = tried(back, ok=False, now=NOW + 310)
    assert failed.out_until == NOW + 310 + OUT_S[1]


def test_old_failures_are_not_held_against_it_twice() -> None:
    tally = tally_of(*((NOW, False) for _ in range(10)), (NOW + 310, True))
    served = Standing(trips=1, since=NOW + 310)
    assert tally.digest().outcomes(NOW + 310) == (1, 11)
    assert tally.digest().outcomes(NOW + 310, served.since) == (0, 0)


def test_a_long_time_in_good_standing_is_a_new_start() -> None:
    served = Standing(trips=3, since=NOW)
    assert judged(served, score=0.1, ok=0, total=0, now=NOW + 1799).out_until == NOW + 1799 + OUT_S[3]
    assert judged(served, score=0.1, ok=0, total=0, now=NOW + 1800).out_until == NOW + 1800 + OUT_S[0]
    assert judged(served, score=0.9, ok=0, total=0, now=NOW + 1800) is GOOD


def test_figures_say_who_is_out_and_who_has_to_try() -> None:
    out = judged(GOOD, score=0.1, ok=0, total=0, now=NOW)
    figures = merged([], out, NOW + 1)
    assert (figures.low_score_until, figures.low_score_trips, figures.needs_probe) == (NOW + 300, 1, False)
    figures = merged([], out, NOW + 301)
    assert (figures.low_score_until, figures.needs_probe) == (0, True)


@given(st.lists(st.tuples(st.floats(1, 3000), st.floats(0, 1), st.booleans()), max_size=60))
def test_nobody_is_out_for_longer_than_the_longest_time(steps: list[tuple[float, float, bool]]) -> None:
    standing, now = GOOD, NOW
    for wait, score, ok in steps:
        now += wait
        standing = judged(standing, score=score, ok=0, total=0, now=now)
        assert standing.out_until <= now + OUT_S[-1]
        if standing.out_until <= now:
            standing = tried(standing, ok=ok, now=now)
        assert standing.out_until <= now + OUT_S[-1]
        assert not (standing.is_on_trial and standing.out_until > now)


def test_the_median_of_many_workers_is_near_the_median_of_all() -> None:
    rng = random.Random(7)
    times = [rng.lognormvariate(6, 0.5) for _ in range(400)]
    tallies = [Tally() for _ in range(4)]
    for number, value in enumerate(times):
        tallies[number % 4].note(ok=True, at=NOW + number / 100, ttft_ms=value, total_ms=None, tokens_out=None)
    figures = merged([tally.digest() for tally in tallies], GOOD, NOW + 5)
    assert figures.ttft_p50 == pytest.approx(statistics.median(times), rel=0.15)
