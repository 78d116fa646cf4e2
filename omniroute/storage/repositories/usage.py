"""Sums of requests by hour and by day, so that no page adds up the request log."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy import Connection as Sql

from omniroute.storage import dialects
from omniroute.storage.models import UsageDaily, UsageHourly
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.request_log import POSITIONS, Row

HOURLY: Final = table_of(UsageHourly)
DAILY: Final = table_of(UsageDaily)
HOUR_S: Final = 3600
DAY_S: Final = 86_400
LATENCY_BOUNDS_MS: Final = (100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000)
"""Upper bounds of the histogram; a last column holds what is slower."""

_KEY: Final = ("bucket", "api_key_id", "provider", "model", "connection_id", "combo_id", "endpoint")
_SUMS: Final = tuple(column.name for column in HOURLY.c if column.name not in _KEY)
_LATENCY: Final = _SUMS.index("latency_100")
_ESTIMATED: Final = _SUMS.index("estimated")
_NAMED: Final = (*_SUMS[:_LATENCY], "estimated")
_COLUMNS: Final = tuple(HOURLY.c[name] for name in (*_KEY, *_SUMS))

_NOTHING: Final[list[Any]] = [0.0 if name.endswith("_sum") else 0 for name in _SUMS]

Key = tuple[Any, ...]
Groups = dict[Key, list[Any]]


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
    """Add rows of the request log that were just inserted to both tables, in the same transaction."""
    hours = _grouped(rows)
    if not hours:
        return
    days: Groups = {}
    for key, sums in hours.items():
        _merge(days, (key[0] - key[0] % DAY_S, *key[1:]), sums)
    for table, groups in ((HOURLY, hours), (DAILY, days)):
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


def prune(sql: Sql, *, hourly_before: float, daily_before: float) -> int:
    """Remove sums of old hours and days and return how many rows."""
    hours = sql.execute(HOURLY.delete().where(HOURLY.c.bucket < hourly_before)).rowcount
    return hours + sql.execute(DAILY.delete().where(DAILY.c.bucket < daily_before)).rowcount


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


def _merge(groups: Groups, key: Key, sums: list[Any]) -> None:
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


_HEADS: Final = {table.name: _head(table) for table in (HOURLY, DAILY)}
_TAILS: Final = {table.name: _tail(table) for table in (HOURLY, DAILY)}
