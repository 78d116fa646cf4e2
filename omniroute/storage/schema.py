"""Brings a database to the schema of this program, once, whoever starts first; never re-creates one.

What a start does: read one version row. Only if that is not the newest version does it take the start lock, look at
what is there, make a verified backup if there is anything to lose, and import Alembic.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, exc, inspect, select, text

from omniroute.errors import ConfigurationError, StorageError
from omniroute.extensions import MIGRATIONS_DIRECTORY, db
from omniroute.storage import copies, locks, postgres, sqlite
from omniroute.storage.database import Database
from omniroute.storage.models import SchemaVersion
from omniroute.storage.models.base import table_of

__all__ = [
    "Connection",
    "SchemaState",
    "ensure_schema",
    "newest_version",
    "prepared_for_flask_command",
    "record_step",
    "stored_version",
]

_VERSIONS: Final = table_of(SchemaVersion)
# Without these a `schema_version` table is somebody else's.
_LANDMARKS: Final = frozenset({"schema_version", "config_version", "provider_connections", "api_keys"})
_LOCK_WAIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What `ensure_schema` found and left."""

    version: int
    was_created: bool = False
    migrated_from: int | None = None


def newest_version(migrations: Path = MIGRATIONS_DIRECTORY) -> int:
    """Return the schema version that this program needs: the highest number among the migration files."""
    return max(int(file.name[:4]) for file in (migrations / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))


def ensure_schema(
    database: Database,
    *,
    backup: Callable[[str], object],
    log: logging.Logger,
    data_dir: Path | None = None,
    migrations: Path = MIGRATIONS_DIRECTORY,
) -> SchemaState:
    """Create or migrate the schema if it is not the newest.

    Args:
        database: where.
        backup: makes a verified backup; gets the reason `pre-migration`. Its error stops the start.
        log: told what was done.
        data_dir: holds the lock file of an SQLite database; by default the directory of its file.
        migrations: the Alembic directory.

    Raises:
        ConfigurationError: the database is newer than this program, damaged, or another program's. Nothing was changed.
    """
    newest = newest_version(migrations)
    if stored_version(database) == newest:
        return SchemaState(newest)
    with _alone(database, data_dir):
        found = stored_version(database)
        if found == newest:
            return SchemaState(newest)
        if found is not None and found > newest:
            raise ConfigurationError(
                f"The database has schema version {found}, this program knows versions up to {newest}."
                " Start the newer OmniRoute that wrote it, or restore a backup from before that upgrade."
            )
        if found is not None:
            log.info("Migrating the database from schema version %s to %s after a backup.", found, newest)
            backup("pre-migration")
        if found is None and migrations == MIGRATIONS_DIRECTORY:
            _create(database)
        else:
            _upgrade(database, migrations)
        if found is None:
            log.info("Created the database with schema version %s.", newest)
        return SchemaState(newest, was_created=found is None, migrated_from=found)


def stored_version(database: Database) -> int | None:
    """Return the version of an existing schema of ours, or None for an empty database.

    Raises:
        ConfigurationError: what is there is damaged or not ours.
    """
    if database.path is not None and sqlite.is_foreign_file(database.path):
        raise ConfigurationError(_damaged(database.path))
    try:
        with database.connected() as connection:
            return _version_on(connection)
    except StorageError as error:
        cause = error.__cause__
        if database.path is not None and isinstance(cause, exc.DBAPIError) and sqlite.is_damaged(cause.orig):
            raise ConfigurationError(_damaged(database.path)) from error
        raise


