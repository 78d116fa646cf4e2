"""`/api/keys` over HTTP: strict bodies, nothing stored half."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness import Gateway, gateway, make_gateway

__all__ = ["gateway", "make_gateway"]

ORIGIN = {"Origin": "http://localhost:20128"}


def test_the_life_of_a_key(gateway: Gateway) -> None:
    client = gateway.logged_in()
    made = client.post("/api/keys", json={"name": "laptop", "allowedModels": ["sandbox/*"]}, headers=ORIGIN)
    assert made.status_code == 201
    body = made.get_json()
    assert body["name"] == "laptop"
    assert body["scopes"] == ["chat", "self:usage"]
    assert body["createdAt"] == "2027-01-15T08:00:00.000Z"
    row_id = body["id"]
    listed = client.get("/api/keys").get_json()
    assert listed["total"] == 1
    assert listed["keys"][0]["id"] == row_id
    assert listed["allowKeyReveal"] is False
    for method in ("PATCH", "PUT"):
        changed = client.open(f"/api/keys/{row_id}", method=method, json={"isActive": False}, headers=ORIGIN)
        assert changed.get_json()["key"]["state"] == "disabled"
        assert changed.get_json()["key"]["allowedModels"] == ["sandbox/*"]
    again = client.post(f"/api/keys/{row_id}/regenerate", json={"graceSec": 60}, headers=ORIGIN).get_json()
    assert again["id"] == row_id
    assert again["previousValidUntil"] == "2027-01-15T08:01:00.000Z"
    assert client.delete(f"/api/keys/{row_id}", headers=ORIGIN).get_json() == {"success": True, "id": row_id}
    assert client.get(f"/api/keys/{row_id}").status_code == 404
    assert client.get("/api/keys").get_json()["total"] == 0


def test_pages_of_the_list(gateway: Gateway) -> None:
    for number in range(7):
        gateway.issue(f"key {number}")
        gateway.clock.pass_(1)
    client = gateway.logged_in()
    answer = client.get("/api/keys?limit=3&offset=5")
    assert [key["name"] for key in answer.get_json()["keys"]] == ["key 1", "key 0"]
    assert answer.headers["X-Total-Count"] == "7"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x", "surprise": 1}, "surprise"),
        ({"name": "x", "Scopes": ["chat"]}, "Scopes"),
        ({"name": "x", "scopes": "chat"}, "scopes"),
        ({"name": "x", "scopes": ["nonsense"]}, "scopes"),
        ({"name": "x", "allowedModels": [1]}, "allowedModels"),
        ({"name": "x", "allowedEndpoints": ["mesages"]}, "allowedEndpoints"),
        ({"name": "x", "expiresAt": "tomorrow"}, "expiresAt"),
        ({"name": "x", "expiresAt": "2027-01-15T07:59:59Z"}, "expiresAt"),
        ({"name": "x", "expiresAt": "2028-01-15T07:59:59"}, "expiresAt"),
        ({"name": "x", "isActive": "yes"}, "isActive"),
        ({"name": "x", "ipAllowlist": ["everywhere"]}, "ipAllowlist"),
        ({"name": "x", "rateLimits": [{"limit": 0, "windowSeconds": 1}]}, "rateLimits.limit"),
        ({"name": "x", "rateLimits": [{"limit": 1}]}, "rateLimits.windowSeconds"),
        ({"name": "x", "rateLimits": [{"limit": 1, "windowSeconds": 0}]}, "rateLimits.windowSeconds"),
        ({"name": "x", "rateLimits": [{"limit": 1.5, "windowSeconds": 1}]}, "rateLimits.limit"),
        ({"name": "x", "rateLimits": [{"limit": 1, "windowSeconds": 366 * 86_400 + 1}]}, "rateLimits.windowSeconds"),
        ({"name": "x", "rateLimits": [{"limit": 1, "windowSeconds": n + 1} for n in range(51)]}, "rateLimits"),
        ({"name": "x", "rateLimits": [{"limit": n + 1, "windowSeconds": 60} for n in range(2)]}, "rateLimits"),
        ({"name": "x", "rateLimits": [{"limit": 1, "windowSeconds": 1, "burst": 2}]}, "rateLimits.burst"),
        ({"name": "x", "maxConcurrent": 0}, "maxConcurrent"),
        ({"name": "x", "maxConcurrent": 10_001}, "maxConcurrent"),
        ({"name": "x", "maxSessions": 0}, "maxSessions"),
        ({"name": "x", "throttleDelayMs": -1}, "throttleDelayMs"),
        ({"name": "x", "maxSessions": 10_001}, "maxSessions"),
        ({"name": "x", "throttleDelayMs": 300_001}, "throttleDelayMs"),
        ({"name": "x", "streamDefault": "sometimes"}, "streamDefault"),
        (
            {
                "name": "x",
                "accessSchedule": {"enabled": True, "from": "9:00", "until": "17:00", "days": [], "tz": "UTC"},
            },
            "accessSchedule.from",
        ),
        (
            {
                "name": "x",
                "accessSchedule": {"enabled": True, "from": "09:00", "until": "17:00", "days": [7], "tz": "UTC"},
            },
            "accessSchedule.days",
        ),
        (
            {
                "name": "x",
                "accessSchedule": {"enabled": True, "from": "09:00", "until": "17:00", "days": [], "tz": "Nowhere"},
            },
            "accessSchedule",
        ),
    ],
)
def test_bad_fields_are_named_and_nothing_is_stored(gateway: Gateway, body: dict[str, Any], field: str) -> None:
    answer = gateway.logged_in().post("/api/keys", json=body, headers=ORIGIN)
    assert answer.status_code == 400
    error = answer.get_json()["error"]
    assert error["code"] == "validation_failed"
    assert field in [detail["field"] for detail in error["details"]]
    assert gateway.keys.usable() == []


@pytest.mark.parametrize(
    ("raw", "content_type", "status"),
    [
        (b'{"name": "x", "name": "y"}', "application/json", 400),
        (b'{"name": "x"', "application/json", 400),
        (b'["x"]', "application/json", 400),
        (b'{"name": NaN}', "application/json", 400),
        (b'{"name": "x"}', "text/plain", 415),
        (b'{"name": "x"}', "", 415),
        (b"name=x", "application/x-www-form-urlencoded", 415),
        (b"[" * 10_000 + b"]" * 10_000, "application/json", 400),
        (b'{"name": "\xff"}', "application/json", 400),
        (b"", "application/json", 400),
    ],
)
def test_bad_bodies_are_refused(gateway: Gateway, raw: bytes, content_type: str, status: int) -> None:
    answer = gateway.logged_in().post("/api/keys", data=raw, content_type=content_type, headers=ORIGIN)
    assert answer.status_code == status
    assert answer.get_json()["error"]["requestId"]
    assert gateway.keys.usable() == []


def test_a_refused_change_leaves_the_key_as_it_was(gateway: Gateway) -> None:
    before = gateway.issue("stable").key
    client = gateway.logged_in()
    for body in ({"name": "new", "scopes": ["nonsense"]}, {"name": "new", "unknown": 1}, {"name": None}):
        assert client.patch(f"/api/keys/{before.id}", json=body, headers=ORIGIN).status_code == 400
    assert gateway.keys.get(before.id) == before


def test_unknown_keys_are_not_found(gateway: Gateway) -> None:
    client = gateway.logged_in()
    assert client.get("/api/keys/key_unknown").status_code == 404
    assert client.patch("/api/keys/key_unknown", json={"name": "x"}, headers=ORIGIN).status_code == 404
    assert client.delete("/api/keys/key_unknown", headers=ORIGIN).status_code == 404
    assert client.post("/api/keys/key_unknown/regenerate", headers=ORIGIN).status_code == 404


def test_lists_are_searched_sorted_and_cut(gateway: Gateway) -> None:
    for name in ("beta", "Alpha", "gamma"):
        gateway.issue(name)
        gateway.clock.pass_(1)
    client = gateway.logged_in()

    def names(query: str) -> list[str]:
        answer = client.get(f"/api/keys?{query}")
        assert answer.headers["X-Total-Count"] == str(answer.get_json()["total"])
        return [row["name"] for row in answer.get_json()["keys"]]

    assert names("") == ["gamma", "Alpha", "beta"]
    assert names("sort=name") == ["Alpha", "beta", "gamma"]
    assert names("sort=-name&limit=1&offset=1") == ["beta"]
    assert names("sort=createdAt") == ["beta", "Alpha", "gamma"]
    assert names("q=ALPH") == ["Alpha"]
    assert names("q=%25") == []
    refused = client.get("/api/keys?sort=secret")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "validation_failed")


@pytest.mark.parametrize(("field", "value"), [("disabledGuardrails", ["pii"]), ("streamDefault", "json")])
def test_a_field_that_nothing_acts_on_is_refused(gateway: Gateway, field: str, value: Any) -> None:
    client = gateway.logged_in()
    answer = client.post("/api/keys", json={"name": "k", field: value}, headers=ORIGIN)
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"]) == (400, "not_supported")
    assert error["details"][0]["field"] == field
    assert client.get("/api/keys").get_json()["total"] == 0


def test_limits_of_a_key(gateway: Gateway) -> None:
    client = gateway.logged_in()
    rules = [{"limit": n + 1, "windowSeconds": n + 1} for n in range(50)]
    given = {"rateLimits": rules, "maxConcurrent": 2, "maxSessions": 10_000, "throttleDelayMs": 300_000}
    made = client.post("/api/keys", json={"name": "k", **given}, headers=ORIGIN).get_json()
    assert {name: made[name] for name in given} == given
    nothing: dict[str, Any] = {"rateLimits": [], "maxConcurrent": None, "maxSessions": None, "throttleDelayMs": None}
    changed = client.patch(f"/api/keys/{made['id']}", json=nothing, headers=ORIGIN).get_json()["key"]
    assert {name: changed[name] for name in nothing} == nothing
