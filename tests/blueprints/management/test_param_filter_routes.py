"""`/api/providers/{id}/param-filters`: set over HTTP, and seen in what a provider gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.upstream import FakeUpstream, answer, fake_upstream

ANSWER = answer(
    json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    ).encode()
)


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with fake_upstream(ANSWER) as made:
        yield made


@pytest.fixture
def connection_id(app: App, upstream: FakeUpstream) -> str:
    """A connection to a node `up/` that leads to the fake provider."""
    fields = {
        "name": "Up",
        "prefix": "up",
        "type": "openai-compatible",
        "baseUrl": f"{upstream.url}/v1",
        "isLocal": True,
    }
    node = app.admin.post("/api/provider-nodes", json=fields).get_json()["node"]
    made = app.admin.post("/api/providers", json={"provider": node["id"], "apiKey": "key-0123456789"})
    found: str = made.get_json()["connection"]["id"]
    return found


def put(app: App, name: str, **filters: Any) -> Any:
    response = app.admin.put(f"/api/providers/{name}/param-filters", json=filters)
    assert response.status_code == 200, response.get_json()
    return response.get_json()


def sent(app: App, upstream: FakeUpstream, path: str = "/v1/chat/completions", **members: Any) -> dict[str, Any]:
    body = {"model": "up/m", "messages": [{"role": "user", "content": "hi"}], **members}
    response = app.admin.post(path, json=body)
    assert response.status_code == 200, response.get_json()
    document: dict[str, Any] = json.loads(upstream.received[-1].body)
    return document


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_provider_gets_what_the_operator_wants(
    app: App, upstream: FakeUpstream, connection_id: str, path: str
) -> None:
    members = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 10}
    before = sent(app, upstream, path, **members)
    assert (before["temperature"], before["top_p"]) == (0.7, 0.9)

    made = put(app, connection_id, strip=["top_p"], force={"temperature": 0.1, "extra.safe": True})
    after = sent(app, upstream, path, **members)
    assert after == {**{k: v for k, v in before.items() if k != "top_p"}, "temperature": 0.1, "extra": {"safe": True}}
    assert after["messages"] == before["messages"]
    assert made["provider"].startswith("node_")

    assert app.admin.delete(f"/api/providers/{connection_id}/param-filters").status_code == 200
    assert sent(app, upstream, path, **members) == before


def test_filters_are_found_by_provider_and_by_connection(app: App, connection_id: str) -> None:
    made = put(app, "up", strip=["seed"])
    assert made == {"provider": made["provider"], "strip": ["seed"], "force": {}}
    for name in ("up", connection_id, made["provider"]):
        assert app.admin.get(f"/api/providers/{name}/param-filters").get_json() == made
    assert put(app, connection_id)["strip"] == []
    assert app.admin.delete("/api/providers/up/param-filters").status_code == 404


def test_what_was_chosen_for_a_provider_stays(app: App) -> None:
    app.admin.patch("/api/settings/combo-defaults", json={"providers": {"groq": {"stickyLimit": 3}}})
    put(app, "groq", strip=["seed"])
    chosen = app.own.snapshots.current.provider_routing
    app.admin.delete("/api/providers/groq/param-filters")
    assert app.own.snapshots.current.provider_routing == chosen


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"strip": ["messages"]}, "strip.messages"),
        ({"force": {"model": "x"}}, "force.model"),
        ({"force": {"tools.0": 1}}, "force.tools.0"),
        ({"strip": ["a b"]}, "strip.a b"),
        ({"strip": ["seed"], "force": {"seed": 1}}, "strip"),
        ({"force": {"options": {}, "options.seed": 1}}, "force"),
        ({"drop": ["seed"]}, "drop"),
        ({"strip": "seed"}, "strip"),
    ],
)
def test_what_cannot_be_filtered_is_refused(app: App, body: dict[str, Any], field: str) -> None:
    response = app.admin.put("/api/providers/groq/param-filters", json=body)
    assert response.status_code == 400
    assert [detail["field"] for detail in error_of(response)["details"]] == [field]
    assert app.admin.get("/api/providers/groq/param-filters").get_json() == {
        "provider": "groq",
        "strip": [],
        "force": {},
    }


def test_changes_are_audited_and_need_admin_power(app: App) -> None:
    put(app, "groq", strip=["seed"])
    entries, _ = app.own.audit.entries(limit=1, action="settings.changed")
    assert (entries[0].target_kind, entries[0].target_id) == ("provider", "groq")
    assert entries[0].details["paramFilters"]["strip"] == ["seed"]
    path = "/api/providers/groq/param-filters"
    assert app.client(app.key()).put(path, json={}).status_code == 403
    assert app.client().get(path).status_code == 401


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_unknown_providers_have_no_filters(app: App, method: str) -> None:
    response = app.admin.open("/api/providers/nobody/param-filters", method=method.upper(), json={})
    assert response.status_code == 404
