"""Clients of the sandbox for tests: read its answers as a careful reader of each vendor's format would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from omniroute.providers.sandbox import Ending, Options, Script, respond

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
OLLAMA = "/api/chat"


def gemini(model: str, verb: str = "generateContent") -> str:
    """Return the path of a Gemini model."""
    return f"/v1beta/models/{model}:{verb}"


def ask(path: str, body: Mapping[str, Any], *, options: Options | None = None, **headers: str) -> Script:
    """Send a request; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return respond(path, named, json.dumps(body).encode(), options=options or Options())


def content(script: Script) -> bytes:
    """Return all bytes of a body."""
    return b"".join(frame for _, frame in script.frames)


def answer(path: str, body: Mapping[str, Any], *, options: Options | None = None, **headers: str) -> Any:
    """Return the JSON of an answer, whatever its status."""
    script = ask(path, body, options=options, **headers)
    text = content(script)
    assert dict(script.headers)["content-length"] == str(len(text))
    assert script.ending is Ending.COMPLETE
    return json.loads(text)


def events(path: str, body: Mapping[str, Any], *, options: Options | None = None) -> list[tuple[str | None, Any]]:
    """Return the events of a streamed answer as (name, data), each checked to be one well-formed frame."""
    script = ask(path, {**body, "stream": True}, options=options)
    assert script.status == 200
    assert dict(script.headers)["content-type"].startswith("text/event-stream")
    assert "content-length" not in dict(script.headers)
    read: list[tuple[str | None, Any]] = []
    for delay, frame in script.frames:
        assert delay >= 0
        for event in frame.decode().split("\n\n")[:-1]:
            *names, data = event.split("\n")
            name = names[0].removeprefix("event: ") if names else None
            assert data.startswith("data: ")
            read.append((name, data[6:] if data == "data: [DONE]" else json.loads(data[6:])))
        assert frame.endswith(b"\n\n")
    return read


def fold_chat(chunks: list[tuple[str | None, Any]]) -> dict[str, Any]:
    """Make one answer of a stream of chat chunks, as the non-streamed one would be."""
    assert chunks[-1] == (None, "[DONE]")
    whole: dict[str, Any] = {"choices": {}, "usage": None}
    for name, chunk in chunks[:-1]:
        assert name is None
        assert chunk["object"] == "chat.completion.chunk"
        for field in ("id", "model", "created", "service_tier", "system_fingerprint"):
            assert whole.setdefault(field, chunk[field]) == chunk[field]
        if chunk.get("usage"):
            assert chunk["choices"] == []
            whole["usage"] = chunk["usage"]
        for part in chunk["choices"]:
            empty = {"index": part["index"], "message": {}, "logprobs": None, "finish_reason": None}
            choice = whole["choices"].setdefault(part["index"], empty)
            assert choice["finish_reason"] is None, "nothing comes after the finish reason"
            choice["finish_reason"] = part["finish_reason"]
            _add_delta(choice["message"], part["delta"])
    whole["choices"] = [whole["choices"][index] for index in sorted(whole["choices"])]
    return whole


