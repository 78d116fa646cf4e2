"""Places of a scope that running requests hold as leases: freed by who took them, or by time when that one is gone."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import func, select

from omniroute.storage import dialects, postgres
from omniroute.storage.models import Slot
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(Slot)


def acquire(sql: Sql, scope: str, *, limit: int, request_id: str, owner: str, now: float, until: float) -> bool:
    """Take one of `limit` places of a scope until a time; False when all are held. A place already held is renewed."""
    dialects.of(sql).lock_names(sql, postgres.NAMES_SLOTS, (scope,))
    others = (TABLE.c.scope == scope, TABLE.c.expires_at > now, TABLE.c.request_id != request_id)
    if sql.execute(select(func.count()).select_from(TABLE).where(*others)).scalar_one() >= limit:
        return False
    insert = dialects.of(sql).insert_into(TABLE)
    statement = insert.values(scope=scope, request_id=request_id, owner=owner, expires_at=until).on_conflict_do_update(
        index_elements=[TABLE.c.scope, TABLE.c.request_id],
        set_={"owner": insert.excluded.owner, "expires_at": insert.excluded.expires_at},
    )
    sql.execute(statement)
    return True


def count(sql: Sql, scope: str, now: float) -> int:
    """Return how many places of a scope are held."""
    held = (TABLE.c.scope == scope, TABLE.c.expires_at > now)
    return int(sql.execute(select(func.count()).select_from(TABLE).where(*held)).scalar_one())


def renew(sql: Sql, owner: str, *, now: float, until: float) -> int:
    """Hold all places of an owner for longer; return how many those are.

    A lease that has ended stays ended: somebody else may have the place by now.
    """
    is_held = (TABLE.c.owner == owner, TABLE.c.expires_at > now)
    return sql.execute(TABLE.update().where(*is_held).values(expires_at=until)).rowcount


def release(sql: Sql, scope: str, request_id: str) -> bool:
    """Give a place back; False if it is no longer held."""
    return sql.execute(TABLE.delete().where(TABLE.c.scope == scope, TABLE.c.request_id == request_id)).rowcount == 1


def release_all(sql: Sql, owner: str) -> int:
    """Give back everything that an owner holds; return how many places that were."""
    return sql.execute(TABLE.delete().where(TABLE.c.owner == owner)).rowcount


def prune(sql: Sql, now: float) -> int:
    """Remove leases that have ended by time."""
    return sql.execute(TABLE.delete().where(TABLE.c.expires_at <= now)).rowcount
