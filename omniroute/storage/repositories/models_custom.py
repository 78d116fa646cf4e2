"""What operators say about models: those that they declared, and what overrides everybody else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, Table, func, select
from sqlalchemy import Connection as Sql

from omniroute.records import CustomModel, ModelOverride
from omniroute.storage import dialects, models
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import flag, mapping_of

CUSTOM: Final = table_of(models.CustomModel)
OVERRIDES: Final = table_of(models.ModelOverride)
_KEY: Final = ("provider", "model_id")
_NONE: Final[frozenset[str]] = frozenset()


# --- declared models -------------------------------------------------------------------------------------------------


def load_all(sql: Sql) -> tuple[CustomModel, ...]:
    """Return every declared model by provider and age."""
    rows = sql.execute(select(CUSTOM).order_by(CUSTOM.c.provider, CUSTOM.c.created_at, CUSTOM.c.model_id))
    return tuple(_custom(row) for row in rows.mappings())


def get(sql: Sql, provider: str, model_id: str) -> CustomModel | None:
    """Return one declared model, or None."""
    row = sql.execute(select(CUSTOM).where(_is(CUSTOM, provider, model_id))).mappings().first()
    return _custom(row) if row is not None else None


def count(sql: Sql) -> int:
    """Return how many are declared."""
    return sql.execute(select(func.count()).select_from(CUSTOM)).scalar_one()


def put(sql: Sql, record: CustomModel) -> None:
    """Store a declared model in place of the one with the same provider and id."""
    values = {
        "provider": record.provider,
        "model_id": record.model_id,
        "name": record.name,
        "kind": record.kind,
        "api_format": record.api_format,
        "context_length": record.context_length,
        "max_output": record.max_output,
        "capabilities_json": words_to_json(record.able, record.unable),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }
    _upsert(sql, CUSTOM, [values])


def delete(sql: Sql, provider: str, model_id: str | None = None) -> int:
    """Remove a declared model, or with no id all of a provider; return how many those were."""
    return sql.execute(CUSTOM.delete().where(_is(CUSTOM, provider, model_id))).rowcount


# --- overrides -------------------------------------------------------------------------------------------------------


def load_overrides(sql: Sql) -> tuple[ModelOverride, ...]:
    """Return every override by provider and model."""
    rows = sql.execute(select(OVERRIDES).order_by(OVERRIDES.c.provider, OVERRIDES.c.model_id))
    return tuple(_override(row) for row in rows.mappings())


def get_override(sql: Sql, provider: str, model_id: str) -> ModelOverride | None:
    """Return what is said about one model, or None."""
    row = sql.execute(select(OVERRIDES).where(_is(OVERRIDES, provider, model_id))).mappings().first()
    return _override(row) if row is not None else None


def put_overrides(sql: Sql, records: Iterable[ModelOverride]) -> None:
    """Store overrides in place of those for the same models; one that says nothing is removed."""
    kept = []
    for record in records:
        if record.is_empty:
            delete_override(sql, record.provider, record.model_id)
        else:
            kept.append(_override_values(record))
    if kept:
        _upsert(sql, OVERRIDES, kept)


def delete_override(sql: Sql, provider: str, model_id: str | None = None) -> int:
    """Remove what is said about a model, or with no id about all of a provider; return how many those were."""
    return sql.execute(OVERRIDES.delete().where(_is(OVERRIDES, provider, model_id))).rowcount


# --- columns ---------------------------------------------------------------------------------------------------------


def words_to_json(able: frozenset[str], unable: frozenset[str]) -> str | None:
    """Return capabilities as they are stored: `{"tools": true, "vision": false}`; None where nothing is said."""
    said = {**dict.fromkeys(sorted(able), True), **dict.fromkeys(sorted(unable), False)}
    return json.dumps(said, separators=(",", ":")) if said else None


def words_of(text: str | None) -> tuple[frozenset[str], frozenset[str]]:
    """Return what a model is said to have and to lack."""
    if not text:
        return _NONE, _NONE
    said = mapping_of(text)
    return (
        frozenset(word for word, has_it in said.items() if has_it is True),
        frozenset(word for word, has_it in said.items() if has_it is False),
    )


def _upsert(sql: Sql, table: Table, rows: list[dict[str, Any]]) -> None:
    insert = dialects.of(sql).insert_into(table)
    kept = (*_KEY, "created_at")
    changed = {name: insert.excluded[name] for name in rows[0] if name not in kept}
    sql.execute(insert.on_conflict_do_update(index_elements=[table.c[name] for name in _KEY], set_=changed), rows)


def _is(table: Table, provider: str, model_id: str | None) -> ColumnElement[bool]:
    chosen: ColumnElement[bool] = table.c.provider == provider
    return chosen if model_id is None else chosen & (table.c.model_id == model_id)


def _override_values(record: ModelOverride) -> dict[str, Any]:
    return {
        "provider": record.provider,
        "model_id": record.model_id,
        "is_hidden": flag(record.is_hidden),
        "context_length": record.context_length,
        "max_output": record.max_output,
        "capabilities_json": words_to_json(record.able, record.unable),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def _custom(row: RowMapping) -> CustomModel:
    able, unable = words_of(row["capabilities_json"])
    return CustomModel(
        provider=row["provider"],
        model_id=row["model_id"],
        name=row["name"],
        kind=row["kind"] or "chat",
        api_format=row["api_format"],
        context_length=row["context_length"],
        max_output=row["max_output"],
        able=able,
        unable=unable,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _override(row: RowMapping) -> ModelOverride:
    able, unable = words_of(row["capabilities_json"])
    return ModelOverride(
        provider=row["provider"],
        model_id=row["model_id"],
        is_hidden=bool(row["is_hidden"]),
        context_length=row["context_length"],
        max_output=row["max_output"],
        able=able,
        unable=unable,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
