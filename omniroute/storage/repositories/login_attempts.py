"""Failed logins by address, counted in the database so that all workers and every restart agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import case, literal, select

from omniroute.storage import dialects
from omniroute.storage.models import LoginAttempt
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(LoginAttempt)


@dataclass(frozen=True, slots=True)
class Attempts:
    """What is counted against an address."""

    address: str
    failures: int
    window_start: float
    locked_until: float | None


def get(sql: Sql, address: str) -> Attempts | None:
    """Return what is counted against an address, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.address == address)).mappings().first()
    return Attempts(**row) if row is not None else None


def add_failure(sql: Sql, address: str, *, now: float, window_s: float, limit: int, lock_s: float) -> Attempts:
    """Count a failure in one statement and lock the address when it is the `limit`th within `window_s`."""
    insert = dialects.of(sql).insert_into(TABLE)
    is_old = TABLE.c.window_start <= literal(now - window_s)
    failures = case((is_old, 1), else_=TABLE.c.failures + 1)
    locks = (case((is_old, 1), else_=TABLE.c.failures + 1)) >= literal(limit)
    statement = insert.values(
        address=address, failures=1, window_start=now, locked_until=now + lock_s if limit <= 1 else None
    ).on_conflict_do_update(
        index_elements=[TABLE.c.address],
        set_={
            "failures": failures,
            "window_start": case((is_old, literal(now)), else_=TABLE.c.window_start),
            "locked_until": case((locks, literal(now + lock_s)), else_=TABLE.c.locked_until),
        },
    )
    return Attempts(**sql.execute(statement.returning(*TABLE.c)).mappings().one())


def clear(sql: Sql, address: str) -> bool:
    """Forget what is counted against an address; False if nothing was."""
    return sql.execute(TABLE.delete().where(TABLE.c.address == address)).rowcount == 1


def list_locked(sql: Sql, now: float) -> tuple[Attempts, ...]:
    """Return the addresses that are locked now."""
    rows = sql.execute(select(TABLE).where(TABLE.c.locked_until > now).order_by(TABLE.c.address)).mappings()
    return tuple(Attempts(**row) for row in rows)


def delete_old(sql: Sql, before: float) -> int:
    """Remove counters whose window began before a time and that lock nobody after it."""
    is_unlocked = TABLE.c.locked_until.is_(None) | (TABLE.c.locked_until < before)
    return sql.execute(TABLE.delete().where(TABLE.c.window_start < before, is_unlocked)).rowcount
