from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from omniroute.errors import StorageError
from omniroute.gateway.health_board import HealthBoard
from omniroute.routing.events import AttemptFailed, AttemptServed, ClearedBy, ProviderFailed, ProviderServed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.marks import HealthRow, Key, Kind, Notice, connection_scope
from omniroute.routing.options import Account, AuthClass
from omniroute.routing.resilience import DEFAULTS
from omniroute.routing.view import CLOSED, IDLE, BreakerState, QuotaWindow
from omniroute.storage.database import Database
from omniroute.storage.state import HealthChange, StateStore
from tests.storage.conftest import create

RATE = Failure("rate", FailureClass.RATE_LIMIT, status=429)
HINTED = Failure("rate", FailureClass.RATE_LIMIT, status=429, retry_after_s=7200.0, hint_source="retry-after")
AUTH = Failure("auth", FailureClass.CREDENTIAL, status=401)
MISSING = Failure("model_missing", FailureClass.MODEL_UNAVAILABLE, status=404)
SERVER = Failure("server", FailureClass.TRANSIENT, status=500)
ACCOUNT = Account("conn_1", "groq", AuthClass.API_KEY)
OTHER = Account("conn_2", "groq", AuthClass.API_KEY)
COOLDOWN = (connection_scope("conn_1"), Kind.COOLDOWN)


class Clock:
    """Epoch seconds that move when told, from the real time on: PostgreSQL and SQLite stamp rows with it."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class BrokenStore(StateStore):
    """A store that can be switched off, and that counts what it is asked."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        self.is_down = False
        self.changes = 0
        self.loads: list[float] = []

    def change_health(self, scopes: set[str], change: HealthChange) -> dict[Key, HealthRow]:  # type: ignore[override]
        self.changes += 1
        if self.is_down:
            raise StorageError
        return super().change_health(scopes, change)

    def load_health(self, since: float = 0.0) -> tuple[HealthRow, ...]:
        self.loads.append(since)
        if self.is_down:
            raise StorageError
        return super().load_health(since)


