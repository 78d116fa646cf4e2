"""Say which format a body is written in, by what stands in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.codec import no_pause
from omniroute.formats.translate import UPSTREAMS
from omniroute.formats.wire import WireFormat
from omniroute.services.translator import FORMATS, NAMES, dialect_of

_CHAT, _RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
_MESSAGES, _GEMINI, _OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA
_REQUEST, _RESPONSE = "request", "response"

Body = Mapping[str, Any]


class DetectionDocument(TypedDict):
    """The format that a body is written in; null where nothing tells. `confidence` is from 0 to 1."""

    format: WireFormat | None
    direction: str | None
    confidence: float
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class _Sign:
    """Something in a body that speaks for a format; `weight` says how surely."""

    format: WireFormat
    direction: str
    weight: int
    reason: str
    holds: Callable[[Body], bool]


def _has(*names: str) -> Callable[[Body], bool]:
    return lambda body: any(name in body for name in names)


def _is(name: str, *values: str) -> Callable[[Body], bool]:
    return lambda body: body.get(name) in values


def _starts(name: str, start: str) -> Callable[[Body], bool]:
    return lambda body: isinstance(body.get(name), str) and str(body[name]).startswith(start)


def _parts(body: Body) -> Iterator[Body]:
    """Give the parts of the contents of all messages."""
    for message in _objects(body.get("messages")):
        yield from _objects(message.get("content"))


def _objects(found: Any) -> Iterator[Body]:
    return (one for one in found if isinstance(one, dict)) if isinstance(found, list) else iter(())


def _roles(*roles: str) -> Callable[[Body], bool]:
    return lambda body: any(message.get("role") in roles for message in _objects(body.get("messages")))


def _part_types(*types: str) -> Callable[[Body], bool]:
    return lambda body: any(part.get("type") in types for part in _parts(body))


def _tools(member: str, *, is_flat: bool = False) -> Callable[[Body], bool]:
    def holds(body: Body) -> bool:
        tools = list(_objects(body.get("tools")))
        if is_flat:
            return any(tool.get("type") == "function" and member in tool for tool in tools)
        return any(member in tool for tool in tools)

    return holds


def _items(body: Body) -> bool:
    return any("type" in item or "role" in item for item in _objects(body.get("input")))


_SIGNS: Final[Sequence[_Sign]] = (
    _Sign(_GEMINI, _REQUEST, 8, "'contents' holds the conversation", _has("contents")),
    _Sign(_GEMINI, _REQUEST, 4, "'generationConfig' holds the settings", _has("generationConfig", "generation_config")),
    _Sign(_GEMINI, _REQUEST, 4, "'systemInstruction' holds the system text", _has("systemInstruction")),
    _Sign(_GEMINI, _REQUEST, 3, "tools stand in 'functionDeclarations'", _tools("functionDeclarations")),
    _Sign(_GEMINI, _RESPONSE, 8, "'candidates' holds the answers", _has("candidates")),
    _Sign(_GEMINI, _RESPONSE, 4, "'usageMetadata' counts the tokens", _has("usageMetadata", "modelVersion")),
    _Sign(
        _RESPONSES, _REQUEST, 7, "'input' holds the conversation", lambda body: "input" in body and "output" not in body
    ),
    _Sign(_RESPONSES, _REQUEST, 3, "'instructions' holds the system text", _has("instructions")),
    _Sign(_RESPONSES, _REQUEST, 3, "'input' is a list of items", _items),
    _Sign(_RESPONSES, _REQUEST, 3, "'max_output_tokens' limits the answer", _has("max_output_tokens")),
    _Sign(_RESPONSES, _REQUEST, 3, "it goes on from 'previous_response_id'", _has("previous_response_id")),
    _Sign(_RESPONSES, _REQUEST, 2, "functions stand in the tools themselves", _tools("name", is_flat=True)),
    _Sign(_RESPONSES, _RESPONSE, 9, "'object' says that it is a response", _is("object", "response")),
    _Sign(_RESPONSES, _RESPONSE, 3, "'output' holds the items", _has("output")),
    _Sign(_MESSAGES, _REQUEST, 2, "'messages' holds the conversation", _has("messages")),
    _Sign(_MESSAGES, _REQUEST, 4, "'system' stands beside the messages", _has("system")),
    _Sign(_MESSAGES, _REQUEST, 4, "tools have an 'input_schema'", _tools("input_schema")),
    _Sign(
        _MESSAGES,
        _REQUEST,
        4,
        "'thinking' or 'stop_sequences' as Messages has them",
        _has("thinking", "stop_sequences"),
    ),
    _Sign(
        _MESSAGES,
        _REQUEST,
        4,
        "contents have parts that only Messages has",
        lambda body: (
            _part_types("tool_use", "tool_result", "thinking", "document")(body)
            or any("source" in part for part in _parts(body))
        ),
    ),
    _Sign(
        _MESSAGES,
        _REQUEST,
        2,
        "'max_tokens' is given and no message is of the system",
        lambda body: "max_tokens" in body and "messages" in body and not _roles("system", "developer", "tool")(body),
    ),
    _Sign(_MESSAGES, _RESPONSE, 9, "'type' says that it is a message", _is("type", "message")),
    _Sign(_MESSAGES, _RESPONSE, 3, "'stop_reason' says how it ended", _has("stop_reason")),
    _Sign(_OLLAMA, _REQUEST, 2, "'messages' holds the conversation", _has("messages")),
    _Sign(_OLLAMA, _REQUEST, 6, "'options' or 'keep_alive' hold the settings", _has("options", "keep_alive")),
    _Sign(_OLLAMA, _REQUEST, 4, "'think' or 'format' as Ollama has them", _has("think", "format")),
    _Sign(
        _OLLAMA,
        _REQUEST,
        4,
        "pictures stand in 'images' of a message",
        lambda body: any("images" in message for message in _objects(body.get("messages"))),
    ),
    _Sign(_OLLAMA, _RESPONSE, 5, "'done' says whether it is complete", _has("done")),
    _Sign(_OLLAMA, _RESPONSE, 4, "'message' holds the answer", lambda body: isinstance(body.get("message"), dict)),
    _Sign(_OLLAMA, _RESPONSE, 3, "'eval_count' counts the tokens", _has("eval_count", "prompt_eval_count")),
    _Sign(_CHAT, _REQUEST, 3, "'messages' holds the conversation", _has("messages")),
    _Sign(
        _CHAT, _REQUEST, 4, "a message is of the system, the developer or a tool", _roles("system", "developer", "tool")
    ),
    _Sign(_CHAT, _REQUEST, 4, "tools have a 'function'", _tools("function")),
    _Sign(
        _CHAT, _REQUEST, 4, "contents have parts that only Chat has", _part_types("image_url", "input_audio", "file")
    ),
    _Sign(
        _CHAT,
        _REQUEST,
        4,
        "it has settings that only Chat has",
        _has("max_completion_tokens", "response_format", "stream_options", "reasoning_effort", "logit_bias"),
    ),
    _Sign(_CHAT, _RESPONSE, 6, "'choices' holds the answers", _has("choices")),
    _Sign(_CHAT, _RESPONSE, 5, "'object' says that it is a chat completion", _starts("object", "chat.completion")),
)
_SURE: Final = 8
"""Weight of signs from which on nothing but other formats' signs makes it less sure."""
_PARSED: Final = 2
"""Weight of being readable as a format that has signs already."""


