"""Copies of a whole database: written beside their final name, verified, made durable, then renamed into place."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Select, func, inspect, select, text
from sqlalchemy import table as sql_table
from sqlalchemy.engine import make_url

from omniroute.errors import StorageError
from omniroute.storage.database import Database

REQUIRED_TABLES: Final = frozenset({"provider_connections", "provider_nodes", "combos", "api_keys"})
"""A file without these is not a copy of our database."""
_NOT_COUNTED: Final = frozenset({"request_log"})
_DUMP_TIMEOUT_S: Final = 3600
_ROWS_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Copy:
    """A verified copy."""

    path: Path
    size_bytes: int
    rows: Mapping[str, int]
    """Rows by table, as counted in the copy."""


def file_name(database: Database, reason: str, at: float) -> str:
    """Return `db_<UTC time>_<reason>.<suffix>`; names sort by time."""
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return f"db_{moment}_{reason}.{suffix_of(database)}"


def suffix_of(database: Database) -> str:
    """Return the kind of file that a copy of this database is."""
    if database.is_sqlite:
        return "sqlite"
    return "dump" if shutil.which("pg_dump") else "ndjson"


def write_copy(database: Database, target: Path) -> Copy:
    """Write a consistent copy of the running database to `target`, mode 0600, and verify it.

    SQLite: `VACUUM INTO`, then an integrity check, required tables and row counts. PostgreSQL: `pg_dump` where it is
    installed and works, else one JSON line per row (then the suffix of the returned path is `.ndjson`).

    Raises:
        StorageError: the copy could not be made or is not good; `target` does not exist then.
    """
    try:
        if database.is_sqlite:
            return _written(target, lambda unfinished: _copy_sqlite(database, unfinished))
        if target.suffix == ".dump":
            try:
                return _written(target, lambda unfinished: _dump_postgres(database, unfinished))
            except StorageError:  # for example older than the server
                target = target.with_suffix(".ndjson")
        return _written(target, lambda unfinished: database.detached(lambda c: _export(c, unfinished)))
    except OSError as error:
        raise StorageError("The copy could not be written.") from error


def _written(target: Path, write: Callable[[Path], Mapping[str, int]]) -> Copy:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    unfinished.unlink(missing_ok=True)
    try:
        # Created first, so that it is never readable by others, not even while it grows.
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        rows = write(unfinished)
        _make_durable(unfinished)
        unfinished.rename(target)
        _make_durable(target.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return Copy(target, target.stat().st_size, rows)


def verify_sqlite(path: Path) -> Mapping[str, int]:
    """Check a file read-only and return its rows by table.

    Raises:
        StorageError: it is damaged or lacks a required table.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            result = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if result != "ok":
                raise StorageError("The copy does not pass the integrity check.")
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if missing := REQUIRED_TABLES - names:
                raise StorageError(f"The copy lacks the tables {', '.join(sorted(missing))}.")
            return {
                name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - from the schema
                for name in sorted(names - _NOT_COUNTED)
                if not name.startswith("sqlite_")
            }
    except sqlite3.Error as error:
        raise StorageError("The copy cannot be read.") from error


def _copy_sqlite(database: Database, unfinished: Path) -> Mapping[str, int]:
    def copy(connection: Connection) -> Mapping[str, int]:
        before = {name: connection.execute(_count(name)).scalar_one() for name in REQUIRED_TABLES}
        connection.exec_driver_sql("VACUUM INTO ?", (str(unfinished),))
        rows = verify_sqlite(unfinished)
        # Rows may come and go while the copy is made; a table that lost all of them is a broken copy.
        if any(before[name] and not rows[name] for name in REQUIRED_TABLES):
            raise StorageError("The copy lacks rows that the database has.")
        return rows

    return database.detached(copy)


def _dump_postgres(database: Database, unfinished: Path) -> Mapping[str, int]:
    url = make_url(database.engine.url)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PGCONNECT_TIMEOUT": "10"}
    if url.password is not None:
        environment["PGPASSWORD"] = str(url.password)  # not an argument: the process list is public
    address = url.set(drivername="postgresql", password=None).render_as_string()

    def run(*command: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - fixed programs
                command, env=environment, capture_output=True, timeout=_DUMP_TIMEOUT_S, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StorageError(f"{command[0]} failed.") from error
        return done.stdout.decode(errors="replace")

    options = ("--format=custom", "--no-owner", "--no-privileges")
    run("pg_dump", *options, f"--file={unfinished}", f"--dbname={address}")
    contents = run("pg_restore", "--list", str(unfinished))
    if any(re.search(rf"TABLE DATA \S+ {name} ", contents) is None for name in REQUIRED_TABLES):
        raise StorageError("The dump lacks a table.")
    return database.detached(
        lambda connection: {
            name: connection.execute(_count(name)).scalar_one()
            for name in sorted(set(inspect(connection).get_table_names()) - _NOT_COUNTED)
        }
    )


def _count(table: str) -> Select[int]:
    return select(func.count()).select_from(sql_table(table))


def _export(connection: Connection, unfinished: Path) -> Mapping[str, int]:
    """Write a header line, then one line per row, all tables from one snapshot."""
    rows: dict[str, int] = {}
    connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with connection.begin(), unfinished.open("w", encoding="utf-8") as file:
        names = sorted(inspect(connection).get_table_names())
        file.write(json.dumps({"format": "omniroute-logical-v1", "tables": names}) + "\n")
        for name in names:
            result = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(text(f'SELECT * FROM "{name}"'))  # noqa: S608
            rows[name] = 0
            for row in result.mappings():
                file.write(json.dumps({"table": name, "row": {k: _plain(v) for k, v in row.items()}}) + "\n")
                rows[name] += 1
    if missing := REQUIRED_TABLES - set(rows):
        raise StorageError(f"The database lacks the tables {', '.join(sorted(missing))}.")
    with unfinished.open(encoding="utf-8") as file:
        if sum(1 for line in file if json.loads(line)) != sum(rows.values()) + 1:
            raise StorageError("The export cannot be read back.")
    return rows


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
