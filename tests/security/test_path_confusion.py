"""Decisions use the dispatched rule: no spelling of a path reaches anything that the plain spelling does not."""

from __future__ import annotations

import pytest

from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from tests.harness import Gateway

TWISTED = [
    "//api/keys",
    "/api//keys",
    "/api/./keys",
    "/api/x/../keys",
    "/api/keys/.",
    "/api/keys/..",
    "/api/keys.",
    "/api/%2e/keys",
    "/api/%2E%2e/api/keys",
    "/api%2fkeys",
    "/api%2Fkeys",
    "/api/keys%2f",
    "/api%5ckeys",
    "/api\\keys",
    "/api/keys;a=b",
    "/api/keys%3Ba",
    "/api/keys%00",
    "/api/keys%0a",
    "/api/keys%23",
    "/api/keys#x",
    "/api/keys%3fx",
    "/API/keys",
    "/api/Keys",
    "/Api/Keys",
    "/v1/../api/keys",
    "/v1//../api/keys",
    "/v1/models/..%2f..%2fapi/keys",
    "http://localhost/api/keys",
]


def raw(gateway: Gateway, target: str, **headers: str) -> tuple[int, str]:
    """Send a request target as it is; the server unquotes it, as gunicorn does."""
    from urllib.parse import unquote

    path = target.partition("?")[0]
    environ = {"RAW_URI": target, "REQUEST_URI": target, "PATH_INFO": unquote(path)}
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    client = gateway.logged_in()
    answer = client.open(path="/", method="GET", environ_overrides=environ)
    return answer.status_code, answer.get_data(as_text=True)


def test_twisted_paths_are_not_found_even_with_a_session(gateway: Gateway) -> None:
    gateway.issue("visible-name")
    for target in TWISTED:
        status, body = raw(gateway, target)
        assert status == 404, target
        assert "visible-name" not in body


def test_the_plain_path_is_found(gateway: Gateway) -> None:
    gateway.issue("visible-name")
    status, body = raw(gateway, "/api/keys")
    assert status == 200
    assert "visible-name" in body


def test_a_slash_may_be_escaped_inside_a_model_name(gateway: Gateway) -> None:
    for target in ("/v1/models/sandbox/echo", "/v1/models/sandbox%2Fecho", "/v1/models/sandbox%2fecho"):
        status, body = raw(gateway, target)
        assert status == 200
        assert '"sandbox/echo"' in body


def test_a_trailing_slash_on_inference_paths_is_tolerated(gateway: Gateway) -> None:
    client = gateway.client()
    for mount in INFERENCE_MOUNTS:
        assert client.get(f"{mount}/models/").status_code == 200
        assert client.post(f"{mount}/chat/completions/", json={}).status_code == 200


def test_a_trailing_slash_changes_no_tier(gateway: Gateway) -> None:
    assert gateway.client().get("/api/keys/").status_code == 401
    assert gateway.client(address="192.0.2.7").post("/v1/chat/completions/", json={}).status_code == 401


@pytest.mark.parametrize(
    ("path", "marker"),
    [
        ("/api/nothing-here", '"requestId"'),
        ("/v1/nothing-here", '"type":"invalid_request_error"'),
        ("/v1/messages/nothing", '"type":"error"'),
        ("/messages/nothing", '"type":"error"'),
        ("/nothing-here", "<!doctype html>"),
    ],
)
def test_unknown_paths_answer_404_of_their_family_without_asking_for_credentials(
    gateway: Gateway, path: str, marker: str
) -> None:
    answer = gateway.client(address="192.0.2.7").get(path)
    assert answer.status_code == 404
    assert marker in answer.get_data(as_text=True)
    assert answer.headers["X-OmniRoute-Error-Code"] == "not_found"
    assert "/api/keys" not in answer.get_data(as_text=True)


def test_the_host_header_changes_no_route(gateway: Gateway) -> None:
    for host in ("localhost:20128/api/keys", "evil.example", "localhost@evil.example", "127.0.0.1.evil.example"):
        answer = gateway.client(host=host).get("/v1/models")
        assert answer.status_code in (400, 401), host
