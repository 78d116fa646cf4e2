"""Percentiles out of histograms, months, and forecasts."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from omniroute.services.analytics import LATENCY_BOUNDS_MS, month_of, percentiles


@given(st.lists(st.floats(0, 120_000, allow_nan=False), min_size=1, max_size=200))
def test_percentiles_lie_in_the_bucket_of_the_true_value_and_never_fall(durations: list[float]) -> None:
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for duration in durations:
        counts[bisect_left(LATENCY_BOUNDS_MS, duration)] += 1
    found = percentiles(counts, range(1, 101))
    assert [value for value, _ in found] == sorted(value for value, _ in found)
    ordered = sorted(durations)
    for percent, (value, is_beyond) in zip(range(1, 101), found, strict=True):
        true = ordered[-(-len(ordered) * percent // 100) - 1]
        place = bisect_left(LATENCY_BOUNDS_MS, true)
        assert is_beyond is (place == len(LATENCY_BOUNDS_MS))
        if not is_beyond:
            low = LATENCY_BOUNDS_MS[place - 1] if place else 0
            assert low <= value <= LATENCY_BOUNDS_MS[place] + 1e-6


def test_a_histogram_of_nothing_has_no_percentile_that_is_not_zero_or_beyond() -> None:
    one_slow = [0] * len(LATENCY_BOUNDS_MS) + [1]
    assert percentiles(one_slow, (50, 99)) == [(60_000.0, True), (60_000.0, True)]
    assert percentiles([4, *[0] * len(LATENCY_BOUNDS_MS)], (25, 50, 100)) == [
        (25.0, False),
        (50.0, False),
        (100.0, False),
    ]


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_a_month_holds_its_days(moment: datetime) -> None:
    now = moment.replace(tzinfo=UTC).timestamp()
    start, end = month_of(now)
    assert start <= now < end
    first, after = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
    assert (first.day, first.hour, first.minute, after.day, after.hour) == (1, 0, 0, 1, 0)
    assert 28 * 86_400 <= end - start <= 31 * 86_400
