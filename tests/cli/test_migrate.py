"""`omniroute migrate`: says what is to do, does it once, and never without a copy."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from omniroute.cli import Exit
from omniroute.storage.schema import newest_version
from tests.cli.conftest import Run


def test_a_new_database(run: Run, home: Path) -> None:
    before = run("migrate", "--check")
    assert before.exit_code == Exit.FAILED
    assert not (home / "data").exists()

    done = run("migrate")
    assert done.exit_code == Exit.DONE
    assert done.stderr.endswith(f"The database has schema version {newest_version()} now.\n")
    assert not (home / "data" / "backups").exists()

    assert run("migrate", "--check").exit_code == Exit.DONE
    assert run("migrate").stderr == f"The database has schema version {newest_version()}, the newest.\n"


def test_a_newer_database_is_left_alone(run: Run, home: Path) -> None:
    run("migrate")
    with closing(sqlite3.connect(home / "data" / "storage.sqlite")) as connection, connection:
        connection.execute("DELETE FROM schema_version WHERE version < (SELECT max(version) FROM schema_version)")
        connection.execute("UPDATE schema_version SET version = version + 1")

    result = run("migrate")

    assert result.exit_code == Exit.MISUSE
    assert f"schema version {newest_version() + 1}" in result.stderr


def test_another_programs_database_is_left_alone(run: Run, home: Path) -> None:
    (home / "data").mkdir()
    with closing(sqlite3.connect(home / "data" / "storage.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE albums (id)")

    result = run("migrate")

    assert result.exit_code == Exit.MISUSE
    assert "another program" in result.stderr
