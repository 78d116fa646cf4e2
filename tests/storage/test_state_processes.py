"""Four processes over one database: limits hold, one wins, nothing is lost, and the dead hold nothing for long."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omniroute.routing.marks import Kind, State
from omniroute.storage.database import Database
from omniroute.storage.state import StateStore

ROOT = Path(__file__).parents[2]
WORKERS = 4

pytestmark = pytest.mark.process


class Crew:
    """The processes; `all_do` lets each do the same at the same time."""

    def __init__(self, size: int = WORKERS) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.storage.state_worker", f"w{number}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for number in range(size)
        ]
        assert [self.heard(process) for process in self.processes] == ["ready"] * size

    def all_do(self, task: str, *arguments: object) -> list[Any]:
        for process in self.processes:
            self.tell(process, task, *arguments)
        return [self.heard(process) for process in self.processes]

    def tell(self, process: subprocess.Popen[str], task: str, *arguments: object) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps([task, *arguments]) + "\n")
        process.stdin.flush()

    def heard(self, process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        return json.loads(process.stdout.readline())

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def processes() -> Iterator[Crew]:
    """Started once: importing takes them longer than all that they do."""
    crew = Crew()
    yield crew
    crew.end()


@pytest.fixture
def crew(processes: Crew, database: Database, url: str) -> Iterator[Crew]:
    assert processes.all_do("open", url) == [0] * WORKERS
    yield processes
    processes.all_do("close")


@pytest.fixture
def store(database: Database) -> StateStore:
    return StateStore(database, time.time)


def test_no_more_start_than_the_rate_allows(crew: Crew) -> None:
    gap_s, burst, for_s = 0.025, 6, 2.0
    results = crew.all_do("pace", gap_s, burst, for_s)
    grants = sum(one["grants"] for one in results)
    took_s = max(one["ended"] for one in results) - min(one["began"] for one in results)
    assert grants <= took_s / gap_s + 1 + burst
    assert grants >= for_s / gap_s * 0.5, "and most of what it allows does start"


def test_no_more_run_than_there_are_places(crew: Crew, store: StateStore) -> None:
    limit = 2
    held = [interval for one in crew.all_do("places", limit, 100) for interval in one]
    changes = sorted([(since, 1) for since, _ in held] + [(until, -1) for _, until in held])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    assert len(held) > 50
    assert most == limit
    assert store.acquire_slot("s", 1, "after", "test", time.time() + 60), "all were given back"


def test_a_claim_has_one_winner_and_no_count_is_lost(crew: Crew, store: StateStore) -> None:
    won = [number for one in crew.all_do("claims", 60) for number in one]
    assert sorted(won) == list(range(60))
    crew.all_do("count", 40)
    assert [row.step for row in store.load_health()] == [WORKERS * 40]
    assert [row.value for row in store.load_counters(at_most=9)] == [WORKERS * 40]


def test_a_breaker_that_all_workers_feed_opens_once(crew: Crew, store: StateStore) -> None:
    told = [event for one in crew.all_do("fail", 5) for event in one]
    assert told == ["circuit_breaker.opened"]
    assert [(row.kind, row.state, row.step) for row in store.load_health()] == [(Kind.BREAKER, State.OPEN, 1)]


def test_what_a_killed_worker_knew_is_stored_and_what_it_held_ends(database: Database, url: str) -> None:
    store = StateStore(database, time.time)
    alone = Crew(1)
    alone.all_do("open", url)
    began = time.monotonic()
    assert alone.all_do("die")[0] < 5.0, "a failure waits for nothing before it is stored"
    alone.processes[0].wait(10)
    alone.end()
    rows = [(row.scope, row.reason, row.data["source"]) for row in store.load_health()]
    assert rows == [("connection:conn_1", "rate", "retry-after")]
    while not store.acquire_slot("crashed", 1, "next", "test", time.time() + 60):
        assert time.monotonic() - began < 20
        time.sleep(0.02)
    assert time.monotonic() - began >= 1.0, "not before its lease has ended"
