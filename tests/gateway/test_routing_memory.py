from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from omniroute.errors import StorageError
from omniroute.gateway import routing_memory
from omniroute.gateway.routing_memory import RoutingMemory
from omniroute.routing.view import Binding
from omniroute.storage.database import Database
from omniroute.storage.repositories.bindings import StoredBinding
from omniroute.storage.state import CounterChange, Key, StateStore
from tests.storage.conftest import create

HERE = Binding("conn_1", "groq/m")
THERE = Binding("conn_2", None)


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class BrokenStore(StateStore):
    """A store that can be switched off, and that notes what it is given."""

    is_down = False
    saves = 0

    def save_counters(self, values: Any) -> None:
        self._write()
        super().save_counters(values)

    def change_counters(self, keys: Any, change: CounterChange) -> dict[Key, Any]:
        self._write()
        return super().change_counters(keys, change)

    def save_bindings(self, some: Any) -> None:
        self._write()
        super().save_bindings(some)

    def load_bindings(self, since: float = 0.0, *, at_most: int) -> tuple[StoredBinding, ...]:
        if self.is_down:
            raise StorageError
        return super().load_bindings(since, at_most=at_most)

    def _write(self) -> None:
        self.saves += 1
        if self.is_down:
            raise StorageError


class Worker:
    def __init__(self, url: str, clock: Clock) -> None:
        self.database = Database(url)
        self.store = BrokenStore(self.database, clock)
        self.memory = RoutingMemory(store=self.store, now=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'storage.sqlite'}"


@pytest.fixture
def workers(url: str, clock: Clock, tmp_path: Path) -> Iterator[list[Worker]]:
    some = [Worker(url, clock), Worker(url, clock)]
    create(some[0].database, tmp_path)
    yield some
    for worker in some:
        worker.memory.stop()
        worker.database.dispose()


def share(workers: list[Worker]) -> None:
    """Let every worker tell the others what it knows."""
    for _ in range(2):
        for worker in workers:
            worker.memory.exchange()


# --- counters


def test_counters_reach_the_other_workers(workers: list[Worker]) -> None:
    first, second = (worker.memory for worker in workers)
    assert first.counter("combo_1", "deck") is None
    deck = {"left": ["a"], "dealt": ["b"]}
    first.set_counter("combo_1", "deck", deck)
    assert first.counter("combo_1", "deck") == deck
    assert second.counter("combo_1", "deck") is None
    share(workers)
    assert second.counter("combo_1", "deck") == deck
    second.set_counter("combo_1", "deck", {"left": []})
    share(workers)
    assert first.counter("combo_1", "deck") == {"left": []}


def test_a_value_that_has_changed_here_is_not_taken_back(workers: list[Worker]) -> None:
    first, second = (worker.memory for worker in workers)
    first.set_counter("c", "head", 1)
    first.flush()
    second.set_counter("c", "head", 2)
    second.load()
    assert second.counter("c", "head") == 2


def test_moves_of_all_workers_add_up(workers: list[Worker]) -> None:
    for worker, by in zip(workers, (3, 4), strict=True):
        for _ in range(by):
            worker.memory.advance("c", "position", 1)
    share(workers)
    assert [worker.memory.counter("c", "position") for worker in workers] == [7, 7]
    workers[0].memory.advance("c", "position", 1)
    workers[1].memory.advance("c", "position", 1)
    workers[1].memory.exchange()
    workers[0].memory.load()
    assert workers[0].memory.counter("c", "position") == 9, "its own move, which nobody knows yet, included"
    share(workers)
    assert [worker.memory.counter("c", "position") for worker in workers] == [9, 9]


def test_nothing_is_written_while_nothing_changes(workers: list[Worker]) -> None:
    workers[0].memory.set_counter("c", "head", 1)
    share(workers)
    before = workers[0].store.saves
    share(workers)
    assert workers[0].store.saves == before == 1


