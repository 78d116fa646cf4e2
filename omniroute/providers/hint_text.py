"""Retry hints in sentences: "try again in 1m2.5s", "resets Oct 9, 5pm (UTC)", "available again at 18:30 UTC"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAY_S: Final = 86_400.0
_UNITS: Final = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY_S}
_AMOUNT: Final = (
    r"[0-9]{1,9}(?:\.[0-9]{1,9})?\s?"
    r"(?:ms|milliseconds?|secs?|seconds?|s|mins?|minutes?|m|hrs?|hours?|h|days?|d)\b"
)
_PART: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s?(ms|milli|s|m|h|d)", re.IGNORECASE)
_DURATION: Final = re.compile(
    r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|[smhd])){1,5}",
    re.IGNORECASE,
)
_WHEN: Final = r"\b(?:try again|retry|resets?|available(?: again)?|wait)"
_IN_TEXT: Final = re.compile(
    rf"{_WHEN}(?:\s(?:in|after|for|within|at least))?\s(?:about\s)?"
    rf"((?:[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?(?:ms|[smhd])){{2,5}}|{_AMOUNT}(?:(?:,|\sand)?\s?{_AMOUNT}){{0,4}})",
    re.IGNORECASE,
)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH: Final = "|".join(_MONTHS)
_DATE: Final = (
    r"(?:(?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2})[ T]"
    rf"|(?P<month>{_MONTH})[a-z]{{0,6}}\.? (?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?,? "
    r"(?:(?P<year>[0-9]{4}),? )?(?:at )?)?"
)
_CLOCK: Final = (
    r"(?P<hour>[0-9]{1,2})(?::(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?)?(?: ?(?P<half>[ap])\.?m\b\.?)?"
)
_ZONE: Final = (
    r" ?\(?(?P<zone>(?:UTC|GMT)[+-][0-9]{1,2}(?::[0-9]{2})?|UTC|GMT|Z|P[SD]?T|E[SD]?T|CES?T|JST"
    r"|[a-z]{2,20}/[a-z_]{2,30}(?:/[a-z_]{2,30})?)(?![\w+-])"
)
_AT_TIME: Final = re.compile(rf"{_WHEN} (?:at |on )?{_DATE}{_CLOCK}{_ZONE}", re.IGNORECASE)
_AT_LOCAL_TIME: Final = re.compile(
    rf"{_WHEN} (?:at |on )?([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}})(?![\w+-])",
    re.IGNORECASE,
)
_AT_EPOCH: Final = re.compile(r"limit reached\|([0-9]{10})\b", re.IGNORECASE)
_LOOKS_LIKE_ONE: Final = re.compile(rf"{_WHEN}(?:\s(?:in|after|at|on))?\s(?:-?[0-9]|{_MONTH})", re.IGNORECASE)

_PACIFIC: Final = "America/Los_Angeles"
_ZONES: Final[Mapping[str, str]] = {
    "PT": _PACIFIC,
    "PST": _PACIFIC,
    "PDT": _PACIFIC,
    "ET": "America/New_York",
    "EST": "America/New_York",
    "EDT": "America/New_York",
    "CET": "Europe/Paris",
    "CEST": "Europe/Paris",
    "JST": "Asia/Tokyo",
}
# Vendors that name a moment without a zone, by the code that stands beside it: theirs is meant.
_ZONE_OF_CODE: Final[Mapping[str, str]] = {"1308": "Asia/Shanghai", "1310": "Asia/Shanghai"}
_HALF_YEAR: Final = timedelta(days=182)


def duration(text: str) -> float | None:
    """Read a length of time such as `6m0s`, `1.2s` or `21ms` to seconds."""
    return _sum_of_parts(text) if _DURATION.fullmatch(text) else None


def seconds_in(message: str, codes: Iterable[str], now: float) -> float | None:
    """Return the wait that a sentence names, None when it names none; a moment in the past gives what is not positive.

    Args:
        message: the sentence.
        codes: codes of the error; some vendors mean their own zone.
        now: epoch seconds.
    """
    found = _IN_TEXT.search(message)
    if found is not None:
        return _sum_of_parts(found[1])
    epoch = _AT_EPOCH.search(message)
    if epoch is not None:
        return float(epoch[1]) - now
    at = _AT_TIME.search(message)
    if at is not None:
        return _until(at, now)
    local = _AT_LOCAL_TIME.search(message)
    zone = next((_ZONE_OF_CODE[code] for code in codes if code in _ZONE_OF_CODE), None)
    if local is None or zone is None:
        return None
    return _seconds_to(local[1], _zone(zone), now)


def looks_like_hint(message: str) -> bool:
    """Say whether a sentence seems to name a wait, whether it can be read or not."""
    return _LOOKS_LIKE_ONE.search(message) is not None


def to_midnight(now: float) -> float:
    """Return the seconds to the end of the day in the Pacific zone, where Google's days end."""
    # Without a database of zones it is the winter's offset: an hour too late is better than an hour too early.
    zone = _zone(_PACIFIC) or timezone(timedelta(hours=-8))
    here = datetime.fromtimestamp(now, zone)
    midnight = (here + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.timestamp() - now


def _sum_of_parts(text: str) -> float:
    return sum(
        float(amount) * _UNITS["ms" if unit.lower() == "milli" else unit.lower()]
        for amount, unit in _PART.findall(text)
    )


def _until(at: re.Match[str], now: float) -> float | None:
    zone = _zone(at["zone"])
    hour = int(at["hour"])
    if zone is None or (at["half"] is not None and not 1 <= hour <= 12):
        return None
    if at["half"] is None and at["minute"] is None:
        return None  # a number before a zone, and no time of day
    if at["half"] is not None:
        hour = hour % 12 + (12 if at["half"].lower() == "p" else 0)
    minute, second = int(at["minute"] or 0), int(at["second"] or 0)
    if at["iso"] is not None:
        return _seconds_to(f"{at['iso']}T{hour:02}:{minute:02}:{second:02}", zone, now)
    here = datetime.fromtimestamp(now, zone)
    try:
        moment = here.replace(hour=hour, minute=minute, second=second, microsecond=0)
        if at["month"] is not None:
            moment = _on_day(moment, at)
            if at["year"] is None and moment < here - _HALF_YEAR:
                moment = moment.replace(year=moment.year + 1)
        elif moment <= here:
            moment += timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return moment.timestamp() - now


def _on_day(moment: datetime, at: re.Match[str]) -> datetime:
    month = _MONTHS.index(at["month"].lower()) + 1
    return moment.replace(year=int(at["year"] or moment.year), month=month, day=int(at["day"]))


def _seconds_to(text: str, zone: tzinfo | None, now: float) -> float | None:
    if zone is None:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() - now
    except (ValueError, OverflowError):
        return None


def _zone(name: str) -> tzinfo | None:
    upper = name.upper()
    if upper in {"UTC", "GMT", "Z"}:
        return UTC
    if upper[:3] in {"UTC", "GMT"}:
        sign = -1 if upper[3] == "-" else 1
        hours, _, minutes = upper[4:].partition(":")
        if int(hours) > 14 or int(minutes or 0) > 59:
            return None
        return timezone(sign * timedelta(hours=int(hours), minutes=int(minutes or 0)))
    try:
        return ZoneInfo(_ZONES.get(upper) or _spelt(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _spelt(name: str) -> str:
    """Return a zone as the database of zones spells it: `america/los_angeles` is `America/Los_Angeles`."""
    return re.sub(r"[A-Za-z]+", lambda word: word[0].capitalize(), name)
