"""What is taken out of requests to a provider and what is set in them; a column of what was chosen for providers."""

from __future__ import annotations

import json
from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import select

from omniroute.records import ParamFilters
from omniroute.storage import dialects
from omniroute.storage.models import ProviderSetting
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import mapping_of

TABLE: Final = table_of(ProviderSetting)


def load_all(sql: Sql) -> dict[str, ParamFilters]:
    """Return the filters by provider id; providers without any are left out."""
    statement = select(TABLE.c.provider, TABLE.c.param_filters_json).where(TABLE.c.param_filters_json.is_not(None))
    return {provider: _record(text) for provider, text in sql.execute(statement.order_by(TABLE.c.provider))}


def put(sql: Sql, provider: str, filters: ParamFilters, now: float) -> None:
    """Store the filters of a provider in place of what was there."""
    text = json.dumps({"strip": list(filters.strip), "force": dict(filters.force)}, ensure_ascii=False)
    insert = dialects.of(sql).insert_into(TABLE)
    changed = {name: insert.excluded[name] for name in ("param_filters_json", "updated_at")}
    row = {"provider": provider, "param_filters_json": text, "created_at": now, "updated_at": now}
    sql.execute(insert.on_conflict_do_update(index_elements=[TABLE.c.provider], set_=changed), row)


def delete(sql: Sql, provider: str, now: float) -> bool:
    """Remove the filters of a provider; False if it had none."""
    statement = TABLE.update().where(TABLE.c.provider == provider, TABLE.c.param_filters_json.is_not(None))
    return sql.execute(statement, {"param_filters_json": None, "updated_at": now}).rowcount == 1


def _record(text: str) -> ParamFilters:
    stored = mapping_of(text)
    return ParamFilters(tuple(stored.get("strip", ())), dict(stored.get("force", {})))
