"""The peculiar models, in every dialect."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest

from omniroute.providers.sandbox import Ending
from tests.providers.sandbox.wire import (
    CHAT,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    answer,
    ask,
    content,
    events,
    fold_chat,
    gemini,
)

SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
SAID = [{"role": "user", "content": "Hello"}]
FUNCTIONS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("one", "two")]
CHAT_BODY: dict[str, Any] = {"messages": SAID, "tools": FUNCTIONS}
MESSAGES_BODY: dict[str, Any] = {
    "max_tokens": 1000,
    "messages": SAID,
    "tools": [{"name": name, "input_schema": SCHEMA} for name in ("one", "two")],
}
RESPONSES_BODY: dict[str, Any] = {
    "input": "Hello",
    "tools": [{"type": "function", "name": name, "parameters": SCHEMA} for name in ("one", "two")],
}
GEMINI_BODY: dict[str, Any] = {
    "contents": [{"parts": [{"text": "Hello"}]}],
    "tools": [{"functionDeclarations": [{"name": name, "parameters": SCHEMA} for name in ("one", "two")]}],
}
DIALECTS = ("chat", "messages", "responses", "gemini", "ollama")


def request(dialect: str, model: str, *, is_stream: bool) -> tuple[str, dict[str, Any]]:
    named = {"model": model, "stream": is_stream}
    match dialect:
        case "chat":
            return CHAT, {**CHAT_BODY, **named}
        case "messages":
            return MESSAGES, {**MESSAGES_BODY, **named}
        case "responses":
            return RESPONSES, {**RESPONSES_BODY, **named}
        case "ollama":
            return OLLAMA, {**CHAT_BODY, **named}
        case _:
            verb = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
            return gemini(model, verb), GEMINI_BODY


def streamed(dialect: str, model: str) -> str:
    script = ask(*request(dialect, model, is_stream=True))
    assert (script.status, script.ending) == (200, Ending.COMPLETE)
    return content(script).decode()


def whole(dialect: str, model: str) -> Any:
    return answer(*request(dialect, model, is_stream=False))


def test_parallel_calls_take_turns_in_chat() -> None:
    read = events(CHAT, {**CHAT_BODY, "model": "parallel"})
    order = [d["choices"][0]["delta"]["tool_calls"][0]["index"] for _, d in read[1:-2]]
    assert order == [0, 1] * (len(order) // 2)
    calls = fold_chat(read)["choices"][0]["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"query": "sandbox"}] * 2


def test_late_arguments_come_in_one_piece() -> None:
    read = events(CHAT, {**CHAT_BODY, "model": "late-args"})
    pieces = [d["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] for _, d in read[1:-2]]
    assert pieces == ["", '{"query":"sandbox"}']
    assert streamed("messages", "late-args").count('"partial_json"') == 2
    assert streamed("responses", "late-args").count("event: response.function_call_arguments.delta") == 1


def test_call_without_arguments() -> None:
    assert whole("chat", "noargs")["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == ""
    assert whole("messages", "noargs")["content"][0]["input"] == {}
    assert "partial_json" not in streamed("messages", "noargs")
    assert whole("responses", "noargs")["output"][0]["arguments"] == ""
    assert "arguments.delta" not in streamed("responses", "noargs")
    assert whole("gemini", "noargs")["candidates"][0]["content"]["parts"][0]["functionCall"]["args"] == {}
    assert whole("ollama", "noargs")["message"]["tool_calls"][0]["function"]["arguments"] == {}


def test_arguments_that_are_not_json() -> None:
    broken = '{"query": "sandbox", '
    assert whole("chat", "badargs")["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == broken
    assert whole("messages", "badargs")["content"][0]["input"] == {"INVALID_JSON": broken}
    assert whole("responses", "badargs")["output"][0]["arguments"] == broken
    assert whole("gemini", "badargs")["candidates"][0]["finishReason"] == "MALFORMED_FUNCTION_CALL"
    assert whole("ollama", "badargs")["message"]["content"] == broken


def test_text_around_a_call() -> None:
    message = whole("chat", "mixed")["choices"][0]["message"]
    assert message["content"] == "Let me look that up. That is all I need."
    assert len(message["tool_calls"]) == 1
    assert [block["type"] for block in whole("messages", "mixed")["content"]] == ["text", "tool_use", "text"]
    assert [item["type"] for item in whole("responses", "mixed")["output"]] == ["message", "function_call", "message"]
    kinds = [next(iter(part)) for part in whole("gemini", "mixed")["candidates"][0]["content"]["parts"]]
    assert kinds == ["text", "functionCall", "text"]


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("length", ("length", "max_tokens", {"reason": "max_output_tokens"}, "MAX_TOKENS", "length")),
        ("filter", ("content_filter", "refusal", {"reason": "content_filter"}, "SAFETY", "stop")),
    ],
)
def test_ends_in_each_vendors_word(model: str, reasons: tuple[Any, ...]) -> None:
    assert whole("chat", model)["choices"][0]["finish_reason"] == reasons[0]
    assert whole("messages", model)["stop_reason"] == reasons[1]
    assert whole("responses", model)["incomplete_details"] == reasons[2]
    assert whole("gemini", model)["candidates"][0]["finishReason"] == reasons[3]
    assert whole("ollama", model)["done_reason"] == reasons[4]
    assert f'"finish_reason":"{reasons[0]}"' in streamed("chat", model)
    assert f'"stop_reason":"{reasons[1]}"' in streamed("messages", model)
    assert "event: response.incomplete" in streamed("responses", model)
    assert f'"finishReason":"{reasons[3]}"' in streamed("gemini", model)


def test_refusals() -> None:
    message = whole("chat", "refusal")["choices"][0]["message"]
    assert message["content"] is None
    assert message["refusal"].startswith("I'm sorry")
    assert '"refusal":"sorry, "' in streamed("chat", "refusal")
    assert whole("messages", "refusal")["stop_reason"] == "refusal"
    assert "event: response.refusal.done" in streamed("responses", "refusal")
    assert "promptFeedback" in streamed("gemini", "refusal")
    assert whole("ollama", "refusal")["message"]["content"].startswith("I'm sorry")


def test_inline_thinking() -> None:
    assert whole("chat", "inline-think")["choices"][0]["message"]["content"].startswith("<think>The user")
    assert "</think>\n\nYou said: Hello" in whole("ollama", "inline-think")["message"]["content"]
    assert whole("messages", "inline-think")["content"][0]["type"] == "thinking"


ERRORS = {
    "chat": 'data: {"error":{"message":"The server is currently overloaded',
    "messages": 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}',
    "responses": "server_is_overloaded",
    "gemini": 'data: {"error":{"code":503,"message":"The model is overloaded',
    "ollama": '{"error":"server busy',
}
STATUSES = {"chat": 503, "messages": 529, "responses": 503, "gemini": 503, "ollama": 503}
ENDS = {
    "chat": "[DONE]",
    "messages": "event: message_stop",
    "responses": "event: response.completed",
    "gemini": '"finishReason":"STOP"',
    "ollama": '"done":true',
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_error_in_a_stream_that_has_begun(dialect: str) -> None:
    text = streamed(dialect, "late-error")
    assert "2:tower" in text
    assert ERRORS[dialect] in text
    assert ENDS[dialect] not in text
    assert "2:tower" not in streamed(dialect, "late-error-1")
    path, body = request(dialect, "late-error", is_stream=False)
    assert ask(path, body).status == STATUSES[dialect]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_error_as_the_first_event_of_a_200(dialect: str) -> None:
    text = streamed(dialect, "early-error")
    assert ERRORS[dialect] in text
    assert text.count("error") <= 4
    assert text.startswith(("data: {", "event: error\n", '{"error"'))
    assert "error" in whole(dialect, "early-error")


def test_failed_response_has_numbers_and_what_was_said() -> None:
    read = events(RESPONSES, {**RESPONSES_BODY, "model": "late-error"})
    assert [data["sequence_number"] for _, data in read] == list(range(len(read)))
    assert read[-1][0] == "response.failed"
    assert read[-1][1]["response"]["status"] == "failed"
    first = events(RESPONSES, {**RESPONSES_BODY, "model": "early-error"})
    assert [(name, data["sequence_number"]) for name, data in first] == [("error", 0)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_finish_and_double_end(dialect: str) -> None:
    open_ended = streamed(dialect, "no-finish")
    assert "2:tower" in open_ended
    assert ENDS[dialect] not in open_ended
    assert streamed(dialect, "double-end").count(ENDS[dialect]) == 2
    assert streamed(dialect, "echo").count(ENDS[dialect]) == 1


def test_whole_answers_without_a_finish() -> None:
    assert whole("chat", "no-finish")["choices"][0]["finish_reason"] is None
    assert whole("messages", "no-finish")["stop_reason"] is None
    assert whole("responses", "no-finish")["status"] == "in_progress"
    assert "finishReason" not in whole("gemini", "no-finish")["candidates"][0]
    assert whole("ollama", "no-finish")["done"] is False


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_at_all(dialect: str) -> None:
    assert streamed(dialect, "empty-stream") == ""
    assert content(ask(*request(dialect, "empty-stream", is_stream=False))) == b""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_one_event_of_more_than_a_megabyte(dialect: str) -> None:
    frames = [frame for _, frame in ask(*request(dialect, "big-delta", is_stream=True)).frames]
    assert max(map(len, frames)) > 1_200_000


def test_sources() -> None:
    notes = whole("chat", "cite")["choices"][0]["message"]["annotations"]
    assert notes[0]["url_citation"] == {
        "start_index": 0,
        "end_index": 35,
        "title": "Signals at sea",
        "url": "https://example.com/lamps",
    }
    cited = whole("messages", "cite")["content"][0]["citations"]
    assert [note["cited_text"] for note in cited] == [
        "Lamps were used for signals at sea.",
        "Towers carried them inland.",
    ]
    assert streamed("messages", "cite").count('"citations_delta"') == 2
    assert whole("responses", "cite")["output"][0]["content"][0]["annotations"][1]["type"] == "url_citation"
    assert streamed("responses", "cite").count("event: response.output_text.annotation.added") == 2
    grounding = whole("gemini", "cite")["candidates"][0]["groundingMetadata"]
    assert [chunk["web"]["uri"] for chunk in grounding["groundingChunks"]] == [
        "https://example.com/lamps",
        "https://example.com/towers",
    ]
    assert "groundingSupports" in streamed("gemini", "cite")


PICTURE = b"\x89PNG\r\n\x1a\nnot really"
ENCODED = b64encode(PICTURE).decode()
LINE = f"1. image image/png {len(PICTURE)} bytes sha256 {sha256(PICTURE).hexdigest()[:16]}"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            CHAT,
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}}],
                    }
                ]
            },
        ),
        (
            MESSAGES,
            {
                "max_tokens": 99,
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ENCODED}}
                        ],
                    }
                ],
            },
        ),
        (
            RESPONSES,
            {
                "input": [
                    {
                        "role": "user",
                        "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{ENCODED}"}],
                    }
                ]
            },
        ),
        (OLLAMA, {"stream": False, "messages": [{"role": "user", "content": "", "images": [ENCODED]}]}),
        (
            gemini("image-desc"),
            {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": ENCODED}}]}]},
        ),
    ],
)
def test_pictures_are_described_alike(path: str, body: dict[str, Any]) -> None:
    named = {} if path.startswith("/v1beta") else {"model": "image-desc"}
    assert json.dumps(f"1 media part received.\n{LINE}") in json.dumps(answer(path, {**body, **named}))


def test_documents_sounds_and_addresses_are_described() -> None:
    parts = [
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGVsbG8="}},
        {"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    reply = answer(CHAT, {"model": "image-desc", "messages": [{"role": "user", "content": parts}]})
    digest = sha256(b"hello").hexdigest()[:16]
    assert reply["choices"][0]["message"]["content"].splitlines() == [
        "3 media parts received.",
        f"1. document application/pdf 5 bytes sha256 {digest}",
        f"2. audio audio/wav 5 bytes sha256 {digest}",
        "3. image unknown url https://example.com/a.png",
    ]
