"""`/api/settings`: what holds for routing as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.routing.options import AccountStrategy
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def routing(app: App, **fields: Any) -> dict[str, Any]:
    response = app.admin.patch("/api/settings", json={"routing": fields})
    assert response.status_code == 200, response.get_json()
    found: dict[str, Any] = response.get_json()["settings"]["routing"]
    return found


def test_accounts_are_ordered_as_it_is_set(app: App) -> None:
    changed = routing(
        app,
        accountStrategy="p2c",
        stickyLimit=5,
        sessionAffinityTtlMs=0,
        cacheAffinity=False,
        switchMargin=0.1,
        providers={"groq": {"accountStrategy": "round-robin", "stickyLimit": 2}},
    )
    assert (changed["accountStrategy"], changed["stickyLimit"], changed["cacheAffinity"]) == ("p2c", 5, False)
    assert changed["providers"] == {"groq": {"accountStrategy": "round-robin", "stickyLimit": 2, "blocked": False}}
    rules = app.own.routing.resolvers.current.rules
    assert rules.of("groq") == (AccountStrategy.ROUND_ROBIN, 2)
    assert rules.of("openai") == (AccountStrategy.P2C, 5)
    assert (rules.affinity_ttl_ms, rules.switch_margin) == (0, 0.1)
    back = routing(app, accountStrategy=None, stickyLimit=None, switchMargin=None, providers={"groq": None})
    assert (back["accountStrategy"], back["stickyLimit"], back["switchMargin"]) == ("fill-first", 3, 0.05)
    assert back["providers"] == {}
    assert app.admin.get("/api/settings").get_json()["settings"]["routing"] == back
    flat = app.admin.put("/api/settings", json={"stickyLimit": 7}).get_json()
    assert flat["settings"]["routing"]["stickyLimit"] == 7
    entries, _ = app.own.audit.entries(limit=1, action="settings.changed")
    assert (entries[0].target_id, entries[0].details) == ("routing", {"stickyLimit": [3, 7]})


def test_a_blocked_provider_is_out_at_once(app: App) -> None:
    body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}]}
    assert app.client().post("/v1/chat/completions", json=body).status_code == 200
    routing(app, providers={"sandbox": {"blocked": True}})
    refused = app.client().post("/v1/chat/completions", json=body)
    assert (refused.status_code, refused.headers["X-OmniRoute-Error-Code"]) == (403, "model_not_allowed")


@pytest.mark.parametrize(
    "fields",
    [
        {"accountStrategy": "magic"},
        {"stickyLimit": 0},
        {"switchMargin": 2},
        {"ambiguousModelPolicy": "guess"},
        {"providers": {"nobody": {}}},
        {"providers": {"groq": {"blocked": 1}}},
        {"providers": {"groq": {"stickyLimit": True}}},
        {"providers": {"groq": {"accountStrategy": "x"}}},
        {"providers": {"groq": {"colour": 1}}},
        {"providers": {"groq": 5}},
        {"colour": "red"},
    ],
)
def test_what_is_wrong_is_refused(app: App, fields: dict[str, Any]) -> None:
    response = app.admin.patch("/api/settings", json={"routing": fields})
    assert (response.status_code, error_of(response)["code"]) == (400, "validation_failed")


def test_combos_have_defaults(app: App) -> None:
    path = "/api/settings/combo-defaults"
    assert app.admin.get(path).get_json() == {"strategy": "priority", "config": {}, "strategies": {}}
    body = {"strategy": "random", "config": {"maxRetries": 2}, "strategies": {"random": {"maxAttempts": 3}}}
    assert app.admin.put(path, json=body).get_json() == body
    made = app.admin.post("/api/combos", json={"name": "c", "models": ["sandbox/echo"]}).get_json()
    assert (made["strategy"], made["config"]) == ("random", {})
    block = app.own.routing.resolvers.current.block_of(app.own.combos.get(made["id"]))
    assert (block.config.max_retries, block.config.max_attempts) == (2, 3)
    assert block.levels == {"maxRetries": "global", "maxAttempts": "strategy"}
    assert app.admin.patch(path, json={"config": None}).get_json()["config"] == {}
    wrong_ones: list[dict[str, Any]] = [
        {"strategy": "magic"},
        {"config": {"maxRetires": 1}},
        {"config": {"maxRetries": 99}},
        {"strategies": {"magic": {}}},
        {"strategies": {"random": 1}},
        {"strategies": {"random": {"x": 1}}},
        {"colour": 1},
    ]
    for wrong in wrong_ones:
        assert error_of(app.admin.put(path, json=wrong))["code"] == "validation_failed"
    assert error_of(app.admin.put(path, json={"config": {"handoffModel": "x"}}))["code"] == "not_supported"
