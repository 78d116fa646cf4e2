"""Limits, rests and breakers over the four workers of one server on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Server, running_server, wait_until
from tests.e2e.routing_scenarios import (
    CALLERS,
    SEEN_BY_ALL_S,
    add_connections,
    full_connection,
    open_breaker,
    rates_and_places,
    troubles,
)
from tests.e2e.scripted import Load, Scripted, ready, running_provider

WORKERS = 4
RESET_S = 2.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def provider(home: Path) -> Iterator[Scripted]:
    with running_provider(home / "provider.log") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(home: Path) -> Iterator[Server]:
    reset_ms = str(int(RESET_S * 1000))
    with running_server(home / "data", workers=WORKERS, OMNIROUTE_CIRCUIT_BREAKER_LOCAL_RESET_MS=reset_ms) as running:
        yield running


def test_rates_and_places_hold_over_all_workers(gateway: Server, provider: Scripted) -> None:
    seen = rates_and_places([gateway], provider)
    assert seen.excess <= 0
    assert seen.most_at_once <= 3
    assert seen.statuses == {200}
    assert seen.used >= 0.8
    assert seen.placed_per_s > 5


def test_nobody_waits_for_a_full_connection_while_another_is_free(gateway: Server, provider: Scripted) -> None:
    seen = full_connection([gateway], provider)
    assert seen.excess <= 0
    assert seen.most_at_once <= 3
    assert seen.statuses == {200}
    assert seen.calls[1] > seen.calls[0]
    assert seen.long_wait_ms < 250, "the first would have let one through per second"


def test_a_changed_limit_holds_within_a_second(gateway: Server, provider: Scripted) -> None:
    (connection,) = add_connections(gateway, provider, "changed", {"requestsPerMinute": 60})
    provider.script("changed-0", latency_s=0.05)
    key = gateway.new_key()
    ready([gateway], key, "changed/m")
    with Load([gateway], key, ["changed/m"], callers=10) as load:
        wait_until(lambda: len(load.answers) >= 5, within_s=15, what="calls are let through slowly")
        gateway.api("PUT", f"/api/providers/{connection}", {"requestsPerMinute": None, "concurrentRequests": 2})
        changed_at = provider.calls("changed-0")[-1].began
        wait_until(lambda: len(provider.calls("changed-0", changed_at)) >= 60, within_s=15, what="and now quickly")
    after = provider.calls("changed-0", changed_at)
    assert after[10].began < changed_at + 2 * SEEN_BY_ALL_S, "also for those who had begun to wait"
    assert max(call.running for call in after if call.began > changed_at + SEEN_BY_ALL_S) <= 2


def test_no_client_sees_what_another_connection_can_make_good(gateway: Server, provider: Scripted) -> None:
    errors, rests = troubles([gateway], provider, answers=1500)
    assert errors == []
    # Those that were under way in a worker when it heard, and one or so of each that had not heard.
    assert all(rest.unaware <= CALLERS and rest.unaware_for_s < SEEN_BY_ALL_S for rest in rests)
    assert [(rest.overlapping, rest.early) for rest in rests] == [(0, 0)] * 3


def test_a_breaker_lets_one_probe_through_at_a_time(gateway: Server, provider: Scripted) -> None:
    codes, rest = open_breaker([gateway], provider, reset_s=RESET_S)
    assert "provider_circuit_open" in codes
    assert rest.failed >= 1
    assert (rest.overlapping, rest.early) == (0, 0)
