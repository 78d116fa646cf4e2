"""What the gateway does differently per client format when both sides speak it: one small table of functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from omniroute.errors import InvalidRequest, OmniRouteError
from omniroute.formats.anthropic_messages import errors as messages_errors
from omniroute.formats.anthropic_messages import response as messages_response
from omniroute.formats.anthropic_messages.stream import PING, MessagesStream
from omniroute.formats.openai_chat import errors as chat_errors
from omniroute.formats.openai_chat import response as chat_response
from omniroute.formats.openai_chat.stream import DONE, ChatStream
from omniroute.formats.passthrough import PassthroughStream
from omniroute.formats.splice import TopLevel
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat

Trailer = Callable[[Usage], bytes]
Edits = dict[str, bytes | None]

_COMMENT_PING: Final = b": ping\n\n"
_INCLUDE_USAGE: Final = b'{"include_usage":true}'


@dataclass(frozen=True, slots=True)
class Dialect:
    """One client format.

    Attributes:
        heartbeat: what silence is filled with; b"" sends nothing.
        quiet_heartbeat: the same for clients that take no SSE comments.
        terminal: what ends a stream whose provider left its terminal marker out after a finish reason.
    """

    format: WireFormat
    acted_on: frozenset[str]
    heartbeat: bytes
    quiet_heartbeat: bytes
    terminal: bytes
    new_stream: Callable[[TopLevel, str | None, Trailer], PassthroughStream]
    stream_edits: Callable[[TopLevel], Edits]
    read_answer: Callable[[bytes], tuple[Usage, bytes] | None]
    status_of: Callable[[OmniRouteError], int]
    render_error: Callable[[OmniRouteError, str], bytes]
    render_in_stream: Callable[[OmniRouteError, str], bytes]
    raw_in_stream: Callable[[bytes], bytes]


def _stream_options(top: TopLevel) -> dict[str, Any]:
    options = top.value("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("stream_options must be an object.", param="stream_options")
    return options or {}


def _wants_usage(top: TopLevel) -> bool:
    return bool(_stream_options(top).get("include_usage"))


def _chat_stream(top: TopLevel, requested: str | None, trailer: Trailer) -> PassthroughStream:
    asked = top.value("n")
    choices = asked if isinstance(asked, int) else 1
    return ChatStream(requested, trailer, wants_usage=_wants_usage(top), choices=choices)


def _chat_edits(top: TopLevel) -> Edits:
    """Ask for usage: without it a stream could not be accounted. The extra chunk is withheld from the client."""
    options = _stream_options(top)
    if options.get("include_usage"):
        return {}
    if not options:
        return {"stream_options": _INCLUDE_USAGE}
    return {"stream_options": msgspec.json.encode({**options, "include_usage": True})}


def _messages_stream(top: TopLevel, requested: str | None, trailer: Trailer) -> PassthroughStream:
    del top
    return MessagesStream(requested, trailer)


def _no_edits(top: TopLevel) -> Edits:
    del top
    return {}


def _render_chat_error(error: OmniRouteError, request_id: str) -> bytes:
    del request_id  # this dialect carries it in a header only
    return chat_errors.render(error)


def _render_chat_error_in_stream(error: OmniRouteError, request_id: str) -> bytes:
    del request_id
    return chat_errors.render_in_stream(error)


DIALECTS: Final = {
    WireFormat.OPENAI_CHAT: Dialect(
        format=WireFormat.OPENAI_CHAT,
        acted_on=frozenset({"model", "stream", "stream_options", "messages", "max_tokens", "tools"}),
        heartbeat=_COMMENT_PING,
        quiet_heartbeat=b"",
        terminal=DONE,
        new_stream=_chat_stream,
        stream_edits=_chat_edits,
        read_answer=chat_response.read_answer,
        status_of=chat_errors.status_of,
        render_error=_render_chat_error,
        render_in_stream=_render_chat_error_in_stream,
        raw_in_stream=lambda data: b"data: " + data + b"\n\n" + DONE,
    ),
    WireFormat.ANTHROPIC_MESSAGES: Dialect(
        format=WireFormat.ANTHROPIC_MESSAGES,
        acted_on=frozenset({"model", "stream", "messages", "system", "max_tokens", "tools"}),
        heartbeat=PING,
        quiet_heartbeat=PING,
        terminal=b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        new_stream=_messages_stream,
        stream_edits=_no_edits,
        read_answer=messages_response.read_answer,
        status_of=messages_errors.status_of,
        render_error=messages_errors.render,
        render_in_stream=messages_errors.render_in_stream,
        raw_in_stream=lambda data: b"event: error\ndata: " + data + b"\n\n",
    ),
}
