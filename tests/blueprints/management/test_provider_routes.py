"""`/api/providers`, `/api/provider-nodes` and `/api/models` over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from omniroute.routing.events import AttemptFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.upstream import answer, fake_upstream, stream

KEY = "sk-live-0123456789abcdefghij"
WHOLE = answer(json.dumps({"id": "1", "choices": [], "usage": {}}).encode())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application for tests that leave nothing behind."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        yield built


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def connect(app: App, **fields: Any) -> dict[str, Any]:
    response = app.admin.post("/api/providers", json={"provider": "groq", "apiKey": KEY, **fields})
    assert response.status_code == 201, response.get_json()
    made: dict[str, Any] = response.get_json()["connection"]
    return made


def test_the_life_of_a_connection(app: App) -> None:
    made = connect(app, name="Main", concurrentRequests=None, group="team")
    assert made["apiKey"] == "sk-live-…ghij"
    assert (made["provider"], made["authType"], made["status"]) == ("groq", "apikey", "untested")
    assert (made["concurrentRequests"], made["group"], made["isActive"]) == (None, "team", True)
    assert made["proxyEnabled"] is True
    assert made["createdAt"].endswith("Z")
    path = f"/api/providers/{made['id']}"
    assert app.admin.get(path).get_json() == {"connection": made}
    changed = app.admin.put(path, json={"name": "Other", "apiKey": made["apiKey"], "group": None})
    assert changed.get_json()["connection"]["name"] == "Other"
    assert changed.get_json()["connection"]["group"] is None
    assert app.admin.patch(path, json={"isActive": False}).get_json()["connection"]["isActive"] is False
    gone = app.admin.delete(path)
    assert gone.status_code == 200
    assert gone.get_json()["affectedCombos"] == []
    assert error_of(app.admin.get(path))["code"] == "not_found"
    assert KEY not in json.dumps([made, changed.get_json()])


def test_lists_count_and_filter(app: App) -> None:
    first, second = connect(app), connect(app, provider="openai", isActive=False)
    response = app.admin.get("/api/providers")
    assert [row["id"] for row in response.get_json()["connections"]] == [first["id"], second["id"]]
    assert response.headers["X-Total-Count"] == "2"
    assert response.headers["Cache-Control"] == "no-store"

    def ids(query: str) -> list[str]:
        return [row["id"] for row in app.admin.get(f"/api/providers?{query}").get_json()["connections"]]

    assert ids("provider=openai") == [second["id"]]
    assert ids("active=true") == [first["id"]]
    assert ids("status=untested&limit=1&offset=1") == [second["id"]]
    assert ids("status=ok") == []
    assert ids("q=OPEN") == [second["id"]]
    assert ids("sort=-provider") == [second["id"], first["id"]]
    for query in ("status=fine", "active=maybe", "limit=0", "provider=nobody", "sort=apiKey"):
        assert error_of(app.admin.get(f"/api/providers?{query}"))["code"] == "validation_failed"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"provider": "groq", "apiKey": KEY, "priorty": 1}, "priorty"),
        ({"provider": "groq", "apiKey": KEY, "Priority": 1}, "Priority"),
        ({"provider": "groq", "apiKey": KEY, "priority": 101}, "priority"),
        ({"provider": "groq", "apiKey": KEY, "priority": "1"}, "priority"),
        ({"apiKey": KEY}, "provider"),
        ({"provider": "groq"}, "apiKey"),
        ({"provider": "nobody", "apiKey": KEY}, "provider"),
        ({"provider": "groq", "apiKey": KEY, "concurrentRequests": 2, "maxConcurrent": 1}, "maxConcurrent"),
        ({"provider": "groq", "apiKey": KEY, "providerData": {"x": 1}}, "providerData.x"),
    ],
)
def test_wrong_fields_are_named(shared: App, body: dict[str, Any], field: str) -> None:
    response = shared.admin.post("/api/providers", json=body)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (400, "validation_failed")
    assert field in [detail["field"] for detail in error["details"]]
    assert KEY not in response.get_data(as_text=True)
    assert shared.admin.get("/api/providers").get_json()["total"] == 0


def test_limits_of_a_connection_are_stored_and_shown(app: App) -> None:
    limits = {"requestsPerMinute": 60, "minTimeBetweenRequestsMs": 250, "concurrentRequests": 3}
    made = connect(app, requestsPerMinute=60, minTimeBetweenRequestsMs=250, maxConcurrent=3)
    assert {name: made[name] for name in limits} == limits
    path = f"/api/providers/{made['id']}"
    changed = app.admin.put(path, json={"requestsPerMinute": 90, "concurrentRequests": None}).get_json()["connection"]
    assert {name: changed[name] for name in limits} == {
        "requestsPerMinute": 90,
        "minTimeBetweenRequestsMs": 250,
        "concurrentRequests": None,
    }
    assert app.admin.get(path).get_json()["connection"]["requestsPerMinute"] == 90
    for wrong in (-1, 1.5, "60", 1_000_001):
        assert error_of(app.admin.put(path, json={"requestsPerMinute": wrong}))["code"] == "validation_failed"


def test_a_connection_that_rests_says_so(app: App) -> None:
    made = connect(app)
    board = app.own.routing.board
    account = app.own.directories.current.accounts_of("groq")[0]
    failure = Failure(
        "rate", FailureClass.RATE_LIMIT, message="Slow down.", retry_after_s=90.0, hint_source="retry-after"
    )
    board.record(AttemptFailed(account, "m", failure, time.time()))
    shown = app.admin.get(f"/api/providers/{made['id']}").get_json()["connection"]
    assert (shown["status"], shown["statusReason"], shown["backoffLevel"]) == ("cooling", "rate", 1)
    assert datetime.fromisoformat(shown["cooldownUntil"]).timestamp() > time.time() + 80
    assert (shown["lastError"]["code"], shown["lastError"]["message"]) == ("rate", "Slow down.")
    assert [row["id"] for row in app.admin.get("/api/providers?status=cooling").get_json()["connections"]] == [
        made["id"]
    ]
    shown = app.admin.post(f"/api/providers/{made['id']}/reset").get_json()["connection"]
    assert (shown["status"], shown["cooldownUntil"], shown["backoffLevel"]) == ("untested", None, 0)
    assert shown["lastError"] is None


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/api/providers/available", "DELETE", "GET, HEAD, OPTIONS"),
        ("/api/providers/available", "PUT", "GET, HEAD, OPTIONS"),
        ("/api/providers/available/", "PUT", "GET, HEAD, OPTIONS"),
        ("/api/providers/available", "POST", "GET, HEAD, OPTIONS"),
        ("/api/providers/reorder", "GET", "OPTIONS, POST"),
        ("/api/providers/validate", "PATCH", "OPTIONS, POST"),
        ("/api/provider-nodes/validate", "GET", "OPTIONS, POST"),
    ],
)
def test_the_name_of_a_route_is_never_read_as_an_id(shared: App, path: str, method: str, allowed: str) -> None:
    response = shared.admin.open(path, method=method)
    assert (response.status_code, error_of(response)["code"]) == (405, "method_not_allowed")
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize(
    ("data", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_json"),
        (b'{"provider":"groq","provider":"openai"}', "application/json", 400, "invalid_json"),
        (b'{"provider":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "application/json", 400, "invalid_json"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"provider=groq", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    ],
)
def test_unreadable_bodies(shared: App, data: bytes, content_type: str, status: int, code: str) -> None:
    response = shared.admin.post("/api/providers", data=data, content_type=content_type)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


def test_many_at_once(app: App) -> None:
    ids = [connect(app)["id"] for _ in range(3)]
    switched = app.admin.patch("/api/providers", json={"ids": [*ids[:2], "conn_none"], "isActive": False})
    assert switched.get_json() == {"updated": 2, "notFound": ["conn_none"]}
    ordered = app.admin.post("/api/providers/reorder", json={"provider": "groq", "ids": [ids[2], ids[0], ids[1]]})
    assert [row["id"] for row in ordered.get_json()["connections"]] == [ids[2], ids[0], ids[1]]
    assert app.admin.delete("/api/providers", json={"ids": ids[:2]}).get_json() == {
        "deleted": 2,
        "affectedCombos": [],
    }
    too_many = app.admin.delete("/api/providers", json={"ids": [str(n) for n in range(101)]})
    assert error_of(too_many)["code"] == "validation_failed"
    assert app.admin.get("/api/providers").get_json()["total"] == 1


def test_testing_through_a_node(app: App) -> None:
    events = stream(b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n")
    with fake_upstream(WHOLE, events, answer(b"{}", status=401)) as upstream:
        node = {"name": "Fake", "prefix": "fake", "type": "openai-compatible", "baseUrl": f"{upstream.url}/v1"}
        assert error_of(app.admin.post("/api/provider-nodes", json=node))["code"] == "url_blocked"
        created = app.admin.post("/api/provider-nodes", json={**node, "isLocal": True})
        assert created.status_code == 201
        made = connect(app, provider=created.get_json()["node"]["id"])
        assert made["prefix"] == "fake"
        path = f"/api/providers/{made['id']}"
        tested = app.admin.post(f"{path}/test", json={"model": "fake/m"}).get_json()
        assert tested["valid"] is True
        assert (tested["model"], tested["statusCode"], tested["refreshed"]) == ("m", 200, False)
        assert app.admin.get(path).get_json()["connection"]["status"] == "ok"
        failed = app.admin.post(f"{path}/test", json={"model": "m"}).get_json()
        assert (failed["valid"], failed["errorCode"], failed["statusCode"]) == (False, "auth", 401)
        assert "key" in failed["diagnosis"]
        shown = app.admin.get(path).get_json()["connection"]
        assert shown["status"] == "error"
        assert shown["lastError"]["at"].endswith("Z")
        reset = app.admin.post(f"{path}/reset").get_json()["connection"]
        assert (reset["status"], reset["lastError"]) == ("untested", None)
    authorization = {request.headers["authorization"] for request in upstream.received}
    assert authorization == {f"Bearer {KEY}"}


def test_validation_of_a_key_and_of_an_address(app: App) -> None:
    listing = answer(json.dumps({"data": [{"id": "m"}]}).encode())
    with fake_upstream(listing) as upstream:
        trial = {"baseUrl": f"{upstream.url}/v1", "type": "openai-compatible", "isLocal": True}
        found = app.admin.post("/api/provider-nodes/validate", json=trial).get_json()
        assert (found["reachable"], found["models"]) == (True, ["m"])
        body = {"provider": "vllm", "providerData": {"baseUrl": f"{upstream.url}/v1"}}
        found = app.admin.post("/api/providers/validate", json=body).get_json()
        assert found["models"] == ["m"]
    assert app.admin.get("/api/providers").get_json()["total"] == 0
    nobody = {**trial, "baseUrl": "http://127.0.0.1:1/v1"}
    unreachable = app.admin.post("/api/provider-nodes/validate", json=nobody).get_json()
    assert (unreachable["reachable"], unreachable["errorCode"]) == (False, "transport")


def test_the_life_of_a_node(app: App) -> None:
    node = {
        "name": "Mine",
        "prefix": "mine",
        "type": "anthropic-compatible",
        "baseUrl": "https://93.184.215.14/v1/",
        "customHeaders": {"X-Team": "secret-team-token-0123456789"},
    }
    made = app.admin.post("/api/provider-nodes", json=node).get_json()["node"]
    assert (made["baseUrl"], made["isLocal"]) == ("https://93.184.215.14/v1", False)
    assert made["customHeaders"] == {"X-Team": "secret-t…6789"}
    assert app.admin.get("/api/provider-nodes").get_json() == {"nodes": [made], "total": 1, "limit": 50, "offset": 0}
    path = f"/api/provider-nodes/{made['id']}"
    assert app.admin.get(path).get_json() == {"node": made}
    conflict = app.admin.post("/api/provider-nodes", json=node)
    assert conflict.status_code == 409
    assert error_of(conflict)["details"] == {"field": "prefix"}
    assert app.admin.patch(path, json={"name": "New"}).get_json()["node"]["name"] == "New"
    wrong = app.admin.put(path, json={"type": "soap"})
    assert error_of(wrong)["details"][0]["field"] == "type"
    connect(app, provider=made["id"])
    assert app.admin.delete(path).get_json()["deletedConnections"] == 1
    assert app.admin.get("/api/providers").get_json()["total"] == 0


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "https://10.0.0.1/v1", "http://2130706433/v1", "file:///x"])
def test_blocked_addresses_say_why_but_not_where(shared: App, url: str) -> None:
    node = {"name": "N", "prefix": "n", "type": "openai-compatible", "baseUrl": url, "isLocal": True}
    response = shared.admin.post("/api/provider-nodes", json=node)
    assert response.status_code == 422
    error = error_of(response)
    assert error["code"] == "url_blocked"
    assert error["details"]["reason"]


@pytest.mark.parametrize("path", ["/api/providers/available", "/api/providers/client"])
def test_what_can_be_connected(app: App, path: str) -> None:
    connect(app)
    rows = {row["id"]: row for row in app.admin.get(path).get_json()["providers"]}
    assert len(rows) > 200
    assert (rows["groq"]["configured"], rows["groq"]["active"]) == (True, True)
    assert rows["deepseek"]["alias"] == "ds"
    assert rows["sandbox"]["authKinds"] == ["none"]


def test_the_catalogue(shared: App) -> None:
    response = shared.admin.get("/api/models/catalog")
    document = response.get_json()
    assert document["catalogVersion"] == response.headers["X-Model-Catalog-Version"]
    assert document["catalog"]["sandbox"]["active"] is True
    assert "sandbox/echo" in [model["id"] for model in document["catalog"]["sandbox"]["models"]]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/providers"),
        ("POST", "/api/providers"),
        ("PATCH", "/api/providers"),
        ("DELETE", "/api/providers"),
        ("POST", "/api/providers/validate"),
        ("POST", "/api/providers/reorder"),
        ("GET", "/api/providers/available"),
        ("POST", "/api/providers/conn_1/test"),
        ("POST", "/api/providers/conn_1/reset"),
        ("GET", "/api/provider-nodes"),
        ("POST", "/api/provider-nodes/validate"),
        ("GET", "/api/models/catalog"),
    ],
)
def test_a_stranger_gets_nothing(shared: App, method: str, path: str) -> None:
    response = shared.client(address="203.0.113.5").open(path, method=method, json={})
    assert response.status_code in (401, 403)
    chat_only = shared.client(shared.key(scopes=("chat",))).open(path, method=method, json={})
    assert chat_only.status_code == 403
