"""Services on one transaction: all of it or nothing, judged by what was changed in it, told when it has happened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from omniroute.errors import ValidationFailed
from omniroute.routing.events import ClearedBy
from omniroute.services.keys import SYSTEM
from omniroute.services.standings import Standings
from omniroute.services.together import Parts, Together, in_one
from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app

NODE = {"name": "Mine", "prefix": "mine", "type": "openai-compatible", "baseUrl": "https://no.such.host.example/v1"}


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


@pytest.fixture
def parts(app: App) -> Parts:
    return app.own.parts


def make_node_and_combo(own: Together) -> str:
    own.nodes.create(NODE, SYSTEM)
    assert own.tried.directories.current.provider("mine") is not None, "what was changed is seen"
    return own.combos.create({"name": "c", "models": [{"model": "x", "provider": "mine"}]}, SYSTEM).name


def rows(app: App) -> int:
    return app.own.audit.entries(limit=1)[1]


def test_what_was_changed_together_is_there_and_told(app: App, parts: Parts) -> None:
    before, version = rows(app), app.own.snapshots.current.version
    assert in_one(parts, make_node_and_combo) == "c"
    assert [node.prefix for node in app.own.snapshots.current.nodes] == ["mine"]
    assert app.own.snapshots.current.version == version + 1, "it is one change"
    assert rows(app) == before + 2


def test_an_error_undoes_everything_and_nothing_is_told(app: App, parts: Parts) -> None:
    before, version = rows(app), app.own.snapshots.current.version

    def work(own: Together) -> None:
        make_node_and_combo(own)
        own.aliases.put({"pattern": "a", "target": "combo/none"}, SYSTEM)

    with pytest.raises(ValidationFailed):
        in_one(parts, work)
    app.own.snapshots.poll_once()
    assert app.own.snapshots.current.nodes == ()
    assert (rows(app), app.own.snapshots.current.version) == (before, version)
    assert app.own.directories.current.provider("mine") is None


def test_a_trial_returns_what_it_found_and_leaves_nothing(app: App, parts: Parts) -> None:
    before = rows(app)
    assert in_one(parts, make_node_and_combo, is_kept=False) == "c"
    assert app.own.combos.all() == []
    assert rows(app) == before


class Told(Standings):
    """Remembers what was to be forgotten of connections."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[str]]] = []

    def forget(self, ids: Iterable[str], by: ClearedBy = ClearedBy.EDIT) -> None:
        self.told.append(("forget", list(ids)))

    def revive(self, ids: Iterable[str]) -> None:
        self.told.append(("revive", list(ids)))


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"apiKey": "gsk_9876543210"}, "forget"), ({"isActive": True}, "revive"), ({"priority": 3}, None)],
)
def test_what_was_learned_of_connections_is_forgotten_after_the_commit(
    app: App, parts: Parts, fields: dict[str, Any], told: str | None
) -> None:
    made = app.own.connections.create({"provider": "groq", "apiKey": "gsk_0123456789"}, SYSTEM)
    app.own.connections.change(made.id, {"isActive": False}, SYSTEM)
    standings = Told()

    def work(own: Together) -> None:
        own.connections.change(made.id, fields, SYSTEM)
        assert standings.told == []

    with_told = replace(parts, standings=standings)
    in_one(with_told, work, is_kept=False)
    assert standings.told == []
    in_one(with_told, work)
    assert standings.told == ([] if told is None else [(told, [made.id])])


def test_a_settings_change_is_seen_at_once_within_and_after_outside(app: App, parts: Parts) -> None:
    def work(own: Together) -> bool:
        own.settings.change({"security": {"requireApiKey": True}}, SYSTEM)
        own.resilience.change({"requestQueue": {"maxWaitMs": 9}}, SYSTEM)
        assert own.resilience.settings()["requestQueue"]["maxWaitMs"] == 9
        assert app.own.in_force.value("security", "requireApiKey") is False
        found: bool = own.tried.in_force.value("security", "requireApiKey")
        return found

    assert in_one(parts, work) is True
    assert app.own.in_force.value("security", "requireApiKey") is True
    assert app.own.resilience.settings()["requestQueue"]["maxWaitMs"] == 9
