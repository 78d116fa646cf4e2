from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from omniroute.errors import StorageError
from omniroute.records import RequestRecord
from omniroute.storage import spool as spools
from omniroute.storage.database import Database
from omniroute.storage.log_writer import LogWriter, drain_spools
from omniroute.storage.repositories import request_log, usage
from tests.storage.conftest import create, record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool"


@pytest.fixture
def writer(database: Database, directory: Path) -> Iterator[LogWriter]:
    made = LogWriter(database, directory)
    yield made
    made.stop()


def stored(database: Database) -> list[str]:
    statement = text("SELECT request_id FROM request_log ORDER BY request_id")
    return database.read(lambda sql: [str(row[0]) for row in sql.execute(statement)])


def counted(database: Database) -> int:
    return database.read(lambda sql: usage.totals(sql, since=0)).requests


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Reporter:
    """A process whose lines are read as they come."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        self.lines: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def ended(self) -> list[str]:
        """Wait for its end and return its complete lines."""
        self.process.wait(10)
        self._reader.join(10)
        return [line.decode().strip() for line in self.lines if line.endswith(b"\n")]

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(lines)


def all_report(workers: list[Reporter]) -> bool:
    return all(worker.lines for worker in workers)


def leave_spool(directory: Path, *records: RequestRecord, torn: bytes = b"", number: int = 0) -> Path:
    """What a worker that was killed leaves."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"00000000-1-{number}{spools.SUFFIX}"
    path.write_bytes(b"".join(request_log.line_of(item) for item in records) + torn)
    return path


def test_a_record_is_in_the_file_when_put_returns(writer: LogWriter, directory: Path) -> None:
    writer.put(record("req_1"))
    (path,) = spools.files_in(directory)
    assert path.read_bytes() == request_log.line_of(record("req_1"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert writer.stats().pending == 1


def test_flushed_records_are_rows_and_sums_and_leave_the_file(
    database: Database, writer: LogWriter, directory: Path
) -> None:
    for number in range(450):
        writer.put(record(f"req_{number:03}"))
    writer.flush()
    assert stored(database) == [f"req_{number:03}" for number in range(450)]
    assert counted(database) == 450
    assert [path.stat().st_size for path in spools.files_in(directory)] == [0]
    stats = writer.stats()
    assert (stats.written, stats.pending, stats.spool_bytes, stats.rejected) == (450, 0, 0, 0)


def test_a_started_writer_delivers_by_itself(database: Database, writer: LogWriter) -> None:
    writer.start()
    writer.put(record("req_1"))
    assert eventually(lambda: stored(database) == ["req_1"])
    for number in range(2, 500):
        writer.put(record(f"req_{number}"))
    assert eventually(lambda: writer.stats().pending == 0)
    assert counted(database) == 499


def test_stopping_delivers_what_is_left_and_removes_the_file(
    database: Database, writer: LogWriter, directory: Path
) -> None:
    writer.start()
    for number in range(300):
        writer.put(record(f"req_{number}"))
    writer.stop()
    assert counted(database) == 300
    assert spools.files_in(directory) == ()


def test_a_record_that_is_put_twice_counts_once(database: Database, writer: LogWriter) -> None:
    writer.put(record("req_1"))
    writer.flush()
    for request_id in ("req_1", "req_2", "req_2", "req_3"):
        writer.put(record(request_id))
    writer.flush()
    assert stored(database) == ["req_1", "req_2", "req_3"]
    assert counted(database) == 3
    assert writer.stats().written == 3


def test_a_large_spool_goes_over_several_files(database: Database, directory: Path) -> None:
    writer = LogWriter(database, directory)
    writer._spool = spools.Spool(directory, roll_bytes=2000)
    for number in range(30):
        writer.put(record(f"req_{number:02}"))
    assert len(spools.files_in(directory)) > 3
    writer.flush()
    assert counted(database) == 30
    assert len(spools.files_in(directory)) == 1
    writer.stop()


def test_a_line_longer_than_the_buffer_is_read(database: Database, writer: LogWriter) -> None:
    writer.put(record("req_1", tag="x" * 600_000))
    writer.put(record("req_2"))
    writer.flush()
    assert counted(database) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"requested_model": "nul\x00"},
        {"requested_model": "half\ud800"},
        {"tokens_in": 1 << 70},
        {"tokens_in": (1 << 64) - 1},
        {"tokens_out": -(1 << 63) - 1},
        {"requested_model": '"\\\u2028\n', "tag": "\\u0000"},
    ],
)
def test_hostile_values_cost_neither_their_row_nor_others(
    database: Database, writer: LogWriter, changes: dict[str, object]
) -> None:
    writer.put(record("req_1"))
    writer.put(record("req_2", **changes))
    writer.put(record("req_3"))
    writer.flush()
    assert stored(database) == ["req_1", "req_2", "req_3"]
    page = database.read(lambda sql: request_log.get(sql, "req_2"))
    assert page is not None
    assert "\x00" not in page.requested_model


