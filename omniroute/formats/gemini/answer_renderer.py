"""Blocks of an answer to parts for a Gemini client."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from omniroute.formats.arguments import object_for
from omniroute.formats.canonical import (
    Answer,
    Block,
    CallKind,
    Media,
    Reasoning,
    Refusal,
    ServerTool,
    SourceKind,
    Text,
    Thinking,
    Token,
    ToolCall,
    Unknown,
    arguments_object,
)
from omniroute.formats.codec import Reply
from omniroute.formats.gemini.citations import grounding_for
from omniroute.formats.gemini.media import mime_for
from omniroute.formats.gemini.stops import TORN_CALL, word_for
from omniroute.formats.surrogates import mend
from omniroute.formats.wire import WireFormat

Part = dict[str, Any] | msgspec.Raw

NOTHING: Final[list[Part]] = [{"text": ""}]
"""The parts of a candidate that says nothing: programs index the first one."""

_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]+|[A-Za-z0-9_-]+)={0,2}")
_MOST_SHOWN: Final = 500


def shows_thoughts(reply: Reply) -> bool:
    """Say whether the client asked to see thoughts; one that did not would take them for the answer."""
    reasoning: Reasoning | None = reply.request.reasoning
    return reasoning is not None and bool(reasoning.is_visible)


def render_candidate(answer: Answer, index: int, reply: Reply) -> dict[str, Any]:
    """Return one candidate of a whole answer."""
    parts: list[Part] = []
    torn: ToolCall | None = None
    shows = shows_thoughts(reply)
    for block in answer.blocks:
        if isinstance(block, Thinking) and not shows:
            continue
        part = part_for(block)
        if part is not None:
            parts.append(part)
        elif isinstance(block, ToolCall):
            torn = block
    candidate: dict[str, Any] = {
        "content": {"role": "model", "parts": parts or NOTHING},
        **ending(answer.stop, torn),
        "index": index,
    }
    grounding = grounding_for([block for block in answer.blocks if isinstance(block, Text)])
    if grounding is not None:
        candidate["groundingMetadata"] = grounding
    return candidate


def ending(stop: Any, torn: ToolCall | None) -> dict[str, str]:
    """Return the members that say why an answer ended."""
    word = word_for(stop, has_torn_call=torn is not None)
    if torn is None or word != TORN_CALL:
        return {"finishReason": word}
    message = f"Malformed function call: {torn.name}({torn.arguments[:_MOST_SHOWN]})"
    return {"finishReason": word, "finishMessage": message}


def part_for(block: Block) -> Part | None:
    """Return the part that a whole block is; None if there is nothing to say, or if its call is torn."""
    match block:
        case Text(text=text) | Refusal(text=text):
            return {"text": text} if text else None
        case Thinking(text=text, token=token, redacted=redacted):
            # Reasoning that was never shown has no text member, one that is merely empty has.
            part: dict[str, Any] = {} if redacted else {"text": text}
            part["thought"] = True
            add_signature(part, token)
            return part if text or "thoughtSignature" in part else None
        case ToolCall(id=call_id, name=name, token=token):
            spelt = object_of_call(block)
            return None if spelt is None else call_part(call_id, name, spelt, token)
        case Media():
            return _media_part(block)
        case ServerTool(origin=WireFormat.GEMINI, raw=raw) | Unknown(origin=WireFormat.GEMINI, raw=raw):
            return raw
        case ServerTool(note=note):
            return {"text": note} if note else None
        case _:
            return None


def object_of_call(call: ToolCall) -> msgspec.Raw | None:
    """Return the arguments of a call as an object; None if they are none, so that the call is torn."""
    if call.kind is CallKind.CUSTOM:
        return object_for(call)
    arguments = call.arguments
    whole = arguments_object(arguments)
    if whole is None and "\\u" in arguments:  # half a pair of units is no reason to lose a call
        whole = arguments_object(mend(arguments.encode()).decode())
    return whole


def call_part(call_id: str, name: str, arguments: msgspec.Raw, token: Token | None) -> dict[str, Any]:
    """Return the part of a call."""
    call: dict[str, Any] = {"id": call_id} if call_id else {}
    call["name"] = name
    call["args"] = arguments
    part: dict[str, Any] = {"functionCall": call}
    add_signature(part, token)
    return part


def add_signature(part: dict[str, Any], token: Token | None) -> None:
    """Add a token; the official client decodes it as base64, so nothing else may stand there."""
    if token is None:
        return
    value = token.value
    if _BASE64.fullmatch(value) and len(value.rstrip("=")) % 4 != 1:
        part["thoughtSignature"] = value


def _media_part(media: Media) -> dict[str, Any] | None:
    match media.source:
        case SourceKind.INLINE:
            blob = {"mimeType": mime_for(media.kind, media.mime, media.data), "data": media.data}
            return {"inlineData": blob}
        case SourceKind.TEXT:
            return {"text": media.data}
        case _:
            file = {"fileUri": media.data}
            if media.mime:
                file["mimeType"] = media.mime
            return {"fileData": file}
