"""A Messages stream to events.

Theory. The format's own events are nearly ours. Three things differ. A server tool's call comes in fragments while its
canonical block is whole: such blocks are collected until they stop. The input of a call may also stand whole in its
start, or nowhere when it is empty: then one delta is made of it at the stop. Hosts that imitate the format let blocks
overlap: what belongs to a later block waits until the one before it has stopped.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.anthropic_messages.content_parser import arguments_of, parse_answer_block, parse_citation
from omniroute.formats.anthropic_messages.stops import parse_stop
from omniroute.formats.anthropic_messages.usage import UsageFields, read_fields
from omniroute.formats.canonical import Block, Text, Thinking, Token, ToolCall
from omniroute.formats.events import (
    PING,
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
from omniroute.formats.members import EMPTY_OBJECT, NULL, BadShape, Members, object_of
from omniroute.formats.sse import EventCutter, event_data, split_events
from omniroute.formats.surrogates import mend
from omniroute.formats.usage import NOT_REPORTED
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.ANTHROPIC_MESSAGES


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    content: str | None = None
    citation: msgspec.Raw = NULL
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: msgspec.Raw = NULL


class _Read(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: msgspec.Raw = NULL
    message: _Message | None = None
    usage: msgspec.Raw = NULL


class _Type(msgspec.Struct):
    type: str = ""


_DECODER: Final = msgspec.json.Decoder(_Read)
_TYPE: Final = msgspec.json.Decoder(_Type)
_OF_BLOCKS: Final = frozenset({"content_block_start", "content_block_delta", "content_block_stop"})
_KNOWN: Final = _OF_BLOCKS | {"message_start", "message_delta", "message_stop", "ping", "error"}
_NOT_READ: Final = _Read()


class Parser:
    """See :class:`omniroute.formats.codec.StreamParser`."""

    __slots__ = (
        "_block",
        "_collected",
        "_cutter",
        "_events",
        "_fields",
        "_has_arguments",
        "_has_started",
        "_head_input",
        "_index",
        "_is_over",
        "_next",
        "_sequence",
        "_stop_reason",
        "_waiting",
    )

    def __init__(self) -> None:
        self._cutter = EventCutter()
        self._events: list[Event] = []
        self._fields = UsageFields()
        self._has_started = False
        self._is_over = False
        self._stop_reason: str | None = None
        self._sequence: str | None = None
        self._next = 0
        """Our index of the open block, or of the next one."""
        self._index: int | None = None
        """The provider's index of the open block."""
        self._block: Block | None = None
        self._collected: _Collected | None = None
        self._head_input = EMPTY_OBJECT
        self._has_arguments = False
        self._waiting: dict[int, list[_Read]] = {}

    def feed(self, data: bytes) -> list[Event]:
        """See :class:`omniroute.formats.codec.StreamParser`."""
        if self._is_over:
            return []
        batch = self._cutter.feed(data)
        if not batch:
            return []
        events = self._events = []
        for event in split_events(batch):
            text = event_data(event)
            if text:
                self._see(text)
        return events

    def close(self) -> list[Event]:
        """See :class:`omniroute.formats.codec.StreamParser`."""
        if self._is_over:
            return []
        self._events = []
        if self._stop_reason is None or not self._has_started:
            self._end(StreamError())
        else:
            self._finish()
        return self._events

    # --- one event ---------------------------------------------------------------------------------------------------

    def _see(self, data: bytes) -> None:
        if self._is_over:
            return  # nothing may follow the end
        read = _read(data)
        kind = read.type
        if kind in _OF_BLOCKS:
            self._start_if_needed()
            if self._index is None or self._index == read.index:
                self._see_block(read)
                if self._waiting:
                    self._see_waiting()
            else:
                self._waiting.setdefault(read.index, []).append(read)
        elif kind == "message_start":
            if not self._has_started:
                message = read.message or _Message()
                self._has_started = True
                self._fields = self._fields.merge(read_fields(message.usage))
                usage = self._fields.to_usage()
                known = None if usage == NOT_REPORTED else usage
                self._events.append(MessageStart(message.id or "", message.model or "", None, known))
        elif kind == "message_delta":
            if read.delta is not None and read.delta.stop_reason is not None:
                self._stop_reason, self._sequence = read.delta.stop_reason, read.delta.stop_sequence
            merged = self._fields.merge(read_fields(read.usage))
            if merged != self._fields:
                self._fields = merged
                self._events.append(UsageUpdate(merged.to_usage()))
        elif kind == "message_stop":
            self._start_if_needed()
            self._finish()
        elif kind == "ping":
            self._events.append(PING)
        elif kind == "error":
            self._end(StreamError(data))

    def _start_if_needed(self) -> None:
        if not self._has_started:
            self._has_started = True
            self._events.append(MessageStart("", ""))

    def _finish(self) -> None:
        """End the answer: blocks that nobody stopped stop now."""
        while self._index is not None:
            self._stop_block()
            self._see_waiting()
        self._end(MessageStop(parse_stop(self._stop_reason), self._sequence))

    def _end(self, event: Event) -> None:
        self._is_over = True
        self._events.append(event)

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _see_block(self, read: _Read) -> None:
        kind = read.type
        if kind == "content_block_delta":
            if self._index is not None and read.delta is not None:
                self._add(read.delta)
        elif kind == "content_block_start":
            if self._index is None:
                self._start_block(read)
        elif self._index is not None:
            self._stop_block()

    def _start_block(self, read: _Read) -> None:
        try:
            members = object_of(read.content_block, "content_block")
            block = parse_answer_block(read.content_block)
        except BadShape as error:
            raise error.for_provider() from None
        self._index = read.index
        self._block = block
        match block:
            case Text(text=text, citations=citations):
                self._open(msgspec.structs.replace(block, text="", citations=()))
                self._delta_if_any(DeltaKind.TEXT, text)
                for citation in citations:
                    self._events.append(BlockDelta(self._next, DeltaKind.CITATION, citation))
            case Thinking(redacted=False, text=text, token=token):
                self._open(msgspec.structs.replace(block, text="", token=None))
                self._delta_if_any(DeltaKind.THINKING, text)
                if token is not None:
                    self._events.append(BlockDelta(self._next, DeltaKind.TOKEN, token))
            case ToolCall():
                self._open(msgspec.structs.replace(block, arguments=""))
                self._has_arguments = False
                self._head_input = members.get("input", EMPTY_OBJECT)
            case Thinking():
                self._open(block)
            case _:
                self._collected = _Collected(members)

    def _open(self, head: Block) -> None:
        self._events.append(BlockStart(self._next, head))

    def _delta_if_any(self, kind: DeltaKind, text: str) -> None:
        if text:
            self._events.append(BlockDelta(self._next, kind, text))

    def _add(self, delta: _Delta) -> None:
        if self._collected is not None:
            self._collected.add(delta)
            return
        kind, block = delta.type, self._block
        if kind == "text_delta":
            if delta.text and isinstance(block, Text):
                self._events.append(BlockDelta(self._next, DeltaKind.TEXT, delta.text))
        elif kind == "input_json_delta":
            if delta.partial_json and isinstance(block, ToolCall):
                self._has_arguments = True
                self._events.append(BlockDelta(self._next, DeltaKind.ARGUMENTS, delta.partial_json))
        elif kind == "thinking_delta":
            if delta.thinking and isinstance(block, Thinking) and not block.redacted:
                self._events.append(BlockDelta(self._next, DeltaKind.THINKING, delta.thinking))
        elif kind == "signature_delta":
            if delta.signature and isinstance(block, Thinking) and not block.redacted:
                token = Token(delta.signature, _ORIGIN)
                self._events.append(BlockDelta(self._next, DeltaKind.TOKEN, token))
        elif kind == "citations_delta" and isinstance(block, Text) and delta.citation != NULL:
            try:
                citation = parse_citation(delta.citation)
            except BadShape as error:
                raise error.under("delta.citation").for_provider() from None
            self._events.append(BlockDelta(self._next, DeltaKind.CITATION, citation))

    def _stop_block(self) -> None:
        if self._collected is not None:
            try:
                self._open(parse_answer_block(self._collected.whole()))
            except BadShape as error:
                raise error.for_provider() from None
            self._collected = None
        elif isinstance(self._block, ToolCall) and not self._has_arguments:
            self._delta_if_any(DeltaKind.ARGUMENTS, _arguments(self._head_input))
        self._events.append(BlockStop(self._next))
        self._next += 1
        self._index = self._block = None

    def _see_waiting(self) -> None:
        """Go on with the blocks that had to wait, as far as they have come."""
        while self._waiting and self._index is None:
            index = next(iter(self._waiting))
            waiting = self._waiting.pop(index)
            for number, read in enumerate(waiting, 1):
                self._see_block(read)
                if read.type == "content_block_stop":
                    if waiting[number:]:
                        self._waiting[index] = waiting[number:]
                    break


