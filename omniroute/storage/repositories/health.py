"""What rests, is locked out, open or dead, as workers share it: one row per scope and kind.

A row that was cleared stays for a while as a tombstone, so that workers that read only what has changed learn of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import Row, Select, select

from omniroute.routing.marks import HealthRow, Key, Kind, State
from omniroute.storage import dialects, postgres
from omniroute.storage.models import HealthState
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(HealthState)
_NAMES: Final = ("scope", "kind", "state", "step", "until", "reason", "data_json", "created_at", "updated_at")
_COLUMNS: Final = tuple(TABLE.c[name] for name in _NAMES)
_HEAD: Final = f"INSERT INTO {TABLE.name} ({', '.join(_NAMES)})"
_TAIL: Final = "ON CONFLICT (scope, kind) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _NAMES[2:]
)

_KINDS: Final = frozenset(Kind)
_STATES: Final = frozenset(State)


def load_all(sql: Sql) -> tuple[HealthRow, ...]:
    """Return every row, tombstones included."""
    return _read(sql, select(*_COLUMNS))


def load_changed(sql: Sql, since: float) -> tuple[HealthRow, ...]:
    """Return the rows that were stored at a time or later."""
    return _read(sql, select(*_COLUMNS).where(TABLE.c.updated_at >= since))


def lock(sql: Sql, scopes: Collection[str]) -> dict[Key, HealthRow]:
    """Return the rows of scopes and keep others from changing them, or making them, until the transaction ends."""
    dialects.of(sql).lock_names(sql, postgres.NAMES_HEALTH, scopes)
    found = _read(sql, select(*_COLUMNS).where(TABLE.c.scope.in_(scopes)).with_for_update())
    return {row.key: row for row in found}


def save(sql: Sql, rows: Iterable[HealthRow]) -> None:
    """Store rows over what is there; each scope and kind at most once."""
    # In one order, so that two workers that store the same rows cannot each wait for the other.
    ordered = sorted(rows, key=lambda row: row.key)
    values = [
        (
            row.scope,
            row.kind,
            row.state,
            row.step,
            row.until,
            row.reason,
            json.dumps(dict(row.data)) if row.data else None,
            row.created_at,
            row.updated_at,
        )
        for row in ordered
    ]
    dialects.of(sql).insert_many(sql, _HEAD, _COLUMNS, values, _TAIL)


def prune(sql: Sql, before: float) -> int:
    """Remove tombstones that were set before a time."""
    is_over = (TABLE.c.state == State.CLEAR, TABLE.c.updated_at < before)
    return sql.execute(TABLE.delete().where(*is_over)).rowcount


def _read(sql: Sql, statement: Select[Any]) -> tuple[HealthRow, ...]:
    """Return the rows whose kind and state we know: another release may have stored others."""
    return tuple(_row(row) for row in sql.execute(statement) if row.kind in _KINDS and row.state in _STATES)


def _row(row: Row[Any]) -> HealthRow:
    return HealthRow(
        scope=row.scope,
        kind=Kind(row.kind),
        state=State(row.state),
        step=row.step,
        until=row.until,
        reason=row.reason,
        data=json.loads(row.data_json) if row.data_json else {},
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