# --- last good


def test_the_last_good_target_is_the_sessions_and_the_combos(workers: list[Worker], clock: Clock) -> None:
    memory = workers[0].memory
    memory.note_served("c", "s1", "groq/a", clock.now)
    memory.note_served("c", "s2", "groq/b", clock.now + 1)
    assert [memory.last_good("c", session) for session in ("s1", "s2", "", "s3")] == [
        "groq/a",
        "groq/b",
        "groq/b",
        None,
    ]
    share(workers)
    assert workers[1].memory.last_good("c", "s1") == "groq/a"
    assert workers[1].memory.last_good("c", "") == "groq/b"


def test_two_failures_in_a_row_forget_it_everywhere(workers: list[Worker], clock: Clock) -> None:
    first, second = (worker.memory for worker in workers)
    first.note_served("c", "s", "groq/a", clock.now)
    first.note_failed("c", "s", "groq/a")
    first.note_served("c", "s", "groq/a", clock.now)
    first.note_failed("c", "s", "groq/a")
    first.note_failed("c", "s", "groq/b")
    assert first.last_good("c", "s") == "groq/a", "of others, or with a success between, they do not count"
    share(workers)
    second.note_failed("c", "s", "groq/a")
    assert second.last_good("c", "s") is None, "the first was another worker's"
    share(workers)
    assert first.last_good("c", "s") is None
    assert first.last_good("c", "") is None


def test_a_day_without_use_forgets_it(workers: list[Worker], clock: Clock) -> None:
    memory = workers[0].memory
    memory.note_served("c", "s", "groq/a", clock.now)
    clock.now += 86_399
    assert memory.last_good("c", "s") == "groq/a"
    memory.note_served("c", "s", "groq/a", clock.now)
    clock.now += 86_399
    assert memory.last_good("c", "s") == "groq/a"
    clock.now += 2
    assert memory.last_good("c", "s") is None