def detect(body: Body) -> DetectionDocument:
    """Say which format a body is written in, and what speaks for it."""
    weights: dict[tuple[WireFormat, str], int] = {}
    reasons: dict[tuple[WireFormat, str], list[str]] = {}
    for sign in _SIGNS:
        if sign.holds(body):
            key = (sign.format, sign.direction)
            weights[key] = weights.get(key, 0) + sign.weight
            reasons.setdefault(key, []).append(sign.reason)
    encoded = msgspec.json.encode(body)
    for key in list(weights):
        if _is_readable(encoded, *key):
            weights[key] += _PARSED
            reasons[key].append(f"it can be read as {_a(*key)}")
        else:
            weights[key] = max(1, weights[key] // 3)
            reasons[key].append(f"but it cannot be read whole as {_a(*key)}")
    if not weights:
        return {
            "format": None,
            "direction": None,
            "confidence": 0.0,
            "reasons": ["None of the members are those of a format that is known here."],
        }
    found = max(weights, key=lambda key: (weights[key], -FORMATS.index(key[0])))
    others = max((weight for key, weight in weights.items() if key[0] is not found[0]), default=0)
    share = weights[found] / (weights[found] + others)
    confidence = round(share * min(1.0, weights[found] / _SURE), 2)
    return {"format": found[0], "direction": found[1], "confidence": confidence, "reasons": reasons[found]}


def _a(wire_format: WireFormat, direction: str) -> str:
    return f"{'a request' if direction == _REQUEST else 'an answer'} of {NAMES[wire_format]}"


def _is_readable(encoded: bytes, wire_format: WireFormat, direction: str) -> bool:
    try:
        if direction == _REQUEST:
            dialect_of(wire_format).parse_request(encoded, no_pause)
            return True
        return UPSTREAMS[wire_format].parse_answer(encoded) is not None
    except OmniRouteError:
        return False
