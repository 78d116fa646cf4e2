"""What `doctor` looks at: one function per subject, each returning findings as data.

A check looks and never changes: it creates no file, generates no secret and applies no migration.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from omniroute import __version__
from omniroute.errors import OmniRouteError
from omniroute.settings import Level, Settings

_OTHERS: Final = 0o077
_LOW_DISK: Final = 0.05
_LARGE_WAL_BYTES: Final = 256 << 20
_OLD_BACKUP_S: Final = 48 * 3600
_OLDEST_PYTHON: Final = (3, 11)
_MODULES: Final = (
    "flask",
    "gevent",
    "gunicorn",
    "sqlalchemy",
    "alembic",
    "cryptography",
    "httptools",
    "msgspec",
    "requests",
)


class Status(StrEnum):
    """Outcome of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `hint` says what to do about it."""

    name: str
    status: Status
    message: str
    hint: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


def _ok(name: str, message: str, **data: Any) -> Finding:
    return Finding(name, Status.OK, message, None, data)


def _warn(name: str, message: str, hint: str, **data: Any) -> Finding:
    return Finding(name, Status.WARN, message, hint, data)


def _fail(name: str, message: str, hint: str, **data: Any) -> Finding:
    return Finding(name, Status.FAIL, message, hint, data)


@dataclass(frozen=True, slots=True)
class Subject:
    """The installation that is looked at."""

    settings: Settings
    now: Callable[[], float]
    home: Path


def run_all(subject: Subject) -> list[Finding]:
    """Run every check, in the order in which problems should be solved."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings.extend(check(subject))
        except OmniRouteError as error:
            findings.append(_fail(_name_of(check), error.message, "See the log for the cause."))
        except OSError as error:
            findings.append(_fail(_name_of(check), f"Could not be looked at: {error.strerror}.", "Check its rights."))
    return findings


def _name_of(check: Callable[..., object]) -> str:
    return check.__name__.removeprefix("check_").replace("_", " ")


def check_python(_subject: Subject) -> Iterator[Finding]:
    """Version and modules."""
    version = ".".join(str(number) for number in sys.version_info[:3])
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if sys.version_info < _OLDEST_PYTHON:
        yield _fail("python", f"Python {version} is too old.", "Install Python 3.11 or later.", version=version)
    elif missing:
        yield _fail(
            "python",
            f"Python {version}; missing: {', '.join(missing)}.",
            "Install the dependencies: pip install --require-hashes -r requirements.lock",
            version=version,
            missing=missing,
        )
    else:
        yield _ok("python", f"Python {version} with everything it needs.", version=version)


def check_configuration(subject: Subject) -> Iterator[Finding]:
    """Warnings from reading the settings."""
    warnings = [str(notice) for notice in subject.settings.notices if notice.level is Level.WARNING]
    for text in warnings:
        yield _warn("configuration", text, "Correct the variable; `omniroute env` shows what is in effect.")
    if not warnings:
        yield _ok("configuration", f"{len(subject.settings.sources)} settings are set.")


def check_data_directory(subject: Subject) -> Iterator[Finding]:
    """Exists, is writable and private; no other one holds the data that is looked for here; the disk has room."""
    name = "data directory"
    path = subject.settings.data_dir
    if not path.exists():
        yield _warn(name, f"{path} does not exist yet.", "The first start of the server makes it.", path=str(path))
    elif not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield _fail(name, f"{path} is not a directory that this account can write.", "Check owner and DATA_DIR.")
        return
    elif stat.S_IMODE(path.stat().st_mode) & _OTHERS:
        yield _fail(name, f"{path} is open to other users.", f"chmod 700 {path}", path=str(path))
    else:
        yield _ok(name, f"{path}", path=str(path))
    yield from _other_data(subject)
    yield from _disk(path)


