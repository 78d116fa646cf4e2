"""The database as one SQLite file, whichever database it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import select

from omniroute.extensions import Base
from omniroute.storage import copies, schema, staging
from omniroute.storage.database import Database
from omniroute.storage.staging import Row
from omniroute.storage.threads import NativePool

_ROWS_AT_ONCE: Final = 500
_PAUSE_EVERY_ROWS: Final = 100


def write_sqlite(database: Database, target: Path) -> None:
    """Write a consistent, verified copy of the running database to a new SQLite file, mode 0600.

    Raises:
        StorageError: it could not be made, or is not good.
    """
    if database.is_sqlite:
        copies.write_copy(database, target)
        return
    files = NativePool(1)
    try:
        files.run(lambda: staging.build(target, schema.newest_version()))
        database.detached(lambda sql: staging.fill(target, _rows(sql)))
        files.run(lambda: _finished(target))
    finally:
        files.close()


def _finished(target: Path) -> None:
    staging.seal(target)
    copies.verify_sqlite(target)


def _rows(sql: Sql) -> Iterator[Row]:
    """Give the rows of all tables from one snapshot of a server's database; this runs on the hub."""
    sql = sql.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with sql.begin():
        for table in Base.metadata.sorted_tables:
            names = tuple(column.name for column in table.c)
            result = sql.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table))
            for number, row in enumerate(result):
                if number % _PAUSE_EVERY_ROWS == 0:
                    time.sleep(0)
                yield table.name, names, tuple(map(_stored, row))


def _stored(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value
