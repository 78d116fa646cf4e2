"""The same over two servers with a data directory each, which share one PostgreSQL database and their secrets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.processes import Server, running_server
from tests.e2e.routing_scenarios import (
    CALLERS,
    SEEN_BY_ALL_S,
    full_connection,
    open_breaker,
    rates_and_places,
    troubles,
)
from tests.e2e.scripted import Scripted, running_provider
from tests.storage import postgres_server

HOSTS = 2
WORKERS_EACH = 2
RESET_S = 2.0
SECRETS = {"JWT_SECRET": "j" * 40, "API_KEY_SECRET": "k" * 40, "OMNIROUTE_ENCRYPTION_KEY": "e" * 40}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def provider(home: Path) -> Iterator[Scripted]:
    with running_provider(home / "provider.log") as running:
        yield running


@pytest.fixture(scope="module")
def hosts(home: Path) -> Iterator[Sequence[Server]]:
    programs = postgres_server.programs()
    assert programs is not None, "apt-get install postgresql"
    engine = postgres_server.Server(programs)
    environment = {
        "DATABASE_URL": engine.create_database(),
        "OMNIROUTE_CIRCUIT_BREAKER_LOCAL_RESET_MS": str(int(RESET_S * 1000)),
        **SECRETS,
    }
    try:
        with ExitStack() as running:
            yield [
                running.enter_context(running_server(home / f"host-{number}", workers=WORKERS_EACH, **environment))
                for number in range(HOSTS)
            ]
    finally:
        engine.stop()


def test_rates_and_places_hold_over_both_hosts(hosts: Sequence[Server], provider: Scripted) -> None:
    seen = rates_and_places(hosts, provider)
    assert seen.excess <= 0
    assert seen.most_at_once <= 3
    assert seen.statuses == {200}
    assert seen.used >= 0.8
    assert seen.placed_per_s > 5


def test_nobody_waits_for_a_full_connection_while_another_is_free(hosts: Sequence[Server], provider: Scripted) -> None:
    seen = full_connection(hosts, provider)
    assert seen.excess <= 0
    assert seen.most_at_once <= 3
    assert seen.statuses == {200}
    assert seen.calls[1] > seen.calls[0]
    assert seen.long_wait_ms < 250, "the first would have let one through per second"


def test_no_client_sees_what_another_connection_can_make_good(hosts: Sequence[Server], provider: Scripted) -> None:
    errors, rests = troubles(hosts, provider, answers=1500)
    assert errors == []
    # Those that were under way in a worker when it heard, and one or so of each that had not heard.
    assert all(rest.unaware <= CALLERS and rest.unaware_for_s < SEEN_BY_ALL_S for rest in rests)
    assert [(rest.overlapping, rest.early) for rest in rests] == [(0, 0)] * 3


def test_a_breaker_lets_one_probe_through_at_a_time(hosts: Sequence[Server], provider: Scripted) -> None:
    codes, rest = open_breaker(hosts, provider, reset_s=RESET_S)
    assert "provider_circuit_open" in codes
    assert rest.failed >= 1
    assert (rest.overlapping, rest.early) == (0, 0)
