"""Chunks to events: one candidate's parts, put together to blocks.

Pieces of text, and pieces of thought, follow each other as parts; calls come whole. A whole answer is a stream of one
chunk, so that both are read by the same code.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.canonical import (
    Block,
    Media,
    ServerTool,
    SourceKind,
    Stop,
    Text,
    Thinking,
    Token,
    ToolCall,
    Unknown,
)
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.gemini.chunk import Candidate, Chunk, Part, is_said, one_line
from omniroute.formats.gemini.citations import CitationReader
from omniroute.formats.gemini.media import kind_of, known_mime, locate, mime_for, standard_base64
from omniroute.formats.gemini.notes import note_for
from omniroute.formats.gemini.stops import BROKEN, stop_for
from omniroute.formats.members import BadShape, list_of, object_of
from omniroute.formats.usage import NOT_REPORTED
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.GEMINI
_EMPTY: Final = Text("")
_EMPTY_THOUGHT: Final = Thinking("")


class Assembler:
    """Makes the events of one candidate.

    Attributes:
        is_over: the terminal event has been returned.
        has_parts: the candidate said something.
    """

    __slots__ = (
        "_citations",
        "_finish",
        "_has_calls",
        "_has_started",
        "_index",
        "_is_thought",
        "_open",
        "_texts",
        "_usage",
        "has_parts",
        "is_over",
    )

    def __init__(self) -> None:
        self.is_over = False
        self.has_parts = False
        self._has_started = False
        self._has_calls = False
        self._finish: Stop | None = None
        self._index = -1
        self._open = False
        """A block of text or thought is open."""
        self._is_thought = False
        self._texts: list[str] = []
        """The pieces of the open text: citations count in it."""
        self._citations: CitationReader | None = None
        self._usage = NOT_REPORTED

    def take(self, chunk: Chunk, raw: bytes | msgspec.Raw, candidate: Candidate | None) -> list[Event]:
        """Return the events of one chunk, of which `candidate` is the one that counts and `raw` the text."""
        events: list[Event] = []
        if not self._has_started:
            self._has_started = True
            events.append(MessageStart(chunk.response_id or "", chunk.model_version or ""))
        if candidate is not None:
            content = candidate.content
            if content is not None and content.parts:
                for place, part in enumerate(content.parts):
                    self._take_part(part, place, raw, candidate, events)
            if is_said(candidate.grounding_metadata) or is_said(candidate.citation_metadata):
                self._cite(candidate, events)
        if chunk.usage_metadata is not None:
            usage = chunk.usage_metadata.to_usage()
            if usage != self._usage:
                self._usage = usage
                events.append(UsageUpdate(usage))
        if candidate is not None and candidate.finish_reason:
            self._note_finish(candidate, events)
        elif chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self._finish = Stop.REFUSAL
        return events

    def close(self, *, is_whole: bool) -> list[Event]:
        """Return the terminal event; `is_whole`: an answer without a finish reason is complete all the same."""
        if self.is_over:
            return []
        self.is_over = True
        if not self._has_started or (self._finish is None and not is_whole):
            return [StreamError()]
        events: list[Event] = []
        self._close_block(events)
        stop = self._finish or Stop.END
        if self._has_calls and stop is not Stop.REFUSAL:  # a call is whole, whatever ended the answer after it
            stop = Stop.TOOL_USE
        events.append(MessageStop(stop))
        return events

    def _note_finish(self, candidate: Candidate, events: list[Event]) -> None:
        word = candidate.finish_reason or ""
        if word in BROKEN:
            self.is_over = True
            events.append(StreamError(broken(candidate)))
            return
        self._finish = stop_for(word)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _take_part(
        self, part: Part, place: int, raw: bytes | msgspec.Raw, candidate: Candidate, events: list[Event]
    ) -> None:
        text = part.text
        if text is not None:
            if part.thought:
                self._think(text, part.thought_signature, events)
            elif text:
                self._write(text, events)
            return
        if part.function_call is not None:
            self._call(part, events)
        elif part.thought:
            if part.thought_signature:
                token = Token(part.thought_signature, _ORIGIN)
                self._whole(Thinking("", token, redacted=True), events)
        elif (block := _other(part) or _unknown(place, raw, candidate)) is not None:
            self._whole(block, events)

    def _write(self, text: str, events: list[Event]) -> None:
        if not self._open or self._is_thought:
            self._open_block(_EMPTY, events)
            self._is_thought = False
            self._texts = []
        self._texts.append(text)
        events.append(BlockDelta(self._index, DeltaKind.TEXT, text))

    def _think(self, text: str, signature: str | None, events: list[Event]) -> None:
        if not text and not signature:
            return
        if not self._open or not self._is_thought:
            self._open_block(_EMPTY_THOUGHT, events)
            self._is_thought = True
        if text:
            events.append(BlockDelta(self._index, DeltaKind.THINKING, text))
        if signature:  # stands with the last piece of what it signs
            events.append(BlockDelta(self._index, DeltaKind.TOKEN, Token(signature, _ORIGIN)))
            self._close_block(events)

    def _call(self, part: Part, events: list[Event]) -> None:
        call = part.function_call
        if call is None or not call.name:
            return  # a piece of streamed arguments, which nobody asks for
        self._open_block(ToolCall(call.id or "", call.name, ""), events)
        arguments = bytes(one_line(call.args)).decode() if is_said(call.args) else "{}"
        events.append(BlockDelta(self._index, DeltaKind.ARGUMENTS, arguments))
        if part.thought_signature:
            events.append(BlockDelta(self._index, DeltaKind.TOKEN, Token(part.thought_signature, _ORIGIN)))
        self._close_block(events)
        self._has_calls = True

    def _whole(self, block: Block, events: list[Event]) -> None:
        self._open_block(block, events)
        self._close_block(events)

    def _cite(self, candidate: Candidate, events: list[Event]) -> None:
        if not self._open or self._is_thought:
            return  # there is no text that they could be of
        if self._citations is None:
            self._citations = CitationReader()
        text = "".join(self._texts)
        self._texts = [text]
        found = self._citations.read(candidate.grounding_metadata, candidate.citation_metadata, text)
        events.extend(BlockDelta(self._index, DeltaKind.CITATION, citation) for citation in found)

    def _open_block(self, head: Block, events: list[Event]) -> None:
        self._close_block(events)
        self._index += 1
        self._open = True
        self.has_parts = True
        events.append(BlockStart(self._index, head))

    def _close_block(self, events: list[Event]) -> None:
        if self._open:
            self._open = False
            events.append(BlockStop(self._index))


def _other(part: Part) -> Block | None:
    blob, file = part.inline_data, part.file_data
    if blob is not None:
        mime = blob.mime_type
        kind = kind_of(mime)
        data = standard_base64(blob.data or "")
        return Media(kind, SourceKind.INLINE, data, mime_for(kind, mime, data), blob.display_name)
    if file is not None and file.file_uri:
        try:
            source, kind, mime = locate(file.file_uri, known_mime(file.mime_type) if file.mime_type else None)
        except ValueError:
            return None
        return Media(kind, source, file.file_uri, mime)
    for name, value in (
        ("executableCode", part.executable_code),
        ("codeExecutionResult", part.code_execution_result),
        ("toolCall", part.tool_call),
        ("toolResponse", part.tool_response),
    ):
        if is_said(value):
            raw = msgspec.Raw(msgspec.json.encode({name: one_line(value)}))
            return ServerTool(_ORIGIN, raw, note_for(name, value))
    return None


def _unknown(place: int, raw: bytes | msgspec.Raw, candidate: Candidate) -> Block | None:
    """Return a part of a kind that is not known; None for one that says nothing."""
    try:
        spelt = _raw_part(raw, candidate.index or 0, place)
    except (BadShape, KeyError, IndexError):
        return None
    names = object_of(spelt).keys() - {"thought", "thoughtSignature", "text", "functionCall"}
    return Unknown(_ORIGIN, one_line(spelt)) if names else None


def _raw_part(raw: bytes | msgspec.Raw, index: int, place: int) -> msgspec.Raw:
    chunk = object_of(raw)
    if "response" in chunk:
        chunk = object_of(chunk["response"])
    candidates = [object_of(one) for one in list_of(chunk["candidates"])]
    candidate = next((one for one in candidates if one.get("index") == msgspec.Raw(str(index).encode())), candidates[0])
    return list_of(object_of(candidate["content"])["parts"])[place]


def broken(candidate: Candidate) -> bytes:
    """Return the error that an answer is which did not come about."""
    message = f"The model's answer failed: {candidate.finish_reason}."
    if candidate.finish_message:
        message = f"{message} {candidate.finish_message}"
    return msgspec.json.encode({"error": {"code": 500, "message": message, "status": "INTERNAL"}})
