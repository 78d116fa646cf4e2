"""`/api/translator`: formats turned into one another, and requests sent with every stage shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.services.access_tokens import Scope
from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.services.providers import ScriptedTransport, json_reply

KEY = "sk-live-0123456789abcdefghij"
CHAT = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Good morning"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Good morning"}]}]}
REQUESTS: dict[str, dict[str, Any]] = {
    "openai_chat": CHAT,
    "openai_responses": {"model": "sandbox/echo", "input": "Good morning"},
    "anthropic_messages": {**CHAT, "max_tokens": 100},
    "gemini": CONTENTS,
    "ollama": {**CHAT, "stream": False},
}


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def posted(app: App, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = app.admin.post(f"/api/translator/{path}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


# --- translate -------------------------------------------------------------------------------------------------------


def test_the_formats(app: App) -> None:
    found = app.admin.get("/api/translator/formats").get_json()["formats"]
    assert [one["id"] for one in found] == list(REQUESTS)


def test_a_format_is_recognised(app: App) -> None:
    found = posted(app, "detect", {"body": CONTENTS})
    assert (found["format"], found["direction"]) == ("gemini", "request")
    assert found["confidence"] == 1.0
    assert "'contents' holds the conversation" in found["reasons"]


def test_a_body_may_come_as_text(app: App) -> None:
    assert posted(app, "detect", {"body": json.dumps(CONTENTS)})["format"] == "gemini"


@pytest.mark.parametrize("body", ["{", "[]", "3"])
def test_what_is_no_object_is_refused(app: App, body: str) -> None:
    error = error_of(app.admin.post("/api/translator/detect", json={"body": body}))
    assert (error["code"], error["details"][0]["field"]) == ("validation_failed", "body")


def test_a_request_is_translated_with_its_losses(app: App) -> None:
    given = {"from": "openai-chat", "to": "anthropic", "body": {**CHAT, "seed": 7, "odd": True}}
    found = posted(app, "translate", given)
    assert found["result"]["messages"] == [{"role": "user", "content": "Good morning"}]
    assert found["result"]["max_tokens"]
    assert {loss["path"] for loss in found["losses"]} == {"seed", "odd"}
    assert all(loss["reason"] for loss in found["losses"])


def test_a_request_is_translated_for_a_model(app: App) -> None:
    given = {"from": "openai_chat", "to": "gemini", "body": CHAT, "model": "sandbox/tools"}
    assert posted(app, "translate", given)["result"]["contents"] == CONTENTS["contents"]
    unknown = app.admin.post("/api/translator/translate", json={**given, "model": "nobody/has-it"})
    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "model_not_found")


def test_numbers_keep_their_spelling(app: App) -> None:
    text = '{"model": "m", "messages": [{"role": "user", "content": "x"}], "odd": 1e400}'
    given = {"from": "openai_chat", "to": "openai_chat", "body": text}
    answer = app.admin.post("/api/translator/translate", json=given)
    assert '"odd":1e400' in answer.text
    refused = app.admin.post(
        "/api/translator/translate",
        data='{"from": "gemini", "to": "gemini", "body": ' + text + "}",
        content_type="application/json",
    )
    assert "send the body as text" in error_of(refused)["details"][0]["message"]


def test_an_unreadable_request_names_the_field(app: App) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]}
    answer = app.admin.post("/api/translator/translate", json={"from": "openai_chat", "to": "gemini", "body": body})
    assert answer.status_code == 400
    assert error_of(answer)["details"] == [
        {"field": "body.messages.0.content.0.text", "message": "This field is required."}
    ]


def test_what_cannot_be_said_names_the_field(app: App) -> None:
    body = {**CHAT, "n": 3}
    answer = app.admin.post("/api/translator/translate", json={"from": "openai_chat", "to": "anthropic", "body": body})
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (400, "unsupported_feature")
    assert error["details"][0]["field"] == "body.n"


def test_an_unknown_format_is_refused(app: App) -> None:
    answer = app.admin.post("/api/translator/translate", json={"from": "morse", "to": "gemini", "body": CHAT})
    assert error_of(answer)["details"][0]["field"] == "from"


def test_an_answer_is_translated(app: App) -> None:
    body = {"done": True, "model": "m", "message": {"role": "assistant", "content": "Hello"}, "done_reason": "stop"}
    given = {"from": "ollama", "to": "openai_chat", "direction": "response", "body": body}
    found = posted(app, "translate", given)
    assert found["result"]["choices"][0]["message"]["content"] == "Hello"
    assert found["losses"] == []


def test_a_stream_is_translated(app: App) -> None:
    lines = [
        {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "lo"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    found = posted(app, "transform-stream", {"from": "ollama", "to": "openai_chat", "sse": text})
    assert found["frames"][-1] == "data: [DONE]"
    assert found["folded"]["choices"][0]["message"]["content"] == "Hello"
    assert found["error"] is None


# --- send ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire_format", REQUESTS)
def test_a_request_is_sent_in_every_format(app: App, wire_format: str) -> None:
    model = "sandbox/echo" if wire_format == "gemini" else None
    found = posted(app, "send", {"format": wire_format, "body": REQUESTS[wire_format], "model": model})
    assert found["ok"], found["error"]
    assert found["clientRequest"]["model"] == "sandbox/echo"
    assert (found["target"]["provider"], found["target"]["format"]) == ("sandbox", wire_format)
    (attempt,) = found["attempts"]
    assert attempt["response"]["status"] == 200
    assert "Good morning" in found["clientResponse"]["frames"][0]["text"]
    assert found["usage"]["input"]
    assert found["cost"]["kind"] == "free"


def test_a_stream_is_shown_frame_by_frame(app: App) -> None:
    found = posted(app, "send", {"format": "openai_chat", "body": CHAT, "stream": True})
    frames = [piece["text"] for piece in found["clientResponse"]["frames"]]
    assert "data: [DONE]" in frames
    assert len(frames) > 2
    assert found["clientRequest"]["body"]["stream"] is True
    assert found["timings"]["firstContentMs"] <= found["timings"]["totalMs"]


def test_a_stream_is_watched_while_it_runs(app: App) -> None:
    given = {"format": "openai_chat", "body": CHAT, "stream": True}
    answer = app.admin.post("/api/translator/send", json=given, headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert {line["type"] for line in lines[:-1]} == {"frame"}
    assert lines[-1]["type"] == "result"
    assert lines[-1]["result"]["ok"]


def test_what_cannot_be_sent_is_said_on_a_line_of_its_own(app: App) -> None:
    given = {"format": "gemini", "body": CONTENTS}
    answer = app.admin.post("/api/translator/send", json=given, headers={"Accept": "application/x-ndjson"})
    (line,) = [json.loads(line) for line in answer.text.splitlines()]
    assert (line["type"], line["error"]["code"]) == ("error", "validation_failed")


def test_a_refusal_is_part_of_what_is_shown(app: App) -> None:
    found = posted(
        app, "send", {"format": "anthropic_messages", "body": {**CHAT, "max_tokens": 9}, "model": "sandbox/fail-500"}
    )
    assert not found["ok"]
    assert found["attempts"][0]["response"]["status"] == 500
    assert found["error"]["code"]
    assert '"type":"error"' in found["clientResponse"]["frames"][0]["text"].replace(" ", "")


def test_an_unknown_model_is_part_of_what_is_shown(app: App) -> None:
    found = posted(app, "send", {"format": "openai_chat", "body": CHAT, "model": "nobody/has-it"})
    assert (found["error"]["code"], found["attempts"], found["target"]) == ("model_not_found", [], None)


def test_credentials_are_masked(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.own.connections.create({"provider": "groq", "apiKey": KEY}, SYSTEM)
    scripted = ScriptedTransport()
    scripted.handler = lambda _: json_reply({"error": {"message": f"{KEY} is wrong"}}, 401)
    monkeypatch.setattr(app.own.inference, "_transport", scripted)
    answer = app.admin.post(
        "/api/translator/send",
        json={
            "format": "anthropic_messages",
            "body": {**CHAT, "max_tokens": 9},
            "model": "groq/llama-3.3-70b-versatile",
        },
    )
    assert KEY not in answer.text
    (attempt,) = answer.get_json()["attempts"]
    assert {"name": "authorization", "value": "Bearer [masked]"} in [
        {"name": header["name"].lower(), "value": header["value"]} for header in attempt["request"]["headers"]
    ]
    assert attempt["translated"]
    assert attempt["request"]["body"]["model"] == "llama-3.3-70b-versatile"


def test_it_goes_on_the_account_of_a_key(app: App) -> None:
    key = app.own.keys.create({"name": "test", "blockedModels": ("sandbox/*",)}, SYSTEM).key
    app.own.snapshots.refresh()
    found = posted(app, "send", {"format": "openai_chat", "body": CHAT, "keyId": key.id})
    assert found["error"]["code"] == "model_not_allowed"
    app.own.keys.change(key.id, {"isActive": False}, SYSTEM)
    app.own.snapshots.refresh()
    refused = app.admin.post("/api/translator/send", json={"format": "openai_chat", "body": CHAT, "keyId": key.id})
    assert error_of(refused)["details"] == [
        {"field": "keyId", "message": "this API key cannot be used: it is disabled"}
    ]


def test_a_reader_translates_and_does_not_send(app: App) -> None:
    token = app.own.access_tokens.create("reader", Scope.READ, None, SYSTEM).secret
    reader = app.client(token)
    assert reader.post("/api/translator/detect", json={"body": CHAT}).status_code == 200
    assert reader.post("/api/translator/send", json={"format": "openai_chat", "body": CHAT}).status_code == 403
