"""An Ollama stream to events: JSON lines, each with a piece of the answer, the last one with the counts.

The lines name no blocks: a block lasts as long as the lines say the same kind of thing. Calls come whole.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import Block, Text, Thinking
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
from omniroute.formats.lines import LineCutter, split_lines
from omniroute.formats.members import EMPTY_LIST, EMPTY_TEXT, NULL
from omniroute.formats.ollama.chunk import Chunk, call_of, created_of, image_of, read_chunk, stop_of
from omniroute.formats.ollama.usage import read_usage
from omniroute.formats.usage import NOT_REPORTED

_NO_LOGPROBS: Final = (NULL, EMPTY_LIST, EMPTY_TEXT)
_HEADS: Final[dict[DeltaKind, Block]] = {DeltaKind.TEXT: Text(""), DeltaKind.THINKING: Thinking("")}


class Parser:
    """See :class:`omniroute.formats.codec.StreamParser`."""

    __slots__ = ("_cutter", "_events", "_has_started", "_is_over", "_next", "_open")

    def __init__(self) -> None:
        self._cutter = LineCutter()
        self._events: list[Event] = []
        self._has_started = False
        self._is_over = False
        self._open: DeltaKind | None = None
        self._next = 0
        """Index of the open block, or of the next one."""

    def feed(self, data: bytes) -> list[Event]:
        """See :class:`omniroute.formats.codec.StreamParser`."""
        if self._is_over:
            return []
        events = self._events = []
        for line in split_lines(self._cutter.feed(data)):
            self._see(line)
        return events

    def close(self) -> list[Event]:
        """See :class:`omniroute.formats.codec.StreamParser`; a last line without its end counts if it is whole."""
        if self._is_over:
            return []
        events = self._events = []
        try:
            self._see(self._cutter.rest)
        except UpstreamProtocolError:
            events.clear()
        self._end(StreamError())
        return events

    def _see(self, line: bytes) -> None:
        if self._is_over or not line.strip():
            return
        chunk = read_chunk(line)
        if chunk.error != NULL:
            self._end(StreamError(line.strip()))
            return
        if not self._has_started:
            self._has_started = True
            self._events.append(MessageStart("", chunk.model or "", created_of(chunk)))
        self._see_message(chunk)
        if chunk.done:
            self._close_block()
            usage = read_usage(line)
            if usage != NOT_REPORTED:
                self._events.append(UsageUpdate(usage))
            self._end(MessageStop(stop_of(chunk)))

    def _see_message(self, chunk: Chunk) -> None:
        message = chunk.message
        if message is None:
            return
        if message.thinking:
            self._add(DeltaKind.THINKING, message.thinking)
        if message.content:
            self._add(DeltaKind.TEXT, message.content, None if chunk.logprobs in _NO_LOGPROBS else chunk.logprobs)
        for image in message.images or ():
            self._whole(image_of(image))
        for given in message.tool_calls or ():
            call = call_of(given)
            if call is not None:
                self._whole(msgspec.structs.replace(call, arguments=""), call.arguments)

    def _add(self, kind: DeltaKind, text: str, logprobs: msgspec.Raw | None = None) -> None:
        if self._open is not kind:
            self._close_block()
            self._open = kind
            self._events.append(BlockStart(self._next, _HEADS[kind]))
        self._events.append(BlockDelta(self._next, kind, text, logprobs))

    def _whole(self, head: Block, arguments: str = "") -> None:
        self._close_block()
        self._events.append(BlockStart(self._next, head))
        if arguments:
            self._events.append(BlockDelta(self._next, DeltaKind.ARGUMENTS, arguments))
        self._events.append(BlockStop(self._next))
        self._next += 1

    def _close_block(self) -> None:
        if self._open is not None:
            self._open = None
            self._events.append(BlockStop(self._next))
            self._next += 1

    def _end(self, event: Event) -> None:
        if not self._is_over:
            self._is_over = True
            self._events.append(event)
