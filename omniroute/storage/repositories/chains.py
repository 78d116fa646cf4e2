"""Fallback chains: names to try when a request's own targets are exhausted."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, func, select

from omniroute.records import FallbackChain
from omniroute.storage import models
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import flag, texts_of

TABLE: Final = table_of(models.FallbackChain)


def load_all(sql: Sql) -> tuple[FallbackChain, ...]:
    """Return every chain in the order in which they are looked at."""
    rows = sql.execute(select(TABLE).order_by(TABLE.c.sort_order, TABLE.c.created_at, TABLE.c.id)).mappings()
    return tuple(_record(row) for row in rows)


def get(sql: Sql, chain_id: str) -> FallbackChain | None:
    """Return one chain, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.id == chain_id)).mappings().first()
    return _record(row) if row is not None else None


def find(sql: Sql, name: str) -> FallbackChain | None:
    """Return the chain with this name, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.name == name)).mappings().first()
    return _record(row) if row is not None else None


def count(sql: Sql) -> int:
    """Return how many there are."""
    return sql.execute(select(func.count()).select_from(TABLE)).scalar_one()


def insert(sql: Sql, record: FallbackChain) -> None:
    """Store a new chain.

    Raises:
        Conflict: the name is taken.
    """
    sql.execute(TABLE.insert(), {**_values(record), "id": record.id, "created_at": record.created_at})


def update(sql: Sql, record: FallbackChain) -> bool:
    """Store every field of a changed chain; False if it is gone."""
    return sql.execute(TABLE.update().where(TABLE.c.id == record.id), _values(record)).rowcount == 1


def delete(sql: Sql, chain_id: str) -> bool:
    """Remove a chain; False if there was none."""
    return sql.execute(TABLE.delete().where(TABLE.c.id == chain_id)).rowcount == 1


def _values(record: FallbackChain) -> dict[str, Any]:
    return {
        "name": record.name,
        "models_json": json.dumps(list(record.models), ensure_ascii=False),
        "match_json": json.dumps(list(record.match), ensure_ascii=False),
        "sort_order": record.order,
        "enabled": flag(record.enabled),
        "updated_at": record.updated_at,
    }


def _record(row: RowMapping) -> FallbackChain:
    return FallbackChain(
        id=row["id"],
        name=row["name"],
        models=texts_of(row["models_json"]),
        match=texts_of(row["match_json"]),
        order=row["sort_order"],
        enabled=bool(row["enabled"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
