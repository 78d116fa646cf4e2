"""Sums of requests by hour, day and month, so that no page adds up the request log."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from operator import itemgetter
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Select, Table, func, literal, select, tuple_
from sqlalchemy import Connection as Sql

from omniroute.storage import dialects
from omniroute.storage.closed_sums import View
from omniroute.storage.models import UsageDaily, UsageHourly, UsageMonthly
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.request_log import POSITIONS, Row

HOURLY: Final = table_of(UsageHourly)
DAILY: Final = table_of(UsageDaily)
MONTHLY: Final = table_of(UsageMonthly)
HOUR_S: Final = 3600
DAY_S: Final = 86_400
MONTH_S: Final = 30 * DAY_S
LATENCY_BOUNDS_MS: Final = (100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000)
"""Upper bounds of the histogram; a last column holds what is slower."""

_KEY: Final = ("bucket", "api_key_id", "provider", "model", "connection_id", "combo_id", "endpoint")
_SUMS: Final = tuple(column.name for column in HOURLY.c if column.name not in _KEY)
_LATENCY: Final = _SUMS.index("latency_100")
_ESTIMATED: Final = _SUMS.index("estimated")
_NAMED: Final = (*_SUMS[:_LATENCY], "estimated")
_KINDS: Final = tuple(float if name.endswith("_sum") else int for name in _NAMED)
_COLUMNS: Final = tuple(HOURLY.c[name] for name in (*_KEY, *_SUMS))

_NOTHING: Final[list[Any]] = [0.0 if name.endswith("_sum") else 0 for name in _SUMS]

Key = tuple[Any, ...]
Groups = dict[Key, list[Any]]
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a range of time."""

    requests: int
    failed: int
    cancelled: int
    fallbacks: int
    cache_hits: int
    tokens_in: int
    tokens_out: int
    cache_read: int
    cache_write: int
    reasoning: int
    billed_nano_usd: int
    subscription_nano_usd: int
    unpriced: int
    estimated: int
    duration_ms_sum: float
    ttft_ms_sum: float
    ttft_count: int
    latency: tuple[int, ...]
    """Requests by bucket of `LATENCY_BOUNDS_MS`, and slower ones."""


def add(sql: Sql, rows: Iterable[Row]) -> None:
    """Add rows of the request log that were just inserted to all tables, in the same transaction."""
    hours = _grouped(rows)
    if not hours:
        return
    days = _coarser(hours, DAY_S)
    for table, groups in ((HOURLY, hours), (DAILY, days), (MONTHLY, _coarser(days, MONTH_S))):
        # Sorted, so that two workers lock the same rows in the same order.
        values = [(*key, *groups[key]) for key in sorted(groups)]
        dialects.of(sql).insert_many(sql, _HEADS[table.name], _COLUMNS, values, _TAILS[table.name])


def totals(sql: Sql, *, since: float, until: float | None = None, api_key_id: str | None = None) -> Totals:
    """Return the sums of the hours that begin at or after `since`'s hour and before `until`."""
    table = HOURLY
    conditions: list[ColumnElement[bool]] = [table.c.bucket >= int(since) - int(since) % HOUR_S]
    if until is not None:
        conditions.append(table.c.bucket < until)
    if api_key_id is not None:
        conditions.append(table.c.api_key_id == api_key_id)
    sums = [func.coalesce(func.sum(table.c[name]), 0) for name in _SUMS]
    row = sql.execute(select(*sums).where(*conditions)).one()
    return _totals(row)


def _totals(row: Sequence[Any]) -> Totals:
    values = {name: float(v) if name.endswith("_sum") else int(v) for name, v in zip(_SUMS, row, strict=True)}
    latency = tuple(int(value) for value in row[_LATENCY : _LATENCY + len(LATENCY_BOUNDS_MS) + 1])
    return Totals(**{name: values[name] for name in _NAMED}, latency=latency)  # type: ignore[arg-type]


