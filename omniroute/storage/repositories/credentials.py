"""Password hashes by name."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import select

from omniroute.storage import dialects
from omniroute.storage.models import Credential
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(Credential)
ADMIN_PASSWORD: Final = "admin_password"  # noqa: S105 - the name of the row


def get(sql: Sql, name: str) -> str | None:
    """Return the stored hash, or None."""
    found: str | None = sql.execute(select(TABLE.c.password_hash).where(TABLE.c.name == name)).scalar()
    return found


def exists(sql: Sql, name: str) -> bool:
    """Say whether a hash is stored."""
    return sql.execute(select(TABLE.c.name).where(TABLE.c.name == name)).first() is not None


def put(sql: Sql, name: str, password_hash: str, changed_at: float) -> None:
    """Store a hash in place of whatever was there."""
    insert = dialects.of(sql).insert_into(TABLE)
    new = {"password_hash": insert.excluded.password_hash, "changed_at": insert.excluded.changed_at}
    statement = insert.on_conflict_do_update(index_elements=[TABLE.c.name], set_=new)
    sql.execute(statement, {"name": name, "password_hash": password_hash, "changed_at": changed_at})


def insert_if_absent(sql: Sql, name: str, password_hash: str, changed_at: float) -> bool:
    """Store a hash unless there is one; True if this call stored it."""
    statement = dialects.of(sql).insert_into(TABLE).on_conflict_do_nothing(index_elements=[TABLE.c.name])
    values = {"name": name, "password_hash": password_hash, "changed_at": changed_at}
    return sql.execute(statement.returning(TABLE.c.name), values).first() is not None
