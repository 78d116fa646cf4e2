"""Access tokens for management, by the digest of the whole token."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, func, select

from omniroute.records import AccessToken
from omniroute.storage.models import AccessToken as Model
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(Model)


def load_all(sql: Sql) -> tuple[AccessToken, ...]:
    """Return every token, the newest first, those that have ended included."""
    rows = sql.execute(select(TABLE).order_by(TABLE.c.created_at.desc(), TABLE.c.id)).mappings()
    return tuple(_record(row) for row in rows)


def count(sql: Sql) -> int:
    """Return how many there are."""
    return sql.execute(select(func.count()).select_from(TABLE)).scalar_one()


def insert(sql: Sql, token: AccessToken) -> None:
    """Store a new token."""
    sql.execute(
        TABLE.insert(),
        {
            "id": token.id,
            "name": token.name,
            "token_hash": token.token_hash,
            "token_prefix": token.prefix,
            "scope": token.scope,
            "expires_at": token.expires_at,
            "revoked_at": token.revoked_at,
            "last_used_at": token.last_used_at,
            "created_at": token.created_at,
            "updated_at": token.created_at,
        },
    )


def revoke(sql: Sql, token_id: str, revoked_at: float) -> bool:
    """End a token; False if it had ended already or is unknown."""
    usable = (TABLE.c.id == token_id, TABLE.c.revoked_at.is_(None))
    return (
        sql.execute(TABLE.update().where(*usable), {"revoked_at": revoked_at, "updated_at": revoked_at}).rowcount == 1
    )


def touch(sql: Sql, token_id: str, used_at: float) -> None:
    """Store when a token was last used; an earlier moment changes nothing."""
    later = TABLE.c.last_used_at.is_(None) | (TABLE.c.last_used_at < used_at)
    sql.execute(TABLE.update().where(TABLE.c.id == token_id, later), {"last_used_at": used_at})


def delete_ended(sql: Sql, before: float) -> int:
    """Remove tokens that expired or were revoked before a time."""
    return sql.execute(TABLE.delete().where((TABLE.c.expires_at < before) | (TABLE.c.revoked_at < before))).rowcount


def _record(row: RowMapping) -> AccessToken:
    return AccessToken(
        id=row["id"],
        name=row["name"],
        token_hash=bytes(row["token_hash"]),
        prefix=row["token_prefix"],
        scope=row["scope"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
