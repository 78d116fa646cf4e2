"""What every inference endpoint does at its edges: bad and packed bodies, keys with rules, origins, going down.

One table of endpoints; what holds for one of them holds for all, in the dialect of its path.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zstandard
from werkzeug.test import TestResponse

from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app

CHAT = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "say marigold"}]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "say marigold"}]}]}
ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("chat/completions", CHAT),
    "/v1/completions": ("completions", {"model": "sandbox/echo", "prompt": "say marigold"}),
    "/v1/responses": ("responses", {"model": "sandbox/echo", "input": "say marigold"}),
    "/v1/responses/compact": ("responses", {"model": "sandbox/echo", "input": "say marigold"}),
    "/v1/messages": ("messages", {**CHAT, "max_tokens": 50}),
    "/v1/messages/count_tokens": ("messages", CHAT),
    "/v1beta/models/sandbox/echo:generateContent": ("gemini", GEMINI),
    "/v1beta/models/sandbox/echo:countTokens": ("gemini", GEMINI),
    "/v1/models/sandbox/echo:streamGenerateContent": ("gemini", GEMINI),
    "/api/chat": ("ollama", {**CHAT, "stream": False}),
    "/api/generate": ("ollama", {"model": "sandbox/echo", "prompt": "say marigold", "stream": False}),
    "/v1/providers/sandbox/chat/completions": ("chat/completions", {**CHAT, "model": "echo"}),
    "/v1/providers/sandbox/v1/messages": ("messages", {**CHAT, "model": "echo", "max_tokens": 50}),
}
"""Path to the name that keys list it by, and a good body."""
EACH = pytest.mark.parametrize("path", list(ENDPOINTS))
LIMIT = 100_000
ORIGIN = "https://chat.example.com"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("edges") / "data", app_log_to_file=False)
    with whole_app(settings, cors_allowed_origins=(ORIGIN,), chat_max_body_bytes=LIMIT) as built:
        yield built


def post(app: App, path: str, body: bytes | None = None, key: str | None = None, **headers: str) -> TestResponse:
    named = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    data = json.dumps(ENDPOINTS[path][1]).encode() if body is None else body
    answer = app.client(key or app.admin_key).post(path, data=data, headers=named)
    answer.get_data()
    answer.close()
    return answer


def said(path: str, answer: TestResponse) -> str:
    """Return the message of an error, having checked that it is one of the path's dialect."""
    body = answer.get_json()
    match ENDPOINTS[path][0]:
        case "messages":
            assert set(body) == {"type", "error", "request_id"}
            return str(body["error"]["message"])
        case "gemini":
            assert body["error"]["code"] == answer.status_code
            assert body["error"]["status"].isupper()
            return str(body["error"]["message"])
        case "ollama":
            assert set(body) == {"error"}
            return str(body["error"])
        case _:
            assert {"message", "type", "param", "code"} <= set(body["error"])
            return str(body["error"]["message"])


@EACH
def test_a_good_call_by_both_ways(app: App, path: str) -> None:
    assert post(app, path).status_code == 200
    slashed = app.client(app.admin_key).post(path + "/", json=ENDPOINTS[path][1])
    slashed.get_data()
    slashed.close()
    assert slashed.status_code == 200


@EACH
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b'{"a":"\xff"}', "invalid_json"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
        (b'{"model":"sandbox/echo"}', "missing_field"),
    ],
)
def test_bad_bodies(app: App, path: str, body: bytes, code: str) -> None:
    answer = post(app, path, body)
    assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (400, code)
    assert said(path, answer)


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": {"text": "x"}}),
    ("/v1/responses", {"input": {"text": "x"}}),
    ("/v1/responses", {"input": "x", "previous_response_id": 7}),
    ("/v1/responses", {"input": [7]}),
    ("/v1/messages", {"messages": {"role": "user"}}),
    ("/v1/messages/count_tokens", {"messages": []}),
    ("/v1beta/models/sandbox/echo:generateContent", {"contents": 7}),
    ("/v1beta/models/sandbox/echo:countTokens", {"contents": 7}),
    ("/api/chat", {"messages": "x"}),
    ("/api/chat", {"messages": [], "stream": "yes"}),
    ("/api/generate", {"prompt": 7}),
]


@pytest.mark.parametrize(("path", "body"), WRONG)
def test_members_of_the_wrong_shape(app: App, path: str, body: dict[str, Any]) -> None:
    answer = post(app, path, json.dumps({**ENDPOINTS[path][1], **body}).encode())
    assert answer.status_code == 400, answer.get_data()
    assert said(path, answer)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@EACH
