"""Relay of a Messages stream: `message_start`, blocks, `message_delta`, `message_stop`; `ping` and `error` anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import msgspec

from omniroute.errors import OmniRouteError, UpstreamProtocolError
from omniroute.formats.anthropic_messages.errors import render_in_stream
from omniroute.formats.anthropic_messages.usage import UsageFields, read_fields
from omniroute.formats.passthrough import CONTENT, PLAIN, TERMINAL, PassthroughStream, Verdict
from omniroute.formats.sse import event_data
from omniroute.formats.usage import Usage

PING = b'event: ping\ndata: {"type":"ping"}\n\n'

_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class _Block(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _MessageDelta(msgspec.Struct):
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _MessageDelta | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


_DECODER = msgspec.json.Decoder(_Event)
_TYPED = msgspec.json.Decoder(_Block)


class MessagesStream(PassthroughStream):
    """See :class:`PassthroughStream`."""

    close_look: ClassVar[tuple[bytes, ...]] = (b'"usage"', b'"message_stop"', b'"error"')
    said_in: ClassVar[tuple[bytes, ...]] = (b'"text":"', b'"thinking":"', b'"partial_json":"')
    terminal: ClassVar[bytes] = _STOP
    names_model_once: ClassVar[bool] = True

    def __init__(self, requested_model: str | None, trailer: Callable[[Usage], bytes]) -> None:
        super().__init__(requested_model, trailer)
        self._fields = UsageFields()

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the frames that end this stream with an error of ours."""
        return render_in_stream(error, request_id)

    def raw_error(self, data: bytes) -> bytes:
        """Return the frames that end the stream with an error of the provider, as it said it."""
        return b"event: error\n" + super().raw_error(data)

    def judge(self, event: bytes) -> Verdict:
        """Read one event: usage, stop reason, error, content."""
        data = event_data(event)
        if not data:
            return PLAIN  # a comment
        try:
            read = _DECODER.decode(data)
        except msgspec.ValidationError:
            if _is_error(data):
                return Verdict(error=data)
            return PLAIN  # JSON of a shape that the format does not have: the client may know more
        except msgspec.DecodeError:
            raise UpstreamProtocolError("The provider sent an event that is not valid JSON.") from None
        match read.type:
            case "error":
                return Verdict(error=data)
            case "message_start":
                if read.message is not None:
                    self._report(read.message.usage)
            case "content_block_delta":
                return CONTENT
            case "content_block_start":
                # An empty text or thinking block promises content; any other block is content by itself.
                if read.content_block is not None and read.content_block.type not in {"text", "thinking"}:
                    return CONTENT
            case "message_delta":
                if read.delta is not None and read.delta.stop_reason is not None:
                    self.is_finished = True
                self._report(read.usage)
            case "message_stop":
                return TERMINAL
            case _:
                pass  # pings, block ends and event types of the future are forwarded as they are
        return PLAIN

    def _report(self, raw: msgspec.Raw) -> None:
        self._fields = self._fields.merge(read_fields(raw))
        self.usage = self._fields.to_usage()


def _is_error(data: bytes) -> bool:
    """Say whether an event that has not the vendor's shape says at least that it is an error."""
    try:
        return _TYPED.decode(data).type == "error"
    except msgspec.ValidationError:
        return False
