"""Times of the last requests, and sessions that stay somewhere until an operator ends them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import NotFound
from omniroute.gateway.routing_memory import RoutingMemory
from omniroute.records import RequestRecord
from omniroute.routing.view import Binding
from omniroute.services import telemetry
from omniroute.services.keys import SYSTEM
from omniroute.services.telemetry import StickySessions, Telemetry, percentiles_of
from omniroute.storage.state import StateStore
from tests.harness import NOW, Gateway


def request(number: int, age_s: float, **changes: Any) -> RequestRecord:
    made = RequestRecord(f"req_{number}", NOW - age_s, "/v1/x", "openai-chat", "m", status=200, outcome="success")
    made.provider, made.duration_ms, made.ttft_ms = "groq", 100.0 + number, 10.0 + number
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def times(gateway: Gateway) -> Telemetry:
    return Telemetry(database=gateway.database, now=gateway.clock)


# --- percentiles -----------------------------------------------------------------------------------------------------


def test_percentiles_are_values_that_occurred() -> None:
    found = percentiles_of(float(number) for number in range(1, 101))
    assert found is not None
    assert (found.p50, found.p95, found.p99, found.count) == (51.0, 96.0, 100.0, 100)
    assert percentiles_of([]) is None
    one = percentiles_of([7.0])
    assert one is not None
    assert (one.p50, one.p99) == (7.0, 7.0)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_percentiles_are_ordered(values: list[float]) -> None:
    found = percentiles_of(values)
    assert found is not None
    assert min(values) <= found.p50 <= found.p95 <= found.p99 <= max(values)
    assert found.count == len(values)


# --- the summary -----------------------------------------------------------------------------------------------------


def test_nothing_has_happened(gateway: Gateway) -> None:
    found = times(gateway).summary()
    assert (found.totals.requests, found.totals.total, found.providers, found.is_partial) == (0, None, {}, False)
    assert len(found.series) == telemetry.POINTS


def test_times_are_by_provider_within_the_window(gateway: Gateway) -> None:
    gateway.log_requests(
        [
            request(1, 10),
            request(2, 20, provider="openai"),
            request(3, 30, outcome="failed", status=500, ttft_ms=None),
            request(4, 40, kind="test"),
            request(5, 400),
            request(6, 50, provider=None, outcome="cancelled"),
        ]
    )
    found = times(gateway).summary(300_000)
    assert (found.totals.requests, found.totals.failed) == (4, 1)
    assert sorted(found.providers) == ["groq", "openai"]
    groq = found.providers["groq"]
    assert (groq.requests, groq.failed) == (2, 1)
    assert groq.total is not None
    assert (groq.total.p50, groq.total.count) == (101.0, 1)
    assert groq.first is not None
    assert groq.first.p99 == 11.0
    assert sum(moment.requests for moment in found.series) == 4
    assert found.series[-1].start == pytest.approx(NOW - 10)
    assert (found.series[-1].requests, found.series[-1].p50_ms) == (1, 101.0)
    assert times(gateway).summary(3_600_000).totals.requests == 5


def test_a_busy_window_is_cut_and_says_so(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MOST_REQUESTS", 3)
    gateway.log_requests([request(number, number * 10) for number in range(1, 6)])
    found = times(gateway).summary()
    assert found.is_partial
    assert (found.totals.requests, found.since) == (3, NOW - 30)


def test_it_is_looked_at_once_in_a_few_seconds(gateway: Gateway) -> None:
    looker = times(gateway)
    before = looker.summary()
    gateway.log_requests([request(1, 10)])
    assert looker.summary() is before
    assert looker.summary(60_000).totals.requests == 1
    gateway.clock.pass_(5)
    assert looker.summary().totals.requests == 1


# --- sessions --------------------------------------------------------------------------------------------------------


def sticky(gateway: Gateway) -> StickySessions:
    return StickySessions(
        database=gateway.database, snapshots=gateway.snapshots, audit=gateway.audit, now=gateway.clock
    )


def memory(gateway: Gateway) -> RoutingMemory:
    made = RoutingMemory(store=StateStore(gateway.database, gateway.clock), now=gateway.clock)
    made.load()
    return made


def bind(gateway: Gateway, made: RoutingMemory, session: str, provider: str = "groq", target: str = "groq/m") -> None:
    made.bind(session, provider, Binding("conn_1", target), 600, gateway.clock())
    made.exchange()


def test_sessions_of_all_workers_are_listed(gateway: Gateway) -> None:
    key = gateway.issue("laptop").key
    here, there = memory(gateway), memory(gateway)
    bind(gateway, here, "a")
    gateway.clock.pass_(1)
    bind(gateway, there, "b")
    bind(gateway, there, "a", "openai")
    gateway.log_requests([request(1, 0, session_hash="a", api_key_id=key.id), request(2, 0, session_hash="b")])
    page = sticky(gateway).page(limit=50, offset=0)
    assert page.total == 3
    assert {(one.id, one.provider) for one in page.sessions} == {("a", "groq"), ("a", "openai"), ("b", "groq")}
    assert {one.api_key for one in page.sessions if one.id == "a"} == {"laptop"}
    assert {one.api_key_id for one in page.sessions if one.id == "b"} == {None}
    assert page.by_key == ((key.id, "laptop", 1),)
    assert page.sessions[-1].id == "a"
    assert page.sessions[-1].expires_at == NOW + 600
    assert len(sticky(gateway).page(limit=1, offset=2).sessions) == 1
    assert sticky(gateway).page(limit=9, offset=0, connection_id="other").total == 0
    gateway.clock.pass_(700)
    assert sticky(gateway).page(limit=50, offset=0).total == 0


@pytest.mark.parametrize("session", ["a", None])
def test_workers_forget_a_session_that_was_ended(gateway: Gateway, session: str | None) -> None:
    here, there = memory(gateway), memory(gateway)
    bind(gateway, here, "a")
    bind(gateway, here, "b")
    there.exchange()
    gateway.clock.pass_(1)
    assert sticky(gateway).expire(session, SYSTEM) == (1 if session else 2)
    gateway.clock.pass_(1)
    for worker in (here, there, memory(gateway)):
        worker.exchange()
        assert worker.binding("a", "groq") is None
        assert (worker.binding("b", "groq") is None) is (session is None)
    bind(gateway, here, "a")
    there.exchange()
    assert there.binding("a", "groq") == Binding("conn_1", "groq/m")
    (entry,) = gateway.audited("sessions.expired")
    assert entry.target_id == session


def test_what_was_ended_goes_when_all_have_seen_it(gateway: Gateway) -> None:
    bind(gateway, memory(gateway), "a")
    sticky(gateway).expire("a", SYSTEM)
    store = StateStore(gateway.database, gateway.clock)
    assert store.prune(gateway.clock()).bindings == 0
    gateway.clock.pass_(31)
    assert store.prune(gateway.clock()).bindings == 1


def test_an_unknown_session_cannot_be_ended(gateway: Gateway) -> None:
    with pytest.raises(NotFound):
        sticky(gateway).expire("nobody", SYSTEM)
    assert sticky(gateway).expire(None, SYSTEM) == 0