@pytest.mark.parametrize("encoding", list(PACKERS))
def test_t63_packed_bodies(app: App, path: str, encoding: str) -> None:
    good = json.dumps(ENDPOINTS[path][1]).encode()
    assert post(app, path, PACKERS[encoding](good), Content_Encoding=encoding).status_code == 200
    torn = post(app, path, PACKERS[encoding](good)[:-9], Content_Encoding=encoding)
    assert torn.status_code == 400
    bomb = post(app, path, PACKERS[encoding](b" " * LIMIT * 50), Content_Encoding=encoding)
    assert (bomb.status_code, bomb.headers["X-OmniRoute-Error-Code"]) == (413, "request_too_large")
    assert said(path, bomb)


@EACH
def test_sizes_and_types(app: App, path: str) -> None:
    large = post(app, path, b" " * (LIMIT + 1))
    assert (large.status_code, large.headers["X-OmniRoute-Error-Code"]) == (413, "request_too_large")
    brotli = post(app, path, Content_Encoding="br")
    assert (brotli.status_code, brotli.headers["X-OmniRoute-Error-Code"]) == (415, "unsupported_media_type")
    form = post(app, path, Content_Type="application/x-www-form-urlencoded")
    # What curl calls a body that nobody described; Ollama's documentation relies on it.
    assert form.status_code == (200 if ENDPOINTS[path][0] == "ollama" else 415)


# --- keys with rules -----------------------------------------------------------------------------------------------


@EACH
def test_a_key_for_some_models(app: App, path: str) -> None:
    fits, other = app.key(allowedModels=("sandbox/e*",)), app.key(allowedModels=("sandbox/story",))
    assert post(app, path, key=fits).status_code == 200
    refused = post(app, path, key=other)
    assert (refused.status_code, refused.headers["X-OmniRoute-Error-Code"]) == (403, "model_not_allowed")
    assert said(path, refused)


@EACH
def test_a_key_for_some_endpoints(app: App, path: str) -> None:
    name = ENDPOINTS[path][0]
    assert post(app, path, key=app.key(allowedEndpoints=(name,))).status_code == 200
    refused = post(app, path, key=app.key(allowedEndpoints=("models",)))
    assert (refused.status_code, refused.headers["X-OmniRoute-Error-Code"]) == (403, "endpoint_not_allowed")


@pytest.mark.parametrize("path", ["/v1beta/models", "/v1beta/models/sandbox/echo", "/api/tags", "/v1/models"])
def test_lists_show_what_a_key_may_use(app: App, path: str) -> None:
    client = app.client(app.key(allowedModels=("sandbox/story",), allowedEndpoints=("models",)))
    found = client.get(path)
    if path.endswith("echo"):
        assert found.status_code == 404
        assert app.client(app.admin_key).get(path).status_code == 200
    else:
        body = found.get_json()
        listed = body["data"] if "data" in body else body["models"]
        names = [model.get("id") or model["name"].removeprefix("models/") for model in listed]
        # The channels choose among what the key may use, so that it may use them too.
        assert [name for name in names if name != "auto" and not name.startswith("auto/")] == ["sandbox/story"]
    unlisted = client.post("/api/show", json={"model": "sandbox/echo"})
    assert unlisted.status_code == 404
    assert client.post("/api/show", json={"model": "nobody/knows"}).get_json().keys() == {"error"}
    closed = app.client(app.key(allowedEndpoints=("gemini",))).get(path)
    assert closed.headers["X-OmniRoute-Error-Code"] == "endpoint_not_allowed"


# --- web pages of other origins ------------------------------------------------------------------------------------


@EACH
def test_a_page_of_an_admitted_origin(app: App, path: str) -> None:
    asked = app.client().options(
        path,
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-goog-api-key, content-type, anthropic-version",
        },
    )
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert asked.headers["Access-Control-Allow-Headers"] == "x-goog-api-key, content-type, anthropic-version"
    assert "Access-Control-Allow-Credentials" not in asked.headers
    assert post(app, path, Origin=ORIGIN).headers["Access-Control-Allow-Origin"] == ORIGIN
    other = app.client().options(
        path, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert "Access-Control-Allow-Origin" not in other.headers


# --- going down ----------------------------------------------------------------------------------------------------


def test_a_server_that_goes_down_says_so_in_every_dialect(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(data_dir=tmp_path_factory.mktemp("draining") / "data", app_log_to_file=False)
    with whole_app(settings) as app:
        app.own.inference.drain()
        for path, (name, _) in ENDPOINTS.items():
            answer = post(app, path)
            assert answer.headers["X-OmniRoute-Error-Code"] == "server_draining", path
            assert answer.status_code == (529 if name == "messages" else 503), path
            assert int(answer.headers["Retry-After"]) >= 1, path
            assert said(path, answer)
