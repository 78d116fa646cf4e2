"""`kill -9` in the middle of a backup, import, restore, migration, rotation or recovery: nothing is half done."""

from __future__ import annotations

import logging
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from omniroute.errors import ConfigurationError, Conflict
from omniroute.extensions import MIGRATIONS_DIRECTORY
from omniroute.services.backups import Reason
from omniroute.services.keys import SYSTEM
from omniroute.services.restore import recover
from omniroute.storage import copies, schema
from omniroute.storage.database import Database
from tests.storage.conftest import KINDS
from tests.storage.restoring import Stack, build, fill, rows_of, rows_of_file, saved, without
from tests.storage.test_restore import KEPT, change_everything

ROOT = Path(__file__).parents[2]


def cases(*steps: str, server: tuple[str, ...]) -> pytest.MarkDecorator:
    """Every step on SQLite, whose files are ours to keep whole; on PostgreSQL those within its transaction."""
    found = [("sqlite", step) for step in steps]
    found += [("postgres", step) for step in server if "postgres" in KINDS]
    return pytest.mark.parametrize(("url", "step"), found, indirect=["url"])


@pytest.fixture
def stack(url: str, data_dir: Path) -> Iterator[Stack]:
    made = build(url, data_dir)
    fill(made, rows=5)
    yield made
    made.close()


