"""What the gateway does differently per way in: one row of facts and functions for each protocol that clients speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec

from omniroute.errors import InvalidRequest, OmniRouteError
from omniroute.formats.anthropic_messages import errors as messages_errors
from omniroute.formats.anthropic_messages import request_parser as messages_request_parser
from omniroute.formats.anthropic_messages import response as messages_response
from omniroute.formats.anthropic_messages.stream import PING, MessagesStream
from omniroute.formats.anthropic_messages.stream_renderer import Renderer as MessagesRenderer
from omniroute.formats.codec import AnswerRenderer, Reply, RequestParser, StreamRenderer
from omniroute.formats.gemini import errors as gemini_errors
from omniroute.formats.gemini import request_parser as gemini_request_parser
from omniroute.formats.gemini import response as gemini_response
from omniroute.formats.gemini.array import ArrayStream, render_in_array
from omniroute.formats.gemini.stream import GeminiStream
from omniroute.formats.gemini.stream_renderer import Renderer as GeminiRenderer
from omniroute.formats.ollama import errors as ollama_errors
from omniroute.formats.ollama import request_parser as ollama_request_parser
from omniroute.formats.ollama import response as ollama_response
from omniroute.formats.ollama.stream import OllamaStream
from omniroute.formats.ollama.stream_renderer import GenerateRenderer
from omniroute.formats.ollama.stream_renderer import Renderer as OllamaRenderer
from omniroute.formats.openai_chat import errors as chat_errors
from omniroute.formats.openai_chat import request_parser as chat_request_parser
from omniroute.formats.openai_chat import response as chat_response
from omniroute.formats.openai_chat.stream import ChatStream
from omniroute.formats.openai_chat.stream_renderer import Renderer as ChatRenderer
from omniroute.formats.openai_completions import request_parser as completions_request_parser
from omniroute.formats.openai_completions import response as completions_response
from omniroute.formats.openai_completions.stream_renderer import Renderer as CompletionsRenderer
from omniroute.formats.openai_responses import errors as responses_errors
from omniroute.formats.openai_responses import request_parser as responses_request_parser
from omniroute.formats.openai_responses import response as responses_response
from omniroute.formats.openai_responses.stream import ResponsesStream
from omniroute.formats.openai_responses.stream_renderer import Renderer as ResponsesRenderer
from omniroute.formats.splice import TopLevel
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat

Trailer = Callable[[Usage], bytes]
Edits = dict[str, bytes | None]

_COMMENT_PING: Final = b": ping\n\n"
_INCLUDE_USAGE: Final = b'{"include_usage":true}'


class Surface(StrEnum):
    """A way in: a protocol, and where one has several framings or endpoints, which."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_COMPLETIONS = "openai_completions"
    OPENAI_RESPONSES = "openai_responses"
    RESPONSES_COMPACT = "responses_compact"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    GEMINI = "gemini"
    GEMINI_ARRAY = "gemini_array"
    OLLAMA_CHAT = "ollama_chat"
    OLLAMA_GENERATE = "ollama_generate"


