"""Model lists: what a key sees, in which shape, and at what price."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from omniroute.errors import ModelNotFound
from omniroute.gateway.directory import Directories
from omniroute.records import (
    AuthType,
    Connection,
    DiscoveredList,
    DiscoveredModel,
    ModelOverride,
    Node,
    NodeType,
    Snapshot,
)
from omniroute.secret import Secret
from omniroute.services import model_lines
from omniroute.services import models as lists
from omniroute.services.access import ModelRules
from omniroute.services.models import Filters, Models, Naming, Rendered
from tests.services.providers import CATALOGUE

KEY = Secret("sk-test-0123456789abcdef")
NOTHING = ModelRules(blocked=("*",))


def snapshot(*providers: str, version: int = 1) -> Snapshot:
    connections = tuple(Connection(f"conn_{name}", name, AuthType.API_KEY, name, 1, True, KEY) for name in providers)
    return Snapshot(version, connections=connections)


def models(*providers: str) -> Models:
    return Models(directories=Directories(CATALOGUE, snapshot(*providers)))


EVERYWHERE = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/{model}:generateContent",
    "/api/chat",
]
"""Where every model that converses answers."""


def listed(own: Models, **filters: Any) -> list[dict[str, Any]]:
    document = json.loads(own.openai_list(Filters(**filters)).body)
    assert document["object"] == "list"
    data: list[dict[str, Any]] = document["data"]
    return data


def names(own: Models, **filters: Any) -> list[str]:
    return [entry["id"] for entry in listed(own, **filters)]


def test_a_fresh_gateway_lists_the_simulated_provider() -> None:
    found = names(models())
    assert "sandbox/echo" in found
    assert all(name.startswith("sandbox/") for name in found)


def test_one_entry() -> None:
    entries = {entry["id"]: entry for entry in listed(models("anthropic"))}
    assert entries["anthropic/claude-opus-4-7"] == {
        "id": "anthropic/claude-opus-4-7",
        "object": "model",
        "created": 1_795_219_200,
        "owned_by": "anthropic",
        "root": "claude-opus-4-7",
        "parent": None,
        "name": "claude-opus-4-7",
        "type": "chat",
        "context_length": 1_000_000,
        "context_source": "builtin",
        "max_output_tokens": 128_000,
        "input_modalities": ["text", "image", "pdf"],
        "output_modalities": ["text"],
        "capabilities": {
            "tools": True,
            "vision": True,
            "reasoning": True,
            "json_schema": True,
            "streaming": True,
        },
        "supported_endpoints": EVERYWHERE,
        "pricing": {"input": 5.0, "output": 25.0, "cached": 0.5},
    }
    assert entries["sandbox/echo"]["free"] is True
    assert entries["sandbox/echo"]["supported_endpoints"] == EVERYWHERE


def test_real_models_come_before_simulated_ones() -> None:
    found = names(models("groq"))
    assert found[0].startswith("groq/")
    assert found[-1].startswith("sandbox/")


def test_an_assumed_window_is_not_shown_as_a_fact() -> None:
    entries = {entry["root"]: entry for entry in listed(models("crof"))}
    unknown = [entry for entry in entries.values() if entry["context_source"] == "default"]
    assert all(entry["context_length"] is None for entry in unknown)


def test_only_what_this_release_serves_is_listed() -> None:
    found = listed(models("openai"))
    assert {entry["type"] for entry in found} == {"chat"}
    assert "openai/text-embedding-3-small" not in [entry["id"] for entry in found]
    assert names(models("deepgram"), provider="deepgram") == []


def test_names_by_prefix_by_id_or_both() -> None:
    own = models("deepseek")
    assert "ds/deepseek-chat" in names(own, provider="deepseek")
    canonical = names(own, provider="ds", naming=Naming.CANONICAL)
    assert "deepseek/deepseek-chat" in canonical
    assert "ds/deepseek-chat" not in canonical
    dual = names(own, provider="DS", naming=Naming.DUAL)
    assert {"ds/deepseek-chat", "deepseek/deepseek-chat"} <= set(dual)
    assert len(dual) == 2 * len(canonical)
    assert len(names(models("groq"), provider="groq", naming=Naming.DUAL)) == len(
        names(models("groq"), provider="groq")
    )


def test_filters() -> None:
    own = models("groq", "anthropic")
    assert names(own, provider="nobody") == []
    assert names(own, kind="embedding") == []
    only = names(own, rules=ModelRules(allowed=("anthropic/*",)))
    assert only
    assert all(name.startswith("anthropic/") for name in only)
    tied = names(own, connections=frozenset({"conn_groq"}))
    assert tied
    assert all(name.startswith("groq/") for name in tied)
    free = listed(own, only_free=True)
    assert free
    assert all(entry.get("free") for entry in free)


def test_pages() -> None:
    own = models("groq")
    whole = names(own)
    page = own.openai_list(Filters(), limit=2, offset=1)
    assert [entry["id"] for entry in json.loads(page.body)["data"]] == whole[1:3]
    assert page.total == len(whole)
    assert json.loads(own.openai_list(Filters(), limit=5, offset=10_000).body)["data"] == []


def test_versions_and_tags_move_with_the_list() -> None:
    directories = Directories(CATALOGUE, snapshot("groq"))
    own = Models(directories=directories)
    first = own.openai_list(Filters())
    assert own.openai_list(Filters()) is first
    assert own.openai_list(Filters(provider="groq")).version == first.version
    assert own.openai_list(Filters(provider="groq")).etag != first.etag
    directories.rebuild(snapshot("groq", "openai", version=2))
    assert own.openai_list(Filters()).version != first.version
    directories.rebuild(snapshot("groq", version=3))
    assert own.openai_list(Filters()).etag == first.etag
    assert own.version == first.version


def anthropic(own: Models, filters: Filters | None = None, **page: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(own.anthropic_list(filters or Filters(), **page).body)
    return document


def test_the_anthropic_shape() -> None:
    document = anthropic(models("anthropic", "groq"))
    assert set(document) == {"data", "first_id", "last_id", "has_more"}
    assert document["data"][0] == {
        "type": "model",
        "id": document["first_id"],
        "display_name": document["first_id"].partition("/")[2],
        "created_at": "2026-11-21T00:00:00Z",
    }
    assert document["has_more"] is False
    assert [entry for entry in document["data"] if entry["id"].startswith("groq/")], (
        "what it does not speak is translated"
    )
    nothing = anthropic(models(), Filters(rules=NOTHING))
    assert nothing == {"data": [], "first_id": None, "last_id": None, "has_more": False}


def test_the_anthropic_pages() -> None:
    own = models("anthropic")
    whole = [entry["id"] for entry in anthropic(own)["data"]]
    first = anthropic(own, limit=3)
    assert [entry["id"] for entry in first["data"]] == whole[:3]
    assert first["has_more"] is True
    second = anthropic(own, limit=3, after=first["last_id"])
    assert [entry["id"] for entry in second["data"]] == whole[3:6]
    back = anthropic(own, limit=2, before=second["first_id"])
    assert [entry["id"] for entry in back["data"]] == whole[1:3]
    last = anthropic(own, limit=1000, after=whole[-2])
    assert ([entry["id"] for entry in last["data"]], last["has_more"]) == (whole[-1:], False)


def test_one_model() -> None:
    own = models("deepseek", "anthropic")
    for name in ("ds/deepseek-chat", "deepseek/deepseek-chat", "DS/deepseek-chat"):
        assert json.loads(own.one(name, Filters()))["id"] == "ds/deepseek-chat"
    assert json.loads(own.one("claude-opus-4-7", Filters()))["id"] == "anthropic/claude-opus-4-7"
    shape = json.loads(own.one("anthropic/claude-opus-4-7", Filters(), anthropic=True))
    assert shape["type"] == "model"


@pytest.mark.parametrize(
    ("name", "filters", "in_anthropic"),
    [
        ("nobody/x", {}, False),
        ("groq/llama-3.3-70b-versatile", {}, False),
        ("ds/not-listed", {}, False),
        ("ds/deepseek-chat", {"rules": NOTHING}, False),
        ("ds/not-listed", {}, True),
    ],
)
def test_no_such_model(name: str, filters: dict[str, Any], in_anthropic: bool) -> None:
    with pytest.raises(ModelNotFound):
        models("deepseek", "crof").one(name, Filters(**filters), anthropic=in_anthropic)


def test_what_can_be_connected() -> None:
    rows = {row["id"]: row for row in models("groq").available({"groq", "openai"})}
    assert set(rows) == set(CATALOGUE.providers)
    assert (rows["groq"]["configured"], rows["groq"]["active"]) == (True, True)
    assert (rows["openai"]["configured"], rows["openai"]["active"]) == (True, False)
    assert (rows["sandbox"]["configured"], rows["sandbox"]["active"]) == (True, True)
    assert rows["claude"]["termsNote"]
    assert rows["claude"]["authKinds"] == ["oauth"]
    assert rows["qwen"]["status"] == "discontinued"
    assert rows["bedrock"]["parameters"] == [{"name": "region", "default": "us-east-1"}]
    json.dumps(list(rows.values()))


def test_nodes_are_listed_as_providers() -> None:
    node = Node("node_1", "Mine", "mine", NodeType.OPENAI, "https://h.example/v1", is_local=True)
    own = Models(directories=Directories(CATALOGUE, Snapshot(1, nodes=(node,))))
    row = next(row for row in own.available(()) if row["id"] == "node_1")
    assert (row["isNode"], row["isLocal"], row["alias"], row["active"]) == (True, True, "mine", False)


def test_the_model_that_an_operator_named_is_listed() -> None:
    node = Node("node_1", "Mine", "mine", NodeType.ANTHROPIC, "https://h.example/v1")
    made = Connection("conn_1", "node_1", AuthType.API_KEY, "n", 1, True, KEY, default_model="my-model")
    own = Models(directories=Directories(CATALOGUE, Snapshot(1, connections=(made,), nodes=(node,))))
    entry = listed(own)[0]
    assert (entry["id"], entry["custom"], entry["context_length"]) == ("mine/my-model", True, None)
    assert entry["supported_endpoints"] == EVERYWHERE


def test_the_judgement_of_many_names_is_that_of_one() -> None:
    own = models("groq", "anthropic", "deepseek")
    everything = names(own)
    for rules in (
        ModelRules(allowed=("groq/*", "claude-opus-4-?", "DS/*")),
        ModelRules(blocked=("*[a-z]*", "*llama*", "anthropic/claude-opus-4-7")),
        ModelRules(allowed=("*/*",), blocked=("*o*o*", "")),
        ModelRules(allowed=("ds/deepseek-chat",)),
        NOTHING,
    ):
        assert names(own, rules=rules) == [name for name in everything if rules.admit(name)]


def test_a_second_request_gets_the_bytes_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    own = models("groq", "anthropic")
    asked: list[Callable[[], Rendered]] = [
        lambda: own.openai_list(Filters()),
        lambda: own.openai_list(Filters(rules=ModelRules(allowed=("groq/*",)), naming=Naming.DUAL), limit=5, offset=2),
        lambda: own.anthropic_list(Filters(), limit=7, after="anthropic/claude-opus-4-7"),
        lambda: own.gemini_list(Filters(), page_size=10, offset=5),
        lambda: own.ollama_list(Filters()),
    ]
    first = [ask().body for ask in asked]
    whole = names(own, provider="groq")

    def fail(*_: Any, **__: Any) -> bytes:
        raise AssertionError("a list is rendered again")

    monkeypatch.setattr(lists, "_joined", fail)
    monkeypatch.setattr(lists, "_selected", fail)
    monkeypatch.setattr(model_lines, "_entries", fail)
    assert all(ask().body is body for ask, body in zip(asked, first, strict=True))
    assert [entry["id"] for entry in json.loads(first[1])["data"]] == whole[2:7]


def test_what_is_held_of_lists_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    own = models("groq")
    monkeypatch.setattr(lists, "_MOST_BYTES", 0)
    whole = own.openai_list(Filters())
    body = whole.body
    assert whole.size == len(body), "the newest is kept however long it is"
    own.openai_list(Filters(), limit=1).body  # noqa: B018 -- rendered when it is looked at
    assert whole.size == 0
    assert own.openai_list(Filters()).body == body, "it is put together again"
    for number in range(100):
        own.openai_list(Filters(), limit=1, offset=number)
    assert own.openai_list(Filters()) is not whole


def test_what_does_not_change_is_not_rendered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    directories = Directories(CATALOGUE, snapshot("groq", "anthropic"))
    own = Models(directories=directories)
    version, before = own.version, json.loads(own.openai_list(Filters()).body)
    made: list[str] = []
    entries = model_lines._entries  # what makes the lines of a provider

    def noted(directory: Any, row: Any) -> Any:
        made.append(row.id)
        return entries(directory, row)

    monkeypatch.setattr(model_lines, "_entries", noted)
    directories.rebuild(snapshot("groq", "anthropic", "deepseek", version=2))
    assert own.version != version
    assert made == ["deepseek"]
    assert {entry["id"] for entry in before["data"]} < set(names(own))
    directories.rebuild(snapshot("groq", "anthropic", version=3))
    assert own.version == version
    assert made == ["deepseek"]


def test_lists_are_prepared_in_the_background_when_something_changes() -> None:
    directories = Directories(CATALOGUE, snapshot("groq"))
    waiting: list[Callable[[], None]] = []
    rests: list[float] = []
    own = Models(directories=directories, spawn=waiting.append, sleep=rests.append)
    own.rebuild(snapshot("groq"))
    assert len(waiting) == 1
    waiting.pop()()
    assert rests == [0, 0], "others get their turn after each provider"
    own.rebuild(snapshot("groq"))
    assert waiting == [], "what is current needs no preparation"
    directories.rebuild(snapshot("groq", "deepseek", version=2))
    own.rebuild(snapshot("groq", "deepseek", version=2))
    waiting.pop()()
    assert "ds/deepseek-chat" in names(own)


def found(model_id: str, **facts: Any) -> Snapshot:
    """A gateway with one connection to groq whose list has one model more than is built in."""
    listed = DiscoveredList("conn_groq", "groq", 1.0, (DiscoveredModel(model_id, **facts),))
    return replace(snapshot("groq"), discovered={"conn_groq": listed})


def test_a_model_that_only_the_provider_lists() -> None:
    model = found(
        "new/model-1",
        name="Model One",
        context_length=200_000,
        max_output=9_000,
        able=frozenset({"tools", "vision"}),
        unable=frozenset({"reasoning"}),
        input=("text", "image"),
        prices=(("input", "0.5"), ("output", "1")),
    )
    own = Models(directories=Directories(CATALOGUE, model))
    entry = next(entry for entry in listed(own) if entry["root"] == "new/model-1")
    assert (entry["id"], entry["name"]) == ("groq/new/model-1", "Model One")
    assert (entry["context_length"], entry["context_source"]) == (200_000, "provider")
    assert entry["max_output_tokens"] == 9_000
    assert entry["input_modalities"] == ["text", "image"]
    assert entry["capabilities"] == {
        "tools": True,
        "vision": True,
        "reasoning": False,
        "json_schema": False,
        "streaming": True,
    }
    assert entry["pricing"] == {"input": 0.5, "output": 1.0}
    assert "custom" not in entry


def test_one_window_in_every_shape() -> None:
    override = ModelOverride("groq", "llama-3.3-70b-versatile", context_length=65_000)
    base = found("new-model", context_length=200_000)
    second = Connection("conn_reka", "reka", AuthType.API_KEY, "reka", 1, True, KEY)
    made = replace(base, connections=(*base.connections, second), model_overrides=(override,))
    own = Models(directories=Directories(CATALOGUE, made, default_context=50_000))
    everybody = Filters()
    for name, tokens, source in (
        ("groq/llama-3.3-70b-versatile", 65_000, "override"),
        ("groq/new-model", 200_000, "provider"),
        ("groq/qwen/qwen3-32b", 131_072, "builtin"),
        ("reka/reka-flash-3", 50_000, "default"),
    ):
        one = json.loads(own.one(name, everybody))
        assert one["context_source"] == source
        assert one["context_length"] == (None if source == "default" else tokens), "what is assumed is no fact"
        assert json.loads(own.gemini_one(name, everybody))["inputTokenLimit"] == tokens
        shown = json.loads(own.ollama_one(name, everybody))
        assert shown["model_info"]["omniroute.context_length"] == tokens


def test_a_hidden_model_is_on_nobodys_list() -> None:
    hidden = ModelOverride("groq", "llama-3.3-70b-versatile", is_hidden=True)
    own = Models(directories=Directories(CATALOGUE, replace(snapshot("groq"), model_overrides=(hidden,))))
    assert "groq/llama-3.3-70b-versatile" not in names(own)
    with pytest.raises(ModelNotFound, match="not on the list"):
        own.one("groq/llama-3.3-70b-versatile", Filters())


def test_a_key_of_one_connection_sees_what_that_connection_has() -> None:
    made = snapshot("groq")
    other = Connection("conn_2", "groq", AuthType.API_KEY, "second", 2, True, KEY)
    lists_of = {
        "conn_groq": DiscoveredList("conn_groq", "groq", 1.0, (DiscoveredModel("only-first"),)),
        "conn_2": DiscoveredList("conn_2", "groq", 1.0, (DiscoveredModel("only-second"),)),
    }
    whole = replace(made, connections=(*made.connections, other), discovered=lists_of)
    own = Models(directories=Directories(CATALOGUE, whole))
    tied = names(own, connections=frozenset({"conn_2"}))
    assert "groq/only-second" in tied
    assert "groq/only-first" not in tied
    assert "groq/llama-3.3-70b-versatile" in tied
