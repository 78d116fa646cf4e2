"""The halves of a translation: what each format's package provides, under these names.

    <format>/request_parser.py     parse_request(body, pause) -> Request
    <format>/request_renderer.py   render_request(request, profile, losses, pause) -> bytes
    <format>/response.py           read_answer (passthrough), parse_answer(body), render_answer(answer, reply)
    <format>/stream_parser.py      class Parser: StreamParser
    <format>/stream_renderer.py    class Renderer: StreamRenderer
    <format>/stream.py             the observer of a passthrough stream
    <format>/errors.py             status_of, render, render_in_stream

`translate.py` composes them. Work that concerns all formats alike is done there, before rendering a request or after
parsing an answer, so that no parser or renderer repeats it: pairing of calls and results, ids and names of tools,
opaque tokens, media that the target cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import Answer, Request
from omniroute.formats.events import Event
from omniroute.formats.losses import Losses
from omniroute.formats.profile import Profile
from omniroute.formats.usage import Usage

Pause = Callable[[], None]
"""Called between messages while a large request is worked on, so that other requests get their turn."""


def no_pause() -> None:
    """Go on at once."""


def encoded_in_turn(items: Iterable[Any], pause: Pause) -> list[msgspec.Raw]:
    """Return the items of a long list as JSON, encoded one by one: what holds them is then put together at once."""
    encoded: list[msgspec.Raw] = []
    for item in items:
        encoded.append(msgspec.Raw(msgspec.json.encode(item)))
        pause()
    return encoded


class Reply(msgspec.Struct, frozen=True):
    """What rendering an answer needs to know beside the answer.

    Attributes:
        request: what the client asked, as parsed from its own format.
        model: the model name that the client used; answers repeat it.
        id: 32 lower-case hex digits, unique per request; ids in the answer are made from it.
        created: epoch seconds.
        trailer: comment lines for the end of a stream, made from the final usage.
        answer_id, item_ids: what the answer and its first items are called already, where somebody else began it.
    """

    request: Request
    model: str
    id: str
    created: int
    trailer: Callable[[Usage], bytes]
    answer_id: str = ""
    item_ids: tuple[str, ...] = ()


class RequestParser(Protocol):
    """A client's body to the canonical request.

    The body has been checked by `splice.scan`: it is UTF-8, a JSON object, not too deep. `model` and `stream` are set
    from the body where the format has them there; Gemini has neither and leaves "" and False.

    Raises:
        InvalidRequest, MissingField: the body is not a request of the format; `param` is the path of the fault, in the
            words of the format (`messages.3.content.0.type`).
    """

    def __call__(self, body: bytes, pause: Pause) -> Request:
        """Parse."""
        ...


class RequestRenderer(Protocol):
    """A prepared canonical request to the body for a provider: `profile.model` is the model to ask for.

    Deterministic: the same request gives the same bytes, since prompt caches live from it. The request has been
    prepared: every call is answered right after it, ids and names fit the target, tokens are the target's own.

    Raises:
        UnsupportedFeature: the target cannot say something that must not be dropped.
    """

    def __call__(self, request: Request, profile: Profile, losses: Losses, pause: Pause) -> bytes:
        """Render."""
        ...


class AnswerParser(Protocol):
    """A provider's whole answer to the canonical one; None for an error object inside a 200.

    Missing tool-call ids are "" (they are made later, for all formats alike).

    Raises:
        UpstreamProtocolError: the body is not an answer of the format.
    """

    def __call__(self, body: bytes) -> Answer | None:
        """Parse."""
        ...


class AnswerRenderer(Protocol):
    """A canonical answer to the body for the client."""

    def __call__(self, answer: Answer, reply: Reply) -> bytes:
        """Render."""
        ...


class StreamParser(Protocol):
    """Bytes of one upstream stream to events. Any split of the bytes gives the same events."""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete; nothing after a terminal event.

        An error that the provider reports becomes `StreamError(its JSON)`.

        Raises:
            UpstreamProtocolError: the bytes cannot be the format.
        """
        ...

    def close(self) -> list[Event]:
        """The bytes have ended: return what is left, with a terminal event unless one was returned before.

        A stream whose finish reason was seen ends with its `MessageStop`; any other ends with an empty `StreamError`.
        """
        ...


class StreamRenderer(Protocol):
    """Events to the bytes of one client stream; made with a :class:`Reply`."""

    def render(self, events: Sequence[Event]) -> bytes:
        """Return the frames of these events; `b""` when they have none. `Ping` and `StreamError` have none.

        The trailer stands before the terminal event where the format allows comments there (Chat: before `[DONE]`;
        Messages: before `message_stop`), after it for Responses, and nowhere for Gemini and Ollama.
        """
        ...

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the frames that end this stream with an error, in the state in which it is."""
        ...
