"""When a window runs out, or what lapses: examples, and what holds for any readings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.money.forecast import DAY_S, Forecast, Point, forecast

NOW = 1_800_000_000.0
HOUR = 3600.0
FIVE_HOURS, WEEK = 5 * HOUR, 7 * DAY_S


def points(*pairs: tuple[float, float]) -> list[Point]:
    """Return points of (hours from now, left)."""
    return [Point(NOW + hours * HOUR, left) for hours, left in pairs]


@pytest.mark.parametrize(
    ("readings", "resets_in_h", "length_s", "found"),
    [
        # one reading tells enough where the window began lately: nothing was used then
        (points((0, 0.5)), 2.5, FIVE_HOURS, Forecast(None, 0.0)),
        (points((0, 0.4)), 2.5, FIVE_HOURS, Forecast(NOW + HOUR * 2.5 * 0.4 / 0.6, 0.0)),
        (points((0, 0.75)), 2.5, FIVE_HOURS, Forecast(None, 0.5)),
        # a long window is judged by its last day
        (points((-30, 1.0), (-20, 0.9), (0, 0.7)), 48, WEEK, Forecast(None, 0.7 - 48 * 0.01)),
        (points((-20, 0.9), (0, 0.1)), 48, WEEK, Forecast(NOW + 2.5 * HOUR, 0.0)),
        # no use at all
        (points((-2, 0.6), (0, 0.6)), 48, WEEK, Forecast(None, 0.6)),
        # used up
        (points((-1, 0.0)), 2.5, FIVE_HOURS, Forecast(NOW - HOUR, 0.0)),
        # credit in dollars: 20 a day, topped up in between
        (points((-20, 5.0), (-10, 60.0), (0, 50.0)), None, None, Forecast(NOW + 50 * HOUR)),
        (points((-20, 5.0), (0, 5.0)), None, None, Forecast()),
        # what nobody can know
        ([], 2.5, FIVE_HOURS, None),
        (points((0, 0.5)), 48, WEEK, None),
        (points((-0.05, 0.6), (0, 0.5)), None, None, None),
        (points((0, 0.5)), -1, FIVE_HOURS, None),
        (points((-6, 0.5)), 2.5, FIVE_HOURS, None),
        (points((1, 0.5)), 2.5, FIVE_HOURS, None),
    ],
)
def test_what_comes_of_a_window(
    readings: list[Point], resets_in_h: float | None, length_s: float | None, found: Forecast | None
) -> None:
    resets_at = None if resets_in_h is None else NOW + resets_in_h * HOUR
    made = forecast(readings, now=NOW, resets_at=resets_at, length_s=length_s)
    if found is None:
        assert made is None
        return
    assert made is not None
    assert made.exhausted_at == (None if found.exhausted_at is None else pytest.approx(found.exhausted_at))
    assert made.lapses == (None if found.lapses is None else pytest.approx(found.lapses, abs=1e-9))


_READINGS = st.lists(
    st.tuples(st.floats(-30, 1), st.floats(0, 1)).map(lambda pair: Point(NOW + pair[0] * HOUR, pair[1])), max_size=12
).map(lambda some: sorted(some, key=lambda point: point.at))


@given(_READINGS, st.one_of(st.none(), st.floats(-1, 200)), st.sampled_from([None, FIVE_HOURS, WEEK]))
def test_a_forecast_is_sound(readings: list[Point], resets_in_h: float | None, length_s: float | None) -> None:
    resets_at = None if resets_in_h is None else NOW + resets_in_h * HOUR
    made = forecast(readings, now=NOW, resets_at=resets_at, length_s=length_s)
    if made is None:
        return
    assert resets_at is None or resets_at > NOW
    assert made.lapses is None if resets_at is None else made.lapses is not None
    if made.lapses is not None:
        assert 0 <= made.lapses <= 1
    if made.exhausted_at is not None:
        assert made.exhausted_at >= min(point.at for point in readings)
        assert not made.lapses
        assert resets_at is None or made.exhausted_at <= resets_at + 1e-3


@given(st.floats(0.01, 0.99), st.floats(0, 0.5), st.floats(0.2, 4.8))
def test_less_left_never_lasts_longer(left: float, less: float, resets_in_h: float) -> None:
    now_point = Point(NOW, left)
    resets_at = NOW + resets_in_h * HOUR
    both = [
        forecast([replace(now_point, left=max(0.0, left - by))], now=NOW, resets_at=resets_at, length_s=FIVE_HOURS)
        for by in (0.0, less)
    ]
    ends = [resets_at if one is None or one.exhausted_at is None else one.exhausted_at for one in both]
    assert ends[1] <= ends[0] + 1e-3
