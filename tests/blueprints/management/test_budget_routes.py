"""`/api/usage/budget`, `/api/usage/token-limits`, and what keys are shown of their limits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from omniroute.money.limits import budget_hold, concurrency_scope, rate_hold, sessions_scope
from omniroute.records import Budget, RequestRecord
from omniroute.settings import Settings
from omniroute.storage.ledger import Ledger, Places
from tests.blueprints.app import App, error_of, whole_app

BUDGET = "/api/usage/budget"
LIMITS = "/api/usage/token-limits"
USD = 1_000_000_000
HELLO = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def key_id(app: App, name: str = "laptop") -> str:
    made = app.admin.post("/api/keys", json={"name": name}).get_json()
    found: str = made["id"]
    return found


def put(app: App, path: str = BUDGET, **body: Any) -> dict[str, Any]:
    response = app.admin.post(path, json=body)
    assert response.status_code == 200, response.get_json()
    found: dict[str, Any] = response.get_json()
    return found


def refused(app: App, path: str = BUDGET, /, **body: Any) -> dict[str, Any]:
    """Return the error of a body; nothing is stored."""
    response = app.admin.post(path, json=body)
    assert response.status_code >= 400, response.get_json()
    assert app.admin.get(BUDGET).get_json() == {"budgets": []}
    assert app.admin.get(LIMITS).get_json() == {"limits": []}
    return {"status": response.status_code, **error_of(response)}


def spend(app: App, key: str, nano_usd: int, *, request_id: str = "req_1", **changes: Any) -> None:
    values: dict[str, Any] = {
        "request_id": request_id,
        "time": time.time(),
        "endpoint": "/v1/chat/completions",
        "client_format": "openai-chat",
        "requested_model": "openai/gpt-x",
        "model": "gpt-x",
        "provider": "openai",
        "status": 200,
        "outcome": "success",
        "tokens_in": 70,
        "tokens_out": 30,
        "api_key_id": key,
        "cost_nano_usd": nano_usd,
        "cost_kind": "billed",
    }
    app.own.request_log.put(RequestRecord(**(values | changes)))
    app.own.request_log.flush()


def audited(app: App, action: str) -> list[Any]:
    entries, _ = app.own.audit.entries(limit=100, action=action)
    return list(reversed(entries))


# --- budgets ---------------------------------------------------------------------------------------------------------


def test_the_life_of_a_budget(app: App) -> None:
    key = key_id(app)
    made = put(app, keyId=key, limit=5, period="daily")
    assert (made["success"], made["keyId"], len(made["budgets"])) == (True, key, 1)
    budget = made["budgets"][0]
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert budget.pop("periodStart") == start.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    resets_at = datetime.fromisoformat(budget.pop("resetsAt"))
    assert resets_at.timestamp() - start.timestamp() == 86_400
    assert budget == {
        "keyId": key,
        "keyName": "laptop",
        "period": "daily",
        "limit": 5.0,
        "spent": 0.0,
        "reserved": 0.0,
        "remaining": 5.0,
        "percentUsed": 0.0,
        "warningThreshold": 0.8,
        "state": "ok",
        "requests": 0,
        "unpricedRequests": 0,
        "resetTime": "00:00",
        "timeZone": "UTC",
    }
    put(app, keyId=key, limit=7.25, period="daily", warningThreshold=0.5, resetTime="06:30", timeZone="Asia/Tokyo")
    kept = put(app, keyId=key, limit=8, period="daily")["budgets"][0]
    assert (kept["limit"], kept["warningThreshold"], kept["resetTime"], kept["timeZone"]) == (
        8.0,
        0.5,
        "06:30",
        "Asia/Tokyo",
    )
    put(app, keyId=key, limit=100, period="monthly")
    other = put(app, keyId=key_id(app, "other"), limit=1, period="weekly")["keyId"]
    every = app.admin.get(BUDGET).get_json()
    assert set(every) == {"budgets"}
    assert {(one["keyId"], one["period"]) for one in every["budgets"]} == {
        (key, "daily"),
        (key, "monthly"),
        (other, "weekly"),
    }
    own = app.admin.get(f"{BUDGET}?keyId={key}").get_json()
    assert set(own) == {"budgets", "keyId"}
    assert [one["period"] for one in own["budgets"]] == ["daily", "monthly"]
    gone = app.admin.delete(f"{BUDGET}?keyId={key}&period=daily").get_json()
    assert gone == {"success": True, "removed": 1}
    assert app.admin.delete(f"{BUDGET}?apiKeyId={key}").get_json()["removed"] == 1
    missing = app.admin.delete(f"{BUDGET}?keyId={key}")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")
    assert [one["keyId"] for one in app.admin.get(BUDGET).get_json()["budgets"]] == [other]


def test_what_was_spent_counts_from_before_the_budget_was_set(app: App) -> None:
    key = key_id(app)
    spend(app, key, 3 * USD)
    spend(app, key, 0, request_id="req_2", cost_nano_usd=None, cost_kind="unpriced")
    spend(app, key, 9 * USD, request_id="req_3", cost_kind="subscription")
    spend(app, "local", 2 * USD, request_id="req_4")
    made = put(app, keyId=key, limit=4, period="daily", warningThreshold=0.75)["budgets"][0]
    assert (made["spent"], made["remaining"], made["percentUsed"], made["state"]) == (3.0, 1.0, 75.0, "warning")
    assert (made["requests"], made["unpricedRequests"]) == (3, 1)
    spend(app, key, USD, request_id="req_5")
    shown = app.admin.get(f"{BUDGET}?keyId={key}").get_json()["budgets"][0]
    assert (shown["spent"], shown["remaining"], shown["percentUsed"], shown["state"]) == (4.0, 0.0, 100.0, "exceeded")
    assert put(app, keyId="*", limit=10, period="daily")["budgets"][0]["spent"] == 6.0
    assert put(app, keyId="local", limit=10, period="daily")["budgets"][0]["spent"] == 2.0
    names = {one["keyId"]: one["keyName"] for one in app.admin.get(BUDGET).get_json()["budgets"]}
    assert names == {key: "laptop", "*": "all callers", "local": "local"}


def test_what_requests_in_flight_hold_is_apart(app: App) -> None:
    key, now = key_id(app), time.time()
    put(app, keyId=key, limit=4, period="monthly")
    hold = budget_hold(Budget(key, "monthly", 4 * USD), now, USD)
    Ledger(app.own.database).admit([hold], [], request_id="r", owner="o", now=now, lease_s=60)
    shown = app.admin.get(f"{BUDGET}?keyId={key}").get_json()["budgets"][0]
    assert (shown["spent"], shown["reserved"], shown["remaining"], shown["state"]) == (0.0, 1.0, 3.0, "ok")


def test_the_flat_form(app: App) -> None:
    key = key_id(app)
    spend(app, key, 250_000_000)
    body: dict[str, Any] = {
        "apiKeyId": key,
        "dailyLimitUsd": 1,
        "weeklyLimitUsd": 5,
        "monthlyLimitUsd": 10,
        "warningThreshold": 0.9,
    }
    made = put(app, **body)
    assert [(one["period"], one["limit"], one["warningThreshold"]) for one in made["budgets"]] == [
        ("daily", 1.0, 0.9),
        ("weekly", 5.0, 0.9),
        ("monthly", 10.0, 0.9),
    ]
    shown = app.admin.get(f"{BUDGET}?apiKeyId={key}").get_json()
    assert shown.pop("budgets") == made["budgets"]
    assert shown == {
        "keyId": key,
        "dailyLimitUsd": 1.0,
        "weeklyLimitUsd": 5.0,
        "monthlyLimitUsd": 10.0,
        "totalCostToday": 0.25,
        "totalCostMonth": 0.25,
    }
    put(app, apiKeyId=key, dailyLimitUsd=None, weeklyLimitUsd=6)
    shown = app.admin.get(f"{BUDGET}?apiKeyId={key}").get_json()
    assert (shown["dailyLimitUsd"], shown["weeklyLimitUsd"], shown["monthlyLimitUsd"]) == (None, 6.0, 10.0)
    assert shown["totalCostToday"] == 0.25


def test_null_removes(app: App) -> None:
    put(app, keyId="local", limit=5, period="daily")
    assert put(app, keyId="local", limit=None, period="daily")["budgets"] == []
    changes = len(audited(app, "budget.changed"))
    assert put(app, keyId="local", limit=None, period="daily")["budgets"] == []
    assert len(audited(app, "budget.changed")) == changes, "nothing was changed"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": -0.01}, "limit"),
        ({"limit": 1_000_000_001}, "limit"),
        ({"limit": 1e300}, "limit"),
        ({"limit": 1e-10}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"limit": True}, "limit"),
        ({"dailyLimitUsd": -1, "period": "daily"}, "dailyLimitUsd"),
        ({"dailyLimitUsd": 1, "limit": 2}, "limit"),
        ({"period": "yearly"}, "period"),
        ({"period": None}, "period"),
        ({"period": "Daily"}, "period"),
        ({"warningThreshold": 1.1}, "warningThreshold"),
        ({"warningThreshold": -0.1}, "warningThreshold"),
        ({"warningThreshold": "80%"}, "warningThreshold"),
        ({"resetTime": "24:00"}, "resetTime"),
        ({"resetTime": "6:00"}, "resetTime"),
        ({"resetTime": "٠٦:٠٠"}, "resetTime"),
        ({"resetTime": 6}, "resetTime"),
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
        ({"timeZone": "../../etc/passwd"}, "timeZone"),
        ({"timeZone": ""}, "timeZone"),
        ({"currency": "EUR"}, "currency"),
        ({"dayliLimitUsd": 1}, "dayliLimitUsd"),
    ],
)
def test_a_budget_without_meaning_is_refused(app: App, fields: dict[str, Any], field: str) -> None:
    error = refused(app, **{"keyId": "*", "limit": 1, "period": "daily", **fields})
    assert (error["status"], error["code"]) == (400, "validation_failed")
    assert field in [detail["field"] for detail in error["details"]]


@pytest.mark.parametrize(
    "body",
    [
        {"keyId": "*"},
        {"keyId": "*", "period": "daily"},
        {"keyId": "*", "limit": 1},
        {"keyId": "*", "dailyLimitUsd": 1, "period": "weekly"},
        {"limit": 1, "period": "daily"},
    ],
)
def test_what_is_missing_is_named(app: App, body: dict[str, Any]) -> None:
    assert refused(app, **body)["status"] == 400


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused(app: App, number: str) -> None:
    raw = f'{{"keyId": "*", "period": "daily", "limit": {number}}}'
    response = app.admin.post(BUDGET, data=raw, content_type="application/json")
    assert response.status_code == 400
    assert error_of(response)["code"] in ("invalid_json", "validation_failed")
    assert app.admin.get(BUDGET).get_json() == {"budgets": []}


def test_usd_may_be_said(app: App) -> None:
    assert put(app, keyId="*", limit=0, period="daily", currency="USD")["budgets"][0]["state"] == "exceeded"
    assert put(app, keyId="*", limitUsd=0.000000001, resetInterval="daily")["budgets"][0]["limit"] == 1e-9


def test_nobody_has_a_budget_who_is_unknown(app: App) -> None:
    gone = key_id(app)
    put(app, keyId=gone, limit=1, period="daily")
    assert app.admin.delete(f"/api/keys/{gone}").status_code == 200
    for unknown in ("key_unknown", gone, "laptop", "env"):
        assert refused(app, keyId=unknown, limit=1, period="daily")["status"] == 404
        assert refused(app, LIMITS, keyId=unknown, tokenLimit=1, period="daily")["status"] == 404
        for path in (f"{BUDGET}?keyId={unknown}", f"{BUDGET}?apiKeyId={unknown}", f"{LIMITS}?keyId={unknown}"):
            response = app.admin.get(path)
            assert (response.status_code, error_of(response)["code"]) == (404, "not_found")


def test_what_to_remove_is_said(app: App) -> None:
    put(app, keyId="*", limit=1, period="daily")
    for query in ("", "?period=daily", "?keyId="):
        assert error_of(app.admin.delete(f"{BUDGET}{query}"))["code"] == "missing_field"
    assert app.admin.delete(f"{BUDGET}?keyId=*&period=hourly").status_code == 400
    assert app.admin.delete(f"{BUDGET}?keyId=*&period=weekly").status_code == 404
    assert error_of(app.admin.delete(LIMITS))["code"] == "missing_field"
    assert len(app.admin.get(BUDGET).get_json()["budgets"]) == 1


def test_changes_are_audited(app: App) -> None:
    key = key_id(app)
    put(app, keyId=key, limit=5, period="daily", timeZone="Asia/Tokyo")
    app.admin.delete(f"{BUDGET}?keyId={key}")
    refused(app, keyId=key, limit=-5, period="daily")
    limit = put(app, LIMITS, keyId=key, tokenLimit=9, period="daily")["limit"]["id"]
    app.admin.delete(f"{LIMITS}?id={limit}")
    rows = audited(app, "budget.changed")
    assert [(row.target_kind, row.target_id) for row in rows] == [("budget", key)] * 2
    assert [row.details for row in rows] == [
        {"limits_usd": {"daily": 5.0}, "timeZone": "Asia/Tokyo"},
        {"removed": ["daily"]},
    ]
    rows = audited(app, "token_limit.changed")
    assert [(row.target_kind, row.target_id) for row in rows] == [("token_limit", limit)] * 2
    assert [row.details for row in rows] == [{"limit": 9, "period": "daily", "scope": key}, {"removed": True}]
    assert all(row.actor.startswith("key:") for row in rows)


@pytest.mark.parametrize("path", [BUDGET, LIMITS])
def test_only_managers_see_and_change_them(app: App, path: str) -> None:
    nobody, caller = app.client(), app.client(app.key(scopes=("chat",)))
    manager = app.client(app.key(scopes=("manage",)))
    body = {"keyId": "local", "limit": 1, "period": "daily", "tokenLimit": 1}
    body = {
        name: body[name]
        for name in (("keyId", "limit", "period") if path == BUDGET else ("keyId", "tokenLimit", "period"))
    }
    for client, status in ((nobody, 401), (caller, 403)):
        assert client.get(path).status_code == status
        assert client.post(path, json=body).status_code == status
        assert client.delete(f"{path}?keyId=local&id=tl_1").status_code == status
    assert manager.get(path).status_code == 200
    made = manager.post(path, json=body)
    assert made.status_code == 200
    limit = made.get_json().get("limit", {}).get("id", "")
    assert manager.delete(f"{path}?keyId=local&id={limit}").status_code == 200


def test_a_spent_budget_refuses_the_key_and_nobody_else(app: App) -> None:
    secret = app.key(name="spender")
    key = next(one.id for one in app.own.keys.usable() if one.name == "spender")
    put(app, keyId=key, limit=0, period="daily")
    answer = app.client(secret).post("/v1/chat/completions", json=HELLO)
    assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (402, "budget_exceeded")
    assert app.client(app.key()).post("/v1/chat/completions", json=HELLO).status_code == 200
    assert app.client().post("/v1/chat/completions", json=HELLO).status_code == 200
    put(app, keyId="local", limit=0, period="weekly")
    assert app.client().post("/v1/chat/completions", json=HELLO).status_code == 402
    assert [row.target_id for row in audited(app, "budget.exceeded")] == [key, "local"]


# --- models of unknown price ------------------------------------------------------------------------------------------


def test_whether_models_of_unknown_price_may_serve(app: App) -> None:
    def shown() -> Any:
        return app.admin.get("/api/settings").get_json()["settings"]["budgets"]

    assert shown() == {"unpriced": "refuse"}
    changed = app.admin.patch("/api/settings", json={"budgets": {"unpriced": "allow"}})
    assert changed.get_json()["settings"]["budgets"] == shown() == {"unpriced": "allow"}
    assert app.own.snapshots.current.settings["budgets", "unpriced"] == "allow"
    app.admin.patch("/api/settings", json={"budgets": {"unpriced": None}})
    assert shown() == {"unpriced": "refuse"}
    both = app.admin.put("/api/settings", json={"unpriced": "allow", "stickyLimit": 7}).get_json()["settings"]
    assert (both["budgets"], both["routing"]["stickyLimit"]) == ({"unpriced": "allow"}, 7)
    both = app.admin.patch("/api/settings", json={"budgets": {"unpriced": "refuse"}, "routing": {"stickyLimit": 8}})
    assert both.get_json()["settings"]["routing"]["stickyLimit"] == 8
    rows = [row.details for row in audited(app, "settings.changed") if row.target_id == "budgets"]
    assert rows == [
        {"unpriced": ["refuse", "allow"]},
        {"unpriced": ["allow", "refuse"]},
        {"unpriced": ["refuse", "allow"]},
        {"unpriced": ["allow", "refuse"]},
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"budgets": {"unpriced": "sometimes"}},
        {"budgets": {"unpriced": True}},
        {"budgets": {"unprized": "allow"}},
        {"budgets": "allow"},
        {"unpriced": "sometimes"},
        {"budgets": {"unpriced": "sometimes"}, "routing": {"stickyLimit": 9}},
        {"budgets": {"unpriced": "allow"}, "routing": {"stickyLimit": 0}},
        {"budgets": {"unpriced": "allow"}, "stickyLimit": 9},
    ],
)
def test_settings_of_budgets_without_meaning_are_refused(app: App, body: dict[str, Any]) -> None:
    before = app.admin.get("/api/settings").get_json()["settings"]
    response = app.admin.patch("/api/settings", json=body)
    assert (response.status_code, error_of(response)["code"]) == (400, "validation_failed")
    assert app.admin.get("/api/settings").get_json()["settings"] == before


# --- token limits -----------------------------------------------------------------------------------------------------


def test_the_life_of_a_token_limit(app: App) -> None:
    key = key_id(app)
    made = put(app, LIMITS, keyId=key, tokenLimit=1000, period="daily")
    assert made["success"]
    limit = made["limit"]
    resets_at = datetime.fromisoformat(limit.pop("resetsAt"))
    assert resets_at.timestamp() % 86_400 == 0
    assert limit.pop("id").startswith("tl_")
    assert limit == {
        "keyId": key,
        "keyName": "laptop",
        "scopeType": "global",
        "scopeValue": None,
        "tokenLimit": 1000,
        "period": "daily",
        "enabled": True,
        "tokensUsed": 0,
        "tokensReserved": 0,
        "remaining": 1000,
    }
    limit_id = app.admin.get(LIMITS).get_json()["limits"][0]["id"]
    changed = put(app, LIMITS, id=limit_id, tokenLimit=50, enabled=False)["limit"]
    assert (changed["id"], changed["tokenLimit"], changed["enabled"], changed["period"]) == (
        limit_id,
        50,
        False,
        "daily",
    )
    assert app.admin.get(f"{LIMITS}?apiKeyId={key}").get_json()["limits"] == [changed]
    assert app.admin.get(f"{LIMITS}?keyId=local").get_json()["limits"] == []
    assert app.admin.delete(f"{LIMITS}?id={limit_id}").get_json() == {"success": True, "id": limit_id}
    assert app.admin.get(LIMITS).get_json() == {"limits": []}
    for response in (
        app.admin.delete(f"{LIMITS}?id={limit_id}"),
        app.admin.post(LIMITS, json={"id": limit_id, "tokenLimit": 1}),
    ):
        assert (response.status_code, error_of(response)["code"]) == (404, "not_found")


def test_what_token_limits_are_about(app: App) -> None:
    key = key_id(app)
    spend(app, key, 0)
    spend(app, key, 0, request_id="req_2", provider="groq", model="llama", tokens_in=5, tokens_out=0)

    def limit(**fields: Any) -> tuple[Any, int]:
        made = put(app, LIMITS, apiKeyId=key, tokenLimit=200, resetInterval="monthly", **fields)["limit"]
        return made["scopeValue"], made["tokensUsed"]

    assert limit() == (None, 105)
    assert limit(scopeType="provider", scopeValue="groq") == ("groq", 5)
    assert limit(scopeType="model", scopeValue="gpt-x") == ("gpt-x", 100)
    assert limit(scopeType="model", scopeValue="openai/gpt-x") == ("openai/gpt-x", 100)
    assert limit(scopeType="model", scopeValue="groq/gpt-x") == ("groq/gpt-x", 0)
    assert put(app, LIMITS, keyId="*", tokenLimit=1, period="monthly")["limit"]["remaining"] == 0
    shown = app.admin.get(f"{LIMITS}?keyId={key}").get_json()["limits"]
    assert [one["scopeType"] for one in shown] == ["global", "provider", "model", "model", "model"]


def test_token_limits_are_found_by_what_they_are_about(app: App) -> None:
    for period, scope_type, value in (
        ("daily", "global", None),
        ("daily", "provider", "cc"),
        ("weekly", "provider", "cc"),
        ("weekly", "model", "claude/opus"),
    ):
        put(app, LIMITS, keyId="local", tokenLimit=5, period=period, scopeType=scope_type, scopeValue=value)

    def found(query: str) -> list[tuple[str, str | None]]:
        limits = app.admin.get(f"{LIMITS}?{query}").get_json()["limits"]
        return [(one["period"], one["scopeValue"]) for one in limits]

    assert found("scopeType=global") == [("daily", None)]
    assert found("scopeType=provider&scopeValue=claude") == [("daily", "cc"), ("weekly", "cc")]
    assert found("scopeType=provider&scopeValue=cc&period=weekly&keyId=local") == [("weekly", "cc")]
    assert found("period=weekly&scopeType=model&scopeValue=cc/opus") == [("weekly", "cc/opus")]
    assert found("keyId=*") == []
    for query in (
        "scopeType=provider",
        "scopeValue=cc",
        "scopeType=planet",
        "period=yearly",
        "scopeType=provider&scopeValue=x",
    ):
        assert app.admin.get(f"{LIMITS}?{query}").status_code == 400, query


def test_a_limit_about_the_same_is_replaced(app: App) -> None:
    fields = {"keyId": "local", "scopeType": "model", "scopeValue": "gpt-x", "period": "daily"}
    first = put(app, LIMITS, tokenLimit=5, enabled=False, **fields)["limit"]
    again = put(app, LIMITS, tokenLimit=6, **fields)["limit"]
    assert (again["id"], again["tokenLimit"], again["enabled"]) == (first["id"], 6, True)
    other = put(app, LIMITS, tokenLimit=7, **{**fields, "period": "weekly"})["limit"]
    response = app.admin.post(LIMITS, json={"id": other["id"], "period": "daily"})
    assert (response.status_code, error_of(response)["code"]) == (409, "conflict")
    moved = put(app, LIMITS, id=other["id"], scopeType="global")["limit"]
    assert (moved["scopeType"], moved["scopeValue"]) == ("global", None)
    assert len(app.admin.get(LIMITS).get_json()["limits"]) == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tokenLimit": -1}, "tokenLimit"),
        ({"tokenLimit": 10**15 + 1}, "tokenLimit"),
        ({"tokenLimit": 1.5}, "tokenLimit"),
        ({"tokenLimit": None}, "tokenLimit"),
        ({"tokenLimit": "1000"}, "tokenLimit"),
        ({"period": "hourly"}, "period"),
        ({"scopeType": "planet"}, "scopeType"),
        ({"scopeType": "provider"}, "scopeValue"),
        ({"scopeType": "provider", "scopeValue": "nobody"}, "scopeValue"),
        ({"scopeType": "model"}, "scopeValue"),
        ({"scopeType": "model", "scopeValue": None}, "scopeValue"),
        ({"scopeValue": "openai"}, "scopeValue"),
        ({"scopeType": "global", "scopeValue": "openai"}, "scopeValue"),
        ({"enabled": "yes"}, "enabled"),
        ({"tokens": 5}, "tokens"),
    ],
)
def test_a_token_limit_without_meaning_is_refused(app: App, fields: dict[str, Any], field: str) -> None:
    error = refused(app, LIMITS, **{"keyId": "local", "tokenLimit": 1, "period": "daily", **fields})
    assert (error["status"], error["code"]) == (400, "validation_failed")
    assert [detail["field"] for detail in error["details"]] == [field]


@pytest.mark.parametrize("missing", ["keyId", "tokenLimit", "period"])
def test_a_new_limit_needs_its_parts(app: App, missing: str) -> None:
    body = {"keyId": "local", "tokenLimit": 1, "period": "daily"}
    del body[missing]
    assert refused(app, LIMITS, **body)["details"][0]["field"] == missing


def test_a_limit_stays_with_its_key(app: App) -> None:
    limit = put(app, LIMITS, keyId="local", tokenLimit=1, period="daily")["limit"]
    response = app.admin.post(LIMITS, json={"id": limit["id"], "keyId": "*"})
    assert error_of(response)["details"][0]["field"] == "keyId"
    assert put(app, LIMITS, id=limit["id"], keyId="local", tokenLimit=2)["limit"]["tokenLimit"] == 2


# --- what keys are shown ----------------------------------------------------------------------------------------------


def test_a_key_sees_its_limits(app: App) -> None:
    rules = [{"limit": 5, "windowSeconds": 60}, {"limit": 100, "windowSeconds": 86_400}]
    secret = app.key(name="limited", rateLimits=rules, maxConcurrent=3, maxSessions=2, throttleDelayMs=1)
    key = next(one.id for one in app.own.keys.usable() if one.name == "limited")
    put(app, keyId=key, limit=5, period="daily")
    put(app, keyId="*", limit=50, period="daily")
    put(app, LIMITS, keyId=key, tokenLimit=1000, period="daily")
    spend(app, key, USD)
    now = time.time()
    Ledger(app.own.database).admit(
        [rate_hold(key, 5, 60, now)],
        [
            Places(concurrency_scope(key), 3, "req_9", 60.0),
            Places(sessions_scope(key), 2, "s", 60.0, is_session=True),
        ],
        request_id="req_9",
        owner="o",
        now=now,
        lease_s=60,
    )
    said = app.client(secret).get("/v1/me/status").get_json()
    resets_at = said["limits"]["requests"][0].pop("resetsAt")
    assert 0 < datetime.fromisoformat(resets_at).timestamp() - now <= 62
    assert said["limits"] == {
        "requests": [
            {"limit": 5, "windowSeconds": 60, "used": 1, "remaining": 4},
            {"limit": 100, "windowSeconds": 86_400, "used": 0, "remaining": 100, "resetsAt": None},
        ],
        "concurrency": {"limit": 3, "inUse": 1},
        "sessions": {"limit": 2, "inUse": 1},
        "throttleDelayMs": 1,
    }
    assert [(one["keyId"], one["spent"], one["remaining"]) for one in said["budgets"]] == [(key, 1.0, 4.0)]
    assert [(one["tokensUsed"], one["remaining"]) for one in said["tokenLimits"]] == [(100, 900)]
    usage = app.admin.get(f"/api/keys/{key}/usage").get_json()
    assert usage["limits"]["requests"][0].pop("resetsAt") == resets_at
    assert {name: usage[name] for name in ("limits", "budgets", "tokenLimits")} == {
        name: said[name] for name in ("limits", "budgets", "tokenLimits")
    }


def test_a_caller_without_limits_sees_none(app: App) -> None:
    nothing = {
        "requests": [],
        "concurrency": {"limit": None, "inUse": None},
        "sessions": {"limit": None, "inUse": None},
        "throttleDelayMs": 0,
    }
    for client in (app.client(app.key()), app.client()):
        said = client.get("/v1/me/status").get_json()
        assert (said["limits"], said["budgets"], said["tokenLimits"]) == (nothing, [], [])
    put(app, keyId="local", limit=2, period="weekly")
    assert app.client().get("/v1/me/status").get_json()["budgets"][0]["limit"] == 2.0
    assert app.admin.get("/api/keys/local/usage").get_json()["budgets"][0]["limit"] == 2.0


def test_keys_without_rules_of_their_own_have_the_default(settings: Settings) -> None:
    with whole_app(settings, default_rate_limit_per_day=2) as app:
        plain = app.client(app.key())
        own = app.client(app.key(name="own", rateLimits=[{"limit": 9, "windowSeconds": 60}]))
        for _ in range(2):
            assert plain.post("/v1/chat/completions", json=HELLO).status_code == 200
        answer = plain.post("/v1/chat/completions", json=HELLO)
        assert (answer.headers["X-OmniRoute-Error-Code"], answer.headers["X-RateLimit-Limit"]) == (
            "rate_limit_exceeded",
            "2",
        )
        shown = plain.get("/v1/me/status").get_json()["limits"]["requests"]
        assert [(one["limit"], one["windowSeconds"], one["used"]) for one in shown] == [(2, 86_400, 2)]
        assert [one["limit"] for one in own.get("/v1/me/status").get_json()["limits"]["requests"]] == [9]
        for _ in range(3):
            assert own.post("/v1/chat/completions", json=HELLO).status_code == 200
            assert app.client().post("/v1/chat/completions", json=HELLO).status_code == 200
