"""A stream without `alt=sse`: one JSON array, written piece by piece.

The chunks are those of the other framing. White space between elements keeps a silent connection alive, and an error is
the last element, so that the array is valid JSON whatever happens.
"""

from __future__ import annotations

from typing import Final, Protocol

from omniroute.errors import OmniRouteError
from omniroute.formats.gemini.errors import render_in_stream
from omniroute.formats.sse import event_data, split_events
from omniroute.formats.usage import Usage

HEARTBEAT: Final = b"\n"
CONTENT_TYPE: Final = "application/json; charset=utf-8"


class Framed(Protocol):
    """A stream of whole events for the client, as :class:`ArrayStream` takes it."""

    @property
    def has_content(self) -> bool:
        """Content has been seen."""
        ...

    @property
    def is_complete(self) -> bool:
        """Nothing may follow."""
        ...

    @property
    def error(self) -> bytes | None:
        """The provider's error."""
        ...

    @property
    def is_verbatim(self) -> bool:
        """The provider's error is in the client's own dialect."""
        ...

    @property
    def usage(self) -> Usage:
        """What has been reported so far."""
        ...

    @property
    def spoken(self) -> int:
        """How much has been generated so far."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the provider, return whole events."""
        ...

    def end(self) -> bytes:
        """Return the last events."""
        ...

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the events that end the stream with an error."""
        ...

    def raw_error(self, data: bytes) -> bytes:
        """Return the events that end the stream with an error of the provider."""
        ...


class ArrayFraming:
    """Turns whole events into pieces of one array."""

    __slots__ = ("_is_closed", "_is_open")

    def __init__(self) -> None:
        self._is_open = False
        self._is_closed = False

    def write(self, events: bytes) -> bytes:
        """Return the next piece. Events without data become a newline: they only keep the connection alive."""
        if self._is_closed or not events:
            return b""
        pieces: list[bytes] = []
        for event in split_events(events):
            data = event_data(event)
            if data:
                pieces += (b",\n" if self._is_open else b"[", data)
                self._is_open = True
        return b"".join(pieces) or HEARTBEAT

    def close(self) -> bytes:
        """Return the end of the array, once."""
        if self._is_closed:
            return b""
        self._is_closed = True
        return b"]" if self._is_open else b"[]"


def render_in_array(error: OmniRouteError, request_id: str) -> bytes:
    """Render an error where nothing of the array has been written yet."""
    framing = ArrayFraming()
    return framing.write(render_in_stream(error, request_id)) + framing.close()


class ArrayStream:
    """A relayed stream, passed through or translated, in the framing of an array."""

    __slots__ = ("_framing", "_stream")

    def __init__(self, stream: Framed) -> None:
        self._stream = stream
        self._framing = ArrayFraming()

    @property
    def has_content(self) -> bool:
        """See the stream."""
        return self._stream.has_content

    @property
    def is_complete(self) -> bool:
        """See the stream."""
        return self._stream.is_complete

    @property
    def error(self) -> bytes | None:
        """See the stream."""
        return self._stream.error

    @property
    def is_verbatim(self) -> bool:
        """See the stream."""
        return self._stream.is_verbatim

    @property
    def usage(self) -> Usage:
        """See the stream."""
        return self._stream.usage

    @property
    def spoken(self) -> int:
        """See the stream."""
        return self._stream.spoken

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the provider, return pieces of the array; with the end of the stream its bracket."""
        return self._closed(self._framing.write(self._stream.feed(data)))

    def end(self) -> bytes:
        """The provider's bytes have ended: return the rest of the array."""
        return self._closed(self._framing.write(self._stream.end()))

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the error as last element, and the end of the array."""
        return self._framing.write(self._stream.fail(error, request_id)) + self._framing.close()

    def raw_error(self, data: bytes) -> bytes:
        """Return the provider's error as last element, and the end of the array."""
        return self._framing.write(self._stream.raw_error(data)) + self._framing.close()

    def _closed(self, piece: bytes) -> bytes:
        return piece + self._framing.close() if self._stream.is_complete else piece
