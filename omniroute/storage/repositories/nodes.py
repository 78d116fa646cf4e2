"""Self-defined endpoints. Custom headers may carry credentials, so they are encrypted as one value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, func, select

from omniroute.records import Node, NodeType
from omniroute.secret import Secret
from omniroute.storage.models import ProviderNode
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories.rows import flag
from omniroute.storage.secrets import Cipher, CredentialUnreadable

TABLE: Final = table_of(ProviderNode)
_COLUMN: Final = "custom_headers_enc"


def load_all(sql: Sql, cipher: Cipher) -> tuple[Node, ...]:
    """Return every node by age."""
    rows = sql.execute(select(TABLE).order_by(TABLE.c.created_at, TABLE.c.id)).mappings()
    return tuple(_record(row, cipher) for row in rows)


def get(sql: Sql, node_id: str, cipher: Cipher) -> Node | None:
    """Return one node, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.id == node_id)).mappings().first()
    return _record(row, cipher) if row is not None else None


def count(sql: Sql) -> int:
    """Return how many there are."""
    return sql.execute(select(func.count()).select_from(TABLE)).scalar_one()


def insert(sql: Sql, record: Node, cipher: Cipher) -> None:
    """Store a new node.

    Raises:
        Conflict: the prefix is taken, or it has custom headers and the encryption key is missing.
    """
    sealed = _sealed(record.id, record.custom_headers, cipher)
    sql.execute(TABLE.insert(), {**_values(record), "id": record.id, "created_at": record.created_at, _COLUMN: sealed})


def update(sql: Sql, record: Node, cipher: Cipher, *, with_headers: bool = False) -> bool:
    """Store every field of a changed node (the custom headers only if asked to); False if it is gone."""
    values = _values(record)
    if with_headers:
        values[_COLUMN] = _sealed(record.id, record.custom_headers, cipher)
    return sql.execute(TABLE.update().where(TABLE.c.id == record.id), values).rowcount == 1


def delete(sql: Sql, node_id: str) -> bool:
    """Remove a node; False if there was none. Its connections are the caller's to remove."""
    return sql.execute(TABLE.delete().where(TABLE.c.id == node_id)).rowcount == 1


def _sealed(node_id: str, headers: Mapping[str, Secret], cipher: Cipher) -> str | None:
    if not headers:
        return None
    text = json.dumps({name: value.reveal() for name, value in headers.items()}, ensure_ascii=False)
    return cipher.encrypt(Secret(text), table=TABLE.name, column=_COLUMN, row_id=node_id)


def _values(record: Node) -> dict[str, Any]:
    return {
        "name": record.name,
        "prefix": record.prefix,
        "type": record.type.value,
        "api_type": record.api_type,
        "base_url": record.base_url,
        "chat_path": record.chat_path,
        "models_path": record.models_path,
        "is_local": flag(record.is_local),
        "updated_at": record.updated_at,
    }


def _record(row: RowMapping, cipher: Cipher) -> Node:
    headers: Mapping[str, Secret] = {}
    if row[_COLUMN] is not None:
        try:
            text = cipher.decrypt(row[_COLUMN], table=TABLE.name, column=_COLUMN, row_id=row["id"])
            headers = {name: Secret(value) for name, value in json.loads(text.reveal()).items()}
        except CredentialUnreadable:
            headers = {}
    return Node(
        id=row["id"],
        name=row["name"],
        prefix=row["prefix"],
        type=NodeType(row["type"]),
        base_url=row["base_url"],
        api_type=row["api_type"],
        chat_path=row["chat_path"],
        models_path=row["models_path"],
        custom_headers=headers,
        is_local=bool(row["is_local"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
