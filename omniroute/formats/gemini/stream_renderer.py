"""Events to the chunks of a stream for a Gemini client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import Block, Refusal, Text, Thinking, Token, ToolCall
from omniroute.formats.codec import Reply
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    Ping,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.gemini.answer_renderer import (
    NOTHING,
    Part,
    call_part,
    ending,
    object_of_call,
    part_for,
    shows_thoughts,
)
from omniroute.formats.gemini.chunk import compact
from omniroute.formats.gemini.citations import grounding_for
from omniroute.formats.gemini.errors import render_in_stream
from omniroute.formats.gemini.usage import usage_fields
from omniroute.formats.usage import NOT_REPORTED, Usage

_HEAD: Final = b'data: {"candidates":[{"content":{"role":"model","parts":['
_TEXT: Final = _HEAD + b'{"text":'
_THOUGHT_END: Final = b',"thought":true'
_encode: Final = msgspec.json.Encoder().encode


class Renderer:
    """See :class:`omniroute.formats.codec.StreamRenderer`.

    A call is held until it is complete and sent as one part; there is no frame for the start of an answer, and nothing
    but chunks may stand in the stream.
    """

    __slots__ = (
        "_cited",
        "_held",
        "_open",
        "_shows_thoughts",
        "_tail",
        "_text_end",
        "_thinking_end",
        "_token",
        "_torn",
        "_usage",
    )

    def __init__(self, reply: Reply) -> None:
        names = b'"modelVersion":' + _encode(reply.model) + b',"responseId":' + _encode(reply.answer_id or reply.id)
        self._tail = b',"index":0}],' + names + b"}\n\n"
        after = b'}]},"index":0}],' + names + b"}\n\n"
        self._text_end = after
        self._thinking_end = _THOUGHT_END + after
        self._shows_thoughts = shows_thoughts(reply)
        self._open: Block | None = None
        self._held: list[str] = []
        """Pieces of the open call's arguments, or of a text for which sources are given."""
        self._token: Token | None = None
        self._torn: ToolCall | None = None
        self._cited: list[Text] = []
        self._usage: Usage = NOT_REPORTED

    def render(self, events: Sequence[Event]) -> bytes:
        """Return the chunks of these events."""
        frames: list[bytes] = []
        for event in events:
            frame = b""
            match event:
                case BlockDelta():
                    frame = self._delta(event)
                case BlockStart(block=block):
                    frame = self._start(block)
                case BlockStop():
                    frame = self._stop()
                case UsageUpdate(usage=usage):
                    self._usage = self._usage.merge(usage)
                case MessageStart(usage=usage):
                    if usage is not None:
                        self._usage = self._usage.merge(usage)
                case MessageStop():
                    frame = self._end(event)
                case StreamError() | Ping():
                    pass  # the one ends the stream through `fail`, the other has no frame
            if frame:
                frames.append(frame)
        return b"".join(frames)

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the error; a call that has not been completed is never sent."""
        return render_in_stream(error, request_id)

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _start(self, block: Block) -> bytes:
        self._open = block
        self._held = []
        if isinstance(block, Thinking):
            if not self._shows_thoughts:
                return b""
            self._token = block.token
            return self._part(part_for(block)) if block.redacted else b""
        if isinstance(block, ToolCall):
            self._token = block.token
            return b""
        if isinstance(block, Text | Refusal):
            return b""
        return self._part(part_for(block))

    def _delta(self, delta: BlockDelta) -> bytes:
        value = delta.value
        match delta.kind:
            case DeltaKind.TEXT | DeltaKind.REFUSAL if isinstance(value, str):
                self._held.append(value)
                return _TEXT + _encode(value) + self._text_end if value else b""
            case DeltaKind.THINKING if isinstance(value, str):
                return _TEXT + _encode(value) + self._thinking_end if value and self._shows_thoughts else b""
            case DeltaKind.ARGUMENTS if isinstance(value, str):
                self._held.append(value)
            case DeltaKind.TOKEN if isinstance(value, Token):
                self._token = value
            case DeltaKind.CITATION if isinstance(self._open, Text) and not isinstance(value, str | Token):
                self._open = msgspec.structs.replace(self._open, citations=(*self._open.citations, value))
            case _:
                pass
        return b""

    def _stop(self) -> bytes:
        block, token = self._open, self._token
        self._open = self._token = None
        match block:
            case Text():
                self._cited.append(msgspec.structs.replace(block, text="".join(self._held)))
            case Thinking(redacted=False) if token is not None and self._shows_thoughts:
                # The signature ends the thought: a part of its own, since the pieces before are out.
                return self._part(part_for(Thinking("", token)))
            case ToolCall():
                call = msgspec.structs.replace(block, arguments=block.arguments + "".join(self._held))
                spelt = object_of_call(call)
                if spelt is not None:
                    return self._part(call_part(block.id, block.name, spelt, token))
                self._torn = call
            case _:
                pass
        return b""

    def _end(self, event: MessageStop) -> bytes:
        candidate: dict[str, Any] = {
            "content": {"role": "model", "parts": NOTHING},
            **ending(event.stop, self._torn),
            "index": 0,
        }
        grounding = grounding_for(self._cited)
        if grounding is not None:
            candidate["groundingMetadata"] = grounding
        usage = b'],"usageMetadata":' + _encode(usage_fields(self._usage))
        return b'data: {"candidates":[' + _encode(candidate) + usage + self._tail.removeprefix(b',"index":0}]')

    def _part(self, part: Part | None) -> bytes:
        if part is None:
            return b""
        data = _encode(part)
        if b"\n" in data or b"\r" in data:  # arguments as a model spaced them; a frame is one line
            data = compact(data)
        return _HEAD + data + b"]}" + self._tail
