"""`/api/settings/thinking-budget` and `/api/settings/system-prompt`: set over HTTP, seen in what a provider gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.upstream import FakeUpstream, Received, answer, fake_upstream

PROMPT = "/api/settings/system-prompt"
THINKING = "/api/settings/thinking-budget"
HI = [{"role": "user", "content": "hi"}]
CHAT = {
    "id": "1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
MESSAGES = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def answering(sock: Any, request: Received) -> bool | None:
    """Answer in the format of the path, whatever is asked."""
    is_messages = b"/messages" in request.head.split(b"\r\n", 1)[0]
    return answer(json.dumps(MESSAGES if is_messages else CHAT).encode())(sock, request)


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


@pytest.fixture
def upstream(app: App) -> Iterator[FakeUpstream]:
    """A provider that is reached as `chat/…` and `claude/…` in these formats."""
    with fake_upstream(answering) as made:
        for prefix, kind, base in (
            ("chat", "openai-compatible", f"{made.url}/v1"),
            ("messages", "anthropic-compatible", f"{made.url}/v1"),
        ):
            fields = {"name": prefix, "prefix": prefix, "type": kind, "baseUrl": base, "isLocal": True}
            node = app.admin.post("/api/provider-nodes", json=fields).get_json()["node"]
            body = {"provider": node["id"], "apiKey": "key-0123456789"}
            assert app.admin.post("/api/providers", json=body).status_code == 201
        yield made


def put(app: App, path: str, **fields: Any) -> dict[str, Any]:
    response = app.admin.put(path, json=fields)
    assert response.status_code == 200, response.get_json()
    found: dict[str, Any] = response.get_json()
    return found


def sent(app: App, upstream: FakeUpstream, path: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    """Return what the provider got of a request."""
    known = len(upstream.received)
    response = app.client(app.key()).post(path, json=body)
    assert response.status_code == 200, response.get_data(as_text=True)
    assert len(upstream.received) == known + 1
    found: dict[str, Any] = json.loads(upstream.received[-1].body)
    return found


def test_the_prompt_goes_along_whatever_way_a_request_takes(app: App, upstream: FakeUpstream) -> None:
    assert app.admin.get(PROMPT).get_json() == {"enabled": False, "position": "before", "text": "", "appliesTo": []}
    body: dict[str, Any] = {"model": "chat/echo", "messages": HI}
    assert sent(app, upstream, **body)["messages"] == HI
    shown = put(app, PROMPT, enabled=True, text="Be kind.\nAnd brief.")
    assert shown == {"enabled": True, "position": "before", "text": "Be kind.\nAnd brief.", "appliesTo": []}
    system = {"role": "system", "content": "Be kind.\nAnd brief."}
    assert sent(app, upstream, **body)["messages"] == [system, *HI], "passed on"
    translated: dict[str, Any] = {"model": "messages/echo", "messages": HI}
    assert "Be kind.\nAnd brief." in json.dumps(
        sent(app, upstream, **translated)["system"], ensure_ascii=False
    ).replace("\\n", "\n"), "translated"
    own = sent(app, upstream, "/v1/messages", model="messages/echo", max_tokens=9, messages=HI, system="Mine.")
    assert own["system"] == "Be kind.\nAnd brief.\n\nMine."
    put(app, PROMPT, position="after")
    own = sent(app, upstream, "/v1/messages", model="messages/echo", max_tokens=9, messages=HI, system="Mine.")
    assert own["system"] == "Mine.\n\nBe kind.\nAnd brief."
    put(app, PROMPT, enabled=None)
    assert sent(app, upstream, **body)["messages"] == HI
    entries, _ = app.own.audit.entries(limit=1, action="settings.changed")
    assert entries[0].details == {"systemPromptEnabled": [True, False]}


def test_the_prompt_of_some_models_is_not_added_to_others(app: App, upstream: FakeUpstream) -> None:
    put(app, PROMPT, enabled=True, text="Be kind.", appliesTo=["chat/ec*"])
    assert len(sent(app, upstream, model="chat/echo", messages=HI)["messages"]) == 2
    assert len(sent(app, upstream, model="chat/story", messages=HI)["messages"]) == 1


def test_reasoning_is_asked_for_as_it_is_set(app: App, upstream: FakeUpstream) -> None:
    assert app.admin.get(THINKING).get_json() == {"mode": "passthrough", "maxTokens": None, "effort": "medium"}
    messages: dict[str, Any] = {"model": "messages/claude-sonnet-4-5", "max_tokens": 20_000, "messages": HI}
    thinking = {"type": "enabled", "budget_tokens": 4000}
    assert sent(app, upstream, "/v1/messages", **messages, thinking=thinking)["thinking"] == thinking
    put(app, THINKING, mode="custom", maxTokens=2000)
    wanted = {"type": "enabled", "budget_tokens": 2000}
    assert sent(app, upstream, "/v1/messages", **messages)["thinking"] == wanted, "passed on"
    assert sent(app, upstream, "/v1/messages", **messages, thinking=thinking)["thinking"] == wanted
    chat: dict[str, Any] = {
        "model": "messages/claude-sonnet-4-5",
        "messages": HI,
        "max_tokens": 20_000,
        "reasoning_effort": "high",
    }
    assert sent(app, upstream, **chat)["thinking"] == wanted, "translated"
    forced = sent(
        app,
        upstream,
        "/v1/messages",
        **messages,
        tools=[{"name": "f", "input_schema": {"type": "object"}}],
        tool_choice={"type": "any"},
    )
    assert "thinking" not in forced, "the vendor refuses a forced call beside reasoning"
    put(app, THINKING, mode="auto")
    assert "thinking" not in sent(app, upstream, "/v1/messages", **messages, thinking=thinking)
    assert "thinking" not in sent(app, upstream, **chat)
    put(app, THINKING, mode="adaptive", maxTokens=None, effort="low")
    assert sent(app, upstream, "/v1/messages", **messages)["thinking"]["budget_tokens"] == 4096
    many = [{"role": role, "content": "x"} for _ in range(6) for role in ("user", "assistant")] + HI
    hard = sent(app, upstream, "/v1/messages", **{**messages, "messages": many})
    assert hard["thinking"]["budget_tokens"] == 6144
    off = sent(app, upstream, "/v1/messages", **messages, thinking={"type": "disabled"})
    assert off["thinking"] == {"type": "disabled"}, "who wants none gets none"


def test_an_effort_in_the_name_is_nearer_to_the_caller(app: App, upstream: FakeUpstream) -> None:
    known = {"provider": "chat", "modelId": "gpt-5"}
    assert app.admin.post("/api/provider-models", json=known).status_code == 201
    put(app, THINKING, mode="custom", effort="low")
    body: dict[str, Any] = {"model": "chat/gpt-5", "messages": HI}
    assert sent(app, upstream, **body)["reasoning_effort"] == "low"
    assert sent(app, upstream, **{**body, "model": "chat/gpt-5-high"})["reasoning_effort"] == "high"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (THINKING, {"mode": "loud"}),
        (THINKING, {"maxTokens": -1}),
        (THINKING, {"effort": "much"}),
        (THINKING, {"colour": 1}),
        (PROMPT, {"enabled": 1}),
        (PROMPT, {"position": "around"}),
        (PROMPT, {"text": "x" * 50_001}),
        (PROMPT, {"appliesTo": ["a", "a"]}),
    ],
)
def test_what_means_nothing_is_refused(app: App, path: str, body: dict[str, Any]) -> None:
    before = app.admin.get(path).get_json()
    assert error_of(app.admin.put(path, json=body))["code"] == "validation_failed"
    assert app.admin.get(path).get_json() == before
