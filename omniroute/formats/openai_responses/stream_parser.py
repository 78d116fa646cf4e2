"""Streams of Responses providers as events of an answer.

Theory. The vendor's grammar is strict, that of hosts that speak it is not: they leave out sequence numbers, content
parts or the opening of an item, give a call only when it is complete, or repeat it in the last event. So nothing is
expected but that an item can be told by its place or its id. A block opens with its first piece. Whole texts that
repeat what came in pieces are ignored; those that come alone count. Items may overlap: pieces of an item that is not
open wait until the one before it is done. The last event fills in the items that were never mentioned before.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import Block, Refusal, Text, Thinking, ToolCall
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
from omniroute.formats.fold import unfold_block
from omniroute.formats.openai_responses.errors import envelope_of
from omniroute.formats.openai_responses.members import NULL
from omniroute.formats.openai_responses.output_parser import (
    CALL_KINDS,
    PARAGRAPH,
    Item,
    arguments_of,
    blocks_of_item,
    call_head,
    citation_of,
    logprobs_of,
    message_extra,
    read_item,
    stop_for,
    thinking_head,
)
from omniroute.formats.openai_responses.usage import read_usage
from omniroute.formats.sse import EventCutter, event_data, split_events
from omniroute.formats.usage import NOT_REPORTED

_MOST_HELD_CHARACTERS: Final = 64 << 20
_PIECEWISE: Final = frozenset({"message", "reasoning", *CALL_KINDS})


class _Details(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    incomplete_details: _Details | None = None
    usage: msgspec.Raw = NULL
    tool_usage: msgspec.Raw = NULL


class _Event(msgspec.Struct):
    type: str | None = None
    delta: str | None = None
    output_index: int | None = None
    item_id: str | None = None
    content_index: int | None = None
    summary_index: int | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: msgspec.Raw = NULL
    input: str | None = None
    logprobs: msgspec.Raw = NULL
    annotation: msgspec.Raw = NULL
    item: msgspec.Raw = NULL
    response: msgspec.Raw = NULL


class _Unusual(msgspec.Struct):
    """Any event: what is left to read of one with a member of an unexpected type."""

    type: str | None = None
    item: msgspec.Raw = NULL
    response: msgspec.Raw = NULL


_EVENT: Final = msgspec.json.Decoder(_Event)
_RESPONSE: Final = msgspec.json.Decoder(_Response | None)
_UNUSUAL: Final = msgspec.json.Decoder(_Unusual)

_DELTAS: Final = {
    "response.output_text.delta": DeltaKind.TEXT,
    "response.refusal.delta": DeltaKind.REFUSAL,
    "response.function_call_arguments.delta": DeltaKind.ARGUMENTS,
    "response.custom_tool_call_input.delta": DeltaKind.ARGUMENTS,
    "response.reasoning_summary_text.delta": DeltaKind.THINKING,
    "response.reasoning_text.delta": DeltaKind.THINKING,
}
_DONES: Final = {name.removesuffix("delta") + "done": kind for name, kind in _DELTAS.items()}
_FITS: Final[dict[str, tuple[DeltaKind, ...]]] = {
    "message": (DeltaKind.TEXT, DeltaKind.REFUSAL),
    "reasoning": (DeltaKind.THINKING,),
    "function_call": (DeltaKind.ARGUMENTS,),
    "custom_tool_call": (DeltaKind.ARGUMENTS,),
}


class _Slot:
    """What is known of one item: its head, what waits for its turn, and what was already said of it."""

    __slots__ = (
        "done",
        "has_citations",
        "is_closed",
        "is_summary",
        "item",
        "kind",
        "part",
        "part_kind",
        "said",
        "waiting",
    )

    def __init__(self, item: Item) -> None:
        self.item = item
        self.kind = item.type or ""
        self.waiting: list[tuple[DeltaKind, str, _Event]] = []
        self.said: set[tuple[DeltaKind, int]] = set()
        self.part = 0
        self.part_kind: DeltaKind | None = None
        self.is_summary: bool | None = None
        self.has_citations = False
        self.done: msgspec.Raw | None = None
        self.is_closed = False

    def is_of(self, item: Item) -> bool:
        """Say whether an item can be this one, as far as type and call go."""
        known = self.item.call_id
        return self.kind == (item.type or "") and (not known or not item.call_id or known == item.call_id)


class Parser:
    """See :class:`omniroute.formats.codec.StreamParser`."""

    def __init__(self) -> None:
        self._cutter = EventCutter()
        self._events: list[Event] = []
        self._has_started = False
        self._is_over = False
        self._slots: dict[int | str, _Slot] = {}
        self._names: dict[str, _Slot] = {}
        self._queue: list[_Slot] = []
        self._current: _Slot | None = None
        self._open: Block | None = None
        self._blocks: list[Block] = []
        self._arguments: list[str] = []
        self._index = 0
        self._held = 0

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete."""
        batch = self._cutter.feed(data)
        if not batch or self._is_over:
            return []
        self._events = []
        for event in split_events(batch):
            self._read(event)
        return self._events

    def close(self) -> list[Event]:
        """Return what is left: the last event where only its blank line is missing, an error if it ends nothing."""
        if self._is_over:
            return []
        self._events = []
        rest = self._cutter.rest
        if rest.endswith((b"\n", b"\r")):
            with suppress(UpstreamProtocolError):  # it was cut in the middle
                self._read(rest)
        if not self._is_over:
            self._is_over = True
            self._events.append(StreamError())
        return self._events

    # --- events of the stream --------------------------------------------------------------------------------------

    def _read(self, frame: bytes) -> None:
        if self._is_over:
            return  # nothing may follow the terminal event
        data = _data_of(frame)
        if not data:
            self._events.append(PING)
            return
        if data == b"[DONE]":
            return
        try:
            event = _EVENT.decode(data)
        except msgspec.ValidationError:
            event = _unusual(data)
        except msgspec.DecodeError:
            raise UpstreamProtocolError("The provider sent an event that is not valid JSON.") from None
        kind = event.type or ""
        delta = _DELTAS.get(kind)
        if delta is not None:
            if event.delta:
                self._piece(delta, event.delta, event)
            return
        done = _DONES.get(kind)
        if done is not None:
            self._whole(done, event)
            return
        self._other(kind, event, data)

    def _other(self, kind: str, event: _Event, data: bytes) -> None:
        match kind:
            case "response.output_item.added":
                self._add(event)
            case "response.output_item.done":
                self._finish(event)
            case "response.output_text.annotation.added":
                self._annotate(event)
            case "response.completed" | "response.incomplete" | "response.done":
                self._end(kind, event)
            case "response.failed" | "error":
                self._report(event.response)
                self._events.append(StreamError(envelope_of(data)))
                self._is_over = True
            case "keepalive" | "ping":
                self._events.append(PING)
            case _:
                if event.response != NULL:
                    self._report(event.response)

    def _report(self, raw: msgspec.Raw) -> _Response | None:
        """Read the response object: it may begin the answer, and it may count its tokens."""
        try:
            response: _Response | None = _RESPONSE.decode(raw)
        except msgspec.ValidationError:
            raise UpstreamProtocolError("The provider sent a response object of an unknown shape.") from None
        if response is None:
            return None
        self._begin(response)
        usage = read_usage(response.usage, response.tool_usage)
        if usage is not NOT_REPORTED:
            self._events.append(UsageUpdate(usage))
        return response

    def _begin(self, response: _Response | None = None) -> None:
        if self._has_started:
            return
        self._has_started = True
        if response is None:
            self._events.append(MessageStart("", ""))
            return
        created = None if response.created_at is None else int(response.created_at)
        self._events.append(MessageStart(response.id or "", response.model or "", created))

    def _end(self, kind: str, event: _Event) -> None:
        response = self._report(event.response)
        self._begin()
        for index, raw in enumerate((response.output if response is not None else None) or ()):
            self._fill_in(index, raw)
        while self._current is not None or self._queue:
            self._turn_over()
        details = None if response is None else response.incomplete_details
        status = None if response is None else response.status
        is_incomplete = kind == "response.incomplete" or status == "incomplete"
        reason = None if details is None else details.reason
        self._events.append(MessageStop(stop_for(reason, self._blocks, is_incomplete=is_incomplete)))
        self._is_over = True

    def _fill_in(self, index: int, raw: msgspec.Raw) -> None:
        """Take an item of the whole response that no event has told of."""
        item = read_item(raw)
        slot = self._find(index, item)
        if slot is not None:
            slot.done = slot.done or raw
            return
        # Some hosts give an item another id, or another place, in the end: a call is told by its own id, and of the
        # others one that was not mentioned is only believed where none of its type was.
        is_told = item.type in CALL_KINDS and item.call_id
        if not is_told and item.type in _PIECEWISE and any(one.kind == item.type for one in self._slots.values()):
            return
        slot = self._make(None, item)
        slot.done = raw
        self._queue.append(slot)

    # --- items -----------------------------------------------------------------------------------------------------

    def _find(self, index: int | None, item: Item) -> _Slot | None:
        """Return the slot of an item: by its ids, or else by its place."""
        for name in (item.call_id, item.id):
            slot = self._names.get(name) if name else None
            if slot is not None and slot.is_of(item):
                return slot
        slot = self._slots.get(index) if index is not None else None
        return slot if slot is not None and slot.is_of(item) else None

    def _make(self, index: int | None, item: Item) -> _Slot:
        slot = _Slot(item)
        self._slots[f"no. {len(self._slots)}" if index is None else index] = slot
        for name in (item.id, item.call_id):
            if name:
                self._names.setdefault(name, slot)
        return slot

    def _add(self, event: _Event) -> None:
        if event.item == NULL:
            return
        item = read_item(event.item)
        self._begin()
        slot = self._find(event.output_index, item)
        if slot is None:
            self._line_up(self._make(event.output_index, item))
        elif not slot.item.name and slot.kind in CALL_KINDS:
            slot.item = item  # its arguments came before it
            if slot is self._current and self._open is None:
                self._take_up(slot)

    def _line_up(self, slot: _Slot) -> None:
        if self._current is None and not self._queue:
            self._take_up(slot)
        else:
            self._queue.append(slot)

    def _finish(self, event: _Event) -> None:
        if event.item == NULL:
            return
        item = read_item(event.item)
        self._begin()
        slot = self._find(event.output_index, item)
        if slot is None:
            slot = self._make(event.output_index, item)
            self._queue.append(slot)
        if slot.done is not None or slot.is_closed:
            return
        slot.done = event.item
        if slot is self._current or self._current is None:
            self._turn_over()

    def _turn_over(self) -> None:
        """Close the current item if it is done, and take up the next ones."""
        if self._current is not None:
            self._close_item(self._current)
            self._current = None
        while self._queue:
            slot = self._queue.pop(0)
            self._take_up(slot)
            if slot.done is None:
                return
            self._close_item(slot)
            self._current = None

    def _take_up(self, slot: _Slot) -> None:
        self._current = slot
        if slot.kind in CALL_KINDS:
            if not slot.item.name:
                return  # some hosts name the tool only in the end
            self._start(call_head(slot.item))
        self._say_waiting(slot)

    def _say_waiting(self, slot: _Slot) -> None:
        waiting, slot.waiting = slot.waiting, []
        for kind, text, event in waiting:
            self._say(slot, kind, text, event)

    def _close_item(self, slot: _Slot) -> None:
        slot.is_closed = True
        raw = slot.done
        item = slot.item if raw is None else read_item(raw)
        if slot.kind in CALL_KINDS:
            self._close_call(slot, item)
        elif slot.kind == "reasoning":
            self._close_reasoning(slot, item)
        elif slot.said:
            self._close_message(slot, item)
        elif raw is not None:
            for block in blocks_of_item(raw, item):
                self._events += unfold_block(self._index, block)
                self._index += 1
                self._blocks.append(block)

    def _close_call(self, slot: _Slot, item: Item) -> None:
        if self._open is None:
            self._start(call_head(item if item.type in CALL_KINDS else slot.item))
            self._say_waiting(slot)
        if not slot.said and (arguments := arguments_of(item)):
            self._say(slot, DeltaKind.ARGUMENTS, arguments, _NO_PLACE)
        self._stop()

    def _close_reasoning(self, slot: _Slot, item: Item) -> None:
        sealed = thinking_head(item, "")
        if not slot.said:
            text = PARAGRAPH.join(part.text for part in item.summary or item.content or () if part.text)
            if text:
                slot.item = item
                self._say(slot, DeltaKind.THINKING, text, _NO_PLACE)
            elif sealed.token is None:
                return
            elif sealed.redacted:
                self._start(sealed)
                self._stop()
                return
            else:
                self._start(msgspec.structs.replace(sealed, token=None))
        if sealed.token is not None:
            self._events.append(BlockDelta(self._index, DeltaKind.TOKEN, sealed.token))
        self._stop()

    def _close_message(self, slot: _Slot, item: Item) -> None:
        """Close a message that came in pieces; hosts that send no events of citations list them in its last part."""
        if not slot.has_citations and isinstance(self._open, Text) and item.content and slot.part < len(item.content):
            for raw in item.content[slot.part].annotations or ():
                self._events.append(BlockDelta(self._index, DeltaKind.CITATION, citation_of(raw)))
        self._stop()

    # --- pieces ----------------------------------------------------------------------------------------------------

    def _slot_of(self, kind: DeltaKind, event: _Event) -> _Slot:
        """Return the slot that a piece belongs to; hosts that do not open items have it made here.

        The place comes first: some hosts give an item another id with every event.
        """
        found = [
            self._slots.get(event.output_index) if event.output_index is not None else None,
            self._names.get(event.item_id) if event.item_id else None,
            self._current if event.output_index is None and not event.item_id else None,
        ]
        for slot in found:
            if slot is not None and kind in _FITS.get(slot.kind, ()):
                return slot
        if any(slot is not None for slot in found):
            raise UpstreamProtocolError("The provider sent a piece of an item of another type.")
        self._begin()
        item_type = {DeltaKind.THINKING: "reasoning", DeltaKind.ARGUMENTS: "function_call"}.get(kind, "message")
        if event.type is not None and event.type.startswith("response.custom_tool_call"):
            item_type = "custom_tool_call"
        slot = self._make(event.output_index, Item(item_type, event.item_id))
        self._line_up(slot)
        return slot

    def _piece(self, kind: DeltaKind, text: str, event: _Event) -> None:
        slot = self._current
        # The usual case: a piece of what is open.
        if slot is None or event.output_index is None or self._slots.get(event.output_index) is not slot:
            slot = self._slot_of(kind, event)
        elif kind not in _FITS.get(slot.kind, ()):
            raise UpstreamProtocolError("The provider sent a piece of an item of another type.")
        if slot.is_closed:
            return
        if slot is self._current:
            self._say(slot, kind, text, event)
            return
        self._held += len(text)
        if self._held > _MOST_HELD_CHARACTERS:
            raise UpstreamProtocolError("The provider sent too many pieces out of their order.")
        slot.waiting.append((kind, text, event))

    def _say(self, slot: _Slot, kind: DeltaKind, text: str, event: _Event) -> None:
        """Emit a piece of the current item, opening its block if need be."""
        logprobs = None
        match kind:
            case DeltaKind.TEXT | DeltaKind.REFUSAL:
                part = event.content_index or 0
                if part != slot.part or self._open is None or kind is not slot.part_kind:
                    self._open_part(slot, kind, part)
                if event.logprobs != NULL:
                    logprobs = logprobs_of(event.logprobs)
            case DeltaKind.THINKING:
                is_summary = event.summary_index is not None
                part = (event.summary_index if is_summary else event.content_index) or 0
                if self._open is None:
                    slot.is_summary = is_summary
                    self._start(Thinking("", id=slot.item.id))
                elif is_summary is not slot.is_summary:
                    return  # the long form of what is summed up, or the other way round
                elif part != slot.part:
                    text = PARAGRAPH + text
                slot.part = part
                slot.said.add((kind, part))
            case _:
                if self._open is None:
                    slot.waiting.append((kind, text, event))
                    return
                self._arguments.append(text)
                if not slot.said:
                    slot.said.add((kind, 0))
        self._events.append(BlockDelta(self._index, kind, text, logprobs))

    def _open_part(self, slot: _Slot, kind: DeltaKind, part: int) -> None:
        self._stop()
        slot.part, slot.part_kind = part, kind
        slot.said.add((kind, part))
        extra = message_extra(slot.item)
        self._start(Text("", extra=extra) if kind is DeltaKind.TEXT else Refusal("", extra=extra))

    def _whole(self, kind: DeltaKind, event: _Event) -> None:
        """Take a text that closes a part: it counts only where no pieces of it came before."""
        text = event.text or event.refusal or event.input or ""
        if kind is DeltaKind.ARGUMENTS and not text and event.arguments != NULL:
            text = arguments_of(Item("function_call", arguments=event.arguments))
        if not text:
            return
        slot = self._slot_of(kind, event)
        part = _part_of(event)
        is_known = (kind, part) in slot.said or any(
            waiting[0] is kind and _part_of(waiting[2]) == part for waiting in slot.waiting
        )
        if not is_known:
            self._piece(kind, text, event)

    def _annotate(self, event: _Event) -> None:
        slot = self._slots.get(event.output_index) if event.output_index is not None else self._current
        if slot is not None and slot is self._current and event.annotation != NULL and isinstance(self._open, Text):
            slot.has_citations = True
            self._events.append(BlockDelta(self._index, DeltaKind.CITATION, citation_of(event.annotation)))

    # --- blocks ----------------------------------------------------------------------------------------------------

    def _start(self, block: Block) -> None:
        self._begin()
        self._open = block
        self._events.append(BlockStart(self._index, block))

    def _stop(self) -> None:
        if self._open is not None:
            block, self._open = self._open, None
            if isinstance(block, ToolCall):
                block = msgspec.structs.replace(block, arguments="".join(self._arguments))
                self._arguments = []
            self._blocks.append(block)
            self._events.append(BlockStop(self._index))
            self._index += 1


_NO_PLACE: Final = _Event()


def _part_of(event: _Event) -> int:
    return event.content_index or event.summary_index or 0


def _data_of(frame: bytes) -> bytes:
    """Return the data of an event; quickly for the one shape that nearly all have."""
    start = frame.find(b"\ndata: ") + 7
    if start < 7:
        start = 6 if frame.startswith(b"data: ") else -1
    end = len(frame) - 2
    if start > 0 and frame.find(b"\n", start) == end and b"\r" not in frame:
        return frame[start:end]
    return event_data(frame)


def _unusual(data: bytes) -> _Event:
    """Read an event in which a member that it should not need has another type than elsewhere."""
    try:
        event = _UNUSUAL.decode(data)
    except msgspec.ValidationError:
        return _NO_PLACE
    return _Event(event.type, item=event.item, response=event.response)
