"""Requests, answers and streams to try the translator with.

Each is written once, as Chat Completions; in the other formats it is what the translator makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flask_babel import LazyString
from flask_babel import lazy_gettext as _l

from omniroute.blueprints.dashboard import api

CHAT: Final = "openai_chat"
OLLAMA: Final = "ollama"
DIRECTIONS: Final[Mapping[str, LazyString]] = {
    "request": _l("Request"),
    "response": _l("Answer"),
    "stream": _l("Stream"),
}
_PICTURE: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_CALL: Final = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Lisbon"}'},
}
_ASKED: Final = {"role": "user", "content": "What is the weather in Lisbon?"}
_SCHEMA: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
_USAGE: Final = {"prompt_tokens": 21, "completion_tokens": 12, "total_tokens": 33}


def _request(*messages: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "messages": list(messages), **more}


def _answer(message: Mapping[str, Any], finish: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "gpt-5-mini",
        "choices": [choice],
        "usage": _USAGE,
    }


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> str:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": "gpt-5-mini",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return f"data: {json.dumps(chunk)}\n\n"


def _call_chunk(arguments: str, **start: Any) -> str:
    return _chunk({"tool_calls": [{"index": 0, **start, "function": {"arguments": arguments}}]})


REQUESTS: Final[Mapping[str, tuple[LazyString, Mapping[str, Any]]]] = {
    "text": (
        _l("Text with a system prompt and settings"),
        _request(
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": "Why is the sky blue?"},
            temperature=0.4,
            max_completion_tokens=200,
            frequency_penalty=0.2,
            logit_bias={"1734": -100},
            user="lighthouse-7",
        ),
    ),
    "tools": (_l("Tools"), _request(_ASKED, tools=[_TOOL], tool_choice="auto", parallel_tool_calls=True)),
    "results": (
        _l("Result of a tool"),
        _request(
            _ASKED,
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees, clear"},
            tools=[_TOOL],
        ),
    ),
    "image": (
        _l("Picture"),
        _request(
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is in this picture?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PICTURE}", "detail": "low"}},
                ],
            }
        ),
    ),
    "thinking": (
        _l("Reasoning"),
        _request({"role": "user", "content": "How many primes are below 30?"}, reasoning_effort="high"),
    ),
    "json_schema": (
        _l("JSON by a schema"),
        _request(
            {"role": "user", "content": "Give a city and a temperature."},
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "weather", "schema": _SCHEMA, "strict": True},
            },
        ),
    ),
}
ANSWERS: Final[Mapping[str, tuple[LazyString, Mapping[str, Any]]]] = {
    "text": (_l("Text"), _answer({"content": "Blue light is scattered the most by air."}, "stop")),
    "tools": (_l("Call of a tool"), _answer({"content": None, "tool_calls": [_CALL]}, "tool_calls")),
    "thinking": (
        _l("Reasoning"),
        _answer({"reasoning_content": "2, 3, 5, 7, 11, 13, 17, 19, 23, 29.", "content": "Ten."}, "stop"),
    ),
}
STREAMS: Final[Mapping[str, tuple[LazyString, str]]] = {
    "text": (
        _l("Text"),
        _chunk({"role": "assistant", "content": "Blue light "})
        + _chunk({"content": "is scattered the most."})
        + _chunk({}, "stop")
        + "data: [DONE]\n\n",
    ),
    "tools": (
        _l("Call of a tool"),
        _call_chunk("", id="call_1", type="function").replace('"function": {', '"function": {"name": "get_weather", ')
        + _call_chunk('{"city":')
        + _call_chunk('"Lisbon"}')
        + _chunk({}, "tool_calls")
        + "data: [DONE]\n\n",
    ),
}
_OF: Final[Mapping[str, Mapping[str, tuple[LazyString, Any]]]] = {
    "request": REQUESTS,
    "response": ANSWERS,
    "stream": STREAMS,
}


def names() -> list[tuple[LazyString, list[tuple[str, LazyString]]]]:
    """Return what can be chosen, by direction: `direction:name` and a label."""
    return [
        (label, [(f"{direction}:{name}", row[0]) for name, row in _OF[direction].items()])
        for direction, label in DIRECTIONS.items()
    ]


def direction_of(choice: str) -> str:
    """Return the direction of a choice; a request for what cannot be chosen."""
    direction, _, name = choice.partition(":")
    return direction if name in _OF.get(direction, {}) else "request"


def body_of(choice: str, wire: str) -> str:
    """Return the text of a sample in a format.

    Raises:
        Refused: there is no such format.
    """
    direction = direction_of(choice)
    rows = _OF[direction]
    _, body = rows.get(choice.partition(":")[2]) or next(iter(rows.values()))
    if direction == "stream":
        return stream_text(body, wire)
    if wire != CHAT:
        asked = {"from": CHAT, "to": wire, "direction": direction, "body": body}
        body = api.post("/api/translator/translate", asked)["result"]
    return pretty(body)


def stream_text(body: str, wire: str) -> str:
    """Return a stream of Chat Completions as text in another format."""
    if wire == CHAT:
        return body
    frames = api.post("/api/translator/transform-stream", {"from": CHAT, "to": wire, "sse": body})["frames"]
    return joined(frames, wire)


def joined(frames: list[str], wire: str) -> str:
    """Return frames as they stand on the wire: events end with an empty line, Ollama's are lines."""
    end = "\n" if wire == OLLAMA else "\n\n"
    return "".join(frame + end for frame in frames)


def pretty(body: Any) -> str:
    """Return a body as text that can be read."""
    return body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)
