"""Every conversation endpoint over every kind of provider, as its own clients call it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests

from tests.e2e.processes import Server, wait_until

PREFIXES = ("sandbox", "oa", "re", "an", "ge", "ol")
"""The built-in sandbox, and a node for each format that providers speak."""
EACH = pytest.mark.parametrize("prefix", PREFIXES)
CHAT = {"messages": [{"role": "user", "content": "say marigold"}]}
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": CHAT,
    "completions": {"prompt": "say marigold"},
    "responses": {"input": "say marigold"},
    "messages": {**CHAT, "max_tokens": 100},
}


@pytest.fixture
def oa(server: Server, api_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=api_key, max_retries=0, timeout=30) as client:
        yield client


class Http:
    """Requests with a key, without what libraries add for a particular vendor."""

    def __init__(self, server: Server, key: str) -> None:
        self._url = server.url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {key}"

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._session.request(
            method, self._url + path, json=body, headers=named, timeout=30, allow_redirects=False
        )

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        return self("POST", path, body, **headers)


@pytest.fixture
def http(server: Server, api_key: str) -> Http:
    return Http(server, api_key)


# --- completions ---------------------------------------------------------------------------------------------------


@EACH
def test_completions(oa: openai.OpenAI, prefix: str) -> None:
    answer = oa.completions.create(model=f"{prefix}/echo", prompt="say marigold", max_tokens=50)
    assert answer.choices[0].text == "say marigold"
    assert (answer.model, answer.object, answer.choices[0].finish_reason) == (
        f"{prefix}/echo",
        "text_completion",
        "stop",
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


@EACH
def test_completions_in_a_stream(oa: openai.OpenAI, prefix: str) -> None:
    pieces = list(
        oa.completions.create(
            model=f"{prefix}/story-5-0", prompt="tell", stream=True, stream_options={"include_usage": True}
        )
    )
    assert "4:" in "".join(piece.choices[0].text for piece in pieces if piece.choices)
    assert len({piece.id for piece in pieces}) == 1
    assert [piece.choices[0].finish_reason for piece in pieces if piece.choices][-1] == "stop"
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens > 0


def test_what_completions_cannot_be_asked(oa: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        oa.completions.create(model="an/echo", prompt=["one", "two"])
    assert caught.value.param == "prompt"


# --- Ollama --------------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("path", ["/api/chat", "/v1/api/chat", "/api/generate", "/v1/api/generate"])
def test_ollama_streams_unless_told_otherwise(server: Server, api_key: str, prefix: str, path: str) -> None:
    said = CHAT if path.endswith("chat") else {"prompt": "say marigold"}

    def text_of(line: Any) -> str:
        return str(line["message"]["content"] if path.endswith("chat") else line["response"])

    def ask(**more: Any) -> requests.Response:
        return requests.post(  # as the vendor's documentation does it: without a content type
            server.url + path,
            data=json.dumps({"model": f"{prefix}/echo", **said, **more}).encode(),
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=30,
        )

    streamed = ask()
    assert streamed.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in streamed.text.splitlines()]
    assert "".join(map(text_of, lines)) == "say marigold"
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert (lines[-1]["done_reason"], lines[-1]["eval_count"] > 0) == ("stop", True)
    assert {line["model"] for line in lines} == {f"{prefix}/echo"}
    whole = ask(stream=False)
    assert whole.headers["Content-Type"] == "application/json"
    assert (text_of(whole.json()), whole.json()["done"]) == ("say marigold", True)


def test_ollama_errors_are_in_its_words(http: Http) -> None:
    missing = http.post("/api/chat", {"model": "sandbox/none-such/x", **CHAT})
    assert (missing.status_code, list(missing.json())) == (404, ["error"])
    assert isinstance(missing.json()["error"], str)
    torn = http.post("/api/chat", {"model": "sandbox/cut", **CHAT})
    assert "error" in json.loads(torn.text.splitlines()[-1])
    assert http.post("/api/show", {"model": "nobody/x"}).status_code == 404
    assert http.post("/api/show", {}).json()["error"]


@pytest.mark.parametrize("mount", ["", "/v1"])
def test_ollama_lists(http: Http, mount: str) -> None:
    listed = http("GET", f"{mount}/api/tags").json()["models"]
    assert "sandbox/echo" in {model["name"] for model in listed}
    assert {"model", "modified_at", "size", "digest", "details"} <= set(listed[0])
    shown = http.post(f"{mount}/api/show", {"model": "sandbox/echo:latest"}).json()
    assert shown["model_info"]["omniroute.context_length"] == 128_000
    # A node has no list, and clients ask before they call.
    assert http.post(f"{mount}/api/show", {"model": "ol/anything"}).json()["capabilities"] == ["completion"]
    assert http("GET", f"{mount}/api/version").json()["version"].count(".") == 2


# --- whether to stream ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", list(BODIES))
@pytest.mark.parametrize("prefix", ["sandbox", "an", "ge"])
def test_who_streams(http: Http, path: str, prefix: str) -> None:
    body = {"model": f"{prefix}/echo", **BODIES[path]}

    def kind(accept: str, **more: Any) -> str:
        answer = http.post(f"/v1/{path}", {**body, **more}, Accept=accept)
        assert answer.status_code == 200, answer.text
        return answer.headers["Content-Type"].partition(";")[0]

    assert kind("*/*") == "application/json"
    assert kind("application/json") == "application/json"
    assert kind("text/event-stream") == "text/event-stream"
    assert kind("text/event-stream", stream=False) == "application/json"
    assert kind("*/*", stream=True) == "text/event-stream"


@pytest.mark.parametrize("path", list(BODIES))
def test_t61_the_model_is_what_was_asked_for_and_the_headers_tell_what_served(http: Http, path: str) -> None:
    for prefix in PREFIXES:
        answer = http.post(f"/v1/{path}", {"model": f"{prefix}/echo", **BODIES[path]})
        assert answer.json()["model"] == f"{prefix}/echo"
        assert answer.headers["X-OmniRoute-Model"] == f"{prefix}/echo"
        assert answer.headers["X-OmniRoute-Provider"] == prefix
        assert answer.headers["X-OmniRoute-Attempts"] == "1"
        assert int(answer.headers["X-OmniRoute-Tokens-In"]) > 0


def test_what_is_left_out_is_said(http: Http) -> None:
    body = {"model": "an/echo", **CHAT, "seed": 7, "logit_bias": {"1": 2}, "frequency_penalty": 1}
    answer = http.post("/v1/chat/completions", body)
    assert set(answer.headers["X-OmniRoute-Warning"].split(",")) == {
        "dropped:seed",
        "dropped:logit_bias",
        "dropped:frequency_penalty",
    }
    streamed = http.post("/v1/chat/completions", {**body, "stream": True})
    assert streamed.headers["X-OmniRoute-Warning"] == answer.headers["X-OmniRoute-Warning"]
    same = http.post("/v1/chat/completions", {**body, "model": "oa/echo"})
    assert "X-OmniRoute-Warning" not in same.headers
    many = {f"future_{number}": number for number in range(9)}
    warned = http.post("/v1/chat/completions", {"model": "ge/echo", **CHAT, **many}).headers["X-OmniRoute-Warning"]
    assert warned.split(",")[-1] == "dropped:+4"
    assert warned.count(",") == 5


def test_a_background_response_is_made_at_once(http: Http) -> None:
    for prefix in ("re", "an"):
        answer = http.post("/v1/responses", {"model": f"{prefix}/echo", "input": "hi", "background": True})
        assert answer.headers["X-OmniRoute-Warning"].split(",")[0] == "background:synchronous"
        assert (answer.json()["status"], answer.json()["background"]) == ("completed", False)


# --- one provider by its path --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mount", ["/v1", "/api/v1", ""])
@pytest.mark.parametrize("path", [*BODIES, "v1/messages"])
def test_a_path_may_name_the_provider(http: Http, mount: str, path: str) -> None:
    body = BODIES[path.removeprefix("v1/")]
    for model in ("echo", "an/echo", "AN/echo"):
        answer = http.post(f"{mount}/providers/an/{path}", {"model": model, **body})
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == model
        assert answer.headers["X-OmniRoute-Model"] == "an/echo"
    other = http.post(f"{mount}/providers/an/{path}", {"model": "sandbox/echo", **body})
    assert (other.status_code, other.headers["X-OmniRoute-Error-Code"]) == (400, "model_provider_mismatch")
    assert "an/" in other.text
    nobody = http.post(f"{mount}/providers/nobody/{path}", {"model": "echo", **body})
    assert (nobody.status_code, nobody.headers["X-OmniRoute-Error-Code"]) == (404, "provider_not_found")
    idle = http.post(f"{mount}/providers/groq/{path}", {"model": "llama", **body})
    assert (idle.status_code, idle.headers["X-OmniRoute-Error-Code"]) == (404, "model_not_found")
    is_anthropic = path.endswith("messages")
    assert ("request_id" in other.json()) is is_anthropic


def test_the_models_of_one_provider(http: Http) -> None:
    listed = http("GET", "/v1/providers/sandbox/models")
    assert listed.json()["object"] == "list"
    assert all(model["id"].startswith("sandbox/") for model in listed.json()["data"])
    assert len(listed.json()["data"]) == int(listed.headers["X-Total-Count"])
    assert http("GET", "/v1/providers/nobody/models").json()["error"]["code"] == "provider_not_found"


def test_a_count_at_one_provider(http: Http) -> None:
    counted = http.post("/v1/providers/an/v1/messages/count_tokens", {"model": "echo", **CHAT})
    assert (counted.status_code, counted.json()["model"], counted.json()["source"]) == (200, "an/echo", "provider")


# --- the edges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_t62_programs_may_look_at_the_root(server: Server, method: str, accept: str) -> None:
    found = requests.request(method, server.url + "/", headers={"Accept": accept}, timeout=10, allow_redirects=False)
    assert found.status_code == 200
    assert method == "HEAD" or found.json()["name"] == "OmniRoute"
    page = requests.request(
        method, server.url + "/", headers={"Accept": "text/html,*/*"}, timeout=10, allow_redirects=False
    )
    assert (page.status_code, page.headers["Location"]) == (302, "/dashboard")


@EACH
def test_t62_messages_with_beta_and_either_header(server: Server, api_key: str, prefix: str) -> None:
    for headers in ({"x-api-key": api_key}, {"Authorization": f"Bearer {api_key}"}):
        answer = requests.post(
            f"{server.url}/v1/messages?beta=true",
            json={"model": f"{prefix}/echo", **BODIES["messages"]},
            headers={**headers, "anthropic-version": "2023-06-01", "anthropic-beta": "context-1m-2025-08-07"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        assert (answer.json()["type"], answer.json()["stop_reason"]) == ("message", "end_turn")
    long = Http(server, api_key).post("/v1/messages", {"model": f"{prefix}/echo[1m]", **BODIES["messages"]})
    assert (long.status_code, long.json()["model"]) == (200, f"{prefix}/echo[1m]")


@pytest.mark.parametrize(
    "path", ["/v1/responses", "/v1/completions", "/v1beta/models/sandbox/echo:generateContent", "/api/chat"]
)
def test_a_stranger_needs_a_key_everywhere(server: Server, path: str) -> None:
    answer = requests.post(server.url + path, json={}, headers={"X-Forwarded-For": "203.0.113.9"}, timeout=10)
    assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (401, "auth_required")


def test_every_endpoint_is_in_the_log_by_its_name(server: Server, http: Http) -> None:
    asked = {
        "/v1/completions": ("/v1/completions", {"model": "ge/echo", "prompt": "hi"}, "openai_chat"),
        "/v1/responses": ("/v1/responses", {"model": "ge/echo", "input": "hi"}, "openai_responses"),
        "/api/generate": ("/api/generate", {"model": "ge/echo", "prompt": "hi", "stream": False}, "ollama"),
        "/v1beta/models:generateContent": (
            "/v1beta/models/an/echo:generateContent",
            {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
            "gemini",
        ),
        "/v1/responses/compact": (
            "/v1/responses/compact",
            {"model": "re/echo", "input": "hi"},
            "openai_responses",
        ),
    }
    for name, (path, body, client_format) in asked.items():
        answer = http.post(path, body)
        assert answer.status_code == 200, answer.text
        identity = answer.headers["X-OmniRoute-Request-Id"]

        def row(wanted: str = identity) -> Any:
            return next((entry for entry in server.logs() if entry["requestId"] == wanted), None)

        found = wait_until(row, within_s=5, what="the request is in the log")
        assert (found["endpoint"], found["clientFormat"], found["outcome"]) == (name, client_format, "success")
        assert found["tokensIn"] is not None
