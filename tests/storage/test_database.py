from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from sqlalchemy import Connection, text

from omniroute.errors import Conflict, NotFound, StorageError
from omniroute.storage.database import Database
from omniroute.storage.repositories import config_version, settings
from tests.storage.conftest import NOW, create

ROOT = Path(__file__).parents[2]


def put(name: str, value: int) -> Callable[[Connection], None]:
    return lambda sql: settings.put(sql, "test", name, value, changed_by=None, now=NOW)


def get(database: Database, name: str) -> object:
    return database.read(lambda sql: settings.get(sql, "test", name))


def test_a_write_is_seen_by_others_and_an_error_undoes_it(database: Database, opened: Callable[[], Database]) -> None:
    other = opened()
    database.write(put("a", 1))
    assert get(other, "a") == 1

    def fails(sql: Connection) -> None:
        put("a", 2)(sql)
        raise NotFound("changed my mind")

    with pytest.raises(NotFound):
        database.write(fails)
    assert get(database, "a") == 1
    assert get(other, "a") == 1


def test_a_bump_raises_the_version_in_the_same_transaction_and_calls_back(database: Database) -> None:
    calls: list[int] = []
    database.after_bump(lambda: calls.append(database.read(config_version.current)))
    before = database.read(config_version.current)
    database.write(put("a", 1), bump=True)
    assert calls == [before + 1]
    with pytest.raises(Conflict):
        database.write(lambda sql: sql.execute(text("INSERT INTO config_version VALUES (1, 9, 0)")), bump=True)
    assert database.read(config_version.current) == before + 1
    assert len(calls) == 1


def test_a_read_sees_one_state(database: Database, opened: Callable[[], Database]) -> None:
    other = opened()
    database.write(put("a", 1))

    def twice(sql: Connection) -> tuple[object, object]:
        first = settings.get(sql, "test", "a")
        other.write(put("a", 2))
        return first, settings.get(sql, "test", "a")

    assert database.read(twice) == (1, 1)
    assert get(database, "a") == 2