def test_a_record_that_cannot_be_encoded_does_not_fail_the_request(database: Database, writer: LogWriter) -> None:
    writer.put(record("req_1", status=object()))
    writer.put(record("req_2"))
    writer.flush()
    assert stored(database) == ["req_2"]
    assert writer.stats().rejected == 1


# --- what ended workers leave


def test_the_spool_of_a_dead_worker_is_delivered_and_removed(database: Database, directory: Path) -> None:
    leave_spool(directory, *(record(f"req_{number}") for number in range(250)))
    leave_spool(directory, record("req_x"), number=1)
    assert drain_spools(database, directory) == 251
    assert counted(database) == 251
    assert spools.files_in(directory) == ()
    assert drain_spools(database, directory) == 0


def test_the_spool_of_a_living_worker_is_left_to_it(database: Database, writer: LogWriter, directory: Path) -> None:
    writer.put(record("req_1"))
    assert drain_spools(database, directory) == 0
    writer.flush()
    assert stored(database) == ["req_1"]


@pytest.mark.parametrize("cut", [1, 5, 40, -1])
def test_a_torn_last_line_is_no_line(database: Database, directory: Path, cut: int) -> None:
    torn = request_log.line_of(record("req_torn"))[:cut]
    leave_spool(directory, record("req_1"), record("req_2"), torn=torn)
    assert drain_spools(database, directory) == 2
    assert stored(database) == ["req_1", "req_2"]
    assert spools.files_in(directory) == ()


