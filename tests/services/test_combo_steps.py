"""How the steps of a combo stand: health, connections and prices of each target."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.routing.events import AttemptFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.services.combo_steps import StepStanding, standing_of
from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app

MODEL = "groq/llama-3.3-70b-versatile"
RATE = Failure("rate", FailureClass.RATE_LIMIT, retry_after_s=60.0, hint_source="retry-after")
AUTH = Failure("auth", FailureClass.CREDENTIAL)


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def connect(app: App, key: str) -> str:
    return app.own.connections.create({"provider": "groq", "apiKey": key}, SYSTEM).id


def fail(app: App, connection_id: str, failure: Failure) -> None:
    account = next(a for a in app.own.directories.current.accounts_of("groq") if a.id == connection_id)
    app.own.routing.board.record(AttemptFailed(account, "llama-3.3-70b-versatile", failure, time.time()))


def stand(app: App, *models: Any) -> list[StepStanding]:
    combo = app.own.combos.create({"name": f"c{len(app.own.combos.all())}", "models": list(models)}, SYSTEM)
    return standing_of(combo, app.own.routing.resolvers.current, app.own.routing.view, time.time())


def test_one_connection_is_enough(app: App) -> None:
    one, two = connect(app, "gsk_one_0123456789abcdef"), connect(app, "gsk_two_0123456789abcdef")
    fail(app, one, AUTH)
    free, pinned = stand(app, MODEL, {"model": MODEL, "connectionId": one, "weight": 3})
    assert (free.number, free.model, free.provider, free.health) == (1, MODEL, "groq", "ok")
    assert (free.connections, free.usable, free.until) == (2, 1, None)
    assert free.input_usd is not None
    assert free.output_usd is not None
    assert 0 < free.input_usd < free.output_usd < 10
    assert (pinned.number, pinned.health, pinned.weight) == (2, "credential_dead", 3.0)
    assert (pinned.connections, pinned.usable, pinned.until) == (1, 0, None)
    fail(app, two, RATE)
    before = time.time()
    (resting,) = stand(app, MODEL)
    assert (resting.health, resting.usable) == ("cooling", 0)
    assert resting.until is not None
    assert before + 50 < resting.until < before + 70


def test_what_leads_nowhere_says_why(app: App) -> None:
    connect(app, "gsk_one_0123456789abcdef")
    app.own.routing_settings.change_routing({"providers": {"groq": {"blocked": True}}}, SYSTEM)
    blocked, disabled, unknown = stand(app, MODEL, {"model": "sandbox/echo", "enabled": False}, "openai/gpt-5")
    assert (blocked.health, blocked.connections, blocked.usable) == ("provider_blocked", 1, 0)
    assert (disabled.health, disabled.model, disabled.connections) == ("disabled", "sandbox/echo", 0)
    assert (unknown.health, unknown.provider, unknown.input_usd) == ("inactive", None, None)


def test_a_combo_inside_has_a_row_for_each_target(app: App) -> None:
    stand(app, "sandbox/story", "sandbox/echo")
    rows = stand(app, "sandbox/echo", {"kind": "combo-ref", "comboName": "c0"})
    assert [(row.number, row.model, row.health) for row in rows] == [
        (1, "sandbox/echo", "ok"),
        (2, "sandbox/story", "ok"),
        (2, "sandbox/echo", "ok"),
    ]
    assert (rows[0].input_usd, rows[0].output_usd) == (0.0, 0.0)
