"""`/api/usage/quota` and its neighbours over HTTP, and what a key sees of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from omniroute.gateway.quotas import ENDPOINT
from omniroute.records import GrantWindow, QuotaReading
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.upstream import FakeUpstream, answer, fake_upstream

KEY = "sk-usage-0123456789abcdef"
BALANCE = {"is_available": True, "balance_infos": [{"currency": "USD", "total_balance": "12.50"}]}


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with fake_upstream(answer(json.dumps(BALANCE).encode())) as running:
        yield running


@pytest.fixture
def app(settings: Settings, tmp_path: Path, upstream: FakeUpstream) -> Iterator[App]:
    row = {
        "id": "mine",
        "urls": {"openai_chat": upstream.url + "/v1/chat/completions"},
        "usage_url": upstream.url + "/balance",
        "usage_shape": "deepseek",
        "is_local": True,
    }
    file = tmp_path / "providers.json"
    file.write_text(json.dumps({"providers": [row]}))
    with whole_app(settings, providers_file=file, provider_limits_sync_spacing_ms=0) as built:
        yield built


def connect(app: App, provider: str = "mine", **fields: Any) -> str:
    response = app.admin.post("/api/providers", json={"provider": provider, "apiKey": KEY, "name": provider, **fields})
    assert response.status_code == 201, response.get_json()
    made: str = response.get_json()["connection"]["id"]
    return made


def read_5h(app: App, connection: str, provider: str, used: float = 0.25) -> float:
    """Let a 5 h window be read; return when it resets."""
    now = time.time()
    account = next(one for one in app.own.directories.current.accounts_of(provider) if one.id == connection)
    window = GrantWindow("5h", used, length_s=18_000.0, resets_at=now + 9000, unit="tokens")
    reading = QuotaReading(connection, window, now, ENDPOINT, "pro")
    app.own.routing.quotas.note_report(account, [reading])
    return now + 9000


def test_quotas_are_listed_with_what_comes_of_them(app: App) -> None:
    asked, quiet = connect(app), connect(app, "groq")
    read_5h(app, quiet, "groq")
    quotas = {quota["connectionId"]: quota for quota in app.admin.get("/api/usage/quota").get_json()["quotas"]}
    assert quotas[asked] == {
        "connectionId": asked,
        "connectionName": "mine",
        "provider": "mine",
        "plan": None,
        "windows": [],
        "fetchedAt": None,
        "stale": True,
        "hasReport": True,
    }
    quota = quotas[quiet]
    assert (quota["plan"], quota["stale"], quota["hasReport"]) == ("pro", False, False)
    window = quota["windows"][0]
    assert {name: window[name] for name in ("name", "usedPercent", "unit", "lengthSeconds", "source", "stale")} == {
        "name": "5h",
        "usedPercent": 25.0,
        "unit": "tokens",
        "lengthSeconds": 18_000.0,
        "source": "endpoint",
        "stale": False,
    }
    assert window["reservePercent"] == 10.0
    assert set(window["forecast"]) == {"lapsesFraction"}
    assert window["forecast"]["lapsesFraction"] == pytest.approx(0.5, abs=0.01)
    some = app.admin.get("/api/usage/quota?provider=groq").get_json()["quotas"]
    assert [one["connectionId"] for one in some] == [quiet]


def test_the_reserve_is_the_one_that_the_operator_set(app: App) -> None:
    connection = connect(app, "groq")
    read_5h(app, connection, "groq")
    response = app.admin.patch("/api/settings/combo-defaults", json={"config": {"reservePercent": 30}})
    assert response.status_code == 200
    window = app.admin.get("/api/usage/quota").get_json()["quotas"][0]["windows"][0]
    assert window["reservePercent"] == 30.0


def test_one_connection_is_asked_live(app: App, upstream: FakeUpstream) -> None:
    connection = connect(app)
    quota = app.admin.get(f"/api/usage/{connection}").get_json()["quota"]
    assert [(one["name"], one["remaining"], one["unit"], one["kind"]) for one in quota["windows"]] == [
        ("credits_usd", 12.5, "usd", "credit")
    ]
    assert quota["windows"][0]["reservePercent"] is None
    assert upstream.received[0].headers["authorization"] == f"Bearer {KEY}"
    missing = app.admin.get("/api/usage/conn_none")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")


def test_a_refresh_is_accepted_and_done_behind(app: App, upstream: FakeUpstream) -> None:
    connection = connect(app)
    response = app.admin.post("/api/usage/provider-limits")
    assert (response.status_code, response.get_json()) == (202, {"accepted": True, "connectionIds": [connection]})
    with gevent.Timeout(5):
        while not app.own.routing.quotas.of(connection):
            gevent.sleep(0.01)
    body = app.admin.get("/api/usage/provider-limits").get_json()
    assert {"mine", "OpenRouter"} <= set(body["reporting"])
    assert body["limits"][0]["windows"][0]["remaining"] == 12.5
    assert body["intervalMinutes"] == 70
    assert len(upstream.received) == 1
    entries = app.admin.get("/api/audit?action=provider.limits.refreshed").get_json()
    assert entries["total"] == 1


def test_a_refresh_names_a_connection_or_a_provider(app: App) -> None:
    connect(app)
    none = app.admin.post("/api/usage/provider-limits", json={"provider": "groq"})
    assert none.get_json()["connectionIds"] == []
    assert app.admin.post("/api/usage/provider-limits", json={"connectionId": "conn_none"}).status_code == 404
    assert app.admin.post("/api/usage/provider-limits", json={"unknown": 1}).status_code == 400
    assert app.admin.get(f"/api/usage/quota?provider={'x' * 200}").status_code == 400


@pytest.mark.parametrize("path", ["logs", "call-logs", "quota", "provider-limits", "analytics", "budget", "active"])
def test_other_usage_is_not_taken_for_a_connection(app: App, path: str) -> None:
    response = app.admin.get(f"/api/usage/{path}")
    assert response.status_code == 200
    assert "quota" not in response.get_json()


def test_who_may_only_read_refreshes_nothing(app: App) -> None:
    key = app.key(scopes=("chat",))
    for call in (app.client(key), app.client()):
        assert call.get("/api/usage/quota").status_code in (401, 403)
        assert call.post("/api/usage/provider-limits").status_code in (401, 403)


def test_a_key_sees_quotas_with_the_scope_for_it_and_of_its_connections(app: App) -> None:
    one, other = connect(app, "groq"), connect(app, "cerebras")
    read_5h(app, one, "groq")
    read_5h(app, other, "cerebras")
    plain = app.client(app.key(scopes=("self:usage",))).get("/v1/me/status").get_json()
    assert "quota" not in plain
    scopes = ("self:usage", "self:quota")
    seen = app.client(app.key(scopes=scopes)).get("/v1/me/status").get_json()["quota"]
    assert {quota["provider"] for quota in seen} == {"groq", "cerebras"}
    assert seen[0]["windows"][0]["usedPercent"] == 25.0
    assert set(seen[0]) == {"provider", "plan", "windows"}
    own = app.client(app.key(scopes=scopes, allowedConnections=[other])).get("/v1/me/status").get_json()["quota"]
    assert [quota["provider"] for quota in own] == ["cerebras"]


# --- cut-offs


def test_cut_offs_are_stored_shown_and_taken_away(app: App) -> None:
    connection = connect(app, quotaCutoffs={"5h": 90, "7d": 75.5, "1d": None})
    shown = app.admin.get(f"/api/providers/{connection}").get_json()["connection"]["quotaCutoffs"]
    assert shown == {"5h": 90.0, "7d": 75.5}
    account = app.own.directories.current.accounts_of("mine")[0]
    assert account.cutoffs == (("5h", 90.0), ("7d", 75.5))
    changed = app.admin.patch(f"/api/providers/{connection}", json={"quotaCutoffs": None})
    assert changed.get_json()["connection"]["quotaCutoffs"] == {}


@pytest.mark.parametrize(
    "cutoffs", [{"5h": 0}, {"5h": 101}, {"5h": "90"}, {"5h": True}, {"5h": -1}, {"": 50}, {"a b": 50}, {"x" * 101: 50}]
)
def test_absurd_cut_offs_are_refused(app: App, cutoffs: dict[str, Any]) -> None:
    response = app.admin.post("/api/providers", json={"provider": "mine", "apiKey": KEY, "quotaCutoffs": cutoffs})
    assert (response.status_code, error_of(response)["code"]) == (400, "validation_failed")


def test_a_request_is_refused_beyond_the_cut_off_and_says_until_when(app: App) -> None:
    connection = connect(app, quotaCutoffs={"5h": 90})
    resets_at = read_5h(app, connection, "mine", used=0.92)
    body = {"model": "mine/m", "messages": [{"role": "user", "content": "hi"}]}
    response = app.admin.post("/v1/chat/completions", json=body)
    assert response.status_code in (429, 503)
    assert float(response.headers["Retry-After"]) == pytest.approx(resets_at - time.time(), abs=10)
