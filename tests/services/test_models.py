"""Model lists: what a key sees, in which shape, and at what price."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from omniroute.errors import ModelNotFound
from omniroute.gateway.directory import Directories
from omniroute.records import AuthType, Connection, Node, NodeType, Snapshot
from omniroute.secret import Secret
from omniroute.services.models import Filters, Models, Naming
from tests.services.providers import CATALOGUE

KEY = Secret("sk-test-0123456789abcdef")


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
    only = names(own, may_use=lambda name: name.startswith("anthropic/"))
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
    nothing = anthropic(models(), Filters(may_use=lambda name: False))
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
        ("ds/deepseek-chat", {"may_use": lambda name: False}, False),
        ("ds/not-listed", {}, True),
    ],
)
def test_no_such_model(name: str, filters: dict[str, Any], in_anthropic: bool) -> None:
    with pytest.raises(ModelNotFound):
        models("deepseek", "crof").one(name, Filters(**filters), anthropic=in_anthropic)


def test_the_whole_catalogue() -> None:
    own = models("groq")
    document = json.loads(own.catalog())
    assert document["catalogVersion"] == own.version
    assert set(document["catalog"]) == set(CATALOGUE.providers)
    groq = document["catalog"]["groq"]
    assert (groq["provider"], groq["alias"], groq["active"]) == ("Groq", "groq", True)
    assert document["catalog"]["claude"]["active"] is False
    model = next(entry for entry in groq["models"] if entry["id"] == "groq/whisper-large-v3")
    assert (model["type"], model["custom"]) == ("audio", False)
    sonnet = document["catalog"]["anthropic"]["models"]
    priced = next(entry for entry in sonnet if entry["id"] == "anthropic/claude-opus-4-7")
    assert priced["price"] == {"input": 5.0, "output": 25.0, "cacheRead": 0.5, "cacheWrite": 6.25}
    assert priced["context_length"] == 1_000_000
    assert own.catalog() is own.catalog()


def test_what_can_be_connected() -> None:
    rows = {row["id"]: row for row in models("groq").available({"groq", "openai"})}
    assert set(rows) == set(CATALOGUE.providers)
    assert (rows["groq"]["configured"], rows["groq"]["active"]) == (True, True)
    assert (rows["openai"]["configured"], rows["openai"]["active"]) == (True, False)
    assert (rows["sandbox"]["configured"], rows["sandbox"]["active"]) == (True, True)
    assert rows["claude"]["termsNote"]
    assert rows["claude"]["authKinds"] == ("oauth",)
    assert rows["qwen"]["status"] == "discontinued"
    assert rows["bedrock"]["parameters"] == [{"name": "region", "default": "us-east-1"}]
    json.dumps(list(rows.values()))


def test_nodes_are_listed_as_providers() -> None:
    node = Node("node_1", "Mine", "mine", NodeType.OPENAI, "https://h.example/v1", is_local=True)
    own = Models(directories=Directories(CATALOGUE, Snapshot(1, nodes=(node,))))
    row = next(row for row in own.available(()) if row["id"] == "node_1")
    assert (row["isNode"], row["isLocal"], row["alias"], row["active"]) == (True, True, "mine", False)
    assert json.loads(own.catalog())["catalog"]["node_1"] == {
        "provider": "Mine",
        "alias": "mine",
        "active": False,
        "models": [],
    }


def test_the_model_that_an_operator_named_is_listed() -> None:
    node = Node("node_1", "Mine", "mine", NodeType.ANTHROPIC, "https://h.example/v1")
    made = Connection("conn_1", "node_1", AuthType.API_KEY, "n", 1, True, KEY, default_model="my-model")
    own = Models(directories=Directories(CATALOGUE, Snapshot(1, connections=(made,), nodes=(node,))))
    entry = listed(own)[0]
    assert (entry["id"], entry["custom"], entry["context_length"]) == ("mine/my-model", True, None)
    assert entry["supported_endpoints"] == EVERYWHERE


def test_lists_of_a_large_gateway_are_quick() -> None:
    keyed = [row.id for row in CATALOGUE if row.urls and not row.parameters and not row.is_implicit]
    own = models(*keyed)
    own.openai_list(Filters())
    assert len(names(own)) > 1500
    started = time.process_time()
    for _ in range(5):
        own.openai_list(Filters(may_use=lambda name: name.endswith("o")))
    assert (time.process_time() - started) / 5 < 0.05
    started = time.process_time()
    for _ in range(100):
        own.openai_list(Filters())
    assert (time.process_time() - started) / 100 < 0.001
