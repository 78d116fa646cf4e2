"""Run-time settings: JSON values by section and name."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import select

from omniroute.storage import dialects
from omniroute.storage.models import Setting
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(Setting)


def load_all(sql: Sql) -> dict[tuple[str, str], Any]:
    """Return every stored setting by (section, name)."""
    rows = sql.execute(select(TABLE.c.section, TABLE.c.name, TABLE.c.value_json))
    return {(section, name): json.loads(value) for section, name, value in rows}


def get(sql: Sql, section: str, name: str) -> Any:
    """Return one stored setting, or None."""
    text = sql.execute(select(TABLE.c.value_json).where(TABLE.c.section == section, TABLE.c.name == name)).scalar()
    return json.loads(text) if text is not None else None


def put(sql: Sql, section: str, name: str, value: Any, *, changed_by: str | None, now: float) -> None:
    """Store a setting in place of whatever was there."""
    insert = dialects.of(sql).insert_into(TABLE)
    statement = insert.on_conflict_do_update(
        index_elements=[TABLE.c.section, TABLE.c.name],
        set_={name: insert.excluded[name] for name in ("value_json", "changed_by", "updated_at")},
    )
    row = {"section": section, "name": name, "value_json": json.dumps(value, ensure_ascii=False)}
    sql.execute(statement, {**row, "changed_by": changed_by, "created_at": now, "updated_at": now})


def delete(sql: Sql, section: str, name: str) -> bool:
    """Remove a setting, so that its default counts again; False if there was none."""
    return sql.execute(TABLE.delete().where(TABLE.c.section == section, TABLE.c.name == name)).rowcount == 1
