"""A Chat Completions stream to events."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import (
    Block,
    Citation,
    Media,
    Refusal,
    Stop,
    Text,
    Thinking,
    ToolCall,
    is_torn,
    stop_of,
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
from omniroute.formats.fold import join_lists
from omniroute.formats.inline_think import InlineThink
from omniroute.formats.members import NULL
from omniroute.formats.openai_chat.answer_parser import details_of
from omniroute.formats.openai_chat.call_slots import Slot, Slots
from omniroute.formats.openai_chat.finish import is_failure, stop_from
from omniroute.formats.openai_chat.shapes import (
    ANSWER,
    WireAnswer,
    WireAudio,
    WireCall,
    WireChoice,
    WireMessage,
    audio_of,
    citation_of,
    image_of,
    logprobs_of,
    pieces_of,
    sources_of,
)
from omniroute.formats.sse import EventCutter, event_data, split_events
from omniroute.formats.surrogates import mend
from omniroute.formats.usage import NOT_REPORTED, Usage

_TEXT: Final = DeltaKind.TEXT
_THINKING: Final = DeltaKind.THINKING
_ARGUMENTS: Final = DeltaKind.ARGUMENTS
_HEADS: Final[dict[DeltaKind, Block]] = {
    DeltaKind.TEXT: Text(""),
    DeltaKind.THINKING: Thinking(""),
    DeltaKind.REFUSAL: Refusal(""),
}
_MAX_CHUNK_BYTES: Final = 32 << 20
"""Images that a model drew, and arguments that a host sends whole, come in one chunk."""
_DONE: Final = b"[DONE]"
_FIELD: Final = b"data: "
_BROKEN_OFF: Final = StreamError()


class _Said:
    """Text that came while a call was open, and is held until that stops."""

    __slots__ = ("kind", "pieces")

    def __init__(self, kind: DeltaKind) -> None:
        self.kind = kind
        self.pieces: list[tuple[str, msgspec.Raw | None]] = []


class Parser:
    """See :class:`omniroute.formats.codec.StreamParser`.

    Theory. What is said goes out as it comes. Calls wait in a queue: the first of them is the open block, and it stops
    when it cannot go on (another block has begun and its arguments are whole) or when the answer finishes. Until then
    the deltas of later calls, and text between them, are held. Only the choice with index 0 is read.
    """

    __slots__ = (
        "_cutter",
        "_detail_number",
        "_finish",
        "_has_started",
        "_held_logprobs",
        "_index",
        "_inline",
        "_is_over",
        "_open",
        "_out",
        "_queue",
        "_seen",
        "_slots",
        "_sources",
        "_speech",
        "_thought",
        "_usage",
        "_usage_spelling",
    )

    def __init__(self) -> None:
        self._cutter = EventCutter(_MAX_CHUNK_BYTES)
        self._out: list[Event] = []
        self._is_over = False
        self._has_started = False
        self._index = -1
        self._open: DeltaKind | None = None
        """Kind of the open block; ARGUMENTS for a call."""
        self._queue: deque[Slot | _Said | Block] = deque()
        self._slots = Slots()
        self._inline: InlineThink | None = InlineThink()
        self._held_logprobs: list[msgspec.Raw] = []
        self._detail_number: msgspec.Raw | None = None
        self._sources: tuple[Citation, ...] = ()
        self._speech: list[WireAudio] = []
        self._thought: list[str] = []
        self._finish: tuple[Stop, str | None] | None = None
        self._seen: set[DeltaKind] = set()
        self._usage = NOT_REPORTED
        self._usage_spelling: msgspec.Raw = NULL

    def feed(self, data: bytes) -> list[Event]:
        """See :class:`StreamParser`."""
        if self._is_over:
            return []
        batch = self._cutter.feed(data)
        if not batch:
            return []
        out = self._out = []
        for event in split_events(batch):
            self._take(event)
            if self._has_ended:
                break
        return out

    def close(self) -> list[Event]:
        """See :class:`StreamParser`."""
        if self._is_over:
            return []
        out = self._out = []
        rest = self._cutter.rest
        if rest:
            with suppress(UpstreamProtocolError):  # cut off in its middle
                self._take(rest)
        if not self._has_ended:
            self._end(is_marked=False)
        return out

    @property
    def _has_ended(self) -> bool:
        return self._is_over

    # --- events of the transport ---

    def _take(self, event: bytes) -> None:
        if event.startswith(_FIELD) and event.find(b"\n") == len(event) - 2:
            data = event[6:-2]
        else:
            data = event_data(event)
            if not data:
                data = event.strip()  # JSON without a frame: an error, or an answer that nobody streamed
                if not data.startswith(b"{"):
                    return
        if data.startswith(_DONE):
            self._end(is_marked=True)
            return
        try:
            chunk = ANSWER.decode(data)
        except msgspec.DecodeError as error:
            self._take_unusual(data, error)
            return
        if event.startswith(b"event:") and event[6:].lstrip().startswith(b"error"):
            self._fail(data)
            return
        self._chunk(chunk, data)

    def _take_unusual(self, data: bytes, error: msgspec.DecodeError) -> None:
        if isinstance(error, msgspec.ValidationError):
            if data.startswith(b"{"):
                raise UpstreamProtocolError(f"The provider sent a chunk that is not of its format: {error}.")
            return  # a word of the host's own, such as a sign of life
        mended = mend(data)
        if mended is not data:
            try:
                chunk = ANSWER.decode(mended)
            except msgspec.DecodeError:
                raise UpstreamProtocolError("The provider sent a chunk that is not valid JSON.") from None
            self._chunk(chunk, data)
            return
        lines = [line for line in data.split(b"\n") if line]
        if len(lines) < 2:
            raise UpstreamProtocolError("The provider sent a chunk that is not valid JSON.")
        for line in lines:  # one chunk a line, without blank lines between
            self._take(_FIELD + line + b"\n\n")
            if self._has_ended:
                return

    def _fail(self, data: bytes) -> None:
        self._out.append(StreamError(data))
        self._is_over = True

    def _end(self, *, is_marked: bool) -> None:
        """The stream is over; it is complete if a finish reason was seen, or else its end marker after content."""
        self._is_over = True
        finish = self._finish
        if finish is None:
            calls = [slot.call() for slot in self._slots.all if slot.name]
            if not is_marked or (self._index < 0 and not self._queue) or any(map(is_torn, calls)):
                self._out.append(_BROKEN_OFF)
                return
            finish = (Stop.END, None)
        self._start(WireAnswer())
        self._settle()
        stop, sequence = finish
        if stop is Stop.END and DeltaKind.REFUSAL in self._seen:
            stop = Stop.REFUSAL
        stop = stop_of(stop, [slot.call() for slot in self._slots.all if slot.name])
        self._out.append(MessageStop(stop, sequence if stop is Stop.STOP_SEQUENCE else None))

    # --- chunks ---

    def _chunk(self, chunk: WireAnswer, data: bytes) -> None:
        if chunk.is_error:
            self._fail(data)
            return
        if chunk.choices:
            for choice in chunk.choices:
                if not choice.index:
                    if not self._has_started:
                        self._start(chunk)
                    self._choice(chunk, choice)
                    break
            if self._is_over:
                return
        counted = self._counted(chunk)
        if counted is not None:
            self._out.append(UsageUpdate(counted))

    def _counted(self, chunk: WireAnswer) -> Usage | None:
        """Return the counts of a chunk if they are news; some hosts send them with every chunk."""
        if chunk.usage == NULL and chunk.x_groq is None and not (chunk.choices and chunk.choices[0].usage != NULL):
            return None
        if chunk.usage != NULL:
            if chunk.usage == self._usage_spelling:
                return None
            self._usage_spelling = chunk.usage
        usage = self._usage.merge(chunk.counted)
        if usage == self._usage:
            return None
        self._usage = usage
        return usage

    def _start(self, chunk: WireAnswer) -> None:
        if self._has_started:
            return
        self._has_started = True
        answer_id = chunk.id if isinstance(chunk.id, str) else ""
        model = chunk.model if isinstance(chunk.model, str) else ""
        self._out.append(MessageStart(answer_id, model, chunk.created_at))

    def _choice(self, chunk: WireAnswer, choice: WireChoice) -> None:
        delta = choice.delta
        if delta is not None:
            self._delta(delta, None if choice.logprobs == NULL else logprobs_of(choice.logprobs))
        elif choice.message is not None:
            self._whole(choice.message, choice.logprobs)
        if chunk.citations or chunk.search_results:
            self._sources = sources_of(chunk)
        reason = choice.finish
        if reason and self._finish is None:
            if is_failure(reason):
                self._fail(b"")
                return
            self._finish = stop_from(reason, choice.stop_reason)
            self._settle()

    def _whole(self, message: WireMessage, logprobs: msgspec.Raw) -> None:
        """Read a whole message in the place of a delta: the answer at once, or a copy of what came in pieces."""
        calls = [call for place, call in enumerate(message.tool_calls or ()) if not self._slots.has(place, call)]
        has_thinking = _THINKING in self._seen
        new = WireMessage(
            content=None if _TEXT in self._seen else message.content,
            reasoning_content=None if has_thinking else message.plain_reasoning,
            reasoning_details=None if has_thinking else message.reasoning_details,
            refusal=None if DeltaKind.REFUSAL in self._seen else message.refusal,
            tool_calls=calls,
            function_call=None if self._slots.all else message.function_call,
            annotations=message.annotations,
            audio=None if self._speech else message.audio,
            images=message.images,
        )
        self._delta(new, None if logprobs == NULL else logprobs_of(logprobs))

    # --- deltas ---

    def _delta(self, delta: WireMessage, logprobs: msgspec.Raw | None) -> None:
        reasoning = delta.plain_reasoning
        if reasoning or delta.reasoning_details:
            self._reason(reasoning, delta.reasoning_details or ())
        content = delta.content
        if content.__class__ is str:
            if content or logprobs is not None:
                self._text(content, logprobs)
        elif content is not None:
            self._parts(pieces_of(content))
        if delta.refusal:
            self._say(DeltaKind.REFUSAL, delta.refusal)
        if delta.annotations and self._open is _TEXT:
            for raw in delta.annotations:
                self._out.append(BlockDelta(self._index, DeltaKind.CITATION, citation_of(raw)))
        if delta.tool_calls:
            for wire in delta.tool_calls:
                self._call(wire)
        if delta.function_call is not None:
            self._call(WireCall(index=0, function=delta.function_call))
        if delta.images or delta.audio is not None:
            self._show(delta)

    def _show(self, delta: WireMessage) -> None:
        for image in delta.images or ():
            media = image_of(image)
            if media is not None:
                self._put(media)
        if delta.audio is not None:
            self._speech.append(delta.audio)

    def _text(self, text: str, logprobs: msgspec.Raw | None) -> None:
        if self._inline is None:
            if text or self._open is _TEXT:
                self._say(_TEXT, text, logprobs)
            return
        if logprobs is not None:
            self._held_logprobs.append(logprobs)
        self._say_inline(self._inline.feed(text))

    def _say_inline(self, pieces: list[tuple[bool, str]]) -> None:
        for is_thinking, text in pieces:
            if is_thinking:
                self._say(_THINKING, text)
                continue
            self._inline = None  # only the start of the content can hold reasoning
            self._say(_TEXT, text, join_lists(self._held_logprobs) if self._held_logprobs else None)
            self._held_logprobs.clear()

    def _end_inline(self) -> None:
        if self._inline is not None:
            pieces = self._inline.close()
            self._inline = None
            self._say_inline(pieces)

    def _parts(self, pieces: list[tuple[bool, str] | Media]) -> None:
        self._end_inline()
        for piece in pieces:
            if isinstance(piece, Media):
                self._put(piece)
            else:
                self._say(_THINKING if piece[0] else _TEXT, piece[1])

    def _reason(self, plain: str, elements: Iterable[msgspec.Raw]) -> None:
        """Take reasoning, which hosts send as text, as elements, or both with the same words."""
        self._end_inline()
        details = details_of(elements)
        if plain and not any(detail.text for detail, _ in details):
            self._say(_THINKING, plain)
        for detail, number in details:
            if detail.redacted:
                self._put(detail)
                continue
            if detail.token is not None and self._open is _THINKING and "".join(self._thought) == detail.text:
                detail = msgspec.structs.replace(detail, text="")  # noqa: PLW2901 - said already, in pieces
            is_next = number is not None and self._detail_number not in (None, number)
            self._detail_number = number
            if self._open is not _THINKING or (is_next and detail.text):
                head = msgspec.structs.replace(detail, text="", token=None)
                self._begin(_THINKING, head)
            if detail.text:
                self._say(_THINKING, detail.text)
            if detail.token is None:
                continue
            if self._queue:
                self._put(msgspec.structs.replace(detail, text=""))
            else:
                self._out.append(BlockDelta(self._index, DeltaKind.TOKEN, detail.token))

    # --- blocks ---

    def _say(self, kind: DeltaKind, text: str, logprobs: msgspec.Raw | None = None) -> None:
        if self._open is kind:
            if kind is _THINKING:
                self._thought.append(text)
            self._out.append(BlockDelta(self._index, kind, text, logprobs))
            return
        if not self._queue:
            self._begin(kind, _HEADS[kind])
            if kind is _THINKING:
                self._thought.append(text)
            self._out.append(BlockDelta(self._index, kind, text, logprobs))
            return
        last = self._queue[-1]
        if not isinstance(last, _Said) or last.kind is not kind:
            last = _Said(kind)
            self._queue.append(last)
        last.pieces.append((text, logprobs))
        self._seen.add(kind)
        self._advance()

    def _begin(self, kind: DeltaKind, head: Block) -> None:
        """Open a block, unless calls are waiting."""
        if self._queue:
            return
        self._stop_open()
        self._index += 1
        self._open = kind
        self._seen.add(kind)
        self._thought = []
        self._out.append(BlockStart(self._index, head))

    def _stop_open(self) -> None:
        if self._open is not None:
            self._open = None
            self._out.append(BlockStop(self._index))

    def _put(self, block: Block) -> None:
        """Write a block that comes whole."""
        if self._queue:
            self._queue.append(block)
            self._advance()
        else:
            self._write(block)

    def _write(self, block: Block) -> None:
        self._stop_open()
        self._index += 1
        self._out += (BlockStart(self._index, block), BlockStop(self._index))

    # --- calls ---

    def _call(self, wire: WireCall) -> None:
        slot, is_new = self._slots.take(wire)
        if is_new:
            self._end_inline()
            self._queue.append(slot)
        if not slot.is_closed:
            self._advance()

    def _advance(self, *, is_final: bool = False) -> None:
        """Write what the queue allows."""
        queue = self._queue
        while queue:
            item = queue[0]
            if isinstance(item, Slot):
                if not self._advance_call(item, is_final=is_final):
                    return
                queue.popleft()
                continue
            queue.popleft()
            if isinstance(item, _Said):
                waiting, self._queue = self._queue, deque()
                for text, logprobs in item.pieces:
                    self._say(item.kind, text, logprobs)
                self._queue = waiting
            else:
                self._write(item)

    def _advance_call(self, slot: Slot, *, is_final: bool) -> bool:
        """Write what has come of the first call; return whether it is done with."""
        if not slot.name:
            return is_final  # nobody could run it
        if is_final:
            slot.finish()
        if slot.index < 0:
            self._stop_open()
            self._index += 1
            slot.index = self._index
            self._open = _ARGUMENTS
            self._out.append(BlockStart(self._index, ToolCall(slot.id, slot.name, "", slot.kind)))
        for fragment in slot.fragments[slot.sent :]:
            self._out.append(BlockDelta(slot.index, _ARGUMENTS, fragment))
        slot.sent = len(slot.fragments)
        if not is_final and (len(self._queue) < 2 or not slot.is_whole):
            return False
        slot.finish()
        for fragment in slot.fragments[slot.sent :]:
            self._out.append(BlockDelta(slot.index, _ARGUMENTS, fragment))
        if slot.token is not None:
            self._out.append(BlockDelta(slot.index, DeltaKind.TOKEN, slot.token))
        slot.is_closed = True
        self._stop_open()
        return True

    def _settle(self) -> None:
        """The answer has finished: write all that is held, and stop the open block."""
        self._end_inline()
        self._advance(is_final=True)
        if self._open is _TEXT:
            for citation in self._sources:
                self._out.append(BlockDelta(self._index, DeltaKind.CITATION, citation))
            self._sources = ()
        speech = _joined_speech(self._speech)
        self._speech = []
        if speech is not None:
            self._put(speech)
        self._stop_open()


def _joined_speech(pieces: list[WireAudio]) -> Media | None:
    """Return what was spoken; each piece is base64 of its own."""
    sound: list[bytes] = []
    for piece in pieces:
        try:
            sound.append(b64decode(piece.data or "", validate=True))
        except binascii.Error:
            raise UpstreamProtocolError("The provider sent audio that is not base64.") from None
    whole = WireAudio(
        id=next((piece.id for piece in pieces if piece.id), None),
        data=b64encode(b"".join(sound)).decode(),
        transcript="".join(piece.transcript or "" for piece in pieces) or None,
        expires_at=next((piece.expires_at for piece in reversed(pieces) if piece.expires_at), None),
    )
    return audio_of(whole)
