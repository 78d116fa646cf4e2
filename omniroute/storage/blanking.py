"""Takes everything that is encrypted or a digest out of a copy of the database, down to its unused pages."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, LargeBinary, Table, UniqueConstraint

from omniroute.extensions import Base
from omniroute.storage.brought_files import quoted
from omniroute.storage.staging import writable

_CIPHERTEXT: Final = "_enc"
_DIGEST: Final = "_hash"


def blank(path: Path) -> None:
    """Blank every ciphertext and every digest of an SQLite copy; a row that is nothing without them goes.

    A digest that must be unique becomes the row's id, which is nobody's digest.
    """
    with closing(writable(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("BEGIN")
        for table in Base.metadata.sorted_tables:
            for statement in _statements(table):
                connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("VACUUM")  # pages that were freed before still hold what was on them


def _statements(table: Table) -> list[str]:
    found = []
    for column in table.c:
        name, of = quoted(column.name), quoted(table.name)
        if not column.name.endswith((_CIPHERTEXT, _DIGEST)):
            continue
        if column.nullable:
            found.append(f"UPDATE {of} SET {name} = NULL WHERE {name} IS NOT NULL")  # noqa: S608 - of the schema
        elif column.primary_key or column.name.endswith(_CIPHERTEXT):
            found.append(f"DELETE FROM {of}")  # noqa: S608 - of the schema
        elif _is_unique(table, column):
            found.append(f"UPDATE {of} SET {name} = CAST('-' || id AS BLOB)")  # noqa: S608 - of the schema
        else:
            nothing = "x''" if isinstance(column.type, LargeBinary) else "''"
            found.append(f"UPDATE {of} SET {name} = {nothing}")  # noqa: S608 - of the schema
    return found


def _is_unique(table: Table, column: Column[Any]) -> bool:
    return bool(column.unique) or any(
        column.name in constraint.columns
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    )
