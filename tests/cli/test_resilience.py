"""`omniroute resilience`: here, and against a server elsewhere."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omniroute.cli import Exit
from omniroute.cli.local import open_services
from omniroute.gateway.health_board import HealthBoard
from omniroute.routing.events import AttemptFailed, Event, ProviderFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.options import Account, AuthClass
from omniroute.routing.resilience import DEFAULTS
from omniroute.services.keys import SYSTEM
from omniroute.storage.database import Database
from omniroute.storage.state import StateStore
from tests.cli.conftest import Both, Remote, Run
from tests.cli.goldens import check_list
from tests.fakes.upstream import answer, fake_upstream
from tests.goldens import Golden

RATE = Failure(
    "rate", FailureClass.RATE_LIMIT, status=429, message="Slow down.", retry_after_s=7260.0, hint_source="retry-after"
)
AUTH = Failure("auth", FailureClass.CREDENTIAL, status=401, message="No.")
MISSING = Failure("model_missing", FailureClass.MODEL_UNAVAILABLE, status=404)
SERVER = Failure("server", FailureClass.TRANSIENT, status=500)
BUSY = Failure("concurrency", FailureClass.RATE_LIMIT, status=429)

Make = Callable[[], HealthBoard]


@pytest.fixture
def connection(home: Path) -> str:
    """The id of a connection of this installation."""
    with open_services() as services:
        fields = {"provider": "groq", "name": "Main", "apiKey": "gsk_0123456789abcdefghij"}
        return services.connections.create(fields, SYSTEM).id


@pytest.fixture
def worker(home: Path, connection: str) -> Iterator[Make]:
    """Make the board of a worker that runs beside the command."""
    database = Database(f"sqlite:///{home / 'data' / 'storage.sqlite'}")

    def make() -> HealthBoard:
        store = StateStore(database, time.time)
        made = HealthBoard(store=store, now=time.time, rng=random.Random(1), settings=lambda: DEFAULTS)
        made.load()
        return made

    yield make
    database.dispose()


@pytest.fixture
def board(worker: Make, connection: str) -> HealthBoard:
    """A worker to which several things have happened."""
    account = Account(connection, "groq", AuthClass.API_KEY)
    made = worker()
    now = time.time()
    events: list[Event] = [
        AttemptFailed(account, "m", RATE, now),
        AttemptFailed(account, "lost", MISSING, now),
        AttemptFailed(account, "m", BUSY, now, in_flight=4),
        *[ProviderFailed("groq", AuthClass.API_KEY, SERVER, started_at=now) for _ in range(12)],
        ProviderFailed("openai", AuthClass.API_KEY, SERVER, started_at=now),
    ]
    for event in events:
        made.record(event)
    assert made.flush(2.0)
    return made


def shown(run: Run, *arguments: str) -> dict[str, Any]:
    result = run("resilience", "show", *arguments, "--json")
    assert result.exit_code == Exit.DONE, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_nothing_rests(run: Run) -> None:
    assert shown(run) == {"breakers": [], "cooldowns": [], "dead": [], "lockouts": [], "limits": [], "queues": []}
    assert len(run("resilience", "show").stdout.splitlines()) == 1


def test_a_table_says_why_and_how_long(run: Run, board: HealthBoard) -> None:
    lines = run("resilience", "show").stdout.splitlines()
    assert lines[0].split() == ["Kind", "Provider", "Connection", "Model", "State", "Reason", "Time", "left", "Message"]
    rows = {tuple(line.split()[:2]): line for line in lines[1:]}
    assert "open" in rows["breaker", "groq"]
    assert "12 failures in a row" in rows["breaker", "groq"]
    assert rows["breaker", "openai"].split()[4:6] == ["closed", "transient"]
    cooldown = rows["cooldown", "groq"]
    assert cooldown.split()[2:6] == ["Main", "-", "resting", "rate"]
    assert "2h" in cooldown
    assert cooldown.endswith("Slow down.")
    assert rows["lockout", "groq"].split()[2:6] == ["Main", "lost", "resting", "model_missing"]
    assert "at most 3 at once" in rows["limit", "groq"]
    assert run("resilience", "show", "--provider", "openai").stdout.count("\n") == 2


def test_a_dead_connection_waits_for_somebody(run: Run, worker: Make, connection: str) -> None:
    account = Account(connection, "groq", AuthClass.API_KEY)
    board = worker()
    board.record(AttemptFailed(account, "m", AUTH, time.time()))
    assert board.flush(2.0)
    assert "until it is mended" in run("resilience", "show", "--connection", "Main").stdout
    (dead,) = shown(run)["dead"]
    assert (dead["connectionId"], dead["reason"], dead["until"], dead["message"]) == (connection, "auth", None, "No.")


def test_a_reset_reaches_the_workers(run: Run, board: HealthBoard, connection: str) -> None:
    result = run("resilience", "reset", "--connection", connection, "--model", "lost")
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (Exit.DONE, "", "Reset: 1.")
    board.poll()
    assert board.copy.lockout(connection, "lost") is None
    assert board.copy.rest(connection, "") is not None
    assert json.loads(run("resilience", "reset", "--connection", "Main", "--json").stdout) == {"reset": 2}
    board.poll()
    assert board.copy.rest(connection, "") is None
    assert [row.scope for row in board.state()] == ["provider:groq", "provider:openai"]
    assert json.loads(run("resilience", "reset", "--all", "--json").stdout) == {"reset": 2}
    board.poll()
    assert board.state() == ()
    assert shown(run)["breakers"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--all", "--provider", "groq"),
        ("--provider", "nobody"),
        ("--connection", "nobody"),
    ],
)
def test_it_has_to_be_said_what_is_meant(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("resilience", "reset", *arguments).exit_code == Exit.MISUSE


def test_a_name_that_several_have_is_refused(run: Run, home: Path, connection: str) -> None:
    with open_services() as services:
        fields = {"provider": "openai", "name": "Main", "apiKey": "sk-0123456789abcdefghij0123"}
        services.connections.create(fields, SYSTEM)
    result = run("resilience", "show", "--connection", "Main")
    assert result.exit_code == Exit.MISUSE
    assert connection in result.stderr


def test_elsewhere_as_here(both_busy: Both, busy: Remote, golden: Golden) -> None:
    """A connection whose provider refuses its key is dead until somebody mends it."""
    refusal = answer(b'{"error": {"message": "No such key."}}', status=401)
    with fake_upstream(refusal, refusal, refusal) as upstream:
        busy.server.add_node(f"{upstream.url}/v1", prefix="mine")
        for _ in range(2):
            assert busy.ask("mine/m").status_code >= 400
        check_list(golden, both_busy, "resilience", "show")
        assert "until it is mended" in busy("resilience", "show", "--provider", "mine").stdout
        assert both_busy("resilience", "show", "--provider", "groq").stdout.count("\n") == 1
        assert json.loads(busy("resilience", "reset", "--provider", "mine", "--json").stdout)["reset"] >= 1
    assert shown(busy)["dead"] == []
