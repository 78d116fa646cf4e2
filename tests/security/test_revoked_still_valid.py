"""What is revoked ends at once in its worker, and within a refresh in every other."""

from __future__ import annotations

from typing import Any

from omniroute.services.keys import SYSTEM
from tests.harness import PASSWORD, Gateway

ORIGIN = {"Origin": "http://localhost:20128"}


def status(gateway: Gateway, secret: str) -> int:
    return int(gateway.client(address="192.0.2.7").get("/v1/models", headers={"x-api-key": secret}).status_code)


def test_a_revoked_key_ends_on_all_workers(gateway: Gateway) -> None:
    other = gateway.other_worker()
    issued = gateway.issue()
    other.snapshots.refresh()
    assert [status(gateway, issued.secret), status(other, issued.secret)] == [200, 200]
    gateway.keys.revoke(issued.key.id, SYSTEM)
    assert status(gateway, issued.secret) == 401
    other.snapshots.refresh()
    assert status(other, issued.secret) == 401


def test_a_changed_key_changes_on_all_workers(gateway: Gateway) -> None:
    other = gateway.other_worker()
    issued = gateway.issue()
    for change, expected in (({"isActive": False}, 403), ({"isActive": True}, 200), ({"scopes": ("a2a",)}, 403)):
        gateway.keys.change(issued.key.id, change, SYSTEM)
        assert status(gateway, issued.secret) == expected
        other.snapshots.refresh()
        assert status(other, issued.secret) == expected


def test_a_replaced_key_ends_at_once_or_after_its_grace(gateway: Gateway) -> None:
    issued = gateway.issue()
    second = gateway.keys.regenerate(issued.key.id, SYSTEM).secret
    assert [status(gateway, issued.secret), status(gateway, second)] == [401, 200]
    third = gateway.keys.regenerate(issued.key.id, SYSTEM, grace_s=60).secret
    assert [status(gateway, second), status(gateway, third)] == [200, 200]
    gateway.clock.pass_(60)
    assert [status(gateway, second), status(gateway, third)] == [401, 200]  # also while the snapshot still lists it
    gateway.keys.revoke(issued.key.id, SYSTEM)
    assert [status(gateway, second), status(gateway, third)] == [401, 401]


def test_revoking_a_key_in_its_grace_ends_both(gateway: Gateway) -> None:
    issued = gateway.issue()
    new = gateway.keys.regenerate(issued.key.id, SYSTEM, grace_s=600).secret
    gateway.keys.revoke(issued.key.id, SYSTEM)
    assert [status(gateway, issued.secret), status(gateway, new)] == [401, 401]


def test_logout_ends_the_session_and_not_only_the_cookie(gateway: Gateway) -> None:
    other = gateway.other_worker()
    client = gateway.logged_in()
    cookie = client.get_cookie("auth_token")
    assert cookie is not None
    kept = {"HTTP_COOKIE": f"auth_token={cookie.value}"}
    assert (
        other.client(cookies=False).get("/api/keys", environ_overrides=kept).status_code == 200
    )  # not in its snapshot yet
    assert client.post("/api/auth/logout", headers=ORIGIN).status_code == 200
    assert gateway.client(cookies=False).get("/api/keys", environ_overrides=kept).status_code == 401
    other.snapshots.refresh()
    assert other.client(cookies=False).get("/api/keys", environ_overrides=kept).status_code == 401


def test_a_password_change_ends_all_other_sessions(gateway: Gateway) -> None:
    first, second = gateway.logged_in(), gateway.logged_in()
    body = {"currentPassword": PASSWORD, "newPassword": "another good one"}
    answer = first.post("/api/auth/password", json=body, headers=ORIGIN)
    assert answer.get_json() == {"success": True, "revokedSessions": 1}
    assert first.get("/api/keys").status_code == 200
    assert second.get("/api/keys").status_code == 401
    assert gateway.client().post("/api/auth/login", json={"password": PASSWORD}).status_code == 401


def test_sessions_can_be_ended_one_by_one(gateway: Gateway) -> None:
    first, second = gateway.logged_in(), gateway.logged_in()
    rows: list[dict[str, Any]] = first.get("/api/auth/sessions").get_json()["sessions"]
    assert [row["current"] for row in rows].count(True) == 1
    foreign = next(row["id"] for row in rows if not row["current"])
    assert first.delete(f"/api/auth/sessions/{foreign}", headers=ORIGIN).status_code == 200
    assert second.get("/api/keys").status_code == 401
    assert first.get("/api/keys").status_code == 200
    assert first.delete(f"/api/auth/sessions/{foreign}", headers=ORIGIN).status_code == 404


def test_an_expired_session_ends(gateway: Gateway) -> None:
    client = gateway.logged_in()
    gateway.clock.pass_(30 * 86400 - 1)
    assert client.get("/api/auth/status").get_json()["authenticated"]
    gateway.clock.pass_(2)
    assert not client.get("/api/auth/status").get_json()["authenticated"]


def test_a_cookie_signed_with_another_secret_opens_nothing(gateway: Gateway) -> None:
    import jwt

    forged = {"sid": "x" * 43, "iat": int(gateway.clock()), "exp": int(gateway.clock()) + 9999}
    signing_key = gateway.sessions._signing_key
    for token in (
        jwt.encode(forged, "k" * 48, algorithm="HS256"),
        jwt.encode(forged, "", algorithm="none"),
        jwt.encode(forged, "s" * 64, algorithm="HS512"),
        jwt.encode({**forged, "sid": 1}, signing_key, algorithm="HS256"),
        jwt.encode({**forged, "exp": "soon"}, signing_key, algorithm="HS256"),
        jwt.encode(forged, signing_key, algorithm="HS256"),
        "a.b.c",
        "",
    ):
        answer = gateway.client(cookies=False).get(
            "/api/keys", environ_overrides={"HTTP_COOKIE": f"auth_token={token}"}
        )
        assert answer.status_code == 401, token
