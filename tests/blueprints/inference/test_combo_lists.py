"""Combos and `auto` channels where clients look for models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application for tests that leave nothing behind."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        for provider in ("deepseek", "anthropic"):
            built.own.connections.create({"provider": provider, "apiKey": "sk-live-0123456789abcdefghij"}, SYSTEM)
        for name, models, fields in (
            ("mix", ["anthropic/claude-opus-4-7", "ds/deepseek-chat"], {"strategy": "random"}),
            ("cheap", ["ds/deepseek-chat"], {"context_length": 5000}),
            ("off", ["ds/deepseek-chat"], {"isActive": False}),
            ("ds/deepseek-chat", ["anthropic/claude-opus-4-7"], {}),
        ):
            body = {"name": name, "models": models, **fields}
            assert built.admin.post("/api/combos", json=body).status_code == 201
        yield built


def listed(app: App, path: str = "/v1/models", **key: Any) -> dict[str, dict[str, Any]]:
    client = app.client(app.key(**key) if key else None)
    return {entry["id"]: entry for entry in client.get(path).get_json()["data"]}


def test_combos_and_channels_are_models(shared: App) -> None:
    models = listed(shared)
    mix, cheap, auto = models["mix"], models["cheap"], models["auto/coding"]
    assert (mix["owned_by"], mix["type"], auto["owned_by"]) == ("combo", "chat", "auto")
    assert (cheap["context_length"], cheap["context_source"]) == (5000, "override")
    windows = [models["anthropic/claude-opus-4-7"]["context_length"], mix["context_length"]]
    assert mix["context_length"] == min(windows)
    assert mix["context_source"] == "builtin"
    assert mix["capabilities"]["streaming"] is True
    assert "off" not in models
    assert models["ds/deepseek-chat"]["owned_by"] == "combo", "it is what answers to the name"
    assert shared.client().get("/v1/models/mix").get_json() == mix
    assert shared.client().get("/v1/models/auto/fast").get_json()["id"] == "auto/fast"
    anthropic = shared.client().get("/v1/models/mix", headers={"anthropic-version": "2023-06-01"}).get_json()
    assert (anthropic["type"], anthropic["id"]) == ("model", "mix")
    assert "models/mix" in [
        row["name"] for row in shared.client().get("/v1beta/models?pageSize=1000").get_json()["models"]
    ]
    assert "mix" in [row["name"] for row in shared.client().get("/api/tags").get_json()["models"]]
    assert shared.client().get("/v1/models?provider=anthropic").get_json()["data"][0]["owned_by"] == "anthropic"


@pytest.mark.parametrize("mount", ["/v1", "/v1/v1", "/api/v1", ""])
def test_combos_have_a_list_of_their_own(shared: App, mount: str) -> None:
    combos = listed(shared, f"{mount}/combos")
    assert list(combos) == ["mix", "cheap", "ds/deepseek-chat"]
    assert combos["mix"] == {
        "id": "mix",
        "object": "combo",
        "strategy": "random",
        "targets": ["anthropic/claude-opus-4-7", "ds/deepseek-chat"],
        "context_length": combos["mix"]["context_length"],
        "capabilities": combos["mix"]["capabilities"],
    }


@pytest.mark.parametrize(
    ("key", "combos"),
    [
        ({"allowedCombos": ("mix",)}, {"mix": 2}),
        ({"allowedCombos": ("m*", "ch*")}, {"mix": 2, "cheap": 1}),
        ({"allowedModels": ("ds/*",)}, {"mix": 1, "cheap": 1}),
        ({"blockedModels": ("ds/*",)}, {"mix": 1}),
        ({"blockedModels": ("mix",)}, {"cheap": 1, "ds/deepseek-chat": 1}),
        ({"allowedModels": ("nobody/*",)}, {}),
    ],
)
def test_a_key_sees_what_it_may_use(shared: App, key: dict[str, Any], combos: dict[str, int]) -> None:
    found = listed(shared, "/v1/combos", **key)
    assert {name: len(combo["targets"]) for name, combo in found.items()} == combos
    assert {name for name, entry in listed(shared, **key).items() if entry["owned_by"] == "combo"} == set(combos)


def test_a_key_may_use_what_it_sees(shared: App) -> None:
    client = shared.client(shared.key(allowedCombos=("cheap",)))
    body = {"messages": [{"role": "user", "content": "hi"}]}
    refused = client.post("/v1/chat/completions", json={"model": "mix", **body})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "model_not_allowed")


def test_the_pool_of_a_channel_is_shown_with_scores(shared: App) -> None:
    for channel in ("coding", "auto/coding"):
        answered = shared.client().get(f"/v1/auto-combo/{channel}/candidates")
        assert answered.status_code == 200, answered.get_json()
        document = answered.get_json()
        assert document["channel"] == "auto/coding"
        candidates = document["candidates"]
        assert {candidate["provider"] for candidate in candidates} == {"anthropic", "deepseek"}
        for candidate in candidates:
            if candidate["eligible"]:
                factors = candidate["factors"].values()
                assert candidate["score"] == pytest.approx(sum(f["value"] * f["weight"] for f in factors), abs=1e-3)
            else:
                assert candidate["reason"]
    only = shared.client(shared.key(allowedModels=("ds/*",))).get("/v1/auto-combo/auto/candidates").get_json()
    left_out = {c["provider"]: c.get("reason") for c in only["candidates"] if not c["eligible"]}
    assert left_out["anthropic"] == "key_policy"
    assert shared.client().get("/v1/auto-combo/magic/candidates").status_code == 404
    offline = shared.client().get("/v1/auto-combo/offline/candidates").get_json()
    assert offline["candidates"] == []
