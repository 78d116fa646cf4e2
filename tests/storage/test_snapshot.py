from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection as Sql

from omniroute.errors import StorageError
from omniroute.records import Snapshot
from omniroute.storage.database import Database
from omniroute.storage.repositories import api_keys, connections, credentials, nodes, sessions, settings
from omniroute.storage.secrets import Cipher
from omniroute.storage.snapshot import SnapshotHolder
from tests.storage.conftest import NOW
from tests.storage.test_repositories import CONNECTION, KEY, NODE, session

ROOT = Path(__file__).parents[2]


@pytest.fixture
def holder(database: Database, cipher: Cipher) -> SnapshotHolder:
    holder = SnapshotHolder(database, cipher, lambda: NOW)
    holder.refresh()
    return holder


def test_a_snapshot_holds_the_configuration(database: Database, cipher: Cipher, holder: SnapshotHolder) -> None:
    assert holder.current == Snapshot(version=1)
    assert not holder.current.has_password
    database.write(lambda sql: connections.insert(sql, CONNECTION, cipher))
    database.write(lambda sql: nodes.insert(sql, NODE, cipher))
    database.write(lambda sql: api_keys.insert(sql, KEY))
    database.write(lambda sql: sessions.insert(sql, session(1)))
    database.write(lambda sql: credentials.put(sql, "admin_password", "hash", NOW))
    assert holder.current == Snapshot(version=1), "nothing changes before the version moves"
    database.write(lambda sql: settings.put(sql, "a", "b", [1], changed_by=None, now=NOW), bump=True)
    current = holder.current
    assert (current.version, current.connections, current.nodes, current.keys) == (2, (CONNECTION,), (NODE,), (KEY,))
    assert current.keys_by_hash == {KEY.key_hash: KEY, KEY.previous_hash: KEY}
    assert list(current.sessions) == [bytes([1]) * 32]
    assert current.settings == {("a", "b"): [1]}
    assert current.has_password


def test_a_previous_key_counts_only_in_its_grace_time(database: Database, cipher: Cipher) -> None:
    database.write(lambda sql: api_keys.insert(sql, KEY))
    assert KEY.previous_until is not None
    late = SnapshotHolder(database, cipher, lambda: NOW + 5)
    late.refresh()
    assert list(late.current.keys_by_hash) == [KEY.key_hash]


def test_a_snapshot_cannot_be_changed(holder: SnapshotHolder) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        holder.current.version = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        holder.current.settings["a", "b"] = 1  # type: ignore[index]


def test_a_change_of_another_worker_is_seen_at_the_next_poll(
    holder: SnapshotHolder, opened: Callable[[], Database], cipher: Cipher
) -> None:
    seen: list[int] = []
    holder.subscribe(lambda snapshot: seen.append(snapshot.version))
    other = opened()
    assert not holder.refresh()
    other.write(lambda sql: connections.insert(sql, CONNECTION, cipher), bump=True)
    holder.poll_once()
    assert holder.current.connections == (CONNECTION,)
    assert not holder.refresh()
    assert holder.refresh(force=True)
    assert seen == [2, 2]


def test_lists_from_the_snapshot_are_those_of_the_tables(
    database: Database, holder: SnapshotHolder, opened: Callable[[], Database], cipher: Cipher
) -> None:
    def same() -> tuple[bool, bool]:
        """Return whether lists are the same both ways, and came from the snapshot."""
        snapshot = holder.current
        keys = database.read(lambda sql: api_keys.load_known(sql, snapshot))
        rows = database.read(lambda sql: connections.load_known(sql, cipher, snapshot))
        is_same = keys == database.read(api_keys.load_all)
        is_same = is_same and rows == database.read(lambda sql: connections.load_all(sql, cipher))
        return is_same, bool(rows) and rows[0] is snapshot.connections[0] and keys[0] is snapshot.keys[0]

    def add(sql: Sql) -> None:
        connections.insert(sql, CONNECTION, cipher)
        api_keys.insert(sql, KEY)

    database.write(add, bump=True)
    assert same() == (True, True)
    database.write(lambda sql: api_keys.touch_used(sql, {KEY.id: NOW + 7}))
    database.write(lambda sql: connections.touch_used(sql, {CONNECTION.id: NOW + 8}))
    assert same() == (True, False)
    opened().write(lambda sql: api_keys.delete(sql, KEY.id), bump=True)
    assert same() == (True, False)
    assert database.read(lambda sql: api_keys.load_known(sql, holder.current)) == ()


def test_other_writes_do_not_replace_the_snapshot(holder: SnapshotHolder, opened: Callable[[], Database]) -> None:
    before = holder.current
    opened().write(lambda sql: credentials.put(sql, "x", "hash", NOW))
    assert not holder.refresh()
    assert holder.current is before


def test_the_last_snapshot_stays_while_the_database_is_away(
    tmp_path: Path, cipher: Cipher, database: Database, holder: SnapshotHolder
) -> None:
    before = holder.current
    database.dispose()
    broken = Database(f"postgresql:///gone?host={tmp_path}")
    holder._database = broken
    holder.poll_once()
    assert (holder.current, holder.last_error_at) == (before, NOW)
    with pytest.raises(StorageError):
        holder.refresh()
    holder._database = database
    holder.poll_once()
    assert holder.last_error_at is None


def test_a_change_in_one_process_is_effective_in_another_within_the_bound(
    database: Database, url: str, cipher: Cipher, opened: Callable[[], Database]
) -> None:
    """The other process polls as a worker does; it tells when it sees the connection."""
    code = f"""
        from gevent import monkey; monkey.patch_all()
        import time, gevent
        from omniroute.storage.database import Database
        from omniroute.storage.secrets import Cipher
        from omniroute.storage.snapshot import SnapshotHolder
        holder = SnapshotHolder(Database({url!r}), Cipher(bytes(range(32))), time.time)
        holder.refresh()
        gevent.spawn(holder.poll_forever, sleep=gevent.sleep)
        print("ready", flush=True)
        while not holder.current.connections:
            gevent.sleep(0.01)
        print(holder.current.connections[0].credential.reveal(), flush=True)
    """
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        changed_at = time.monotonic()
        database.write(lambda sql: connections.insert(sql, CONNECTION, cipher), bump=True)
        seen = worker.stdout.readline()
        took = time.monotonic() - changed_at
    finally:
        worker.kill()
        worker.communicate()
    assert CONNECTION.credential is not None
    assert seen.strip() == CONNECTION.credential.reveal()
    assert took < 1.5
