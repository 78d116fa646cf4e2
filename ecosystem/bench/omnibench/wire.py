"""Streams as the vendors send them, one item per event: some reasoning, a page of text, a tool call in fragments. Pure.

Each has the small things that its vendor sends along (fingerprints, padding, item ids), since reading past them is part
of the work.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from omnibench.bodies import text

THOUGHTS: Final = 40
WORDS: Final = 200
FRAGMENTS: Final = 60

_MODEL: Final = "model-1"
_TOOL: Final = "read_file"


def streams() -> Mapping[str, list[bytes]]:
    """Return the events of one answer by the name of the upstream format."""
    return {name: list(make(*pieces())) for name, make in _MAKERS.items()}


def pieces() -> tuple[list[str], list[str], list[str]]:
    """Return the pieces of the reasoning, of the text and of the call's arguments."""
    rng = random.Random(5)  # noqa: S311 - text of the same shape every time, not a secret
    arguments = json.dumps({"file_path": "/home/dev/pool/reader.py", "new_string": text(rng, 320)})
    size = -(-len(arguments) // FRAGMENTS)
    return (
        [text(rng, 12) + " " for _ in range(THOUGHTS)],
        [text(rng, 8) + (" — \n" if number % 20 == 19 else " ") for number in range(WORDS)],
        [arguments[start : start + size] for start in range(0, len(arguments), size)],
    )


def _sse(data: Any) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def _named(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\n".encode() + _sse(data)


def _chat(thoughts: list[str], words: list[str], fragments: list[str]) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _sse(
            {
                "id": "chatcmpl-Bx1J9tqWl2qMXh2aQGk0mL4rYc8Zu",
                "object": "chat.completion.chunk",
                "created": 1_790_000_000,
                "model": _MODEL,
                "service_tier": "default",
                "system_fingerprint": "fp_34a54ae93c",
                "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
                "usage": None,
                "obfuscation": "k3JxT0",
            }
        )

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for piece in thoughts:
        yield chunk({"reasoning_content": piece})
    for piece in words:
        yield chunk({"content": piece})
    function = {"name": _TOOL, "arguments": ""}
    yield chunk({"tool_calls": [{"index": 0, "id": "call_9QyS2bW8", "type": "function", "function": function}]})
    for piece in fragments:
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    yield chunk({}, "tool_calls")
    usage = {"prompt_tokens": 21_034, "completion_tokens": 611, "total_tokens": 21_645}
    yield _sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": _MODEL, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _messages(thoughts: list[str], words: list[str], fragments: list[str]) -> Iterator[bytes]:
    def block(index: int, head: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[bytes]:
        yield _named({"type": "content_block_start", "index": index, "content_block": head})
        for delta in deltas:
            yield _named({"type": "content_block_delta", "index": index, "delta": delta})
        yield _named({"type": "content_block_stop", "index": index})

    message: dict[str, Any] = {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": _MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 34,
            "cache_read_input_tokens": 21_000,
            "output_tokens": 1,
            "service_tier": "standard",
        },
    }
    yield _named({"type": "message_start", "message": message})
    yield _named({"type": "ping"})
    signed = [{"type": "thinking_delta", "thinking": piece} for piece in thoughts]
    signed.append({"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h" * 12})
    yield from block(0, {"type": "thinking", "thinking": "", "signature": ""}, signed)
    yield from block(1, {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in words])
    head = {"type": "tool_use", "id": "toolu_01T1x1fJ34qAmk2tNTrN7Up6", "name": _TOOL, "input": {}}
    yield from block(2, head, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *fragments)])
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    yield _named({"type": "message_delta", "delta": end, "usage": {"output_tokens": 611}})
    yield _named({"type": "message_stop"})


