from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from omniroute.gateway import figures as figures_module
from omniroute.gateway.figures import OptionFigures
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.live_view import LiveView
from omniroute.gateway.routing_memory import RoutingMemory
from omniroute.routing.events import AttemptFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.options import Account, AuthClass
from omniroute.routing.resilience import DEFAULTS
from omniroute.routing.view import CLOSED, UNKNOWN, Binding, QuotaWindow, View
from omniroute.storage.database import Database
from omniroute.storage.state import StateStore
from tests.storage.conftest import create


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[StateStore]:
    database = Database(f"sqlite:///{tmp_path / 'storage.sqlite'}")
    create(database, tmp_path)
    yield StateStore(database, clock)
    database.dispose()


@pytest.fixture
def workers(store: StateStore, clock: Clock) -> list[OptionFigures]:
    return [OptionFigures(store=store, now=clock, worker=lambda name=name: name) for name in ("w1", "w2")]  # type: ignore[misc]


def test_an_option_that_nobody_has_tried_is_unknown(workers: list[OptionFigures]) -> None:
    assert workers[0].of("groq/m") is UNKNOWN


def test_an_outcome_shows_at_once(workers: list[OptionFigures], clock: Clock) -> None:
    own = workers[0]
    own.note("groq/m", ok=True, at=clock.now, ttft_ms=120, total_ms=900, tokens_out=50)
    found = own.of("groq/m")
    assert (found.ok, found.total, found.ttft_p50, found.total_p95, found.output_mean) == (1, 1, 120, 900, 50)
    own.note("groq/m", ok=False, at=clock.now)
    found = own.of("groq/m")
    assert (found.ok, found.total, found.failed_at) == (1, 2, (clock.now,))
    clock.now += 901
    assert (own.of("groq/m").total, own.of("groq/m").ttft_p50) == (0, 120)


def test_workers_show_each_other_what_they_have_seen(workers: list[OptionFigures], clock: Clock) -> None:
    first, second = workers
    for _ in range(8):
        first.note("groq/m", ok=False, at=clock.now, ttft_ms=None)
    first.exchange()
    second.exchange()
    assert second.of("groq/m").total == 8
    second.note("groq/m", ok=True, at=clock.now, ttft_ms=50)
    second.exchange()
    first.exchange()
    for own in workers:
        assert (own.of("groq/m").ok, own.of("groq/m").total, own.of("groq/m").ttft_p50) == (1, 9, 50)
    first.exchange()
    assert first.of("groq/m").total == 9, "its own figures do not come back to it"


def test_figures_of_a_worker_end_some_time_after_it(
    store: StateStore, workers: list[OptionFigures], clock: Clock
) -> None:
    workers[0].note("groq/m", ok=True, at=clock.now, ttft_ms=70)
    workers[0].stop()
    later = OptionFigures(store=store, now=clock, worker=lambda: "w3")
    later.load()
    assert later.of("groq/m").ttft_p50 == 70, "they outlast a restart"
    clock.now += 901
    later.exchange()
    assert later.of("groq/m") is UNKNOWN


def test_what_is_kept_has_an_end(workers: list[OptionFigures], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "MOST_OPTIONS", 3)
    own = workers[0]
    for number in range(4):
        own.note(f"groq/{number}", ok=True, at=clock.now)
    own.note("groq/1", ok=True, at=clock.now + 1)
    own.note("groq/4", ok=True, at=clock.now + 1)
    assert [own.of(f"groq/{number}").total for number in range(5)] == [0, 2, 0, 1, 1], "the longest unused went"
    clock.now += 86_402
    own.note("groq/5", ok=True, at=clock.now)
    own.exchange()
    assert list(own._tallies) == ["groq/5"]


def test_a_bad_score_takes_an_option_out_and_a_probe_brings_it_back(workers: list[OptionFigures], clock: Clock) -> None:
    own = workers[0]
    own.note_score("groq/m", 0.5, clock.now)
    assert own.of("groq/m") is UNKNOWN
    own.note_score("groq/m", 0.1, clock.now)
    assert own.of("groq/m").low_score_until == clock.now + 300
    clock.now += 299
    assert own.of("groq/m").low_score_until > clock.now
    clock.now += 1
    found = own.of("groq/m")
    assert (found.low_score_until, found.needs_probe) == (0, True)
    own.note_score("groq/m", 0.5, clock.now)
    assert own.of("groq/m").needs_probe
    own.note("groq/m", ok=True, at=clock.now)
    assert not own.of("groq/m").needs_probe
    own.note_score("groq/m", 0.1, clock.now)
    assert own.of("groq/m").low_score_until == clock.now + 600, "the second time is longer"


