"""`/api/auth` and the login switch over HTTP."""

from __future__ import annotations

import pytest

from tests.harness import PASSWORD, Gateway, gateway, make_gateway

__all__ = ["gateway", "make_gateway"]

ORIGIN = {"Origin": "http://localhost:20128"}
REMOTE = "192.0.2.7"


def test_a_manage_key_gets_a_csrf_token_too(gateway: Gateway) -> None:
    """It has no use for one, but the route is open to it, and a request without cookies has a session of its own."""
    key = gateway.issue(scopes=("manage",)).secret
    answer = gateway.client().get("/api/auth/csrf", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert set(answer.get_json()) == {"token", "expiresAt"}


def test_sessions_are_listed_like_everything_else(gateway: Gateway) -> None:
    client = gateway.logged_in()
    gateway.clock.pass_(1)
    gateway.logged_in()
    answer = client.get("/api/auth/sessions?limit=1")
    body = answer.get_json()
    assert (len(body["sessions"]), body["total"], body["limit"], body["offset"]) == (1, 2, 1, 0)
    assert answer.headers["X-Total-Count"] == "2"


def test_switching_login_off_takes_the_password_and_is_audited(gateway: Gateway) -> None:
    client = gateway.logged_in()
    answer = client.post(
        "/api/settings/require-login", json={"requireLogin": False, "currentPassword": PASSWORD}, headers=ORIGIN
    )
    assert answer.get_json() == {"success": True}
    assert gateway.client().get("/api/settings/require-login").get_json()["requireLogin"] is False
    assert gateway.client().get("/api/keys").status_code == 200
    assert gateway.client(address=REMOTE).get("/api/keys").status_code == 401
    (entry,) = gateway.audited("login.disabled")
    assert entry.actor.startswith("session:")


def test_login_is_switched_on_again_with_a_credential_only(gateway: Gateway) -> None:
    client = gateway.logged_in()
    off, on = ({"requireLogin": is_on, "currentPassword": PASSWORD} for is_on in (False, True))
    assert client.post("/api/settings/require-login", json=off, headers=ORIGIN).status_code == 200
    assert gateway.client().post("/api/settings/require-login", json=on).status_code == 401
    assert client.post("/api/settings/require-login", json=on, headers=ORIGIN).status_code == 200
    assert gateway.client().get("/api/keys").status_code == 401
    assert len(gateway.audited("settings.changed")) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"requireLogin": False, "currentPassword": "wrong"}, 401, "invalid_password"),
        ({"requireLogin": False}, 400, "validation_failed"),
        ({"requireLogin": "no", "currentPassword": PASSWORD}, 400, "validation_failed"),
        ({"requirelogin": False, "currentPassword": PASSWORD}, 400, "validation_failed"),
    ],
)
def test_login_stays_required(gateway: Gateway, body: dict[str, object], status: int, code: str) -> None:
    answer = gateway.logged_in().post("/api/settings/require-login", json=body, headers=ORIGIN)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (status, code)
    assert gateway.access.is_login_required


def test_the_switch_shares_the_lockout(gateway: Gateway) -> None:
    client = gateway.logged_in(address=REMOTE)
    origin = {"Origin": "http://192.0.2.10:20128"}
    body = {"requireLogin": False, "currentPassword": "wrong"}
    answers = [client.post("/api/settings/require-login", json=body, headers=origin).status_code for _ in range(6)]
    assert answers == [401] * 5 + [429]