def test_unreadable_lines_are_left_out(database: Database, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    torn = request_log.line_of(record("req_torn"))[:50]
    leave_spool(directory, record("req_1"), torn=torn + b"\n\n" + request_log.line_of(record("req_2")))
    assert drain_spools(database, directory) == 2
    assert "cannot be read" in caplog.text


def test_rows_that_were_delivered_before_the_crash_count_once(database: Database, directory: Path) -> None:
    records = [record(f"req_{number}") for number in range(30)]
    leave_spool(directory, *records[:20])
    assert drain_spools(database, directory) == 20
    leave_spool(directory, *records)
    assert drain_spools(database, directory) == 10
    assert counted(database) == 30


def test_a_spool_stays_while_the_database_refuses(database: Database, directory: Path, tmp_path: Path) -> None:
    path = leave_spool(directory, record("req_1"))
    away = Database(f"postgresql:///gone?host={tmp_path}")
    with pytest.raises(StorageError):
        drain_spools(away, directory)
    assert path.exists()
    assert drain_spools(database, directory) == 1


def test_a_file_of_an_earlier_process_with_the_same_number_is_not_touched(
    database: Database, directory: Path, writer: LogWriter
) -> None:
    earlier = directory / f"{spools._boot_id()}-{os.getpid()}-0{spools.SUFFIX}"
    directory.mkdir(parents=True)
    earlier.write_bytes(request_log.line_of(record("req_old")))
    writer.put(record("req_new"))
    writer.flush()
    assert drain_spools(database, directory) == 1
    assert stored(database) == ["req_new", "req_old"]


# --- faults


def test_requests_wait_in_the_spool_while_the_database_is_locked(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'storage.sqlite'}", wait_s=0.1)
    create(database, tmp_path)
    writer = LogWriter(database, tmp_path / "spool", interval_s=0.01)
    other = sqlite3.connect(tmp_path / "storage.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer.start()
    for number in range(20):
        writer.put(record(f"req_{number}"))
    assert eventually(lambda: writer.stats().failing_since is not None)
    assert writer.stats().pending == 20
    with pytest.raises(StorageError):
        writer.flush()
    other.execute("COMMIT")
    other.close()
    assert eventually(lambda: writer.stats().pending == 0)
    assert eventually(lambda: writer.stats().failing_since is None)
    assert counted(database) == 20
    writer.stop()
    database.dispose()


def test_a_stop_without_a_database_leaves_the_spool_for_the_next_start(
    tmp_path: Path, directory: Path, database: Database
) -> None:
    writer = LogWriter(Database(f"postgresql:///gone?host={tmp_path}", wait_s=0.1), directory)
    writer.start()
    writer.put(record("req_1"))
    writer.stop(timeout_s=0.5)
    assert drain_spools(database, directory) == 1


def test_a_full_disk_holds_requests_in_memory(
    database: Database, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit on file size stands for the full disk: the write is cut short, then refused."""
    writer = LogWriter(database, directory)
    writer.put(record("req_0"))
    (path,) = spools.files_in(directory)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
        writer.put(record("req_1"))
        writer.put(record("req_2"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)
    assert path.read_bytes().count(b"\n") in {1, 2}
    writer.put(record("req_3"))
    assert writer.stats().unspooled == 2
    writer.flush()
    assert stored(database) == ["req_0", "req_1", "req_2", "req_3"]
    assert counted(database) == 4
    assert "held in memory" in caplog.text
    writer.stop()


def test_many_threads_put_at_once(database: Database, writer: LogWriter) -> None:
    writer.start()

    def put(first: int) -> None:
        for number in range(first, first + 200):
            writer.put(record(f"req_{number}"))

    threads = [threading.Thread(target=put, args=(first,)) for first in range(0, 1000, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    writer.flush()
    assert eventually(lambda: counted(database) == 1000)
    assert len(stored(database)) == 1000


@pytest.mark.process
@pytest.mark.parametrize("seed", range(2))
def test_a_killed_worker_loses_nothing_and_repeats_nothing(
    url: str, database: Database, directory: Path, seed: int
) -> None:
    """Workers are killed with SIGKILL at random moments under load while another process locks the database.

    Each worker reports an id after `put` has returned; after the last drain exactly these must be rows (and at most
    the one that was being put when the kill came).
    """
    rng = random.Random(seed)
    code = f"""
        from gevent import monkey; monkey.patch_all()
        import os, sys, gevent
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from omniroute.storage.database import Database
        from omniroute.storage.log_writer import LogWriter
        from tests.storage.conftest import record
        writer = LogWriter(Database({url!r}), Path({str(directory)!r}), interval_s=0.02)
        writer.start()
        number = 0
        while True:
            name = f"req_{{os.getpid()}}_{{number:06}}"
            writer.put(record(name))
            os.write(1, (name + "\\n").encode())
            number += 1
            gevent.sleep(0.0005)
    """
    confirmed: list[str] = []
    for _ in range(2):
        workers = [Reporter([sys.executable, "-c", textwrap.dedent(code)]) for _ in range(2)]
        assert eventually(partial(all_report, workers), 30)
        time.sleep(rng.uniform(0.0, 0.4))
        for worker in workers:
            worker.process.send_signal(signal.SIGKILL)
            drain_spools(database, directory)  # the other one may still live
        confirmed += [line for worker in workers for line in worker.ended()]
    drain_spools(database, directory)
    rows = stored(database)
    assert set(confirmed) <= set(rows)
    assert len(rows) - len(confirmed) <= 4, "one unconfirmed request per kill at most"
    assert counted(database) == len(rows)
    assert spools.files_in(directory) == ()


def test_memory_does_not_grow_with_requests(tmp_path: Path) -> None:
    code = f"""
        from gevent import monkey; monkey.patch_all()
        import logging, sys, dataclasses
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from omniroute.storage.database import Database
        from omniroute.storage.log_writer import LogWriter
        from omniroute.storage.schema import ensure_schema
        from tests.storage.conftest import record
        def rss():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        home = Path({str(tmp_path)!r})
        database = Database(f"sqlite:///{{home}}/storage.sqlite")
        ensure_schema(database, backup=print, log=logging.getLogger(), data_dir=home)
        writer = LogWriter(database, home / "spool")
        def put(first, last):
            for number in range(first, last):
                writer.put(record(f"req_{{number:08}}", api_key_id=f"key_{{number % 300}}"))
                if number % 500 == 499:
                    writer.flush()
        put(0, 5000)
        before = rss()
        put(5000, 50000)
        print(rss() - before)
        writer.stop()
        database.dispose()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert int(done.stdout) < 10 << 20


def test_all_fields_of_a_record_travel_through_the_spool(database: Database, writer: LogWriter) -> None:
    from tests.storage.test_request_log import FULL

    writer.put(FULL)
    writer.flush()
    assert database.read(lambda sql: request_log.get(sql, FULL.request_id)) == FULL
