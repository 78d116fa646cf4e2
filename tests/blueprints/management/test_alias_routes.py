"""Aliases, mappings and chains over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def alias(app: App, pattern: str, target: str, **fields: Any) -> dict[str, Any]:
    response = app.admin.put("/api/models/alias", json={"pattern": pattern, "target": target, **fields})
    assert response.status_code == 200, response.get_json()
    made: dict[str, Any] = response.get_json()["alias"]
    return made


def combo(app: App, name: str) -> str:
    made: str = app.admin.post("/api/combos", json={"name": name, "models": ["sandbox/echo"]}).get_json()["id"]
    return made


def served_by(app: App, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    answered = app.client().post("/v1/chat/completions", json=body)
    assert answered.status_code == 200, answered.get_json()
    return answered.headers["X-OmniRoute-Model"]


def changes(app: App) -> list[Any]:
    entries, _ = app.own.audit.entries(limit=100)
    return [
        (entry.action, entry.target_kind)
        for entry in reversed(entries)
        if entry.action in ("alias.changed", "chain.changed")
    ]


# --- aliases -------------------------------------------------------------------------------------------------------


def test_the_life_of_an_alias(app: App) -> None:
    made = alias(app, "daily", "sandbox/story", priority=3)
    assert (made["pattern"], made["target"], made["priority"], made["enabled"]) == ("daily", "sandbox/story", 3, True)
    assert served_by(app, "daily") == "sandbox/story"
    served_by(app, "daily")
    listed = app.admin.get("/api/models/alias").get_json()
    assert ([row["hits"] for row in listed["aliases"]], listed["total"]) == ([2], 1)
    assert app.admin.get("/api/settings/model-aliases").get_json() == listed
    again = app.admin.put("/api/settings/model-aliases", json={"alias": "daily", "model": "sandbox/echo"})
    changed = again.get_json()["alias"]
    assert (changed["id"], changed["target"], changed["priority"]) == (made["id"], "sandbox/echo", 3)
    off = app.admin.patch("/api/models/alias", json={"pattern": "daily", "enabled": False}).get_json()["alias"]
    assert (off["target"], off["enabled"]) == ("sandbox/echo", False)
    assert app.admin.delete("/api/models/alias?pattern=daily").get_json() == {"success": True, "id": made["id"]}
    assert app.admin.get("/api/models/alias").get_json()["aliases"] == []
    assert error_of(app.admin.delete(f"/api/models/alias?id={made['id']}"))["code"] == "not_found"
    assert changes(app) == [("alias.changed", "alias")] * 4


def test_the_closest_pattern_counts(app: App) -> None:
    alias(app, "claude-*", "sandbox/story")
    alias(app, "claude-opus-*", "sandbox/echo")
    alias(app, "claude-opus-4-7", "sandbox/think")
    assert served_by(app, "claude-sonnet") == "sandbox/story"
    assert served_by(app, "claude-opus-9") == "sandbox/echo"
    assert served_by(app, "claude-opus-4-7") == "sandbox/think"


def test_a_catch_all_takes_what_nothing_else_does(app: App) -> None:
    combo(app, "mine")
    alias(app, "*", "combo/mine")
    assert served_by(app, "gpt-99") == "sandbox/echo"
    assert app.client().post("/v1/chat/completions", json={"model": "combo/nobody", "messages": []}).status_code == 404


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("auto", "sandbox/echo"),
        ("auto/x", "sandbox/echo"),
        ("combo/x", "sandbox/echo"),
        ("auto/*", "sandbox/echo"),
        ("x", "x"),
        ("x", "auto/magic"),
        ("x", "combo/nobody"),
        ("x", "gpt-*"),
        ("x", " "),
        ("b", "a"),
        ("b*", "a"),
        ("e6", "e1"),
    ],
)
def test_an_alias_that_leads_nowhere_or_in_circles_is_refused(app: App, pattern: str, target: str) -> None:
    alias(app, "a", "b")
    for number in range(1, 6):
        alias(app, f"e{number}", f"e{number + 1}x" if number == 5 else f"e{number + 1}")
    alias(app, "e5", "sandbox/echo")
    before = app.admin.get("/api/models/alias").get_json()
    response = app.admin.put("/api/models/alias", json={"pattern": pattern, "target": target})
    assert (response.status_code, error_of(response)["code"]) == (400, "validation_failed"), response.get_json()
    assert app.admin.get("/api/models/alias").get_json() == before


def test_a_pattern_may_match_its_own_target(app: App) -> None:
    alias(app, "gpt-*", "gpt-5")
    alias(app, "*", "sandbox/echo")
    assert served_by(app, "anything") == "sandbox/echo"


def test_bodies_and_queries_are_checked(app: App) -> None:
    for body in (
        {"pattern": "a"},
        {"target": "b"},
        {"pattern": "a", "target": "b", "prio": 1},
        {"pattern": "", "target": "b"},
    ):
        assert error_of(app.admin.put("/api/models/alias", json=body))["code"] == "validation_failed"
    for query in ("", "?pattern=a&id=b"):
        assert error_of(app.admin.delete(f"/api/models/alias{query}"))["code"] == "validation_failed"
    both = app.admin.put("/api/models/alias", json={"pattern": "a", "alias": "b", "target": "c"})
    assert error_of(both)["code"] == "validation_failed"


def test_hits_that_cannot_be_stored_are_kept(app: App) -> None:
    made = alias(app, "daily", "sandbox/echo")
    hits = app.own.alias_hits
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        if naps:
            raise KeyboardInterrupt
        naps.append(seconds)
        hits.note([made["id"], made["id"]])

    with pytest.raises(KeyboardInterrupt):
        hits.flush_forever(sleep=sleep)
    assert naps == [30.0]
    assert app.admin.get("/api/models/alias").get_json()["aliases"][0]["hits"] == 2


# --- mappings ------------------------------------------------------------------------------------------------------


def test_the_life_of_a_mapping(app: App) -> None:
    first, second = combo(app, "first"), combo(app, "second")
    body = {"pattern": "gpt-*", "comboId": first, "priority": 2, "description": "All of GPT"}
    response = app.admin.post("/api/model-combo-mappings", json=body)
    assert response.status_code == 201
    made = response.get_json()["mapping"]
    assert (made["comboName"], made["enabled"], made["description"]) == ("first", True, "All of GPT")
    alias(app, "gpt-*", "nobody/x", priority=2)
    assert served_by(app, "gpt-77") == "sandbox/echo", "mappings come first among equals"
    path = f"/api/model-combo-mappings/{made['id']}"
    assert app.admin.get(path).get_json()["mapping"] == made
    assert app.admin.get("/api/model-combo-mappings").get_json()["mappings"] == [made]
    changed = app.admin.put(path, json={"comboId": second, "enabled": False, "description": None}).get_json()["mapping"]
    assert (changed["comboName"], changed["enabled"], changed["description"]) == ("second", False, None)
    app.admin.delete(f"/api/combos/{second}")
    assert error_of(app.admin.get(path))["code"] == "not_found", "the combo took it along"
    assert error_of(app.admin.delete(path))["code"] == "not_found"
    for wrong in (
        {"pattern": "a*", "comboId": "combo_x"},
        {"pattern": "auto/*", "comboId": first},
        {"pattern": "a", "comboId": first, "x": 1},
        {"comboId": first},
    ):
        assert error_of(app.admin.post("/api/model-combo-mappings", json=wrong))["code"] == "validation_failed"
    assert ("alias.changed", "mapping") in changes(app)


# --- chains --------------------------------------------------------------------------------------------------------


def test_the_life_of_a_chain(app: App) -> None:
    body = {"name": "Night", "models": ["sandbox/echo", "combo/x", "auto/cheap"], "match": ["gpt-*"], "order": 4}
    response = app.admin.post("/api/fallback/chains", json=body)
    assert response.status_code == 201
    made = response.get_json()["chain"]
    assert {name: made[name] for name in body} == body
    path = f"/api/fallback/chains/{made['id']}"
    assert app.admin.get(path).get_json()["chain"] == made
    plain = app.admin.post("/api/fallback/chains", json={"name": "All", "models": ["auto"]}).get_json()["chain"]
    assert (plain["match"], plain["order"], plain["enabled"]) == (["*"], 0, True)
    listed = app.admin.get("/api/fallback/chains").get_json()
    assert [chain["name"] for chain in listed["chains"]] == ["All", "Night"]
    taken = app.admin.put(path, json={"name": "All"})
    assert (taken.status_code, error_of(taken)["details"]) == (409, {"field": "name"})
    assert app.admin.patch(path, json={"enabled": False}).get_json()["chain"]["enabled"] is False
    assert app.admin.delete(path).get_json()["success"] is True
    assert error_of(app.admin.get(path))["code"] == "not_found"
    assert changes(app) == [("chain.changed", "chain")] * 4


def test_a_chain_of_one_model(app: App) -> None:
    body = {
        "model": "anthropic/claude-x",
        "chain": [
            {"provider": "groq", "priority": 9},
            {"provider": "deepseek", "priority": 1},
            {"provider": "openai", "enabled": False},
            {"provider": "sandbox", "priority": 80},
        ],
    }
    made = app.admin.post("/api/fallback/chains", json=body).get_json()["chain"]
    assert made["models"] == ["ds/claude-x", "groq/claude-x", "sandbox/claude-x"]
    assert made["match"] == ["anthropic/claude-x"]
    again = {"model": "anthropic/claude-x", "chain": [{"provider": "sandbox"}]}
    changed = app.admin.post("/api/fallback/chains", json=again).get_json()["chain"]
    assert (changed["id"], changed["models"]) == (made["id"], ["sandbox/claude-x"])
    gone = app.admin.delete("/api/fallback/chains", json={"model": "anthropic/claude-x"})
    assert gone.get_json() == {"success": True, "id": made["id"]}
    missing = app.admin.delete("/api/fallback/chains", json={"model": "anthropic/claude-x"})
    assert error_of(missing)["code"] == "not_found"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "models": []},
        {"name": "x", "models": ["auto", "sandbox/echo"]},
        {"name": "x", "models": ["auto/magic"]},
        {"name": "x", "models": ["gpt-*"]},
        {"name": "x", "models": ["a"], "match": []},
        {"name": "x", "models": ["a"], "order": -1},
        {"models": ["a"]},
        {"name": "x", "models": ["a"], "modls": []},
        {"model": "m", "chain": []},
        {"model": "m*", "chain": [{"provider": "sandbox"}]},
        {"model": "m", "chain": [{"provider": "nobody"}]},
        {"model": "m", "chain": [{"provider": "sandbox", "priority": 0}]},
        {"model": "m", "chain": [{"provider": "sandbox", "enabled": False}]},
    ],
)
def test_a_chain_that_cannot_be_is_refused(app: App, body: dict[str, Any]) -> None:
    response = app.admin.post("/api/fallback/chains", json=body)
    assert (response.status_code, error_of(response)["code"]) == (400, "validation_failed")
    assert app.admin.get("/api/fallback/chains").get_json()["total"] == 0


def test_a_chain_serves_what_else_would_fail(app: App) -> None:
    app.admin.post("/api/fallback/chains", json={"name": "c", "models": ["sandbox/echo"], "match": ["sandbox/fail-*"]})
    assert served_by(app, "sandbox/fail-503") == "sandbox/echo"
