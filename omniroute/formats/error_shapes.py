"""Whether an error body is one that a client of a format knows: only then may it be passed on as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from omniroute.formats.wire import WireFormat


class _Told(msgspec.Struct):
    message: str


class _OpenAI(msgspec.Struct):
    error: _Told


class _ResponsesEvent(msgspec.Struct):
    type: Literal["error", "response.failed"]


class _TypedAndTold(msgspec.Struct):
    type: str
    message: str


class _Messages(msgspec.Struct):
    type: Literal["error"]
    error: _TypedAndTold


class _Status(msgspec.Struct):
    code: int
    message: str
    status: str


class _Gemini(msgspec.Struct):
    error: _Status


class _Ollama(msgspec.Struct):
    error: str


_BODIES: Final[Mapping[WireFormat, msgspec.json.Decoder[Any]]] = {
    WireFormat.OPENAI_CHAT: msgspec.json.Decoder(_OpenAI),
    WireFormat.OPENAI_RESPONSES: msgspec.json.Decoder(_OpenAI),
    WireFormat.ANTHROPIC_MESSAGES: msgspec.json.Decoder(_Messages),
    WireFormat.GEMINI: msgspec.json.Decoder(_Gemini),
    WireFormat.OLLAMA: msgspec.json.Decoder(_Ollama),
}
_EVENTS: Final = {**_BODIES, WireFormat.OPENAI_RESPONSES: msgspec.json.Decoder(_ResponsesEvent)}


def is_error_body(wire_format: WireFormat, body: bytes) -> bool:
    """Say whether a body has the shape that the vendor of a format gives its errors."""
    return _fits(_BODIES, wire_format, body)


def is_error_event(wire_format: WireFormat, data: bytes) -> bool:
    """Say whether the data of an event has the shape of an error inside the vendor's streams."""
    return _fits(_EVENTS, wire_format, data)


def _fits(decoders: Mapping[WireFormat, msgspec.json.Decoder[Any]], wire_format: WireFormat, data: bytes) -> bool:
    decoder = decoders.get(wire_format)
    if decoder is None:
        return False
    try:
        data.decode()
        decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
