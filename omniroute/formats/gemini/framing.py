"""Cut the bytes of an upstream stream into JSON documents, whichever of its two framings the provider chose.

Events carry one document each, spread over as many `data:` lines as the provider likes; without `alt=sse` the stream is
one JSON array that is written piece by piece. The first character that is no white space tells which. A provider that
fails in the middle of events may go on with the bare JSON of its error.
"""

from __future__ import annotations

import re
from typing import Final

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.sse import EventCutter, event_data, split_events

MAX_CHUNK_BYTES: Final = 32 << 20
"""A chunk may hold a generated picture whole, in base64."""

_BOM: Final = b"\xef\xbb\xbf"
_DONE: Final = b"[DONE]"
_ENDS_ONE_LINE: Final = (b"\n\n", b"\n\r\n")
_OUTSIDE: Final = re.compile(rb'["\[\]{}]')
_INSIDE: Final = re.compile(rb'["\\]')


class Documents:
    """Feed arrived bytes, get back the whole JSON documents among them.

    Attributes:
        is_closed: the closing bracket of an array has been seen: the provider says that this was all.
    """

    __slots__ = ("_cutter", "_events", "_head")

    def __init__(self) -> None:
        self._head = b""
        self._events: EventCutter | None = None
        self._cutter: _ElementCutter | None = None

    @property
    def is_closed(self) -> bool:
        """See the class."""
        return self._cutter is not None and self._cutter.is_closed

    def feed(self, data: bytes) -> list[bytes]:
        """Return the documents that these bytes complete.

        Raises:
            UpstreamProtocolError: one is too large.
        """
        if self._events is not None:
            batch = self._events.feed(data)
            return _documents_in(batch) if batch else []
        if self._cutter is not None:
            return self._cutter.feed(data)
        data = self._head + data
        start = data.removeprefix(_BOM).lstrip()
        if not start or _BOM.startswith(data):
            self._head = data
            return []
        self._head = b""
        if start[0] in b"[{":
            self._cutter = _ElementCutter()
            return self._cutter.feed(start)
        self._events = EventCutter(MAX_CHUNK_BYTES)
        return self.feed(data)

    def close(self) -> list[bytes]:
        """Return what the end of the bytes completes: an event that only lacks its blank line."""
        if self._events is None:
            return []
        rest = self._events.rest
        return [document for document in _documents_in(rest + b"\n\n") if _is_whole(document)] if rest else []


def _documents_in(batch: bytes) -> list[bytes]:
    end = batch.find(b"\n")
    if batch.startswith(b"data: {") and batch[end:] in _ENDS_ONE_LINE:  # one event in one line, as the vendor writes it
        document = batch[6:end].removesuffix(b"\r")
        if b"\r" not in document:
            return [document]
    documents = []
    for event in split_events(batch):
        data = event_data(event)
        if not data:
            data = event.strip()  # an error without framing
            if data[:1] not in {b"{", b"["}:
                continue
        if data != _DONE:
            documents.append(data)
    return documents


def _is_whole(document: bytes) -> bool:
    cutter = _ElementCutter()
    return bool(cutter.feed(document)) or cutter.is_closed


class _ElementCutter:
    """Finds the objects of an array, or bare objects in a row, looking at each byte once."""

    __slots__ = ("_depth", "_is_escaped", "_is_in_string", "_parts", "_size", "is_closed")

    def __init__(self) -> None:
        self.is_closed = False
        self._depth = 0
        """Open brackets, that of the array itself not counted."""
        self._is_in_string = False
        self._is_escaped = False
        self._parts: list[bytes] = []
        """What has arrived of the object that is not complete yet."""
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        found: list[bytes] = []
        start = 0
        position = 1 if self._is_escaped and data else 0
        if data:
            self._is_escaped = False
        while not self.is_closed:
            match = (_INSIDE if self._is_in_string else _OUTSIDE).search(data, position)
            if match is None:
                break
            position = match.end()
            mark = match.group()
            if mark == b'"':
                self._is_in_string = not self._is_in_string
            elif mark == b"\\":
                if position == len(data):
                    self._is_escaped = True
                    break
                position += 1
            elif mark in b"{[":
                if self._depth or mark == b"{":
                    start = start if self._depth else position - 1
                    self._depth += 1
            elif self._depth:
                self._depth -= 1
                if not self._depth:
                    found.append(b"".join((*self._parts, data[start:position])))
                    self._parts.clear()
                    self._size = 0
            else:
                self.is_closed = mark == b"]"
        if self._depth:
            self._keep(data[start:])
        return found

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > MAX_CHUNK_BYTES:
            raise UpstreamProtocolError("The provider sent a chunk that is too large.")
        self._parts.append(part)