# --- breakdowns ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """Whole hours or days: those that begin at or after `start` and before `end`.

    Attributes:
        end: None for everything from `start` on.
        step_s: `HOUR_S` or `DAY_S`, of which both times are multiples; or `MONTH_S` for a series, of whole days.
    """

    start: int
    end: int | None
    step_s: int


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What sums are narrowed to; None does not narrow, "" stands for requests that have none."""

    api_key_id: str | None = None
    provider: str | None = None
    model: str | None = None
    combo_id: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The sums of what one key asked of one model on one connection, through one combo. "" stands for none.

    Attributes:
        sums: for :func:`in_sum`, which adds those of several groups up.
    """

    api_key_id: str
    provider: str
    model: str
    connection_id: str
    combo_id: str
    sums: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Point:
    """The sums of one bucket, as charts and tables by day need them."""

    bucket: int
    requests: int
    failed: int
    cancelled: int
    tokens_in: int
    tokens_out: int
    cache_read: int
    billed_nano_usd: int
    subscription_nano_usd: int
    unpriced: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Durations of requests of one provider, or of one of its models."""

    provider: str
    model: str | None
    requests: int
    duration_ms_sum: float
    counts: tuple[int, ...]
    """Requests by bucket of `LATENCY_BOUNDS_MS`, and slower ones."""


_GROUPED: Final = ("api_key_id", "provider", "model", "connection_id", "combo_id")
_TABLES: Final = {HOUR_S: HOURLY, DAY_S: DAILY}
_SERIES: Final = tuple(field.name for field in fields(Point))[1:]


def oldest_day(sql: Sql) -> int | None:
    """Return the first day of which sums are kept."""
    oldest: int | None = sql.execute(select(func.min(DAILY.c.bucket))).scalar()
    return oldest


def oldest_hour(sql: Sql) -> int | None:
    """Return the first hour of which sums are kept."""
    oldest: int | None = sql.execute(select(func.min(HOURLY.c.bucket))).scalar()
    return oldest


def groups(sql: Sql, span: Span, narrowed: Narrowed, closed: View | None = None) -> list[Group]:
    """Return the sums of a span, added up over its buckets and endpoints; nothing is kept from before its first day.

    `closed` answers for what is over, here as below, unless the sums are narrowed: few rows are as quick to add up.
    """
    width = len(_GROUPED)
    sums: dict[Key, Sequence[Any]] = {}
    for part in _parts(span, narrowed):
        for row in _added_up(sql, part, _GROUPED, _NAMED, closed):
            _merge(sums, row[:width], row[width:])
    return [Group(*(*key, values)) for key, values in sums.items()]


def in_sum(sums: Iterable[Sequence[Any]]) -> Totals:
    """Return sums of groups or days together; without latencies."""
    columns = tuple(zip(*sums, strict=True))
    return _named_totals([sum(value or 0 for value in column) for column in columns] if columns else [0] * len(_NAMED))


def in_all(sql: Sql, span: Span, narrowed: Narrowed) -> list[Sequence[Any]]:
    """Return the sums of the parts of a span over everything, for :func:`in_sum`."""
    return [row for part in _parts(span, narrowed) for row in _read(sql, part, (), _NAMED)]


def by_day(sql: Sql, since: int, narrowed: Narrowed) -> dict[int, Sequence[Any]]:
    """Return the sums of the days from one on, by when they began, for :func:`in_sum`."""
    return {day: sums for day, *sums in _read(sql, _Part(DAILY, since, None, narrowed), ("bucket",), _NAMED)}


