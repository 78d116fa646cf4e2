"""What rests goes on resting when workers, or the whole server, are killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Server, start_server, wait_until
from tests.e2e.routing_scenarios import add_connections, rows_of
from tests.e2e.scripted import Answer, Client, Scripted, ready, running_provider

WORKERS = 2
LIMITED_S = 90
NEVER: dict[str, Any] = {"for_s": None}
BREAKER = {
    "OMNIROUTE_CIRCUIT_BREAKER_LOCAL_THRESHOLD": "1",
    "OMNIROUTE_CIRCUIT_BREAKER_LOCAL_RESET_MS": "120000",
}


def refusals(client: Client) -> dict[str, set[tuple[int, str]]]:
    """Ask for everything that rests, often enough to reach every worker."""
    return {
        model: {(answer.status, answer.code) for answer in asked(client, model)}
        for model in ("cooling/m", "locked/gone", "broken/m")
    }


def asked(client: Client, model: str) -> list[Answer]:
    return [client.ask(model) for _ in range(8)]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_rests_survive_kills_of_workers_and_of_the_master(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    environment: dict[str, Any] = dict(BREAKER)
    if engine == "postgresql":
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with running_provider(tmp_path / "provider.log") as provider:
        server = start_server(tmp_path / "data", workers=WORKERS, **environment)
        try:
            server.log_in()
            client, before = rest_everything(server, provider)
            calls = count(provider)
            workers = server.worker_pids()
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda: len(set(server.worker_pids()) - set(workers)) == WORKERS, within_s=30, what="new workers"
            )
            wait_until(lambda: asked(client, "cooling/well")[0].status != 0, within_s=20, what="they serve")
            check_rests(server, provider, client, before, calls)
        finally:
            server.kill_all()
        again = start_server(tmp_path / "data", workers=WORKERS, port=server.port, **environment)
        try:
            again.log_in()
            check_rests(again, provider, Client([again], client.key), before, calls)
        finally:
            again.stop()


def rest_everything(server: Server, provider: Scripted) -> tuple[Client, dict[str, dict[str, Any]]]:
    """Bring about a cooldown, a lockout, a dead mark and an open breaker."""
    for prefix in ("cooling", "locked", "dead", "broken"):
        add_connections(server, provider, prefix, {})
    key = server.new_key()
    client = Client([server], key)
    ready([server], key, "cooling/m", "locked/m", "dead/m", "broken/m")
    provider.script("cooling-0", {**NEVER, "status": 429, "headers": {"Retry-After": str(LIMITED_S)}})
    provider.script("locked-0", {**NEVER, "status": 404, "model": "gone"})
    provider.script("dead-0", {**NEVER, "status": 401})
    provider.script("broken-0", {**NEVER, "status": 500})
    for model in ("cooling/m", "locked/gone", "dead/m", "broken/m"):
        assert client.ask(model).status >= 400
    for name in ("cooling-0", "locked-0", "dead-0", "broken-0"):
        provider.script(name)  # all are well again: whoever asked would be served

    def is_known() -> bool:
        return all(status != 200 for some in refusals(client).values() for status, _ in some)

    wait_until(is_known, within_s=10, what="every worker knows")
    shown = rows_of(server)
    states = {row["prefix"]: (row["status"], row["statusReason"]) for row in shown.values()}
    assert states["cooling"] == ("cooling", "rate")
    assert states["dead"] == ("dead", "auth")
    return client, shown


def count(provider: Scripted) -> dict[str, int]:
    """Return how often each was asked that rests; of what is locked out that is one model."""
    asked = {name: len(provider.calls(name)) for name in ("cooling-0", "dead-0", "broken-0")}
    return {**asked, "gone": sum(call.model == "gone" for call in provider.calls("locked-0"))}


def check_rests(
    server: Server, provider: Scripted, client: Client, before: dict[str, dict[str, Any]], calls: dict[str, int]
) -> None:
    """Check that nothing that rests was asked, that callers are told so, and that it is shown as before."""
    told = refusals(client)
    assert told["cooling/m"] == {(429, "model_cooldown")}
    assert all(status != 200 for status, _ in told["locked/gone"])
    assert told["broken/m"] == {(503, "provider_circuit_open")}
    assert {answer.status for answer in asked(client, "dead/m")}.isdisjoint({200, 401})
    assert {answer.status for answer in asked(client, "locked/m")} == {200}, "only one of its models is locked out"
    assert count(provider) == calls
    names = ("status", "statusReason", "cooldownUntil", "backoffLevel")
    shown = rows_of(server)
    for key, row in before.items():
        if row["prefix"] != "broken":  # its own rest is short; the provider's is told by the answer above
            assert [shown[key][name] for name in names] == [row[name] for name in names]
