"""A file that somebody brought and calls a database: looked at without trusting a byte of it.

The checks stand in an order, and a refusal names the one that failed. The file is opened read-only, on a connection of
its own that may read tables and do nothing else: no trigger, view or extension of the file can run, values and
statements are bounded, and so is the time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final

from omniroute.errors import CallerError, StorageError
from omniroute.storage import copies, schema

SMALLEST_BYTES: Final = 4096
MARKER: Final = "schema_version"
"""The table that tells which schema a database has."""
_HEADER: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
_SMALLEST_PAGE, _LARGEST_PAGE = 512, 65_536
_LONGEST_VALUE_BYTES: Final = 64 << 20
_LONGEST_STATEMENT_BYTES: Final = 1 << 20
_CHECK_LIMIT_S: Final = 600.0
_STEPS_BETWEEN_LOOKS: Final = 100_000
_READING: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_TRANSACTION}
)
_READING_PRAGMAS: Final = frozenset({"quick_check", "integrity_check", "table_info"})
_OURS_TO_BLAME: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM})


class Check(StrEnum):
    """What a file has to pass, in this order."""

    EXTENSION = "extension"
    ARCHIVE = "archive"
    HEADER = "header"
    SIZE = "size"
    OPEN = "open"
    QUICK = "quick_check"
    INTEGRITY = "integrity_check"
    TABLES = "tables"
    SCHEMA = "schema"
    CONTENT = "content"


class NotUsable(CallerError):
    """A file is no database that could take the place of the present one; extras `check` names what it failed."""

    status, code, default_message = 400, "import_invalid", "The file is not a database of OmniRoute."

    def __init__(self, check: Check, message: str) -> None:
        super().__init__(f"{message} (check: {check.value})", extras={"check": check.value})
        self.check = check


def refusal_of(error: sqlite3.Error, check: Check, message: str) -> NotUsable | StorageError:
    """Return what an error of SQLite's means: the file is at fault, or our disk is."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OURS_TO_BLAME:
        return StorageError("The file could not be read or written.")
    return NotUsable(check, message)


def check_file(path: Path, *, most_bytes: int) -> None:
    """Look at size and header of a file before SQLite does.

    Raises:
        NotUsable: it is too small or too large, no SQLite database, or cut short.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if not head.startswith(_HEADER):
        raise NotUsable(Check.HEADER, "The file is not an SQLite database.")
    if size > most_bytes:
        raise NotUsable(Check.SIZE, f"The file is larger than {most_bytes >> 20} MB.")
    if size < SMALLEST_BYTES:
        raise NotUsable(Check.SIZE, f"The file is smaller than {SMALLEST_BYTES} bytes.")
    page = int.from_bytes(head[16:18], "big")
    page = _LARGEST_PAGE if page == 1 else page
    if page & (page - 1) or not _SMALLEST_PAGE <= page <= _LARGEST_PAGE:
        raise NotUsable(Check.HEADER, "The file's header names no page size that SQLite has.")
    pages = int.from_bytes(head[28:32], "big")
    if size % page or (head[24:28] == head[92:96] and pages * page > size):
        raise NotUsable(Check.SIZE, "The file is cut short.")


@contextmanager
def reader(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file that nobody vouches for: read-only, and nothing that is written in it can run.

    Raises:
        NotUsable: SQLite cannot open it.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        restrain(connection)
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA cell_size_check=ON")
        connection.set_authorizer(_may_read)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise refusal_of(error, Check.OPEN, "The file cannot be opened as a database.") from error
        yield connection
    finally:
        connection.close()


def check_contents(path: Path) -> int | None:
    """Check the file's structure and return its schema version; None when it has the tables but no marker.

    Raises:
        NotUsable: it is damaged, lacks tables, or is newer than this program.
    """
    with reader(path) as source:
        for check in (Check.QUICK, Check.INTEGRITY):
            try:
                verdict = source.execute(f"PRAGMA {check.value}(1)").fetchone()
            except sqlite3.Error as error:
                raise refusal_of(error, check, "The file is damaged.") from error
            if verdict is None or verdict[0] != "ok":
                raise NotUsable(check, "The file is damaged.")
        tables = tables_of(source)
        if missing := copies.REQUIRED_TABLES - tables:
            raise NotUsable(Check.TABLES, f"The file lacks the tables {', '.join(sorted(missing))}.")
        return _version_of(source, tables)


def tables_of(source: sqlite3.Connection) -> frozenset[str]:
    """Return the names of ordinary tables: no views, no virtual tables."""
    rows = source.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
    return frozenset(name for (name,) in rows if isinstance(name, str) and not name.startswith("sqlite_"))


def columns_of(source: sqlite3.Connection, table: str, *, of: str = "main") -> list[str]:
    """Return the columns that a table stores."""
    return [row[1] for row in source.execute(f"PRAGMA {of}.table_info({quoted(table)})")]


def quoted(name: str) -> str:
    """Return a name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def _version_of(source: sqlite3.Connection, tables: Iterable[str]) -> int | None:
    if MARKER not in tables or "version" not in columns_of(source, MARKER):
        return None
    try:
        found = source.execute("SELECT max(version) FROM schema_version").fetchone()[0]
    except sqlite3.Error as error:
        raise NotUsable(Check.SCHEMA, "The file's schema version cannot be read.") from error
    newest = schema.newest_version()
    if not isinstance(found, int) or found < 1:
        raise NotUsable(Check.SCHEMA, "The file's schema version is not one.")
    if found > newest:
        raise NotUsable(
            Check.SCHEMA, f"The file has schema version {found}; this program knows versions up to {newest}."
        )
    return found


def restrain(connection: sqlite3.Connection) -> None:
    """Bound what a connection may take from a file, and for how long."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _LONGEST_STATEMENT_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0)
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA mmap_size=0")
    give_up_at = time.monotonic() + _CHECK_LIMIT_S
    connection.set_progress_handler(lambda: time.monotonic() > give_up_at, _STEPS_BETWEEN_LOOKS)


def _may_read(action: int, first: str | None, _second: str | None, _of: str | None, inside: str | None) -> int:
    """Allow reading of tables; `inside` is the view or trigger that a statement came from."""
    if inside is not None:
        return sqlite3.SQLITE_DENY
    if action in _READING or (action == sqlite3.SQLITE_PRAGMA and first in _READING_PRAGMAS):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def may_copy(action: int, first: str | None, second: str | None, of: str | None, inside: str | None) -> int:
    """Allow reading, and adding and removing rows of the file that is being made."""
    if inside is None and of == "main" and action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_DELETE):
        return sqlite3.SQLITE_OK
    return _may_read(action, first, second, of, inside)