def test_a_session_that_goes_on_as_before_writes_now_and_then(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    for _ in range(100):
        clock.now += 60
        worker.memory.note_served("c", "s", "groq/a", clock.now)
        worker.memory.bind("s", "groq", HERE, 1800, clock.now)
        worker.memory.exchange()
    assert worker.store.saves < 50, "6,000 s in lives of 1,800 s"
    stored = worker.store.load_bindings(at_most=9)
    assert stored[0].expires_at > clock.now + 1500


# --- sessions


def test_a_binding_lives_as_long_as_it_is_used(workers: list[Worker], clock: Clock) -> None:
    first, second = (worker.memory for worker in workers)
    assert first.binding("s", "groq") is None
    first.bind("s", "groq", HERE, 1800, clock.now)
    share(workers)
    assert second.binding("s", "groq") == HERE
    assert second.binding("s", "openai") is None
    second.bind("s", "groq", THERE, 1800, clock.now + 1)
    share(workers)
    assert first.binding("s", "groq") == THERE, "the newest counts"
    clock.now += 1802
    assert first.binding("s", "groq") is None


def test_no_more_sessions_are_remembered_than_fit(
    workers: list[Worker], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_memory, "MOST_BINDINGS", 3)
    monkeypatch.setattr(routing_memory, "MOST_LAST_GOOD", 3)
    monkeypatch.setattr(routing_memory, "MOST_COUNTERS", 3)
    memory = workers[0].memory
    for number in range(5):
        memory.bind(f"s{number}", "groq", HERE, 60, clock.now)
        memory.set_counter("c", f"relay:{number}", number)
        memory.note_served("c", f"s{number}", "groq/a", clock.now)
    assert [memory.binding(f"s{number}", "groq") is not None for number in range(5)] == [False, False, True, True, True]
    assert [memory.counter("c", f"relay:{number}") for number in range(5)] == [None, None, 2, 3, 4]
    assert memory.last_good("c", "s0") is None
    assert memory.last_good("c", "s4") == "groq/a"
    share(workers)
    assert workers[1].memory.binding("s4", "groq") == HERE


# --- uses


def test_uses_of_all_workers_add_up_within_their_window(workers: list[Worker], clock: Clock) -> None:
    first, second = (worker.memory for worker in workers)
    for _ in range(3):
        first.note_use("c", "step_1", clock.now)
    second.note_use("c", "step_1", clock.now - 3600)
    second.note_use("c", "step_2", clock.now)
    assert first.uses("c", "step_1", 60) == 3
    share(workers)
    for memory in (first, second):
        assert [memory.uses("c", "step_1", minutes) for minutes in (60, 1440)] == [3, 4]
        assert memory.uses("c", "step_2", 60) == 1
        assert memory.uses("c", "step_3", 60) == 0
    first.note_use("c", "step_1", clock.now)
    second.note_use("c", "step_1", clock.now)
    share(workers)
    share(workers)
    assert [memory.uses("c", "step_1", 1440) for memory in (first, second)] == [6, 6]


# --- restarts and faults


def test_all_of_it_survives_a_restart(workers: list[Worker], url: str, clock: Clock) -> None:
    memory = workers[0].memory
    memory.advance("c", "position", 5)
    memory.note_use("c", "step_1", clock.now)
    memory.note_served("c", "s", "groq/a", clock.now)
    memory.bind("s", "groq", HERE, 1800, clock.now)
    memory.stop()
    later = Worker(url, clock)
    later.memory.load()
    assert later.memory.counter("c", "position") == 5
    assert later.memory.uses("c", "step_1", 60) == 1
    assert later.memory.last_good("c", "s") == "groq/a"
    assert later.memory.binding("s", "groq") == HERE
    later.database.dispose()


def test_without_the_store_a_worker_goes_by_its_own_and_stores_later(workers: list[Worker], clock: Clock) -> None:
    first, second = workers
    first.store.is_down = True
    for number in range(3):
        first.memory.advance("c", "position", 1)
        first.memory.set_counter("c", "head", number)
        first.memory.note_use("c", "step_1", clock.now)
        first.memory.note_served("c", "s", f"groq/{number}", clock.now)
        first.memory.bind("s", "groq", Binding(f"conn_{number}"), 1800, clock.now)
        first.memory.exchange()
        assert first.memory.counter("c", "position") == number + 1
        assert first.memory.uses("c", "step_1", 60) == number + 1
        assert first.memory.last_good("c", "s") == f"groq/{number}"
    assert first.memory.store_failures == 3
    first.store.is_down = False
    share(workers)
    for worker in workers:
        assert worker.memory.counter("c", "position") == 3
        assert worker.memory.counter("c", "head") == 2
        assert worker.memory.uses("c", "step_1", 60) == 3
        assert worker.memory.last_good("c", "s") == "groq/2"
        assert worker.memory.binding("s", "groq") == Binding("conn_2")
    assert second.memory.store_failures == 0


def test_each_part_that_fails_alone_is_tried_again(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    worker.memory.note_use("c", "step_1", clock.now)
    worker.store.is_down = True
    with pytest.raises(StorageError):
        worker.memory.flush()
    assert worker.memory.uses("c", "step_1", 60) == 1, "neither lost nor counted twice"
    worker.store.is_down = False
    worker.memory.flush()
    assert worker.memory.uses("c", "step_1", 60) == 1


def test_a_started_memory_shares_by_itself(workers: list[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_memory, "EXCHANGE_INTERVAL_S", 0.0)
    for worker in workers:
        worker.memory.start()
    workers[0].memory.set_counter("c", "head", 1)
    give_up_at = time.monotonic() + 10
    while workers[1].memory.counter("c", "head") is None:
        assert time.monotonic() < give_up_at
        gevent.sleep(0)
    assert workers[1].memory.counter("c", "head") == 1