class Worker:
    """A board over its own connections to one database, as a worker process has them."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.database = Database(url)
        self.store = BrokenStore(self.database, clock)
        self.told: list[Notice] = []
        self.board = HealthBoard(
            store=self.store, now=clock, rng=random.Random(1), settings=lambda: DEFAULTS, tell=self.told.append
        )

    def fail(self, failure: Failure = RATE, account: Account = ACCOUNT, *, at: float) -> None:
        self.board.record(AttemptFailed(account, "m", failure, at))

    def rests(self, account: Account = ACCOUNT) -> bool:
        return self.board.copy.rest(account.id, account.rest_scope) is not None


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
        worker.board.stop()
        worker.database.dispose()


# --- while all is well


def test_success_where_nothing_rests_asks_nobody(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    for _ in range(100):
        worker.board.record(AttemptServed(ACCOUNT, "m", started_at=clock.now))
        worker.board.record(ProviderServed("groq", started_at=clock.now))
    assert (worker.board.queued, worker.store.changes) == (0, 0)
    assert worker.board.copy.rest("conn_1", "") is None
    assert worker.board.copy.lockout("conn_1", "m") is None
    assert worker.board.copy.breaker("groq") is CLOSED
    assert worker.board.learned("conn_1") == (None, None)
    assert worker.board.state() == ()


def test_a_request_is_counted_in_and_out(workers: list[Worker], clock: Clock) -> None:
    board = workers[0].board
    assert board.load_of("conn_1") is IDLE
    board.set_windows("conn_1", (QuotaWindow("5h", 0.5),))
    board.enter("conn_1")
    board.enter("conn_1")
    clock.now += 1
    board.leave("conn_1")
    load = board.load_of("conn_1")
    assert (load.in_flight, load.last_used_at, len(load.windows)) == (1, clock.now - 1, 1)
    board.leave("conn_1")
    board.leave("conn_1")
    assert board.load_of("conn_1").in_flight == 0


# --- one worker


def test_a_failure_is_known_at_once_and_stored_soon(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    worker.fail(HINTED, at=clock.now)
    rest = worker.board.copy.rest("conn_1", "")
    assert rest is not None
    assert (rest.kind, rest.hint_source) == ("rate", "retry-after")
    assert not worker.rests(OTHER)
    assert worker.store.load_health() == ()
    assert worker.board.flush(5)
    stored = worker.store.load_health()
    assert [row.key for row in stored] == [COOLDOWN]
    assert worker.board.state() == stored, "what came out is what is known"


def test_each_kind_of_row_is_found_again(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    worker.fail(AUTH, at=clock.now)
    worker.fail(MISSING, at=clock.now)
    shared = Account("conn_3", "groq", AuthClass.API_KEY, rest_scope="credential:abc")
    worker.fail(RATE, shared, at=clock.now)
    for _ in range(12):
        worker.board.record(ProviderFailed("groq", AuthClass.API_KEY, SERVER, started_at=clock.now))
    for number in range(4):
        worker.board.enter(f"conn_{number}")
        worker.board.enter(f"conn_{number}")
    worker.fail(Failure("concurrency", FailureClass.RATE_LIMIT, status=429), OTHER, at=clock.now)

    def check() -> None:
        copy = worker.board.copy
        dead = copy.rest("conn_1", "")
        assert dead is not None
        assert dead.until is None
        locked = copy.lockout("conn_1", "m")
        assert locked is not None
        assert locked.reason == "locked_out"
        assert copy.lockout("conn_1", "n") is None
        assert copy.lockout("conn_2", "m") is None
        assert copy.breaker("groq").state is BreakerState.OPEN
        assert copy.rest("conn_4", "credential:abc") is not None, "it rests all that hold the credential"
        assert copy.rest("conn_4", "") is None
        assert worker.board.learned("conn_2")[0] == 1

    check()
    assert worker.board.flush(5)
    check()
    assert [notice.event for notice in worker.told] == ["connection.dead", "circuit_breaker.opened"]
    keys = [row.key for row in worker.board.state()]
    assert keys == sorted(keys)
    assert worker.board.clear(keys)
    copy = worker.board.copy
    assert copy.rows == {}
    assert (copy.rest("conn_1", ""), copy.lockout("conn_1", "m"), copy.breaker("groq")) == (None, None, CLOSED)
    assert worker.told[-1].event == "circuit_breaker.closed"


def test_success_after_a_rest_clears_it(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    worker.fail(at=clock.now)
    worker.board.flush(5)
    clock.now += 10
    worker.board.record(AttemptServed(ACCOUNT, "m", started_at=clock.now - 1))
    assert not worker.rests()
    worker.board.flush(5)
    assert all(row.is_clear for row in worker.store.load_health())


def test_a_started_board_stores_without_being_asked(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    worker.board.start()
    worker.fail(at=clock.now)
    assert worker.board.flush(5)
    assert [row.key for row in worker.store.load_health()] == [COOLDOWN]
    worker.fail(AUTH, OTHER, at=clock.now)
    worker.board.stop()
    assert len(worker.store.load_health()) == 2, "what is queued when it ends is stored"


# --- several workers


def test_others_learn_of_a_rest_and_of_its_end(workers: list[Worker], clock: Clock) -> None:
    first, second = workers
    first.board.load()
    second.board.load()
    first.fail(at=clock.now)
    first.board.flush(5)
    assert not second.rests()
    second.board.poll()
    assert second.rests()
    clock.now += 5
    assert second.board.clear([COOLDOWN])
    assert not second.rests()
    assert first.rests()
    first.board.poll()
    assert not first.rests(), "a row that was cleared by others disappears"


def test_a_row_that_is_gone_disappears_with_the_next_full_look(workers: list[Worker], clock: Clock) -> None:
    first, second = workers
    first.fail(HINTED, at=clock.now)
    first.board.flush(5)
    second.board.load()
    first.database.write(lambda sql: sql.exec_driver_sql("DELETE FROM health_state"))
    second.board.poll()
    assert second.rests()
    clock.now += 30
    second.board.poll()
    assert not second.rests()


def test_nothing_is_read_while_nothing_changes(workers: list[Worker], clock: Clock) -> None:
    first, second = workers
    second.board.load()
    for _ in range(5):
        clock.now += 0.5
        second.board.poll()
    assert second.store.loads == [0.0]
    first.fail(at=clock.now)
    first.board.flush(5)
    second.board.poll()
    assert len(second.store.loads) == 2
    assert second.rests()


def test_failures_of_all_workers_open_a_breaker_once(workers: list[Worker], clock: Clock) -> None:
    threshold = DEFAULTS.breaker.apikey.threshold
    for number in range(threshold):
        clock.now += 1
        worker = workers[number % 2]
        worker.board.record(ProviderFailed("groq", AuthClass.API_KEY, SERVER, started_at=clock.now))
        worker.board.flush(5)
        other = workers[(number + 1) % 2]
        assert other.board.copy.breaker("groq").state is BreakerState.CLOSED
    opened = [notice.event for worker in workers for notice in worker.told]
    assert opened == ["circuit_breaker.opened"]
    for worker in workers:
        worker.board.poll()
        assert worker.board.copy.breaker("groq").state is BreakerState.OPEN


def test_the_end_of_a_rest_that_this_worker_has_not_seen_is_told(workers: list[Worker], clock: Clock) -> None:
    first, second = workers
    first.fail(HINTED, at=clock.now)
    first.board.flush(5)
    assert second.board.clear([COOLDOWN], ClearedBy.OPERATOR)
    first.board.poll()
    assert not first.rests()


def test_what_is_queued_outlasts_what_is_read_meanwhile(workers: list[Worker], clock: Clock) -> None:
    """The store says "closed", the queue knows better: neither the rest nor the count of it is lost or doubled."""
    first, second = workers
    second.fail(RATE, OTHER, at=clock.now)
    second.board.flush(5)
    first.fail(HINTED, at=clock.now)
    first.board.load()
    assert first.rests()
    assert first.rests(OTHER)
    first.board.poll()
    assert {row.scope: row.step for row in first.board.state()} == {"connection:conn_1": 1, "connection:conn_2": 1}
    assert first.board.flush(5)
    assert [row.step for row in first.store.load_health()] == [1, 1]


# --- restarts and faults


def test_a_rest_survives_a_restart(workers: list[Worker], url: str, clock: Clock) -> None:
    worker = workers[0]
    worker.fail(HINTED, at=clock.now)
    worker.fail(MISSING, OTHER, at=clock.now)
    worker.board.flush(5)
    before = worker.board.state()
    clock.now += 600
    later = Worker(url, clock)
    later.board.load()
    assert later.board.state() == before
    rest = later.board.copy.rest("conn_1", "")
    assert rest is not None
    assert rest.until is not None
    assert 6500 < rest.until - clock.now < 6800
    assert (rest.kind, rest.hint_source) == ("rate", "retry-after")
    assert later.board.copy.lockout("conn_2", "m") is not None
    later.database.dispose()


def test_without_the_store_the_copy_rules_and_the_queue_waits(workers: list[Worker], clock: Clock) -> None:
    worker, other = workers
    worker.store.is_down = True
    for account in (ACCOUNT, OTHER):
        worker.fail(AUTH, account, at=clock.now)
        assert not worker.board.flush(5)
    assert worker.rests()
    assert worker.rests(OTHER)
    clock.now += 40
    worker.board.poll()
    assert worker.rests()
    assert worker.board.queued == 2
    assert worker.board.store_failures == 3
    assert len(worker.told) == 2, "operators hear of it all the same"
    worker.store.is_down = False
    assert worker.board.flush(5)
    assert len(worker.told) == 2, "and once"
    other.board.load()
    assert other.rests()
    assert other.rests(OTHER)


def test_a_started_board_goes_on_once_the_store_is_back(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    worker.store.is_down = True
    worker.board.start()
    worker.fail(at=clock.now)
    while not worker.store.changes:
        gevent.sleep(0)
    worker.store.is_down = False
    assert worker.board.flush(5), "who needs it now does not wait for the next try"
    assert [row.key for row in worker.store.load_health()] == [COOLDOWN]


def test_the_queue_has_an_end(workers: list[Worker], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = workers[0]
    worker.store.is_down = True
    monkeypatch.setattr("omniroute.gateway.health_board._MOST_QUEUED", 3)
    for number in range(5):
        worker.fail(account=Account(f"conn_{number}", "groq", AuthClass.API_KEY), at=clock.now)
    assert (worker.board.queued, worker.board.unstored) == (3, 2)
    assert worker.rests(Account("conn_4", "groq", AuthClass.API_KEY)), "here it is known all the same"


def test_rows_that_say_nothing_any_more_are_cleared_for_all(workers: list[Worker], clock: Clock) -> None:
    first, second = workers
    first.fail(at=clock.now)
    first.fail(HINTED, OTHER, at=clock.now)
    first.board.flush(5)
    second.board.load()
    clock.now += 3000
    assert [row.scope for row in first.board.state()] == ["connection:conn_2"], "nor are they shown"
    first.board.poll()
    assert {row.scope: row.is_clear for row in first.store.load_health()} == {
        "connection:conn_1": True,
        "connection:conn_2": False,
    }
    assert set(first.board.copy.rows) == {(connection_scope("conn_2"), Kind.COOLDOWN)}


def test_a_storm_of_failures_of_one_limit_is_one_step(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    started = clock.now
    for number in range(500):
        clock.now = started + number / 1000
        worker.fail(at=started)
    worker.board.flush(5)
    assert [row.step for row in worker.store.load_health()] == [1]
    assert worker.store.changes <= 20


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_both_workers_end_with_what_the_store_says(
    workers: list[Worker], clock: Clock, seed: int
) -> None:
    rng = random.Random(seed)
    accounts = [ACCOUNT, OTHER, Account("conn_3", "groq", AuthClass.OAUTH, rest_scope="credential:x")]
    failures = [RATE, HINTED, AUTH, MISSING, SERVER, Failure("forbidden", FailureClass.CREDENTIAL, status=403)]
    for _ in range(150):
        worker, account = rng.choice(workers), rng.choice(accounts)
        clock.now += rng.uniform(0, 20)
        match rng.randrange(7):
            case 0 | 1:
                worker.fail(rng.choice(failures), account, at=clock.now - rng.uniform(0, 5))
            case 2:
                worker.board.record(AttemptServed(account, "m", started_at=clock.now - rng.uniform(0, 5)))
            case 3:
                event = ProviderFailed("groq", AuthClass.API_KEY, SERVER, started_at=clock.now)
                worker.board.record(event if rng.random() < 0.8 else ProviderServed("groq", started_at=clock.now))
            case 4:
                worker.board.poll()
            case 5:
                worker.board.flush(5)
            case _:
                worker.store.is_down = not worker.store.is_down and rng.random() < 0.3
    for worker in workers:
        worker.store.is_down = False
        assert worker.board.flush(5)
    clock.now += 30
    for worker in workers:
        worker.board.poll()
    for worker in workers:
        worker.board.poll()
    stored = {row.key: row for row in workers[0].store.load_health() if not row.is_clear}
    assert workers[0].board.copy.rows == workers[1].board.copy.rows == stored