class RelayedStream(Protocol):
    """A stream on its way to the client: bytes of the provider in, bytes for the client out."""

    @property
    def has_content(self) -> bool:
        """Whether the first content has been seen; from then on :meth:`feed` forwards."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the terminal signal has been forwarded; nothing may follow."""
        ...

    @property
    def error(self) -> bytes | None:
        """The provider's error as it sent it, None while there is none."""
        ...

    @property
    def usage(self) -> Usage:
        """What the provider has reported so far."""
        ...

    @property
    def spoken(self) -> int:
        """About how many characters the model has generated so far: text, reasoning and arguments."""
        ...

    @property
    def is_verbatim(self) -> bool:
        """Whether the provider's error is in the client's own dialect."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Take bytes that arrived, return those to forward: always whole frames.

        Raises:
            UpstreamProtocolError: they cannot be the format.
        """
        ...

    def end(self) -> bytes:
        """The provider's bytes have ended: return what is left to forward.

        Raises:
            UpstreamProtocolError: they ended in the middle of the answer.
        """
        ...

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the frames that end the stream with an error."""
        ...

    def raw_error(self, data: bytes) -> bytes:
        """Return the frames that end a verbatim stream with an error of the provider."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way in.

    Attributes:
        conversation: top-level members of which one must be there.
        acted_on: top-level members that may not stand twice.
        model_member: the member of an answer that names the model.
        stream_member: the body says by `stream` whether to stream.
        streams_by_default: what an unsaid `stream` means.
        heartbeat: what silence is filled with; b"" sends nothing.
        quiet_heartbeat: the same for clients that take no SSE comments.
        stream_type: content type of a stream.
        new_stream: the observer of a passthrough; None for a protocol that no provider is spoken to in.
        framed: puts the frames of the format into another framing.
        sub_path: what stands behind the format's own path; only providers of the format have it.
    """

    surface: Surface
    format: WireFormat
    conversation: tuple[str, ...]
    acted_on: frozenset[str]
    parse_request: RequestParser
    render_answer: AnswerRenderer
    new_renderer: Callable[[Reply], StreamRenderer]
    status_of: Callable[[OmniRouteError], int]
    render_error: Callable[[OmniRouteError, str], bytes]
    render_in_stream: Callable[[OmniRouteError, str], bytes]
    read_answer: Callable[[bytes], tuple[Usage, bytes] | None]
    new_stream: Callable[[TopLevel, str | None, Trailer], RelayedStream] | None
    stream_edits: Callable[[TopLevel], Edits]
    model_member: str = "model"
    stream_member: bool = True
    streams_by_default: bool = False
    heartbeat: bytes = _COMMENT_PING
    quiet_heartbeat: bytes = b""
    stream_type: str = "text/event-stream; charset=utf-8"
    framed: Callable[[RelayedStream], RelayedStream] = lambda stream: stream
    sub_path: str = ""


def _stream_options(top: TopLevel) -> dict[str, Any]:
    options = top.value("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("stream_options must be an object.", param="stream_options")
    return options or {}


def _chat_stream(top: TopLevel, requested: str | None, trailer: Trailer) -> RelayedStream:
    asked = top.value("n")
    choices = asked if isinstance(asked, int) else 1
    wants_usage = bool(_stream_options(top).get("include_usage"))
    return ChatStream(requested, trailer, wants_usage=wants_usage, choices=choices)


def _chat_edits(top: TopLevel) -> Edits:
    """Ask for usage: without it a stream could not be accounted. The extra chunk is withheld from the client."""
    options = _stream_options(top)
    if options.get("include_usage"):
        return {}
    if not options:
        return {"stream_options": _INCLUDE_USAGE}
    return {"stream_options": msgspec.json.encode({**options, "include_usage": True})}


def _gemini_stream(top: TopLevel, requested: str | None, trailer: Trailer) -> RelayedStream:
    config = top.value("generationConfig") or top.value("generation_config")
    asked = (config.get("candidateCount") or config.get("candidate_count")) if isinstance(config, dict) else None
    return GeminiStream(requested, trailer, candidates=asked if isinstance(asked, int) else 1)


def _no_edits(top: TopLevel) -> Edits:
    del top
    return {}


def _without_id(render: Callable[[OmniRouteError], bytes]) -> Callable[[OmniRouteError, str], bytes]:
    """Return a renderer of errors for dialects that carry the request id in a header only."""
    return lambda error, _: render(error)


def _unread(_: bytes) -> tuple[Usage, bytes] | None:
    raise AssertionError("no provider answers in this protocol")


_CHAT: Final = Dialect(
    surface=Surface.OPENAI_CHAT,
    format=WireFormat.OPENAI_CHAT,
    conversation=("messages",),
    acted_on=frozenset({"model", "stream", "stream_options", "messages", "max_tokens", "tools"}),
    parse_request=chat_request_parser.parse_request,
    render_answer=chat_response.render_answer,
    new_renderer=ChatRenderer,
    status_of=chat_errors.status_of,
    render_error=_without_id(chat_errors.render),
    render_in_stream=_without_id(chat_errors.render_in_stream),
    read_answer=chat_response.read_answer,
    new_stream=_chat_stream,
    stream_edits=_chat_edits,
)
_GEMINI: Final = Dialect(
    surface=Surface.GEMINI,
    format=WireFormat.GEMINI,
    conversation=("contents",),
    acted_on=frozenset({"contents", "tools", "systemInstruction", "system_instruction", "generationConfig"}),
    parse_request=gemini_request_parser.parse_request,
    render_answer=gemini_response.render_answer,
    new_renderer=GeminiRenderer,
    status_of=gemini_errors.status_of,
    render_error=gemini_errors.render,
    render_in_stream=gemini_errors.render_in_stream,
    read_answer=gemini_response.read_answer,
    new_stream=_gemini_stream,
    stream_edits=_no_edits,
    model_member="modelVersion",
    stream_member=False,
    # The official client reads every line that is not data as JSON, so a comment would break it; empty lines do not.
    heartbeat=b"\n",
    quiet_heartbeat=b"\n",
)
_OLLAMA: Final = Dialect(
    surface=Surface.OLLAMA_CHAT,
    format=WireFormat.OLLAMA,
    conversation=("messages",),
    acted_on=frozenset({"model", "stream", "messages", "tools", "options"}),
    parse_request=ollama_request_parser.parse_request,
    render_answer=ollama_response.render_answer,
    new_renderer=OllamaRenderer,
    status_of=ollama_errors.status_of,
    render_error=ollama_errors.render,
    render_in_stream=ollama_errors.render_in_stream,
    read_answer=ollama_response.read_answer,
    new_stream=lambda _, requested, trailer: OllamaStream(requested, trailer),
    stream_edits=_no_edits,
    streams_by_default=True,
    heartbeat=b"",
    stream_type="application/x-ndjson",
)

_RESPONSES: Final = Dialect(
    surface=Surface.OPENAI_RESPONSES,
    format=WireFormat.OPENAI_RESPONSES,
    conversation=("input", "prompt", "previous_response_id", "conversation"),
    acted_on=frozenset(
        {"model", "stream", "input", "instructions", "max_output_tokens", "tools", "store", "background"}
        | {"previous_response_id"}
    ),
    parse_request=responses_request_parser.parse_request,
    render_answer=responses_response.render_answer,
    new_renderer=ResponsesRenderer,
    status_of=responses_errors.status_of,
    render_error=_without_id(responses_errors.render),
    render_in_stream=_without_id(responses_errors.render_in_stream),
    read_answer=responses_response.read_answer,
    new_stream=lambda _, requested, trailer: ResponsesStream(requested, trailer),
    stream_edits=_no_edits,
)

DIALECTS: Final[Mapping[Surface, Dialect]] = MappingProxyType(
    {
        Surface.OPENAI_CHAT: _CHAT,
        Surface.OPENAI_COMPLETIONS: replace(
            _CHAT,
            surface=Surface.OPENAI_COMPLETIONS,
            conversation=("prompt",),
            acted_on=frozenset({"model", "stream", "stream_options", "prompt", "max_tokens"}),
            parse_request=completions_request_parser.parse_request,
            render_answer=completions_response.render_answer,
            new_renderer=CompletionsRenderer,
            read_answer=_unread,
            new_stream=None,
        ),
        Surface.OPENAI_RESPONSES: _RESPONSES,
        Surface.RESPONSES_COMPACT: replace(
            _RESPONSES,
            surface=Surface.RESPONSES_COMPACT,
            conversation=("input", "previous_response_id"),
            stream_member=False,
            sub_path="/compact",
        ),
        Surface.ANTHROPIC_MESSAGES: Dialect(
            surface=Surface.ANTHROPIC_MESSAGES,
            format=WireFormat.ANTHROPIC_MESSAGES,
            conversation=("messages",),
            acted_on=frozenset({"model", "stream", "messages", "system", "max_tokens", "tools"}),
            parse_request=messages_request_parser.parse_request,
            render_answer=messages_response.render_answer,
            new_renderer=MessagesRenderer,
            status_of=messages_errors.status_of,
            render_error=messages_errors.render,
            render_in_stream=messages_errors.render_in_stream,
            read_answer=messages_response.read_answer,
            new_stream=lambda _, requested, trailer: MessagesStream(requested, trailer),
            stream_edits=_no_edits,
            heartbeat=PING,
            quiet_heartbeat=PING,
        ),
        Surface.GEMINI: _GEMINI,
        Surface.GEMINI_ARRAY: replace(
            _GEMINI,
            surface=Surface.GEMINI_ARRAY,
            stream_type="application/json",
            render_in_stream=render_in_array,
            framed=ArrayStream,
        ),
        Surface.OLLAMA_CHAT: _OLLAMA,
        Surface.OLLAMA_GENERATE: replace(
            _OLLAMA,
            surface=Surface.OLLAMA_GENERATE,
            conversation=("prompt",),
            acted_on=frozenset({"model", "stream", "prompt", "options"}),
            parse_request=ollama_request_parser.parse_generate_request,
            render_answer=ollama_response.render_generate_answer,
            new_renderer=GenerateRenderer,
            read_answer=_unread,
            new_stream=None,
        ),
    }
)