def series(sql: Sql, span: Span, narrowed: Narrowed, closed: View | None = None) -> list[Point]:
    """Return the sums of a span by its steps, oldest first, without those in which nothing happened.

    Of steps of a month the first and the last hold what of them lies in the span.
    """
    points: dict[int, Sequence[int]] = {}
    whole = _Part(_TABLES.get(span.step_s, DAILY), span.start, span.end, narrowed)
    for part in _parts(span, narrowed) if span.step_s == MONTH_S else [whole]:
        for bucket, *sums in _added_up(sql, part, ("bucket",), _SERIES, closed):
            _merge(points, bucket - bucket % span.step_s, [int(value) for value in sums])
    return [Point(bucket, *points[bucket]) for bucket in sorted(points)]


def latencies(sql: Sql, span: Span, narrowed: Narrowed, *, by_model: bool) -> list[Latency]:
    """Return the histograms of a span by provider or by its models."""
    names = ("requests", "duration_ms_sum", *_SUMS[_LATENCY : _LATENCY + len(LATENCY_BOUNDS_MS) + 1])
    width = 2 if by_model else 1
    sums: dict[Key, Sequence[Any]] = {}
    for part in _parts(span, narrowed):
        for row in _added_up(sql, part, ("provider", "model")[:width], names, None):
            _merge(sums, row[:width], row[width:])
    return [
        Latency(key[0], key[1] if by_model else None, int(requests), float(duration), tuple(map(int, counts)))
        for key, (requests, duration, *counts) in sums.items()
    ]


def daily_rows(
    sql: Sql, equal: Mapping[str, str], *, after: tuple[Any, ...] | None, since: int, until: int, limit: int
) -> list[dict[str, Any]]:
    """Return some rows of the sums by day in the order of their key, those that follow a key (`key_of` a row).

    `equal` narrows them by columns of the key.
    """
    keys = [DAILY.c[name] for name in _KEY]
    chosen = select(DAILY).where(DAILY.c.bucket >= since, DAILY.c.bucket < until)
    chosen = chosen.where(*(DAILY.c[name] == value for name, value in equal.items()))
    if after is not None:
        # The first condition alone finds the place by the key; the second is exact.
        chosen = chosen.where(DAILY.c.bucket >= after[0], tuple_(*keys) > tuple_(*after))
    return [dict(row) for row in sql.execute(chosen.order_by(*keys).limit(limit)).mappings()]


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the key of a row of sums."""
    return tuple(row[name] for name in _KEY)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is read from one table."""

    table: Table
    start: int
    end: int | None
    narrowed: Narrowed


_LEVELS: Final = ((HOURLY, HOUR_S), (DAILY, DAY_S), (MONTHLY, MONTH_S))
_STEPS: Final = {table.name: step_s for table, step_s in _LEVELS}
_EVERYTHING: Final = Narrowed()
_MARKED: Final = ("requests", "tokens_in", "billed_nano_usd")


def _parts(span: Span, narrowed: Narrowed) -> Iterator[_Part]:
    """Divide a span into what is read from which table: whole months where there are any, then days, hours."""
    for table, start, end in _divided(span.start, span.end, 0 if span.step_s == HOUR_S else 1):
        yield _Part(table, start, end, narrowed)


