"""Copies of a whole database: written beside their final name, verified, made durable, then renamed into place.

What was found out about a copy while it was verified (rows, what state of the data it holds) is kept in a small file
beside it, so that a list of copies opens none of them. A copy whose file has changed since is not a verified one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Select, func, inspect, select, text
from sqlalchemy import table as sql_table
from sqlalchemy.engine import make_url

from omniroute.errors import StorageError
from omniroute.storage.database import Database
from omniroute.storage.threads import NativePool

REQUIRED_TABLES: Final = frozenset({"provider_connections", "provider_nodes", "combos", "api_keys"})
"""A file without these is not a copy of our database."""
LOGICAL_FORMAT: Final = "omniroute-logical-v1"
WORK_PREFIX: Final = ".work-"
"""Directories beside the copies in which others are prepared; the process that does so stands behind it."""
# SQLite puts a journal beside the file that it writes.
_UNFINISHED: Final = re.compile(r"\..*\.(\d+)\.part(?:-journal)?|" + re.escape(WORK_PREFIX) + r"(\d+)-")
_ABANDONED_AFTER_S: Final = 86_400
_NOT_COUNTED: Final = frozenset({"request_log"})
# These change while nobody changes anything that a backup is made for.
_NOT_COMPARED: Final = frozenset(
    {"audit_log", "claims", "slots", "pacing", "reservations", "jobs", "job_runs", "login_attempts", "alembic_version"}
)
_DUMP_TIMEOUT_S: Final = 3600
_ROWS_AT_ONCE: Final = 1000
_STATE: Final = (
    "SELECT max(version) FROM config_version",
    "SELECT max(request_id) FROM request_log",
    "SELECT count(*) FROM request_log",
)
_PAUSE_EVERY_ROWS: Final = 100
_files: Final = NativePool(1)
"""Reads files off the hub."""

_Counted = tuple[Mapping[str, int], str]
"""Rows by table, and the state of the data."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A verified copy."""

    path: Path
    size_bytes: int
    rows: Mapping[str, int]
    """Rows by table, as counted in the copy."""
    state: str = ""
    """Tells states of the data apart, see :func:`state_of`."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a copy since it was verified."""

    size_bytes: int
    modified_ns: int
    rows: Mapping[str, int]
    state: str


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
            return written(target, lambda unfinished: _copy_sqlite(database, unfinished))
        if target.suffix == ".dump":
            try:
                return written(target, lambda unfinished: _dump_postgres(database, unfinished))
            except StorageError:  # for example older than the server
                target = target.with_suffix(".ndjson")
        return written(target, lambda unfinished: database.detached(lambda c: _export(c, unfinished)))
    except OSError as error:
        raise StorageError("The copy could not be written.") from error


def state_of(sql: Connection) -> str:
    """Return a text that differs once configuration was written, or a row was added or removed."""
    return _state(inspect(sql).get_table_names(), lambda statement: sql.execute(text(statement)).scalar())


