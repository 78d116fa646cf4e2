"""The number that every configuration write raises."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import select

from omniroute.storage.models import ConfigVersion
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(ConfigVersion)


def current(sql: Sql) -> int:
    """Return the configuration version."""
    return int(sql.execute(select(TABLE.c.version).where(TABLE.c.id == 1)).scalar_one())


def bump(sql: Sql, now: float) -> None:
    """Raise the version: every worker reloads its snapshot."""
    sql.execute(TABLE.update().where(TABLE.c.id == 1).values(version=TABLE.c.version + 1, changed_at=now))
