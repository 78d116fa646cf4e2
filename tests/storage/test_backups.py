from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from omniroute.errors import NotFound, StorageError
from omniroute.services.backups import Backups, Reason
from omniroute.settings import Settings
from omniroute.storage import copies
from omniroute.storage.database import Database
from omniroute.storage.repositories import connections
from omniroute.storage.secrets import Cipher
from tests.storage.conftest import NOW, SECRET
from tests.storage.test_repositories import CONNECTION


@pytest.fixture
def make(database: Database, data_dir: Path) -> Callable[..., Backups]:
    def make_(now: Callable[[], float] = lambda: NOW, **changes: Any) -> Backups:
        return Backups(settings=Settings(data_dir=data_dir, **changes), database=database, now=now)

    return make_


def ticking() -> Callable[[], float]:
    times = iter(range(1000))
    return lambda: NOW + next(times)


def test_a_backup_is_verified_private_and_holds_ciphertext_only(
    database: Database, make: Callable[..., Backups], cipher: Cipher, data_dir: Path
) -> None:
    database.write(lambda sql: connections.insert(sql, CONNECTION, cipher))
    backup = make().create("manual")
    assert backup is not None
    assert (backup.reason, backup.connection_count, backup.created_at) == (Reason.MANUAL, 1, NOW)
    assert backup.path.parent == data_dir / "backups"
    assert backup.path.stat().st_mode & 0o777 == 0o600
    assert backup.path.parent.stat().st_mode & 0o777 == 0o700
    assert SECRET.reveal().encode() not in backup.path.read_bytes()
    names = sorted(file.name for file in backup.path.parent.iterdir())
    assert names == [f".{backup.id}.facts", backup.id], "nothing unfinished stays"
    assert copies.facts_path(backup.path).stat().st_mode & 0o777 == 0o600
    (listed,) = make().list_all()
    assert (listed.id, listed.reason, listed.created_at, listed.size_bytes) == (
        backup.id,
        Reason.MANUAL,
        NOW,
        backup.path.stat().st_size,
    )


def test_an_sqlite_backup_opens_and_has_the_rows(tmp_path: Path, cipher: Cipher) -> None:
    from tests.storage.conftest import create

    database = Database(f"sqlite:///{tmp_path / 'storage.sqlite'}")
    create(database, tmp_path)
    database.write(lambda sql: connections.insert(sql, CONNECTION, cipher))
    copy = copies.write_copy(database, tmp_path / "copy.sqlite")
    database.write(lambda sql: connections.delete(sql, "conn_1"))
    restored = Database(f"sqlite:///{copy.path}")
    assert restored.read(lambda sql: connections.load_all(sql, cipher)) == (CONNECTION,)
    database.dispose()
    restored.dispose()


def test_a_postgres_copy_without_pg_dump_is_one_line_per_row(
    database: Database, tmp_path: Path, cipher: Cipher, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.is_sqlite:
        assert copies.suffix_of(database) == "sqlite"
        return
    assert copies.suffix_of(database) == ("dump" if shutil.which("pg_dump") else "ndjson")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert copies.suffix_of(database) == "ndjson"
    database.write(lambda sql: connections.insert(sql, CONNECTION, cipher))
    copy = copies.write_copy(database, tmp_path / "copy.dump")
    assert copy.path == tmp_path / "copy.ndjson", "pg_dump was wanted but is gone"
    header, *lines = [json.loads(line) for line in copy.path.read_text().splitlines()]
    assert "provider_connections" in header["tables"]
    assert copy.rows["provider_connections"] == 1
    assert [line["row"]["id"] for line in lines if line["table"] == "provider_connections"] == ["conn_1"]
    assert SECRET.reveal() not in copy.path.read_text()


def test_old_backups_go_and_the_newest_stays(make: Callable[..., Backups]) -> None:
    backups = make(ticking(), db_backup_max_files=3)
    made = [backups.create("manual") for _ in range(5)]
    kept = [item.id for item in backups.list_all()]
    assert kept == [item.id for item in reversed(made[2:]) if item is not None]
    aged = make(lambda: NOW + 10 * 86_400, db_backup_retention_days=5)
    assert aged.prune() == 2
    assert [item.id for item in aged.list_all()] == kept[:1]


def test_automatic_backups_can_be_switched_off(make: Callable[..., Backups]) -> None:
    backups = make(ticking(), disable_sqlite_auto_backup=True)
    made = {reason: backups.create(reason) is not None for reason in Reason}
    assert [reason for reason, was_made in made.items() if was_made] == [Reason.MANUAL, Reason.PRE_MIGRATION]


def test_only_our_own_files_are_listed_and_deleted(make: Callable[..., Backups], data_dir: Path) -> None:
    backups = make()
    assert backups.list_all() == ()
    backup = backups.create()
    assert backup is not None
    foreign = data_dir / "backups" / "notes.txt"
    foreign.write_text("mine")
    (data_dir / "secret").write_text("not a backup")
    for wrong in ("notes.txt", "../secret", "db_x_manual.sqlite", ""):
        with pytest.raises(NotFound):
            backups.delete(wrong)
    backups.delete(backup.id)
    assert backups.list_all() == ()
    assert foreign.exists()
    assert (data_dir / "secret").exists()


def test_a_copy_that_cannot_be_written_leaves_nothing(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        copies.write_copy(database, tmp_path / "file" / f"copy.{copies.suffix_of(database)}")
    target = tmp_path / "copies" / f"copy.{copies.suffix_of(database)}"
    database.write(lambda sql: sql.execute(text("DROP TABLE combos")))
    with pytest.raises(StorageError):
        copies.write_copy(database, target)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("fault", ["truncated", "foreign", "damaged"])
def test_a_bad_copy_is_recognised(tmp_path: Path, fault: str) -> None:
    from tests.storage.conftest import create

    database = Database(f"sqlite:///{tmp_path / 'storage.sqlite'}")
    create(database, tmp_path)
    path = copies.write_copy(database, tmp_path / "copy.sqlite").path
    database.dispose()
    whole = path.read_bytes()
    match fault:
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "damaged":
            path.write_bytes(whole[:5000] + os.urandom(20_000) + whole[25_000:])
        case _:
            path.unlink()
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("CREATE TABLE customers (id INTEGER)")
    with pytest.raises(StorageError):
        copies.verify_sqlite(path)


def test_a_backup_is_made_while_others_write(database: Database, url: str, make: Callable[..., Backups]) -> None:
    code = f"""
        from omniroute.storage.database import Database
        from omniroute.storage.repositories import settings
        database = Database({url!r})
        print("ready", flush=True)
        for number in range(10_000):
            database.write(lambda sql: settings.put(sql, "load", str(number), 1, changed_by=None, now=0))
    """
    root = Path(__file__).parents[2]
    load = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, cwd=root)
    try:
        assert load.stdout is not None
        load.stdout.readline()
        made = [make(ticking()).create() for _ in range(2)]
    finally:
        load.kill()
        load.communicate()
    assert all(item is not None and item.size_bytes > 0 for item in made)
