"""A provider's stream, as events or as one JSON array, to events."""

from __future__ import annotations

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.events import Event, StreamError
from omniroute.formats.gemini.assembler import Assembler
from omniroute.formats.gemini.chunk import Candidate, Chunk, is_said, read_chunk
from omniroute.formats.gemini.framing import Documents
from omniroute.formats.members import BadShape, list_of


class Parser:
    """See :class:`omniroute.formats.codec.StreamParser`.

    The vendor's stream has no end marker: the answer is complete when its bytes end after a finish reason. Some models
    repeat that reason with every chunk, so it ends nothing by itself.
    """

    __slots__ = ("_assembler", "_documents")

    def __init__(self) -> None:
        self._documents = Documents()
        self._assembler = Assembler()

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete."""
        return self._take(self._documents.feed(data)) if not self._assembler.is_over else []

    def close(self) -> list[Event]:
        """Return the end of the stream."""
        if self._assembler.is_over:
            return []
        events = self._take(self._documents.close())
        is_whole = self._documents.is_closed and self._assembler.has_parts
        return events + self._assembler.close(is_whole=is_whole)

    def _take(self, documents: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for document in documents:
            for element in _elements(document):
                if self._assembler.is_over:
                    return events
                chunk = read_chunk(element)
                if is_said(chunk.error):
                    self._assembler.is_over = True
                    events.append(StreamError(msgspec.json.encode({"error": chunk.error})))
                else:
                    events += self._assembler.take(chunk, element, first_candidate(chunk))
        return events


def first_candidate(chunk: Chunk) -> Candidate | None:
    """Return the candidate with index 0; several are only asked for where nothing is streamed."""
    for candidate in chunk.candidates or ():
        if not candidate.index:
            return candidate
    return None


def _elements(document: bytes) -> list[bytes | msgspec.Raw]:
    if document[:1] != b"[":
        return [document]
    try:
        return [*list_of(msgspec.Raw(document))]
    except BadShape:
        raise UpstreamProtocolError("The provider sent a chunk that is not valid JSON.") from None
