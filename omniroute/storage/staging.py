"""A database file beside the live one, made of a backup or a file that was brought, before anything is replaced.

Nothing of a file is used but rows: they are copied by table and column into an empty schema of our own, which is then
migrated. So triggers, views, indexes, defaults and checks of the file come to nothing. Whatever can be wrong is found
here, where it changes nothing.

Everything here is slow and belongs into a native thread (see `storage.threads`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, SmallInteger, Table

from omniroute.extensions import Base
from omniroute.storage import copies, schema
from omniroute.storage.brought_files import (
    Check,
    NotUsable,
    columns_of,
    may_copy,
    quoted,
    refusal_of,
    restrain,
    tables_of,
)
from omniroute.storage.database import Database

_LATEST_MOMENT: Final = 253_402_300_799  # the end of the year 9999
_LARGEST_REAL: Final = 1e15
_MOMENTS: Final = ("_at", "until", "time", "_from")
_NOT_ROWS: Final = frozenset({"alembic_version"})
_IN_SOURCE: Final = "SELECT name FROM source.sqlite_master WHERE type = 'table' AND rootpage > 0"

Told = Callable[[str], None]
"""Told of each step that is done, by its name."""
Row = tuple[str, Sequence[str], Sequence[Any]]
"""A table, columns of it, and their values."""


@dataclass(slots=True)
class TableReport:
    """What became of the rows of one table of a file that needed mapping."""

    taken: int = 0
    skipped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Why rows or columns were left out, and how often."""

    def skip(self, reason: str, *, rows: int = 1) -> None:
        """Count rows that are left out."""
        self.skipped += rows
        self.note(reason, rows or 1)

    def note(self, reason: str, times: int = 1) -> None:
        """Remember a reason."""
        self.reasons[reason] = self.reasons.get(reason, 0) + times


@dataclass(frozen=True, slots=True)
class Staged:
    """A database file of the newest schema with the rows of some other file."""

    path: Path
    version: int | None
    """Schema version that the rows had; None for a file without a marker."""
    mapped: Mapping[str, TableReport] = field(default_factory=dict)
    """By table, for a file without a marker."""

    @contextmanager
    def opened(self) -> Iterator[Database]:
        """Give it as a database."""
        database = Database(f"sqlite:///{self.path}")
        try:
            yield database
        finally:
            database.dispose()


# --- making ----------------------------------------------------------------------------------------------------------


def stage_sqlite(source: Path, target: Path, version: int, *, told: Told) -> Staged:
    """Make a database of the rows of a file that has passed `brought_files.check_contents`.

    Raises:
        NotUsable: its rows do not fit the tables.
    """
    build(target, version)
    told("built")
    with _attached(source, target) as connection:
        there = {name for (name,) in connection.execute(_IN_SOURCE)}
        connection.execute("BEGIN")
        for name in sorted((tables_of(connection) & there) - _NOT_ROWS):
            _copy_rows(connection, name)
        _ensure_version_row(connection)
        connection.execute("COMMIT")
    told("copied")
    finish(target, told=told)
    return Staged(target, version)


def stage_rows(version: int, rows: Iterable[Row], target: Path, *, told: Told) -> Staged:
    """Make a database of rows of a schema version.

    Raises:
        NotUsable: the version is not known, or the rows do not fit the tables.
    """
    if not 1 <= version <= schema.newest_version():
        raise NotUsable(Check.SCHEMA, f"The backup has schema version {version}, which is not known here.")
    build(target, version)
    told("built")
    fill(target, rows)
    told("copied")
    finish(target, told=told)
    return Staged(target, version)