def _add_delta(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for field, value in delta.items():
        if field == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for fragment in value:
                if fragment["index"] == len(calls):
                    calls.append({"id": fragment["id"], "type": fragment["type"]})
                call = calls[fragment["index"]]
                _add_delta(call.setdefault(call["type"], {}), fragment[call["type"]])
        elif field == "function_call":
            _add_delta(message.setdefault(field, {}), value)
        elif isinstance(value, str) and isinstance(message.get(field), str):
            message[field] += value
        else:
            message[field] = value


def fold_messages(stream: list[tuple[str | None, Any]]) -> dict[str, Any]:
    """Make one answer of a stream of message events, as the non-streamed one would be."""
    names = [name for name, _ in stream]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    message: dict[str, Any] = dict(stream[0][1]["message"])
    blocks: list[dict[str, Any]] = []
    is_open = False
    arguments = ""
    for name, data in stream[1:]:
        assert data["type"] == name
        match name:
            case "content_block_start":
                assert not is_open
                assert data["index"] == len(blocks)
                blocks.append(dict(data["content_block"]))
                is_open, arguments = True, ""
            case "content_block_delta":
                assert is_open
                assert data["index"] == len(blocks) - 1
                delta = data["delta"]
                match delta["type"]:
                    case "text_delta":
                        blocks[-1]["text"] += delta["text"]
                    case "thinking_delta":
                        blocks[-1]["thinking"] += delta["thinking"]
                    case "signature_delta":
                        blocks[-1]["signature"] += delta["signature"]
                    case "input_json_delta":
                        arguments += delta["partial_json"]
                    case other:
                        raise AssertionError(f"unknown delta {other}")
            case "content_block_stop":
                assert is_open
                is_open = False
                if blocks[-1]["type"] == "tool_use" and arguments:
                    blocks[-1]["input"] = json.loads(arguments)
            case "message_delta":
                assert not is_open
                message.update(data["delta"])
                message["usage"] = {**message["usage"], **data["usage"]}
            case "ping" | "message_stop":
                pass
            case _:
                raise AssertionError(f"unknown event {name}")
    return {**message, "content": blocks}


def fold_responses(stream: list[tuple[str | None, Any]]) -> dict[str, Any]:
    """Check a stream of response events and return the response that it ends with."""
    assert [data["sequence_number"] for _, data in stream] == list(range(len(stream)))
    assert [name for name, _ in stream[:2]] == ["response.created", "response.in_progress"]
    output: list[dict[str, Any]] = []
    texts: dict[str, str] = {}
    for name, data in stream[2:-1]:
        assert name == data["type"]
        kind = str(name).removeprefix("response.")
        if kind == "output_item.added":
            assert data["output_index"] == len(output)
            assert len(data["item"]["id"]) <= 64
            texts = {}
        elif kind == "output_item.done":
            output.append(data["item"])
        elif kind.endswith(".delta"):
            texts[kind[:-6]] = texts.get(kind[:-6], "") + data["delta"]
        elif kind.endswith(("_text.done", "refusal.done", "arguments.done", "input.done")):
            field = next(f for f in ("text", "refusal", "arguments", "input") if f in data)
            assert data[field] == texts.get(kind[:-5], "")
    response: dict[str, Any] = stream[-1][1]["response"]
    assert stream[-1][0] == f"response.{response['status']}"
    assert response["output"] == output
    return response


def chunks(path: str, body: Mapping[str, Any], *, options: Options | None = None) -> list[Any]:
    """Return the chunks of a Gemini stream, in whichever framing the path asks for."""
    script = ask(path, body, options=options)
    assert script.status == 200
    text = content(script)
    if "alt=sse" not in path:
        assert dict(script.headers)["content-type"] == "application/json"
        read: list[Any] = json.loads(text)
        return read
    assert dict(script.headers)["content-type"].startswith("text/event-stream")
    assert text == b"" or text.endswith(b"\r\n\r\n")
    return [json.loads(event.removeprefix("data: ")) for event in text.decode().split("\r\n\r\n")[:-1]]


def fold_gemini(stream: list[Any]) -> dict[str, Any]:
    """Make one answer of Gemini chunks, as the non-streamed one would be."""
    whole: dict[str, Any] = {}
    for chunk in stream:
        for candidate in chunk["candidates"]:
            mine = whole.setdefault(candidate["index"], {"content": {"parts": []}})
            assert "finishReason" not in mine, "nothing comes after the finish reason"
            mine |= {name: value for name, value in candidate.items() if name != "content"}
            parts = mine["content"]["parts"]
            for part in candidate["content"].get("parts", []):
                last: dict[str, Any] = parts[-1] if parts else {}
                is_more = "text" in part and "text" in last and part.get("thought") == last.get("thought")
                if is_more:
                    last["text"] += part["text"]
                    last |= {name: value for name, value in part.items() if name == "thoughtSignature"}
                elif part != {"text": ""}:
                    parts.append(dict(part))
    return {"candidates": [whole[index] for index in sorted(whole)], "usageMetadata": stream[-1]["usageMetadata"]}


def lines(path: str, body: Mapping[str, Any], *, options: Options | None = None) -> list[Any]:
    """Return the lines of an Ollama stream."""
    script = ask(path, body, options=options)
    assert script.status == 200
    assert dict(script.headers)["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in content(script).splitlines()]


def fold_ollama(stream: list[Any]) -> dict[str, Any]:
    """Make one answer of Ollama lines, as the non-streamed one would be."""
    assert [line["done"] for line in stream] == [False] * (len(stream) - 1) + [True]
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for line in stream:
        for name, value in line["message"].items():
            if name != "role":
                message[name] = message[name] + value if name in message else value
    return {**stream[-1], "message": message}
