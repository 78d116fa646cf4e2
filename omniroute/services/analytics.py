"""What the gateway was used for: sums over ranges of time, by provider, model, key, connection, combo and time.

Everything is read from the sums by hour, day and month, never from the request log, so that a year costs no more than a
day. Sums exist for whole hours and days (UTC); a range is made of such, and says where it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final

from omniroute.errors import NotFound, ValidationFailed
from omniroute.records import Snapshot
from omniroute.services.access import Snapshots
from omniroute.storage.closed_sums import ClosedSums
from omniroute.storage.database import Database
from omniroute.storage.repositories import usage
from omniroute.storage.repositories.usage import DAY_S, HOUR_S, MONTH_S, Group, Narrowed, Point, Span, Totals

__all__ = ["By", "Cost", "Latencies", "LatencyRow", "Narrowed", "Period", "Point", "Report", "Row", "Totals"]

KEYLESS_NAMES: Final = {"local": "local", "env": "environment key", "session": "dashboard"}
LATENCY_BOUNDS_MS: Final = usage.LATENCY_BOUNDS_MS
MOST_LATENCY_HOURS: Final = 90 * 24
_LONGEST_BY_HOUR_S: Final = 8 * DAY_S
_LONGEST_BY_DAY_S: Final = 120 * DAY_S
_PERCENTILES: Final = (50, 95, 99)


class By(StrEnum):
    """What sums are divided by."""

    PROVIDER = "provider"
    MODEL = "model"
    KEY = "key"
    CONNECTION = "connection"
    COMBO = "combo"
    DAY = "day"


class Period(StrEnum):
    """A range that has a name. It ends now; its last hour or day is the one that is in progress."""

    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"
    YEAR = "365d"
    ALL = "all"


_STEPS: Final = {
    Period.DAY: (24, HOUR_S),
    Period.WEEK: (7 * 24, HOUR_S),
    Period.MONTH: (30, DAY_S),
    Period.QUARTER: (90, DAY_S),
    Period.YEAR: (365, DAY_S),
}
_DIMENSIONS: Final[Mapping[By, Callable[[Group], tuple[str, ...]]]] = {
    By.PROVIDER: attrgetter("provider"),
    By.MODEL: attrgetter("provider", "model"),
    By.KEY: attrgetter("api_key_id"),
    By.CONNECTION: attrgetter("provider", "connection_id"),
    By.COMBO: attrgetter("combo_id"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of one provider, model, key, connection or combo. Which of the names it has depends on what it is of.

    Attributes:
        id: None for requests that have none, such as those of callers without a key.
        name: what it is called now; None for a model, and for what no longer exists.
    """

    id: str | None
    name: str | None
    provider: str | None
    totals: Totals