def test_a_write_that_first_reads_does_not_lose_the_race(database: Database, opened: Callable[[], Database]) -> None:
    database.write(put("n", 0))
    workers = [opened() for _ in range(3)]

    def add(sql: Connection) -> None:
        if sql.dialect.name == "postgresql":
            sql.execute(text("SELECT 1 FROM settings WHERE section = 'test' FOR UPDATE"))
        put("n", int(settings.get(sql, "test", "n")) + 1)(sql)

    def count(worker: Database) -> None:
        for _ in range(20):
            worker.write(add)

    threads = [threading.Thread(target=count, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert get(database, "n") == 60


def test_threads_share_one_database(database: Database) -> None:
    database.write(put("n", 0))
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                database.write(put(f"t{number}", number))
                assert get(database, f"t{number}") == number
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


def test_a_unique_value_that_exists_is_a_conflict(database: Database) -> None:
    def add(sql: Connection) -> None:
        sql.execute(text("INSERT INTO credentials VALUES ('a', 'h', 0)"))

    database.write(add)
    with pytest.raises(Conflict):
        database.write(add)


def test_a_wrong_statement_is_a_storage_error_without_sql(database: Database) -> None:
    with pytest.raises(StorageError) as caught:
        database.read(lambda sql: sql.execute(text("SELECT * FROM no_such_table")))
    assert "no_such_table" not in str(caught.value)
    assert get(database, "nothing") is None


@pytest.mark.parametrize("order", [gevent.GreenletExit, gevent.Timeout, KeyboardInterrupt])
def test_an_order_to_end_is_not_taken_for_an_error_of_the_database(
    database: Database, order: type[BaseException]
) -> None:
    def work(sql: Connection) -> None:
        try:
            raise order
        finally:
            sql.exec_driver_sql("what a driver complains about while it cleans up")

    with pytest.raises(order):
        database.write(work)
    with pytest.raises(order):
        database.read(work)
    assert database.read(lambda sql: sql.exec_driver_sql("SELECT 1").scalar()) == 1


def test_an_error_of_the_database_is_told_to_who_is_ending_for_another_reason(database: Database) -> None:
    try:
        raise gevent.GreenletExit
    except gevent.GreenletExit:
        with pytest.raises(StorageError):
            database.read(lambda sql: sql.exec_driver_sql("SELECT * FROM no_such_table"))


def test_a_write_waits_for_a_lock_of_another_process(tmp_path: Path) -> None:
    """The lock is held by a real process for longer than SQLite's own busy time-out."""
    database = Database(f"sqlite:///{tmp_path / 'storage.sqlite'}", wait_s=10)
    create(database, tmp_path)
    holder = _hold_write_lock(tmp_path / "storage.sqlite", seconds=0.8)
    try:
        database.write(put("a", 1))
        assert get(database, "a") == 1
    finally:
        holder.wait(10)
        database.dispose()


def test_a_lock_that_stays_is_a_storage_error(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'storage.sqlite'}", wait_s=0.3)
    create(database, tmp_path)
    holder = _hold_write_lock(tmp_path / "storage.sqlite", seconds=30)
    try:
        with pytest.raises(StorageError):
            database.write(put("a", 1))
        assert get(database, "a") is None, "reading goes on"
    finally:
        holder.kill()
        holder.wait()
    database.write(put("a", 2))
    assert get(database, "a") == 2
    database.dispose()


def _hold_write_lock(path: Path, *, seconds: float) -> subprocess.Popen[str]:
    code = f"""
        import sqlite3, time
        connection = sqlite3.connect({str(path)!r}, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("held", flush=True)
        time.sleep({seconds})
        connection.execute("COMMIT")
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.stdout.close()
    return holder


def test_a_directory_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    database = Database(f"sqlite:///{tmp_path / 'file' / 'storage.sqlite'}")
    with pytest.raises(StorageError, match="cannot be created"):
        database.read(lambda sql: None)


def test_a_server_that_is_away_is_a_storage_error(tmp_path: Path) -> None:
    database = Database(f"postgresql:///test?host={tmp_path}")
    with pytest.raises(StorageError):
        database.read(lambda sql: None)


def test_a_forked_child_opens_its_own(database: Database) -> None:
    database.write(put("a", 1))
    child = os.fork()
    if child == 0:
        try:
            database.write(put("child", 2))
            os._exit(0 if get(database, "a") == 1 else 1)
        except BaseException:  # noqa: BLE001 - a child of a test must not go on
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert get(database, "child") == 2
    database.write(put("a", 3))
    assert get(database, "a") == 3


def test_the_change_token_moves_with_commits_of_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'storage.sqlite'}"
    database, other = Database(url), Database(url)
    create(database, tmp_path)
    first = database.change_token()
    assert database.change_token() == first
    other.write(put("a", 1))
    second = database.change_token()
    assert second != first
    database.dispose()
    assert database.change_token() != second, "a new connection counts from anew"
    database.dispose()
    other.dispose()


def test_the_hub_goes_on_while_a_statement_runs(url: str, data_dir: Path) -> None:
    """A slow statement and a lock held elsewhere must not stop other greenlets."""
    code = f"""
        from gevent import monkey; monkey.patch_all()
        import logging, time, gevent
        from pathlib import Path
        from sqlalchemy import text
        from omniroute.storage.database import Database
        from omniroute.storage.schema import ensure_schema
        database = Database({url!r})
        ensure_schema(database, backup=print, log=logging.getLogger(), data_dir=Path({str(data_dir)!r}))
        slow = {{
            True: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000) SELECT max(i) FROM n",
            False: "SELECT 3000000 FROM pg_sleep(0.5)",
        }}[database.is_sqlite]
        worst = 0.0
        def tick():
            global worst
            while True:
                before = time.monotonic()
                gevent.sleep(0.005)
                worst = max(worst, time.monotonic() - before)
        ticking = gevent.spawn(tick)
        began = time.monotonic()
        assert database.read(lambda sql: sql.execute(text(slow)).scalar_one()) == 3000000
        took = time.monotonic() - began
        ticking.kill()
        database.dispose()
        print("ok" if worst < took / 2 else f"stalled for {{worst:.3f}} of {{took:.3f}} s")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("ok\n", "")
