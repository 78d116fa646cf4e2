"""A page of another site cannot make a logged-in browser change anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from omniroute.blueprints.tiers import ROUTES, Tier
from tests.harness import Gateway

OWN = "http://localhost:20128"
FOREIGN = [
    "https://evil.example",
    "http://localhost:20129",
    "https://localhost:20128",
    "http://localhost:20128.evil.example",
    "http://evil.example/http://localhost:20128",
    "null",
    "",
]

MUTATIONS = [
    (method, route.rule)
    for route in ROUTES
    for method in route.methods
    if method not in ("GET", "HEAD")
    and (route.tier in (Tier.M_WRITE, Tier.M_ADMIN, Tier.X, Tier.D) or route.checks_origin)
]


def path_of(rule: str) -> str:
    return (
        rule.replace("<connection_id>", "conn_1")
        .replace("<node_id>", "node_1")
        .replace("<key_id>", "key_1")
        .replace("<session_id>", "ses_1")
    )


def test_no_mutation_passes_from_a_foreign_page(gateway: Gateway) -> None:
    client = gateway.logged_in()
    assert len(MUTATIONS) > 15
    for method, rule in MUTATIONS:
        for headers in ({"Origin": "https://evil.example"}, {"Referer": "https://evil.example/x"}, {}):
            answer = client.open(path_of(rule), method=method, headers=headers, json={"name": "x"})
            assert answer.status_code == 403, (method, rule, headers)
            assert answer.headers["X-OmniRoute-Error-Code"] == "origin_refused"
    assert gateway.keys.usable() == []
    assert len(gateway.sessions.open_sessions()) == 1


def test_foreign_origins_are_refused_and_named(gateway: Gateway) -> None:
    client = gateway.logged_in()
    for origin in FOREIGN:
        answer = client.post("/api/keys", json={"name": "x"}, headers={"Origin": origin})
        assert answer.status_code == 403, origin
        assert "OMNIROUTE_ALLOWED_ORIGINS" in answer.get_json()["error"]["message"]
        if origin.count("/") == 2:
            assert origin in answer.get_json()["error"]["message"]


def test_our_own_pages_pass(gateway: Gateway) -> None:
    client = gateway.logged_in()
    for headers in ({"Origin": OWN}, {"Referer": OWN + "/dashboard"}):
        assert client.post("/api/keys", json={"name": "x"}, headers=headers).status_code == 201


def test_a_foreign_origin_is_not_saved_by_a_good_referer(gateway: Gateway) -> None:
    headers = {"Origin": "https://evil.example", "Referer": OWN + "/dashboard"}
    assert gateway.logged_in().post("/api/keys", json={"name": "x"}, headers=headers).status_code == 403


def token_of(client: Any) -> str:
    answer = client.get("/api/auth/csrf")
    assert answer.status_code == 200
    return str(answer.get_json()["token"])


def test_the_token_passes_where_the_origin_proves_nothing(gateway: Gateway) -> None:
    client = gateway.logged_in()
    token = token_of(client)
    headers = {"X-OmniRoute-CSRF": token}
    assert client.post("/api/keys", json={"name": "one"}, headers=headers).status_code == 201
    assert client.post("/api/keys", json={"name": "two"}, headers={**headers, "Origin": "null"}).status_code == 201
    for wrong in ("", token[:-2], token + "x", "x" * len(token)):
        assert client.post("/api/keys", json={"name": "x"}, headers={"X-OmniRoute-CSRF": wrong}).status_code == 403


def test_a_token_of_another_browser_does_not_pass(gateway: Gateway) -> None:
    token = token_of(gateway.logged_in())
    answer = gateway.logged_in().post("/api/keys", json={"name": "x"}, headers={"X-OmniRoute-CSRF": token})
    assert answer.status_code == 403


def test_the_token_is_given_to_logged_in_visitors_only(gateway: Gateway) -> None:
    assert gateway.client().get("/api/auth/csrf").status_code == 401


def test_a_key_in_a_header_needs_no_origin(gateway: Gateway) -> None:
    key = gateway.issue(scopes=("manage",)).secret
    client = gateway.client(address="192.0.2.7")
    assert client.post("/api/keys", json={"name": "x"}, headers={"Authorization": f"Bearer {key}"}).status_code == 201


def test_a_lan_address_works_without_configuration(gateway: Gateway) -> None:
    client = gateway.logged_in(address="192.0.2.7", host="gateway.lan:20128")
    good = client.post("/api/keys", json={"name": "x"}, headers={"Origin": "http://gateway.lan:20128"})
    assert good.status_code == 201


def test_base_url_and_listed_origins_pass(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(base_url="https://gateway.example", allowed_origins=("https://admin.example:8443",))
    client = gateway.logged_in()
    for origin in ("https://gateway.example", "https://admin.example:8443"):
        assert client.post("/api/keys", json={"name": "x"}, headers={"Origin": origin}).status_code == 201
    assert client.post("/api/keys", json={"name": "x"}, headers={"Origin": "https://admin.example"}).status_code == 403


def test_a_trusted_proxy_says_what_the_browser_used(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(trust_proxy="10.0.0.0/8")
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "gw.example", "X-Forwarded-For": "192.0.2.7"}
    client = gateway.client(address="10.0.0.1", host="backend:20128")
    from tests.harness import PASSWORD

    answer = client.post("/api/auth/login", json={"password": PASSWORD}, headers=forwarded, base_url="https://backend")
    assert "__Host-auth_token=" in answer.headers["Set-Cookie"]
    assert "Secure" in answer.headers["Set-Cookie"]
    cookie = answer.headers["Set-Cookie"].split(";")[0]
    headers = {**forwarded, "Origin": "https://gw.example", "Cookie": cookie}
    client = gateway.client(address="10.0.0.1", host="backend:20128", cookies=False)
    assert client.post("/api/keys", json={"name": "x"}, headers=headers).status_code == 201
    client.environ_base["REMOTE_ADDR"] = "192.0.2.66"  # the same words from somebody who is not the proxy
    assert client.post("/api/keys", json={"name": "x"}, headers=headers).status_code == 403


def test_get_never_changes_state(gateway: Gateway) -> None:
    client = gateway.logged_in()
    assert client.get("/logout").status_code == 405
    assert client.get("/dashboard/account").status_code == 200


def test_login_switched_off_does_not_open_the_door_to_pages(gateway: Gateway) -> None:
    gateway.store("security", "requireLogin", False)
    client = gateway.client()
    assert client.post("/api/keys", json={"name": "by curl"}).status_code == 201
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Referer": "https://evil.example/"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert client.post("/api/keys", json={"name": "x"}, headers=headers).status_code == 403
    assert [key.name for key in gateway.keys.usable()] == ["by curl"]


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_foreign_page_cannot_spend_through_the_keyless_loopback(gateway: Gateway, headers: dict[str, str]) -> None:
    answer = gateway.client().post("/v1/chat/completions", json={}, headers=headers)
    assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (403, "origin_refused")
    assert gateway.client().post("/v1/chat/completions", json={}, headers={"Origin": OWN}).status_code == 200


def test_the_dashboard_may_use_inference_with_its_token(gateway: Gateway) -> None:
    client = gateway.logged_in(address="192.0.2.7")
    assert client.post("/v1/chat/completions", json={}).status_code == 401
    answer = client.post("/v1/chat/completions", json={}, headers={"X-OmniRoute-CSRF": token_of(client)})
    assert answer.status_code == 200
    assert answer.get_json()["caller"] == "session"
    answer = client.post("/v1/chat/completions", json={}, headers={"X-OmniRoute-CSRF": "wrong"})
    assert answer.status_code == 403


def test_the_cookie_is_kept_from_scripts_and_other_sites(gateway: Gateway) -> None:
    from tests.harness import PASSWORD

    cookie = gateway.client().post("/api/auth/login", json={"password": PASSWORD}).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Max-Age=2592000" in cookie
