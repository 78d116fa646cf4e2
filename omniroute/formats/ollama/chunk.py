"""One line of an Ollama stream; a whole answer is a single one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import Media, MediaKind, SourceKind, Stop, ToolCall
from omniroute.formats.members import NULL, BadShape, is_text, object_of, text_of
from omniroute.formats.surrogates import mend


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: msgspec.Raw = NULL


class Call(msgspec.Struct):
    """A call, which always comes whole."""

    function: _Function | None = None
    id: str | None = None


class Message(msgspec.Struct):
    """What a line adds to the answer."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None
    images: list[str] | None = None


class Chunk(msgspec.Struct):
    """A line of `/api/chat`."""

    model: str | None = None
    created_at: str | None = None
    message: Message | None = None
    logprobs: msgspec.Raw = NULL
    done: bool | None = None
    done_reason: str | None = None
    error: msgspec.Raw = NULL


_CHUNK: Final = msgspec.json.Decoder(Chunk)
_STOPS: Final = {"stop": Stop.END, "length": Stop.LENGTH}


def read_chunk(data: bytes) -> Chunk:
    """Return a line.

    Raises:
        UpstreamProtocolError: it is none of the format.
    """
    try:
        return _CHUNK.decode(data)
    except msgspec.ValidationError:
        raise UpstreamProtocolError("The provider sent a line of a shape that the format does not have.") from None
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return _CHUNK.decode(mend(data))
    except (msgspec.DecodeError, RecursionError):
        raise UpstreamProtocolError("The provider sent a line that is not valid JSON.") from None


def stop_of(chunk: Chunk) -> Stop:
    """Return why the answer ended; words for loading and unloading a model are plain ends."""
    return _STOPS.get(chunk.done_reason or "", Stop.END)


def created_of(chunk: Chunk) -> int | None:
    """Return the time of a line in epoch seconds."""
    try:
        created = datetime.fromisoformat(chunk.created_at or "")
        return int((created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def call_of(call: Call) -> ToolCall | None:
    """Return a call; its id is empty where the provider is too old to give one."""
    if call.function is None or not call.function.name:
        return None
    return ToolCall(call.id or "", call.function.name, _arguments(call.function.arguments))


def _arguments(raw: msgspec.Raw) -> str:
    if raw == NULL:
        return "{}"
    try:
        if is_text(raw):
            return text_of(raw) or "{}"
        object_of(raw)
    except BadShape:
        pass
    return bytes(raw).decode()


def image_of(data: str) -> Media:
    """Return an image that the model made."""
    return Media(MediaKind.IMAGE, SourceKind.INLINE, data)
