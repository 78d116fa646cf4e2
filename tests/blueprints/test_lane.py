"""The two ways in for chat calls, Flask's and the lane, give the same answers to the same requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.blueprints.inference.lane import Application, _join_head_and_body
from omniroute.blueprints.tiers import INFERENCE_MOUNTS
from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app

GOOD = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
JSON_TYPE = "application/json"
KEY_SHAPED = "sk-abcdefghijkl-" + "A" * 43 + "-00000000"

CASES: dict[str, dict[str, Any]] = {
    "good": {},
    "stream": {"json": {**GOOD, "stream": True}},
    "correlated": {"headers": {"X-Request-Id": "abc.1"}},
    "anonymous": {"headers": {"Authorization": "Bearer placeholder"}},
    "x-api-key": {"headers": {"x-api-key": "KEY"}},
    "unknown-key": {"headers": {"Authorization": f"Bearer {KEY_SHAPED}"}},
    "two-keys": {"headers": {"Authorization": "Bearer a", "x-api-key": "b"}},
    "broken": {"data": b"{", "content_type": JSON_TYPE},
    "no-type": {"data": json.dumps(GOOD).encode()},
    "unknown-model": {"json": {**GOOD, "model": "nowhere/x"}},
    "rate-limited": {"json": {**GOOD, "model": "sandbox/fail-429"}},
    "refused": {"json": {**GOOD, "model": "sandbox/fail-401"}},
    "no-messages": {"json": {"model": "sandbox/echo"}},
    "from-elsewhere": {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}},
    "forwarded": {"headers": {"X-Forwarded-For": "127.0.0.1"}},
    "other-origin": {"headers": {"Origin": "https://chat.example.com"}},
    "internal-headers": {"headers": {"X-OmniRoute-Auth-Key": "x"}},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("lane") / "data")
    with whole_app(settings, cors_allowed_origins=("https://chat.example.com",)) as app:
        yield app


def ask(app: App, path: str, case: dict[str, Any], *, by_lane: bool) -> tuple[int, dict[str, str], bytes]:
    flask = app.app
    assert isinstance(flask, Application)
    lane = flask.lane
    if not by_lane:
        flask.lane = None
    try:
        arguments = {"json": GOOD} if not {"json", "data"} & set(case) else {}
        headers = {name: value.replace("KEY", app.admin_key) for name, value in case.get("headers", {}).items()}
        client = app.client()
        answer = client.post(path, **{**arguments, **case, "headers": headers})
        body = answer.get_data()
        answer.close()
    finally:
        flask.lane = lane
    return answer.status_code, {name.lower(): value for name, value in answer.headers}, _neutral(body)


def _neutral(body: bytes) -> bytes:
    """Without what differs between any two requests."""
    return re.sub(rb"req_[0-9a-z]{26}", b"req", body)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("name", list(CASES))
def test_both_ways_answer_alike(running: App, name: str, path: str) -> None:
    status, headers, body = ask(running, path, CASES[name], by_lane=True)
    other_status, other_headers, other_body = ask(running, path, CASES[name], by_lane=False)
    assert (status, body) == (other_status, other_body)
    for one in (headers, other_headers):
        assert one.pop("x-omniroute-request-id").startswith("req_")
        one.pop("x-omniroute-latency-ms", None)
    assert headers == other_headers
    assert name != "good" or status == 200


@pytest.mark.parametrize("mount", INFERENCE_MOUNTS)
def test_the_lane_serves_every_mount(running: App, mount: str) -> None:
    flask = running.app
    assert isinstance(flask, Application)
    assert flask.lane is not None
    for path in ("/chat/completions", "/messages"):
        environ = {"PATH_INFO": mount + path, "REQUEST_METHOD": "POST"}
        assert flask.lane.serves(environ)
        assert not flask.lane.serves({**environ, "REQUEST_METHOD": "GET"})
        assert not flask.lane.serves({**environ, "PATH_INFO": mount + path + "/"})
        assert not flask.lane.serves({**environ, "HTTP_X_OMNIROUTE_CSRF": "token"})
        assert ask(running, mount + path, {}, by_lane=True)[0] == 200


def test_a_fault_of_ours_is_told_without_its_cause(running: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(call: object) -> None:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(running.own.inference, "open", fall)
    status, headers, body = ask(running, "/v1/messages", {}, by_lane=True)
    assert (status, headers["x-omniroute-error-code"]) == (500, "internal_error")
    assert b"secret cause" not in body
    assert json.loads(body)["type"] == "error"


class _Response:
    """What a server's response object is to the lane: something with a socket."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.sock: Any = self

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def start_response(self, status: str, headers: list[tuple[str, str]]) -> None:
        del status, headers


def test_head_and_body_leave_together_and_the_rest_directly() -> None:
    response = _Response()
    _join_head_and_body(response.start_response)
    assert response.sock is not response
    response.sock.sendall(b"head ")
    assert response.sent == []
    response.sock.sendall(b"body")
    response.sock.sendall(b"more")
    assert response.sent == [b"head body", b"more"]
    assert response.sock is response


def test_a_server_without_such_a_socket_is_left_alone() -> None:
    calls: list[str] = []
    _join_head_and_body(lambda status, headers: calls.append(status))
    assert calls == []
