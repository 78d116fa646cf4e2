"""A stream, put together again, is the answer that would have come whole; and the same request gets the same bytes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from omniroute.providers.sandbox import Options, respond
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
    fold_messages,
    gemini,
)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120).filter(str.strip)
_MODELS = st.sampled_from(["echo", "story", "story-7", "think", "json", "tools", "slow-1"])
_LIMITS = st.integers(1, 60)
_STOPS = st.lists(st.sampled_from(["a", "e ", "the", "3:", "\n", "zz"]), max_size=3, unique=True)
_SIZES = st.builds(Options, chunk_size=st.none() | st.integers(1, 9), chunks=st.none() | st.integers(1, 20))
_SCHEMAS = [
    {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"text": {"const": 'quotes " and \\ and \u00e9'}}},
]


@given(_MODELS, _TEXT, _LIMITS, _STOPS, _SIZES, st.integers(1, 3), st.integers(0, 3))
def test_chat(
    model: str, text: str, limit: int, stops: list[str], options: Options, count: int, tool_count: int
) -> None:
    tools = [
        {"type": "function", "function": {"name": f"tool{n}", "parameters": schema}}
        for n, schema in enumerate(_SCHEMAS[:tool_count])
    ]
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": limit,
        "n": count,
    }
    body |= {"stop": stops} if stops else {}
    body |= {"tools": tools} if tools else {}
    folded = fold_chat(events(CHAT, {**body, "stream_options": {"include_usage": True}}, options=options))
    whole = answer(CHAT, body, options=options)
    for choice in whole["choices"]:
        choice["message"].pop("annotations", None)
    assert _without_call_ids(whole["choices"]) == _without_call_ids(folded["choices"])
    assert whole["usage"] == folded["usage"]


@given(_MODELS, _TEXT, _LIMITS, _STOPS, _SIZES, st.integers(0, 3))
def test_messages(model: str, text: str, limit: int, stops: list[str], options: Options, tool_count: int) -> None:
    tools = [{"name": f"tool{n}", "input_schema": schema} for n, schema in enumerate(_SCHEMAS[:tool_count])]
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": limit}
    body |= {"stop_sequences": [stop for stop in stops if stop.strip()], "tools": tools}
    folded = fold_messages(events(MESSAGES, body, options=options))
    whole = answer(MESSAGES, body, options=options)
    for message in (whole, folded):
        del message["id"]
    # Ids follow from the body, and the two bodies differ by `stream`.
    assert _without_call_ids(whole) == _without_call_ids(folded)


def _without_call_ids(value: Any) -> Any:
    if isinstance(value, dict):
        is_call = value.get("type") in ("tool_use", "function", "custom")
        return {k: "id" if is_call and k == "id" else _without_call_ids(v) for k, v in value.items()}
    return [_without_call_ids(item) for item in value] if isinstance(value, list) else value


@given(_MODELS, _TEXT, st.booleans(), st.sampled_from([CHAT, MESSAGES]))
def test_same_request_gets_the_same_script(model: str, text: str, is_stream: bool, path: str) -> None:
    body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": text}], "stream": is_stream}
    first, second = ask(path, body), ask(path, body)
    assert (first.status, first.headers, first.ending) == (second.status, second.headers, second.ending)
    assert list(first.frames) == list(second.frames)


@given(st.text(max_size=40), st.text(max_size=40))
def test_ids_differ_between_requests(one: str, other: str) -> None:
    if one == other:
        return
    bodies = [{"model": "echo", "messages": [{"role": "user", "content": text}]} for text in (one, other)]
    assert answer(CHAT, bodies[0])["id"] != answer(CHAT, bodies[1])["id"]


_PATHS = [CHAT, MESSAGES, RESPONSES, OLLAMA, gemini("tools"), gemini("tools", "streamGenerateContent")]
_OTHER_PATHS = [MESSAGES + "/count_tokens", gemini("x", "countTokens"), RESPONSES + "/compact", "/v1/completions"]
_OTHER_PATHS += [RESPONSES + "/input_tokens", "/v1/models", "/api/show", "/", "/v1beta/x", gemini("x", "other")]


@given(st.binary(max_size=200), st.sampled_from(_PATHS + _OTHER_PATHS))
def test_any_bytes_get_an_answer(body: bytes, path: str) -> None:
    script = respond(path, {}, body)
    assert 200 <= script.status < 500
    assert isinstance(json.loads(content(script)), dict | list)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = ["messages", "stream", "max_tokens", "tools", "tool_choice", "stop", "stop_sequences", "n", "system"]
_FIELDS += ["functions", "response_format", "output_config", "thinking", "stream_options", "temperature"]


_FIELDS += ["input", "instructions", "reasoning", "text", "include", "store", "max_output_tokens", "options", "format"]
_FIELDS += ["contents", "generationConfig", "toolConfig", "systemInstruction", "think", "prompt"]
_BASES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "tools", "messages": [{"role": "user", "content": "x"}]},
    MESSAGES: {"model": "tools", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
    RESPONSES: {"model": "tools", "input": "x"},
    OLLAMA: {"model": "tools", "messages": [{"role": "user", "content": "x"}]},
    gemini("tools"): {"contents": [{"parts": [{"text": "x"}]}]},
}


@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=4), st.sampled_from(sorted(_BASES)))
def test_wrong_types_are_refused_and_never_raise(fields: dict[str, Any], path: str) -> None:
    assert ask(path, {**_BASES[path], **fields}).status in (200, 400, 403, 404)


_NAMES = [
    "role",
    "content",
    "type",
    "text",
    "tool_calls",
    "tool_call_id",
    "tool_use_id",
    "id",
    "name",
    "input",
    "parts",
]
_NAMES += ["function", "arguments", "functionCall", "functionResponse", "response", "args", "call_id", "output"]
_NAMES += ["source", "image_url", "inlineData", "summary", "encrypted_content", "signature", "thinking", "images"]
_WORDS = ["user", "assistant", "model", "tool", "text", "tool_use", "tool_result", "message", "function_call", "image"]
_WORDS += ["function_call_output", "reasoning", "thinking", "image_url", "input_text", "function", "x", ""]
_TALK = st.recursive(
    st.sampled_from(_WORDS) | st.none() | st.integers(0, 2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5),
    max_leaves=14,
)


@given(st.lists(_TALK, max_size=4), st.sampled_from(sorted(_BASES)))
def test_wrong_conversations_are_refused_and_never_raise(talk: list[Any], path: str) -> None:
    field = "input" if path == RESPONSES else "contents" if path == gemini("tools") else "messages"
    assert ask(path, {**_BASES[path], field: talk}).status in (200, 400, 404)