def killed_at(what: str, step: str, stack: Stack, argument: str = "") -> None:
    """Run a process that dies at a step, and see that it did."""
    stack.database.dispose()
    command = [sys.executable, "-m", "tests.storage.killed", what, step]
    done = subprocess.run(
        [*command, stack.settings.storage_url, str(stack.settings.data_dir), argument],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def check_whole(stack: Stack) -> None:
    """Check the structure of the database, the chain of the audit log, and that every value opens."""
    if stack.database.is_sqlite:
        verdict = stack.database.detached(lambda sql: sql.exec_driver_sql("PRAGMA integrity_check").scalar())
        assert verdict == "ok"
    assert stack.audit.verify().broken_at is None
    assert stack.keys.check().is_whole


@cases("built", "prepared", "backed up", "replaced request_log", "committing", server=("committing",))
def test_a_killed_restore_has_changed_nothing(stack: Stack, step: str) -> None:
    good = stack.backups.create()
    assert good is not None
    before = rows_of(stack.database)
    change_everything(stack)
    changed = rows_of(stack.database)
    killed_at("restore", step, stack, good.id)
    assert rows_of(stack.database) == changed
    check_whole(stack)
    assert [item.is_verified for item in stack.backups.described()] == [True] * len(stack.backups.list_all())
    stack.restore.run(good.id, SYSTEM)
    assert without(rows_of(stack.database), *KEPT) == without(before, *KEPT)
    check_whole(stack)
    stack.clock.at += 90_000
    stack.backups.tidy()
    assert not [file for file in stack.backups.directory.iterdir() if file.name.startswith((".work-", ".db_x"))]


@cases("committed", server=())
def test_a_restore_that_was_killed_after_its_commit_is_done(stack: Stack, step: str) -> None:
    good = stack.backups.create()
    assert good is not None
    before = rows_of(stack.database)
    change_everything(stack)
    killed_at("restore", step, stack, good.id)
    assert without(rows_of(stack.database), *KEPT) == without(before, *KEPT)
    check_whole(stack)
    assert stack.snapshots.refresh(), "whoever runs follows, although the one that restored cannot tell anybody"
    safety = next(item for item in stack.backups.list_all() if item.reason is Reason.PRE_RESTORE)
    stack.restore.run(safety.id, SYSTEM)


@cases("verified", "copied", "locked", "committing", server=("replaced request_log",))
def test_a_killed_import_has_changed_nothing(stack: Stack, tmp_path: Path, step: str) -> None:
    good = stack.backups.create()
    assert good is not None
    brought = saved(stack.exports.database(SYSTEM), tmp_path / "brought.sqlite")
    change_everything(stack)
    changed = rows_of(stack.database)
    killed_at("import", step, stack, str(brought))
    assert rows_of(stack.database) == changed
    check_whole(stack)
    stack.restore.run(good.id, SYSTEM)
    assert stack.import_file(brought).counts.connections == 5


def test_killed_backups_are_none(stack: Stack) -> None:
    """Killed at chance: what has the name of a backup is whole, and what is unfinished goes."""
    rng = random.Random(6)
    stack.database.dispose()
    for _ in range(3):
        arguments = ["backup", "", stack.settings.storage_url, str(stack.settings.data_dir), ""]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.killed", *arguments], cwd=ROOT, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.25))
            process.kill()
    before = rows_of(stack.database)
    check_whole(stack)
    described = stack.backups.described()
    assert all(item.is_verified for item in described)
    stack.backups.tidy()
    names = {item.id for item in described}
    left = {file.name for file in stack.backups.directory.iterdir()}
    assert left == names | {copies.facts_path(item.path).name for item in described}
    if described:
        stack.restore.run(described[0].id, SYSTEM)
        assert rows_of(stack.database) == before


def test_a_killed_migration_leaves_the_old_schema_and_a_backup(url: str, data_dir: Path, tmp_path: Path) -> None:
    """The process dies within the transaction of a migration that has changed tables already."""
    stack = build(url, data_dir)
    fill(stack)
    before = rows_of(stack.database)
    stack.database.dispose()
    migrations = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS_DIRECTORY, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    newest = schema.newest_version()
    (migrations / "versions" / f"{newest + 1:04d}_later.py").write_text(
        "import os\nimport sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision = '{newest + 1:04d}', '{newest:04d}'\n"
        "branch_labels = depends_on = None\n"
        "def upgrade():\n"
        "    op.add_column('combos', sa.Column('colour', sa.Text))\n"
        "    op.execute('DELETE FROM settings')\n"
        "    os.kill(os.getpid(), 9)\n"
        "def downgrade():\n    pass\n"
    )
    code = (
        "import logging, sys; from pathlib import Path\n"
        "from omniroute.services.backups import Backups; from omniroute.settings import Settings\n"
        "from omniroute.storage import schema; from omniroute.storage.database import Database\n"
        "url, home, migrations = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])\n"
        "database = Database(url)\n"
        "backups = Backups(settings=Settings(data_dir=home), database=database)\n"
        "schema.ensure_schema(database, backup=backups.create, log=logging.getLogger(), data_dir=home,"
        " migrations=migrations)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url, str(data_dir), str(migrations)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    again = build(url, data_dir)
    try:
        assert schema.stored_version(again.database) == newest
        assert rows_of(again.database) == before
        check_whole(again)
        (made,) = again.backups.described()
        assert (made.reason, made.is_verified) == (Reason.PRE_MIGRATION, True)
        change_everything(again)
        again.restore.run(made.id, SYSTEM)
        assert without(rows_of(again.database), *KEPT) == without(before, *KEPT)
    finally:
        again.close()
        stack.close()


@cases("next key written", "ciphertext rewritten", "key in place", server=("ciphertext rewritten",))
def test_a_killed_rotation_loses_no_credential(stack: Stack, step: str) -> None:
    killed_at("rotate", step, stack)
    again = build(stack.settings.storage_url, stack.settings.data_dir)
    try:
        assert not again.cipher.is_sealed
        check_whole(again)
        assert len(again.snapshots.current.connections) == 5
        assert not any(one.is_unreadable for one in again.snapshots.current.connections)
        assert again.keys.rotate().is_whole
    finally:
        again.close()


# --- a database that does not open -----------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[tuple[Stack, Path, dict[str, list[tuple[object, ...]]]]]:
    """An installation on SQLite with a backup, and a file that does not open any more."""
    home = tmp_path / "data"
    home.mkdir(mode=0o700)
    made = build(f"sqlite:///{home / 'storage.sqlite'}", home)
    fill(made)
    before = dict(rows_of(made.database))
    backup = made.backups.create()
    assert backup is not None
    made.database.dispose()
    with closing(sqlite3.connect(home / "storage.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = home / "storage.sqlite"
    raw = path.read_bytes()
    path.write_bytes(b"\xff" * 200 + raw[200:])
    yield made, backup.path, before
    made.close()


def test_a_database_that_does_not_open_is_recovered_from_a_backup(
    damaged: tuple[Stack, Path, dict[str, list[tuple[object, ...]]]],
) -> None:
    stack, backup, before = damaged
    database = Database(stack.settings.storage_url)
    with pytest.raises(ConfigurationError, match="omniroute restore"):
        schema.ensure_schema(database, backup=lambda _: None, log=logging.getLogger())
    database.dispose()
    done = recover(stack.settings, backup)
    assert done.aside is not None
    assert done.aside.read_bytes()[:200] == b"\xff" * 200
    assert (done.counts.connections, done.counts.credentials_readable) == (3, 3)
    again = build(stack.settings.storage_url, stack.settings.data_dir)
    try:
        assert rows_of(again.database) == before
        assert stack.settings.data_dir.joinpath("storage.sqlite").stat().st_mode & 0o777 == 0o600
        check_whole(again)
        (entry, *_rest) = again.audit.entries(limit=5)[0]
        assert (entry.action, entry.details["recovered"]) == ("backup.restored", True)
    finally:
        again.close()


@pytest.mark.parametrize("step", ["copied", "prepared", "set aside", "in place"])
def test_a_killed_recovery_leaves_a_database_at_every_moment(
    damaged: tuple[Stack, Path, dict[str, list[tuple[object, ...]]]], step: str
) -> None:
    """Never none: a start would make an empty one."""
    stack, backup, before = damaged
    killed_at("recover", step, stack, str(backup))
    assert stack.settings.data_dir.joinpath("storage.sqlite").stat().st_size > 4096
    if step != "in place":
        recover(stack.settings, backup)
    again = build(stack.settings.storage_url, stack.settings.data_dir)
    try:
        assert rows_of(again.database) == before
        check_whole(again)
    finally:
        again.close()


def test_nothing_is_recovered_from_a_bad_backup_or_beside_a_server(
    damaged: tuple[Stack, Path, dict[str, list[tuple[object, ...]]]],
) -> None:
    stack, backup, _ = damaged
    path = stack.settings.data_dir / "storage.sqlite"
    before = path.read_bytes()
    bad = backup.with_name("bad.sqlite")
    bad.write_bytes(backup.read_bytes()[:-9000])
    with pytest.raises(Conflict):
        recover(stack.settings, bad)
    from omniroute.storage import locks

    with locks.locked(stack.settings.runtime_dir / "scheduler.lock"), pytest.raises(Conflict, match="server runs"):
        recover(stack.settings, backup)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.damaged-*"))


def test_the_log_of_the_damaged_file_is_not_applied_to_the_new_one(tmp_path: Path) -> None:
    """A writer's last commits may stand in a file beside the damaged one."""
    home = tmp_path / "data"
    home.mkdir(mode=0o700)
    stack = build(f"sqlite:///{home / 'storage.sqlite'}", home)
    fill(stack)
    backup = stack.backups.create()
    assert backup is not None
    expected = rows_of_file(backup.path)
    path = home / "storage.sqlite"
    writer = sqlite3.connect(path)
    writer.execute("DELETE FROM combos")
    writer.commit()
    assert path.with_name("storage.sqlite-wal").stat().st_size > 0
    shutil.copytree(home, tmp_path / "crashed")
    writer.close()
    stack.close()
    crashed = tmp_path / "crashed"
    done = recover(stack.settings.__class__(data_dir=crashed, app_log_to_file=False), crashed / "backups" / backup.id)
    assert done.aside is not None
    assert done.aside.with_name(done.aside.name + "-wal").exists()
    again = build(f"sqlite:///{crashed / 'storage.sqlite'}", crashed)
    try:
        assert rows_of(again.database) == expected
    finally:
        again.close()
