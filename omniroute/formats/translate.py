"""Compose the halves: a request of one format as a request of another, and the answer the same way back.

Pure. What needs the network (fetching an image for a target that takes no URLs) or a store (reasoning that the client's
format could not carry) is asked for by the gateway before, and handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from omniroute.errors import OmniRouteError, UnsupportedFeature, UpstreamProtocolError
from omniroute.formats.anthropic_messages import request_parser as messages_request_parser
from omniroute.formats.anthropic_messages import request_renderer as messages_request_renderer
from omniroute.formats.anthropic_messages import response as messages_response
from omniroute.formats.anthropic_messages import stream_parser as messages_stream_parser
from omniroute.formats.canonical import Answer, Request, Stop, Text, Thinking, Token, ToolCall
from omniroute.formats.changes import Changes
from omniroute.formats.codec import (
    AnswerParser,
    Pause,
    RequestParser,
    RequestRenderer,
    StreamParser,
    StreamRenderer,
    no_pause,
)
from omniroute.formats.estimates import Estimates
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Event,
    MessageStart,
    MessageStop,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.fold import Folder, unfold
from omniroute.formats.gemini import request_parser as gemini_request_parser
from omniroute.formats.gemini import request_renderer as gemini_request_renderer
from omniroute.formats.gemini import response as gemini_response
from omniroute.formats.gemini import stream_parser as gemini_stream_parser
from omniroute.formats.losses import CLIENT_WORDS, Losses, unsupported
from omniroute.formats.ollama import request_parser as ollama_request_parser
from omniroute.formats.ollama import request_renderer as ollama_request_renderer
from omniroute.formats.ollama import response as ollama_response
from omniroute.formats.ollama import stream_parser as ollama_stream_parser
from omniroute.formats.openai_chat import request_parser as chat_request_parser
from omniroute.formats.openai_chat import request_renderer as chat_request_renderer
from omniroute.formats.openai_chat import response as chat_response
from omniroute.formats.openai_chat import stream_parser as chat_stream_parser
from omniroute.formats.openai_responses import request_parser as responses_request_parser
from omniroute.formats.openai_responses import request_renderer as responses_request_renderer
from omniroute.formats.openai_responses import response as responses_response
from omniroute.formats.openai_responses import stream_parser as responses_stream_parser
from omniroute.formats.prepare import prepare
from omniroute.formats.profile import Profile
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.way_back import WayBack
from omniroute.formats.wire import WireFormat

_MAX_HELD_BYTES: Final = 4 << 20
_NULL: Final = msgspec.Raw(b"null")

FILTERED: Final = "content_filter"
_ENDS_FILTERED: Final = frozenset({WireFormat.ANTHROPIC_MESSAGES, WireFormat.OPENAI_RESPONSES, WireFormat.GEMINI})

ThinkingOf = Callable[[str], tuple[str, Token | None] | None]
"""Tool-call id to the reasoning that the gateway kept for it."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """What it takes to speak a format to a provider."""

    parse_request: RequestParser
    render_request: RequestRenderer
    parse_answer: AnswerParser
    new_parser: Callable[[], StreamParser]


UPSTREAMS: Final[Mapping[WireFormat, Upstream]] = {
    WireFormat.OPENAI_CHAT: Upstream(
        chat_request_parser.parse_request,
        chat_request_renderer.render_request,
        chat_response.parse_answer,
        chat_stream_parser.Parser,
    ),
    WireFormat.OPENAI_RESPONSES: Upstream(
        responses_request_parser.parse_request,
        responses_request_renderer.render_request,
        responses_response.parse_answer,
        responses_stream_parser.Parser,
    ),
    WireFormat.ANTHROPIC_MESSAGES: Upstream(
        messages_request_parser.parse_request,
        messages_request_renderer.render_request,
        messages_response.parse_answer,
        messages_stream_parser.Parser,
    ),
    WireFormat.GEMINI: Upstream(
        gemini_request_parser.parse_request,
        gemini_request_renderer.render_request,
        gemini_response.parse_answer,
        gemini_stream_parser.Parser,
    ),
    WireFormat.OLLAMA: Upstream(
        ollama_request_parser.parse_request,
        ollama_request_renderer.render_request,
        ollama_response.parse_answer,
        ollama_stream_parser.Parser,
    ),
}


@dataclass(frozen=True, slots=True)
class TranslatedRequest:
    """A request in the target's format, with what was left out and what the answer has to be turned back by."""

    body: bytes
    request: Request
    changes: Changes
    losses: Losses


