"""When the periods of budgets begin and end."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.money.periods import Period, window_at


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        ("daily", "2026-11-22 07:00", "2026-11-22 00:00", "2026-11-23 00:00"),
        ("daily", "2026-11-22 00:00", "2026-11-22 00:00", "2026-11-23 00:00"),
        ("weekly", "2026-11-22 07:00", "2026-11-16 00:00", "2026-11-23 00:00"),
        ("weekly", "2026-11-23 00:00", "2026-11-23 00:00", "2026-11-30 00:00"),
        ("monthly", "2026-11-22 07:00", "2026-11-01 00:00", "2026-12-01 00:00"),
        ("monthly", "2026-12-31 23:59", "2026-12-01 00:00", "2027-01-01 00:00"),
        ("monthly", "2028-02-29 12:00", "2028-02-01 00:00", "2028-03-01 00:00"),
    ],
)
def test_windows_in_utc(period: str, now: str, start: str, end: str) -> None:
    window = window_at(period, at(now))
    assert (window.start, window.end) == (at(start), at(end))


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        ("daily", "2026-11-22 05:59", "2026-11-21 06:00", "2026-11-22 06:00"),
        ("weekly", "2026-11-23 05:59", "2026-11-16 06:00", "2026-11-23 06:00"),
        ("monthly", "2026-12-01 05:59", "2026-11-01 06:00", "2026-12-01 06:00"),
        ("monthly", "2027-01-01 05:59", "2026-12-01 06:00", "2027-01-01 06:00"),
    ],
)
def test_a_reset_time_belongs_to_the_day_before_until_it_comes(period: str, now: str, start: str, end: str) -> None:
    window = window_at(period, at(now, "Asia/Tokyo"), reset_time="06:00", time_zone="Asia/Tokyo")
    assert (window.start, window.end) == (at(start, "Asia/Tokyo"), at(end, "Asia/Tokyo"))


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-03-30", 24), ("2026-10-25", 25)])
def test_a_day_is_as_long_as_its_zone_makes_it(day: str, hours: int) -> None:
    window = window_at("daily", at(f"{day} 12:00", "Europe/Berlin"), time_zone="Europe/Berlin")
    assert window.end - window.start == hours * 3600


def test_a_reset_time_that_is_skipped_comes_when_the_clock_has_been_changed() -> None:
    window = window_at("daily", at("2026-03-29 12:00", "Europe/Berlin"), reset_time="02:30", time_zone="Europe/Berlin")
    assert datetime.fromtimestamp(window.start, UTC).isoformat() == "2026-03-29T01:30:00+00:00"


@pytest.mark.parametrize(
    ("period", "reset_time", "zone"),
    [("hourly", "00:00", "UTC"), ("daily", "25:00", "UTC"), ("daily", "00:00", "../x")],
)
def test_what_does_not_exist_is_refused(period: str, reset_time: str, zone: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        window_at(period, 1_800_000_000, reset_time=reset_time, time_zone=zone)


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia")


@given(
    st.sampled_from(list(Period)),
    st.integers(1_500_000_000, 2_500_000_000),
    st.times().map(lambda time: time.strftime("%H:%M")),
    st.sampled_from(ZONES),
)
def test_windows_hold_their_time_and_touch_each_other(period: Period, now: int, reset_time: str, zone: str) -> None:
    window = window_at(period, now, reset_time=reset_time, time_zone=zone)
    assert window.start <= now < window.end
    following = window_at(period, window.end, reset_time=reset_time, time_zone=zone)
    assert following.start == window.end
    assert window_at(period, window.end - 1, reset_time=reset_time, time_zone=zone) == window
