"""What strategies and workers remember between requests: a JSON value under a scope and a kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection as Sql
from sqlalchemy import select

from omniroute.storage import dialects, postgres
from omniroute.storage.models import RoutingCounter
from omniroute.storage.models.base import table_of

Key = tuple[str, str]
"""Scope and kind."""

FIGURES: Final = "figures"
"""Kind of what one worker has seen of options; the scope names the worker."""

TABLE: Final = table_of(RoutingCounter)
_COLUMNS: Final = (TABLE.c.scope, TABLE.c.kind, TABLE.c.value_json, TABLE.c.updated_at)
_HEAD: Final = f"INSERT INTO {TABLE.name} ({', '.join(column.name for column in _COLUMNS)})"
_TAIL: Final = (
    "ON CONFLICT (scope, kind) DO UPDATE SET value_json = excluded.value_json, updated_at = excluded.updated_at"
)


@dataclass(frozen=True, slots=True)
class Counter:
    """A stored value."""

    scope: str
    kind: str
    value: Any
    updated_at: float


def load_changed(sql: Sql, since: float, *, of_figures: bool, at_most: int) -> tuple[Counter, ...]:
    """Return the values that were stored at a time or later: the newest `at_most`, the oldest first.

    Args:
        sql: a transaction.
        since: epoch seconds on the clock that stamps the rows.
        of_figures: the workers' figures alone, or all but them.
        at_most: how many.
    """
    is_wanted = TABLE.c.kind == FIGURES if of_figures else TABLE.c.kind != FIGURES
    found = select(*_COLUMNS).where(TABLE.c.updated_at >= since, is_wanted)
    rows = sql.execute(found.order_by(TABLE.c.updated_at.desc()).limit(at_most)).all()
    return tuple(Counter(scope, kind, msgspec.json.decode(text), at) for scope, kind, text, at in reversed(rows))


def lock(sql: Sql, keys: Collection[Key]) -> dict[Key, Any]:
    """Return the values of some keys and keep others from changing them, or making them, until the transaction ends."""
    dialects.of(sql).lock_names(sql, postgres.NAMES_COUNTERS, ("\x1f".join(key) for key in keys))
    scopes, kinds = {scope for scope, _ in keys}, {kind for _, kind in keys}
    rows = sql.execute(select(*_COLUMNS).where(TABLE.c.scope.in_(scopes), TABLE.c.kind.in_(kinds)))
    return {(scope, kind): msgspec.json.decode(text) for scope, kind, text, _ in rows if (scope, kind) in keys}


def save(sql: Sql, values: Mapping[Key, Any], now: float) -> None:
    """Store values over what is there."""
    # In one order, so that two workers that store the same rows cannot each wait for the other.
    rows = [(scope, kind, _text(values[scope, kind]), now) for scope, kind in sorted(values)]
    dialects.of(sql).insert_many(sql, _HEAD, _COLUMNS, rows, _TAIL)


def prune(sql: Sql, before: float, *, kind: str | None = None) -> int:
    """Remove values, all or those of a kind, that nobody has stored again since a time."""
    is_old = TABLE.c.updated_at < before
    return sql.execute(TABLE.delete().where(is_old if kind is None else is_old & (TABLE.c.kind == kind))).rowcount


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
