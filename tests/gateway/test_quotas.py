"""Quotas in motion: from the headers of answers and from reports to plans, to other workers, to rests and events."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from omniroute.errors import StorageError
from omniroute.gateway.asks import Asks
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.quotas import ENDPOINT, STALE_AFTER_S, STORED_EVERY_S, Quotas
from omniroute.records import GrantWindow, QuotaReading
from omniroute.routing.events import AttemptFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.marks import Notice
from omniroute.routing.options import Account, AuthClass
from omniroute.routing.resilience import DEFAULTS
from omniroute.storage.database import Database
from omniroute.storage.models import ProviderConnection
from omniroute.storage.models.base import table_of
from omniroute.storage.state import StateStore
from tests.fakes.upstream import Act, FakeUpstream, answer, fake_upstream
from tests.gateway.conftest import QUICK, Bench
from tests.storage.conftest import create

ACCOUNT = Account("conn_1", "anthropic", AuthClass.API_KEY, rest_scope="connection:conn_1")
UNIFIED = "anthropic-ratelimit-unified-"
FIVE_HOURS = 18_000.0


class Clock:
    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


class CountingStore(StateStore):
    """A store that counts what it is asked, and can be switched off."""

    saves = 0
    loads = 0
    is_down = False

    def save_quotas(self, readings: Any) -> None:
        if self.is_down:
            raise StorageError
        self.saves += 1
        super().save_quotas(readings)

    def load_quotas(self, since: float | None = None) -> tuple[QuotaReading, ...]:
        self.loads += 1
        return super().load_quotas(since)


class Worker:
    """A board and quotas over their own connections to one database, as a worker process has them."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.database = Database(url)
        self.store = CountingStore(self.database, clock)
        self.clock = clock
        self.told: list[Notice] = []
        self.board = HealthBoard(store=self.store, now=clock, rng=random.Random(1), settings=lambda: DEFAULTS)
        self.quotas = Quotas(store=self.store, board=self.board, now=clock, on_event=self.told.append)

    def hear(self, *, served: bool = True, account: Account = ACCOUNT, **windows: tuple[float, float]) -> None:
        """Get an answer whose headers say (used, resets in) of windows."""
        headers = {}
        for name, (used, resets_in) in windows.items():
            window = name.removeprefix("w")
            headers[f"{UNIFIED}{window}-utilization"] = str(used)
            headers[f"{UNIFIED}{window}-reset"] = str(int(self.clock.now + resets_in))
        self.quotas.note_answer(account, "claude-opus-4-7", headers, has_served=served)

    def report(self, *windows: GrantWindow) -> None:
        readings = [QuotaReading(ACCOUNT.id, window, self.clock.now, ENDPOINT) for window in windows]
        self.quotas.note_report(ACCOUNT, readings)

    def used(self, name: str = "5h") -> float | None:
        return next((one.used for one in self.board.load_of("conn_1").windows if one.id == name), None)

    def rests(self) -> bool:
        return self.board.copy.rest(ACCOUNT.id, ACCOUNT.rest_scope) is not None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workers(tmp_path: Path, clock: Clock) -> Iterator[list[Worker]]:
    url = f"sqlite:///{tmp_path / 'storage.sqlite'}"
    some = [Worker(url, clock), Worker(url, clock)]
    create(some[0].database, tmp_path)
    row = {"id": "conn_1", "provider": "anthropic", "auth_type": "apikey", "name": "c", "priority": 1, "is_active": 1}
    stamps = {"created_at": clock.now, "updated_at": clock.now}
    some[0].database.write(lambda sql: sql.execute(insert(table_of(ProviderConnection)), {**row, **stamps}))
    for worker in some:
        worker.quotas.load()
    yield some
    for worker in some:
        worker.quotas.stop()
        worker.board.stop()
        worker.database.dispose()


# --- from answers to plans, here and in other workers


