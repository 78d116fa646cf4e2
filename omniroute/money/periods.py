"""Periods of budgets and limits: when the one that holds now began, and when the next begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo


class Period(StrEnum):
    """How often a budget begins anew: at its reset time each day, each Monday, or on the first of each month."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to `end`, both epoch seconds."""

    start: int
    end: int


def window_at(period: str, at: float, *, reset_time: str = "00:00", time_zone: str = "UTC") -> Window:
    """Return the window of a period that holds at a time.

    A day is as long as its zone makes it: 23 or 25 hours where the clock is changed. A reset time that the change
    skips falls on the moment after it.

    Raises:
        ValueError: the period, the reset time or the zone does not exist.
    """
    zone = ZoneInfo(time_zone)
    hour, minute = (int(part) for part in reset_time.split(":"))
    kind = Period(period)

    def begins(day: date) -> int:
        return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp())

    day = _first_day(kind, datetime.fromtimestamp(at, zone).date())
    if begins(day) > at:
        day = _first_day(kind, day - timedelta(days=1))
    following = _next(kind, day)
    return Window(begins(day), begins(following))


def _first_day(period: Period, day: date) -> date:
    match period:
        case Period.DAILY:
            return day
        case Period.WEEKLY:
            return day - timedelta(days=day.weekday())
        case Period.MONTHLY:
            return day.replace(day=1)


def _next(period: Period, day: date) -> date:
    match period:
        case Period.DAILY:
            return day + timedelta(days=1)
        case Period.WEEKLY:
            return day + timedelta(days=7)
        case Period.MONTHLY:
            return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
