"""`/api/resilience` over HTTP: settings and profiles, what rests and why, and ending it early."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.errors import StorageError
from omniroute.routing.events import AttemptFailed, Event, ProviderFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.options import AuthClass
from omniroute.routing.resilience import KEYS, PROFILES, Profile, public
from omniroute.settings import Settings
from omniroute.storage.database import Database, url_of
from omniroute.storage.state import StateStore
from tests.blueprints.app import App, error_of, whole_app

RATE = Failure("rate", FailureClass.RATE_LIMIT, status=429, message="Slow down.", provider_code="rate_limit_exceeded")
AUTH = Failure("auth", FailureClass.CREDENTIAL, status=401, message="No.")
MISSING = Failure("model_missing", FailureClass.MODEL_UNAVAILABLE, status=404)
WEEKLY = Failure(
    "quota", FailureClass.QUOTA, status=429, retry_after_s=7200.0, hint_source="body", window="opus_weekly"
)
SERVER = Failure("server", FailureClass.TRANSIENT, status=500)
BUSY = Failure("concurrency", FailureClass.RATE_LIMIT, status=429)


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application for tests that leave nothing behind."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        yield built


def connect(app: App, provider: str = "groq", key: str = "gsk_0123456789abcdefghij", **fields: Any) -> str:
    response = app.admin.post("/api/providers", json={"provider": provider, "apiKey": key, **fields})
    assert response.status_code == 201, response.get_json()
    made: str = response.get_json()["connection"]["id"]
    return made


def happen(app: App, *events: Event) -> None:
    for event in events:
        app.own.routing.board.record(event)
    assert app.own.routing.board.flush(2.0)


def fail(app: App, connection_id: str, failure: Failure, model: str = "m", **more: Any) -> None:
    directory = app.own.directories.current
    account = next(a for row in directory.providers() for a in directory.accounts_of(row.id) if a.id == connection_id)
    happen(app, AttemptFailed(account, model, failure, time.time(), **more))


def trip(app: App, provider: str, times: int) -> None:
    happen(app, *[ProviderFailed(provider, AuthClass.API_KEY, SERVER, started_at=time.time()) for _ in range(times)])


def state(app: App, **query: str) -> dict[str, Any]:
    response = app.admin.get("/api/resilience/state", query_string=query)
    assert response.status_code == 200, response.get_json()
    found: dict[str, Any] = response.get_json()
    return found


def reset(app: App, **body: Any) -> int:
    response = app.admin.post("/api/resilience/reset", json=body)
    assert response.status_code == 200, response.get_json()
    count: int = response.get_json()["reset"]
    return count


def actions(app: App) -> list[Any]:
    entries, _ = app.own.audit.entries(limit=100)
    return [entry for entry in entries if entry.action in {"resilience.reset", "settings.changed"}]


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_settings_are_those_of_the_balanced_profile_at_first(shared: App) -> None:
    body = shared.admin.get("/api/resilience").get_json()
    assert body == public(PROFILES[Profile.BALANCED])
    assert set(body) == {
        "profile",
        "requestQueue",
        "connectionCooldown",
        "providerBreaker",
        "waitForCooldown",
        "rateLimitDetection",
        "modelLockout",
    }


@pytest.mark.parametrize("method", ["patch", "put"])
def test_a_change_is_partial_and_holds_at_once(app: App, method: str) -> None:
    change = {"waitForCooldown": {"maxRetries": 5}, "connectionCooldown": {"apikey": {"baseCooldownMs": 1}}}
    body = getattr(app.admin, method)("/api/resilience", json=change).get_json()
    assert body == app.admin.get("/api/resilience").get_json()
    assert body["waitForCooldown"] == {"enabled": True, "maxRetryWaitSec": 30, "maxRetries": 5, "budgetSec": 60}
    assert body["connectionCooldown"]["apikey"]["baseCooldownMs"] == 1
    assert app.own.routing.resilience().wait.max_rounds == 5
    (entry,) = actions(app)
    assert (entry.action, entry.target_id) == ("settings.changed", "resilience")
    assert entry.details == {
        "connectionCooldown.apikey.baseCooldownMs": [3000, 1],
        "waitForCooldown.maxRetries": [2, 5],
    }


def test_a_profile_replaces_what_was_chosen_before(app: App) -> None:
    app.admin.patch("/api/resilience", json={"waitForCooldown": {"maxRetries": 5}})
    body = app.admin.patch("/api/resilience", json={"profile": "aggressive"}).get_json()
    assert body == public(PROFILES[Profile.AGGRESSIVE])
    again = app.admin.patch("/api/resilience", json={"profile": "balanced", "requestQueue": {"maxWaitMs": 1}})
    assert again.get_json()["waitForCooldown"]["enabled"] is True
    assert again.get_json()["requestQueue"]["maxWaitMs"] == 1


def test_what_is_shown_can_be_sent_back(app: App) -> None:
    body = app.admin.get("/api/resilience").get_json()
    assert app.admin.patch("/api/resilience", json=body).get_json() == body


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"profile": "reckless"}, "profile"),
        ({"profile": None}, "profile"),
        ({"waitForCooldown": 5}, "waitForCooldown"),
        ({"waitForCooldown": {"maxRetries": "5"}}, "waitForCooldown.maxRetries"),
        ({"waitForCooldown": {"maxRetires": 5}}, "waitForCooldown.maxRetires"),
        ({"providerBreaker": {"oauth": {"degradationThreshold": 8}}}, "providerBreaker.oauth.degradationThreshold"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_is_wrong_is_named(shared: App, change: dict[str, Any], field: str) -> None:
    response = shared.admin.patch("/api/resilience", json=change)
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "validation_failed"
    assert [detail["field"] for detail in error["details"]] == [field]
    assert shared.admin.get("/api/resilience").get_json() == public(PROFILES[Profile.BALANCED])


def test_what_the_environment_says_cannot_be_changed(settings: Settings) -> None:
    with whole_app(settings, rate_limit_max_wait_ms=777) as app:
        body = app.admin.get("/api/resilience").get_json()
        assert body["requestQueue"]["maxWaitMs"] == 777
        assert app.admin.patch("/api/resilience", json=body).status_code == 200
        refused = app.admin.patch("/api/resilience", json={"requestQueue": {"maxWaitMs": 778, "maxQueueDepth": 7}})
        assert (refused.status_code, error_of(refused)["code"]) == (409, "fixed_by_environment")
        assert error_of(refused)["details"] == {"fixed": {"requestQueue.maxWaitMs": "RATE_LIMIT_MAX_WAIT_MS"}}
        assert app.admin.get("/api/resilience").get_json() == body


# --- what rests ------------------------------------------------------------------------------------------------------


def test_nothing_rests_at_first(shared: App) -> None:
    empty: list[Any] = []
    names = ("breakers", "cooldowns", "dead", "lockouts", "limits", "queues")
    assert state(shared) == dict.fromkeys(names, empty)
    assert shared.admin.get("/api/resilience/model-cooldowns").get_json() == {"items": []}


def test_each_mark_says_why_and_until_when(app: App) -> None:
    one, two = connect(app), connect(app, key="gsk_another_key_0123456789", name="Second")
    fail(app, one, RATE)
    fail(app, two, AUTH)
    fail(app, one, MISSING, "lost")
    fail(app, two, BUSY, in_flight=4)
    trip(app, "groq", 12)
    trip(app, "openai", 7)
    found = state(app)
    cooldown = next(row for row in found["cooldowns"] if row["connectionId"] == one)
    assert {name: cooldown[name] for name in ("provider", "reason", "status", "code", "message", "state", "step")} == {
        "provider": "groq",
        "reason": "rate",
        "status": 429,
        "code": "rate_limit_exceeded",
        "message": "Slow down.",
        "state": "resting",
        "step": 1,
    }
    assert cooldown["since"] < cooldown["until"] == cooldown["nextProbeAt"]
    (dead,) = found["dead"]
    assert (dead["connectionId"], dead["connection"], dead["reason"], dead["until"]) == (two, "Second", "auth", None)
    (lockout,) = found["lockouts"]
    assert (lockout["connectionId"], lockout["model"], lockout["isFamily"]) == (one, "lost", False)
    assert lockout["reason"] == "model_missing"
    (limit,) = found["limits"]
    assert (limit["connectionId"], limit["concurrentRequests"]) == (two, 3)
    groq, openai = found["breakers"]
    assert (groq["provider"], groq["state"], groq["failures"], groq["trips"]) == ("groq", "open", 12, 1)
    assert groq["openedAt"] < groq["retryAt"]
    assert (openai["provider"], openai["state"], openai["failures"], openai["trips"]) == ("openai", "closed", 7, 0)
    assert openai["isDegraded"] is True
    assert openai["retryAt"] is None


def test_a_family_is_locked_out_as_one(app: App) -> None:
    held = connect(app, "anthropic", "sk-ant-0123456789abcdefghij")
    fail(app, held, WEEKLY, "claude-opus-4-6")
    (lockout,) = state(app)["lockouts"]
    assert lockout["isFamily"] is True
    assert lockout["hintSource"] == "body"
    assert reset(app, connectionId=held, model="claude-sonnet-4-6") == 0
    assert reset(app, connectionId=held, model="claude-opus-4-5") == 1
    assert state(app)["lockouts"] == []


def test_connections_with_the_same_key_rest_together(app: App) -> None:
    one, two = connect(app), connect(app, name="Same key")
    fail(app, two, RATE)
    assert {row["connectionId"] for row in state(app)["cooldowns"]} == {one, two}
    assert [row["connectionId"] for row in state(app, connectionId=two)["cooldowns"]] == [two]
    assert reset(app, connectionId=two) == 1
    assert state(app)["cooldowns"] == []


def test_what_another_worker_learned_is_seen_at_once(app: App, settings: Settings) -> None:
    held = connect(app)
    with whole_app(settings) as other:
        fail(other, held, RATE)
        assert [row["connectionId"] for row in state(app)["cooldowns"]] == [held]
        assert reset(app, all=True) == 1
        other.own.routing.board.poll()
        assert state(other)["cooldowns"] == []


def test_a_reset_is_as_wide_as_it_says(app: App) -> None:
    one = connect(app)
    two = connect(app, "openai", "sk-0123456789abcdefghij0123")
    for held in (one, two):
        fail(app, held, RATE)
        fail(app, held, MISSING, "lost")
        fail(app, held, MISSING, "other")
    trip(app, "groq", 12)
    trip(app, "openai", 1)
    assert reset(app, model="lost") == 2
    assert reset(app, provider="groq", model="groq/other") == 1
    assert reset(app, connectionId=two) == 2
    left = state(app)
    assert [row["provider"] for row in left["breakers"]] == ["groq", "openai"]
    assert [row["connectionId"] for row in left["cooldowns"]] == [one]
    assert left["lockouts"] == []
    assert reset(app, provider="groq") == 2
    assert reset(app, all=True) == 1
    assert reset(app, all=True) == 0
    newest = actions(app)
    assert [entry.details["reset"] for entry in newest] == [0, 1, 2, 2, 1, 2]
    assert (newest[2].target_kind, newest[2].target_id) == ("provider", "groq")
    assert newest[-1].details == {"reset": 2, "model": "lost"}


def test_lockouts_alone_can_be_ended(app: App) -> None:
    held = connect(app)
    fail(app, held, RATE)
    fail(app, held, MISSING, "lost")
    fail(app, held, MISSING, "other")
    path = "/api/resilience/model-cooldowns"
    listed = app.admin.get(path).get_json()["items"]
    assert [row["model"] for row in listed] == ["lost", "other"]
    assert app.admin.delete(path, json={"provider": "groq", "model": "lost"}).get_json() == {"reset": 1}
    assert app.admin.delete(path, json={"all": True}).get_json() == {"reset": 1}
    assert app.admin.get(path).get_json() == {"items": []}
    assert len(state(app)["cooldowns"]) == 1


@pytest.mark.parametrize("body", [{}, {"all": False}, {"all": True, "model": "m"}, {"provider": ""}, {"host": "x"}])
@pytest.mark.parametrize(("method", "path"), [("post", "reset"), ("delete", "model-cooldowns")])
def test_it_has_to_be_said_what_is_meant(shared: App, body: dict[str, Any], method: str, path: str) -> None:
    response = getattr(shared.admin, method)(f"/api/resilience/{path}", json=body)
    assert response.status_code == 400
    assert error_of(response)["code"] == "validation_failed"


@pytest.mark.parametrize("body", [{"provider": "nobody"}, {"connectionId": "conn_none"}])
def test_what_does_not_exist_is_not_found(shared: App, body: dict[str, Any]) -> None:
    assert shared.admin.post("/api/resilience/reset", json=body).status_code == 404
    assert shared.admin.get("/api/resilience/state", query_string=body).status_code == 404


def test_a_reset_that_others_do_not_hear_of_says_so(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(app, connect(app), RATE)

    def fails(*_: Any) -> None:
        raise StorageError

    monkeypatch.setattr(app.own.routing.store, "change_health", fails)
    refused = app.admin.post("/api/resilience/reset", json={"all": True})
    assert (refused.status_code, error_of(refused)["code"]) == (503, "storage_unavailable")
    monkeypatch.undo()
    assert app.own.routing.board.flush(2.0)
    assert state(app)["cooldowns"] == []


def test_a_mark_of_a_connection_that_is_gone_is_shown_by_what_it_knows(app: App, settings: Settings) -> None:
    held = connect(app)
    fail(app, held, RATE)
    database = Database(url_of(settings))
    try:
        rows = StateStore(database, time.time).load_health()
        assert [row.scope for row in rows] == [f"connection:{held}"]
    finally:
        database.dispose()
    app.admin.put(f"/api/providers/{held}", json={"isActive": False})
    (cooldown,) = state(app)["cooldowns"]
    assert (cooldown["connectionId"], cooldown["provider"]) == (held, "groq")


@pytest.mark.parametrize(
    ("method", "path"),
    [("patch", "/api/resilience"), ("post", "/api/resilience/reset"), ("delete", "/api/resilience/model-cooldowns")],
)
def test_a_key_for_inference_changes_nothing(shared: App, method: str, path: str) -> None:
    caller = shared.client(shared.key(scopes=["chat"]))
    assert getattr(caller, method)(path, json={"all": True}).status_code in (401, 403)


def test_the_settings_one_by_one(settings: Settings) -> None:
    with whole_app(settings, circuit_breaker_oauth_threshold=20) as app:
        app.admin.patch("/api/resilience", json={"profile": "conservative", "requestQueue": {"maxWaitMs": 5}})
        found = app.admin.get("/api/resilience/fields").get_json()
        assert (found["profile"], found["total"]) == ("conservative", len(found["fields"]))
        rows = {row["path"]: row for row in found["fields"]}
        assert set(rows) == set(KEYS)
        assert rows["requestQueue.maxWaitMs"] == {
            "path": "requestQueue.maxWaitMs",
            "takes": "a whole number from 0 to 600000",
            "value": 5,
            "default": 15_000,
            "source": "db",
            "fixedBy": None,
        }
        oauth = rows["providerBreaker.oauth.failureThreshold"]
        assert (oauth["value"], oauth["source"], oauth["fixedBy"]) == (
            20,
            "env",
            "OMNIROUTE_CIRCUIT_BREAKER_OAUTH_THRESHOLD",
        )
        assert rows["connectionCooldown.oauth.baseCooldownMs"]["source"] == "default"
        assert rows["connectionCooldown.oauth.baseCooldownMs"]["value"] == 10_000