def test_outcomes_of_all_workers_take_an_option_out(workers: list[OptionFigures], clock: Clock) -> None:
    first, second = workers
    for _ in range(4):
        first.note("groq/m", ok=False, at=clock.now)
        second.note("groq/m", ok=False, at=clock.now)
    assert first.note_score("groq/m", 0.9, clock.now).out_until == 0
    second.exchange()
    first.exchange()
    assert first.note_score("groq/m", 0.9, clock.now).out_until == clock.now + 300


def test_old_failures_do_not_take_it_out_again_after_its_probe(workers: list[OptionFigures], clock: Clock) -> None:
    own = workers[0]
    for _ in range(20):
        own.note("groq/m", ok=False, at=clock.now)
    own.note_score("groq/m", 0.9, clock.now)
    clock.now += 300
    own.note_score("groq/m", 0.9, clock.now)
    own.note("groq/m", ok=True, at=clock.now)
    clock.now += 60
    own.note_score("groq/m", 0.9, clock.now)
    assert own.of("groq/m").low_score_until == 0


def test_without_the_store_each_goes_by_its_own(tmp_path: Path, clock: Clock) -> None:
    gone = Database(f"postgresql:///gone?host={tmp_path}")
    own = OptionFigures(store=StateStore(gone, clock), now=clock)
    own.load()
    own.note("groq/m", ok=True, at=clock.now)
    own.exchange()
    assert own.of("groq/m").total == 1
    assert own.store_failures >= 2
    own.stop()
    gone.dispose()


def test_a_started_one_exchanges_by_itself(
    workers: list[OptionFigures], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures_module, "EXCHANGE_INTERVAL_S", 0.0)
    for own in workers:
        own.start()
    workers[0].note("groq/m", ok=True, at=clock.now)
    give_up_at = time.monotonic() + 10
    while not workers[1].of("groq/m").total:
        assert time.monotonic() < give_up_at
        gevent.sleep(0)
    for own in workers:
        own.stop()
    assert workers[1].of("groq/m").ok == 1


# --- the view of all three


def test_the_live_view_answers_from_all_its_parts(store: StateStore, clock: Clock) -> None:
    board = HealthBoard(store=store, now=clock, rng=random.Random(1), settings=lambda: DEFAULTS)
    memory, figures = RoutingMemory(store=store, now=clock), OptionFigures(store=store, now=clock)
    pressure = {"conn_1": (clock.now + 5, True)}
    view: View = LiveView(
        board=board, memory=memory, figures=figures, pressure=lambda account_id: pressure.get(account_id, (0.0, False))
    )
    assert (view.rest("conn_1", ""), view.lockout("conn_1", "m"), view.breaker("groq")) == (None, None, CLOSED)
    assert (view.counter("c", "deck"), view.binding("s", "groq"), view.last_good("c", "s")) == (None, None, None)
    assert (view.uses("c", "step", 60), view.figures("groq/m")) == (0, UNKNOWN)

    account = Account("conn_1", "groq", AuthClass.API_KEY)
    board.record(AttemptFailed(account, "m", Failure("rate", FailureClass.RATE_LIMIT, status=429), clock.now))
    board.set_windows("conn_1", (QuotaWindow("5h", 0.5),))
    board.enter("conn_1")
    memory.set_counter("c", "deck", [])
    memory.bind("s", "groq", Binding("conn_1"), 60, clock.now)
    memory.note_served("c", "s", "groq/m", clock.now)
    memory.note_use("c", "step", clock.now)
    figures.note("groq/m", ok=True, at=clock.now)

    assert view.rest("conn_1", "") is not None
    load = view.load("conn_1")
    assert (load.in_flight, load.last_used_at, load.free_at, load.is_full) == (1, clock.now, clock.now + 5, True)
    assert load.windows == (QuotaWindow("5h", 0.5),)
    pressure.clear()
    assert (view.load("conn_1").free_at, view.load("conn_1").is_full) == (0, False)
    assert (view.counter("c", "deck"), view.binding("s", "groq")) == ([], Binding("conn_1"))
    assert (view.last_good("c", "s"), view.uses("c", "step", 60), view.figures("groq/m").ok) == ("groq/m", 1, 1)
