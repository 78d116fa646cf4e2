"""Limits, rests and breakers over the four workers of one server on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Server, running_server, wait_until
from tests.e2e.routing_scenarios import (
    SEEN_BY_ALL_S,
    add_connections,
    hold_rates_and_places,
    let_one_probe_through,
    make_good,
    pass_over_who_is_full,
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
    hold_rates_and_places([gateway], provider)


def test_nobody_waits_for_a_full_connection_while_another_is_free(gateway: Server, provider: Scripted) -> None:
    pass_over_who_is_full([gateway], provider)


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
    make_good([gateway], provider, answers=1500)


def test_a_breaker_lets_one_probe_through_at_a_time(gateway: Server, provider: Scripted) -> None:
    let_one_probe_through([gateway], provider, reset_s=RESET_S)
