"""Events to a Chat Completions stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import CallKind, Citation, Media, Refusal, Text, Thinking, Token, ToolCall
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
from omniroute.formats.openai_chat.answer_renderer import annotations_of, answer_id, call_head, is_shown, media_members
from omniroute.formats.openai_chat.errors import render_in_stream
from omniroute.formats.openai_chat.finish import finish_for
from omniroute.formats.openai_chat.message_renderer import signature_of
from omniroute.formats.openai_chat.reasoning_details import detail_of
from omniroute.formats.openai_chat.request_parser import has_legacy_calls
from omniroute.formats.openai_chat.usage import render_usage
from omniroute.formats.usage import NOT_REPORTED, Usage

DONE: Final = b"data: [DONE]\n\n"

_TEXT: Final = DeltaKind.TEXT
_THINKING: Final = DeltaKind.THINKING
_ARGUMENTS: Final = DeltaKind.ARGUMENTS
_encode: Final = msgspec.json.Encoder().encode
_LINE_ENDS: Final = b"\r\n"
"""Between the members of JSON as a provider spaced it; a frame is one line."""


class Renderer:
    """See :class:`omniroute.formats.codec.StreamRenderer`."""

    __slots__ = (
        "_after",
        "_before",
        "_call",
        "_citations",
        "_first",
        "_has_arguments",
        "_has_refusal",
        "_head",
        "_include_usage",
        "_is_done",
        "_is_legacy",
        "_length",
        "_reply",
        "_start",
        "_thinking",
        "_thinking_count",
        "_usage",
    )

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._is_legacy = has_legacy_calls(reply.request.extra)
        self._include_usage = reply.request.include_usage
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
            _encode(answer_id(reply)),
            reply.created,
            _encode(reply.model),
        )
        usage = b',"usage":null' if self._include_usage else b""
        self._before = self._head + b'{"index":0,"delta":{'
        self._after = b'},"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        self._call = -1
        """Number of the open call among the calls, as the format counts them."""
        self._first: ToolCall | None = None
        self._has_arguments = False
        self._has_refusal = False
        self._thinking: list[str] = []
        self._thinking_count = 0
        self._citations: list[Citation] = []
        self._start = 0
        self._length = 0
        self._usage: Usage = NOT_REPORTED
        self._is_done = False

    def render(self, events: Sequence[Event]) -> bytes:
        """See :class:`StreamRenderer`."""
        if len(events) == 1:
            return self._frame(events[0])
        return b"".join([self._frame(event) for event in events])

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """See :class:`StreamRenderer`."""
        del request_id  # this dialect carries it in a header only
        if self._is_done:
            return b""
        self._is_done = True
        return render_in_stream(error)

    def _frame(self, event: Event) -> bytes:
        if isinstance(event, BlockDelta):  # nearly all are
            return self._delta(event, event.kind)
        match event:
            case BlockStart():
                return self._block_start(event)
            case BlockStop():
                return self._block_stop()
            case MessageStart(usage=usage):
                if usage is not None:
                    self._usage = self._usage.merge(usage)
                return self._chunk(b'"role":"assistant","content":"","refusal":null')
            case UsageUpdate(usage=usage):
                self._usage = self._usage.merge(usage)
                return b""
            case MessageStop():
                return self._message_stop(event)
            case StreamError() | Ping():
                return b""

    def _chunk(self, members: bytes) -> bytes:
        return b"%b%b%b" % (self._before, members, self._after)

    def _members(self, members: dict[str, Any]) -> bytes:
        return self._chunk(_encode(members)[1:-1].translate(None, _LINE_ENDS)) if members else b""

    # --- deltas ---

    def _delta(self, event: BlockDelta, kind: DeltaKind) -> bytes:
        value = event.value
        if isinstance(value, str):
            if kind is _TEXT:
                return self._text(value, event.logprobs)
            if kind is _THINKING:
                self._thinking.append(value)
                return b'%b"reasoning_content":%b%b' % (self._before, _encode(value), self._after)
            if kind is _ARGUMENTS:
                return self._arguments(value)
            return self._chunk(b'"refusal":' + _encode(value))
        if isinstance(value, Token):
            return self._token(value)
        self._citations.append(value)
        return b""

    def _text(self, text: str, logprobs: msgspec.Raw | None) -> bytes:
        self._length += len(text)
        if logprobs is None:
            return b'%b"content":%b%b' % (self._before, _encode(text), self._after)
        after = self._after.replace(b"null", b'{"content":%b,"refusal":null}' % _on_one_line(logprobs), 1)
        return b'%b"content":%b%b' % (self._before, _encode(text), after)

    def _arguments(self, text: str) -> bytes:
        if self._first is None:
            return b""  # a second call, for which the old form has no room
        self._has_arguments = self._has_arguments or bool(text.strip())
        if self._is_legacy:
            return b'%b"function_call":{"arguments":%b}%b' % (self._before, _encode(text), self._after)
        if self._first.kind is CallKind.CUSTOM:
            return b'%b"tool_calls":[{"index":%d,"custom":{"input":%b}}]%b' % (
                self._before,
                self._call,
                _encode(text),
                self._after,
            )
        return b'%b"tool_calls":[{"index":%d,"function":{"arguments":%b}}]%b' % (
            self._before,
            self._call,
            _encode(text),
            self._after,
        )

    def _token(self, token: Token) -> bytes:
        if not is_shown(token):
            return b""
        if self._first is not None:
            call = {"index": self._call, "extra_content": signature_of(token)}
            return b"" if self._is_legacy else self._members({"tool_calls": [call]})
        thinking = Thinking("".join(self._thinking), token)
        return self._members({"reasoning_details": [detail_of(thinking, self._thinking_count - 1)]})

    # --- blocks ---

    def _block_start(self, event: BlockStart) -> bytes:
        self._first = None
        match event.block:
            case Text(text=text):
                self._start = self._length
                self._citations = list(event.block.citations)
                return self._text(text, event.block.logprobs) if text else b""
            case Thinking() as thinking:
                self._thinking = [thinking.text] if thinking.text else []
                self._thinking_count += 1
                if thinking.redacted or thinking.token is not None:
                    shown = is_shown(thinking.token)
                    detail = [detail_of(thinking, self._thinking_count - 1)]
                    return self._members({"reasoning_details": detail} if shown else {})
                return self._members({"reasoning_content": thinking.text} if thinking.text else {})
            case ToolCall() as call:
                return self._call_start(call)
            case Refusal(text=text):
                self._has_refusal = True
                return self._members({"refusal": text} if text else {})
            case Media() as media:
                return self._members(media_members(media, self._reply))
            case _:
                return b""

    def _call_start(self, call: ToolCall) -> bytes:
        self._call += 1
        if self._is_legacy and self._call > 0:
            return b""
        self._first = call
        self._has_arguments = False
        if self._is_legacy:
            head = self._members({"function_call": {"name": call.name, "arguments": ""}})
        else:
            head = self._members({"tool_calls": [{"index": self._call, **call_head(call)}]})
        if call.arguments:
            head += self._arguments(call.arguments)
        return head + self._token(call.token) if call.token is not None else head

    def _block_stop(self) -> bytes:
        frames = b""
        if self._first is not None and not self._has_arguments and self._first.kind is CallKind.FUNCTION:
            frames = self._arguments("{}")  # what no arguments mean, for clients that parse them
        self._first = None
        if self._citations:
            annotations = annotations_of(self._citations, self._start, self._length)
            self._citations = []
            frames += self._members({"annotations": annotations} if annotations else {})
        return frames

    def _message_stop(self, event: MessageStop) -> bytes:
        if self._is_done:
            return b""
        self._is_done = True
        reason = finish_for(event.stop, has_refusal=self._has_refusal, is_legacy=self._is_legacy)
        frames = self._chunk(b"").replace(b'"finish_reason":null', b'"finish_reason":"%b"' % reason.encode(), 1)
        if self._include_usage:
            usage = render_usage(self._usage)
            frames += b'%b],"usage":%b}\n\n' % (self._head, _encode(usage))
        return frames + self._reply.trailer(self._usage) + DONE


def _on_one_line(spelt: msgspec.Raw) -> bytes:
    return bytes(spelt).translate(None, _LINE_ENDS)
