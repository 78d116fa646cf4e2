"""Outbound proxies, and what they are bound to. The password is encrypted on the way in and opened on the way out."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, select

from omniroute.records import Proxy, ProxyBinding, ProxyLevel, ProxyType
from omniroute.secret import Secret
from omniroute.storage import models
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import flag
from omniroute.storage.secrets import Cipher, CredentialUnreadable

TABLE: Final = table_of(models.Proxy)
BINDINGS: Final = table_of(models.ProxyBinding)
_COMBOS: Final = table_of(models.Combo)
_KEYS: Final = table_of(models.ApiKey)
_NODES: Final = table_of(models.ProviderNode)
_COLUMN: Final = "password_enc"


def load_all(sql: Sql, cipher: Cipher) -> tuple[Proxy, ...]:
    """Return every proxy by age."""
    rows = sql.execute(select(TABLE).order_by(TABLE.c.created_at, TABLE.c.id)).mappings()
    return tuple(_record(row, cipher) for row in rows)


def get(sql: Sql, proxy_id: str, cipher: Cipher) -> Proxy | None:
    """Return one proxy, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.id == proxy_id)).mappings().first()
    return _record(row, cipher) if row is not None else None


def insert(sql: Sql, record: Proxy, cipher: Cipher) -> None:
    """Store a new proxy.

    Raises:
        Conflict: the name is taken, or it has a password and the encryption key is missing.
    """
    sealed = _sealed(record.id, record.password, cipher)
    sql.execute(TABLE.insert(), {**_values(record), "id": record.id, "created_at": record.created_at, _COLUMN: sealed})


def update(sql: Sql, record: Proxy, cipher: Cipher, *, with_password: bool) -> bool:
    """Store every field of a changed proxy (the password only if asked to); False if it is gone."""
    values = _values(record)
    if with_password:
        values[_COLUMN] = _sealed(record.id, record.password, cipher)
    return sql.execute(TABLE.update().where(TABLE.c.id == record.id), values).rowcount == 1


def delete(sql: Sql, proxy_id: str) -> bool:
    """Remove a proxy together with its bindings; False if there was none."""
    sql.execute(BINDINGS.delete().where(BINDINGS.c.proxy_id == proxy_id))
    return sql.execute(TABLE.delete().where(TABLE.c.id == proxy_id)).rowcount == 1


# --- bindings --------------------------------------------------------------------------------------------------------


def load_bindings(sql: Sql) -> tuple[ProxyBinding, ...]:
    """Return every binding."""
    rows = sql.execute(select(BINDINGS).order_by(BINDINGS.c.level, BINDINGS.c.level_id)).mappings()
    return tuple(ProxyBinding(ProxyLevel(row["level"]), row["level_id"], row["proxy_id"]) for row in rows)


def bind(sql: Sql, binding: ProxyBinding, *, now: float) -> None:
    """Bind a proxy to a level, in place of the one that was."""
    known = _is_at(binding.level, binding.level_id)
    values = {"proxy_id": binding.proxy_id, "updated_at": now}
    if sql.execute(BINDINGS.update().where(known), values).rowcount == 0:
        place = {"level": binding.level.value, "level_id": binding.level_id, "created_at": now}
        sql.execute(BINDINGS.insert(), {**place, **values})


def unbind(sql: Sql, level: ProxyLevel, level_id: str) -> bool:
    """Leave a level without a proxy of its own; False if it had none."""
    return sql.execute(BINDINGS.delete().where(_is_at(level, level_id))).rowcount == 1


def delete_stale(sql: Sql) -> None:
    """Remove bindings of combos, keys and nodes that are gone, and proxies without a name that nothing is bound to."""
    gone = (
        (ProxyLevel.COMBO, select(_COMBOS.c.id), ""),
        (ProxyLevel.KEY, select(_KEYS.c.id).where(_KEYS.c.revoked_at.is_(None)), ""),
        (ProxyLevel.PROVIDER, select(_NODES.c.id), "node_"),  # the others are in the catalogue
    )
    for level, known, head in gone:
        is_gone = BINDINGS.c.level_id.startswith(head, autoescape=True) & BINDINGS.c.level_id.not_in(known)
        sql.execute(BINDINGS.delete().where(BINDINGS.c.level == level.value, is_gone))
    sql.execute(TABLE.delete().where(TABLE.c.name == TABLE.c.id, TABLE.c.id.not_in(select(BINDINGS.c.proxy_id))))


def _is_at(level: ProxyLevel, level_id: str) -> Any:
    return (BINDINGS.c.level == level.value) & (BINDINGS.c.level_id == level_id)


def _sealed(proxy_id: str, password: Secret | None, cipher: Cipher) -> str | None:
    if password is None:
        return None
    return cipher.encrypt(password, table=TABLE.name, column=_COLUMN, row_id=proxy_id)


def _values(record: Proxy) -> dict[str, Any]:
    return {
        "name": record.name,
        "type": record.type.value,
        "host": record.host,
        "port": record.port,
        "username": record.username,
        "is_active": flag(record.is_active),
        "updated_at": record.updated_at,
    }


def _record(row: RowMapping, cipher: Cipher) -> Proxy:
    password, is_unreadable = None, False
    if row[_COLUMN] is not None:
        try:
            password = cipher.decrypt(row[_COLUMN], table=TABLE.name, column=_COLUMN, row_id=row["id"])
        except CredentialUnreadable:
            is_unreadable = True
    return Proxy(
        id=row["id"],
        name=row["name"],
        type=ProxyType(row["type"]),
        host=row["host"],
        port=row["port"],
        username=row["username"],
        password=password,
        is_active=bool(row["is_active"]),
        is_unreadable=is_unreadable,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
