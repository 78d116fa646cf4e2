"""Half-open breakers where several workers wait to try: one at a time, and each hears of the verdict before."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from omniroute.errors import OmniRouteError
from omniroute.gateway.handover import Answer
from omniroute.routing.marks import Kind
from omniroute.routing.resilience import ByAuth
from omniroute.routing.view import BreakerState
from omniroute.storage.database import Database
from omniroute.storage.schema import ensure_schema
from omniroute.storage.state import StateStore
from tests.fakes.upstream import FakeUpstream, answer, fake_upstream, stream
from tests.gateway.conftest import QUICK, Bench
from tests.gateway.test_inference import HELLO, STOP, STREAMED, TEXT, completion
from tests.storage.conftest import no_backup

Make = Callable[..., Bench]
OK = answer(completion())
BROKEN = answer(b'{"error": {"message": "boom", "type": "server_error"}}', status=500)
SETTINGS: dict[tuple[str, str], Any] = {
    **QUICK,
    ("resilience", "providerBreaker"): {"local": {"failureThreshold": 1, "resetTimeoutMs": 1}},
    ("resilience", "connectionCooldown"): {"local": {"baseCooldownMs": 1, "maxCooldownMs": 1}},
}
"""What fails once is left alone for a millisecond, and then probed."""


class Slow(StateStore):
    """Stores health only when it may."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        super().__init__(database, now)
        self.may_store = Event()
        self.may_store.set()

    def change_health(self, *args: Any) -> Any:
        self.may_store.wait()
        return super().change_health(*args)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Slow]:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    database = Database(f"sqlite:///{data_dir / 'storage.sqlite'}")
    ensure_schema(database, backup=no_backup, log=logging.getLogger("test"), data_dir=data_dir)
    yield Slow(database, time.time)
    database.dispose()


def wait_until(condition: Callable[[], Any]) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.002)


def ask(bench: Bench) -> int | str:
    try:
        made: Answer = bench.call(HELLO)
    except OmniRouteError as error:
        return error.error_code
    return made.status


def half_open(upstream: FakeUpstream, *benches: Bench) -> None:
    """Let a provider fail, all workers know, and the time of its breaker pass."""
    upstream.acts = [BROKEN]
    ask(benches[0])
    benches[0].routing.board.flush(1.0)
    for bench in benches:
        bench.routing.board.poll()
    wait_until(lambda: all(state_of(bench) is BreakerState.HALF_OPEN for bench in benches))
    upstream.received.clear()


def state_of(bench: Bench) -> BreakerState:
    return bench.routing.board.copy.breaker("node_up").state


def open_for_a_minute(bench: Bench) -> None:
    """Change the settings: the next opening lasts."""
    current = bench.routing.resilience.current
    rule = replace(current.breaker.local, reset_ms=60_000)
    bench.routing.resilience.current = replace(current, breaker=ByAuth(rule, rule, rule))


def test_who_wins_a_probe_learns_first_what_came_of_the_one_before(bench_of: Make, store: Slow) -> None:
    with fake_upstream(BROKEN) as upstream:
        one, other = (bench_of(upstream, settings=SETTINGS, store=store) for _ in range(2))
        half_open(upstream, one, other)
        open_for_a_minute(one)
        assert ask(one) == "upstream_error"
        wait_until(lambda: not one.routing.board.queued)
        wait_until(lambda: store.claim("provider:node_up", "test", 0.0))
        assert state_of(other) is BreakerState.HALF_OPEN, "it has not heard of it"
        assert ask(other) == "provider_circuit_open"
        assert len(upstream.received) == 1


def test_nobody_probes_before_the_verdict_of_the_last_one_is_stored(bench_of: Make, store: Slow) -> None:
    with fake_upstream(BROKEN) as upstream:
        one, other = (bench_of(upstream, settings=SETTINGS, store=store) for _ in range(2))
        half_open(upstream, one, other)
        one.routing.board.start()
        store.may_store.clear()
        assert ask(one) == "upstream_error"
        assert ask(other) == "provider_circuit_open"
        assert len(upstream.received) == 1
        store.may_store.set()
        wait_until(lambda: not one.routing.board.queued)
        wait_until(lambda: ask(other) == "upstream_error")
        one.routing.board.stop()


def test_a_probe_is_the_whole_request_with_all_its_connections(bench_of: Make, store: Slow) -> None:
    with fake_upstream(BROKEN) as first, fake_upstream(OK) as second:
        bench = bench_of(first, second, settings=SETTINGS, store=store)
        second.acts = [BROKEN]
        half_open(first, bench)
        second.acts, second.received = [OK], []
        assert ask(bench) == 200
        assert (len(first.received), len(second.received)) == (1, 1)
        assert state_of(bench) is BreakerState.CLOSED


def test_a_stream_that_begins_ends_the_probe(bench_of: Make, store: Slow) -> None:
    """Not its end: that may be an hour away."""
    with fake_upstream(BROKEN) as upstream:
        bench = bench_of(upstream, settings=SETTINGS, store=store)
        half_open(upstream, bench)
        upstream.acts = [stream(TEXT, 5.0, STOP)]
        made = bench.call(STREAMED)
        assert state_of(bench) is BreakerState.CLOSED
        assert not isinstance(made.body, bytes)
        assert b"hello" in next(made.body)
        made.body.close()


def test_a_failure_is_counted_once_however_the_request_goes_on(bench_of: Make, store: Slow) -> None:
    settings = {**SETTINGS, ("resilience", "providerBreaker"): {"local": {"failureThreshold": 5}}}
    with fake_upstream(BROKEN) as upstream:
        bench = bench_of(upstream, settings=settings, store=store)
        ask(bench)
        (row,) = (row for row in bench.routing.board.state() if row.kind is Kind.BREAKER)
        assert len(row.data["failures"]) == 1
