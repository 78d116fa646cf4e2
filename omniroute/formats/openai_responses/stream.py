"""Relay of a Responses stream: named events from `response.created` to one that holds the whole response.

The name of the model stands inside the response object that begins and ends the stream, beside an echo of the request:
it is replaced by its place there, not by its looks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Final

import msgspec

from omniroute.errors import OmniRouteError, UpstreamProtocolError
from omniroute.formats.openai_responses.errors import (
    envelope_of,
    error_object,
    raw_in_stream,
    render_failed,
    render_in_stream,
)
from omniroute.formats.openai_responses.usage import read_usage
from omniroute.formats.passthrough import CONTENT, PLAIN, TERMINAL, WITHHELD, PassthroughStream, Verdict
from omniroute.formats.splice import scan, splice
from omniroute.formats.sse import event_data
from omniroute.formats.usage import NOT_REPORTED, Usage

_NULL: Final = msgspec.Raw(b"null")
_SEQUENCE: Final = b'"sequence_number"'
_SEQUENCE_NUMBER: Final = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')
_NO_RESPONSE: Final = b'{"object":"response","output":[]}'


class _Response(msgspec.Struct):
    id: str | None = None
    usage: msgspec.Raw = _NULL
    tool_usage: msgspec.Raw = _NULL


class _Item(msgspec.Struct):
    type: str | None = None


class _Event(msgspec.Struct):
    type: str | None = None
    response: msgspec.Raw = _NULL
    item: msgspec.Raw = _NULL


_DECODER: Final = msgspec.json.Decoder(_Event)
_RESPONSE: Final = msgspec.json.Decoder(_Response | None)
_ITEM: Final = msgspec.json.Decoder(_Item | None)


class ResponsesStream(PassthroughStream):
    """See :class:`PassthroughStream`.

    Attributes:
        response_id: the provider's id of the response; None until it has been seen.
    """

    close_look: ClassVar[tuple[bytes, ...]] = (
        b'"response":',
        b'"response.completed"',
        b'"response.incomplete"',
        b'"error"',
    )
    said_in: ClassVar[tuple[bytes, ...]] = (b'"delta":"',)
    names_model_once: ClassVar[bool] = False
    trailer_is_last: ClassVar[bool] = True

    def __init__(self, requested_model: str | None, trailer: Callable[[Usage], bytes]) -> None:
        super().__init__(requested_model, trailer)
        self.response_id: str | None = None
        self._model = None if requested_model is None else msgspec.json.encode(requested_model)
        self._response = b""
        self._last = b""

    def feed(self, data: bytes) -> bytes:
        """See :meth:`PassthroughStream.feed`."""
        out = super().feed(data)
        if _SEQUENCE in out:
            self._last = out  # read only if the stream has to be ended by us
        return out

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the event that ends this stream with an error of ours, numbered as the next one."""
        if not self.has_content:  # what has come so far was held back
            return render_in_stream(error)
        numbers = _SEQUENCE_NUMBER.findall(self._last)
        return render_failed(self._failed(error), int(numbers[-1]) + 1 if numbers else 0)

    def raw_error(self, data: bytes) -> bytes:
        """Return the event that ends the stream with an error of the provider, as it said it."""
        return self._rename(raw_in_stream(data))

    def _failed(self, error: OmniRouteError) -> bytes:
        response = self._response or _NO_RESPONSE
        changes = {"status": b'"failed"', "error": error_object(error)}
        return splice(scan(self._named(response)), changes)

    def judge(self, event: bytes) -> Verdict:
        """Read one event: response id, usage, end, error, content."""
        data = event_data(event)
        if not data:
            return PLAIN  # a comment
        if data == b"[DONE]":
            return WITHHELD  # some hosts end every stream with it; clients of this format do not know it
        try:
            read = _DECODER.decode(data)
        except msgspec.ValidationError:
            return PLAIN  # JSON of a shape that the format does not have: the client may know more
        except msgspec.DecodeError:
            raise UpstreamProtocolError("The provider sent an event that is not valid JSON.") from None
        kind = read.type or ""
        match kind:
            case "error" | "response.failed":
                # Until content has gone out it becomes an error of its own; later it goes on as it came.
                self._report(read.response)
                return Verdict(error=data if self.has_content else envelope_of(data))
            case "response.completed" | "response.incomplete" | "response.done":
                self._report(read.response)
                self.is_finished = True
                return TERMINAL
            case "response.output_item.done":
                return CONTENT
            case "response.output_item.added":
                # An empty message or reasoning item promises content; any other item is content by itself.
                return PLAIN if _type_of(read.item) in {"message", "reasoning", ""} else CONTENT
            case _ if kind.endswith(".delta"):
                return CONTENT
            case _:
                if read.response != _NULL:
                    self._report(read.response)
                    self._response = bytes(read.response)
        return PLAIN

    def _report(self, raw: msgspec.Raw) -> None:
        try:
            response = _RESPONSE.decode(raw)
        except msgspec.ValidationError:
            return
        if response is None:
            return
        self.response_id = response.id or self.response_id
        usage = read_usage(response.usage, response.tool_usage)
        if usage is not NOT_REPORTED:
            self.usage = self.usage.merge(usage)

    def _rename(self, events: bytes) -> bytes:
        """Put back the model name that the client used, in an event that carries the response object."""
        if self._model is None or b'"response"' not in events:
            return events
        data = event_data(events)
        try:
            top = scan(data)
        except OmniRouteError:
            return events  # nested too deeply for us; the client may manage
        span = top.spans.get("response")
        if span is None or data[span[0] : span[0] + 1] != b"{":
            return events
        renamed = splice(top, {"response": self._named(data[span[0] : span[1]])})
        start = events.find(data)
        if start >= 0:
            return events[:start] + renamed + events[start + len(data) :]
        kind = top.value("type")
        return b"event: %b\ndata: %b\n\n" % (str(kind).encode(), renamed.replace(b"\n", b" "))

    def _named(self, response: bytes) -> bytes:
        if self._model is None:
            return response
        top = scan(response)
        return splice(top, {"model": self._model}) if "model" in top else response


def _type_of(item: msgspec.Raw) -> str:
    try:
        read = _ITEM.decode(item)
    except msgspec.ValidationError:
        return ""
    return "" if read is None else read.type or ""
