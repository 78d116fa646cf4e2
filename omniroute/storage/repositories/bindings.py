"""Where sessions stay: connection and target at each provider, until the binding ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import or_, select

from omniroute.storage import dialects
from omniroute.storage.models import SessionBinding
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(SessionBinding)
ENDED: Final = 0.0
"""When a binding expires that somebody has ended, so that workers who know it forget it."""
_SEEN_BY_ALL_S: Final = 30.0
_NAMES: Final = ("session_hash", "provider", "connection_id", "target", "updated_at", "expires_at")
_COLUMNS: Final = tuple(TABLE.c[name] for name in _NAMES)
_HEAD: Final = f"INSERT INTO {TABLE.name} ({', '.join(_NAMES)})"
_TAIL: Final = "ON CONFLICT (session_hash, provider) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _NAMES[2:]
)


@dataclass(frozen=True, slots=True)
class StoredBinding:
    """A session's place at a provider. `updated_at` is set when it is stored."""

    session: str
    provider: str
    connection_id: str
    target: str | None
    expires_at: float
    updated_at: float = 0.0


def load_changed(sql: Sql, since: float, *, now: float, at_most: int) -> tuple[StoredBinding, ...]:
    """Return the bindings that were stored at a time or later: the newest `at_most`, the oldest first.

    Those in force, and those that somebody has ended: they expire at `ENDED`.
    """
    found = (
        select(*_COLUMNS)
        .where(TABLE.c.updated_at >= since, or_(TABLE.c.expires_at > now, TABLE.c.expires_at == ENDED))
        .order_by(TABLE.c.updated_at.desc())
        .limit(at_most)
    )
    rows = sql.execute(found).all()
    return tuple(
        StoredBinding(row.session_hash, row.provider, row.connection_id, row.target, row.expires_at, row.updated_at)
        for row in reversed(rows)
    )


def save(sql: Sql, bindings: Iterable[StoredBinding], now: float) -> None:
    """Store bindings over what is there; each session and provider at most once."""
    # In one order, so that two workers that store the same rows cannot each wait for the other.
    ordered = sorted(bindings, key=lambda one: (one.session, one.provider))
    rows = [(one.session, one.provider, one.connection_id, one.target, now, one.expires_at) for one in ordered]
    dialects.of(sql).insert_many(sql, _HEAD, _COLUMNS, rows, _TAIL)


def prune(sql: Sql, now: float) -> int:
    """Remove bindings that have ended, once every worker has seen those that somebody has ended."""
    is_seen = or_(TABLE.c.expires_at != ENDED, TABLE.c.updated_at <= now - _SEEN_BY_ALL_S)
    return sql.execute(TABLE.delete().where(TABLE.c.expires_at <= now, is_seen)).rowcount
