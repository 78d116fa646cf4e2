"""The configuration as a document: no secrets in it, the same from equal servers, applied as a whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app

EXPORT = "/api/settings/export-json"
IMPORT = "/api/settings/import-json"
EMPTY = {
    "version": 1,
    "settings": {},
    "nodes": [],
    "providers": [],
    "combos": [],
    "aliases": [],
    "mappings": [],
    "chains": [],
    "budgets": [],
    "tokenLimits": [],
    "prices": {},
}
NODE = {
    "name": "Mine",
    "prefix": "mine",
    "type": "openai-compatible",
    "baseUrl": "http://127.0.0.1:9/v1",
    "isLocal": True,
}


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


@pytest.fixture
def other(settings: Settings, tmp_path: Path) -> Iterator[App]:
    """Another server."""
    with whole_app(replace(settings, data_dir=tmp_path / "other")) as built:
        yield built


def export(app: App) -> dict[str, Any]:
    response = app.admin.get(EXPORT)
    assert response.status_code == 200
    found: dict[str, Any] = response.get_json()
    return found


def apply(app: App, document: dict[str, Any], **options: Any) -> dict[str, Any]:
    response = app.admin.post(IMPORT, json={"configuration": document, **options})
    assert response.status_code == 200, response.get_json()
    found: dict[str, Any] = response.get_json()
    return found


def refused(app: App, document: dict[str, Any], status: int = 400, **options: Any) -> list[str]:
    """Return the fields that a document is refused for; nothing has changed."""
    before, rows = export(app), app.own.audit.entries(limit=1)[1]
    response = app.admin.post(IMPORT, json={"configuration": document, **options})
    assert response.status_code == status, response.get_json()
    assert export(app) == before
    assert app.own.audit.entries(limit=1)[1] == rows
    return [detail["field"] for detail in error_of(response).get("details", [])]


def done(response: Any) -> Any:
    assert response.status_code < 300, response.get_json()
    return response.get_json()


@pytest.fixture
def full(app: App) -> dict[str, Any]:
    """A server with something of everything, as a document."""
    admin = app.admin
    sections = {
        "general": {"timeZone": "Europe/Berlin"},
        "ai": {"systemPromptEnabled": True, "systemPromptText": "Be kind."},
        "routing": {"stickyLimit": 7, "providers": {"groq": {"blocked": True}}},
        "resilience": {"profile": "aggressive", "requestQueue": {"maxWaitMs": 5}},
        "budgets": {"unpriced": "allow"},
    }
    done(admin.patch("/api/settings", json=sections))
    done(admin.put("/api/settings/feature-flags", json={"flags": {"hedging": False}}))
    done(admin.put("/api/settings/ip-filter", json={"enabled": True, "list": ["198.51.100.0/24"]}))
    done(admin.put("/api/settings/combo-defaults", json={"config": {"maxRetries": 2}, "strategy": "random"}))
    done(admin.patch("/api/combos/auto/auto/fast", json={"exploration": 0.1, "exclude": {"providers": ["groq"]}}))
    node = done(admin.post("/api/provider-nodes", json={**NODE, "customHeaders": {"X-Team": "header-secret-1"}}))[
        "node"
    ]
    done(admin.post("/api/providers", json={"provider": node["id"], "apiKey": "key-secret-0123456789", "name": "Main"}))
    done(admin.post("/api/providers", json={"provider": node["id"], "name": "Open", "priority": 5}))
    key = {"provider": "groq", "apiKey": "gsk_secret0123456789", "name": "G", "requestsPerMinute": 30}
    groq = done(admin.post("/api/providers", json=key))["connection"]
    steps = ["mine/large", {"model": "groq/llama-3.3-70b-versatile", "connectionId": groq["id"], "weight": 2}]
    base = done(admin.post("/api/combos", json={"name": "base", "models": steps, "strategy": "weighted"}))
    top = {"name": "a top", "models": [{"kind": "combo-ref", "comboName": "base"}, {"kind": "auto", "channel": "auto"}]}
    done(admin.post("/api/combos", json={**top, "isDefault": True, "config": {"maxRetries": 1}}))
    done(admin.put("/api/models/alias", json={"pattern": "gpt-*", "target": "combo/base", "priority": 3}))
    done(admin.post("/api/model-combo-mappings", json={"pattern": "x-*", "comboId": base["id"]}))
    done(admin.post("/api/fallback/chains", json={"name": "last", "models": ["sandbox/echo"], "match": ["gpt-*"]}))
    team = done(admin.post("/api/keys", json={"name": "team"}))["id"]
    done(admin.post("/api/usage/budget", json={"keyId": "*", "limit": 5.25, "period": "daily"}))
    done(admin.post("/api/usage/budget", json={"keyId": team, "limit": 1, "period": "weekly", "warningThreshold": 0.5}))
    limit = {"keyId": team, "tokenLimit": 5, "period": "daily", "scopeType": "provider", "scopeValue": "mine"}
    done(admin.post("/api/usage/token-limits", json=limit))
    tiers = [{"above": 1000, "input": 0.7}]
    price = {"input": 0.25, "output": 1, "cached": 0.125, "tiers": tiers}
    done(
        admin.patch("/api/pricing", json={"groq": {"llama-3.3-70b-versatile": price}, "mine": {"large": {"input": 2}}})
    )
    return export(app)


def without_pins(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document that names no connection another server lacks."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for combo in copy["combos"]:
        for step in combo["models"]:
            if isinstance(step, dict):
                step.pop("connection", None)
    return copy


def test_a_fresh_server_has_an_empty_document(app: App) -> None:
    assert export(app) == EMPTY
    assert apply(app, EMPTY, prune=True) == {"changes": [], "warnings": [], "applied": True}


def test_the_document_names_things_and_holds_no_secret_and_no_id(app: App, full: dict[str, Any]) -> None:
    text = json.dumps(full)
    assert "secret" not in text
    for kind in ("conn_", "node_", "combo_", "key_", "alias_", "map_", "chain_", "step_", "tl_"):
        assert f'"{kind}' not in text
    assert full["nodes"] == [{**NODE, "headers": ["X-Team"]}]
    assert [(one["provider"], one["name"], one.get("auth")) for one in full["providers"]] == [
        ("groq", "G", None),
        ("mine", "Main", None),
        ("mine", "Open", "none"),
    ]
    assert full["combos"][0]["models"] == [
        "mine/large",
        {"model": "groq/llama-3.3-70b-versatile", "connection": "groq/G", "weight": 2},
    ]
    assert full["combos"][1]["models"] == [{"combo": "base"}, {"channel": "auto"}]
    assert full["budgets"] == [
        {"scope": "all", "period": "daily", "limit": 5.25, "timeZone": "Europe/Berlin"},
        {"scope": "key:team", "period": "weekly", "limit": 1, "warningThreshold": 0.5, "timeZone": "Europe/Berlin"},
    ]
    assert full["tokenLimits"] == [
        {"scope": "key:team", "of": "provider", "value": "mine", "period": "daily", "limit": 5}
    ]
    assert full["prices"]["groq"]["llama-3.3-70b-versatile"] == {
        "input": 0.25,
        "output": 1,
        "cached": 0.125,
        "tiers": [{"above": 1000, "input": 0.7}],
    }
    assert full["settings"]["ipFilter"] == {"enabled": True, "mode": "block", "list": ["198.51.100.0/24"]}
    assert full["settings"]["channels"] == {"auto/fast": {"exploration": 0.1, "exclude": {"providers": ["groq"]}}}
    assert full["settings"]["routing"] == {"stickyLimit": 7, "providers": {"groq": {"blocked": True}}}


def test_applying_what_is_there_changes_nothing(app: App, full: dict[str, Any]) -> None:
    version = app.admin.get("/api/settings").get_json()["version"]
    before = app.own.audit.entries(limit=1)[1]
    for prune in (False, True):
        outcome = apply(app, full, prune=prune)
        assert (outcome["changes"], outcome["applied"]) == ([], True)
        assert outcome["warnings"] == []
    assert export(app) == full
    assert app.own.audit.entries(limit=1)[1] == before, "and nothing is told of"
    assert app.admin.get("/api/settings").get_json()["version"] > version


def test_another_server_becomes_the_same(app: App, other: App, full: dict[str, Any]) -> None:
    document = without_pins(full)
    tried = apply(other, document, dryRun=True)
    assert (tried["applied"], export(other)) == (False, EMPTY)
    assert other.own.audit.entries(limit=1, action="combo.created")[1] == 0
    outcome = apply(other, document)
    assert outcome["changes"] == tried["changes"]
    assert {(one["kind"], one["action"]) for one in outcome["changes"]} >= {
        ("setting", "create"),
        ("node", "create"),
        ("connection", "create"),
        ("combo", "create"),
        ("alias", "create"),
        ("mapping", "create"),
        ("chain", "create"),
        ("budget", "create"),
        ("price", "create"),
    }
    assert {(one["kind"], one["name"]) for one in outcome["warnings"]} == {
        ("node", "mine"),
        ("connection", "groq/G"),
        ("connection", "mine/Main"),
        ("budget", "key:team weekly"),
        ("token_limit", "key:team provider mine daily"),
    }
    assert other.own.audit.entries(limit=1, action="combo.created")[1] == 2
    made = export(other)
    expected = without_pins(full)
    expected["providers"] = [one for one in full["providers"] if one["name"] == "Open"]
    expected["budgets"] = full["budgets"][:1]
    expected["tokenLimits"] = []
    del expected["nodes"][0]["headers"]
    assert made == expected
    again = apply(other, document)
    assert again["changes"] == []
    assert other.own.inference.shaping is not None, "what was set holds"
    assert other.own.addresses.verdicts.refuses("198.51.100.9", 0.0)
    done(other.admin.post("/api/keys", json={"name": "team"}))
    assert {one["kind"] for one in apply(other, document)["changes"]} == {"budget", "token_limit"}


def test_a_report_says_what_differs(app: App, full: dict[str, Any]) -> None:
    full["settings"]["general"]["timeZone"] = "UTC"
    full["combos"][0]["strategy"] = "random"
    full["combos"].reverse()
    full["providers"][0]["requestsPerMinute"] = 60
    full["providers"][1]["priority"] = 9
    full["aliases"][0] = {"pattern": "gpt-*", "target": "combo/base"}
    full["chains"][0]["enabled"] = False
    full["budgets"][0]["limit"] = 6
    full["nodes"][0]["name"] = "Ours"
    full["prices"]["mine"]["large"] = {"output": 3}
    full["mappings"][0]["description"] = "all of x"
    full["tokenLimits"][0]["limit"] = 9
    outcome = apply(app, full)
    found = {(one["kind"], one["name"]): one.get("fields") for one in outcome["changes"]}
    assert {one["action"] for one in outcome["changes"]} == {"update"}
    assert found == {
        ("setting", "general.timeZone"): {"value": ["Europe/Berlin", "UTC"]},
        ("node", "mine"): {"name": ["Mine", "Ours"]},
        ("connection", "groq/G"): {"requestsPerMinute": [30, 60]},
        ("connection", "mine/Main"): {"priority": [1, 9]},
        ("combo", "base"): {"strategy": ["weighted", "random"]},
        ("combo", "*"): {"order": [["base", "a top"], ["a top", "base"]]},
        ("alias", "gpt-*"): {"priority": [3, 0]},
        ("mapping", "x-* → base"): {"description": [None, "all of x"]},
        ("chain", "last"): {"enabled": [True, False]},
        ("budget", "all daily"): {"limit": [5.25, 6]},
        ("token_limit", "key:team provider mine daily"): {"limit": [5, 9]},
        ("price", "mine/large"): {"input": [2, None], "output": [None, 3]},
    }
    assert export(app)["combos"][0]["name"] == "a top"
    assert apply(app, full)["changes"] == []
    row = app.own.connections.all(provider="groq")[0]
    assert row.credential is not None, "a connection keeps its credential"


def test_what_the_document_does_not_name_goes_with_prune_only(app: App, full: dict[str, Any]) -> None:
    assert apply(app, EMPTY)["changes"] == []
    kept = apply(app, {"version": 1, "aliases": []}, prune=True)
    assert [(one["kind"], one["action"]) for one in kept["changes"]] == [("alias", "delete")]
    outcome = apply(app, EMPTY, prune=True)
    assert {(one["kind"], one["name"]) for one in outcome["warnings"]} == {
        ("connection", "groq/G"),
        ("connection", "mine/Main"),
        ("node", "mine"),
    }
    left = export(app)
    assert [one["name"] for one in left["providers"]] == ["G", "Main"]
    assert left["settings"] == full["settings"], "sections that a document does not have are left alone"
    sections: dict[str, Any] = {name: {} for name in full["settings"] if name != "ipFilter"}
    apply(app, {"version": 1, "settings": {**sections, "ipFilter": {"enabled": False, "list": []}}}, prune=True)
    assert export(app) == {**EMPTY, "nodes": full["nodes"], "providers": left["providers"]}


def test_combos_may_stand_in_any_order(app: App) -> None:
    combos = [
        {"name": "c", "models": [{"combo": "b"}]},
        {"name": "b", "models": [{"combo": "a"}]},
        {"name": "a", "models": ["sandbox/echo"]},
    ]
    apply(app, {"version": 1, "combos": combos})
    assert [one["name"] for one in export(app)["combos"]] == ["c", "b", "a"]
    assert done(
        app.client().post("/v1/chat/completions", json={"model": "c", "messages": [{"role": "user", "content": "hi"}]})
    )


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_done(app: App) -> None:
    document = {
        "version": 1,
        "settings": {
            "general": {"timeZone": "Nowhere"},
            "routing": {"providers": {"nobody": {"blocked": True}}},
            "colours": {},
        },
        "nodes": [NODE, {**NODE, "prefix": "groq"}, NODE],
        "providers": [{"provider": "nobody", "name": "x"}],
        "combos": [{"name": "loop", "models": [{"combo": "loop"}]}, {"name": "ok", "models": ["sandbox/echo"]}],
        "aliases": [{"pattern": "auto", "target": "x"}, {"pattern": "y", "target": "combo/none"}],
        "mappings": [{"pattern": "z", "combo": "none"}],
        "chains": [{"name": "c", "models": ["auto", "x"]}],
        "budgets": [{"scope": "all", "period": "daily", "limit": 1, "resetTime": "25:00"}],
        "tokenLimits": [{"scope": "all", "of": "provider", "period": "daily", "limit": 1}],
        "prices": {"nobody": {"m": {"input": 1}}},
    }
    fields = refused(app, document)
    assert [field.split(".")[0].split("[")[0] for field in fields] == [
        "settings",
        "nodes",
        "nodes",
        "providers",
        "settings",
        "settings",
        "combos",
        "aliases",
        "aliases",
        "mappings",
        "chains",
        "budgets",
        "tokenLimits",
        "prices",
    ]
    assert "settings.general.timeZone" in fields
    assert "nodes[groq]" in fields
    assert "aliases[y].target" in fields


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"version": 2},
        {"version": 1, "colour": 1},
        {"version": 1, "combos": [{"name": "x", "models": []}]},
        {"version": 1, "combos": [{"name": "x", "models": [{"model": "a", "combo": "b"}]}]},
        {"version": 1, "combos": [{"name": "x", "models": [{"colour": "a"}]}]},
        {"version": 1, "combos": [{"name": "x", "models": [5]}]},
        {"version": 1, "combos": [{"name": "x", "models": ["a"], "id": "combo_1"}]},
        {"version": 1, "providers": [{"provider": "groq", "name": "x", "apiKey": "secret"}]},
        {"version": 1, "nodes": [{**NODE, "customHeaders": {"a": "b"}}]},
        {"version": 1, "settings": {"general": 5}},
        {"version": 1, "settings": {"channels": {"auto/fast": 5}}},
        {"version": 1, "settings": {"channels": {"auto/none": {}}}},
        {"version": 1, "settings": {"channels": {"auto/fast": {"colour": 5}}}},
        {"version": 1, "settings": {"routing": {"colour": 5}}},
        {"version": 1, "settings": {"comboDefaults": {"colour": 5}}},
        {"version": 1, "settings": {"security": {"requireLogin": False}}},
        {"version": 1, "settings": {"ipFilter": {"list": ["x"]}}},
        {"version": 1, "prices": {"groq": {"m": {"colour": 5}}}},
        {"version": 1, "prices": {"groq": 5}},
        {"version": 1, "prices": []},
    ],
)
def test_a_document_of_another_shape_is_refused(app: App, document: dict[str, Any]) -> None:
    assert refused(app, document)


def test_a_connection_that_a_combo_pins_must_be_there(app: App) -> None:
    combo = {"name": "c", "models": [{"model": "groq/x", "connection": "groq/G"}]}
    assert refused(app, {"version": 1, "combos": [combo]}) == ["combos[c].models"]


def test_a_forbidden_address_is_named(app: App) -> None:
    node = {**NODE, "baseUrl": "http://169.254.169.254/v1"}
    response = app.admin.post(IMPORT, json={"configuration": {"version": 1, "nodes": [node]}})
    assert response.status_code == 422
    assert "'mine'" in error_of(response)["message"]
    wrong = {**NODE, "baseUrl": "https://example.com/v1?x=1"}
    assert refused(app, {"version": 1, "nodes": [wrong]}) == ["nodes[mine].baseUrl"]


def test_what_a_variable_decides_is_left_and_said(settings: Settings) -> None:
    sources = {"app_log_level": "x"}
    with whole_app(settings, sources=sources, app_log_level="error", rate_limit_max_wait_ms=7) as app:
        document = {
            "version": 1,
            "settings": {
                "advanced": {"logLevel": "debug", "answerTimeoutMs": 9},
                "resilience": {"requestQueue": {"maxWaitMs": 8, "maxQueueDepth": 3}},
            },
        }
        outcome = apply(app, document)
        assert [one["name"] for one in outcome["warnings"]] == [
            "advanced.logLevel",
            "resilience.requestQueue.maxWaitMs",
        ]
        assert "APP_LOG_LEVEL" in outcome["warnings"][0]["message"]
        assert "RATE_LIMIT_MAX_WAIT_MS" in outcome["warnings"][1]["message"]
        assert export(app)["settings"] == {
            "advanced": {"answerTimeoutMs": 9},
            "resilience": {"requestQueue": {"maxQueueDepth": 3}},
        }


def test_a_document_does_not_lock_its_sender_out(settings: Settings) -> None:
    with whole_app(settings, host="0.0.0.0") as app:
        document = {"version": 1, "settings": {"ipFilter": {"enabled": True, "mode": "allow", "list": ["10.0.0.0/8"]}}}
        far = app.client(app.admin_key, address="198.51.100.9")
        refusal = far.post(IMPORT, json={"configuration": document})
        assert refusal.status_code == 400
        assert "lock you out" in error_of(refusal)["message"]
        assert far.post(IMPORT, json={"configuration": document, "force": True}).status_code == 200
        assert far.get(EXPORT).status_code == 403
        assert export(app)["settings"]["ipFilter"]["enabled"] is True, "this host still passes"


def test_two_connections_of_one_name_are_left_alone(app: App) -> None:
    done(app.admin.post("/api/provider-nodes", json=NODE))
    for _ in range(2):
        done(app.admin.post("/api/providers", json={"provider": "mine", "name": "twin"}))
    twin = {"provider": "mine", "name": "twin", "priority": 50, "auth": "none"}
    document = {"version": 1, "providers": [twin]}
    outcome = apply(app, document)
    assert (outcome["changes"], outcome["warnings"][0]["name"]) == ([], "mine/twin")
    assert refused(app, {**document, "providers": [twin, twin]}) == ["providers[mine/twin]"]


def test_budgets_of_keys_with_one_name_go_by_their_ids(app: App) -> None:
    ids = [done(app.admin.post("/api/keys", json={"name": "twin"}))["id"] for _ in range(2)]
    done(app.admin.post("/api/usage/budget", json={"keyId": ids[0], "limit": 1, "period": "daily"}))
    document = export(app)
    assert document["budgets"][0]["scope"] == f"key:{ids[0]}"
    document["budgets"][0]["limit"] = 2
    assert apply(app, document)["changes"][0]["name"] == f"key:{ids[0]} daily"
    ambiguous = {"version": 1, "budgets": [{"scope": "key:twin", "period": "daily", "limit": 3}]}
    assert apply(app, ambiguous)["warnings"][0]["kind"] == "budget"


@pytest.mark.parametrize("scope", ["read", "write"])
def test_only_an_admin_sees_or_applies_it(app: App, scope: str) -> None:
    token = app.admin.post("/api/cli/tokens", json={"name": "t", "scope": scope}).get_json()["token"]
    assert app.client(token).get(EXPORT).status_code == 403
    assert app.client(token).post(IMPORT, json={"configuration": EMPTY}).status_code == 403
