"""Every ciphertext of a database: does it open, and the same under another encryption key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column, Table, bindparam, select
from sqlalchemy import Connection as Sql

from omniroute.extensions import Base
from omniroute.secret import Secret
from omniroute.storage.secrets import Cipher, CredentialUnreadable, key_id_of

CONNECTIONS: Final = "provider_connections"
_SUFFIX: Final = "_enc"
_ROWS_AT_ONCE: Final = 100


@dataclass(slots=True)
class Census:
    """What was found."""

    opened: int = 0
    """Values that open under the key in question."""
    rewritten: int = 0
    """Of these: those that another key had opened."""
    unreadable: dict[str, set[str]] = field(default_factory=dict)
    """Ids of rows with a value that no key at hand opens, by table."""
    with_secret: dict[str, set[str]] = field(default_factory=dict)
    """Ids of rows with any encrypted value, by table."""
    key_ids: set[str] = field(default_factory=set)
    """Ids of the keys that the values had been encrypted with."""

    @property
    def lost(self) -> int:
        """Rows with a value that does not open."""
        return sum(map(len, self.unreadable.values()))

    def readable_of(self, table: str) -> int:
        """Return how many rows of a table have encrypted values that all open."""
        return len(self.with_secret.get(table, set()) - self.unreadable.get(table, set()))

    def unreadable_of(self, table: str) -> int:
        """Return how many rows of a table have one that does not."""
        return len(self.unreadable.get(table, ()))


def places() -> tuple[tuple[Table, Column[Any]], ...]:
    """Return where ciphertext stands: columns by their suffix; a row is named by its `id`."""
    return tuple(
        (table, column)
        for table in Base.metadata.sorted_tables
        for column in table.c
        if column.name.endswith(_SUFFIX) and "id" in table.c
    )


def examine(sql: Sql, cipher: Cipher) -> Census:
    """Try to open every value."""
    census = Census()
    for table, column in places():
        for row_id, text in _values(sql, table, column):
            _note(census, table.name, row_id, text, _opened(text, table, column, row_id, (cipher,)) is not None)
    return census


def rekey(sql: Sql, into: Cipher, others: Sequence[Cipher]) -> Census:
    """Have every value that one of the other keys opens encrypted under a key; what nobody opens stays as it is.

    A sealed cipher encrypts nothing; then values are only counted.
    """
    census = Census()
    for table, column in places():
        update = table.update().where(table.c.id == bindparam("row")).values({column.name: bindparam("text")})
        for row_id, text in _values(sql, table, column):
            plain = _opened(text, table, column, row_id, (into,))
            if plain is None and not into.is_sealed:
                plain = _opened(text, table, column, row_id, others)
                if plain is not None:
                    sealed = into.encrypt(plain, table=table.name, column=column.name, row_id=row_id)
                    sql.execute(update, {"row": row_id, "text": sealed})
                    census.rewritten += 1
            _note(census, table.name, row_id, text, plain is not None)
    return census


def drop_unreadable(sql: Sql, cipher: Cipher) -> Census:
    """Remove every value that does not open, and the rows that are nothing without it; return what was found."""
    census = examine(sql, cipher)
    for table, column in places():
        lost = [
            row_id
            for row_id, text in _values(sql, table, column)
            if _opened(text, table, column, row_id, (cipher,)) is None
        ]
        for row_id in lost:
            if column.nullable:
                sql.execute(table.update().where(table.c.id == row_id).values({column.name: None}))
            else:
                sql.execute(table.delete().where(table.c.id == row_id))
    return census


def _values(sql: Sql, table: Table, column: Column[Any]) -> Iterator[tuple[str, str]]:
    """Give ids and ciphertext, a part at a time: some values are large, and rows are changed between."""
    after = ""
    while True:
        part = select(table.c.id, column).where(column.is_not(None), table.c.id > after).order_by(table.c.id)
        rows = sql.execute(part.limit(_ROWS_AT_ONCE)).all()
        yield from ((row_id, text) for row_id, text in rows)
        if len(rows) < _ROWS_AT_ONCE:
            return
        after = rows[-1][0]


def _opened(text: str, table: Table, column: Column[Any], row_id: str, ciphers: Sequence[Cipher]) -> Secret | None:
    for cipher in ciphers:
        try:
            return cipher.decrypt(text, table=table.name, column=column.name, row_id=row_id)
        except CredentialUnreadable:
            continue
    return None


def _note(census: Census, table: str, row_id: str, text: str, is_open: bool) -> None:
    census.key_ids.add(key_id_of(text) or "unknown")
    census.with_secret.setdefault(table, set()).add(row_id)
    if is_open:
        census.opened += 1
    else:
        census.unreadable.setdefault(table, set()).add(row_id)