def test_a_reading_is_planned_with_at_once_and_by_others_soon(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    one.hear(w5h=(0.4, 9000), w7d_opus=(0.2, 400_000))
    window = one.board.load_of("conn_1").windows[0]
    assert (window.id, window.used, window.length_s) == ("5h", 0.4, FIVE_HOURS)
    assert (window.resets_at, window.read_at) == (clock.now + 9000, clock.now)
    assert (window.stale_at, window.source) == (clock.now + STALE_AFTER_S, "headers")
    assert one.board.load_of("conn_1").windows[1].family == "opus"
    assert other.used() is None
    one.quotas.exchange()
    other.quotas.exchange()
    assert other.board.load_of("conn_1").windows == one.board.load_of("conn_1").windows


def test_running_requests_keep_the_windows(workers: list[Worker]) -> None:
    worker = workers[0]
    worker.hear(w5h=(0.4, 9000))
    worker.board.enter("conn_1")
    worker.board.leave("conn_1")
    assert worker.used() == 0.4


def test_the_same_again_and_again_is_stored_twice_a_minute(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    for second in range(121):
        worker.hear(w5h=(0.4 + second / 100_000, 9000 - second))
        worker.quotas.exchange()
        clock.now += 1
    assert worker.store.saves == 1 + 120 // STORED_EVERY_S


@pytest.mark.parametrize("news", [(0.42, 9000), (0.4, 27_000), (1.0, 9000)])
def test_what_is_new_is_stored_at_once(workers: list[Worker], clock: Clock, news: tuple[float, float]) -> None:
    worker = workers[0]
    worker.hear(w5h=(0.4, 9000))
    worker.quotas.exchange()
    worker.hear(w5h=news)
    worker.quotas.exchange()
    assert worker.store.saves == 2


def test_nothing_new_asks_the_store_nothing(workers: list[Worker]) -> None:
    worker = workers[0]
    worker.quotas.exchange()
    loads = worker.store.loads
    for _ in range(20):
        worker.quotas.exchange()
    assert worker.store.loads == loads


def test_a_number_that_shrinks_within_a_window_is_late(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    worker.hear(w5h=(0.4, 9000))
    worker.hear(w5h=(0.3, 9000))
    assert (worker.used(), worker.quotas.ignored) == (0.4, 1)
    clock.now += 9001
    worker.hear(w5h=(0.01, FIVE_HOURS))
    assert worker.used() == 0.01, "the window began anew"
    worker.hear(w5h=(0.5, 1))
    assert (worker.used(), worker.quotas.ignored) == (0.01, 2), "of the window before"


def test_what_a_report_says_counts_as_it_is(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    worker.hear(w5h=(0.4, 9000))
    worker.report(GrantWindow("5h", 0.3, length_s=FIVE_HOURS, resets_at=clock.now + 9000))
    assert worker.used() == 0.3


def test_answers_that_say_nothing_cost_nothing(workers: list[Worker]) -> None:
    worker = workers[0]
    worker.quotas.note_answer(ACCOUNT, "m", {"content-type": "application/json"}, has_served=True)
    worker.quotas.note_answer(ACCOUNT, "m", {UNIFIED + "5h-utilization": "NaN"}, has_served=True)
    assert (worker.quotas.of("conn_1"), worker.quotas.ignored) == ((), 1)
    assert worker.board.load_of("conn_1").windows == ()


def test_readings_survive_a_restart_and_age(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    one.hear(w5h=(0.4, 9000), w7d=(0.2, 400_000))
    one.quotas.stop()
    clock.now += 60
    other.quotas.load()
    assert other.used() == 0.4
    assert not any(other.quotas.is_stale(reading) for reading in other.quotas.of("conn_1"))
    clock.now += STALE_AFTER_S
    assert all(other.quotas.is_stale(reading) for reading in other.quotas.of("conn_1"))


def test_a_store_that_fails_stops_nobody(workers: list[Worker]) -> None:
    one, other = workers
    one.store.is_down = True
    one.hear(w5h=(0.4, 9000))
    one.quotas.exchange()
    assert (one.used(), one.quotas.store_failures) == (0.4, 1)
    one.store.is_down = False
    one.quotas.exchange()
    other.quotas.exchange()
    assert other.used() == 0.4


def test_a_connection_that_is_another_now_is_forgotten_by_all(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    one.hear(w5h=(0.4, 9000))
    for worker in workers:
        worker.quotas.exchange()
    one.quotas.forget("conn_1")
    assert one.used() is None
    clock.now += 61
    other.quotas.exchange()
    assert other.used() is None
    assert other.quotas.of("conn_1") == ()


# --- rests


def test_a_spent_window_rests_the_account_until_its_reset(workers: list[Worker], clock: Clock) -> None:
    worker = workers[0]
    worker.hear(w5h=(1.0, 9000))
    rest = worker.board.copy.rest(ACCOUNT.id, ACCOUNT.rest_scope)
    assert rest is not None
    assert (rest.reason, rest.kind, rest.hint_source) == ("quota_exhausted", "quota", "reading:headers")
    assert rest.until == clock.now + 9000 + 5
    queued = worker.board.queued
    worker.hear(w5h=(1.0, 9000))
    assert worker.board.queued == queued, "it is known already"


def test_a_spent_window_of_a_family_rests_that_family(workers: list[Worker]) -> None:
    worker = workers[0]
    worker.hear(w7d_opus=(1.0, 9000), w5h=(0.1, 9000))
    assert not worker.rests()
    assert worker.board.copy.lockout("conn_1", "claude-opus-4-7") is not None
    assert worker.board.copy.lockout("conn_1", "claude-sonnet-4-6") is None


def test_a_spent_limit_of_one_model_rests_that_model(workers: list[Worker]) -> None:
    worker = workers[0]
    account = replace(ACCOUNT, provider="cerebras")
    headers = {f"x-ratelimit-{name}-requests-day": value for name, value in (("limit", "10"), ("remaining", "0"))}
    headers["x-ratelimit-reset-requests-day"] = "3600"
    worker.quotas.note_answer(account, "llama-3.3-70b", headers, has_served=True)
    assert worker.board.copy.lockout("conn_1", "llama-3.3-70b") is not None
    assert worker.board.copy.lockout("conn_1", "llama-3.1-8b") is None
    assert not worker.rests()


@pytest.mark.parametrize(
    "window",
    [
        GrantWindow("5h", 1.0, length_s=FIVE_HOURS, resets_at=4e9, is_open=True),
        GrantWindow("5h", 1.0, length_s=FIVE_HOURS),
        GrantWindow("credits", remaining=0.0, unit="usd"),
    ],
)
def test_what_may_serve_all_the_same_does_not_rest(workers: list[Worker], window: GrantWindow) -> None:
    workers[0].report(window)
    assert not workers[0].rests()


def test_a_refusal_is_judged_as_a_whole_and_not_by_its_headers(workers: list[Worker]) -> None:
    workers[0].hear(served=False, w5h=(1.0, 9000))
    assert (workers[0].used(), workers[0].rests()) == (1.0, False)


SPENT = Failure("quota", FailureClass.QUOTA, status=429, retry_after_s=86_400.0, hint_source="body:resets_at")
BROKE = Failure("no_credit", FailureClass.QUOTA, status=402)
RATE = Failure("rate", FailureClass.RATE_LIMIT, status=429, retry_after_s=900.0, hint_source="retry-after")


@pytest.mark.parametrize(
    ("failure", "windows", "goes_on"),
    [
        (SPENT, [GrantWindow("5h", 0.2), GrantWindow("7d", 0.5)], False),
        (SPENT, [GrantWindow("5h", 0.2), GrantWindow("7d", 1.0)], True),
        (SPENT, [], True),
        (BROKE, [GrantWindow("credits", remaining=12.0, unit="usd")], False),
        (BROKE, [GrantWindow("credits", remaining=0.0, unit="usd")], True),
        (RATE, [GrantWindow("5h", 0.2)], True),
    ],
)
def test_a_report_of_room_ends_a_rest_for_lack_of_it_everywhere(
    workers: list[Worker], clock: Clock, failure: Failure, windows: list[GrantWindow], goes_on: bool
) -> None:
    one, other = workers
    one.board.record(AttemptFailed(ACCOUNT, "m", failure, clock.now))
    one.board.flush(1)
    clock.now += 600
    other.board.poll()
    assert other.rests()
    one.report(*windows)
    one.board.flush(1)
    other.board.poll()
    assert (one.rests(), other.rests()) == (goes_on, goes_on)


def test_a_report_of_room_for_a_family_ends_its_lockout(workers: list[Worker]) -> None:
    worker = workers[0]
    worker.hear(w7d_opus=(1.0, 9000))
    assert worker.board.copy.lockout("conn_1", "claude-opus-4-7") is not None
    worker.report(GrantWindow("7d_opus", 0.1, family="opus"))
    assert worker.board.copy.lockout("conn_1", "claude-opus-4-7") is None


# --- events


def test_that_a_window_is_used_up_is_told_once(workers: list[Worker], clock: Clock) -> None:
    one, other = workers
    one.hear(w5h=(0.9, 9000))
    one.quotas.exchange()
    assert one.told == []
    for worker in (one, other, one):
        worker.hear(w5h=(1.0, 9000))
        worker.quotas.exchange()
    told = one.told + other.told
    assert [notice.event for notice in told] == ["quota.exceeded"]
    assert told[0].data == {
        "provider": "anthropic",
        "connectionId": "conn_1",
        "window": "5h",
        "resetsAt": clock.now + 9000,
    }
    clock.now += 9001
    one.hear(w5h=(1.0, FIVE_HOURS))
    one.quotas.exchange()
    assert len(one.told + other.told) == 2, "the next window is another one"


# --- a request from end to end

CHAT = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
BODY = {"model": "up/m-1", "messages": [{"role": "user", "content": "hi"}]}
BY_EXPIRY = {**QUICK, ("routing", "accountStrategy"): "expiring-first"}


def plan(used: float, resets_in: float, status: int = 200) -> Act:
    """Answer as an account of a subscription with a 5 h window."""
    headers = {
        UNIFIED + "5h-utilization": str(used),
        UNIFIED + "5h-reset": str(int(time.time() + resets_in)),
        UNIFIED + "5h-status": "allowed",
    }
    body = CHAT if status == 200 else b'{"error": {"message": "Overloaded."}}'
    return answer(body, status=status, headers=headers)


@pytest.fixture
def upstreams() -> Iterator[Callable[..., list[FakeUpstream]]]:
    with ExitStack() as stack:
        yield lambda *acts: [stack.enter_context(fake_upstream(act)) for act in acts]


def served_by(bench: Bench, asks: Asks | None = None) -> str | None:
    given = bench.call(BODY, asks=asks or Asks())
    assert given.status == 200
    return bench.log.records[-1].connection_id


def test_requests_go_where_quota_lapses_first_and_leave_the_reserve(
    bench_of: Callable[..., Bench], upstreams: Callable[..., list[FakeUpstream]]
) -> None:
    some = upstreams(plan(0.2, 16_000), plan(0.5, 4000), plan(0.95, 3000))
    bench = bench_of(*some, settings=BY_EXPIRY)
    for number in range(3):  # what each has left is learned from the headers of its answers
        assert served_by(bench, Asks(connection_id=f"conn_{number}")) == f"conn_{number}"
    assert [served_by(bench) for _ in range(4)] == ["conn_1"] * 4, "it lapses first; the third is down to its reserve"
    some[1].acts[0] = plan(0.95, 4000)
    assert served_by(bench) == "conn_1"
    assert [served_by(bench) for _ in range(3)] == ["conn_0"] * 3, "now its reserve is all that is left"
    windows = bench.routing.board.load_of("conn_1").windows
    assert [(window.id, window.used) for window in windows] == [("5h", 0.95)]


def test_headers_of_failures_and_streams_are_read_as_well(
    bench_of: Callable[..., Bench], upstreams: Callable[..., list[FakeUpstream]]
) -> None:
    some = upstreams(plan(0.7, 4000, status=503), plan(0.3, 4000))
    bench = bench_of(*some)
    assert served_by(bench) == "conn_1"
    used = {name: bench.routing.board.load_of(name).windows[0].used for name in ("conn_0", "conn_1")}
    assert used == {"conn_0": 0.7, "conn_1": 0.3}
