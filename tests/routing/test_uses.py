from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing import uses

MINUTE = 30_000_000


@pytest.mark.parametrize(
    ("counted", "window_min", "expected"),
    [
        ({}, 60, 0),
        ({MINUTE: 2}, 1, 2),
        ({MINUTE: 2, MINUTE - 1: 3}, 1, 2),
        ({MINUTE: 2, MINUTE - 59: 3}, 60, 5),
        ({MINUTE: 2, MINUTE - 60: 3}, 60, 2),
        ({MINUTE - 1439: 4}, uses.LONGEST_MIN, 4),
    ],
)
def test_a_window_counts_its_own_minutes(counted: dict[int, int], window_min: int, expected: int) -> None:
    assert uses.within(counted, window_min, MINUTE) == expected


def test_a_minute_is_of_utc_time() -> None:
    assert (uses.minute_of(59.9), uses.minute_of(60.0)) == (0, 1)


@given(st.dictionaries(st.integers(MINUTE - 1400, MINUTE), st.integers(1, 9)), st.integers(0, 100))
def test_adding_loses_nothing_of_a_day_and_stays_small(counted: dict[int, int], later: int) -> None:
    total = uses.added(uses.added(counted, {}, MINUTE), {MINUTE: 1}, MINUTE)
    assert sum(total.values()) == sum(counted.values()) + 1
    assert uses.within(total, 60, MINUTE) == uses.within(counted, 60, MINUTE) + 1
    assert len(total) <= 120 + 100
    assert uses.added(total, {}, MINUTE + later) == uses.added(
        uses.added(total, {}, MINUTE + later), {}, MINUTE + later
    )


def test_what_is_older_than_a_day_is_left_out() -> None:
    assert uses.added({MINUTE - 2000: 5, MINUTE: 1}, {}, MINUTE) == {MINUTE: 1}