def _other_data(subject: Subject) -> Iterator[Finding]:
    own = subject.settings.data_dir.resolve()
    candidates = (subject.home / ".omniroute", Path.cwd() / "instance")
    others = [d for d in candidates if (d / "storage.sqlite").exists() and d.resolve() != own]
    if not others:
        return
    has_data = (own / "storage.sqlite").exists() or subject.settings.database_url is not None
    found = ", ".join(str(other) for other in others)
    report = _warn if has_data else _fail
    yield report(
        "data directory",
        f"Another data directory with a database: {found}.",
        "If that is the one you mean, set DATA_DIR to it.",
        others=[str(other) for other in others],
    )


def _disk(path: Path) -> Iterator[Finding]:
    existing = next(p for p in (path, *path.parents) if p.exists())
    usage = shutil.disk_usage(existing)
    share = usage.free / usage.total
    if share < _LOW_DISK:
        yield _fail("disk", f"{share:.1%} of the disk is free.", "Make room, or move DATA_DIR.", freeBytes=usage.free)
    else:
        yield _ok("disk", f"{usage.free >> 30} GiB free ({share:.0%}).", freeBytes=usage.free)


def check_secrets(subject: Subject) -> Iterator[Finding]:
    """Given values are not published ones; generated ones are there, private, and open the stored credentials."""
    from omniroute.services.first_start import unsafe_values

    unsafe = unsafe_values(subject.settings)
    for value in unsafe:
        yield _fail("secrets", f"{value.variable} {value.reason}.", value.remedy[:1].upper() + value.remedy[1:] + ".")
    directory = subject.settings.secrets_dir
    if not directory.exists():
        yield _warn("secrets", "No secrets were generated yet.", "The first start of the server makes them.")
        return
    loose = [p.name for p in (directory, *directory.iterdir()) if stat.S_IMODE(p.stat().st_mode) & _OTHERS]
    if loose:
        yield _fail("secrets", f"Open to other users: {', '.join(sorted(loose))}.", f"chmod -R go= {directory}")
    missing = [
        file
        for file, given in (
            ("jwt_secret", subject.settings.jwt_secret),
            ("api_key_secret", subject.settings.api_key_secret),
            ("encryption_key", subject.settings.encryption_key),
        )
        if given is None and not (directory / file).exists()
    ]
    if missing:
        yield _fail(
            "secrets",
            f"Missing in {directory}: {', '.join(missing)}.",
            "Restore them from a backup. A lost encryption_key loses the stored credentials.",
            missing=missing,
        )
    if not loose and not missing and not unsafe:
        yield _ok("secrets", "Present and private.")


def check_database(subject: Subject) -> Iterator[Finding]:
    """Reachable, whole, of this version's schema; its log is not running away."""
    from omniroute.storage import schema
    from omniroute.storage.database import Database

    database = Database(subject.settings.storage_url)
    try:
        if database.path is not None and not database.path.exists():
            yield _warn("database", "There is none yet.", "The first start of the server makes it.")
            return
        kind = "SQLite" if database.is_sqlite else "PostgreSQL"
        found, newest = schema.stored_version(database), schema.newest_version()
        if found is None:
            yield _warn("database", f"{kind}: empty.", "The next start of the server makes the tables.")
            return
        data = {"kind": kind, "version": found, "newest": newest}
        if found > newest:
            yield _fail(
                "database",
                f"{kind}: schema {found} is newer than this program's {newest}.",
                "Start the version of OmniRoute that wrote it.",
                **data,
            )
        elif found < newest:
            hint = "Run: omniroute migrate (a start does the same)."
            yield _fail("database", f"{kind}: schema {found}, this version needs {newest}.", hint, **data)
        else:
            yield _ok("database", f"{kind}, schema {found}.", **data)
        yield from _sqlite_file(database)
    finally:
        database.dispose()


