"""Many connections at once: what is stored, what is not, and that nothing is stored in half."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.routing.events import AttemptFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.upstream import FakeUpstream, answer, fake_upstream, stream

KEY = "gsk_0123456789abcdefghij"
OTHER = "gsk_9876543210abcdefghij"
WHOLE = answer(json.dumps({"id": "1", "choices": [{"message": {"content": "Hi"}}], "usage": {}}).encode())
MODELS = answer(json.dumps({"object": "list", "data": [{"id": "m-1"}]}).encode())
REFUSED = answer(b'{"error":{"message":"Bad key."}}', status=401)


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def names(app: App) -> list[str]:
    return [row.name for row in app.own.connections.all()]


def node(app: App, upstream: FakeUpstream) -> str:
    fields = {"name": "Up", "prefix": "up", "type": "openai-compatible", "baseUrl": f"{upstream.url}/v1"}
    made = app.admin.post("/api/provider-nodes", json={**fields, "isLocal": True})
    node_id: str = made.get_json()["node"]["id"]
    return node_id


def finished(app: App, response: Any) -> dict[str, Any]:
    assert response.status_code == 202, response.get_json()
    job: dict[str, Any] = app.admin.get(f"/api/jobs/{response.get_json()['jobId']}").get_json()
    return job


def test_many_keys_of_one_provider(app: App) -> None:
    entries = [{"name": "One", "apiKey": KEY}, {"apiKey": OTHER}, {"name": "Twice", "apiKey": KEY}, {"name": "None"}]
    response = app.admin.post("/api/providers/bulk", json={"provider": "groq", "entries": entries})
    document = response.get_json()
    assert response.status_code == 200
    assert (document["created"], document["duplicates"], document["failed"]) == (2, 1, 1)
    first, second, twice, none = document["results"]
    assert (first["status"], first["name"], first["apiKey"]) == ("created", "One", "gsk_0123…ghij")
    assert second["name"] == "Groq"
    assert (twice["status"], twice["connectionId"]) == ("duplicate", first["connectionId"])
    assert (none["status"], none["error"]["code"]) == ("failed", "validation_failed")
    assert none["connectionId"] is None
    assert names(app) == ["One", "Groq"]
    assert [row.priority for row in app.own.connections.all()] == [1, 2]
    assert KEY not in response.get_data(as_text=True)


def test_the_same_list_again_adds_nothing(app: App) -> None:
    body = {"provider": "groq", "entries": [{"apiKey": KEY}, {"apiKey": OTHER}]}
    app.admin.post("/api/providers/bulk", json=body)
    again = app.admin.post("/api/providers/bulk", json=body).get_json()
    assert (again["created"], again["duplicates"]) == (0, 2)
    assert len(names(app)) == 2


def test_connections_of_many_providers(app: App) -> None:
    entries = [
        {"provider": "groq", "name": "A", "apiKey": KEY, "priority": 7, "group": "team", "defaultModel": "m"},
        {"provider": "ollama", "name": "B", "baseUrl": "http://127.0.0.1:9"},
        {"provider": "ollama", "name": "C", "baseUrl": "http://127.0.0.1:9"},
        {"provider": "nobody", "name": "D", "apiKey": KEY},
        {"provider": "groq", "name": "E", "apiKey": OTHER, "baseUrl": "https://elsewhere.example"},
        {"provider": "ollama", "name": "F", "baseUrl": "http://169.254.169.254"},
    ]
    document = app.admin.post("/api/providers/import", json={"entries": entries}).get_json()
    assert [row["status"] for row in document["results"]] == [
        "created",
        "created",
        "duplicate",
        "failed",
        "failed",
        "failed",
    ]
    assert document["results"][5]["error"]["code"] == "url_blocked"
    made = {row.name: row for row in app.own.connections.all()}
    assert sorted(made) == ["A", "B"]
    assert (made["A"].priority, made["A"].group_name, made["A"].default_model) == (7, "team", "m")
    assert made["B"].provider_data == {"baseUrl": "http://127.0.0.1:9"}
    entry = app.own.audit.entries(limit=1, action="provider.credentials.imported")[0][0]
    assert entry.details["count"] == 2
    assert KEY not in json.dumps(entry.details)


def test_csv(app: App) -> None:
    text = f'\ufeffprovider,Name,api_key,base_url,priority\r\ngroq,"Main, one",{KEY},,3\r\n\r\nollama,Box,,http://127.0.0.1:9,\r\n'
    response = app.admin.post("/api/providers/import", data=text.encode(), content_type="text/csv; charset=utf-8")
    assert response.status_code == 200, response.get_json()
    assert response.get_json()["created"] == 2
    made = {row.name: row for row in app.own.connections.all()}
    assert made["Main, one"].priority == 3
    assert made["Box"].credential is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "provider"),
        (b"name,apiKey\nx,y\n", "provider"),
        (b"provider,provider\ngroq,groq\n", "once"),
        (b"provider,secret\ngroq,x\n", "secret"),
        (b"provider,name\ngroq\n", "line 2"),
        (b'provider,name\ngroq,"open\n', "CSV"),
        (b"provider,name\ngroq,\xff\n", "UTF-8"),
        (b"provider,priority\ngroq,first\n", "whole number"),
        (b"provider,name\n", "entries"),
        (b"provider\n" + b"groq\n" * 201, "200"),
    ],
)
def test_csv_that_cannot_be_read_stores_nothing(app: App, text: bytes, says: str) -> None:
    response = app.admin.post("/api/providers/import", data=text, content_type="text/csv")
    assert response.status_code == 400
    assert says in error_of(response)["message"]
    assert names(app) == []


@pytest.mark.parametrize(
    "body",
    [
        {"provider": "groq", "entries": []},
        {"provider": "groq", "entries": [{"apiKey": KEY, "key": 1}]},
        {"provider": "groq", "entries": [{"apiKey": KEY}] * 201},
        {"entries": [{"apiKey": KEY}]},
    ],
)
def test_a_misspelt_list_is_refused_whole(app: App, body: dict[str, Any]) -> None:
    assert app.admin.post("/api/providers/bulk", json=body).status_code == 400
    assert names(app) == []


def test_keys_can_be_tried_before_they_are_stored(app: App) -> None:
    with fake_upstream(MODELS, WHOLE, REFUSED) as upstream:
        provider = node(app, upstream)
        entries = [{"name": "Good", "apiKey": KEY}, {"name": "Bad", "apiKey": OTHER}, {"name": "B2", "apiKey": OTHER}]
        body = {"provider": provider, "entries": entries[:1], "validateKeys": True}
        good = finished(app, app.admin.post("/api/providers/bulk", json=body))
        body = {"provider": provider, "entries": entries[1:], "validateKeys": True}
        bad = finished(app, app.admin.post("/api/providers/bulk", json=body))
    assert (good["state"], good["result"]["created"]) == ("succeeded", 1)
    assert [row["status"] for row in bad["result"]["results"]] == ["failed", "failed"]
    assert bad["result"]["results"][1]["connectionId"] is None
    assert names(app) == ["Good"]
    assert OTHER not in json.dumps(bad)


def test_without_the_encryption_key_nothing_is_stored(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    from omniroute.errors import Conflict
    from omniroute.storage.repositories import connections as rows

    insert, calls = rows.insert, []

    def failing(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Conflict("The encryption key is missing.", code="encryption_key_missing")
        insert(*args)

    monkeypatch.setattr(rows, "insert", failing)
    body = {"provider": "groq", "entries": [{"apiKey": KEY}, {"apiKey": OTHER}]}
    response = app.admin.post("/api/providers/bulk", json=body)
    assert (response.status_code, error_of(response)["code"]) == (409, "encryption_key_missing")
    assert names(app) == []


def test_all_connections_are_tested(app: App) -> None:
    events = stream(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n', b"data: [DONE]\n\n")
    with fake_upstream(WHOLE, events, REFUSED) as upstream:
        provider = node(app, upstream)
        for name, key in (("One", KEY), ("Two", OTHER)):
            app.admin.post(
                "/api/providers", json={"provider": provider, "name": name, "apiKey": key, "defaultModel": "m"}
            )
        first = app.own.connections.all()[0].id
        one = finished(app, app.admin.post("/api/providers/test-batch", json={"ids": [first]}))["result"]
        everything = finished(app, app.admin.post("/api/providers/test-batch"))["result"]
        by_provider = finished(app, app.admin.post("/api/providers/test-batch", json={"provider": provider}))["result"]
    assert (one["tested"], one["valid"]) == (1, 1)
    assert one["results"][0]["connectionId"] == first
    assert [row["name"] for row in everything["results"]] == ["One", "Two"]
    assert everything["valid"] == 0
    assert everything["results"][0]["statusCode"] == 401
    assert by_provider["tested"] == 2
    assert {row.test_status for row in app.own.connections.all()} == {"error"}


@pytest.mark.parametrize(
    "body", [{"ids": ["conn_nobody"]}, {"provider": "nobody"}, {"provider": "groq"}, {}, {"ids": []}]
)
def test_tests_of_nothing_are_refused(app: App, body: dict[str, Any]) -> None:
    assert app.admin.post("/api/providers/test-batch", json=body).status_code == 400


def token(**claims: Any) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*texts, "c2lnbmF0dXJl"))


def test_credentials_that_end_are_listed(app: App) -> None:
    now = time.time()
    keys = {
        "Far": token(exp=now + 90 * 86_400),
        "Soon": token(exp=now + 3 * 86_400),
        "Gone": token(exp=now - 60),
        "Odd": token(exp="never"),
        "Plain": KEY,
        "Refused": OTHER,
    }
    entries = [{"name": name, "apiKey": key} for name, key in keys.items()]
    app.admin.post("/api/providers/bulk", json={"provider": "groq", "entries": entries})
    refused = next(row for row in app.own.connections.all() if row.name == "Refused")
    account = next(a for a in app.own.directories.current.accounts_of("groq") if a.id == refused.id)
    failure = Failure("auth", FailureClass.CREDENTIAL, status=401, message="No such key.")
    app.own.routing.board.record(AttemptFailed(account, "m", failure, now))
    assert app.own.routing.board.flush(2.0)

    document = app.admin.get("/api/providers/expiration").get_json()
    assert {row["name"]: row["state"] for row in document["expiring"]} == {
        "Gone": "expired",
        "Soon": "expiring",
        "Refused": "refused",
    }
    assert document["total"] == 3
    assert all(row["expiresAt"] is not None for row in document["expiring"] if row["state"] != "refused")
    far = app.admin.get("/api/providers/expiration?withinDays=365").get_json()
    assert "Far" in [row["name"] for row in far["expiring"]]
    assert app.admin.get("/api/providers/expiration?withinDays=-1").status_code == 400


@pytest.mark.parametrize("path", ["bulk", "import", "test-batch"])
def test_only_admins_change_connections(app: App, path: str) -> None:
    assert app.client(app.key()).post(f"/api/providers/{path}", json={}).status_code == 403
    assert app.client().post(f"/api/providers/{path}", json={}).status_code == 401