def _state(names: Iterable[str], scalar: Callable[[str], Any]) -> str:
    compared = sorted(name for name in {*names} - _NOT_COMPARED - _NOT_COUNTED if not name.startswith("sqlite_"))
    counts = [(name, scalar(f'SELECT count(*) FROM "{name}"')) for name in compared]  # noqa: S608 - from the schema
    facts = [counts, [scalar(statement) for statement in _STATE]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def written(target: Path, write: Callable[[Path], _Counted]) -> Copy:
    """Have a file written beside its final name; it gets that name when it is complete and durable."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    unfinished.unlink(missing_ok=True)
    try:
        # Created first, so that it is never readable by others, not even while it grows.
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        rows, state = write(unfinished)
        make_durable(unfinished)
        unfinished.rename(target)
        make_durable(target.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return Copy(target, target.stat().st_size, rows, state)


# --- facts -----------------------------------------------------------------------------------------------------------


def facts_path(path: Path) -> Path:
    """Return where the facts of a copy are kept."""
    return path.with_name(f".{path.name}.facts")


def keep_facts(copy: Copy) -> Facts:
    """Keep what was found out about a copy that has just been verified."""
    stat = copy.path.stat()
    facts = Facts(stat.st_size, stat.st_mtime_ns, dict(copy.rows), copy.state)
    place = facts_path(copy.path)
    unfinished = place.with_name(f"{place.name}.{os.getpid()}.part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(facts), file)
    unfinished.replace(place)
    return facts


def facts_of(path: Path) -> Facts | None:
    """Return what is known of a copy; None if it was never verified, or has changed since."""
    try:
        facts = Facts(**json.loads(facts_path(path).read_text("utf-8")))
        stat = path.stat()
    except (OSError, ValueError, TypeError):
        return None
    return facts if (facts.size_bytes, facts.modified_ns) == (stat.st_size, stat.st_mtime_ns) else None


def remove(path: Path) -> None:
    """Remove a copy with its facts."""
    path.unlink(missing_ok=True)
    facts_path(path).unlink(missing_ok=True)


def verify(path: Path) -> Copy:
    """Check the copy in a file, whatever its kind.

    Raises:
        StorageError: it is damaged or lacks a required table.
    """
    match path.suffix:
        case ".sqlite":
            rows, state = _files.run(lambda: _checked_sqlite(path))
        case ".dump":
            _check_dump(_run_postgres("pg_restore", "--list", str(path), environment=_plain_environment()))
            rows, state = {}, ""
        case _:
            rows, state = _files.run(lambda: read_back(path)), ""
    return Copy(path, path.stat().st_size, rows, state)


# --- SQLite ----------------------------------------------------------------------------------------------------------


def verify_sqlite(path: Path) -> Mapping[str, int]:
    """Check a file read-only and return its rows by table.

    Raises:
        StorageError: it is damaged or lacks a required table.
    """
    return _checked_sqlite(path)[0]


def _checked_sqlite(path: Path) -> _Counted:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:

            def scalar(statement: str) -> Any:
                return connection.execute(statement).fetchone()[0]

            if scalar("PRAGMA integrity_check(1)") != "ok":
                raise StorageError("The copy does not pass the integrity check.")
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if missing := REQUIRED_TABLES - names:
                raise StorageError(f"The copy lacks the tables {', '.join(sorted(missing))}.")
            counted = sorted(name for name in names - _NOT_COUNTED if not name.startswith("sqlite_"))
            rows = {name: scalar(f'SELECT count(*) FROM "{name}"') for name in counted}  # noqa: S608 - from the schema
            return rows, _state(names, scalar) if {"config_version", "request_log"} <= names else ""
    except sqlite3.Error as error:
        raise StorageError("The copy cannot be read.") from error


def _copy_sqlite(database: Database, unfinished: Path) -> _Counted:
    def copy(connection: Connection) -> _Counted:
        before = {name: connection.execute(_count(name)).scalar_one() for name in REQUIRED_TABLES}
        connection.exec_driver_sql("VACUUM INTO ?", (str(unfinished),))
        rows, state = _checked_sqlite(unfinished)
        # Rows may come and go while the copy is made; a table that lost all of them is a broken copy.
        if any(before[name] and not rows[name] for name in REQUIRED_TABLES):
            raise StorageError("The copy lacks rows that the database has.")
        return rows, state

    return database.detached(copy)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def _dump_postgres(database: Database, unfinished: Path) -> _Counted:
    url = make_url(database.engine.url)
    environment = _plain_environment()
    if url.password is not None:
        environment["PGPASSWORD"] = str(url.password)  # not an argument: the process list is public
    address = url.set(drivername="postgresql", password=None).render_as_string()
    options = ("--format=custom", "--no-owner", "--no-privileges")
    state = database.detached(state_of)  # before: what is written meanwhile makes the next copy another one
    _run_postgres("pg_dump", *options, f"--file={unfinished}", f"--dbname={address}", environment=environment)
    _check_dump(_run_postgres("pg_restore", "--list", str(unfinished), environment=environment))

    def count(connection: Connection) -> Mapping[str, int]:
        names = set(inspect(connection).get_table_names()) - _NOT_COUNTED
        return {name: connection.execute(_count(name)).scalar_one() for name in sorted(names)}

    return database.detached(count), state


def _plain_environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "PGCONNECT_TIMEOUT": "10"}


def _run_postgres(*command: str, environment: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs
            command, env=environment, capture_output=True, timeout=_DUMP_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise StorageError(f"{command[0]} failed.") from error
    return done.stdout.decode(errors="replace")


def _check_dump(contents: str) -> None:
    if any(re.search(rf"TABLE DATA \S+ {name} ", contents) is None for name in REQUIRED_TABLES):
        raise StorageError("The dump lacks a table.")


def _count(table: str) -> Select[int]:
    return select(func.count()).select_from(sql_table(table))


def _export(connection: Connection, unfinished: Path) -> _Counted:
    """Write a header line, one line per row, and a line that says how many there are: all tables from one snapshot."""
    rows: dict[str, int] = {}
    connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with connection.begin(), unfinished.open("w", encoding="utf-8") as file:
        names = sorted(inspect(connection).get_table_names())
        state = state_of(connection)
        file.write(json.dumps({"format": LOGICAL_FORMAT, "tables": names}) + "\n")
        for name in names:
            result = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(text(f'SELECT * FROM "{name}"'))  # noqa: S608
            rows[name] = 0
            for row in result.mappings():
                file.write(json.dumps({"table": name, "row": {k: _plain(v) for k, v in row.items()}}) + "\n")
                rows[name] += 1
                if rows[name] % _PAUSE_EVERY_ROWS == 0:
                    time.sleep(0)
        file.write(json.dumps({"table": None, "rows": rows}) + "\n")
    _files.run(lambda: read_back(unfinished))
    return rows, state


def read_back(path: Path) -> Mapping[str, int]:
    """Return the rows by table of a file of lines.

    Raises:
        StorageError: it ends early, is damaged, or lacks a required table.
    """
    try:
        with path.open(encoding="utf-8") as file:
            rows: dict[str, int] = dict.fromkeys(json.loads(file.readline())["tables"], 0)
            stated = None
            for line in file:
                found = json.loads(line)
                if found["table"] is None:
                    stated = found["rows"]
                else:
                    rows[found["table"]] += 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError("The export cannot be read back.") from error
    if stated != rows:
        raise StorageError("The export is not complete.")
    if missing := REQUIRED_TABLES - set(rows):
        raise StorageError(f"The database lacks the tables {', '.join(sorted(missing))}.")
    return rows


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


# --- files -----------------------------------------------------------------------------------------------------------


def make_durable(path: Path) -> None:
    """Have a file, or the entries of a directory, survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tidy(directory: Path, now: float) -> int:
    """Remove what processes that are no more have left unfinished in a directory of copies; return how much."""
    if not directory.is_dir():
        return 0
    removed = 0
    unfinished = [
        (path, found[1] or found[2]) for path in directory.iterdir() if (found := _UNFINISHED.match(path.name))
    ]
    for path, pid in unfinished:
        with suppress(OSError):
            # Numbers of processes come again, in containers soon.
            if not _is_alive(pid) or now - path.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed += 1
    for facts in directory.glob(".*.facts"):
        if not facts.with_name(facts.name[1 : -len(".facts")]).exists():
            facts.unlink(missing_ok=True)
    return removed


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