class _Collected:
    """A block of which only the whole means something; what its deltas add is put where it belongs."""

    __slots__ = ("_input", "_members", "_text")

    def __init__(self, members: Members) -> None:
        self._members = members
        self._input: list[str] = []
        self._text: dict[str, list[str]] = {}

    def add(self, delta: _Delta) -> None:
        if delta.partial_json:
            self._input.append(delta.partial_json)
        if delta.text:
            self._text.setdefault("text", []).append(delta.text)
        if delta.content:
            self._text.setdefault("content", []).append(delta.content)

    def whole(self) -> msgspec.Raw:
        members = dict(self._members)
        if self._input:
            members["input"] = _object_or_text("".join(self._input))
        for name, parts in self._text.items():
            members[name] = msgspec.Raw(msgspec.json.encode("".join(parts)))
        return msgspec.Raw(msgspec.json.encode(members))


def _object_or_text(text: str) -> msgspec.Raw:
    try:
        object_of(text.encode())
    except BadShape:
        return msgspec.Raw(msgspec.json.encode(text))
    return msgspec.Raw(text.encode())


def _arguments(head_input: msgspec.Raw) -> str:
    """Return the arguments of a call without fragments: those of its start, which are empty in the vendor's streams."""
    try:
        return "{}" if head_input == NULL else arguments_of(head_input)
    except BadShape:
        return "{}"


def _read(data: bytes) -> _Read:
    try:
        return _DECODER.decode(data)
    except msgspec.ValidationError:
        return _of_unknown_shape(data)
    except (msgspec.DecodeError, RecursionError):
        mended = mend(data)  # hosts cut texts between the halves of a surrogate pair
        if mended != data:
            return _read(mended)
        raise UpstreamProtocolError("The provider sent an event that is not valid JSON.") from None


def _of_unknown_shape(data: bytes) -> _Read:
    """Let an event pass that is none of the format's; one that has the name of one is a fault of the provider."""
    try:
        kind = _TYPE.decode(data).type
    except msgspec.DecodeError:
        return _NOT_READ
    if kind in _KNOWN and kind != "ping":
        if kind == "error":
            return _Read(type=kind)
        raise UpstreamProtocolError(f"The provider sent a {kind} event of a shape that the format does not have.")
    return _NOT_READ
