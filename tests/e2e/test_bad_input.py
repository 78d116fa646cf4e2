"""Input that breaks gateways: each gets a clear 4xx in the caller's dialect, and the server stays up."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import pytest
import requests

from tests.e2e.processes import Server, wait_until

OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"
GOOD = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
JSON_TYPE = {"Content-Type": "application/json"}

CASES: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("broken", b'{"model":', JSON_TYPE, 400, "invalid_json"),
    ("not-an-object", b"[]", JSON_TYPE, 400, "invalid_json"),
    ("empty", b"", JSON_TYPE, 400, "invalid_json"),
    ("not-utf8", b'{"model":"\xff","messages":[]}', JSON_TYPE, 400, "invalid_json"),
    ("nan", b'{"model":"sandbox/echo","messages":[],"temperature":NaN}', JSON_TYPE, 400, "invalid_json"),
    ("deep", b'{"model":"x","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", JSON_TYPE, 400, "invalid_json"),
    ("model-number", b'{"model":7,"messages":[]}', JSON_TYPE, 400, "invalid_value"),
    ("no-model", b'{"messages":[]}', JSON_TYPE, 400, "missing_field"),
    ("messages-text", b'{"model":"sandbox/echo","messages":"hi"}', JSON_TYPE, 400, "invalid_value"),
    ("stream-text", b'{"model":"sandbox/echo","messages":[],"stream":"yes"}', JSON_TYPE, 400, "invalid_value"),
    ("twice", b'{"model":"sandbox/echo","model":"x","messages":[]}', JSON_TYPE, 400, "invalid_value"),
    ("path", b'{"model":"../../etc/passwd","messages":[]}', JSON_TYPE, 400, "invalid_value"),
    ("control", b'{"model":"sandbox/a\\u0000b","messages":[]}', JSON_TYPE, 400, "invalid_value"),
    ("unknown-model", b'{"model":"nothing-like-it","messages":[]}', JSON_TYPE, 404, "model_not_found"),
    ("unknown-provider", b'{"model":"nowhere/m","messages":[]}', JSON_TYPE, 404, "model_not_found"),
    ("no-connection", b'{"model":"groq/x","messages":[]}', JSON_TYPE, 404, "model_not_found"),
    ("no-type", json.dumps(GOOD).encode(), {}, 415, "unsupported_media_type"),
    ("wrong-type", json.dumps(GOOD).encode(), {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    ("compressed", json.dumps(GOOD).encode(), {**JSON_TYPE, "Content-Encoding": "br"}, 415, "unsupported_media_type"),
]


def post(server: Server, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_bad_body_gets_a_clear_answer_in_the_dialect_of_its_path(
    server: Server, api_key: str, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    seen, answered, said = post(server, path, body, {"Authorization": f"Bearer {api_key}", **headers})
    assert (seen, answered["x-omniroute-error-code"]) == (status, code)
    _check_dialect(path, said)
    assert "Traceback" not in json.dumps(said)


def _check_dialect(path: str, said: Any) -> None:
    if path == OPENAI:
        assert set(said) == {"error"}
        assert {"message", "type", "param", "code"} <= set(said["error"])
    else:
        assert set(said) == {"type", "error", "request_id"}
        assert set(said["error"]) == {"type", "message"}
    assert said["error"]["message"]


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_a_body_over_50_mb_is_refused(server: Server, api_key: str, path: str) -> None:
    """Announced: before it is sent. Unannounced (chunked): when it becomes too much."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api_key}\r\nContent-Type: application/json\r\n"
        )
        client.sendall(f"{head}Content-Length: {60 << 20}\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 413")

    def endless() -> Any:
        for _ in range(60):
            yield b" " * (1 << 20)

    try:
        answer = requests.post(
            server.url + path, data=endless(), headers={**JSON_TYPE, "Authorization": f"Bearer {api_key}"}, timeout=30
        )
    except requests.ConnectionError:
        pass  # refused while it was still being sent, which a client may see as a broken pipe
    else:
        assert answer.status_code == 413
        _check_dialect(path, answer.json())
    assert requests.get(f"{server.url}/healthz", timeout=5).status_code == 200


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_revoked_expired_and_unknown_keys(server: Server, path: str) -> None:
    key = server.new_key(name="short")
    server.settle()
    row = next(entry for entry in server.api("GET", "/api/keys")["keys"] if entry["name"] == "short")
    body = json.dumps(GOOD).encode()

    def outcome(secret: str) -> tuple[int, str]:
        status, headers, said = post(server, path, body, {**JSON_TYPE, "x-api-key": secret})
        if status != 200:
            _check_dialect(path, said)
        return status, headers.get("x-omniroute-error-code", "")

    assert outcome(key) == (200, "")
    server.api("DELETE", f"/api/keys/{row['id']}")
    refused = (401, "invalid_api_key")
    wait_until(
        lambda: all(outcome(key) == refused for _ in range(12)),
        within_s=5,
        what="the revoked key is refused by every worker",
    )
    assert outcome(key[:-1] + ("0" if key[-1] != "0" else "1"))[0] == 401


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"name":"a","name":"b"}', "invalid_json"),
        (b'{"nam":"a"}', "validation_failed"),
        (b'{"Name":"a"}', "validation_failed"),
        (b'{"name":', "invalid_json"),
        (b'{"name":7}', "validation_failed"),
        (b"[]", "invalid_json"),
    ],
)
def test_management_bodies_are_strict(server: Server, body: bytes, code: str) -> None:
    before = server.api("GET", "/api/keys")["total"]
    answer = server.session.post(
        f"{server.url}/api/keys", data=body, headers={**JSON_TYPE, "Origin": server.url}, timeout=10
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert answer.json()["error"]["requestId"].startswith("req_")
    assert server.api("GET", "/api/keys")["total"] == before, "nothing is stored half"


@pytest.mark.parametrize("path", ["/v1/nothing", "/api/nothing", "/v1/chat/completions/x", "/nothing"])
def test_unknown_paths_are_404_in_their_own_style(server: Server, path: str) -> None:
    answer = requests.get(server.url + path, timeout=5, allow_redirects=False)
    assert answer.status_code == 404
    if path.startswith(("/v1", "/api")):
        assert answer.json()["error"]


def test_wrong_methods_are_405_with_allow(server: Server) -> None:
    answer = requests.get(server.url + OPENAI, timeout=5)
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("mount", ["/v1", "/v1/v1", "/api/v1", ""])
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_mount_answers(server: Server, api_key: str, mount: str, slash: str) -> None:
    for path in ("/chat/completions", "/messages"):
        status, headers, _ = post(
            server, mount + path + slash, json.dumps(GOOD).encode(), {**JSON_TYPE, "Authorization": f"Bearer {api_key}"}
        )
        assert (status, headers["x-omniroute-provider"]) == (200, "sandbox")


def test_gunicorn_believes_no_forwarding_header(server: Server) -> None:
    """A client must not be able to move itself to another path or scheme by a header."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nSCRIPT_NAME: /healthz\r\nPATH_INFO: /api/keys\r\n"
            b"X-Forwarded-Proto: https\r\nX_Forwarded_For: 9.9.9.9\r\nConnection: close\r\n\r\n"
        )
        answer = b""
        while piece := client.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"ok")