def translate_request(
    request: Request, profile: Profile, *, thinking_of: ThinkingOf, pause: Pause = no_pause
) -> TranslatedRequest:
    """Return the body for a target.

    Raises:
        UnsupportedFeature: the target cannot say something that must not be dropped.
    """
    _refuse_foreign_state(request, profile)
    losses = Losses(profile.format)
    try:
        prepared, changes = prepare(request, profile, losses, thinking_of=thinking_of, pause=pause)
        pause()
        body = UPSTREAMS[profile.format].render_request(prepared, profile, losses, pause)
    except UnsupportedFeature as refusal:
        if refusal.param is not None:
            refusal.param = CLIENT_WORDS[request.origin].get(refusal.param, refusal.param)
        raise
    return TranslatedRequest(body, prepared, changes, losses)


_STATE: Final[Mapping[WireFormat, tuple[str, ...]]] = {
    WireFormat.OPENAI_RESPONSES: ("conversation", "prompt"),
    WireFormat.ANTHROPIC_MESSAGES: ("container", "mcp_servers"),
    WireFormat.GEMINI: ("cachedContent", "cached_content"),
}
"""Members by format that name what only its own vendor has stored or can reach."""


def _refuse_foreign_state(request: Request, profile: Profile) -> None:
    if request.origin is profile.format:
        return
    for member in _STATE.get(request.origin, ()):
        if bytes(request.extra.get(member, _NULL)) != b"null":
            raise unsupported(member, f"What '{member}' refers to is known to its own vendor only, not to this model.")
    if request.previous_id is not None:
        raise unsupported("previous_response_id", "'previous_response_id' cannot be continued with this model.")


class ErrorInside(Exception):
    """A provider's error object where an answer was expected; `data` is its JSON."""

    def __init__(self, data: bytes) -> None:
        super().__init__("error inside")
        self.data = data


def read_answer(body: bytes, upstream: WireFormat, way_back: WayBack, *, is_stream: bool = False) -> Answer:
    """Return a provider's answer in the client's terms, whether it came whole or, unasked, as a stream.

    Raises:
        ErrorInside: it is an error object.
        UpstreamProtocolError: it is not an answer of the format.
    """
    if is_stream:
        parser = UPSTREAMS[upstream].new_parser()
        folder = Folder(upstream)
        events = parser.feed(body)
        events += parser.close()
        for event in events:
            if isinstance(event, StreamError) and event.data:
                raise ErrorInside(event.data)
        folder.see(events)
        return way_back.answer(folder.answer())
    answer = UPSTREAMS[upstream].parse_answer(body)
    if answer is None:
        raise ErrorInside(body)
    return way_back.answer(answer)


