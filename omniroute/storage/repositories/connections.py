"""Provider connections. The credential is encrypted on the way in and opened on the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, bindparam, func, select

from omniroute.records import AuthType, Connection, Snapshot
from omniroute.secret import Secret
from omniroute.storage.models import ProviderConnection
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories import config_version, models_discovered
from omniroute.storage.repositories.rows import flag, mapping_of, to_json
from omniroute.storage.secrets import Cipher, CredentialUnreadable

TABLE: Final = table_of(ProviderConnection)
_COLUMN: Final = "api_key_enc"
_IN_ORDER: Final = select(TABLE).order_by(TABLE.c.priority, TABLE.c.created_at, TABLE.c.id)
_USED: Final = select(TABLE.c.id, TABLE.c.last_used_at)


def load_all(sql: Sql, cipher: Cipher) -> tuple[Connection, ...]:
    """Return every connection in the order in which they are tried: priority, then age."""
    return tuple(_record(row, cipher) for row in sql.execute(_IN_ORDER).mappings())


def load_known(sql: Sql, cipher: Cipher, snapshot: Snapshot) -> tuple[Connection, ...]:
    """Return the same as :func:`load_all`, from a snapshot while nothing but times of use has changed since."""
    if config_version.current(sql) != snapshot.version:
        return load_all(sql, cipher)
    used: dict[str, float | None] = dict(map(tuple, sql.execute(_USED)))
    return tuple(
        row if row.last_used_at == used.get(row.id) else replace(row, last_used_at=used.get(row.id))
        for row in snapshot.connections
    )


def load_of_provider(sql: Sql, provider: str, cipher: Cipher) -> tuple[Connection, ...]:
    """Return the connections of one provider, in order."""
    rows = sql.execute(_IN_ORDER.where(TABLE.c.provider == provider)).mappings()
    return tuple(_record(row, cipher) for row in rows)


def get(sql: Sql, connection_id: str, cipher: Cipher) -> Connection | None:
    """Return one connection, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.id == connection_id)).mappings().first()
    return _record(row, cipher) if row is not None else None


def count(sql: Sql) -> int:
    """Return how many there are."""
    return sql.execute(select(func.count()).select_from(TABLE)).scalar_one()


def exists(sql: Sql, connection_id: str) -> bool:
    """Say whether there is a connection with this id."""
    return sql.execute(select(TABLE.c.id).where(TABLE.c.id == connection_id)).first() is not None


def insert(sql: Sql, record: Connection, cipher: Cipher) -> None:
    """Store a new connection.

    Raises:
        Conflict: it has a credential and the encryption key is missing.
    """
    sealed = _sealed(record.id, record.credential, cipher)
    sql.execute(TABLE.insert(), {**_values(record), "id": record.id, "created_at": record.created_at, _COLUMN: sealed})


def update(sql: Sql, record: Connection, cipher: Cipher, *, with_credential: bool = False) -> bool:
    """Store every field of a changed connection; False if it is gone.

    Args:
        sql: the transaction.
        record: the connection as it shall be.
        cipher: seals the credential.
        with_credential: write the credential too. Otherwise the stored one stays, also one that cannot be opened now.
    """
    values = _values(record)
    if with_credential:
        values[_COLUMN] = _sealed(record.id, record.credential, cipher)
    return sql.execute(TABLE.update().where(TABLE.c.id == record.id), values).rowcount == 1


def delete(sql: Sql, connection_id: str) -> bool:
    """Remove a connection and its model list; False if there was none."""
    models_discovered.delete_of_connection(sql, connection_id)
    return sql.execute(TABLE.delete().where(TABLE.c.id == connection_id)).rowcount == 1


def delete_of_provider(sql: Sql, provider: str) -> int:
    """Remove all connections of a provider or node with their model lists and return how many there were."""
    models_discovered.delete_of_provider(sql, provider)
    return sql.execute(TABLE.delete().where(TABLE.c.provider == provider)).rowcount


def set_test_result(
    sql: Sql, connection_id: str, *, status: str, error: Mapping[str, Any] | None, tested_at: float
) -> bool:
    """Store what a test of the connection found."""
    values = {"test_status": status, "last_error_json": to_json(error), "last_tested_at": tested_at}
    return sql.execute(TABLE.update().where(TABLE.c.id == connection_id), values).rowcount == 1


def touch_used(sql: Sql, used_at: Mapping[str, float]) -> None:
    """Store when connections were last used, by id; never moves a time back."""
    if used_at:
        later = TABLE.c.last_used_at.is_(None) | (TABLE.c.last_used_at < bindparam("at"))
        statement = TABLE.update().where(TABLE.c.id == bindparam("connection"), later)
        rows = [{"connection": key, "at": at} for key, at in used_at.items()]
        sql.execute(statement.values(last_used_at=bindparam("at")), rows)


def _sealed(connection_id: str, credential: Secret | None, cipher: Cipher) -> str | None:
    if credential is None:
        return None
    return cipher.encrypt(credential, table=TABLE.name, column=_COLUMN, row_id=connection_id)


def _values(record: Connection) -> dict[str, Any]:
    return {
        "provider": record.provider,
        "auth_type": record.auth_type.value,
        "name": record.name,
        "priority": record.priority,
        "is_active": flag(record.is_active),
        "group_name": record.group_name,
        "default_model": record.default_model,
        "provider_data_json": to_json(record.provider_data),
        "max_concurrent": record.max_concurrent,
        "requests_per_minute": record.requests_per_minute,
        "min_gap_ms": record.min_gap_ms,
        "quota_cutoffs_json": to_json(record.quota_cutoffs),
        "proxy_enabled": flag(record.proxy_enabled),
        "test_status": record.test_status,
        "last_error_json": to_json(record.last_error),
        "last_tested_at": record.last_tested_at,
        "last_used_at": record.last_used_at,
        "updated_at": record.updated_at,
    }


def _record(row: RowMapping, cipher: Cipher) -> Connection:
    credential, is_unreadable = None, False
    if row[_COLUMN] is not None:
        try:
            credential = cipher.decrypt(row[_COLUMN], table=TABLE.name, column=_COLUMN, row_id=row["id"])
        except CredentialUnreadable:
            is_unreadable = True
    return Connection(
        id=row["id"],
        provider=row["provider"],
        auth_type=AuthType(row["auth_type"]),
        name=row["name"],
        priority=row["priority"],
        is_active=bool(row["is_active"]),
        credential=credential,
        is_unreadable=is_unreadable,
        default_model=row["default_model"],
        group_name=row["group_name"],
        max_concurrent=row["max_concurrent"],
        requests_per_minute=row["requests_per_minute"],
        min_gap_ms=row["min_gap_ms"],
        quota_cutoffs=mapping_of(row["quota_cutoffs_json"]),
        proxy_enabled=bool(row["proxy_enabled"]),
        provider_data=mapping_of(row["provider_data_json"]),
        test_status=row["test_status"],
        last_error=mapping_of(row["last_error_json"]) or None,
        last_tested_at=row["last_tested_at"],
        last_used_at=row["last_used_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
