"""Relay of a Chat Completions stream: `data:` chunks, a finish chunk, an optional usage chunk, `[DONE]`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from omniroute.errors import OmniRouteError, UpstreamProtocolError
from omniroute.formats.openai_chat.errors import render_in_stream
from omniroute.formats.openai_chat.usage import read_usage
from omniroute.formats.passthrough import CONTENT, PLAIN, TERMINAL, WITHHELD, PassthroughStream, Verdict
from omniroute.formats.sse import event_data
from omniroute.formats.usage import NOT_REPORTED, Usage

DONE = b"data: [DONE]\n\n"


class _Choice(msgspec.Struct):
    index: int = 0
    delta: dict[str, Any] | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None


_DECODER = msgspec.json.Decoder(_Chunk)


class ChatStream(PassthroughStream):
    """See :class:`PassthroughStream`; drops the usage chunk that the client did not ask for."""

    close_look: ClassVar[tuple[bytes, ...]] = (
        b'"usage":{',
        b'"usage": {',
        b'"finish_reason":"',
        b'"finish_reason": "',
        b"[DONE]",
        b'"error"',
    )
    said_in: ClassVar[tuple[bytes, ...]] = (
        b'"content":"',
        b'"reasoning_content":"',
        b'"reasoning":"',
        b'"arguments":"',
        b'"refusal":"',
    )
    terminal: ClassVar[bytes] = DONE
    names_model_once: ClassVar[bool] = False

    def __init__(
        self, requested_model: str | None, trailer: Callable[[Usage], bytes], *, wants_usage: bool, choices: int = 1
    ) -> None:
        """`wants_usage`: the client itself sent `stream_options.include_usage`; `choices`: how many it asked for."""
        super().__init__(requested_model, trailer)
        self._wants_usage = wants_usage
        self._choices = choices
        self._ended: set[int] = set()

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the frames that end this stream with an error of ours."""
        return render_in_stream(error)

    def raw_error(self, data: bytes) -> bytes:
        """Return the frames that end the stream with an error of the provider, as it said it."""
        return super().raw_error(data) + DONE

    def judge(self, event: bytes) -> Verdict:
        """Read one chunk: usage, finish reason, error, content."""
        data = event_data(event)
        if not data:
            return PLAIN  # a comment
        if data == b"[DONE]":
            return TERMINAL
        try:
            chunk = _DECODER.decode(data)
        except msgspec.ValidationError:
            return PLAIN  # JSON of a shape that the format does not have: the client may know more
        except msgspec.DecodeError:
            raise UpstreamProtocolError("The provider sent a chunk that is not valid JSON.") from None
        if chunk.error is not None:
            return Verdict(error=data)
        usage = read_usage(chunk.usage)
        if usage is not NOT_REPORTED:
            self.usage = self.usage.merge(usage)
            if not chunk.choices and not self._wants_usage:
                return WITHHELD  # clients that did not ask for it index choices[0]
        has_content = False
        for choice in chunk.choices or ():
            if choice.finish_reason is not None:
                self._ended.add(choice.index)
                self.is_finished = len(self._ended) >= self._choices
            if choice.delta and any(value for key, value in choice.delta.items() if key != "role"):
                has_content = True
        return CONTENT if has_content else PLAIN
