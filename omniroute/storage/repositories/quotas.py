"""Readings of providers' quotas: the newest of each window, and enough older ones to see the pace.

A row is one reading of one window. Of those that come within five minutes the last one stays, of older ones the last of
an hour: readings out of headers come with every answer, and a forecast needs no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import Row, Select, and_, bindparam, exists, func, select

from omniroute.records import GrantWindow, QuotaReading
from omniroute.storage.models import ProviderConnection, QuotaSnapshot
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(QuotaSnapshot)
KEPT_S: Final = 30 * 86_400.0
STEP_S: Final = 300.0
COARSE_STEP_S: Final = 3600.0
COARSE_AFTER_S: Final = 2 * 86_400.0
_CONNECTIONS: Final = table_of(ProviderConnection)


def save(sql: Sql, readings: Iterable[QuotaReading]) -> None:
    """Store readings; each takes the place of those of its window that are hardly older."""
    for reading in sorted(readings, key=lambda one: (one.connection_id, one.window.name, one.fetched_at)):
        step_began = reading.fetched_at - reading.fetched_at % STEP_S
        sql.execute(
            TABLE.delete().where(
                TABLE.c.connection_id == reading.connection_id,
                TABLE.c.window_name == reading.window.name,
                TABLE.c.fetched_at.between(step_began, reading.fetched_at),
            )
        )
        sql.execute(TABLE.insert(), _values(reading))


def load_newest(sql: Sql) -> tuple[QuotaReading, ...]:
    """Return the newest reading of each window of each connection that is still there."""
    newest = (
        select(TABLE.c.connection_id, TABLE.c.window_name, func.max(TABLE.c.fetched_at).label("at"))
        .group_by(TABLE.c.connection_id, TABLE.c.window_name)
        .subquery()
    )
    is_newest = and_(
        TABLE.c.connection_id == newest.c.connection_id,
        TABLE.c.window_name == newest.c.window_name,
        TABLE.c.fetched_at == newest.c.at,
    )
    is_there = exists().where(_CONNECTIONS.c.id == TABLE.c.connection_id)
    return _read(sql, select(TABLE).join(newest, is_newest).where(is_there))


def load_since(sql: Sql, since: float) -> tuple[QuotaReading, ...]:
    """Return the readings made at a time or later, the oldest first."""
    return _read(sql, select(TABLE).where(TABLE.c.fetched_at >= since).order_by(TABLE.c.fetched_at))


def load_history(sql: Sql, since: float, connection_id: str | None = None) -> tuple[QuotaReading, ...]:
    """Return the readings since a time, of one connection or of all, the oldest first."""
    chosen = select(TABLE).where(TABLE.c.fetched_at >= since)
    if connection_id is not None:
        chosen = chosen.where(TABLE.c.connection_id == connection_id)
    return _read(sql, chosen.order_by(TABLE.c.fetched_at))


def forget(sql: Sql, connection_id: str) -> int:
    """Remove all readings of a connection and return how many there were."""
    return sql.execute(TABLE.delete().where(TABLE.c.connection_id == connection_id)).rowcount


def delete_before(sql: Sql, before: float) -> int:
    """Remove the readings from before a time."""
    return sql.execute(TABLE.delete().where(TABLE.c.fetched_at < before)).rowcount


def count_before(sql: Sql, before: float) -> int:
    """Return how many readings are from before a time."""
    return sql.execute(select(func.count()).select_from(TABLE).where(TABLE.c.fetched_at < before)).scalar() or 0


def prune(sql: Sql, now: float) -> int:
    """Remove what is too old, too many, or of connections that are no more; the newest of each window stays."""
    is_there = exists().where(_CONNECTIONS.c.id == TABLE.c.connection_id)
    removed = sql.execute(TABLE.delete().where(~is_there)).rowcount
    keys = (TABLE.c.connection_id, TABLE.c.window_name, TABLE.c.fetched_at)
    newest: dict[tuple[str, str], float] = {}
    hours: set[tuple[str, str, int]] = set()
    old = []
    for connection_id, window_name, at in sql.execute(select(*keys).order_by(TABLE.c.fetched_at.desc())):
        window = (connection_id, window_name)
        hour = (*window, int(at // COARSE_STEP_S))
        is_newest = newest.setdefault(window, at) == at
        if not is_newest and (at < now - KEPT_S or (at < now - COARSE_AFTER_S and hour in hours)):
            old.append({"connection": connection_id, "window": window_name, "at": at})
        hours.add(hour)
    if old:
        named = (keys[0] == bindparam("connection"), keys[1] == bindparam("window"), keys[2] == bindparam("at"))
        sql.execute(TABLE.delete().where(*named), old)
    return removed + len(old)


def _values(reading: QuotaReading) -> dict[str, Any]:
    window = reading.window
    return {
        "connection_id": reading.connection_id,
        "window_name": window.name,
        "fetched_at": reading.fetched_at,
        "used_fraction": window.used,
        "limit_value": window.limit,
        "remaining": window.remaining,
        "unit": window.unit,
        "length_s": window.length_s,
        "resets_at": window.resets_at,
        "family": window.family,
        "plan": reading.plan,
        "source": reading.source,
    }


def _read(sql: Sql, statement: Select[Any]) -> tuple[QuotaReading, ...]:
    return tuple(_reading(row) for row in sql.execute(statement))


def _reading(row: Row[Any]) -> QuotaReading:
    return QuotaReading(
        connection_id=row.connection_id,
        window=GrantWindow(
            name=row.window_name,
            used=row.used_fraction,
            limit=row.limit_value,
            remaining=row.remaining,
            unit=row.unit,
            length_s=row.length_s,
            resets_at=row.resets_at,
            family=row.family,
        ),
        fetched_at=row.fetched_at,
        source=row.source,
        plan=row.plan,
    )
