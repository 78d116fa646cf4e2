"""The figures that the bars are judged by."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibench.stats import paired_difference, paired_ratio, percentile, spread


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.0, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 0.07, 7.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
        ([float(n) for n in range(1, 1001)], 0.999, 999.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float, expected: float) -> None:
    random.Random(4).shuffle(values)
    assert percentile(values, share) == expected


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_enough_lie_below(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_a_percentile_of_nothing_or_beyond_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"percentile|share"):
        percentile(values, share)


def test_a_spread_quotes_the_median_and_both_ends() -> None:
    figure = spread([4.0, 1.0, 10.0])
    assert (figure.median, figure.low, figure.high, figure.count) == (4.0, 1.0, 10.0, 3)
    assert figure.relative_width == pytest.approx(9 / 4)
    assert spread([0.0]).relative_width == 0.0


def test_a_ratio_compares_only_rounds_that_both_sides_have() -> None:
    # The machine slows down threefold between the rounds; each pair still says 2.
    slow_down = {0: 100.0, 1: 200.0, 2: 300.0}
    ours = {0: 200.0, 1: 400.0, 2: 600.0, 3: 1.0}
    assert paired_ratio(ours, slow_down) == spread([2.0, 2.0, 2.0])


def test_a_difference_goes_round_by_round() -> None:
    assert paired_difference({0: 5.0, 1: 9.0}, {0: 4.0, 1: 6.0}).median == pytest.approx(2.0)


def test_a_ratio_without_a_common_round_or_to_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        paired_ratio({0: 1.0}, {1: 1.0})
    with pytest.raises(ValueError, match="zero"):
        paired_ratio({0: 1.0}, {0: 0.0})
