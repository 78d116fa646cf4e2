"""Request bodies of coding agents in the Messages format: the usual 115 KB, and 10 MB at the end of a long session."""

from __future__ import annotations

import base64
import json
import random
from typing import Any, Final

from omnibench.bodies import LARGE_BYTES, SMALL_BYTES, TOOLS, WORDS, text

HUGE_BYTES: Final = 10_000_000
HUGE_MESSAGES: Final = 700
HUGE_TOOLS: Final = 80

_CACHED: Final = {"type": "ephemeral"}
_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x05\x00\x00\x00\x03\x20\x08\x02\x00\x00\x00"
_IMAGE_BYTES: Final = 200_000
_IMAGE_EVERY: Final = 50
"""Turns of the long session between two screenshots."""


def small(model: str, *, stream: bool = False) -> bytes:
    """Return a Messages request of :data:`SMALL_BYTES` bytes, the counterpart of `bodies.small`."""
    body: dict[str, Any] = {
        "model": model,
        "stream": stream,
        "max_tokens": 256,
        "temperature": 0.7,
        "system": "Answer in one short paragraph. Name the file when you speak of code.",
        "messages": [{"role": "user", "content": ""}],
    }
    body["messages"][0]["content"] = text(random.Random(1), SMALL_BYTES - len(_render(body)))  # noqa: S311 - no secret
    return _render(body)


def usual(model: str, *, stream: bool = False) -> bytes:
    """Return about :data:`LARGE_BYTES` bytes as Claude Code posts them.

    A system list with cache marks, tools with long descriptions and schemas, a conversation of tool calls (some of them
    parallel) and their results, the reminders and cache marks that the client puts into the last turns.
    """
    rng = random.Random(3)  # noqa: S311 - text of the same shape every time, not a secret
    tools = [_tool(rng, name, 1_300) for name in TOOLS[:18]]
    return _session(rng, model, stream=stream, tools=tools, size=LARGE_BYTES, turns=24, image_every=0)


def huge(model: str, *, stream: bool = False) -> bytes:
    """Return :data:`HUGE_BYTES` bytes: :data:`HUGE_MESSAGES` messages with screenshots, :data:`HUGE_TOOLS` tools."""
    rng = random.Random(4)  # noqa: S311 - text of the same shape every time, not a secret
    names = [f"mcp__{TOOLS[number % len(TOOLS)]}__{WORDS[number]}" for number in range(HUGE_TOOLS)]
    tools = [_tool(rng, name, 1_300) for name in names]
    turns = HUGE_MESSAGES // 2
    return _session(rng, model, stream=stream, tools=tools, size=HUGE_BYTES, turns=turns, image_every=_IMAGE_EVERY)


def _session(
    rng: random.Random,
    model: str,
    *,
    stream: bool,
    tools: list[dict[str, Any]],
    size: int,
    turns: int,
    image_every: int,
) -> bytes:
    """Return a request of `turns` turns of the user and the model, whose results fill it up to `size` bytes."""
    messages: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for turn in range(turns):
        content: list[dict[str, Any]] = [_result(call) for call in calls]
        results += content
        if not calls:
            content.append({"type": "text", "text": text(rng, 240)})
        elif image_every and turn % image_every == 1:
            content[0]["content"] = [_screenshot(rng)]
            results.remove(content[0])
        messages.append({"role": "user", "content": content})
        # Every fifth turn only talks; every third of the others calls two tools at once.
        calls = [] if turn % 5 == 4 else [_call(rng, turn) for _ in range(2 if turn % 3 == 2 else 1)]
        said = {"type": "text", "text": text(rng, 160) + " — so"}
        messages.append({"role": "assistant", "content": [said, *calls]})
    del messages[-1]["content"][1:]  # a request ends with what the user says
    messages.append({"role": "user", "content": [{"type": "text", "text": text(rng, 300), "cache_control": _CACHED}]})
    body = {
        "model": model,
        "max_tokens": 32_000,
        "stream": stream,
        "temperature": 1,
        "metadata": {"user_id": f"user_{rng.getrandbits(256):064x}_session_{rng.getrandbits(128):032x}"},
        "system": [
            {"type": "text", "text": "You work in a terminal, on the files of one folder.", "cache_control": _CACHED},
            {"type": "text", "text": _prose(rng, 13_000), "cache_control": _CACHED},
        ],
        "tools": tools,
        "messages": messages,
    }
    missing = size - len(_render(body))
    share = max(200, missing // max(1, len(results)))
    for number, result in enumerate(results):
        result["content"] = _code(rng, number, share) if number % 4 else [{"type": "text", "text": _log(rng, share)}]
    return _render(body)


def _call(rng: random.Random, turn: int) -> dict[str, Any]:
    name = TOOLS[turn % 8]
    given = {"file_path": f"/home/dev/{rng.choice(WORDS)}/{rng.choice(WORDS)}.py", "offset": turn * 40, "limit": 200}
    if turn % 4 == 3:
        given["new_string"] = _code(rng, turn, 600)
    return {"type": "tool_use", "id": f"toolu_{rng.getrandbits(120):030x}", "name": name, "input": given}


def _result(call: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call["id"], "content": ""}


def _screenshot(rng: random.Random) -> dict[str, Any]:
    data = base64.b64encode(_PNG_HEAD + rng.randbytes(_IMAGE_BYTES)).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def _tool(rng: random.Random, name: str, length: int) -> dict[str, Any]:
    properties: dict[str, Any] = {
        f"{rng.choice(WORDS)}_{number}": {"type": kind, "description": text(rng, 120)}
        for number, kind in enumerate(("string", "integer", "boolean", "string", "number"))
    }
    properties["mode"] = {"type": "string", "enum": rng.sample(WORDS, 5), "description": text(rng, 80)}
    properties["edits"] = {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {"old": {"type": "string"}, "new": {"type": "string", "description": text(rng, 60)}},
            "required": ["old", "new"],
            "additionalProperties": False,
        },
    }
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": properties,
        "required": list(properties)[:2],
        "additionalProperties": False,
    }
    return {"name": name, "description": _prose(rng, length), "input_schema": schema}


def _prose(rng: random.Random, length: int) -> str:
    paragraphs: list[str] = []
    size = 0
    while size < length:
        paragraphs.append(f"- **{rng.choice(WORDS)}**: {text(rng, 220)} → {rng.choice(WORDS)}.")
        size += len(paragraphs[-1]) + 1
    return "\n".join(paragraphs)


def _code(rng: random.Random, number: int, length: int) -> str:
    lines: list[str] = []
    size = 0
    while size < length:
        lines.append(
            f'{number + len(lines):5d}\tdef {rng.choice(WORDS)}(self) -> "{rng.choice(WORDS)}":  # {text(rng, 24)}'
        )
        size += len(lines[-1]) + 6
    return "\n".join(lines)


def _log(rng: random.Random, length: int) -> str:
    lines: list[str] = []
    size = 0
    while size < length:
        lines.append(f"✓ {rng.choice(WORDS)}::{rng.choice(WORDS)} passed in {rng.randrange(900)} ms")
        size += len(lines[-1]) + 7
    return "\n".join(lines)


def _render(value: Any) -> bytes:
    """Return JSON as JavaScript writes it: no spaces, and letters of all scripts as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
