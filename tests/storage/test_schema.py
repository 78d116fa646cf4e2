from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text

from omniroute.errors import ConfigurationError
from omniroute.extensions import MIGRATIONS_DIRECTORY, db
from omniroute.storage import schema
from omniroute.storage.database import Database
from tests.storage.conftest import NOW, create, no_backup

LOG = logging.getLogger("test")
ROOT = Path(__file__).parents[2]
LATER = '''
"""A later step."""
import sqlalchemy as sa
from alembic import op
revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None

def upgrade():
    op.add_column("combos", sa.Column("colour", sa.Text))
    {rest}

def downgrade():
    op.drop_column("combos", "colour")
'''


@pytest.fixture
def later(tmp_path: Path) -> Callable[[str], Path]:
    """Migrations with one more than this program has; `rest` is the end of its upgrade."""

    def make(rest: str = "pass") -> Path:
        directory = tmp_path / "migrations"
        shutil.copytree(MIGRATIONS_DIRECTORY, directory, ignore=shutil.ignore_patterns("__pycache__"))
        newest = schema.newest_version()
        step = LATER.format(rest=rest, revision=f"{newest + 1:04d}", before=f"{newest:04d}")
        (directory / "versions" / f"{newest + 1:04d}_later.py").write_text(step)
        return directory

    return make


def add_settings(database: Database) -> None:
    statement = text("INSERT INTO settings VALUES ('a', 'b', '1', NULL, :now, :now)")
    database.write(lambda sql: sql.execute(statement, {"now": NOW}))


def columns(database: Database, table: str) -> set[str]:
    return database.read(lambda sql: {column["name"] for column in inspect(sql).get_columns(table)})


def test_creates_the_schema_from_nothing(opened: Callable[[], Database], data_dir: Path) -> None:
    database = opened()
    state = schema.ensure_schema(database, backup=no_backup, log=LOG, data_dir=data_dir)
    assert state == schema.SchemaState(schema.newest_version(), was_created=True)
    names = database.read(lambda sql: set(inspect(sql).get_table_names()))
    assert names == set(db.metadata.tables) | {"alembic_version"}
    versions = database.read(lambda sql: sql.execute(text("SELECT version, name FROM schema_version")).all())
    assert [tuple(row) for row in versions] == [
        (1, "0001_initial"),
        (2, "0002_conversations"),
        (3, "0003_routing"),
        (4, "0004_money"),
        (5, "0005_management"),
    ]


def _described(database: Database) -> dict[str, object]:
    def describe(sql: Connection) -> dict[str, object]:
        found = inspect(sql)
        return {
            table: (
                [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in found.get_columns(table)],
                found.get_pk_constraint(table),
                sorted(map(str, found.get_unique_constraints(table))),
                sorted(map(_index, found.get_indexes(table))),
                sorted(map(str, found.get_foreign_keys(table))),
            )
            for table in sorted(found.get_table_names())
            if table != "alembic_version"
        }

    return database.read(describe)


def _index(index: Any) -> str:
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return str({**index, "dialect_options": options})


