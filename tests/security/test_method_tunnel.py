"""HEAD, OPTIONS, method overrides and upgrade requests pass the same checks as the method they stand for."""

from __future__ import annotations

import pytest

from omniroute.blueprints.tiers import INFERENCE_MOUNTS, ROUTES, Family, Tier
from tests.harness import Gateway

OVERRIDES = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"]


def concrete(rule: str) -> str:
    from re import sub

    return sub(r"<(?:path:)?\w+>", "x", rule)


def closed_routes() -> list[tuple[str, str]]:
    open_tiers = (Tier.P, Tier.T)
    return [
        (concrete(route.rule), method)
        for route in ROUTES
        for method in route.methods
        if route.tier not in open_tiers and not route.is_reduced
    ]


def test_no_closed_route_answers_a_stranger(gateway: Gateway) -> None:
    client = gateway.client(address="192.0.2.7")
    for path, method in closed_routes():
        answer = client.open(path, method=method)
        assert answer.status_code in (401, 302, 403), (method, path)  # 403: only callers on the same host


def test_head_is_checked_like_get(gateway: Gateway) -> None:
    client = gateway.client(address="192.0.2.7")
    for path, method in closed_routes():
        if method == "GET":
            assert client.head(path).status_code in (401, 302, 403), path
    assert gateway.logged_in().head("/api/keys").status_code == 200


def test_options_never_runs_a_view(gateway: Gateway) -> None:
    client = gateway.client(address="192.0.2.7")
    for route in ROUTES:
        answer = client.options(concrete(route.rule))
        assert answer.status_code == 204, route.rule
        assert answer.data == b""
        assert set(route.methods) <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize("header", OVERRIDES)
def test_override_headers_change_nothing(gateway: Gateway, header: str) -> None:
    client = gateway.logged_in()
    key = gateway.issue()
    headers = {header: "DELETE", "Origin": "http://localhost:20128"}
    assert client.get(f"/api/keys/{key.key.id}", headers=headers).status_code == 200
    assert client.post(f"/api/keys/{key.key.id}?_method=DELETE", headers=headers).status_code == 405
    assert len(gateway.keys.usable()) == 1


def test_an_upgrade_request_is_checked(gateway: Gateway) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eA==",
    }
    client = gateway.client(address="192.0.2.7")
    for path in ("/api/keys", "/v1/models", "/dashboard"):
        assert client.get(path, headers=upgrade).status_code in (302, 400, 401, 405), path


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "PURGE"])
def test_unknown_methods_are_refused(gateway: Gateway, method: str) -> None:
    client = gateway.logged_in()
    for path in ("/api/keys", "/v1/models", "/dashboard"):
        answer = client.open(path, environ_overrides={"REQUEST_METHOD": method})
        assert answer.status_code == 405, path
        assert "GET" in answer.headers["Allow"]


def test_a_wrong_method_says_which_are_right(gateway: Gateway) -> None:
    answer = gateway.client().delete("/v1/chat/completions")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "OPTIONS, POST"
    assert answer.headers["X-OmniRoute-Error-Code"] == "method_not_allowed"
    assert answer.get_json()["error"]["type"] == "invalid_request_error"


def test_every_inference_mount_is_declared_alike() -> None:
    chat = [route for route in ROUTES if route.rule.endswith("/chat/completions")]
    assert {route.tier for route in chat} == {Tier.C}
    assert {route.family for route in chat} == {Family.OPENAI}
    assert len(chat) == 2 * len(INFERENCE_MOUNTS)  # with and without a provider named
