"""Dashboard sessions, by the digest of their id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import select

from omniroute.records import Session
from omniroute.storage.models import DashboardSession
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(DashboardSession)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as it is listed for its owner."""

    id: str
    session_hash: bytes
    address: str | None
    user_agent: str | None
    created_at: float
    last_seen_at: float
    expires_at: float
    revoked_at: float | None


def insert(sql: Sql, row: SessionRow) -> None:
    """Store a new session."""
    sql.execute(
        TABLE.insert(),
        {
            "id": row.id,
            "session_hash": row.session_hash,
            "address": row.address,
            "user_agent": row.user_agent,
            "last_seen_at": row.last_seen_at,
            "expires_at": row.expires_at,
            "revoked_at": row.revoked_at,
            "created_at": row.created_at,
            "updated_at": row.created_at,
        },
    )


def load_usable(sql: Sql, now: float) -> dict[bytes, Session]:
    """Return the sessions that are neither expired nor revoked, by digest."""
    columns = (TABLE.c.session_hash, TABLE.c.expires_at, TABLE.c.created_at, TABLE.c.revoked_at)
    rows = sql.execute(select(*columns).where(TABLE.c.expires_at > now, TABLE.c.revoked_at.is_(None)))
    return {
        bytes(digest): Session(bytes(digest), expires, created, revoked) for digest, expires, created, revoked in rows
    }


def list_usable(sql: Sql, now: float) -> tuple[SessionRow, ...]:
    """Return the sessions that are neither expired nor revoked, the most recently seen first."""
    usable = (TABLE.c.expires_at > now, TABLE.c.revoked_at.is_(None))
    rows = sql.execute(select(TABLE).where(*usable).order_by(TABLE.c.last_seen_at.desc(), TABLE.c.id)).mappings()
    return tuple(
        SessionRow(
            id=row["id"],
            session_hash=bytes(row["session_hash"]),
            address=row["address"],
            user_agent=row["user_agent"],
            created_at=row["created_at"],
            last_seen_at=row["last_seen_at"],
            expires_at=row["expires_at"],
            revoked_at=row["revoked_at"],
        )
        for row in rows
    )


def touch(sql: Sql, session_hash: bytes, *, seen_at: float, expires_at: float | None = None) -> bool:
    """Store that a session was seen, and its new end if it is renewed; False if it is gone or revoked."""
    values = {"last_seen_at": seen_at, "updated_at": seen_at}
    if expires_at is not None:
        values["expires_at"] = expires_at
    usable = (TABLE.c.session_hash == session_hash, TABLE.c.revoked_at.is_(None))
    return sql.execute(TABLE.update().where(*usable), values).rowcount == 1


def revoke(sql: Sql, session_hash: bytes, revoked_at: float) -> bool:
    """End a session; False if it was not open."""
    open_one = (TABLE.c.session_hash == session_hash, TABLE.c.revoked_at.is_(None))
    return _revoked(sql, open_one, revoked_at) == 1


def revoke_by_id(sql: Sql, session_row_id: str, revoked_at: float) -> bool:
    """End a session by the id of its row; False if it was not open."""
    return _revoked(sql, (TABLE.c.id == session_row_id, TABLE.c.revoked_at.is_(None)), revoked_at) == 1


def revoke_all(sql: Sql, revoked_at: float, *, but: bytes | None = None) -> int:
    """End every session, except the one with digest `but`; return how many were open."""
    others = (TABLE.c.revoked_at.is_(None), *((TABLE.c.session_hash != but,) if but is not None else ()))
    return _revoked(sql, others, revoked_at)


def delete_ended(sql: Sql, before: float) -> int:
    """Remove sessions that expired or were revoked before a time."""
    return sql.execute(TABLE.delete().where((TABLE.c.expires_at < before) | (TABLE.c.revoked_at < before))).rowcount


def _revoked(sql: Sql, conditions: tuple[object, ...], revoked_at: float) -> int:
    values = {"revoked_at": revoked_at, "updated_at": revoked_at}
    return sql.execute(TABLE.update().where(*conditions), values).rowcount  # type: ignore[arg-type]