def _sqlite_file(database: Any) -> Iterator[Finding]:
    path: Path | None = database.path
    if path is None:
        return
    verdict = database.detached(lambda connection: connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    if verdict != "ok":
        yield _fail("database", "SQLite reports damage.", "Stop the server and restore a backup.")
    if stat.S_IMODE(path.stat().st_mode) & _OTHERS:
        yield _fail("database", f"{path.name} is open to other users.", f"chmod 600 {path}")
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size > _LARGE_WAL_BYTES:
        yield _fail(
            "database",
            f"{log.name} has {log.stat().st_size >> 20} MiB.",
            "Something keeps a read transaction open; restart the server.",
        )


def check_backup(subject: Subject) -> Iterator[Finding]:
    """A recent copy exists. A database without one younger than two days is worth a word, not a failure."""
    settings = subject.settings
    if settings.disable_sqlite_auto_backup or settings.database_url is not None:
        yield _ok("backup", "Left to the operator.")
        return
    if not (settings.data_dir / "storage.sqlite").exists():
        return
    copies = sorted((settings.data_dir / "backups").glob("db_*"), key=lambda file: file.stat().st_mtime)
    age_s = subject.now() - copies[-1].stat().st_mtime if copies else None
    if age_s is None:
        yield _warn("backup", "There is no backup yet.", "Keep a copy of the data directory elsewhere.")
    elif age_s > _OLD_BACKUP_S:
        yield _warn("backup", f"The newest one is {age_s / 86400:.0f} days old.", "Keep a copy of the data directory.")
    else:
        yield _ok("backup", f"{copies[-1].name}", count=len(copies))


def check_exposure(subject: Subject) -> Iterator[Finding]:
    """Who can reach the port, and what stands between."""
    settings = subject.settings
    if settings.is_loopback_bind:
        yield _ok("exposure", f"Only this machine reaches {settings.host}:{settings.port}.", host=settings.host)
    elif settings.trust_proxy is None and settings.base_url.startswith("http://"):
        yield _warn(
            "exposure",
            f"{settings.host}:{settings.port} is reachable from other machines without TLS.",
            "Put a TLS proxy in front (ecosystem/nginx), set BASE_URL and OMNIROUTE_TRUST_PROXY.",
            host=settings.host,
        )
    else:
        yield _ok("exposure", f"Reachable on {settings.host}:{settings.port} behind a proxy.", host=settings.host)


def check_server(subject: Subject) -> Iterator[Finding]:
    """The port is ours or free; a running server answers and has this version."""
    from omniroute.cli import Failure
    from omniroute.cli.running import address_of, announcement, ask, process_exists
    from omniroute.cli.server import check_port_is_free

    settings = subject.settings
    said = announcement(settings.runtime_dir)
    address = address_of(settings)
    answer = ask(address, "/healthz")
    if answer is not None and answer.status == 200:
        if said and said.version and said.version != __version__:
            yield _warn(
                "server",
                f"{address} runs version {said.version}, this is {__version__}.",
                "Restart the server.",
                address=address,
            )
        else:
            yield _ok("server", f"Answers at {address}.", address=address)
        return
    if answer is not None:
        yield _fail(
            "server",
            f"{address} answers with status {answer.status}.",
            "If that is another program, choose another port: OMNIROUTE_PORT. Else see the log.",
            address=address,
        )
        return
    if said and said.pid and process_exists(said.pid):
        yield _fail(
            "server", f"Process {said.pid} runs but {address} does not answer.", "See the log.", address=address
        )
        return
    try:
        check_port_is_free(settings.host, settings.port)
    except Failure as failure:
        yield _fail("port", failure.message, "Free it, or choose another with OMNIROUTE_PORT.", port=settings.port)
        return
    yield _ok("port", f"{settings.port} is free.", port=settings.port)
    yield _ok("server", "Not running.")


CHECKS: Final[Sequence[Callable[[Subject], Iterator[Finding]]]] = (
    check_python,
    check_configuration,
    check_data_directory,
    check_secrets,
    check_database,
    check_backup,
    check_exposure,
    check_server,
)
