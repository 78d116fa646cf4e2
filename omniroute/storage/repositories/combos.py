"""Combos and the patterns that lead to them. The steps are one JSON column, because they are read and written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, func, select

from omniroute.records import Combo, ComboPattern, ComboStep
from omniroute.storage import models
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import flag, mapping_of, texts_of, to_json

TABLE: Final = table_of(models.Combo)
PATTERNS: Final = table_of(models.ComboPattern)

_STEP_DEFAULTS: Final = ComboStep("")
_STEP_FIELDS: Final = (
    "kind",
    "model",
    "provider",
    "connection_id",
    "combo_name",
    "channel",
    "weight",
    "label",
    "tags",
    "prompt",
    "enabled",
)


def load_all(sql: Sql) -> tuple[Combo, ...]:
    """Return every combo in its stored order."""
    rows = sql.execute(select(TABLE).order_by(TABLE.c.sort_order, TABLE.c.created_at, TABLE.c.id)).mappings()
    return tuple(_record(row) for row in rows)


def get(sql: Sql, combo_id: str) -> Combo | None:
    """Return one combo, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.id == combo_id)).mappings().first()
    return _record(row) if row is not None else None


def count(sql: Sql) -> int:
    """Return how many there are."""
    return sql.execute(select(func.count()).select_from(TABLE)).scalar_one()


def insert(sql: Sql, record: Combo) -> None:
    """Store a new combo.

    Raises:
        Conflict: the name is taken.
    """
    sql.execute(TABLE.insert(), {**_values(record), "id": record.id, "created_at": record.created_at})


def update(sql: Sql, record: Combo) -> bool:
    """Store every field of a changed combo; False if it is gone."""
    return sql.execute(TABLE.update().where(TABLE.c.id == record.id), _values(record)).rowcount == 1


def delete(sql: Sql, combo_id: str) -> bool:
    """Remove a combo together with the patterns that lead to it; False if there was none."""
    sql.execute(PATTERNS.delete().where(PATTERNS.c.combo_id == combo_id))
    return sql.execute(TABLE.delete().where(TABLE.c.id == combo_id)).rowcount == 1


def set_default(sql: Sql, combo_id: str | None, now: float) -> bool:
    """Make one combo the default, or none; False if there is no such combo."""
    sql.execute(TABLE.update().where(TABLE.c.is_default == 1).values(is_default=0, updated_at=now))
    if combo_id is None:
        return True
    return sql.execute(TABLE.update().where(TABLE.c.id == combo_id).values(is_default=1, updated_at=now)).rowcount == 1


def set_order(sql: Sql, combo_ids: list[str]) -> None:
    """Give the combos the order of their ids."""
    for place, combo_id in enumerate(combo_ids):
        sql.execute(TABLE.update().where(TABLE.c.id == combo_id).values(sort_order=place))


# --- patterns --------------------------------------------------------------------------------------------------------


def load_patterns(sql: Sql) -> tuple[ComboPattern, ...]:
    """Return every pattern by age."""
    rows = sql.execute(select(PATTERNS).order_by(PATTERNS.c.created_at, PATTERNS.c.id)).mappings()
    return tuple(_pattern(row) for row in rows)


def get_pattern(sql: Sql, pattern_id: str) -> ComboPattern | None:
    """Return one pattern, or None."""
    row = sql.execute(select(PATTERNS).where(PATTERNS.c.id == pattern_id)).mappings().first()
    return _pattern(row) if row is not None else None


def insert_pattern(sql: Sql, record: ComboPattern) -> None:
    """Store a new pattern."""
    sql.execute(PATTERNS.insert(), {**_pattern_values(record), "id": record.id, "created_at": record.created_at})


def update_pattern(sql: Sql, record: ComboPattern) -> bool:
    """Store every field of a changed pattern; False if it is gone."""
    return sql.execute(PATTERNS.update().where(PATTERNS.c.id == record.id), _pattern_values(record)).rowcount == 1


def delete_pattern(sql: Sql, pattern_id: str) -> bool:
    """Remove a pattern; False if there was none."""
    return sql.execute(PATTERNS.delete().where(PATTERNS.c.id == pattern_id)).rowcount == 1


# --- columns ---------------------------------------------------------------------------------------------------------


def _values(record: Combo) -> dict[str, Any]:
    return {
        "name": record.name,
        "description": record.description,
        "strategy": record.strategy,
        "steps_json": json.dumps([_step_values(step) for step in record.steps], ensure_ascii=False),
        "config_json": to_json(record.config),
        "system_message": record.system_message,
        "tool_filter_regex": record.tool_filter_regex,
        "context_cache_protection": flag(record.context_cache_protection),
        "allowed_providers_json": to_json(record.allowed_providers),
        "allowed_families_json": to_json(record.allowed_families),
        "context_length": record.context_length,
        "is_active": flag(record.is_active),
        "is_default": flag(record.is_default),
        "sort_order": record.sort_order,
        "updated_at": record.updated_at,
    }


def _step_values(step: ComboStep) -> dict[str, Any]:
    """Return what of a step is not as usual."""
    values = {name: getattr(step, name) for name in _STEP_FIELDS}
    given = {name: value for name, value in values.items() if value != getattr(_STEP_DEFAULTS, name)}
    return {"id": step.id, **given}


def _record(row: RowMapping) -> Combo:
    return Combo(
        id=row["id"],
        name=row["name"],
        strategy=row["strategy"],
        steps=_steps_of(row["steps_json"], row["id"]),
        config=mapping_of(row["config_json"]),
        description=row["description"],
        system_message=row["system_message"],
        tool_filter_regex=row["tool_filter_regex"],
        context_cache_protection=bool(row["context_cache_protection"]),
        allowed_providers=texts_of(row["allowed_providers_json"]),
        allowed_families=texts_of(row["allowed_families_json"]),
        context_length=row["context_length"],
        is_active=bool(row["is_active"]),
        is_default=bool(row["is_default"]),
        sort_order=row["sort_order"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _steps_of(text: str, combo_id: str) -> tuple[ComboStep, ...]:
    """Read steps leniently: an import may have left out ids, or hold a name alone."""
    steps = []
    for place, given in enumerate(json.loads(text)):
        values: Mapping[str, Any] = given if isinstance(given, dict) else {"model": str(given)}
        known = {name: values[name] for name in _STEP_FIELDS if values.get(name) is not None}
        if "tags" in known:
            known["tags"] = tuple(str(tag) for tag in known["tags"])
        steps.append(ComboStep(id=str(values.get("id") or f"{combo_id}.{place}"), **known))
    return tuple(steps)


def _pattern_values(record: ComboPattern) -> dict[str, Any]:
    return {
        "pattern": record.pattern,
        "combo_id": record.combo_id,
        "priority": record.priority,
        "enabled": flag(record.enabled),
        "description": record.description,
        "updated_at": record.updated_at,
    }


def _pattern(row: RowMapping) -> ComboPattern:
    return ComboPattern(
        id=row["id"],
        pattern=row["pattern"],
        combo_id=row["combo_id"],
        priority=row["priority"],
        enabled=bool(row["enabled"]),
        description=row["description"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
