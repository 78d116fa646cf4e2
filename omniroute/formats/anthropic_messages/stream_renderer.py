"""Events to a Messages stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.anthropic_messages import errors
from omniroute.formats.anthropic_messages.answer_renderer import text_in_place_of
from omniroute.formats.anthropic_messages.content_renderer import render_own
from omniroute.formats.anthropic_messages.response import message_id
from omniroute.formats.anthropic_messages.stops import render_stop
from omniroute.formats.anthropic_messages.usage import render_usage
from omniroute.formats.arguments import object_for
from omniroute.formats.canonical import (
    Block,
    CallKind,
    Citation,
    Refusal,
    ServerTool,
    Text,
    Thinking,
    Token,
    ToolCall,
    Unknown,
)
from omniroute.formats.codec import Reply
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    UsageUpdate,
)
from omniroute.formats.members import EMPTY_OBJECT, BadShape, object_of
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.ANTHROPIC_MESSAGES
_encode: Final = msgspec.json.Encoder().encode
_LINE_ENDS: Final = b"\r\n"
"""Between the members of JSON as its maker spaced it; a frame is one line."""

_MESSAGE_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_FRAME: Final = b"event: %b\ndata: %b\n\n"
_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n'
)
_STOP: Final = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'

_DELTAS: Final = {
    DeltaKind.TEXT: (b"text_delta", b"text"),
    DeltaKind.REFUSAL: (b"text_delta", b"text"),
    DeltaKind.THINKING: (b"thinking_delta", b"thinking"),
    DeltaKind.ARGUMENTS: (b"input_json_delta", b"partial_json"),
}


class Renderer:
    """See :class:`omniroute.formats.codec.StreamRenderer`."""

    __slots__ = ("_custom", "_index", "_is_shown", "_open", "_reply", "_token", "_usage")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._usage: Usage = NOT_REPORTED
        self._index = 0
        """Of the open block, or of the next one: not the event's, since some blocks have no frames here."""
        self._is_shown = False
        """The open block has frames."""
        self._open: Block | None = None
        self._token: Token | None = None
        self._custom: list[str] = []

    def render(self, events: Sequence[Event]) -> bytes:
        """See :class:`omniroute.formats.codec.StreamRenderer`."""
        if len(events) == 1:
            return self._frame(events[0])
        return b"".join([self._frame(event) for event in events])

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """See :class:`omniroute.formats.codec.StreamRenderer`."""
        return errors.render_in_stream(error, request_id)

    def _frame(self, event: Event) -> bytes:
        if type(event) is BlockDelta:
            return self._delta(event)
        match event:
            case BlockStart(block=block):
                return self._start_block(block)
            case BlockStop():
                return self._stop_block()
            case UsageUpdate(usage=usage):
                self._usage = self._usage.merge(usage)
            case MessageStart():
                return self._start(event)
            case MessageStop():
                return self._end(event)
            case _:
                pass
        return b""

    def _start(self, start: MessageStart) -> bytes:
        if start.usage is not None:
            self._usage = self._usage.merge(start.usage)
        message: dict[str, Any] = {
            "id": message_id(self._reply),
            "type": "message",
            "role": "assistant",
            "model": self._reply.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": render_usage(self._usage),
        }
        return _FRAME % (b"message_start", _encode({"type": "message_start", "message": message}))

    def _end(self, stop: MessageStop) -> bytes:
        reason, sequence = render_stop(stop.stop, stop.sequence, self._reply.request)
        event = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": render_usage(self._usage),
        }
        return _FRAME % (b"message_delta", _encode(event)) + self._reply.trailer(self._usage) + _MESSAGE_STOP

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _start_block(self, block: Block) -> bytes:
        self._open, self._token, self._is_shown = block, None, True
        match block:
            case Text(text=text) | Refusal(text=text):
                return self._head({"type": "text", "text": ""}) + self._piece(DeltaKind.TEXT, text)
            case Thinking(redacted=False, text=text):
                self._token = block.token
                head = {"type": "thinking", "thinking": "", "signature": ""}
                return self._head(head) + self._piece(DeltaKind.THINKING, text)
            case ToolCall(arguments=arguments):
                self._custom = [arguments]
                called = {"type": "tool_use", "id": block.id, "name": block.name, "input": EMPTY_OBJECT}
                is_function = block.kind is CallKind.FUNCTION
                return self._head(called) + (self._piece(DeltaKind.ARGUMENTS, arguments) if is_function else b"")
            case ServerTool(origin=origin, raw=raw) | Unknown(origin=origin, raw=raw) if origin is _ORIGIN:
                return self._own(raw)
            case Thinking():
                self._is_shown = block.token is not None
                return self._head(render_own(block)) if self._is_shown else b""
            case _:
                text = text_in_place_of(block) or ""
                self._is_shown = bool(text)
                return self._head({"type": "text", "text": ""}) + self._piece(DeltaKind.TEXT, text) if text else b""

    def _head(self, block: object) -> bytes:
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        return _FRAME % (b"content_block_start", _encode(event).translate(None, _LINE_ENDS))

    def _own(self, raw: msgspec.Raw) -> bytes:
        """Show a server's call as its maker does, with its input in a fragment; other blocks stand in their start."""
        try:
            members = object_of(raw)
        except BadShape:
            return self._head(raw)
        given = members.get("input")
        if given is None or given == EMPTY_OBJECT:
            return self._head(raw)
        return self._head({**members, "input": EMPTY_OBJECT}) + self._piece(DeltaKind.ARGUMENTS, bytes(given).decode())

    def _piece(self, kind: DeltaKind, text: str) -> bytes:
        return _DELTA % (self._index, *_DELTAS[kind], _encode(text)) if text else b""

    def _delta(self, delta: BlockDelta) -> bytes:
        value = delta.value
        if type(value) is str:
            if delta.kind is DeltaKind.ARGUMENTS and self._is_custom():
                self._custom.append(value)  # free text is an object only when it is complete
                return b""
            kind, member = _DELTAS[delta.kind]
            return _DELTA % (self._index, kind, member, _encode(value))
        if isinstance(value, Token):
            self._token = value
        elif isinstance(value, Citation) and value.origin is _ORIGIN:
            return _DELTA % (self._index, b"citations_delta", b"citation", bytes(value.raw).translate(None, _LINE_ENDS))
        return b""

    def _is_custom(self) -> bool:
        return isinstance(self._open, ToolCall) and self._open.kind is CallKind.CUSTOM

    def _stop_block(self) -> bytes:
        if not self._is_shown:
            return b""
        last = b""
        block = self._open
        if isinstance(block, Thinking) and not block.redacted and self._token is not None:
            # Clients keep what stands last before the end of the block.
            last = _DELTA % (self._index, b"signature_delta", b"signature", _encode(self._token.value))
        elif self._is_custom() and isinstance(block, ToolCall):
            whole = object_for(msgspec.structs.replace(block, arguments="".join(self._custom)))
            last = self._piece(DeltaKind.ARGUMENTS, bytes(whole).decode())
        stop = _STOP % self._index
        self._index += 1
        return last + stop
