"""The times of the last requests, and the sessions that stay somewhere, as rows without more than is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, distinct, func, select
from sqlalchemy import Connection as Sql

from omniroute.storage.models import RequestLog, SessionBinding, UsageHourly
from omniroute.storage.models.base import table_of

LOG: Final = table_of(RequestLog)
BINDINGS: Final = table_of(SessionBinding)
HOURLY: Final = table_of(UsageHourly)
_IDS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Timed:
    """How long one request took."""

    time: float
    provider: str
    outcome: str
    duration_ms: float
    ttft_ms: float | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A session that stays at a connection."""

    session: str
    provider: str
    connection_id: str
    target: str | None
    updated_at: float
    expires_at: float


def newest_times(sql: Sql, since: float, at_most: int) -> list[Timed]:
    """Return the newest requests of clients since a time, newest first."""
    columns = (LOG.c.time, LOG.c.provider, LOG.c.outcome, LOG.c.duration_ms, LOG.c.ttft_ms)
    # Concatenated so that the index that is walked is that of time alone.
    wanted = select(*columns).where(LOG.c.time >= since, LOG.c.kind.concat("") == "request")
    rows = sql.execute(wanted.order_by(LOG.c.time.desc()).limit(at_most))
    return [Timed(row.time, row.provider or "", row.outcome, row.duration_ms, row.ttft_ms) for row in rows]


def sessions(sql: Sql, now: float, *, connection_id: str | None, limit: int, offset: int) -> tuple[list[Kept], int]:
    """Return a page of the sessions in force, the last used first, and how many there are."""
    where = _in_force(now)
    if connection_id is not None:
        where.append(BINDINGS.c.connection_id == connection_id)
    order = (BINDINGS.c.updated_at.desc(), BINDINGS.c.session_hash, BINDINGS.c.provider)
    rows = sql.execute(select(BINDINGS).where(*where).order_by(*order).limit(limit).offset(offset)).mappings()
    total = sql.execute(select(func.count()).select_from(BINDINGS).where(*where)).scalar_one()
    found = [
        Kept(
            row["session_hash"],
            row["provider"],
            row["connection_id"],
            row["target"],
            row["updated_at"],
            row["expires_at"],
        )
        for row in rows
    ]
    return found, total


def keys_of(sql: Sql, sessions: Sequence[str]) -> dict[str, str]:
    """Return which API key sessions belong to, as far as the request log still knows."""
    found: dict[str, str] = {}
    for start in range(0, len(sessions), _IDS_AT_ONCE):
        some = sessions[start : start + _IDS_AT_ONCE]
        statement = (
            select(LOG.c.session_hash, func.max(LOG.c.api_key_id))
            .where(LOG.c.session_hash.in_(some))
            .group_by(LOG.c.session_hash)
        )
        found.update({session: key for session, key in sql.execute(statement) if key})
    return found


def sessions_by_key(sql: Sql, now: float) -> dict[str, int]:
    """Return how many sessions in force each API key has, as far as the request log still knows."""
    alive = select(BINDINGS.c.session_hash).where(*_in_force(now))
    count = func.count(distinct(LOG.c.session_hash))
    statement = select(LOG.c.api_key_id, count).where(LOG.c.session_hash.in_(alive), LOG.c.api_key_id.is_not(None))
    return {row[0]: int(row[1]) for row in sql.execute(statement.group_by(LOG.c.api_key_id))}


def session_keys(sql: Sql, now: float, session: str | None) -> list[tuple[str, str]]:
    """Return session and provider of what is in force: of one session, or of all."""
    where = _in_force(now)
    if session is not None:
        where.append(BINDINGS.c.session_hash == session)
    return [(row[0], row[1]) for row in sql.execute(select(BINDINGS.c.session_hash, BINDINGS.c.provider).where(*where))]


def spending_by_hour(sql: Sql, since: int) -> dict[str, dict[int, int]]:
    """Return what each API key spent in each hour since a time, in nano-USD, by the hour's beginning."""
    spent = func.sum(HOURLY.c.billed_nano_usd)
    statement = (
        select(HOURLY.c.api_key_id, HOURLY.c.bucket, spent)
        .where(HOURLY.c.bucket >= since)
        .group_by(HOURLY.c.api_key_id, HOURLY.c.bucket)
    )
    found: dict[str, dict[int, int]] = {}
    for key, bucket, amount in sql.execute(statement):
        found.setdefault(key, {})[int(bucket)] = int(amount or 0)
    return found


def _in_force(now: float) -> list[ColumnElement[bool]]:
    return [BINDINGS.c.expires_at > now]
