"""Events to a stream of text completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import Refusal, Text
from omniroute.formats.codec import Reply
from omniroute.formats.events import BlockDelta, BlockStart, DeltaKind, Event, MessageStart, MessageStop, UsageUpdate
from omniroute.formats.openai_chat.usage import render_usage
from omniroute.formats.openai_completions.errors import render_in_stream
from omniroute.formats.openai_completions.response import answer_id, echo_of, finish_of, legacy_logprobs
from omniroute.formats.usage import NOT_REPORTED, Usage

_SAID: Final = frozenset({DeltaKind.TEXT, DeltaKind.REFUSAL})
_DONE: Final = b"data: [DONE]\n\n"
_encode: Final = msgspec.json.Encoder().encode


class Renderer:
    """See :class:`omniroute.formats.codec.StreamRenderer`. Reasoning and calls have no place in the format."""

    __slots__ = ("_after", "_before", "_echo", "_head", "_include_usage", "_is_done", "_length", "_reply", "_usage")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._echo = echo_of(reply)
        self._include_usage = reply.request.include_usage
        self._head = b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":[' % (
            _encode(answer_id(reply)),
            reply.created,
            _encode(reply.model),
        )
        self._before = self._head + b'{"index":0,"text":'
        self._after = b'}],"usage":null}\n\n' if self._include_usage else b"}]}\n\n"
        self._length = 0
        self._usage: Usage = NOT_REPORTED
        self._is_done = False

    def render(self, events: Sequence[Event]) -> bytes:
        """See :class:`StreamRenderer`."""
        return b"".join([self._frame(event) for event in events])

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """See :class:`StreamRenderer`."""
        del request_id  # this dialect carries it in a header only
        if self._is_done:
            return b""
        self._is_done = True
        return render_in_stream(error)

    def _frame(self, event: Event) -> bytes:
        match event:
            case BlockDelta(kind=kind, value=str() as text, logprobs=logprobs) if kind in _SAID:
                return self._text(text, logprobs)
            case BlockStart(block=Text(text=text, logprobs=logprobs)):
                return self._text(text, logprobs) if text else b""
            case BlockStart(block=Refusal(text=text)):
                return self._text(text, None) if text else b""
            case MessageStart(usage=usage):
                if usage is not None:
                    self._usage = self._usage.merge(usage)
                return self._text(self._echo, None) if self._echo else b""
            case UsageUpdate(usage=usage):
                self._usage = self._usage.merge(usage)
                return b""
            case MessageStop(stop=stop):
                return self._stop(finish_of(stop))
            case _:
                return b""

    def _text(self, text: str, logprobs: msgspec.Raw | None) -> bytes:
        spelt = b"null"
        if logprobs is not None:
            spelt = _encode(legacy_logprobs(logprobs, self._length))
        self._length += len(text)
        return b'%b%b,"logprobs":%b,"finish_reason":null%b' % (self._before, _encode(text), spelt, self._after)

    def _stop(self, reason: str) -> bytes:
        if self._is_done:
            return b""
        self._is_done = True
        frames = b'%b"","logprobs":null,"finish_reason":%b%b' % (self._before, _encode(reason), self._after)
        if self._include_usage:
            frames += b'%b],"usage":%b}\n\n' % (self._head, _encode(render_usage(self._usage)))
        return frames + self._reply.trailer(self._usage) + _DONE
