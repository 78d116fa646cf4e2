"""No header of an answer carries what a caller made up, except a correlation id of harmless characters."""

from __future__ import annotations

import re

import pytest

from tests.harness import Gateway

HOSTILE_IDS = ["a\r\nSet-Cookie: x=1", "a\nb", "a b", "<script>", "a" * 129, "a\x00b", "ключ", "a;b", "", "a,b"]


def test_a_correlation_id_of_harmless_characters_is_echoed(gateway: Gateway) -> None:
    for value in ("abc-123", "A.b_c:d", "x" * 128):
        answer = gateway.client().get("/v1/models", headers={"X-Request-Id": value})
        assert answer.headers["X-Request-Id"] == value
        assert answer.headers["X-OmniRoute-Request-Id"] != value


def test_any_other_correlation_id_is_dropped(gateway: Gateway) -> None:
    for value in HOSTILE_IDS:
        sent = value.encode("utf-8").decode("latin-1")
        for path in ("/v1/models", "/api/keys", "/login"):
            answer = gateway.client().get(path, environ_overrides={"HTTP_X_REQUEST_ID": sent})
            assert "X-Request-Id" not in answer.headers, value
            assert "Set-Cookie" not in answer.headers or "x=1" not in answer.headers["Set-Cookie"]


def test_the_gateways_own_id_is_always_new(gateway: Gateway) -> None:
    forged = {"X-OmniRoute-Request-Id": "req_forged", "X-OmniRoute-Route-Tier": "P", "X-OmniRoute-Auth-Key": "admin"}
    seen = set()
    for _ in range(5):
        answer = gateway.client().get("/v1/models", headers=forged)
        seen.add(answer.headers["X-OmniRoute-Request-Id"])
        assert len(answer.headers.getlist("X-OmniRoute-Request-Id")) == 1
    assert len(seen) == 5
    assert all(re.fullmatch(r"req_[0-9a-z]{26}", number) for number in seen)


@pytest.mark.parametrize("name", ["X-OmniRoute-Auth-User", "X-OmniRoute-Peer-Address", "X-OmniRoute-Route-Tier"])
def test_internal_headers_of_a_client_do_not_reach_a_view(gateway: Gateway, name: str) -> None:
    from flask import request

    seen: list[bool] = []
    variable = "HTTP_" + name.upper().replace("-", "_")

    def view() -> str:
        seen.append(variable in request.environ)
        return ""

    gateway.app.view_functions["management_auth.init"] = view
    gateway.client().get("/api/init", headers={name: "x"})
    assert seen == [False]


def test_the_login_redirect_stays_on_this_server(gateway: Gateway) -> None:
    client = gateway.client()
    for target in (
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/ok\r\nSet-Cookie: x=1",
        "javascript:alert(1)",
        "/\tevil",
        "evil",
        "/" + "x" * 2000,
    ):
        form = {"password": "correct horse battery", "next": target}
        answer = client.post("/login", data=form, headers={"Origin": "http://localhost:20128"})
        assert answer.status_code == 303
        assert answer.headers["Location"] == "/dashboard", target
    form = {"password": "correct horse battery", "next": "/dashboard?tab=keys"}
    answer = client.post("/login", data=form, headers={"Origin": "http://localhost:20128"})
    assert answer.headers["Location"] == "/dashboard?tab=keys"


def test_pages_carry_the_strict_headers(gateway: Gateway) -> None:
    for path in ("/login", "/dashboard", "/nothing-here"):
        client = gateway.client() if path == "/login" else gateway.logged_in()
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
