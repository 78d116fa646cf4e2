"""Where ciphertext stands in the schema, and which keys made it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection as Sql
from sqlalchemy import func, select

from omniroute.extensions import Base
from omniroute.storage.secrets import key_id_of

_SUFFIX: Final = "_enc"
_HEAD: Final = len("v1:01234567:")


def stored_key_ids(sql: Sql) -> frozenset[str]:
    """Return the ids of the encryption keys that values in the database were made with."""
    found: set[str] = set()
    for table in Base.metadata.sorted_tables:
        for column in table.c:
            if column.name.endswith(_SUFFIX):
                heads = sql.execute(
                    select(func.substr(column, 1, _HEAD)).where(column.is_not(None)).distinct()
                ).scalars()
                # An unreadable form counts too: whatever it is, it must not get a new key beside it.
                found |= {key_id_of(f"{head}:") or "unknown" for head in heads}
    return frozenset(found)