def test_creating_and_migrating_give_the_same_schema(
    opened: Callable[[], Database], data_dir: Path, tmp_path: Path
) -> None:
    """A new database is made from the models, an old one by the migrations; nobody can tell them apart."""
    database = opened()
    copied = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS_DIRECTORY, copied, ignore=shutil.ignore_patterns("__pycache__"))
    schema.ensure_schema(database, backup=no_backup, log=LOG, data_dir=data_dir, migrations=copied)
    migrated = _described(database)
    rows = database.read(lambda sql: sql.execute(text("SELECT version, name, checksum FROM schema_version")).fetchall())
    database.write(_drop_everything)
    schema.ensure_schema(database, backup=no_backup, log=LOG, data_dir=data_dir)
    assert _described(database) == migrated
    assert rows == database.read(
        lambda sql: sql.execute(text("SELECT version, name, checksum FROM schema_version")).fetchall()
    )
    stamped = database.read(lambda sql: sql.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
    assert int(stamped) == schema.newest_version()


def _drop_everything(sql: Connection) -> None:
    for table in inspect(sql).get_table_names():
        sql.execute(text(f'DROP TABLE "{table}"'))


def test_migrations_and_models_agree(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.connected() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, db.metadata)
    assert differences == []


def test_a_start_with_nothing_to_migrate_does_not_import_alembic(database: Database, url: str, data_dir: Path) -> None:
    code = f"""
        import logging, sys
        from omniroute.storage import schema
        from omniroute.storage.database import Database
        from pathlib import Path
        home = Path({str(data_dir)!r})
        state = schema.ensure_schema(Database({url!r}), backup=print, log=logging.getLogger(), data_dir=home)
        print(state.was_created, "alembic" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False False\n"


def test_a_pending_migration_takes_a_backup_first(
    database: Database, data_dir: Path, later: Callable[[str], Path]
) -> None:
    add_settings(database)
    seen: list[tuple[str, bool]] = []

    def backup(reason: str) -> None:
        seen.append((reason, "colour" in columns(database, "combos")))

    state = schema.ensure_schema(database, backup=backup, log=LOG, data_dir=data_dir, migrations=later("pass"))
    assert seen == [("pre-migration", False)]
    assert state == schema.SchemaState(schema.newest_version() + 1, migrated_from=schema.newest_version())
    assert "colour" in columns(database, "combos")
    assert database.read(lambda sql: sql.execute(text("SELECT count(*) FROM settings")).scalar_one()) == 1


def test_a_failed_backup_stops_the_migration(database: Database, data_dir: Path, later: Callable[[str], Path]) -> None:
    def backup(reason: str) -> None:
        raise OSError(reason)

    with pytest.raises(OSError, match="pre-migration"):
        schema.ensure_schema(database, backup=backup, log=LOG, data_dir=data_dir, migrations=later("pass"))
    assert "colour" not in columns(database, "combos")
    assert schema.stored_version(database) == schema.newest_version()


def test_a_migration_that_fails_leaves_nothing(
    database: Database, data_dir: Path, later: Callable[[str], Path]
) -> None:
    migrations = later('op.execute("INSERT INTO no_such_table VALUES (1)")')
    with pytest.raises(Exception, match="not available"):
        schema.ensure_schema(database, backup=lambda _: None, log=LOG, data_dir=data_dir, migrations=migrations)
    assert "colour" not in columns(database, "combos")
    assert schema.stored_version(database) == schema.newest_version()


def test_a_newer_schema_is_refused_and_left_alone(
    database: Database, data_dir: Path, later: Callable[[str], Path]
) -> None:
    schema.ensure_schema(database, backup=lambda _: None, log=LOG, data_dir=data_dir, migrations=later("pass"))
    newest = schema.newest_version()
    with pytest.raises(
        ConfigurationError, match=f"schema version {newest + 1}, this program knows versions up to {newest}"
    ):
        create(database, data_dir)
    assert schema.stored_version(database) == newest + 1


def test_tables_of_another_program_are_refused_and_left_alone(opened: Callable[[], Database], data_dir: Path) -> None:
    database = opened()
    database.write(lambda sql: sql.execute(text("CREATE TABLE customers (id INTEGER)")))
    with pytest.raises(ConfigurationError, match="another program"):
        create(database, data_dir)
    assert database.read(lambda sql: inspect(sql).get_table_names()) == ["customers"]


def test_another_programs_version_table_is_refused(opened: Callable[[], Database], data_dir: Path) -> None:
    database = opened()
    database.write(lambda sql: sql.execute(text("CREATE TABLE schema_version (version TEXT)")))
    with pytest.raises(ConfigurationError, match="another program"):
        create(database, data_dir)


@pytest.mark.parametrize("kind", ["garbage", "header", "page"])
def test_a_damaged_file_stops_the_start_and_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "storage.sqlite"
    database = Database(f"sqlite:///{path}")
    create(database, tmp_path)
    database.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = path.read_bytes()
    damaged = {
        "garbage": b"not a database at all" * 100,
        "header": b"\xff" * 16 + whole[16:],
        "page": whole[:100] + b"\xff" * 8000 + whole[8100:],
    }[kind]
    path.write_bytes(damaged)
    with pytest.raises(ConfigurationError, match="backups folder"):
        create(database, tmp_path)
    database.dispose()
    assert path.read_bytes() == damaged


def test_the_database_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "storage.sqlite"
    database = Database(f"sqlite:///{path}")
    before = os.umask(0)
    try:
        create(database, path.parent)
        files = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir() if file.is_file()}
    finally:
        os.umask(before)
        database.dispose()
    assert set(files.values()) == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_processes_that_start_together_create_once(url: str, data_dir: Path, opened: Callable[[], Database]) -> None:
    code = f"""
        import logging, sys
        from pathlib import Path
        from omniroute.storage import schema
        from omniroute.storage.database import Database
        database = Database({url!r})
        sys.stdin.readline()
        state = schema.ensure_schema(database, backup=print, log=logging.getLogger(), data_dir=Path({str(data_dir)!r}))
        print(state.was_created)
    """
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("\n")
        starter.stdin.flush()
    answers = [starter.communicate(timeout=60) for starter in starters]
    assert [error for _, error in answers] == [""] * 4
    assert sorted(out.strip() for out, _ in answers) == ["False", "False", "False", "True"]
    rows = opened().read(lambda sql: sql.execute(text("SELECT version FROM schema_version")).all())
    assert [tuple(row) for row in rows] == [(version,) for version in range(1, schema.newest_version() + 1)]


def test_flask_db_upgrade_migrates_an_empty_database(url: str, tmp_path: Path, opened: Callable[[], Database]) -> None:
    (tmp_path / "app.py").write_text(
        textwrap.dedent(
            f"""
            from flask import Flask
            from omniroute.extensions import db, migrate
            from omniroute.storage import postgres
            app = Flask(__name__)
            address = {url!r}
            app.config["SQLALCHEMY_DATABASE_URI"] = address.replace("postgresql:", "postgresql+psycopg:")
            db.init_app(app)
            migrate.init_app(app, db)
            """
        )
    )
    command = [sys.executable, "-m", "flask", "--app", str(tmp_path / "app.py"), "db"]
    for arguments in (["upgrade"], ["check"]):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    assert schema.stored_version(opened()) == schema.newest_version()