def _version_on(connection: Connection) -> int | None:
    try:
        version: int | None = connection.execute(
            select(_VERSIONS.c.version).order_by(_VERSIONS.c.version.desc()).limit(1)
        ).scalar()
    except (exc.OperationalError, exc.ProgrammingError) as error:
        if connection.dialect.name == "sqlite" and (sqlite.is_damaged(error.orig) or sqlite.is_busy(error.orig)):
            raise
        version = None
        connection.rollback()
    if version is not None:
        return version
    # No version: nothing at all, or something that must not be touched. (A start that crashed left nothing: the first
    # migration and its version row are one transaction.)
    names = set(inspect(connection).get_table_names())
    if not names - {"alembic_version"}:
        return None
    if names >= _LANDMARKS:
        raise ConfigurationError("The database has OmniRoute's tables but no schema version. Restore a backup.")
    raise ConfigurationError(
        "The database holds tables of another program, so nothing was written to it. Set DATABASE_URL or DATA_DIR to"
        " a place that is empty or belongs to OmniRoute."
    )


def _damaged(path: Path) -> str:
    return (
        f"{path.name} is damaged or not an SQLite database. It was left as it is."
        " 'omniroute restore' puts a copy of the backups folder of the data directory in its place and keeps"
        " the damaged file beside it."
    )


@contextmanager
def _alone(database: Database, data_dir: Path | None) -> Iterator[None]:
    """Let one process at a time through, on this host (SQLite) or in this database (PostgreSQL)."""
    if database.path is not None:
        with locks.locked((data_dir or database.path.parent) / "runtime" / "start.lock", wait_s=_LOCK_WAIT_S):
            yield
        return
    with database.connected() as connection:
        connection.execute(text(f"SET lock_timeout = {int(_LOCK_WAIT_S * 1000)}"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": postgres.LOCK_START})
        connection.commit()
        try:
            yield
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": postgres.LOCK_START})
            connection.commit()


def _create(database: Database) -> None:
    """Make all tables of an empty database from the models, and record every migration as applied.

    The same schema as the migrations give (a test compares them), without importing Alembic into a server that then
    carries it for life.
    """
    database.write(create_tables)


def create_tables(connection: Connection) -> None:
    """Make the newest schema on a connection to an empty database, without importing Alembic."""
    db.metadata.create_all(connection)
    connection.execute(text("INSERT INTO config_version (id, version, changed_at) VALUES (1, 1, 0)"))
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": f"{newest_version():04d}"})
    for row in applied_rows():
        connection.execute(_VERSIONS.insert(), row)


def applied_rows() -> list[dict[str, Any]]:
    """Return the rows of `schema_version` that the newest schema has."""
    files = sorted((MIGRATIONS_DIRECTORY / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))
    return [_applied(file) for file in files]


def _applied(file: Path) -> dict[str, Any]:
    return {
        "version": int(file.name[:4]),
        "name": file.stem,
        "checksum": hashlib.sha256(file.read_bytes()).hexdigest(),
        "applied_at": time.time(),
    }


def _upgrade(database: Database, migrations: Path) -> None:
    with database.connected(is_write=True) as connection:
        upgrade(connection, migrations=migrations)


def upgrade(connection: Connection, to: str = "head", *, migrations: Path = MIGRATIONS_DIRECTORY) -> None:
    """Apply the migrations up to one of them on a connection that begins its transactions as writers do."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def record_step(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # noqa: ARG001 - called by keyword
    """Write or remove the row of `schema_version` for a migration, in the migration's own transaction."""
    connection: Connection = ctx.connection
    if not step.is_upgrade:
        for revision in step.down_revision_ids or ():
            connection.execute(_VERSIONS.delete().where(_VERSIONS.c.version > int(revision)))
        return
    script = step.up_revision
    connection.execute(_VERSIONS.insert(), _applied(Path(script.path)))


@contextmanager
def prepared_for_flask_command() -> Iterator[Connection]:
    """Give `flask db …` a connection: under the start lock, after a verified backup if a migration is pending."""
    database = Database(db.engine.url.render_as_string(hide_password=False))
    with _alone(database, None):
        found = stored_version(database)
        if found is not None and found < newest_version():
            target = (database.path.parent if database.path else Path.cwd()) / "backups"
            copies.write_copy(database, target / copies.file_name(database, "pre-migration", time.time()))
        with database.connected(is_write=True) as connection:
            yield connection