def _divided(start: int, end: int | None, level: int) -> Iterator[tuple[Table, int, int | None]]:
    table = _LEVELS[level][0]
    if level + 1 == len(_LEVELS):
        yield table, start, end
        return
    step_s = _LEVELS[level + 1][1]
    first = -(-start // step_s) * step_s
    last = None if end is None else end // step_s * step_s
    if last is not None and last <= first:
        yield table, start, end
        return
    if start < first:
        yield table, start, first
    yield from _divided(first, last, level + 1)
    if last is not None and end is not None and last < end:
        yield table, last, end


def _added_up(
    sql: Sql, part: _Part, keys: tuple[str, ...], names: tuple[str, ...], closed: View | None
) -> Sequence[tuple[Any, ...]]:
    """Return sums of a part by some columns; what is over and what is in progress may each have a row of one key."""
    over = part.start if closed is None else closed.closed_until(_STEPS[part.table.name])
    if closed is None or over <= part.start or part.narrowed != _EVERYTHING:
        return _read(sql, part, keys, names)
    is_over = part.end is not None and part.end <= over
    past = part if is_over else replace(part, end=over)
    rows = closed.rows(
        past, (keys, names), read_mark=lambda: _mark(sql, past), read=lambda: _read(sql, past, keys, names)
    )
    return rows if is_over else [*rows, *_read(sql, replace(part, start=over), keys, names)]


def _read(sql: Sql, part: _Part, keys: tuple[str, ...], names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in sql.execute(_sums_by(part.table, keys, names).where(*_within(part)))]


def _mark(sql: Sql, part: _Part) -> tuple[Any, ...]:
    return tuple(sql.execute(_mark_of(part.table).where(*_within(part))).one())


@cache
def _mark_of(table: Table) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [func.count(), *(func.sum(table.c[name]) for name in _MARKED)]
    return select(*columns).select_from(table)


@cache
def _sums_by(table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> Select[Any]:
    """Return the question for sums by some columns; made once, because that takes longer than to answer it."""
    columns = [table.c[name] for name in keys]
    return select(*columns, *(func.sum(table.c[name]) for name in names)).group_by(*columns)


def _within(part: _Part) -> list[ColumnElement[bool]]:
    table = part.table
    conditions: list[ColumnElement[bool]] = [table.c.bucket >= part.start]
    if part.end is not None:
        conditions.append(table.c.bucket < part.end)
    for name in ("api_key_id", "provider", "model", "combo_id"):
        value = getattr(part.narrowed, name)
        if value is not None:
            conditions.append(table.c[name] == value)
    return conditions


def _named_totals(values: Sequence[Any]) -> Totals:
    typed = {name: kind(value) for name, kind, value in zip(_NAMED, _KINDS, values, strict=True)}
    return Totals(**typed, latency=())  # type: ignore[arg-type]


# --- retention -----------------------------------------------------------------------------------------------------


def prune(sql: Sql, *, hourly_before: float, daily_before: float, batch: int = 1000) -> int:
    """Remove sums of old hours, days and months and return how many rows; about `batch` of each.

    To be called again, in a new transaction, until nothing is left to remove.
    """
    removed = _prune(sql, HOURLY, hourly_before, batch)
    days = _prune(sql, DAILY, daily_before, batch)
    if days:
        oldest = oldest_day(sql)
        removed += _prune(sql, MONTHLY, daily_before if oldest is None else oldest - oldest % MONTH_S, batch)
        if oldest is not None:
            _rebuild_month(sql, oldest - oldest % MONTH_S)
    return removed + days


def count_before(sql: Sql, before: float) -> int:
    """Return how many sums of hours and days are older than `before`."""
    counts = (select(func.count()).select_from(table).where(table.c.bucket < before) for table in (HOURLY, DAILY))
    return sum(sql.execute(count).scalar() or 0 for count in counts)


def _prune(sql: Sql, table: Table, before: float, batch: int) -> int:
    """Remove whole buckets, the oldest first: as many as `batch` rows reach into."""
    nth = select(table.c.bucket).where(table.c.bucket < before).order_by(table.c.bucket).limit(1).offset(batch)
    last = sql.execute(nth).scalar()
    limit = table.c.bucket < before if last is None else table.c.bucket <= last
    return sql.execute(table.delete().where(limit)).rowcount


def _rebuild_month(sql: Sql, bucket: int) -> None:
    """Make the sums of a month of those of its days that are left."""
    keys = [DAILY.c[name] for name in _KEY[1:]]
    chosen = select(literal(bucket), *keys, *(func.sum(DAILY.c[name]) for name in _SUMS))
    chosen = chosen.where(DAILY.c.bucket >= bucket, DAILY.c.bucket < bucket + MONTH_S).group_by(*keys)
    sql.execute(MONTHLY.delete().where(MONTHLY.c.bucket == bucket))
    sql.execute(MONTHLY.insert().from_select([*_KEY, *_SUMS], chosen))


# --- adding up -----------------------------------------------------------------------------------------------------

_key_of: Final = itemgetter(
    *(POSITIONS[name] for name in ("kind", "api_key_id", "provider", "model", "connection_id", "combo_id", "endpoint"))
)
_TIME: Final = POSITIONS["time"]
_OUTCOME: Final = POSITIONS["outcome"]
_ATTEMPTS: Final = POSITIONS["attempts"]
_CACHE: Final = POSITIONS["cache"]
_COST: Final = POSITIONS["cost_nano_usd"]
_COST_KIND: Final = POSITIONS["cost_kind"]
_EXTRA: Final = POSITIONS["extra_nano_usd"]
_IS_ESTIMATED: Final = POSITIONS["is_estimated"]
_DURATION: Final = POSITIONS["duration_ms"]
_TTFT: Final = POSITIONS["ttft_ms"]
_TOKENS: Final = tuple(
    (_SUMS.index(name), POSITIONS[name])
    for name in ("tokens_in", "tokens_out", "cache_read", "cache_write", "reasoning")
)


def _grouped(rows: Iterable[Row]) -> Groups:
    """Add rows up by hour and key."""
    by_key: dict[Key, list[Any]] = {}
    for row in rows:
        hour = int(row[_TIME]) // HOUR_S
        key = (hour, *_key_of(row))
        sums = by_key.get(key)
        if sums is None:
            sums = by_key[key] = _NOTHING.copy()
        _count(sums, row)
    groups: Groups = {}
    for (hour, kind, *ids, endpoint), sums in by_key.items():
        if kind == "request":
            names = (*(name or "" for name in ids), endpoint)
            _merge(groups, (hour * HOUR_S, *names), sums)
    return groups


def _coarser(groups: Groups, bucket_s: int) -> Groups:
    """Add sums up by longer buckets."""
    longer: Groups = {}
    for key, sums in groups.items():
        _merge(longer, (key[0] - key[0] % bucket_s, *key[1:]), sums)
    return longer


def _merge(groups: dict[K, Any], key: K, sums: Sequence[Any]) -> None:
    present = groups.get(key)
    groups[key] = sums if present is None else [a + b for a, b in zip(present, sums, strict=True)]


def _count(sums: list[Any], row: Row) -> None:
    """Add one row; positions as in `_SUMS` (checked by a test), because this runs for every request."""
    sums[0] += 1
    outcome = row[_OUTCOME]
    if outcome != "success":
        sums[2 if outcome == "cancelled" else 1] += 1
    if row[_ATTEMPTS] > 1:
        sums[3] += 1
    if row[_CACHE] == "hit":
        sums[4] += 1
    for at, position in _TOKENS:
        if tokens := row[position]:
            sums[at] += tokens
    match row[_COST_KIND]:
        case "billed":
            sums[10] += row[_COST] or 0
        case "subscription":
            sums[11] += row[_COST] or 0
        case "unpriced":
            sums[12] += 1
    sums[10] += row[_EXTRA]
    sums[_ESTIMATED] += row[_IS_ESTIMATED]
    duration, ttft = row[_DURATION], row[_TTFT]
    sums[13] += duration
    if ttft is not None:
        sums[14] += ttft
        sums[15] += 1
    sums[_LATENCY + bisect_left(LATENCY_BOUNDS_MS, duration)] += 1


def _head(table: Table) -> str:
    return f"INSERT INTO {table.name} ({', '.join((*_KEY, *_SUMS))})"


def _tail(table: Table) -> str:
    changes = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in _SUMS)
    return f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {changes}"


_HEADS: Final = {table.name: _head(table) for table in (HOURLY, DAILY, MONTHLY)}
_TAILS: Final = {table.name: _tail(table) for table in (HOURLY, DAILY, MONTHLY)}