class Whole:
    """Parses nothing: a whole answer where a stream was asked for, as the parser of a stream that comes at once."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def feed(self, data: bytes) -> list[Event]:
        """Return all events of the answer, whatever the bytes."""
        del data
        return list(unfold(self._answer))

    def close(self) -> list[Event]:
        """See :class:`StreamParser`."""
        return []


class Turning(Protocol):
    """What turns the events of a provider into those that the client sees: a way back, or a seam."""

    @property
    def client(self) -> WireFormat:
        """The format that the client speaks."""
        ...

    def events(self, events: list[Event]) -> list[Event]:
        """Return what the client is to see of these events."""
        ...


class TranslatedStream:
    """A stream on its way from an upstream format to a client's; the same face as a passthrough stream.

    Attributes:
        has_content: the first content has been seen; from then on :meth:`feed` returns frames.
        is_complete: the terminal event has been rendered.
        is_finished: as `is_complete`; a translated stream needs no marker that could be missing.
        error: data of an error event, as the provider sent it; b"" when the stream broke off.
    """

    is_verbatim = False
    """Errors of the provider must be rendered for the client."""

    def __init__(
        self,
        parser: StreamParser,
        renderer: StreamRenderer,
        way_back: Turning,
        estimates: Estimates,
        on_events: Callable[[list[Event]], None] | None = None,
    ) -> None:
        """`on_events` sees what the client is going to see, for whoever has to remember it."""
        self.has_content = False
        self.is_complete = False
        self.is_finished = False
        self.error: bytes | None = None
        self.usage: Usage = NOT_REPORTED
        self._parser = parser
        self._renderer = renderer
        self._way_back: Turning = way_back
        self._estimates = estimates
        self._on_events = on_events
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._open: int | None = None
        self._is_calling = False

    @property
    def spoken(self) -> int:
        """Characters of text, reasoning and arguments so far."""
        return self._estimates.characters

    def go_on(self, parser: StreamParser, way_back: Turning, open_block: int) -> None:
        """Let another provider's stream end this answer, which has broken off in a block."""
        self._parser, self._way_back = parser, way_back
        self.has_content = True
        self.error = None
        self._open = open_block

    def feed(self, data: bytes) -> bytes:
        """Take bytes that arrived, return whole frames for the client; none before the first content.

        Raises:
            UpstreamProtocolError: the bytes cannot be the format.
        """
        return self._take(self._parser.feed(data))

    def end(self) -> bytes:
        """The provider's bytes have ended: return the last frames.

        Raises:
            UpstreamProtocolError: they ended in the middle of the answer.
        """
        events = self._parser.close()
        if events and isinstance(events[-1], StreamError) and not events[-1].data:
            # What stands before it was cut in the middle: the client does not get it, and nobody may count it.
            self.error = b""
            raise UpstreamProtocolError("The provider's stream broke off in the middle of its answer.")
        return self._take(events)

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the frames that end the stream with an error.

        Being stopped by a filter is an end of its own in most formats.
        """
        is_end = self.has_content and not self._is_calling and self._way_back.client in _ENDS_FILTERED
        if error.error_code == FILTERED and is_end:
            events: list[Event] = [] if self._open is None else [BlockStop(self._open)]
            return self._renderer.render([*events, MessageStop(Stop.REFUSAL)])
        return self._renderer.fail(error, request_id)

    def raw_error(self, data: bytes) -> bytes:
        """Refuse: the provider's words are not in the client's dialect."""
        raise AssertionError("a translated stream has no verbatim errors")

    def _take(self, events: list[Event]) -> bytes:
        if not events or self.is_complete:
            return b""
        events = self._estimates.events(self._way_back.events(events))
        self._see(events)
        if self.error is not None and not self.has_content:
            return b""
        if self._on_events is not None:
            self._on_events(events)
        frames = self._renderer.render(events)
        if self.has_content:
            if self._held:
                self._held.append(frames)
                frames = b"".join(self._held)
                self._held.clear()
            return frames
        self._held_bytes += len(frames)
        if self._held_bytes > _MAX_HELD_BYTES:
            raise UpstreamProtocolError("The provider sent 4 MiB without any content.")
        self._held.append(frames)
        return b""

    def _see(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is BlockDelta:  # nearly all are
                self.has_content = True
                continue
            match event:
                case BlockStop():
                    self._open, self._is_calling = None, False
                case BlockStart(index=index, block=block):
                    self._open, self._is_calling = index, isinstance(block, ToolCall)
                    # An empty text or thinking block promises content; any other block is content by itself.
                    if not (isinstance(block, Text | Thinking) and not block.text):
                        self.has_content = True
                case UsageUpdate(usage=usage):
                    self.usage = self.usage.merge(usage)
                case MessageStart(usage=usage):
                    if usage is not None:
                        self.usage = self.usage.merge(usage)
                case MessageStop():
                    self.has_content = True  # an answer without any content is committed by its end
                    self.is_complete = self.is_finished = True
                case StreamError(data=data):
                    self.error = data
                case _:
                    pass
