"""The gate over the real shared state: limits hold across workers, and across processes."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from omniroute.routing.limits import QueueRules
from omniroute.storage.database import Database
from omniroute.storage.schema import ensure_schema
from omniroute.storage.state import StateStore
from tests.gateway.gating import FakeTime, Worker, account_of, settle
from tests.storage.conftest import no_backup

ROOT = Path(__file__).resolve().parents[2]
_PROCESS = """
from gevent import monkey
monkey.patch_all()
import random, sys, time
import gevent, msgspec
from omniroute.gateway.gate import Gate, Refused
from omniroute.routing.limits import QueueRules
from omniroute.storage.database import Database
from omniroute.storage.state import StateStore
from omniroute.routing.plan import Seat
from tests.gateway.gating import FakeBoard, account_of, entry_of

database = Database(sys.argv[1])
gate = Gate(store=StateStore(database, time.time), board=FakeBoard(), rules=QueueRules, now=time.monotonic,
            wall=time.time, rng=random.Random())
account = account_of(gap_ms=40, places=3)
seat, entry = Seat(account), entry_of(account)
spans = []

def request(number):
    try:
        ticket = gate.enter(seat, entry, request_id=f"{sys.argv[2]}-{number}", key_id="k", patience_s=2, lease_s=60)
    except Refused:
        return
    started = time.time()
    gevent.sleep(0.1)
    spans.append((started, time.time()))
    ticket.release()

print("ready", flush=True)
sys.stdin.readline()
clients = [gevent.spawn(request, number) for number in range(40)]
gevent.spawn_later(1, clients[0].kill)
gevent.spawn_later(1, clients[39].kill)
gevent.joinall(clients)
failures = gate.stats().store_failures
gate.close()
database.dispose()
print(msgspec.json.encode({"spans": spans, "failures": failures}).decode())
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    one = Database(f"sqlite:///{data_dir / 'storage.sqlite'}")
    ensure_schema(one, backup=no_backup, log=logging.getLogger("test"), data_dir=data_dir)
    yield one
    one.dispose()


@contextmanager
def _process(url: str, name: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _PROCESS, url, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def workers_on(database: Database, time: FakeTime, count: int) -> list[Worker]:
    store = StateStore(database, time.wall)
    rules = QueueRules(max_wait_ms=300_000)
    return [Worker(time, store, rules, f"w{number}") for number in range(count)]


def end(workers: list[Worker]) -> None:
    for worker in workers:
        worker.gate.close()
    settle()


def test_four_workers_grant_no_more_in_two_minutes_than_one_would(database: Database) -> None:
    time = FakeTime()
    workers = workers_on(database, time, 4)
    for worker in workers:
        worker.send_all(40, account_of(rpm=60), patience_s=200)

    time.advance(120)

    assert 130 <= sum(len(worker.answered) for worker in workers) <= 132, "120, and the burst"
    end(workers)


def test_places_are_shared_and_given_back(database: Database) -> None:
    time = FakeTime()
    workers = workers_on(database, time, 2)
    first, second = (worker.send(account_of(places=1), patience_s=200) for worker in workers)
    settle()
    assert first.ticket is not None
    assert second.is_waiting

    time.advance(100)  # the lease would have ended, were it not renewed
    assert second.is_waiting
    first.ticket.release()
    time.advance(0.3)

    assert second.ticket is not None
    end(workers)
    last = workers_on(database, time, 1)
    third = last[0].send(account_of(places=1), patience_s=0)
    settle()
    assert third.ticket is not None, "closing has given back what was held"
    end(last)


def test_one_of_all_workers_probes(database: Database) -> None:
    time = FakeTime()
    workers = workers_on(database, time, 4)
    requests = [
        one for worker in workers for one in worker.send_all(5, account_of(), probes=("provider:acme", "connection:c"))
    ]
    settle()

    (winner,) = [one for one in requests if one.ticket is not None]
    assert winner.ticket is not None
    winner.ticket.release()
    time.advance(0.3)
    again = [worker.send(account_of(), probes=("provider:acme",)) for worker in workers]
    settle()
    assert sum(one.ticket is not None for one in again) == 1
    end(workers)


def test_processes_share_places_and_gaps(database: Database) -> None:
    with ExitStack() as running:
        processes = [running.enter_context(_process(f"sqlite:///{database.path}", f"p{n}")) for n in range(3)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [msgspec.json.decode(process.communicate(timeout=60)[0]) for process in processes]
        assert [process.returncode for process in processes] == [0] * 3

    spans = sorted((start, ended) for answer in answers for start, ended in answer["spans"])
    assert [answer["failures"] for answer in answers] == [0] * 3
    assert sum(bool(answer["spans"]) for answer in answers) >= 2, "several of them were served"
    assert len(spans) >= 10
    assert all(sum(start <= at < ended for start, ended in spans) <= 3 for at, _ in spans)
    # What is measured is when a process heard of its grant, which may be a while late on a busy machine.
    assert len(spans) <= (spans[-1][0] - spans[0][0]) / 0.04 + 8
