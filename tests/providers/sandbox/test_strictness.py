"""What Chat Completions and Messages refuse, in the words of their vendors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omniroute.providers.sandbox.seal import Purpose, is_sealed, seal
from tests.providers.sandbox.wire import CHAT, MESSAGES, answer, ask, content

ASKED: Any = {"role": "user", "content": "Hello"}


def call(call_id: str = "call_1", **changes: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}, **changes}


def made(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def told(call_id: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "x"}


def tool(name: str = "f", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [told()]}, "messages with role 'tool' must be a response to a preceeding message"),
        ({"messages": [ASKED, made(call())]}, "did not have response messages: call_1"),
        ({"messages": [ASKED, made(call()), ASKED]}, "did not have response messages: call_1"),
        ({"messages": [ASKED, made(call(), call("call_2")), told()]}, "did not have response messages: call_2"),
        ({"messages": [ASKED, made(call()), told(), told()]}, "must be a response to a preceeding message"),
        ({"messages": [ASKED, made(call()), told("call_9")]}, "must be a response to a preceeding message"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "Invalid value: 'robot'. Supported values are: 'system'"),
        ({"messages": []}, "Invalid 'messages': empty array."),
        ({"messages": [{"role": "user", "content": []}]}, "Invalid 'messages[0].content': empty array."),
        ({"messages": [ASKED, {"role": "assistant", "content": None}]}, "expected a string, got null."),
        ({"messages": [ASKED, made()]}, "expected a string, got null."),
        ({"messages": [ASKED, made(call("x" * 41))]}, "maximum length 40, but got a string with length 41"),
        (
            {"messages": [ASKED, made(call(function={"name": "f", "arguments": {}}))]},
            "expected a string, but got an object instead.",
        ),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://a"}}]}]},
            "only allowed for messages with role 'user'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
            "You uploaded an unsupported image.",
        ),
        ({"tools": [tool("a.b")]}, "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."),
        ({"tools": [tool("x" * 65)]}, "maximum length 64, but got a string with length 65"),
        ({"tools": [tool(parameters={"type": "string"})]}, "schema must be a JSON Schema of 'type: \"object\"'"),
        (
            {"tools": [tool(strict=True, parameters={"type": "object", "properties": {}})]},
            "'additionalProperties' is required to be supplied and to be false.",
        ),
        (
            {
                "tools": [
                    tool(
                        strict=True,
                        parameters={
                            "type": "object",
                            "properties": {"a": {"type": "string"}},
                            "additionalProperties": False,
                        },
                    )
                ]
            },
            "an array including every key in properties. Missing 'a'.",
        ),
        ({"tool_choice": "auto"}, "'tool_choice' is only allowed when 'tools' are specified."),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "at the same time is not supported."),
    ],
)
def test_chat_refuses(fields: dict[str, Any], message: str) -> None:
    script = ask(CHAT, {"model": "echo", "messages": [ASKED], **fields})
    error = json.loads(content(script))["error"]
    assert (script.status, error["type"]) == (400, "invalid_request_error")
    assert message in error["message"]


def test_chat_takes_results_in_any_order_and_several_turns() -> None:
    talk = [ASKED, made(call("a"), call("b")), told("b"), told("a"), made(call("c")), told("c"), ASKED]
    assert answer(CHAT, {"model": "echo", "messages": talk})["object"] == "chat.completion"


def use(call_id: str = "t1", **changes: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "f", "input": {}, **changes}


def result(call_id: str = "t1") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "x"}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def model(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
THINK = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
SCHEMA = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Input should be 'user' or 'assistant'"),
        (
            {"messages": [ASKED, model(use())]},
            (
                "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1. "
                "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
            ),
        ),
        ({"messages": [ASKED, model(use()), ASKED]}, "messages.1: `tool_use` ids were found without"),
        ({"messages": [ASKED, model(use()), user(text("x"), result())]}, "messages.1: `tool_use` ids were found"),
        ({"messages": [ASKED, model(use(), use("t2")), user(result()), user(result("t2"))]}, "after: t2."),
        (
            {"messages": [user(result())]},
            "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: t1.",
        ),
        (
            {"messages": [ASKED, model(use()), user(result(), result())]},
            (
                "messages.2.content.1: each tool_use must have a single result. "
                "Found multiple `tool_result` blocks with id: t1"
            ),
        ),
        ({"messages": [ASKED, model(use(), use()), user(result())]}, "messages: `tool_use` ids must be unique"),
        ({"messages": [ASKED, model(use("a.b")), ASKED]}, "tool_use.id: String should match pattern"),
        ({"messages": [user(text(""))]}, "messages: text content blocks must be non-empty"),
        ({"messages": [user(text(" \n"))]}, "messages: text content blocks must contain non-whitespace text"),
        ({"messages": [{"role": "user", "content": ""}]}, "all messages must have non-empty content"),
        (
            {"messages": [ASKED, model(text("So: "))]},
            "messages: final assistant content cannot end with trailing whitespace",
        ),
        (
            {"messages": [ASKED, model({"type": "thinking", "thinking": "hm", "signature": "c2ln"}), ASKED]},
            "messages.1.content.0: Invalid `signature` in `thinking` block",
        ),
        (
            {"messages": [ASKED, model({"type": "redacted_thinking", "data": "abc"}), ASKED]},
            "messages.1.content.0: Invalid `data` in `redacted_thinking` block",
        ),
        (
            {**THINK, "messages": [ASKED, model(use()), user(result())]},
            "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
        ),
        (
            {**THINK, "messages": [ASKED, model(text("x"), use()), user(result())]},
            "but found `text`. When `thinking` is enabled, a final `assistant` message must start with a thinking",
        ),
        ({**THINK, "temperature": 0.5}, "`temperature` may only be set to 1 when thinking is enabled"),
        ({**THINK, "max_tokens": 1024}, "`max_tokens` must be greater than `thinking.budget_tokens`."),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 100}},
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        ),
        (
            {**THINK, "tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}},
            "Thinking may not be enabled when tool_choice forces tool use.",
        ),
        (
            {"messages": [user(*(text("x", **MARK) for _ in range(5)))]},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        ({"messages": [user(text("x", **MARK), text("y", **HOUR))]}, "a ttl='1h' cache_control block must not come"),
        (
            {"messages": [ASKED, model({"type": "thinking", "thinking": "", "signature": "", **MARK}), ASKED]},
            "messages.1.content.0.thinking.cache_control: Extra inputs are not permitted",
        ),
        ({"tools": [{"name": "a.b", "input_schema": SCHEMA}]}, "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"),
        ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [{"name": "f", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
        ({"tools": [{"name": "f", "input_schema": {"type": "array"}}]}, "input_schema.type: Input should be 'object'"),
        (
            {"tools": [{"name": "f", "input_schema": {**SCHEMA, "anyOf": [{}]}}]},
            "input_schema does not support oneOf, allOf, or anyOf at the top level",
        ),
        (
            {
                "messages": [
                    user({"type": "image", "source": {"type": "base64", "media_type": "image/jpg", "data": "aGk="}})
                ]
            },
            "messages.0.content.0.image.source.base64.media_type: Input should be 'image/jpeg'",
        ),
        ({"messages": [user({"type": "input_text", "text": "x"})]}, "Input tag 'input_text' found using 'type'"),
    ],
)
def test_messages_refuse(fields: dict[str, Any], message: str) -> None:
    body = {"model": "echo", "max_tokens": 100, "messages": [ASKED], **fields}
    script = ask(MESSAGES, {name: value for name, value in body.items() if value is not None})
    error = json.loads(content(script))["error"]
    assert (script.status, error["type"]) == (400, "invalid_request_error")
    assert message in error["message"]


@pytest.mark.parametrize(
    "talk",
    [
        [ASKED, model(use()), user(result(), text("and?"))],
        [ASKED, {"role": "system", "content": "Be kind."}, ASKED],
        [ASKED, {"role": "assistant", "content": ""}],
        [ASKED, model(text("So:"))],
        [ASKED, ASKED],
        [ASKED, model(use("t1"), use("t2")), user(result("t2"), result("t1"))],
    ],
)
def test_messages_take(talk: list[Any]) -> None:
    assert answer(MESSAGES, {"model": "echo", "max_tokens": 100, "messages": talk})["type"] == "message"


def test_thinking_must_lead_only_in_the_turn_in_progress() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": seal(Purpose.THINKING, "hm")}
    body = {"model": "echo", "messages": [ASKED, model(thinking, use()), user(result())], **THINK}
    assert answer(MESSAGES, body)["type"] == "message"
    later = [ASKED, model(thinking, use()), user(result()), model(use("t2")), user(result("t2"))]
    assert answer(MESSAGES, {**body, "messages": later})["type"] == "message"
    over = [ASKED, model(use()), user(result()), model(text("Done.")), ASKED]
    assert answer(MESSAGES, {**body, "messages": over})["type"] == "message"


def test_seals_are_known_again_and_nothing_else_is() -> None:
    token = seal(Purpose.REASONING, "a")
    assert is_sealed(Purpose.REASONING, token)
    assert is_sealed(Purpose.REASONING, token, "a")
    assert not is_sealed(Purpose.REASONING, token, "b")
    assert not is_sealed(Purpose.CALL, token)
    for other in ("", "c2FuZGJveC4=", token[:-8], token + "AAAA", "not base64!", "\u00e9"):
        assert not is_sealed(Purpose.REASONING, other)


def test_legacy_completions() -> None:
    path = "/v1/completions"
    reply = answer(path, {"model": "echo", "prompt": "one two", "n": 2, "echo": True})
    assert reply["object"] == "text_completion"
    assert [choice["text"] for choice in reply["choices"]] == ["one twoone two"] * 2
    assert answer(path, {"model": "story", "prompt": "x"})["choices"][0]["finish_reason"] == "length"
    body = {"model": "echo", "prompt": "one", "stream": True, "stream_options": {"include_usage": True}}
    frames = [frame.decode().removeprefix("data: ").strip() for _, frame in ask(path, body).frames]
    assert frames[-1] == "[DONE]"
    assert json.loads(frames[-2])["usage"]["total_tokens"] == 2
    assert "".join(json.loads(frame)["choices"][0]["text"] for frame in frames[:-2]) == "one"
    assert answer(path, {"model": "late-error", "prompt": "x"})["error"]["code"] == "overloaded"
