"""All models of all providers: who knows of them, and how they stand."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from omniroute.gateway.directory import Directories
from omniroute.gateway.listings import Origin
from omniroute.records import (
    AuthType,
    Connection,
    CustomModel,
    DiscoveredList,
    DiscoveredModel,
    ModelAlias,
    ModelOverride,
    Node,
    NodeType,
    Snapshot,
)
from omniroute.routing.view import Rest
from omniroute.secret import Secret
from omniroute.services.model_catalog import Health, ModelCatalog, ModelRow
from omniroute.services.models import Models
from tests.services.providers import CATALOGUE

KEY = Secret("sk-test-0123456789abcdef")
NOW = 1_800_000_000.0
KNOWN = "llama-3.3-70b-versatile"


class Moment:
    """What rests now."""

    def __init__(self) -> None:
        self.rests: dict[str, Rest] = {}
        self.lockouts: dict[tuple[str, str], Rest] = {}

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        assert rest_scope
        return self.rests.get(account_id)

    def lockout(self, account_id: str, model: str) -> Rest | None:
        return self.lockouts.get((account_id, model))


def connection(name: str, provider: str = "groq") -> Connection:
    return Connection(f"conn_{name}", provider, AuthType.API_KEY, name, 1, True, KEY)


def catalog(moment: Moment | None = None, **parts: Any) -> ModelCatalog:
    snapshot = Snapshot(1, **{"connections": (connection("a"),), **parts})
    directories = Directories(CATALOGUE, snapshot)
    lists = Models(directories=directories)
    view: Any = moment or Moment()
    return ModelCatalog(
        directories=directories,
        snapshots=SimpleNamespace(current=snapshot),
        view=view,
        version=lambda: lists.version,
        now=lambda: NOW,
    )


def row(own: ModelCatalog, name: str) -> ModelRow:
    return next(one for one in own.rows() if one.name == name)


def test_the_whole_catalogue() -> None:
    own = catalog()
    body, version = own.whole()
    document = json.loads(body)
    assert document["catalogVersion"] == version
    assert set(document["catalog"]) == set(CATALOGUE.providers)
    groq = document["catalog"]["groq"]
    assert (groq["provider"], groq["alias"], groq["active"]) == ("Groq", "groq", True)
    assert document["catalog"]["claude"]["active"] is False
    model = next(entry for entry in groq["models"] if entry["id"] == "groq/whisper-large-v3")
    assert (model["type"], model["custom"], model["source"], model["hidden"]) == ("audio", False, "builtin", False)
    priced = next(
        entry for entry in document["catalog"]["anthropic"]["models"] if entry["id"] == "anthropic/claude-opus-4-7"
    )
    assert priced["price"] == {"input": 5.0, "output": 25.0, "cacheRead": 0.5, "cacheWrite": 6.25}
    assert (priced["context_length"], priced["context_source"]) == (1_000_000, "builtin")
    assert own.whole()[0] is body


def test_the_catalogue_tells_who_says_what() -> None:
    own = catalog(
        custom_models=(CustomModel("groq", "mine"),),
        discovered={"conn_a": DiscoveredList("conn_a", "groq", 1.0, (DiscoveredModel("live", context_length=7000),))},
        model_overrides=(ModelOverride("groq", KNOWN, is_hidden=True, context_length=6000),),
    )
    models = {entry["id"]: entry for entry in json.loads(own.whole()[0])["catalog"]["groq"]["models"]}
    assert (models["groq/mine"]["custom"], models["groq/mine"]["source"]) == (True, "custom")
    assert (models["groq/live"]["source"], models["groq/live"]["context_source"]) == ("provider", "provider")
    hidden = models[f"groq/{KNOWN}"]
    assert (hidden["hidden"], hidden["context_length"], hidden["context_source"]) == (True, 6000, "override")


def test_a_node_without_models() -> None:
    node = Node("node_1", "Mine", "mine", NodeType.OPENAI, "http://h/v1", is_local=True)
    document = json.loads(catalog(nodes=(node,)).whole()[0])
    assert document["catalog"]["node_1"] == {"provider": "Mine", "alias": "mine", "active": False, "models": []}


def test_rows_of_all_providers() -> None:
    own = catalog(model_overrides=(ModelOverride("groq", KNOWN, is_hidden=True),))
    rows = {one.name: one for one in own.rows()}
    assert len(rows) >= sum(len(CATALOGUE.models_of(provider.id)) for provider in CATALOGUE) - 200, "some share names"
    hidden = rows[f"groq/{KNOWN}"]
    assert (hidden.is_hidden, hidden.is_active, hidden.origin) == (True, False, Origin.BUILTIN)
    assert rows["groq/qwen/qwen3-32b"].is_active
    assert not rows["anthropic/claude-opus-4-7"].is_active, "nobody is connected"
    window, is_free = own.figures(rows["sandbox/echo"])
    assert (window.tokens, is_free) == (128_000, True)


def test_the_models_of_a_connection() -> None:
    lists = {
        "conn_a": DiscoveredList("conn_a", "groq", 1.0, (DiscoveredModel("only-a"), DiscoveredModel(KNOWN))),
        "conn_b": DiscoveredList("conn_b", "groq", 1.0, (DiscoveredModel("only-b"),)),
    }
    some = (connection("a"), connection("b"), connection("c"), replace(connection("off"), is_active=False))
    own = catalog(connections=some, discovered=lists)
    found = {one.row.model.id: one for one in own.of_connection(some[0])}
    assert "only-b" not in found
    assert (found["only-a"].is_listed, found["only-a"].row.is_active) == (True, True)
    assert (found[KNOWN].is_listed, found[KNOWN].row.origin) == (True, Origin.PROVIDER)
    assert found["qwen/qwen3-32b"].is_listed is False
    unread = {one.row.model.id: one for one in own.of_connection(some[2])}
    assert {"only-a", "only-b"} <= unread.keys(), "what it has nobody knows"
    assert not any(one.is_listed for one in unread.values())
    assert not any(one.row.is_active for one in own.of_connection(some[3]))
    assert own.of_connection(connection("x", "node_gone")) == []


def test_the_other_names_of_models() -> None:
    aliases = (
        ModelAlias("a1", "fast", f"groq/{KNOWN}"),
        ModelAlias("a2", "quick", f"groq/{KNOWN}"),
        ModelAlias("a3", "gpt-*", f"groq/{KNOWN}"),
        ModelAlias("a4", "off", f"groq/{KNOWN}", enabled=False),
    )
    assert catalog(aliases=aliases).aliases() == {f"groq/{KNOWN}": ["fast", "quick"]}


def test_a_model_rests_when_it_does_on_every_connection() -> None:
    moment = Moment()
    own = catalog(moment, connections=(connection("a"), connection("b")))
    model = row(own, f"groq/{KNOWN}")
    assert own.health_of(model) == Health("ok")
    moment.rests["conn_a"] = Rest("cooling", NOW + 60)
    assert own.health_of(model) == Health("ok")
    moment.lockouts["conn_b", KNOWN] = Rest("locked_out", NOW + 30)
    assert own.health_of(model) == Health("resting", "locked_out", NOW + 30)
    assert own.health_of(row(own, "groq/qwen/qwen3-32b")) == Health("ok")
    moment.rests["conn_b"] = Rest("credential_dead", None)
    assert own.health_of(model) == Health("resting", "cooling", NOW + 60)
    moment.rests["conn_a"] = Rest("cooling", NOW)
    assert own.health_of(model) == Health("ok"), "it is over"
    assert own.health_of(row(own, "anthropic/claude-opus-4-7")) == Health("unavailable")