@dataclass(frozen=True, slots=True)
class Report:
    """Sums of a range.

    Attributes:
        start, end: epoch seconds; what lies in between is complete, the part of the last hour or day that is over
            included.
        step_s: length of the steps of `series`.
    """

    range_name: str | None
    start: int
    end: int
    step_s: int
    totals: Totals
    by: Mapping[By, tuple[Row, ...]]
    series: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """How long requests took. A percentile is interpolated within its bucket of the histogram.

    Attributes:
        beyond: percentiles that lie beyond the last bound, and are given as that bound.
    """

    provider: str | None
    model: str | None
    count: int
    average_ms: float
    percentiles_ms: tuple[float, ...]
    beyond: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Latencies:
    """Durations over the last hours."""

    start: int
    end: int
    rows: tuple[LatencyRow, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What requests cost, in nano-USD.

    Attributes:
        forecast: billed by the end of the month at the pace of this month so far; None before its first hour is over.
    """

    start: int
    end: int
    totals: Totals
    by: tuple[Row, ...]
    series: tuple[Point, ...]
    month_billed: int
    forecast: int | None


class Analytics:
    """Reads the sums."""

    def __init__(self, *, database: Database, snapshots: Snapshots, now: Callable[[], float]) -> None:
        self._database = database
        self._snapshots = snapshots
        self._now = now
        self._closed = ClosedSums(now=now)

    def report(
        self,
        period: Period | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
        narrowed: Narrowed = Narrowed(),  # noqa: B008 - frozen
        by_day: bool = False,
    ) -> Report:
        """Return the sums of a period, or of the hours or days from `start` to `end`; by default of 30 days.

        The series is by hour, day or month, as the range is long; by day in any case where that is asked for.

        Raises:
            ValidationFailed: the range is none, or the key is not known.
        """
        self._check(narrowed)
        if period is None and start is None and end is None:
            period = Period.MONTH
        now = self._now()
        if end is not None and end >= now:
            end = None
        if start is not None and start >= (now if end is None else end):
            raise ValidationFailed([{"field": "start", "message": "must lie before the end, and in the past"}])

        def read(sql: Any) -> tuple[Span, list[Group], list[Point]]:
            span = _span(sql, period, start, end, now)
            length_s = (now if span.end is None else span.end) - span.start
            is_long = span.step_s == DAY_S and length_s > _LONGEST_BY_DAY_S
            step_s = DAY_S if by_day else MONTH_S if is_long else span.step_s
            shown = Span(span.start, span.end, step_s)
            if by_day and span.step_s == HOUR_S:
                shown = _by_day(span)
            closed = self._closed.view()
            return shown, usage.groups(sql, span, narrowed, closed), usage.series(sql, shown, narrowed, closed)

        span, groups, points = self._database.read(read)
        snapshot = self._snapshots.current
        return Report(
            range_name=None if period is None else period.value,
            start=span.start,
            end=int(now) if span.end is None else span.end,
            step_s=span.step_s,
            totals=usage.in_sum(group.sums for group in groups),
            by={by: _rows(by, groups, snapshot) for by in _DIMENSIONS},
            series=tuple(points),
        )

    def latencies(self, window_hours: int, *, narrowed: Narrowed, by_model: bool) -> Latencies:
        """Return durations of the hour in progress and those before it, `window_hours` in all."""
        now = self._now()
        start = _floor(now, HOUR_S) - (window_hours - 1) * HOUR_S
        span = Span(start, None, HOUR_S)
        found = self._database.read(lambda sql: usage.latencies(sql, span, narrowed, by_model=by_model))
        rows = []
        for item in sorted(found, key=lambda item: (-item.requests, item.provider, item.model or "")):
            values = percentiles(item.counts, _PERCENTILES)
            beyond = tuple(f"p{p}" for p, (_, is_beyond) in zip(_PERCENTILES, values, strict=True) if is_beyond)
            average = item.duration_ms_sum / item.requests if item.requests else 0.0
            shown = tuple(value for value, _ in values)
            rows.append(LatencyRow(item.provider or None, item.model, item.requests, average, shown, beyond))
        return Latencies(start, int(now), tuple(rows))

    def of_key(self, key_id: str) -> Mapping[str, Totals]:
        """Return what a key has used: today, in the last days, this month, and in all time that sums are kept of.

        Raises:
            NotFound: there is no such key.
        """
        if not self._is_key(key_id):
            raise NotFound("There is no API key with this id.")
        now, narrowed = self._now(), Narrowed(api_key_id=key_id)
        today = _floor(now, DAY_S)
        starts = {
            "today": today,
            "last7Days": today - 6 * DAY_S,
            "last30Days": today - 29 * DAY_S,
            "thisMonth": month_of(now)[0],
        }

        def read(sql: Any) -> dict[str, Totals]:
            first, since = usage.oldest_day(sql) or today, min(starts.values())
            days = usage.by_day(sql, since, narrowed)
            used = {
                name: usage.in_sum(sums for day, sums in days.items() if day >= start) for name, start in starts.items()
            }
            before = usage.in_all(sql, Span(first, since, DAY_S), narrowed) if first < since else []
            return {**used, "allTime": usage.in_sum([*before, *days.values()])}

        return self._database.read(read)

    def cost(self, days: int | None, by: By | None) -> Cost:
        """Return what the last days cost, today included; None for the calendar month (UTC) so far."""
        now = self._now()
        month_start, month_end = month_of(now)
        start = month_start if days is None else _floor(now, DAY_S) - (days - 1) * DAY_S

        def read(sql: Any) -> tuple[list[Group], list[Point], list[Point]]:
            first = usage.oldest_day(sql) or start
            span, month = Span(max(start, first), None, DAY_S), Span(max(month_start, first), None, DAY_S)
            every, closed = Narrowed(), self._closed.view()
            points = usage.series(sql, span, every, closed) if by is By.DAY else []
            return usage.groups(sql, span, every, closed), points, usage.series(sql, month, every, closed)

        groups, points, month = self._database.read(read)
        billed = sum(point.billed_nano_usd for point in month)
        passed_s = now - month_start
        rows = () if by is None or by is By.DAY else _rows(by, groups, self._snapshots.current)
        return Cost(
            start=start,
            end=int(now),
            totals=usage.in_sum(group.sums for group in groups),
            by=rows,
            series=tuple(points),
            month_billed=billed,
            forecast=round(billed * (month_end - month_start) / passed_s) if passed_s >= HOUR_S else None,
        )

    def _check(self, narrowed: Narrowed) -> None:
        if narrowed.api_key_id and not self._is_key(narrowed.api_key_id):
            raise ValidationFailed([{"field": "apiKeyId", "message": "there is no API key with this id"}])

    def _is_key(self, key_id: str) -> bool:
        return key_id in KEYLESS_NAMES or any(key.id == key_id for key in self._snapshots.current.keys)


def month_of(now: float) -> tuple[int, int]:
    """Return when the calendar month (UTC) of a time begins and ends."""
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    is_december = first.month == 12
    after = first.replace(year=first.year + is_december, month=1 if is_december else first.month + 1)
    return int(first.timestamp()), int(after.timestamp())


def percentiles(counts: Sequence[int], wanted: Sequence[int]) -> list[tuple[float, bool]]:
    """Return percentiles of a histogram in ms, and whether each lies beyond the last bound.

    A value is interpolated between the bounds of the bucket that it falls into, so a higher percentile is never less.
    """
    total = sum(counts)
    return [_percentile(counts, total * percent / 100) for percent in wanted]


def _percentile(counts: Sequence[int], rank: float) -> tuple[float, bool]:
    low = passed = 0
    for bound, count in zip(LATENCY_BOUNDS_MS, counts, strict=False):
        if count and passed + count >= rank:
            return low + (bound - low) * (rank - passed) / count, False
        low, passed = bound, passed + count
    return float(low), True


def _span(sql: Any, period: Period | None, start: float | None, end: float | None, now: float) -> Span:
    """Return the hours or days of a range, as far back as sums are kept."""
    if period is not None and period is not Period.ALL:
        count, step_s = _STEPS[period]
        return _kept(sql, Span(_floor(now, step_s) - (count - 1) * step_s, None, step_s))
    until = now if end is None else end
    is_short = start is not None and until - start <= _LONGEST_BY_HOUR_S
    oldest_hour = usage.oldest_hour(sql) if is_short else None
    is_by_hour = oldest_hour is not None and start is not None and start >= oldest_hour
    step_s = HOUR_S if is_by_hour else DAY_S
    first = _floor(start or 0, step_s)
    if period is Period.ALL and usage.oldest_day(sql) is None:
        first = _floor(now, step_s)
    return _kept(sql, Span(first, None if end is None else _ceiling(end, step_s), step_s))


def _kept(sql: Any, span: Span) -> Span:
    """Cut off what is from before the first day of which sums are kept: a month may still hold some of it."""
    oldest = usage.oldest_day(sql)
    first = span.start if oldest is None else max(span.start, oldest)
    return Span(first if span.end is None else min(first, span.end), span.end, span.step_s)


def _by_day(span: Span) -> Span:
    return Span(_floor(span.start, DAY_S), None if span.end is None else _ceiling(span.end, DAY_S), DAY_S)


def _floor(moment: float, step_s: int) -> int:
    return int(moment) - int(moment) % step_s


def _ceiling(moment: float, step_s: int) -> int:
    return -int(-moment // step_s) * step_s


def _rows(by: By, groups: Sequence[Group], snapshot: Snapshot) -> tuple[Row, ...]:
    """Add groups up by one of their names, the most used first."""
    parts: dict[Any, list[Group]] = {}
    key_of = _DIMENSIONS[by]
    for group in groups:
        parts.setdefault(key_of(group), []).append(group)
    name_of = _names(by, snapshot)
    rows = []
    for key, those in parts.items():
        provider, identity = key if isinstance(key, tuple) else (None, key)
        if not identity and by is By.COMBO:
            continue  # most requests name a model
        totals = usage.in_sum(group.sums for group in those)
        rows.append(Row(identity or None, name_of.get(identity), provider or None, totals))
    rows.sort(key=lambda row: (-row.totals.requests, row.provider or "", row.id or ""))
    return tuple(rows)


def _names(by: By, snapshot: Snapshot) -> Mapping[str, str]:
    match by:
        case By.KEY:
            return {**{key.id: key.name for key in snapshot.keys}, **KEYLESS_NAMES}
        case By.CONNECTION:
            return {connection.id: connection.name for connection in snapshot.connections}
        case By.COMBO:
            return {combo.id: combo.name for combo in snapshot.combos}
        case _:
            return {}
