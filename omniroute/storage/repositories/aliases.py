"""Other names for models, combos and channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, func, select

from omniroute.records import ModelAlias
from omniroute.storage import models
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import flag

TABLE: Final = table_of(models.ModelAlias)


def load_all(sql: Sql) -> tuple[ModelAlias, ...]:
    """Return every alias by age."""
    rows = sql.execute(select(TABLE).order_by(TABLE.c.created_at, TABLE.c.id)).mappings()
    return tuple(_record(row) for row in rows)


def find(sql: Sql, pattern: str) -> ModelAlias | None:
    """Return the alias with this pattern, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.pattern == pattern)).mappings().first()
    return _record(row) if row is not None else None


def get(sql: Sql, alias_id: str) -> ModelAlias | None:
    """Return one alias, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.id == alias_id)).mappings().first()
    return _record(row) if row is not None else None


def count(sql: Sql) -> int:
    """Return how many there are."""
    return sql.execute(select(func.count()).select_from(TABLE)).scalar_one()


def insert(sql: Sql, record: ModelAlias) -> None:
    """Store a new alias.

    Raises:
        Conflict: the pattern is taken.
    """
    sql.execute(TABLE.insert(), {**_values(record), "id": record.id, "created_at": record.created_at})


def update(sql: Sql, record: ModelAlias) -> bool:
    """Store every field of a changed alias but its hits; False if it is gone."""
    return sql.execute(TABLE.update().where(TABLE.c.id == record.id), _values(record)).rowcount == 1


def delete(sql: Sql, alias_id: str) -> bool:
    """Remove an alias; False if there was none."""
    return sql.execute(TABLE.delete().where(TABLE.c.id == alias_id)).rowcount == 1


def add_hits(sql: Sql, hits: Mapping[str, int]) -> None:
    """Count how often aliases were followed."""
    for alias_id in sorted(hits):  # in one order, so that two workers never wait for each other
        more = TABLE.c.hit_count + hits[alias_id]
        sql.execute(TABLE.update().where(TABLE.c.id == alias_id).values(hit_count=more))


def _values(record: ModelAlias) -> dict[str, Any]:
    return {
        "pattern": record.pattern,
        "target": record.target,
        "priority": record.priority,
        "enabled": flag(record.enabled),
        "updated_at": record.updated_at,
    }


def _record(row: RowMapping) -> ModelAlias:
    return ModelAlias(
        id=row["id"],
        pattern=row["pattern"],
        target=row["target"],
        priority=row["priority"],
        enabled=bool(row["enabled"]),
        hit_count=row["hit_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
