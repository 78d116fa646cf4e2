"""Other origins read nothing, unless listed, and then inference only and never with credentials."""

from __future__ import annotations

from collections.abc import Callable

from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from tests.harness import Gateway

ORIGIN = "https://app.example"
MANAGEMENT = ["/api/keys", "/api/providers", "/api/auth/status", "/api/health/ping", "/healthz", "/login", "/dashboard"]


def test_nothing_answers_cors_by_default(gateway: Gateway) -> None:
    client = gateway.logged_in()
    key = {"Authorization": f"Bearer {gateway.issue().secret}"}
    for path in (*MANAGEMENT, "/v1/models"):
        for method in ("GET", "OPTIONS"):
            answer = client.open(path, method=method, headers={"Origin": ORIGIN, **(key if "v1" in path else {})})
            assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")], path


def test_a_listed_origin_reads_inference_only(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(cors_allowed_origins=(ORIGIN,))
    client = gateway.logged_in()
    key = {"Authorization": f"Bearer {gateway.issue().secret}"}
    for mount in INFERENCE_MOUNTS:
        answer = client.get(f"{mount}/models", headers={"Origin": ORIGIN, **key})
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        other = client.get(f"{mount}/models", headers={"Origin": "https://evil.example", **key})
        assert "Access-Control-Allow-Origin" not in other.headers
    for path in MANAGEMENT:
        assert "Access-Control-Allow-Origin" not in client.get(path, headers={"Origin": ORIGIN}).headers


def test_the_wildcard_never_comes_with_credentials(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(cors_allowed_origins=("*",))
    client = gateway.logged_in()
    headers = {"Origin": ORIGIN, "Authorization": f"Bearer {gateway.issue().secret}"}
    answer = client.get("/v1/models", headers=headers)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    for path in MANAGEMENT:
        assert "Access-Control-Allow-Origin" not in client.get(path, headers={"Origin": ORIGIN}).headers


def test_the_wildcard_does_not_open_the_keyless_loopback_to_pages(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(cors_allowed_origins=("*",))
    assert gateway.client().get("/v1/models", headers={"Origin": ORIGIN}).status_code == 403


def test_a_preflight_says_what_is_allowed_and_nothing_else(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(cors_allowed_origins=(ORIGIN,))
    client = gateway.client(address="192.0.2.7")
    headers = {"Origin": ORIGIN, "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os"}
    answer = client.options("/v1/chat/completions", headers=headers)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Methods"] == "OPTIONS, POST"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type, x-stainless-os"
    assert answer.data == b""
    odd = client.options("/v1/models", headers={"Origin": ORIGIN, "Access-Control-Request-Headers": "a b, <script>"})
    assert "Access-Control-Allow-Headers" not in odd.headers


def test_an_error_can_be_read_by_a_listed_origin(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(cors_allowed_origins=(ORIGIN,))
    answer = gateway.client(address="192.0.2.7").get("/v1/models", headers={"Origin": ORIGIN})
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
