"""`/api/models`, `/api/provider-models`, overrides, and the models of connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.errors import OmniRouteError, UpstreamUnreachable
from omniroute.services.access_tokens import Scope
from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.services.providers import ANSWER, EVENTS, Reply, ScriptedTransport, json_reply

KEY = "sk-live-0123456789abcdefghij"
KNOWN = "llama-3.3-70b-versatile"


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        built.own.connections.create({"provider": "groq", "apiKey": KEY}, SYSTEM)
        yield built


@pytest.fixture
def transport(app: App, monkeypatch: pytest.MonkeyPatch) -> ScriptedTransport:
    """A provider that lists two models and answers every call."""
    scripted = ScriptedTransport()
    monkeypatch.setattr(app.own.transport, "send", scripted.send)
    return scripted


def connection_id(app: App) -> str:
    return app.own.connections.all(provider="groq")[0].id


def models(app: App, query: str = "") -> list[dict[str, Any]]:
    answer = app.admin.get(f"/api/models?{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.get_json()["models"]
    return found


# --- /api/models -----------------------------------------------------------------------------------------------------


def test_one_model_of_the_list(app: App) -> None:
    app.own.aliases.put({"pattern": "fast", "target": f"groq/{KNOWN}"}, SYSTEM)
    (model,) = models(app, f"q={KNOWN}&provider=groq")
    assert model == {
        "id": f"groq/{KNOWN}",
        "modelId": KNOWN,
        "name": KNOWN,
        "provider": "groq",
        "providerName": "Groq",
        "type": "chat",
        "source": "builtin",
        "custom": False,
        "active": True,
        "hidden": False,
        "free": False,
        "contextLength": 131_072,
        "contextSource": "builtin",
        "maxOutputTokens": 32_768,
        "capabilities": [],
        "inputModalities": [],
        "price": {"input": 0.59, "output": 0.79, "cacheRead": None, "cacheWrite": None},
        "aliases": ["fast"],
        "health": {"state": "ok", "reason": None, "until": None},
    }


def test_filters_pages_and_orders_of_the_list(app: App) -> None:
    answer = app.admin.get("/api/models?limit=3&offset=1&sort=id")
    document = answer.get_json()
    assert (len(document["models"]), document["limit"], document["offset"]) == (3, 3, 1)
    assert answer.headers["X-Total-Count"] == str(document["total"])
    assert document["total"] > 2000
    names = [model["id"] for model in document["models"]]
    assert names == sorted(names)
    assert {model["provider"] for model in models(app, "active=true&limit=200")} == {"groq", "sandbox"}
    assert {model["health"]["state"] for model in models(app, "active=false&limit=200")} == {"unavailable"}
    assert {model["type"] for model in models(app, "type=embedding&limit=200")} == {"embedding"}
    assert {model["provider"] for model in models(app, "provider=ds")} == {"deepseek"}
    assert models(app, "provider=nobody") == []
    assert models(app, "hidden=true") == []
    windows = [model["contextLength"] for model in models(app, "sort=-contextLength&limit=5")]
    assert windows == sorted(windows, reverse=True)


@pytest.mark.parametrize("query", ["type=car", "active=perhaps", "sort=colour", "limit=0"])
def test_queries_that_are_none(app: App, query: str) -> None:
    answer = app.admin.get(f"/api/models?{query}")
    assert answer.status_code == 400
    assert error_of(answer)["details"][0]["field"] == query.partition("=")[0]


def test_the_catalogue_in_one_piece(app: App) -> None:
    answer = app.admin.get("/api/models/catalog")
    document = answer.get_json()
    assert document["catalogVersion"] == answer.headers["X-Model-Catalog-Version"]
    assert document["catalog"]["groq"]["active"] is True
    again = app.admin.get("/api/models/catalog", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    app.own.custom_models.create({"provider": "groq", "modelId": "mine"}, SYSTEM)
    changed = app.admin.get("/api/models/catalog", headers={"If-None-Match": answer.headers["ETag"]})
    assert changed.status_code == 200
    assert "groq/mine" in [model["id"] for model in changed.get_json()["catalog"]["groq"]["models"]]


# --- tests of models -------------------------------------------------------------------------------------------------


def test_a_model_is_tested(app: App, transport: ScriptedTransport) -> None:
    answer = app.admin.post("/api/models/test", json={"model": KNOWN})
    body = answer.get_json()
    assert (answer.status_code, body["ok"], body["error"]) == (200, True, None)
    assert (body["model"], body["connectionId"]) == (f"groq/{KNOWN}", connection_id(app))
    assert body["latencyMs"] >= 0
    assert body["ttftMs"] >= 0
    assert [request.stream for request in transport.sent] == [False, True]
    assert app.own.connections.get(connection_id(app)).test_status == "untested", "it says nothing of the connection"


def test_a_model_that_fails(app: App, transport: ScriptedTransport) -> None:
    transport.handler = lambda _request: json_reply({"error": {"message": "no such model"}}, 404)
    body = app.admin.post("/api/models/test", json={"model": f"groq/{KNOWN}"}).get_json()
    assert (body["ok"], body["ttftMs"]) == (False, None)
    assert "no such model" in body["error"]
    assert body["errorCode"]
    assert len(transport.sent) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "nobody/x"}, 404, "model_not_found"),
        ({"model": KNOWN, "connectionId": "conn_none"}, 404, "not_found"),
        ({}, 400, "validation_failed"),
        ({"model": KNOWN, "mode": "x"}, 400, "validation_failed"),
    ],
)
def test_tests_that_cannot_be_made(app: App, body: Any, status: int, code: str) -> None:
    answer = app.admin.post("/api/models/test", json=body)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_many_models_are_tested_in_a_job(app: App, transport: ScriptedTransport) -> None:
    def answer(request: Any) -> Reply | OmniRouteError:
        if b"qwen" in request.body:
            return UpstreamUnreachable()
        return EVENTS if request.stream else ANSWER

    transport.handler = answer
    named = [f"groq/{KNOWN}", "groq/qwen/qwen3-32b", "nobody/x"]
    app.own.model_tests._spacing_s = 0.0
    started = app.admin.post("/api/models/test-all", json={"models": named})
    assert started.status_code == 202
    job = app.admin.get(f"/api/jobs/{started.get_json()['jobId']}").get_json()
    assert (job["kind"], job["state"]) == ("model-test", "succeeded")
    result = job["result"]
    assert (result["tested"], result["ok"], result["failed"], result["skipped"]) == (3, 1, 2, 0)
    assert [one["ok"] for one in result["results"]] == [True, False, False]
    assert result["results"][2]["errorCode"] == "model_not_found"


def test_the_models_of_a_provider_are_tested_up_to_a_number(
    app: App, transport: ScriptedTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport.handler = lambda request: EVENTS if request.stream else ANSWER
    monkeypatch.setattr("omniroute.services.model_tests.MOST_TESTED", 2)
    app.own.model_tests._spacing_s = 0.0
    started = app.admin.post("/api/models/test-all", json={"provider": "groq"}).get_json()
    result = app.admin.get(f"/api/jobs/{started['jobId']}").get_json()["result"]
    assert (result["tested"], result["ok"]) == (2, 2)
    assert result["skipped"] > 2
    assert all(one["model"].startswith("groq/") for one in result["results"])
    refused = app.admin.post("/api/models/test-all", json={"provider": "nobody"})
    assert (refused.status_code, error_of(refused)["details"][0]["field"]) == (400, "provider")


# --- declared models -------------------------------------------------------------------------------------------------


def test_the_life_of_a_declared_model(app: App) -> None:
    made = app.admin.post(
        "/api/provider-models",
        json={"provider": "groq", "modelId": "mine", "modelName": "Mine", "contextLength": 5000, "supportsTools": True},
    )
    assert made.status_code == 201
    model = made.get_json()["model"]
    assert (model["provider"], model["modelId"], model["modelName"]) == ("groq", "mine", "Mine")
    assert (model["supportsTools"], model["supportsVision"], model["apiFormat"]) == (True, None, None)
    listed = app.client().get("/v1/models/groq/mine").get_json()
    assert (listed["custom"], listed["context_length"], listed["context_source"]) == (True, 5000, "override")
    changed = app.admin.put(
        "/api/provider-models", json={"provider": "groq", "modelId": "mine", "apiFormat": "chat", "name": None}
    ).get_json()["model"]
    assert (changed["apiFormat"], changed["modelName"], changed["contextLength"]) == ("openai_chat", None, 5000)
    page = app.admin.get("/api/provider-models?provider=groq&q=min").get_json()
    assert ([one["modelId"] for one in page["models"]], page["total"]) == (["mine"], 1)
    gone = app.admin.delete("/api/provider-models?provider=groq&model=mine")
    assert gone.get_json() == {"removed": 1}
    assert app.client().get("/v1/models/groq/mine").status_code == 404


def test_the_window_of_a_declared_model_counts_where_requests_are_planned(app: App) -> None:
    body = {"provider": "groq", "modelId": "tiny", "contextLength": 1000}
    assert app.admin.post("/api/provider-models", json=body).status_code == 201
    steps = [{"model": "groq/tiny"}, {"model": f"groq/{KNOWN}"}]
    assert app.admin.post("/api/combos", json={"name": "both", "models": steps}).status_code == 201
    planned = app.admin.post("/api/routing/simulate", json={"model": "both", "promptTokens": 5000}).get_json()
    left_out = {step["model"]: step["reason"] for step in planned["path"] if step.get("reason")}
    assert left_out == {"groq/tiny": "context_too_small"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "", {"provider": "groq"}, 400),
        ("POST", "", {"provider": "groq", "modelId": "x", "contextLength": 0}, 400),
        ("POST", "", {"provider": "groq", "modelId": "x", "apiFormat": "morse"}, 400),
        ("POST", "", {"provider": "groq", "modelId": "x", "colour": 1}, 400),
        ("PUT", "", {"provider": "groq", "modelId": "nobody"}, 404),
        ("PATCH", "", {"isHidden": True}, 400),
        ("PATCH", "?provider=groq", {"isHidden": True, "modelIds": ["nobody"]}, 400),
        ("DELETE", "?model=x", None, 400),
        ("DELETE", "?provider=groq", None, 400),
        ("DELETE", "?provider=groq&model=x&all=true", None, 400),
        ("DELETE", "?provider=groq&model=x", None, 404),
    ],
)
def test_what_is_refused(app: App, method: str, path: str, body: Any, status: int) -> None:
    answer = app.admin.open(f"/api/provider-models{path}", method=method, json=body)
    assert answer.status_code == status
    assert error_of(answer)["code"] == ("not_found" if status == 404 else "validation_failed")


def test_a_model_is_declared_once(app: App) -> None:
    body = {"provider": "groq", "modelId": "mine"}
    assert app.admin.post("/api/provider-models", json=body).status_code == 201
    again = app.admin.post("/api/provider-models", json=body)
    assert (again.status_code, error_of(again)["code"]) == (409, "conflict")
    assert app.admin.delete("/api/provider-models?provider=groq&all=true").get_json() == {"removed": 1}


def test_a_hidden_model_is_on_no_list_and_refused(app: App) -> None:
    hide = {"modelIds": [KNOWN], "isHidden": True}
    assert app.admin.patch("/api/provider-models?provider=groq", json=hide).get_json() == {"updated": 1}
    assert app.client().get(f"/v1/models/groq/{KNOWN}").status_code == 404
    call = {"model": f"groq/{KNOWN}", "messages": [{"role": "user", "content": "Hi"}]}
    refused = app.client().post("/v1/chat/completions", json=call)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "model_not_allowed")
    (model,) = models(app, "hidden=true")
    assert (model["id"], model["active"]) == (f"groq/{KNOWN}", False)
    shown = app.admin.get("/api/provider-models?provider=groq").get_json()["overrides"]
    assert [(one["modelId"], one["isHidden"]) for one in shown] == [(KNOWN, True)]
    assert app.admin.patch("/api/provider-models", json={**hide, "provider": "groq", "isHidden": False}).get_json() == {
        "updated": 1
    }
    assert app.client().get(f"/v1/models/groq/{KNOWN}").status_code == 200


# --- overrides -------------------------------------------------------------------------------------------------------


def test_the_life_of_an_override(app: App) -> None:
    body = {"model": f"groq/{KNOWN}", "contextLength": 7000, "capabilities": {"vision": True, "tools": False}}
    made = app.admin.patch("/api/model-capability-overrides", json=body)
    assert made.status_code == 200
    override = made.get_json()["override"]
    assert (override["model"], override["contextLength"]) == (f"groq/{KNOWN}", 7000)
    assert override["capabilities"] == {"tools": False, "vision": True}
    windows = {
        app.client().get(f"/v1/models/groq/{KNOWN}").get_json()["context_length"],
        app.client().get(f"/v1beta/models/groq/{KNOWN}").get_json()["inputTokenLimit"],
        app.client()
        .post("/api/show", json={"model": f"groq/{KNOWN}"})
        .get_json()["model_info"]["omniroute.context_length"],
        next(iter(models(app, f"q={KNOWN}&provider=groq")))["contextLength"],
    }
    assert windows == {7000}
    page = app.admin.get("/api/model-capability-overrides?provider=groq&sort=modelId").get_json()
    assert (page["total"], page["overrides"][0]["modelId"]) == (1, KNOWN)
    dropped = app.admin.delete(f"/api/model-capability-overrides?model=groq/{KNOWN}")
    assert dropped.get_json()["override"]["contextLength"] is None
    assert app.admin.get("/api/model-capability-overrides").get_json()["overrides"] == []
    assert app.admin.delete(f"/api/model-capability-overrides?model=groq/{KNOWN}").status_code == 404
    assert app.admin.delete("/api/model-capability-overrides").status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"contextLength": 5},
        {"model": KNOWN, "contextLength": 5},
        {"model": "groq/x", "capabilities": {"flying": True}},
        {"model": "groq/x", "capabilities": {"tools": "yes"}},
        {"model": "groq/x", "contextLength": 1.5},
    ],
)
def test_overrides_that_are_refused(app: App, body: Any) -> None:
    answer = app.admin.patch("/api/model-capability-overrides", json=body)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "validation_failed")


# --- the models of a connection --------------------------------------------------------------------------------------


def test_a_list_is_read_on_demand(app: App, transport: ScriptedTransport) -> None:
    path = f"/api/providers/{connection_id(app)}"
    before = app.admin.get(f"{path}/models").get_json()
    assert before["sync"] is None
    assert not any(model["listed"] for model in before["models"])
    assert app.admin.post(f"{path}/sync-models").get_json() == {"added": 2, "removed": 0, "total": 2}
    after = app.admin.get(f"{path}/models").get_json()
    assert after["total"] == before["total"] + 2
    (live,) = [model for model in after["models"] if model["modelId"] == "model-a"]
    assert (live["source"], live["listed"], live["active"], live["id"]) == ("provider", True, True, "groq/model-a")
    assert live["firstSeenAt"] == live["lastSeenAt"] == after["sync"]["syncedAt"]
    assert (after["sync"]["found"], after["sync"]["error"]) == (2, None)
    assert "groq/model-a" in [model["id"] for model in app.client().get("/v1/models").get_json()["data"]]
    page = app.admin.get(f"{path}/models?limit=1&offset=2").get_json()
    assert (len(page["models"]), page["limit"], page["offset"]) == (1, 1, 2)
    assert len(transport.sent) == 1


def test_prices_of_a_list_are_in_force(app: App, transport: ScriptedTransport) -> None:
    priced = {"id": "model-a", "pricing": {"prompt": "0.0000005", "completion": "0.000002"}}
    transport.handler = lambda _request: json_reply({"data": [priced]})
    app.admin.post(f"/api/providers/{connection_id(app)}/sync-models")
    (row,) = app.admin.get("/api/pricing?source=provider").get_json()["prices"]
    assert (row["provider"], row["model"], row["input"], row["output"]) == ("groq", "model-a", 0.5, 2.0)
    assert row["source"] == "provider"


def test_a_reading_that_fails_says_so_and_changes_nothing(app: App, transport: ScriptedTransport) -> None:
    path = f"/api/providers/{connection_id(app)}"
    transport.handler = lambda _request: json_reply({"error": {"message": "slow down"}}, 429)
    answer = app.admin.post(f"{path}/sync-models")
    assert (answer.status_code, error_of(answer)["code"]) == (502, "provider_unreachable")
    document = app.admin.get(f"{path}/models").get_json()
    assert "slow down" in document["sync"]["error"]
    assert document["sync"]["syncedAt"] is None


def test_reading_anew_needs_an_admin(app: App, transport: ScriptedTransport) -> None:
    path = f"/api/providers/{connection_id(app)}/models"
    reader = app.client(app.own.access_tokens.create("reader", Scope.WRITE, None, SYSTEM).secret)
    assert reader.get(path).status_code == 200
    refused = reader.get(f"{path}?refresh=true")
    assert (refused.status_code, error_of(refused)["code"]) == (403, "scope_insufficient")
    assert transport.sent == []
    found = app.admin.get(f"{path}?refresh=true").get_json()
    assert found["sync"]["found"] == 2


def test_connections_and_providers_without_lists(app: App) -> None:
    assert app.admin.get("/api/providers/conn_none/models").status_code == 404
    assert app.admin.post("/api/providers/conn_none/sync-models").status_code == 404
    silent = app.own.connections.create({"provider": "codestral", "apiKey": KEY}, SYSTEM)
    answer = app.admin.post(f"/api/providers/{silent.id}/sync-models")
    assert (answer.status_code, error_of(answer)["code"]) == (400, "not_supported")