def build(target: Path, version: int) -> None:
    """Make an empty database of a schema version, its own version rows left out."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    database = Database(f"sqlite:///{target}")
    try:
        with database.connected(is_write=True) as connection:
            if version == schema.newest_version():
                with connection.begin():
                    schema.create_tables(connection)
            else:
                schema.upgrade(connection, f"{version:04d}")
    finally:
        database.dispose()
    with closing(writable(target)) as connection:
        connection.execute("DELETE FROM schema_version")
        connection.execute("DELETE FROM config_version")


def finish(target: Path, *, told: Told) -> None:
    """Bring a database that holds its rows to the newest schema, and check every value in it.

    Raises:
        NotUsable: a value does not fit its column.
    """
    with closing(writable(target)) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    if int(found) != schema.newest_version():
        database = Database(f"sqlite:///{target}")
        try:
            with database.connected(is_write=True) as opened:
                schema.upgrade(opened)
        finally:
            database.dispose()
        told("migrated")
    with closing(writable(target)) as connection:
        connection.executemany(
            "INSERT OR IGNORE INTO schema_version (version, name, checksum, applied_at)"
            " VALUES (:version, :name, :checksum, :applied_at)",
            schema.applied_rows(),
        )
        for table in Base.metadata.sorted_tables:
            _check_values(connection, table)
    told("checked")


def seal(target: Path) -> None:
    """Leave one file without others beside it, whatever mode it was written in, and make it durable."""
    with closing(writable(target)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    copies.make_durable(target)


def writable(target: Path) -> sqlite3.Connection:
    """Open a file that is being made, without transactions of the driver's own."""
    connection = sqlite3.connect(f"{target.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


@contextmanager
def _attached(source: Path, target: Path) -> Iterator[sqlite3.Connection]:
    """Open the file that is being made, with the other one beside it as `source`, to be read only."""
    connection = writable(target)
    try:
        restrain(connection)
        connection.execute("ATTACH DATABASE ? AS source", (f"{source.absolute().as_uri()}?mode=ro&immutable=1",))
        connection.set_authorizer(may_copy)
        yield connection
    except sqlite3.Error as error:
        raise refusal_of(error, Check.CONTENT, "The rows of the file cannot be read.") from error
    finally:
        connection.close()


def _copy_rows(connection: sqlite3.Connection, name: str) -> None:
    given = set(columns_of(connection, name, of="source"))
    columns = ", ".join(quoted(column) for column in columns_of(connection, name) if column in given)
    if not columns:
        return
    try:
        connection.execute(
            f"INSERT INTO main.{quoted(name)} ({columns}) SELECT {columns} FROM source.{quoted(name)}"  # noqa: S608 - names of our tables and columns
        )
    except sqlite3.IntegrityError as error:
        raise NotUsable(Check.CONTENT, f"The rows of the table {name} do not fit.") from error


def fill(target: Path, rows: Iterable[Row]) -> None:
    """Put rows into a database that was built; tables that it does not have are left out.

    Raises:
        NotUsable: they do not fit the tables.
    """
    with closing(writable(target)) as connection:
        known = {name: frozenset(columns_of(connection, name)) for name in tables_of(connection) - _NOT_ROWS}
        connection.execute("BEGIN")
        for name, columns, values in rows:
            if name not in known:
                continue
            if not known[name].issuperset(columns):
                raise NotUsable(Check.CONTENT, f"The table {name} has columns that its schema version has not.")
            statement = f"INSERT INTO {quoted(name)} ({', '.join(map(quoted, columns))}) VALUES ({_places(columns)})"  # noqa: S608 - of our schema
            try:
                connection.execute(statement, tuple(values))
            except sqlite3.Error as error:
                raise refusal_of(error, Check.CONTENT, f"The rows of the table {name} do not fit.") from error
        _ensure_version_row(connection)
        connection.execute("COMMIT")


def _places(columns: Sequence[str]) -> str:
    return ", ".join("?" * len(columns))


def _ensure_version_row(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR IGNORE INTO config_version (id, version, changed_at) VALUES (1, 1, 0)")


# --- values ----------------------------------------------------------------------------------------------------------


def _check_values(connection: sqlite3.Connection, table: Table) -> None:
    """Refuse values that the code and other databases could not take: SQLite itself stores anything anywhere."""
    faults = " OR ".join(fault for column in table.c if (fault := _fault(column)))
    row = connection.execute(f"SELECT 1 FROM {quoted(table.name)} WHERE {faults} LIMIT 1").fetchone()  # noqa: S608 - of our schema
    if row is not None:
        raise NotUsable(Check.CONTENT, f"The table {table.name} holds values that do not fit their columns.")
    texts = [quoted(column.name) for column in table.c if _kinds(column) == ("text",)]
    if texts:
        try:
            for _ in connection.execute(f"SELECT {', '.join(texts)} FROM {quoted(table.name)}"):  # noqa: S608 - of our schema
                pass
        except sqlite3.Error as error:  # not UTF-8
            raise NotUsable(Check.CONTENT, f"The table {table.name} holds text that cannot be read.") from error


def _fault(column: Column[Any]) -> str:
    name = quoted(column.name)
    kinds = ", ".join(f"'{kind}'" for kind in (*_kinds(column), "null"))
    faults = [f"typeof({name}) NOT IN ({kinds})"]
    if column.name.endswith("_json"):
        faults.append(f"({name} IS NOT NULL AND NOT json_valid({name}))")
    if isinstance(column.type, Float):
        is_moment = column.name.endswith(_MOMENTS)
        low, high = (0, _LATEST_MOMENT) if is_moment else (-_LARGEST_REAL, _LARGEST_REAL)
        faults.append(f"({name} IS NOT NULL AND {name} NOT BETWEEN {low} AND {high})")
    return " OR ".join(faults)


def _kinds(column: Column[Any]) -> tuple[str, ...]:
    match column.type:
        case BigInteger() | SmallInteger() | Integer():
            return ("integer",)
        case Float():
            return ("real", "integer")
        case LargeBinary():
            return ("blob",)
        case _:
            return ("text",)
