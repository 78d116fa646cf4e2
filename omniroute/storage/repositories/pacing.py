"""When the next request may start: one row per paced key, moved by the generic cell rate algorithm."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import case, literal, select

from omniroute.storage import dialects
from omniroute.storage.models import Pacing
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(Pacing)
_ROUNDING_S: Final = 1e-6
"""Epoch seconds are exact to a quarter of this; who waits as long as was said has waited long enough."""
_SHORTEST_WAIT_S: Final = 0.001
"""What a refusal says at least, since 0 is a grant."""


def take(sql: Sql, key: str, *, gap_s: float, burst: float, now: float) -> float:
    """Take the next place of a key; return 0 when the request may start now, else the seconds until one may.

    One statement decides and moves, so that of any number of workers none grants twice. A refusal moves nothing.

    Args:
        sql: a write transaction.
        key: what is paced.
        gap_s: how far places are apart.
        burst: how many places may be taken ahead of their time.
        now: epoch seconds on the clock that all workers share.
    """
    at = literal(now)
    next_free = case((TABLE.c.next_slot_at > at, TABLE.c.next_slot_at), else_=at)
    insert = dialects.of(sql).insert_into(TABLE)
    statement = insert.values(key=key, next_slot_at=now + gap_s).on_conflict_do_update(
        index_elements=[TABLE.c.key],
        set_={"next_slot_at": next_free + literal(gap_s)},
        where=next_free - at <= literal(burst * gap_s + _ROUNDING_S),
    )
    if sql.execute(statement.returning(TABLE.c.key)).first() is not None:
        return 0.0
    stored = sql.execute(select(TABLE.c.next_slot_at).where(TABLE.c.key == key)).scalar()
    return max(_SHORTEST_WAIT_S, (stored or now) - burst * gap_s - now)


def prune(sql: Sql, before: float) -> int:
    """Remove rows that hold nobody back: their next place was free before a time."""
    return sql.execute(TABLE.delete().where(TABLE.c.next_slot_at < before)).rowcount
