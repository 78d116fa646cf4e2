"""Facts about SQLite: how a connection is prepared, how writes begin, what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, Table, event
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.engine import make_url

from omniroute.errors import ConfigurationError, StorageError

BUSY_TIMEOUT_MS: Final = 250
BEGIN_OPTION: Final = "omniroute_begin"
"""Execution option of a connection: the statement that begins its transactions; "" for none at all."""
BEGIN_WRITE: Final = "BEGIN IMMEDIATE"

Rows = Sequence[tuple[Any, ...]]
_ROWS_PER_STATEMENT: Final = (64, 16, 4, 1)
_OLDEST: Final = (3, 35, 0)  # the first with RETURNING
_HEADER: Final = b"SQLite format 3\x00"
# Primary result codes, https://www.sqlite.org/rescode.html; the extended code's low byte.
_BUSY, _LOCKED, _CORRUPT, _NOT_A_DATABASE = 5, 6, 11, 26


def path_of(url: str) -> Path:
    """Return the file behind a `sqlite:///…` URL.

    Raises:
        ConfigurationError: the URL names no file: a gateway whose data ends with the process is not offered.
    """
    name = make_url(url).database
    if not name or name == ":memory:" or name.startswith("file:"):
        raise ConfigurationError("DATABASE_URL must name a file: sqlite:///<path>.")
    return Path(name)


def install(engine: Engine) -> None:
    """Prepare every connection of an engine and let it begin transactions the way that we need.

    The driver's own transaction control is off (`isolation_level=None`), so that DDL is transactional and a writer can
    ask for the lock at once: a deferred transaction that first reads and then writes after somebody else's commit
    fails immediately, whatever the busy time-out.
    """

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise ConfigurationError(
                "The file system of the data directory cannot lock or share memory as SQLite's WAL mode needs"
                " (a network mount?). Put DATA_DIR on a local disk, or set DATABASE_URL to a PostgreSQL database."
            )
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA trusted_schema=OFF")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if statement := connection.get_execution_options().get(BEGIN_OPTION, "BEGIN"):
            connection.exec_driver_sql(statement)


def create_file(path: Path) -> None:
    """Create an empty database file that only its owner may read; `-wal` and `-shm` take over its mode."""
    if sqlite3.sqlite_version_info < _OLDEST:
        raise ConfigurationError(f"SQLite {'.'.join(map(str, _OLDEST))} or newer is needed.")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if not path.is_file():
            raise StorageError("The database file cannot be created.") from error


def is_foreign_file(path: Path) -> bool:
    """Say whether a file that exists and is not empty begins with something else than SQLite's header."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_HEADER))
    except FileNotFoundError:
        return False
    return start not in {b"", _HEADER}


def insert_into(table: Table) -> Insert:
    """Return an INSERT that can carry ON CONFLICT."""
    return insert(table)


def lock_rows(_connection: Connection, _key: int) -> None:
    """Nothing to do: a write transaction is alone in the database."""


def lock_names(_connection: Connection, _space: int, _names: Iterable[str]) -> None:
    """Nothing to do: a write transaction is alone in the database."""


def clock(_connection: Connection, now: float) -> float:
    """Return the time that all who share the database agree on: ours, since all are on this host."""
    return now


def last_row(connection: Connection, table: Table) -> int | None:
    """Return the number of the row that was stored last; numbers of removed rows may be given again."""
    statement = f"SELECT coalesce(max(rowid), 0) FROM {table.name}"  # noqa: S608 - a name of the schema
    return int(connection.exec_driver_sql(statement).scalar_one())


def is_busy(error: BaseException | None) -> bool:
    """Say whether somebody else holds the lock, so that trying again helps."""
    return _code_of(error) in (_BUSY, _LOCKED)


def is_damaged(error: BaseException | None) -> bool:
    """Say whether the file itself is broken."""
    return _code_of(error) in (_CORRUPT, _NOT_A_DATABASE)


def _code_of(error: BaseException | None) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def insert_many(connection: Connection, head: str, columns: Sequence[Column[Any]], rows: Rows, tail: str) -> int:
    """Insert rows with few statements of many rows each; return how many were inserted or updated.

    One statement per row would let go of the interpreter lock and ask for it back for each row, which under load costs
    more than the insert. The sizes are fixed, so that the driver keeps the prepared statements.
    """
    done = start = 0
    for size in _ROWS_PER_STATEMENT:
        while len(rows) - start >= size:
            values = tuple(chain.from_iterable(rows[start : start + size]))
            done += connection.exec_driver_sql(_many(head, len(columns), size, tail), values).rowcount
            start += size
    return done


@lru_cache(maxsize=64)
def _many(head: str, width: int, size: int, tail: str) -> str:
    row = f"({','.join('?' * width)})"
    return f"{head} VALUES {','.join([row] * size)} {tail}"
