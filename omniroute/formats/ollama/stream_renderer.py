"""Events to an Ollama stream. Calls are held until they are whole, since the format has no pieces of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import Block, Media, Refusal, Stop, Text, Thinking, ToolCall
from omniroute.formats.codec import Reply
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    UsageUpdate,
)
from omniroute.formats.ollama import errors
from omniroute.formats.ollama.answer_renderer import (
    call_members,
    cut_off_text,
    is_cut_off,
    is_image,
    render_time,
    text_of,
)
from omniroute.formats.ollama.stops import render_stop
from omniroute.formats.ollama.usage import render_usage
from omniroute.formats.usage import NOT_REPORTED, Usage

_encode: Final = msgspec.json.Encoder().encode


class Renderer:
    """See :class:`omniroute.formats.codec.StreamRenderer`; the stream is one of `/api/chat`."""

    __slots__ = (
        "_after",
        "_arguments",
        "_before_text",
        "_before_thinking",
        "_call",
        "_calls",
        "_head",
        "_held",
        "_usage",
    )

    def __init__(self, reply: Reply) -> None:
        self._usage: Usage = NOT_REPORTED
        self._head = _encode({"model": reply.model, "created_at": render_time(reply.created)})[:-1]
        self._before_text = self._head + self._text_member()
        self._before_thinking = self._head + self._thinking_member()
        self._after = self._text_end() + b"\n"
        self._call: ToolCall | None = None
        self._arguments: list[str] = []
        self._held: ToolCall | None = None
        """The last call, until it is clear that it was not cut off."""
        self._calls = 0

    def render(self, events: Sequence[Event]) -> bytes:
        """See :class:`omniroute.formats.codec.StreamRenderer`."""
        if len(events) == 1:
            return self._line(events[0])
        return b"".join([self._line(event) for event in events])

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """See :class:`omniroute.formats.codec.StreamRenderer`."""
        return errors.render_in_stream(error, request_id)

    # --- what differs between the two ways in ------------------------------------------------------------------------

    def _text_member(self) -> bytes:
        return b',"message":{"role":"assistant","content":'

    def _thinking_member(self) -> bytes:
        return b',"message":{"role":"assistant","content":"","thinking":'

    def _text_end(self) -> bytes:
        return b'},"done":false}'

    def _said(self, **members: Any) -> dict[str, Any]:
        """Return the members of a line that says this and no text."""
        return {"message": {"role": "assistant", "content": "", **members}}

    # --- lines -------------------------------------------------------------------------------------------------------

    def _line(self, event: Event) -> bytes:
        if type(event) is BlockDelta:
            return self._delta(event)
        match event:
            case BlockStart(block=block):
                return self._start_block(block)
            case BlockStop():
                self._stop_block()
            case UsageUpdate(usage=usage):
                self._usage = self._usage.merge(usage)
            case MessageStart(usage=usage):
                if usage is not None:
                    self._usage = self._usage.merge(usage)
            case MessageStop(stop=stop):
                return self._end(stop)
            case _:
                pass
        return b""

    def _delta(self, delta: BlockDelta) -> bytes:
        value = delta.value
        if not isinstance(value, str):
            return b""
        match delta.kind:
            case DeltaKind.TEXT | DeltaKind.REFUSAL:
                return self._text(value, delta.logprobs)
            case DeltaKind.THINKING:
                return self._thought(value)
            case _:
                self._arguments.append(value)
                return b""

    def _text(self, text: str, logprobs: msgspec.Raw | None = None) -> bytes:
        if not text:
            return b""
        if logprobs is None:
            return self._before_text + _encode(text) + self._after
        return self._whole_line(self._said_text(text) | {"logprobs": logprobs, "done": False})

    def _thought(self, text: str) -> bytes:
        return self._before_thinking + _encode(text) + self._after if text else b""

    def _said_text(self, text: str) -> dict[str, Any]:
        said = self._said()
        said["message"]["content"] = text
        return said

    def _whole_line(self, members: dict[str, Any]) -> bytes:
        # Arguments as a model spaced them, or probabilities as a provider did: between members, line ends mean nothing.
        return self._head + b"," + _encode(members)[1:].translate(None, b"\r\n") + b"\n"

    def _start_block(self, block: Block) -> bytes:
        before = self._release(Stop.TOOL_USE)
        match block:
            case ToolCall(arguments=arguments):
                self._call, self._arguments = block, [arguments]
                return before
            case Thinking(text=text):
                return before + self._thought(text)
            case Text(text=text) | Refusal(text=text):
                return before + self._text(text)
            case Media(data=data) if is_image(block):
                return before + self._whole_line(self._said(images=[data]) | {"done": False})
            case _:
                return before + self._text(text_of(block))

    def _stop_block(self) -> None:
        if self._call is not None:
            self._held = msgspec.structs.replace(self._call, arguments="".join(self._arguments))
            self._call = None

    def _release(self, stop: Stop) -> bytes:
        """Return the line of the call that was held."""
        call, self._held = self._held, None
        if call is None:
            return b""
        if is_cut_off(call, stop):
            return self._text(cut_off_text(call))
        line = self._whole_line(self._said(tool_calls=[call_members(call, self._calls)]) | {"done": False})
        self._calls += 1
        return line

    def _end(self, stop: Stop) -> bytes:
        last = self._said() | {"done_reason": render_stop(stop), "done": True, **render_usage(self._usage)}
        return self._release(stop) + self._whole_line(last)


class GenerateRenderer(Renderer):
    """The same for a stream of `/api/generate`, which has the text where a chat has its message."""

    __slots__ = ()

    def _text_member(self) -> bytes:
        return b',"response":'

    def _thinking_member(self) -> bytes:
        return b',"response":"","thinking":'

    def _text_end(self) -> bytes:
        return b',"done":false}'

    def _said(self, **members: Any) -> dict[str, Any]:
        return {"response": "", **members}

    def _said_text(self, text: str) -> dict[str, Any]:
        return {"response": text}
