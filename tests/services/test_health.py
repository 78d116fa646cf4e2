"""What the gateway says of its own state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from omniroute.errors import StorageError
from omniroute.records import AuthType, Connection, Snapshot
from omniroute.secret import Secret
from omniroute.services.health import Health, Status, resident_bytes
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
    assert report["status"] == "unhealthy"
    assert report["warnings"][0]["code"] == "database"
    assert report["storage"]["dbBytes"] is None


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
    assert found.report()["providers"]["groq"] == {"total": 2, "active": 2, "error": 1}
    assert found.report()["system"]["configVersion"] == 7


def test_memory_is_measured() -> None:
    assert resident_bytes() > 1024 * 1024