def _responses(thoughts: list[str], words: list[str], fragments: list[str]) -> Iterator[bytes]:
    number = 0

    def event(kind: str, **members: Any) -> bytes:
        nonlocal number
        number += 1
        return _named({"type": f"response.{kind}", "sequence_number": number - 1, **members})

    def deltas(kind: str, item: str, output: int, pieces: list[str], **more: int) -> Iterator[bytes]:
        for piece in pieces:
            yield event(f"{kind}.delta", item_id=item, output_index=output, **more, delta=piece, obfuscation="Zk3Jx0")

    response: dict[str, Any] = {
        "id": "resp_68af4030592c81938ec0a5fbab4a3e9f",
        "object": "response",
        "created_at": 1_790_000_000,
    }
    response |= {"model": _MODEL, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}}
    yield event("created", response={**response, "status": "in_progress", "output": [], "usage": None})
    yield event("in_progress", response={**response, "status": "in_progress", "output": [], "usage": None})
    items: list[dict[str, Any]] = []

    reasoning = {"id": "rs_68af40309d4c8193", "type": "reasoning", "summary": []}
    yield event("output_item.added", output_index=0, item=reasoning)
    summary = {"type": "summary_text", "text": ""}
    place = {"item_id": reasoning["id"], "output_index": 0, "summary_index": 0}
    yield event("reasoning_summary_part.added", **place, part=summary)
    yield from deltas("reasoning_summary_text", "rs_68af40309d4c8193", 0, thoughts, summary_index=0)
    said = "".join(thoughts)
    yield event("reasoning_summary_text.done", **place, text=said)
    yield event("reasoning_summary_part.done", **place, part={**summary, "text": said})
    items.append({**reasoning, "summary": [{**summary, "text": said}], "encrypted_content": "gAAAAABotjPr" * 40})
    yield event("output_item.done", output_index=0, item=items[-1])

    message = {"id": "msg_68af4032a1b48193", "type": "message", "role": "assistant", "status": "in_progress"}
    yield event("output_item.added", output_index=1, item={**message, "content": []})
    place = {"item_id": message["id"], "output_index": 1, "content_index": 0}
    part: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    yield event("content_part.added", **place, part=part)
    yield from deltas("output_text", message["id"], 1, words, content_index=0)
    said = "".join(words)
    yield event("output_text.done", **place, text=said, logprobs=[])
    yield event("content_part.done", **place, part={**part, "text": said})
    items.append({**message, "status": "completed", "content": [{**part, "text": said}]})
    yield event("output_item.done", output_index=1, item=items[-1])

    call = {"id": "fc_68af4033cd30", "type": "function_call", "call_id": "call_9QyS2bW8", "name": _TOOL}
    yield event("output_item.added", output_index=2, item={**call, "status": "in_progress", "arguments": ""})
    yield from deltas("function_call_arguments", call["id"], 2, fragments)
    arguments = "".join(fragments)
    yield event("function_call_arguments.done", item_id=call["id"], output_index=2, arguments=arguments)
    items.append({**call, "status": "completed", "arguments": arguments})
    yield event("output_item.done", output_index=2, item=items[-1])
    usage: dict[str, Any] = {"input_tokens": 21_034, "output_tokens": 611, "total_tokens": 21_645}
    usage |= {"input_tokens_details": {"cached_tokens": 21_000}, "output_tokens_details": {"reasoning_tokens": 90}}
    yield event("completed", response={**response, "status": "completed", "output": items, "usage": usage})


def _gemini(thoughts: list[str], words: list[str], fragments: list[str]) -> Iterator[bytes]:
    """Yield chunks of several words, as the vendor does; a call comes whole."""

    def chunk(part: dict[str, Any], tokens: int, finish: str | None = None) -> bytes:
        candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        usage: dict[str, Any] = {
            "promptTokenCount": 21_034,
            "candidatesTokenCount": tokens,
            "totalTokenCount": 21_034 + tokens,
        }
        usage |= {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 21_034}], "thoughtsTokenCount": 90}
        answer = {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": _MODEL,
            "responseId": "mAitaLmkHPPl",
        }
        return _sse(answer).replace(b"\n\n", b"\r\n\r\n")

    tokens = 0
    for piece in thoughts:
        yield chunk({"text": piece, "thought": True}, 0)
    for piece in words:
        tokens += 2
        yield chunk({"text": piece}, tokens)
    called = {"name": _TOOL, "args": json.loads("".join(fragments))}
    yield chunk({"functionCall": called, "thoughtSignature": "CiQB0e2Kb7Zb" * 30}, tokens + 80)
    yield chunk({"text": ""}, tokens + 80, "STOP")


def _ollama(thoughts: list[str], words: list[str], fragments: list[str]) -> Iterator[bytes]:
    """Yield lines of JSON; a call comes whole."""

    def line(message: dict[str, Any], **more: Any) -> bytes:
        chunk = {"model": _MODEL, "created_at": "2026-09-21T10:00:00.123456789Z", "message": message, "done": False}
        return json.dumps({**chunk, **more}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    for piece in thoughts:
        yield line({"role": "assistant", "content": "", "thinking": piece})
    for piece in words:
        yield line({"role": "assistant", "content": piece})
    function = {"name": _TOOL, "arguments": json.loads("".join(fragments))}
    yield line({"role": "assistant", "content": "", "tool_calls": [{"function": function}]})
    counts = {"prompt_eval_count": 21_034, "eval_count": 611, "total_duration": 4_883_583_458}
    yield line({"role": "assistant", "content": ""}, done=True, done_reason="stop", **counts)


_MAKERS: Final[Mapping[str, Callable[[list[str], list[str], list[str]], Iterator[bytes]]]] = {
    "openai_chat": _chat,
    "openai_responses": _responses,
    "anthropic_messages": _messages,
    "gemini": _gemini,
    "ollama": _ollama,
}
