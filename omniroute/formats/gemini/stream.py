"""Relay of a Gemini stream: `data:` chunks, the last with a finish reason; no end marker, the bytes just end."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

import msgspec

from omniroute.errors import OmniRouteError, UpstreamProtocolError
from omniroute.formats.gemini.chunk import PromptFeedback, compact, is_said
from omniroute.formats.gemini.errors import render_in_stream
from omniroute.formats.gemini.framing import MAX_CHUNK_BYTES
from omniroute.formats.gemini.usage import read_usage
from omniroute.formats.members import is_text
from omniroute.formats.passthrough import CONTENT, PLAIN, WITHHELD, PassthroughStream, Verdict
from omniroute.formats.splice import rename_member
from omniroute.formats.sse import EventCutter, event_data, split_events
from omniroute.formats.usage import NOT_REPORTED, Usage


class _Content(msgspec.Struct):
    parts: list[dict[str, msgspec.Raw]] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: msgspec.Raw = msgspec.Raw(b"")
    finish_reason: str | None = None
    index: int | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class _Named(msgspec.Struct, rename="camel"):
    model_version: msgspec.Raw = msgspec.Raw(b"")


_NAME: Final = b'"modelVersion"'
_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_CONTENT: Final = msgspec.json.Decoder(_Content)
_NAMED: Final = msgspec.json.Decoder(_Named)
_CHUNKS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class GeminiStream(PassthroughStream):
    """See :class:`PassthroughStream`. Lines that are not data are withheld: the official client takes them for JSON."""

    close_look: ClassVar[tuple[bytes, ...]] = (b"",)
    """Every chunk carries usage, and a comment may stand anywhere."""
    said_in: ClassVar[tuple[bytes, ...]] = (b'"text":"', b'"args":{')
    names_model_once: ClassVar[bool] = False
    max_held_bytes: ClassVar[int] = MAX_CHUNK_BYTES

    def __init__(self, requested_model: str | None, trailer: Callable[[Usage], bytes], *, candidates: int = 1) -> None:
        """`candidates`: how many the client asked for."""
        super().__init__(requested_model, trailer)
        self._cutter = EventCutter(MAX_CHUNK_BYTES)
        self._candidates = candidates
        self._ended: set[int] = set()
        self._requested = None if requested_model is None else msgspec.json.encode(requested_model)

    def end(self) -> bytes:
        """See :class:`PassthroughStream`; a last chunk that only lacks its blank line counts."""
        out = b""
        if not self.is_complete and event_data(self._cutter.rest):
            try:
                out = self.feed(b"\n\n")
            except UpstreamProtocolError:
                out = b""  # it lacks more than that
        return out + super().end()

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """See :class:`PassthroughStream`."""
        return render_in_stream(error, request_id)

    def raw_error(self, data: bytes) -> bytes:
        """See :class:`PassthroughStream`; some services write their errors on many lines."""
        return super().raw_error(compact(data))

    def judge(self, event: bytes) -> Verdict:
        """Read one chunk: usage, finish reason, error, content."""
        data = event_data(event)
        if not data:
            data = event.strip()
            if data[:1] not in {b"{", b"["}:
                return WITHHELD  # a comment
        try:
            if data[:1] == b"[":
                data = _only(data)
            chunk = _CHUNK.decode(data)
        except msgspec.ValidationError:
            return PLAIN  # JSON of a shape that the format does not have: the client may know more
        except msgspec.DecodeError:
            raise UpstreamProtocolError("The provider sent a chunk that is not valid JSON.") from None
        if is_said(chunk.error):
            return Verdict(error=data)
        if is_said(chunk.usage_metadata):
            usage = read_usage(chunk.usage_metadata)
            if usage is not NOT_REPORTED:
                self.usage = self.usage.merge(usage)
        was_finished = self.is_finished
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self.is_finished = True
        for candidate in chunk.candidates or ():
            self._note_end(candidate)
        has_more = any(_has_content(candidate.content) for candidate in chunk.candidates or ())
        if was_finished and self.is_finished and chunk.candidates and not has_more:
            return WITHHELD  # the end, said once more
        return CONTENT if self.has_content or self.is_finished or has_more else PLAIN

    def _note_end(self, candidate: _Candidate) -> None:
        if candidate.finish_reason:
            self._ended.add(candidate.index or 0)
        else:  # some models repeat a reason with every chunk, or go on after one
            self._ended.discard(candidate.index or 0)
        self.is_finished = len(self._ended) >= self._candidates

    def _rename(self, events: bytes) -> bytes:
        """Put back the model name that the client used.

        Arguments of calls are objects here and may hold a member of the same name, so each chunk is looked at.
        """
        if self._requested is None or _NAME not in events:
            return events
        return b"".join(self._renamed(event, self._requested) for event in split_events(events))

    def _renamed(self, event: bytes, requested: bytes) -> bytes:
        data = event_data(event)
        try:
            spelt = _NAMED.decode(data).model_version
        except msgspec.DecodeError:
            return event
        if not memoryview(spelt) or not is_text(spelt):
            return event
        if event.count(_NAME) == 1:
            for colon in (b":", b": "):
                member = _NAME + colon + bytes(spelt)
                if member in event:
                    return event.replace(member, _NAME + colon + requested)
        renamed = rename_member(data, "modelVersion", bytes(spelt), requested)
        return b"".join(b"data: " + line + b"\n" for line in renamed.splitlines()) + b"\n"


def _only(data: bytes) -> bytes:
    """Return the one element of a list, as some errors are wrapped."""
    elements = _CHUNKS.decode(data)
    return bytes(elements[0]) if elements else b"{}"


def _has_content(content: msgspec.Raw) -> bool:
    if not memoryview(content):
        return False
    try:
        parts = _CONTENT.decode(content).parts
    except msgspec.ValidationError:
        return True  # more than we know
    return any(_is_content(part) for part in parts or ())


def _is_content(part: dict[str, msgspec.Raw]) -> bool:
    text = part.get("text")
    if text is not None:
        return len(memoryview(text)) > 2  # more than the quotes
    return any(name not in {"thought", "thoughtSignature"} for name in part)
