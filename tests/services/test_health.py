"""What the gateway says of its own state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from omniroute.errors import StorageError
from omniroute.gateway.reasoning_store import ReasoningStore
from omniroute.records import AuthType, Connection, Snapshot
from omniroute.routing.marks import Kind
from omniroute.routing.view import BreakerState
from omniroute.secret import Secret
from omniroute.services.health import Health, Notice, ProviderHealth, Status, resident_bytes
from omniroute.services.resilience_state import ResilienceState, Tripped, Why
from omniroute.settings import Settings
from tests.harness import NOW, Gateway


class Snapshots:
    """A configuration in memory that a test fills."""

    def __init__(self, *connections: Connection, last_error_at: float | None = None) -> None:
        self.current = Snapshot(7, connections=connections)
        self.last_error_at = last_error_at


class DeadDatabase:
    """A database that does not answer."""

    path = None

    def read(self, work: Callable[[Any], Any]) -> Any:
        raise StorageError


class Writer:
    """A request log that cannot be delivered."""

    failing_since = NOW
    pending = 12


def connection(number: int, **changes: Any) -> Connection:
    base = Connection(
        id=f"conn_{number}",
        provider="groq",
        auth_type=AuthType.API_KEY,
        name=f"account {number}",
        priority=1,
        is_active=True,
        credential=Secret("x"),
    )
    return replace(base, **changes)


def health(gateway: Gateway, **changes: Any) -> Health:
    parts: dict[str, Any] = {
        "settings": gateway.settings,
        "database": gateway.database,
        "snapshots": Snapshots(),
        "now": gateway.clock,
        "monotonic": gateway.clock,
        "started_at": NOW - 60,
        "memory_bytes": lambda: 80 << 20,  # the process of the tests holds more than a worker would
    }
    return Health(**(parts | changes))


def codes(found: Health) -> list[str]:
    return [warning.code for warning in found.overview().warnings]


def test_a_quiet_gateway_is_healthy(gateway: Gateway) -> None:
    overview = health(gateway).overview()
    assert (overview.status, overview.uptime_s, overview.warnings) == (Status.HEALTHY, 60, ())


def test_a_dead_database_is_unhealthy_and_does_not_break_the_report(gateway: Gateway) -> None:
    found = health(gateway, database=DeadDatabase())
    assert found.status() is Status.UNHEALTHY
    report = found.report()
    assert report.overview.status is Status.UNHEALTHY
    assert report.overview.warnings[0].code == "database"
    assert report.db_bytes is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"log_state": Writer}, "request_log"),
        ({"audit_failures": lambda: 3}, "audit"),
        ({"snapshots": Snapshots(last_error_at=NOW)}, "snapshot"),
        ({"snapshots": Snapshots(connection(1, is_unreadable=True, credential=None))}, "credential_unreadable"),
    ],
)
def test_what_fails_degrades(gateway: Gateway, changes: dict[str, Any], code: str) -> None:
    found = health(gateway, **changes)
    assert codes(found) == [code]
    assert found.status() is Status.DEGRADED


def test_what_is_only_unwise_warns(gateway: Gateway) -> None:
    settings: Settings = replace(gateway.settings, host="0.0.0.0", base_url="http://gateway.lan:20128")
    found = health(gateway, settings=settings)
    assert codes(found) == ["public_without_https"]
    assert found.status() is Status.HEALTHY
    assert codes(health(gateway, settings=replace(settings, base_url="https://gateway.lan"))) == []
    known = replace(gateway.settings, initial_password=Secret("CHANGEME"))
    assert codes(health(gateway, settings=known)) == ["unsafe_value"]
    assert "CHANGEME" not in repr(health(gateway, settings=known).report())


def test_parts_that_fail_do_not_break_the_report(gateway: Gateway) -> None:
    def fail() -> Any:
        raise StorageError

    report = health(gateway, resting=fail, spending=fail, latency=fail, jobs=fail).report()
    assert report.overview.status is Status.HEALTHY
    assert (report.resting, report.latency, report.jobs) == (ResilienceState(), {}, ())


def test_a_provider_that_fails_degrades(gateway: Gateway) -> None:
    breaker = Tripped(("provider:groq", Kind.BREAKER), "groq", BreakerState.OPEN, False, 5, 1, NOW, NOW + 30, Why())
    state = ResilienceState(breakers=[breaker])
    found = health(gateway, snapshots=Snapshots(connection(1)), resting=lambda: state)
    assert codes(found) == ["provider_down"]
    assert found.status() is Status.DEGRADED
    assert found.report().providers["groq"] == ProviderHealth(1, 1, 0, breaker)
    of_nobody = health(gateway, resting=lambda: state).report()
    assert of_nobody.providers["groq"] == ProviderHealth(0, 0, 0, breaker)


@pytest.mark.parametrize(
    ("free", "status"), [(600 << 20, Status.HEALTHY), (400 << 20, Status.DEGRADED), (1 << 20, Status.UNHEALTHY)]
)
def test_a_full_disk(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, free: int, status: Status) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    assert health(gateway).status() is status


def test_failures_come_before_advice(gateway: Gateway) -> None:
    settings: Settings = replace(gateway.settings, host="0.0.0.0", base_url="http://gateway.lan:20128")
    advice = Notice("unusual_spend", "much")
    found = health(gateway, settings=settings, audit_failures=lambda: 1, spending=lambda: [advice])
    assert codes(found) == ["audit", "public_without_https", "unusual_spend"]


def test_memory_near_its_limit_is_told(gateway: Gateway) -> None:
    limit = gateway.settings.memory_mb << 20
    assert codes(health(gateway, memory_bytes=lambda: int(0.7 * limit))) == []
    found = health(gateway, memory_bytes=lambda: int(0.9 * limit))
    assert (codes(found), found.status()) == (["memory"], Status.HEALTHY)


def test_what_is_kept_is_counted(gateway: Gateway) -> None:
    store = ReasoningStore(now=gateway.clock)
    store.put("key", {"call_1": ("thought", None)})
    store.get("key", "call_1")
    store.get("key", "call_2")
    report = health(gateway, kept=store, in_flight=lambda: 3).report()
    assert (report.kept_entries, report.kept_hits, report.kept_misses, report.in_flight) == (1, 1, 1, 3)
    gateway.clock.pass_(86_400)
    assert store.get("key", "call_1") is None
    assert (store.hits, store.misses) == (1, 2)


def test_providers_are_counted_without_the_sandbox_and_without_switched_off_ones(gateway: Gateway) -> None:
    rows = (
        connection(1),
        connection(2, test_status="error"),
        connection(3, provider="openai"),
        connection(4, provider="mistral", is_active=False),
        connection(5, provider="sandbox"),
    )
    found = health(gateway, snapshots=Snapshots(*rows))
    overview = found.overview()
    assert (overview.providers_connected, overview.connections) == (2, 3)
    assert found.report().providers["groq"] == ProviderHealth(2, 2, 1, None)
    assert found.report().config_version == 7


def test_memory_is_measured() -> None:
    assert resident_bytes() > 1024 * 1024
