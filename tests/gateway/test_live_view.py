"""Of whom the live view says that nothing is known."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniroute.gateway.figures import OptionFigures
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.live_view import LiveView
from omniroute.gateway.routing_memory import RoutingMemory
from omniroute.routing.events import AttemptFailed, Cleared, ClearedBy, ProviderFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.marks import Kind, connection_scope
from omniroute.routing.options import Account, AuthClass
from omniroute.routing.resilience import DEFAULTS
from omniroute.routing.view import Parties
from omniroute.storage.database import Database
from omniroute.storage.state import StateStore
from tests.storage.conftest import create

GROQ = (Account("conn_1", "groq", AuthClass.API_KEY), Account("conn_2", "groq", AuthClass.API_KEY))
OLLAMA = (Account("conn_3", "ollama", AuthClass.LOCAL),)
PARTIES = Parties({"groq": GROQ, "ollama": OLLAMA}, frozenset({"groq", "ollama"}))
RATE = Failure("rate", FailureClass.RATE_LIMIT, status=429)
MISSING = Failure("model_missing", FailureClass.MODEL_UNAVAILABLE, status=404)
SERVER = Failure("server", FailureClass.TRANSIENT, status=500)


class Bench:
    """A view over a board, and the pressure that a gate would tell."""

    def __init__(self, directory: Path) -> None:
        self.database = Database(f"sqlite:///{directory / 'storage.sqlite'}")
        create(self.database, directory)
        store = StateStore(self.database, time.time)
        self.board = HealthBoard(store=store, now=time.time, rng=random.Random(1), settings=lambda: DEFAULTS)
        self.pressure: dict[str, tuple[float, bool]] = {}
        self.view = LiveView(
            board=self.board,
            memory=RoutingMemory(store=store, now=time.time),
            figures=OptionFigures(store=store, now=time.time),
            pressure=lambda account_id: self.pressure.get(account_id, (0.0, False)),
            has_pressure=lambda: bool(self.pressure),
        )

    def fail(self, account: Account, failure: Failure) -> None:
        self.board.record(AttemptFailed(account, "llama", failure, time.time()))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.database.dispose()


def test_where_nothing_rests_all_are_calm_and_said_to_be_all(bench: Bench) -> None:
    assert bench.view.calm(PARTIES) is PARTIES.providers
    assert bench.view.calm(PARTIES) is PARTIES.providers


@pytest.mark.parametrize("failure", [RATE, MISSING])
def test_who_rests_or_is_locked_out_is_not_calm_from_then_on_until_that_is_cleared(
    bench: Bench, failure: Failure
) -> None:
    assert bench.view.calm(PARTIES) is PARTIES.providers
    bench.fail(GROQ[1], failure)
    assert bench.view.calm(PARTIES) == {"ollama"}
    keys = tuple(row.key for row in bench.board.state())
    bench.board.record(Cleared(keys, ClearedBy.OPERATOR))
    assert bench.view.calm(PARTIES) is PARTIES.providers


def test_who_fails_is_not_calm_before_its_breaker_opens(bench: Bench) -> None:
    bench.board.record(ProviderFailed("ollama", AuthClass.LOCAL, SERVER, started_at=time.time()))
    assert bench.view.calm(PARTIES) == {"groq"}


def test_a_row_that_another_worker_has_stored_counts_once_it_is_taken_over(bench: Bench) -> None:
    assert bench.view.calm(PARTIES) is PARTIES.providers
    bench.fail(GROQ[0], RATE)
    [row] = bench.board.state()
    bench.board.copy.drop((connection_scope("conn_1"), Kind.COOLDOWN))
    assert bench.view.calm(PARTIES) is PARTIES.providers
    bench.board.copy.replace({row.key: row})
    assert bench.view.calm(PARTIES) == {"ollama"}


@pytest.mark.parametrize("pressure", [(time.time() + 9, False), (0.0, True)])
def test_who_has_to_be_waited_for_is_not_calm(bench: Bench, pressure: tuple[float, bool]) -> None:
    bench.pressure["conn_2"] = pressure
    assert bench.view.calm(PARTIES) == {"ollama"}
    bench.pressure["conn_2"] = (0.0, False)
    assert bench.view.calm(PARTIES) is PARTIES.providers


def test_parties_that_are_equal_are_asked_about_for_themselves(bench: Bench) -> None:
    other = Parties({"groq": GROQ[:1]}, frozenset({"groq"}))
    bench.fail(GROQ[1], RATE)
    assert bench.view.calm(other) is other.providers
    assert bench.view.calm(PARTIES) == {"ollama"}
