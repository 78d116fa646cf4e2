"""Responses by id: what the gateway issued, and where a provider's ids came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import func, select

from omniroute.storage import dialects
from omniroute.storage.models import IssuedResponse, ResponseOrigin
from omniroute.storage.models.base import table_of

ISSUED: Final = table_of(IssuedResponse)
ORIGINS: Final = table_of(ResponseOrigin)


@dataclass(frozen=True, slots=True)
class Issued:
    """One stored response; the two texts are ciphertext."""

    id: str
    api_key_id: str
    previous_id: str | None
    items_enc: str
    response_enc: str
    bytes: int
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an id came from."""

    id: str
    api_key_id: str
    connection_id: str
    provider: str
    model: str
    expires_at: float


def insert(sql: Sql, issued: Issued) -> None:
    """Store a response."""
    sql.execute(ISSUED.insert().values({name: getattr(issued, name) for name in Issued.__slots__}))


def get(sql: Sql, response_id: str, api_key_id: str, now: float) -> Issued | None:
    """Return a response of this owner that has not expired, or None."""
    where = (ISSUED.c.id == response_id, ISSUED.c.api_key_id == api_key_id, ISSUED.c.expires_at > now)
    row = sql.execute(select(ISSUED).where(*where)).mappings().first()
    return Issued(**row) if row is not None else None


def chain(sql: Sql, response_id: str, api_key_id: str, now: float, most: int) -> list[Issued]:
    """Return a response and those that it goes back to, oldest first; empty when the first is not there.

    Stops at `most`, and where an earlier one is gone.
    """
    found: list[Issued] = []
    wanted: str | None = response_id
    while wanted is not None and len(found) < most:
        issued = get(sql, wanted, api_key_id, now)
        if issued is None:
            break
        found.append(issued)
        wanted = issued.previous_id
    return found[::-1]


def delete(sql: Sql, response_id: str, api_key_id: str) -> bool:
    """Remove a response of this owner; False if there was none."""
    where = (ISSUED.c.id == response_id, ISSUED.c.api_key_id == api_key_id)
    return sql.execute(ISSUED.delete().where(*where)).rowcount == 1


def drop_oldest(sql: Sql, api_key_id: str, most_bytes: int) -> int:
    """Remove the oldest responses of an owner until the rest fits; return how many."""
    total = sql.execute(select(func.sum(ISSUED.c.bytes)).where(ISSUED.c.api_key_id == api_key_id)).scalar() or 0
    removed = 0
    while total > most_bytes:
        oldest = sql.execute(
            select(ISSUED.c.id, ISSUED.c.bytes)
            .where(ISSUED.c.api_key_id == api_key_id)
            .order_by(ISSUED.c.created_at, ISSUED.c.id)
            .limit(1)
        ).first()
        if oldest is None:
            break
        sql.execute(ISSUED.delete().where(ISSUED.c.id == oldest.id))
        total -= oldest.bytes
        removed += 1
    return removed


def put_origin(sql: Sql, origin: Origin) -> None:
    """Store where an id came from, in place of what was stored for it."""
    insert_origin = dialects.of(sql).insert_into(ORIGINS)
    new = {name: insert_origin.excluded[name] for name in ("connection_id", "provider", "model", "expires_at")}
    statement = insert_origin.on_conflict_do_update(index_elements=[ORIGINS.c.id, ORIGINS.c.api_key_id], set_=new)
    sql.execute(statement, {name: getattr(origin, name) for name in Origin.__slots__})


def get_origin(sql: Sql, response_id: str, api_key_id: str, now: float) -> Origin | None:
    """Return where an id of this owner came from, or None."""
    where = (ORIGINS.c.id == response_id, ORIGINS.c.api_key_id == api_key_id, ORIGINS.c.expires_at > now)
    row = sql.execute(select(ORIGINS).where(*where)).mappings().first()
    return Origin(**row) if row is not None else None


def delete_origin(sql: Sql, response_id: str, api_key_id: str) -> bool:
    """Forget where an id came from; False if it was not known."""
    where = (ORIGINS.c.id == response_id, ORIGINS.c.api_key_id == api_key_id)
    return sql.execute(ORIGINS.delete().where(*where)).rowcount == 1


def delete_expired(sql: Sql, now: float) -> int:
    """Remove what has expired; return how many rows."""
    issued = sql.execute(ISSUED.delete().where(ISSUED.c.expires_at <= now)).rowcount
    return issued + sql.execute(ORIGINS.delete().where(ORIGINS.c.expires_at <= now)).rowcount
