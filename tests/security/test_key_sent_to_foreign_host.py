"""A credential goes to the host that its connection owns, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.upstream import FakeUpstream, answer, fake_upstream, stream

KEY = "sk-upstream-credential-0123456789"
HELLO = {"model": "own/m", "messages": [{"role": "user", "content": "hello"}]}
WHOLE = answer(
    json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        }
    ).encode()
)


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def node_at(app: App, upstream: FakeUpstream) -> tuple[str, str]:
    node = {
        "name": "own",
        "prefix": "own",
        "type": "openai-compatible",
        "baseUrl": f"{upstream.url}/v1",
        "isLocal": True,
    }
    node_id = app.admin.post("/api/provider-nodes", json=node).get_json()["node"]["id"]
    made = app.admin.post("/api/providers", json={"provider": node_id, "apiKey": KEY}).get_json()["connection"]
    return node_id, made["id"]


def connection(app: App, connection_id: str) -> dict[str, Any]:
    found: dict[str, Any] = app.admin.get(f"/api/providers/{connection_id}").get_json()["connection"]
    return found


def test_another_base_url_makes_connections_untested_and_is_audited(app: App) -> None:
    with fake_upstream(WHOLE, stream(b"data: {}\n\n")) as first, fake_upstream(WHOLE) as second:
        node_id, connection_id = node_at(app, first)
        assert app.admin.post(f"/api/providers/{connection_id}/test", json={"model": "m"}).get_json()["valid"]
        assert connection(app, connection_id)["status"] == "ok"
        moved = app.admin.put(f"/api/provider-nodes/{node_id}", json={"baseUrl": f"{second.url}/v1"})
        assert moved.status_code == 200
        shown = connection(app, connection_id)
        assert (shown["status"], shown["lastTestedAt"]) == ("untested", None)
        assert second.received == [], "nothing is sent there before somebody wants it"
        entry = app.own.audit.entries(limit=1, action="provider.node.updated")[0][0]
        assert entry.details is not None
        assert (entry.details["from"], entry.details["to"]) == (f"{first.url}/v1", f"{second.url}/v1")
        assert KEY not in json.dumps(entry.details)


def test_a_connections_own_base_url_counts_too(app: App) -> None:
    with fake_upstream(answer(b'{"models":[]}')) as first, fake_upstream(answer(b"{}")) as second:
        body = {"provider": "ollama", "providerData": {"baseUrl": first.url}}
        made = app.admin.post("/api/providers", json=body).get_json()["connection"]
        app.admin.post(f"/api/providers/{made['id']}/test", json={"model": "m"})
        assert connection(app, made["id"])["status"] != "untested"
        app.admin.put(f"/api/providers/{made['id']}", json={"providerData": {"baseUrl": second.url}})
        assert connection(app, made["id"])["status"] == "untested"
        assert second.received == []
        entry = app.own.audit.entries(limit=1, action="provider.credentials.updated")[0][0]
        assert entry.details is not None
        assert entry.details["fields"] == ["providerData"]


def test_a_redirect_takes_no_key_along(app: App) -> None:
    with fake_upstream(WHOLE) as foreign:
        moved = answer(b"", status=307, headers={"Location": f"{foreign.url}/v1/chat/completions"})
        with fake_upstream(moved) as own:
            _, connection_id = node_at(app, own)
            asked = app.client(app.key()).post("/v1/chat/completions", json=HELLO)
            assert asked.status_code >= 400
            app.admin.post(f"/api/providers/{connection_id}/test", json={"model": "m"})
            assert own.received
            assert own.received[0].headers["authorization"] == f"Bearer {KEY}"
        assert foreign.received == []


def test_the_address_of_a_built_in_provider_is_fixed(app: App) -> None:
    for data in ({"baseUrl": "https://evil.example"}, {"base_url": "https://evil.example"}, {"url": "x"}):
        body = {"provider": "openai", "apiKey": KEY, "providerData": data}
        response = app.admin.post("/api/providers", json=body)
        assert (response.status_code, error_of(response)["code"]) == (400, "validation_failed")


def test_what_callers_send_cannot_name_a_host(app: App) -> None:
    with fake_upstream(WHOLE) as own, fake_upstream(WHOLE) as foreign:
        node_at(app, own)
        headers = {
            "Host": "localhost:20128",
            "X-Forwarded-Host": f"127.0.0.1:{foreign.port}",
            "X-Base-Url": foreign.url,
            "Proxy-Authorization": "Basic eDp5",
        }
        extra = {"base_url": foreign.url, "baseUrl": foreign.url, "api_base": foreign.url}
        asked = app.client(app.key()).post("/v1/chat/completions", json={**HELLO, **extra}, headers=headers)
        assert asked.status_code == 200
        assert foreign.received == []
        assert "proxy-authorization" not in own.received[0].headers
        assert "x-forwarded-host" not in own.received[0].headers
