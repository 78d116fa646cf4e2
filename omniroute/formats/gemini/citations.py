"""Where a text comes from: `groundingMetadata` of searches, `citationMetadata` of recitations.

The vendor counts offsets in bytes of the text, the canonical form in characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from omniroute.formats.canonical import Citation, Text
from omniroute.formats.gemini.chunk import is_said, one_line
from omniroute.formats.wire import WireFormat


class _Source(msgspec.Struct):
    uri: str | None = None
    title: str | None = None


class _Grounds(msgspec.Struct, rename="camel"):
    web: _Source | None = None
    retrieved_context: _Source | None = None
    maps: _Source | None = None

    @property
    def source(self) -> _Source | None:
        return self.web or self.retrieved_context or self.maps


class _Segment(msgspec.Struct, rename="camel"):
    start_index: int = 0
    end_index: int | None = None


class _Support(msgspec.Struct, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class _Grounding(msgspec.Struct, rename="camel"):
    grounding_chunks: list[msgspec.Raw] | None = None
    grounding_supports: list[_Support] | None = None


class _Recited(msgspec.Struct, rename="camel"):
    start_index: int = 0
    end_index: int | None = None
    uri: str | None = None
    title: str | None = None


class _Recitation(msgspec.Struct, rename="camel"):
    citation_sources: list[msgspec.Raw] | None = None
    citations: list[msgspec.Raw] | None = None


_GROUNDS: Final = msgspec.json.Decoder(_Grounds)
_GROUNDING: Final = msgspec.json.Decoder(_Grounding)
_RECITED: Final = msgspec.json.Decoder(_Recited)
_RECITATION: Final = msgspec.json.Decoder(_Recitation)


class CitationReader:
    """Reads the metadata of one candidate; what a later chunk repeats is given once."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        self._given: set[tuple[bytes, int | None, int | None]] = set()

    def read(self, grounding: msgspec.Raw, recitation: msgspec.Raw, text: str) -> list[Citation]:
        """Return the citations of `text` that are new."""
        found: list[Citation] = []
        try:
            if is_said(grounding):
                found += _from_grounding(_GROUNDING.decode(grounding), text)
            if is_said(recitation):
                found += _from_recitation(_RECITATION.decode(recitation), text)
        except msgspec.ValidationError:
            pass  # metadata of another shape; the text itself is none the worse for it
        new = []
        for citation in found:
            key = (bytes(citation.raw), citation.start, citation.end)
            if key not in self._given:
                self._given.add(key)
                new.append(citation)
        return new


def _from_grounding(grounding: _Grounding, text: str) -> Iterator[Citation]:
    chunks = grounding.grounding_chunks or []
    supports = grounding.grounding_supports
    if not supports:
        for raw in chunks:
            yield from _grounded(raw, None, None)
        return
    encoded = text.encode("utf-8", "surrogatepass")
    for support in supports:
        start, end = _span(support.segment, encoded)
        for index in support.grounding_chunk_indices or ():
            if 0 <= index < len(chunks):
                yield from _grounded(chunks[index], start, end)


def _grounded(raw: msgspec.Raw, start: int | None, end: int | None) -> Iterator[Citation]:
    source = _GROUNDS.decode(raw).source
    if source is not None:
        yield Citation(WireFormat.GEMINI, one_line(raw), source.uri, source.title, start=start, end=end)


def _from_recitation(recitation: _Recitation, text: str) -> Iterator[Citation]:
    encoded = text.encode("utf-8", "surrogatepass")
    for raw in recitation.citation_sources or recitation.citations or ():
        source = _RECITED.decode(raw)
        start, end = _span(_Segment(source.start_index, source.end_index), encoded)
        yield Citation(WireFormat.GEMINI, one_line(raw), source.uri, source.title, start=start, end=end)


def _span(segment: _Segment | None, encoded: bytes) -> tuple[int | None, int | None]:
    if segment is None or segment.end_index is None or not 0 <= segment.start_index <= segment.end_index:
        return None, None
    start = _characters(encoded, segment.start_index)
    return start, start + _characters(encoded[segment.start_index :], segment.end_index - segment.start_index)


def _characters(encoded: bytes, count: int) -> int:
    return len(encoded[:count].decode("utf-8", "ignore"))


def grounding_for(texts: list[Text]) -> dict[str, object] | None:
    """Return `groundingMetadata` for the texts of an answer, which the client reads as one; None without sources."""
    chunks: list[object] = []
    supports: list[object] = []
    known: dict[str, int] = {}
    before = 0
    for block in texts:
        encoded_length = len(block.text.encode("utf-8", "surrogatepass"))
        for citation in block.citations:
            if citation.url is None:
                continue
            index = known.get(citation.url)
            if index is None:
                index = known[citation.url] = len(chunks)
                web = {"uri": citation.url}
                if citation.title is not None:
                    web["title"] = citation.title
                chunks.append({"web": web})
            segment = _segment(block.text, citation, before, encoded_length)
            if segment is not None:
                supports.append({"segment": segment, "groundingChunkIndices": [index]})
        before += encoded_length
    if not chunks:
        return None
    grounding: dict[str, object] = {"groundingChunks": chunks}
    if supports:
        grounding["groundingSupports"] = supports
    return grounding


def _segment(text: str, citation: Citation, before: int, length: int) -> dict[str, object] | None:
    start, end = citation.start, citation.end
    if start is None or end is None:
        if citation.origin is WireFormat.ANTHROPIC_MESSAGES:  # there, a block is what its citations are for
            return {"startIndex": before, "endIndex": before + length, "text": text}
        return None
    cited = text[start:end]
    first = before + len(text[:start].encode("utf-8", "surrogatepass"))
    return {"startIndex": first, "endIndex": first + len(cited.encode("utf-8", "surrogatepass")), "text": cited}
