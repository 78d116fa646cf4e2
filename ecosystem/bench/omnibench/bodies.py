"""The request bodies: about 1 KB of plain chat, and about 115 KB as a coding assistant sends them."""

from __future__ import annotations

import json
import random
from typing import Any, Final

SMALL_BYTES: Final = 1_024
LARGE_BYTES: Final = 115 * 1_024

WORDS: Final = (
    "account",
    "adapter",
    "branch",
    "buffer",
    "bytes",
    "cache",
    "caller",
    "column",
    "config",
    "cursor",
    "default",
    "deploy",
    "driver",
    "error",
    "event",
    "fetch",
    "field",
    "file",
    "filter",
    "flag",
    "folder",
    "format",
    "frame",
    "graph",
    "guard",
    "handler",
    "header",
    "hook",
    "index",
    "input",
    "insert",
    "iterator",
    "job",
    "key",
    "layer",
    "lease",
    "limit",
    "list",
    "loader",
    "lock",
    "log",
    "loop",
    "map",
    "merge",
    "message",
    "method",
    "migration",
    "mock",
    "model",
    "module",
    "name",
    "node",
    "number",
    "object",
    "offset",
    "order",
    "output",
    "packet",
    "page",
    "parser",
    "patch",
    "path",
    "pattern",
    "pool",
    "port",
    "proxy",
    "query",
    "queue",
    "range",
    "reader",
    "record",
    "release",
    "render",
    "request",
    "result",
    "retry",
    "return",
    "route",
    "row",
    "rule",
    "scheduler",
    "schema",
    "scope",
    "server",
    "session",
    "shard",
    "socket",
    "source",
    "stack",
    "state",
    "storage",
    "stream",
    "string",
    "switch",
    "table",
    "task",
    "template",
    "test",
    "thread",
    "timeout",
    "token",
    "trace",
    "transaction",
    "tree",
    "type",
    "update",
    "user",
    "value",
    "view",
    "worker",
    "writer",
)
TOOLS: Final = (
    "read_file",
    "write_file",
    "edit_file",
    "list_files",
    "search_text",
    "search_symbols",
    "run_command",
    "read_output",
    "stop_command",
    "fetch_page",
    "search_pages",
    "read_notebook",
    "edit_notebook",
    "list_tasks",
    "update_tasks",
    "ask_user",
    "start_task",
    "open_plan",
    "close_plan",
    "read_image",
    "format_code",
    "run_tests",
    "show_diff",
    "read_resource",
)


def small(model: str, *, stream: bool = False, most_tokens: int = 256) -> bytes:
    """Return a chat request of :data:`SMALL_BYTES` bytes."""
    body: dict[str, Any] = {
        "model": model,
        "stream": stream,
        "max_tokens": most_tokens,
        "temperature": 0.7,
        "messages": [
            {"role": "system", "content": "Answer in one short paragraph. Name the file when you speak of code."},
            {"role": "user", "content": ""},
        ],
    }
    rng = random.Random(1)  # noqa: S311 - text of the same shape every time, not a secret
    missing = SMALL_BYTES - len(render(body))
    body["messages"][1]["content"] = text(rng, missing)
    return render(body)


def large(model: str, *, stream: bool = False) -> bytes:
    """Return a chat request of :data:`LARGE_BYTES` bytes: long system text, 24 tools, a long tool conversation."""
    rng = random.Random(2)  # noqa: S311 - text of the same shape every time, not a secret
    messages: list[dict[str, Any]] = [{"role": "system", "content": text(rng, 14_000)}]
    body: dict[str, Any] = {
        "model": model,
        "stream": stream,
        "max_tokens": 8192,
        "temperature": 1,
        "tool_choice": "auto",
        "tools": [_tool(rng, name) for name in TOOLS],
        "messages": messages,
    }
    turn = 0
    size = len(render(body))
    while size < LARGE_BYTES - 6_000:
        added = _turn(rng, turn)
        messages += added
        size += len(render(added))
        turn += 1
    messages.append({"role": "user", "content": ""})
    messages[-1]["content"] = text(rng, max(1, LARGE_BYTES - len(render(body))))
    return render(body)


def _turn(rng: random.Random, turn: int) -> list[dict[str, Any]]:
    call_id = f"call_{rng.getrandbits(96):024x}"
    arguments = {"path": f"src/{rng.choice(WORDS)}/{rng.choice(WORDS)}.py", "offset": turn * 40, "limit": 200}
    call = {"id": call_id, "type": "function", "function": {"name": "read_file", "arguments": json.dumps(arguments)}}
    code = "\n".join(
        f'{line:5d}\tdef {rng.choice(WORDS)}_{line}(self, {rng.choice(WORDS)}: str) -> None:  # "{text(rng, 24)}"'
        for line in range(turn * 40, turn * 40 + 24)
    )
    return [
        {"role": "user", "content": text(rng, 220)},
        {"role": "assistant", "content": text(rng, 120), "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": code},
        {"role": "assistant", "content": text(rng, 500)},
    ]


def _tool(rng: random.Random, name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        rng.choice(WORDS) + f"_{number}": {"type": kind, "description": text(rng, 90)}
        for number, kind in enumerate(("string", "integer", "boolean", "string"))
    }
    properties["choice"] = {"type": "string", "enum": rng.sample(WORDS, 5), "description": text(rng, 60)}
    properties["entries"] = {
        "type": "array",
        "items": {"type": "object", "properties": {"id": {"type": "string"}, "text": {"type": "string"}}},
    }
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:2],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": text(rng, 420), "parameters": schema}}


def text(rng: random.Random, length: int) -> str:
    """Return words of `length` characters in all."""
    words: list[str] = []
    size = 0
    while size <= length:
        word = rng.choice(WORDS)
        words.append(word)
        size += len(word) + 1
    return " ".join(words)[:length]


def render(value: Any) -> bytes:
    """Return a value as JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()
