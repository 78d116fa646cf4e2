"""One request as one target is asked it, and the target's answer as the client gets it.

Two ways: :class:`Passthrough` where both sides speak the same format, so that bytes stay bytes, and
:class:`Translation` where they do not. A passthrough falls back to the translation's machinery (from a format to
itself) where a provider streams unasked or does not stream although asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, Protocol

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats import tokens
from omniroute.formats.canonical import NO_EXTRA, Answer, Request, Token
from omniroute.formats.changes import NO_CHANGES, Changes
from omniroute.formats.codec import Pause, Reply, StreamParser
from omniroute.formats.effort import effort_edits, with_effort
from omniroute.formats.estimates import Estimates, completed, prompt_tokens
from omniroute.formats.events import Event, MessageStop
from omniroute.formats.fold import Folder
from omniroute.formats.media import urls_to_fetch, with_fetched
from omniroute.formats.openai_chat.request_parser import LEGACY_CALLS, has_legacy_calls
from omniroute.formats.openai_responses.history import holds_own_reasoning
from omniroute.formats.openai_responses.response import read_id
from omniroute.formats.openai_responses.stream import ResponsesStream
from omniroute.formats.profile import Profile
from omniroute.formats.splice import TopLevel, rename_member, splice
from omniroute.formats.tokenless import has_kept_token, without_token, without_tokens
from omniroute.formats.translate import (
    UPSTREAMS,
    ErrorInside,
    ThinkingOf,
    TranslatedStream,
    Whole,
    read_answer,
    translate_request,
)
from omniroute.formats.usage import Usage
from omniroute.formats.way_back import WayBack, kept
from omniroute.formats.wire import WireFormat
from omniroute.gateway.continuable import Continuable
from omniroute.gateway.dialects import Dialect, RelayedStream, Surface, Trailer
from omniroute.gateway.directory import Target
from omniroute.gateway.shaping import Thinking
from omniroute.providers.profiles import preferred_format, profile_of
from omniroute.providers.requests import Endpoint

_CARRY_THINKING: Final = frozenset({WireFormat.ANTHROPIC_MESSAGES, WireFormat.OPENAI_RESPONSES, WireFormat.GEMINI})
"""Formats in which reasoning travels with its token. Only Gemini's has tokens on tool calls as well."""
AtEnd = Callable[[RelayedStream], None]
"""Called with a stream before its last bytes leave."""
Kept = Mapping[str, tuple[str, Token | None]]
"""Reasoning text and token by tool-call id."""


class Backing(Protocol):
    """What translating needs from the gateway around it."""

    def fetch_media(self, urls: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
        """Return MIME type and base64 data of what stands at these URLs.

        Raises:
            OmniRouteError: an address is not allowed, does not answer, or holds too much.
        """
        ...

    def thinking_of(self, key_id: str, call_id: str) -> tuple[str, Token | None] | None:
        """Return the reasoning that was kept for a tool call of this API key."""
        ...

    def remember(self, key_id: str, kept: Kept) -> None:
        """Keep reasoning that the client's format cannot carry."""
        ...

    def wall(self) -> float:
        """Return the time of day in epoch seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Continued:
    """What keeps an answer so that a later request can refer to it by id.

    Attributes:
        previous_id: the response that this request goes on from.
        keep: takes the response object that we issued an id for; None where nothing is to be kept.
        keep_origin: takes an id that the connection of a target issued; the same.
    """

    previous_id: str | None
    keep: Callable[[bytes], None] | None = None
    keep_origin: Callable[[str, Target], None] | None = None


class Inquiry(msgspec.Struct):
    """One client's request, whatever target it will go to; parsed as far as somebody needed it.

    Attributes:
        top: the checked body.
        requested: the model name that the client used.
        request_id: ids in translated answers are made from it.
        key_id: whose reasoning may be looked up; "" for callers without a key.
        continued: how a stateful protocol goes on after this answer; None for all others.
        thinking: what the operator asks of reasoning; a word in the model's name is nearer to the caller.
        note: what the request did not get as asked, whatever target serves it; for the answer's header.
        warning, losses: what a translation left out: for the same header, and all of it.
    """

    dialect: Dialect
    top: TopLevel
    requested: str
    is_stream: bool
    request_id: str
    key_id: str
    backing: Backing
    pause: Pause
    continued: Continued | None = None
    thinking: Thinking | None = None
    note: str = ""
    warning: str = ""
    losses: tuple[str, ...] = ()
    _request: Request | None = None
    _spliced: dict[tuple[str, str, WireFormat], bytes] | None = None
    _is_marked: bool | None = None
    _reply_id: str = ""
    _fetched: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)

    @property
    def request(self) -> Request:
        """The canonical request; parsed on first use.

        Raises:
            InvalidRequest: the body is not a request of the client's format.
        """
        if self._request is None:
            parsed = self.dialect.parse_request(self.top.body, self.pause)
            self._request = msgspec.structs.replace(parsed, model=self.requested, stream=self.is_stream)
        return self._request

    @property
    def is_parsed(self) -> bool:
        """Whether somebody has needed the canonical request."""
        return self._request is not None

    @property
    def is_marked(self) -> bool:
        """Whether the body carries what only we understand, such as tokens that we wrapped: it cannot go as it is.

        Wrapped tokens leave, and so come back, in the formats only that have a place for them: others are not searched.
        """
        if self._is_marked is None:
            body, client = self.top.body, self.dialect.format
            self._is_marked = client in _CARRY_THINKING and (
                tokens.MARK in body or (client is WireFormat.OPENAI_RESPONSES and holds_own_reasoning(body))
            )
            self.pause()
        return self._is_marked

    def spliced(self, target: Target, wire_format: WireFormat) -> bytes:
        """Return the body with the few members replaced that passthrough replaces."""
        key = (target.model, target.connection_id if target.effort or self.thinking else "", wire_format)
        if self._spliced is None:
            self._spliced = {}
        body = self._spliced.get(key)
        if body is None:
            top = self.top
            changes: dict[str, bytes | None] = {}
            has_model = "model" in top
            if target.model != self.requested if has_model else wire_format is not WireFormat.GEMINI:
                changes["model"] = msgspec.json.encode(target.model)
            if self.is_stream:
                changes.update(self.dialect.stream_edits(top))
            if (
                self.is_stream != self.dialect.streams_by_default
                and self.dialect.stream_member
                and top.value("stream") is None
            ):
                changes["stream"] = b"true" if self.is_stream else b"false"
            if target.effort is not None:
                changes.update(effort_edits(top, target.effort, profile_in(target, wire_format)))
            elif self.thinking is not None:
                changes.update(self.thinking.edits(self, profile_in(target, wire_format)))
            body = self._spliced[key] = splice(top, changes) if changes else top.body
        return body

    def reply(self, trailer: Trailer) -> Reply:
        """Return what renderers need to know."""
        request = self.request
        if self.continued is not None and self.continued.previous_id is not None:
            request = msgspec.structs.replace(request, previous_id=self.continued.previous_id)
        return Reply(
            _lasting(request, self.dialect.surface), self.requested, self.reply_id, int(self.backing.wall()), trailer
        )

    @property
    def reply_id(self) -> str:
        """Hex digits, unique per request and the same for all its attempts."""
        if not self._reply_id:
            self._reply_id = blake2b(self.request_id.encode(), digest_size=16).hexdigest()
        return self._reply_id

    def fetch(self, urls: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
        """Return what stands at these URLs, fetched once for all targets; see :meth:`Backing.fetch_media`."""
        missing = tuple(url for url in urls if url not in self._fetched)
        if missing:
            self._fetched.update(self.backing.fetch_media(missing))
        return self._fetched

    def thinking_of(self, call_id: str) -> tuple[str, Token | None] | None:
        """Return the reasoning that was kept for a tool call of this caller."""
        return self.backing.thinking_of(self.key_id, call_id)

    def remember(self, kept: Kept) -> None:
        """Keep reasoning for this caller's next request."""
        self.backing.remember(self.key_id, kept)


class Exchange(Protocol):
    """How one target is spoken to.

    Attributes:
        format: what it is spoken to in.
        is_verbatim: its errors are in the client's own dialect.
    """

    format: WireFormat
    endpoint: Endpoint
    is_verbatim: bool

    def body(self) -> bytes:
        """Return the request's body for the target.

        Raises:
            OmniRouteError: the target cannot be asked this.
        """
        ...

    def whole(self, body: bytes, *, is_stream: bool) -> tuple[Usage, bytes]:
        """Read a whole answer, or a stream that nobody asked for: its usage, and the client's answer.

        Raises:
            ErrorInside: it is an error object.
            UpstreamProtocolError: it is no answer of the format.
        """
        ...

    def answer(self, body: bytes, *, is_stream: bool) -> Answer:
        """Read a whole answer, or a stream that nobody asked for, in the client's terms; nothing is kept of it.

        Raises:
            ErrorInside: it is an error object.
            UpstreamProtocolError: it is no answer of the format.
        """
        ...

    def stream(self, trailer: Trailer, continuable: Continuable | None = None) -> RelayedStream:
        """Return a relay for a stream that begins, with what could go on with it inside its framing."""
        ...

    def replayed(self, body: bytes, trailer: Trailer) -> tuple[RelayedStream, bytes]:
        """Read a whole answer to a request for a stream: return it as a finished stream with all its frames."""
        ...

    @property
    def at_end(self) -> AtEnd | None:
        """What is to be done before the last bytes of a stream leave; holds nothing of the request."""
        ...


def can_be_asked(dialect: Dialect, target: Target) -> bool:
    """Return whether :func:`exchange_with` finds a way to speak to a target."""
    if dialect.format in target.endpoints:
        return True
    return not dialect.sub_path and preferred_format(target.provider, target.endpoints) is not None


def profile_in(target: Target, wire_format: WireFormat) -> Profile:
    """Return what a target takes in a format."""
    return profile_of(target.provider, target.model, target.facts, wire_format, target.connection_id)


def exchange_with(inquiry: Inquiry, target: Target) -> Exchange | None:
    """Return how to speak to a target; None when it speaks no format that we do."""
    dialect = inquiry.dialect
    own = target.endpoints.get(dialect.format)
    if dialect.sub_path:
        return None if own is None else SubPath(inquiry, target, own)
    if own is not None and dialect.new_stream is not None and not inquiry.is_marked:
        return Passthrough(inquiry, target, own)
    wire_format = dialect.format if own is not None else preferred_format(target.provider, target.endpoints)
    if wire_format is None:
        return None
    return Translation(inquiry, target, target.endpoints[wire_format])


def exchange_without_tokens(inquiry: Inquiry, target: Target) -> Translation | None:
    """Return how to ask a target again that refused an opaque token; None when it was sent none.

    A request in the target's own format takes the way through the canonical request as well.
    """
    if inquiry.dialect.sub_path:
        return None
    own = target.endpoints.get(inquiry.dialect.format)
    wire_format = inquiry.dialect.format if own is not None else preferred_format(target.provider, target.endpoints)
    if wire_format is None:
        return None
    bare = Translation(inquiry, target, target.endpoints[wire_format], is_bare=True)
    return bare if bare.had_tokens else None


class Passthrough:
    """Same format on both sides: the bytes stay."""

    is_verbatim = True

    def __init__(self, inquiry: Inquiry, target: Target, endpoint: Endpoint) -> None:
        self.format = endpoint.format
        self.endpoint = endpoint
        self._inquiry = inquiry
        self._target = target

    def body(self) -> bytes:
        """Return the client's own bytes, but for the few members that passthrough replaces."""
        return self._inquiry.spliced(self._target, self.format)

    def whole(self, body: bytes, *, is_stream: bool) -> tuple[Usage, bytes]:
        """See :class:`Exchange`."""
        if is_stream:
            return self._translation().whole(body, is_stream=True)
        dialect = self._inquiry.dialect
        read = dialect.read_answer(body)
        if read is None:
            raise ErrorInside(body)
        usage, named = read
        if self._keep_origin is not None and (response_id := read_id(body)):
            self._keep_origin(response_id, self._target)
        if named and self._is_renamed:
            renamed = msgspec.json.encode(self._inquiry.requested)
            body = rename_member(body, dialect.model_member, named, renamed)
        return usage, body

    def answer(self, body: bytes, *, is_stream: bool) -> Answer:
        """See :class:`Exchange`."""
        return self._translation().answer(body, is_stream=is_stream)

    def stream(self, trailer: Trailer, continuable: Continuable | None = None) -> RelayedStream:
        """See :class:`Exchange`."""
        inquiry = self._inquiry
        assert inquiry.dialect.new_stream is not None  # noqa: S101 - `exchange_with` has looked
        requested = inquiry.requested if self._is_renamed else None
        stream = inquiry.dialect.new_stream(inquiry.top, requested, trailer)
        if continuable is not None:
            stream = continuable.around(stream)
        return inquiry.dialect.framed(stream)

    def replayed(self, body: bytes, trailer: Trailer) -> tuple[RelayedStream, bytes]:
        """See :class:`Exchange`."""
        return self._translation().replayed(body, trailer)

    @property
    def at_end(self) -> AtEnd | None:
        """Remember where the response came from."""
        keep_origin, target = self._keep_origin, self._target
        if keep_origin is None:
            return None

        def remember(stream: RelayedStream) -> None:
            if isinstance(stream, ResponsesStream) and stream.response_id:
                keep_origin(stream.response_id, target)

        return remember

    @property
    def _keep_origin(self) -> Callable[[str, Target], None] | None:
        return None if self._inquiry.continued is None else self._inquiry.continued.keep_origin

    @property
    def _is_renamed(self) -> bool:
        return self._target.model != self._inquiry.requested

    def _translation(self) -> Translation:
        return Translation(self._inquiry, self._target, self.endpoint)


class SubPath(Passthrough):
    """What a format has below its own address, such as compacting: its answers are the provider's, whatever they hold.

    A body with tokens that we wrapped is sent as a translation would send it.
    """

    def __init__(self, inquiry: Inquiry, target: Target, endpoint: Endpoint) -> None:
        super().__init__(inquiry, target, replace(endpoint, url=endpoint.url + inquiry.dialect.sub_path))

    def body(self) -> bytes:
        """See :class:`Exchange`."""
        return self._translation().body() if self._inquiry.is_marked else super().body()

    def whole(self, body: bytes, *, is_stream: bool) -> tuple[Usage, bytes]:
        """See :class:`Exchange`."""
        if is_stream:
            raise UpstreamProtocolError("The provider streamed where there is nothing to stream.")
        return super().whole(body, is_stream=False)


class Translation:
    """Different formats: through the canonical request and its events."""

    is_verbatim = False

    def __init__(self, inquiry: Inquiry, target: Target, endpoint: Endpoint, *, is_bare: bool = False) -> None:
        """`is_bare`: no opaque token goes to the target, not even its own."""
        self.format = endpoint.format
        self.endpoint = endpoint
        self._inquiry = inquiry
        self._is_bare = is_bare
        self._target = target
        self._profile = profile_in(target, endpoint.format)
        self._changes: Changes = NO_CHANGES

    @property
    def profile(self) -> Profile:
        """What the target takes."""
        return self._profile

    def asked(self) -> Request:
        """Return the request before it is fitted to the target."""
        inquiry, effort = self._inquiry, self._target.effort
        is_own = self.format is inquiry.dialect.format and inquiry.dialect.new_stream is not None
        if is_own and (effort is not None or inquiry.thinking is not None):
            # A format's own renderer repeats what the client wrote, so that is where the wish must stand.
            edited = inquiry.dialect.parse_request(inquiry.spliced(self._target, self.format), inquiry.pause)
            return msgspec.structs.replace(edited, model=inquiry.requested, stream=inquiry.is_stream)
        if effort is not None:
            return with_effort(inquiry.request, effort)
        return inquiry.request if inquiry.thinking is None else inquiry.thinking.applied(inquiry.request, self._profile)

    @property
    def had_tokens(self) -> bool:
        """Whether the request carries opaque tokens that the target could have seen."""
        request = self._inquiry.request
        return without_tokens(request, self._profile) is not None or has_kept_token(request, self._inquiry.thinking_of)

    def body(self) -> bytes:
        """Translate the request."""
        inquiry = self._inquiry
        request = self.asked()
        thinking_of: ThinkingOf = inquiry.thinking_of
        if self._is_bare:
            request = without_tokens(request, self._profile) or request
            thinking_of = without_token(thinking_of)
        urls = urls_to_fetch(request, self._profile)
        if urls:
            request = with_fetched(request, inquiry.fetch(urls))
        inquiry.pause()
        translated = translate_request(request, self._profile, thinking_of=thinking_of, pause=inquiry.pause)
        if self._is_bare:
            translated.losses.drop("thinking")
        self._changes = translated.changes
        inquiry.warning = translated.losses.warning
        inquiry.losses = translated.losses.paths
        inquiry.pause()
        return translated.body

    def whole(self, body: bytes, *, is_stream: bool) -> tuple[Usage, bytes]:
        """See :class:`Exchange`."""
        inquiry = self._inquiry
        answer = completed(self.answer(body, is_stream=is_stream), inquiry.request)
        self._note(answer)
        rendered = inquiry.dialect.render_answer(answer, inquiry.reply(_no_trailer))
        if self._keep is not None:
            self._keep(rendered)
        return answer.usage, rendered

    def answer(self, body: bytes, *, is_stream: bool) -> Answer:
        """See :class:`Exchange`."""
        return read_answer(body, self.format, self.way_back(), is_stream=is_stream)

    def stream(self, trailer: Trailer, continuable: Continuable | None = None) -> RelayedStream:
        """See :class:`Exchange`."""
        return self._translated(trailer, UPSTREAMS[self.format].new_parser(), continuable)

    def replayed(self, body: bytes, trailer: Trailer) -> tuple[RelayedStream, bytes]:
        """See :class:`Exchange`."""
        answer = UPSTREAMS[self.format].parse_answer(body)
        if answer is None:
            raise ErrorInside(body)
        stream = self._translated(trailer, Whole(answer))
        return stream, stream.feed(b"")

    def _translated(
        self, trailer: Trailer, parser: StreamParser, continuable: Continuable | None = None
    ) -> RelayedStream:
        inquiry = self._inquiry
        # What the stream is made of must not hold the request: it may be open for minutes.
        reply = inquiry.reply(trailer)
        dialect = inquiry.dialect
        renderer = dialect.new_renderer(reply)
        # Messages is the one format whose streams begin with the length of the prompt.
        is_messages = dialect.format is WireFormat.ANTHROPIC_MESSAGES
        estimates = Estimates(prompt_tokens(inquiry.request), at_start=is_messages)
        uses: list[Callable[[Answer], None]] = []
        if self._keeps_thinking:
            uses.append(_Remember(inquiry.backing, inquiry.key_id, dialect.format))
        if (keep := self._keep) is not None:
            uses.append(lambda answer: keep(dialect.render_answer(answer, reply)))
        on_events = _AtEnd(self.format, uses) if uses else None
        if continuable is None:
            return dialect.framed(TranslatedStream(parser, renderer, self.way_back(), estimates, on_events))
        seen = continuable.seen_by(on_events)
        return dialect.framed(continuable.around(TranslatedStream(parser, renderer, self.way_back(), estimates, seen)))

    def way_back(self) -> WayBack:
        """Return what turns an answer back into the client's terms; after the body has been made."""
        inquiry = self._inquiry
        return WayBack(self._changes, self._profile, inquiry.dialect.format, inquiry.reply_id)

    @property
    def _keeps_thinking(self) -> bool:
        client = self._inquiry.dialect.format
        if client is WireFormat.GEMINI:
            return False
        if client in _CARRY_THINKING:
            return self.format is WireFormat.GEMINI
        return self.format in _CARRY_THINKING or self._profile.returns_thinking

    @property
    def _keep(self) -> Callable[[bytes], None] | None:
        return None if self._inquiry.continued is None else self._inquiry.continued.keep

    @property
    def at_end(self) -> AtEnd | None:
        """Nothing: what is to be kept was kept when the last event passed."""
        return None

    def _note(self, answer: Answer) -> None:
        if self._keeps_thinking:
            inquiry = self._inquiry
            _Remember(inquiry.backing, inquiry.key_id, inquiry.dialect.format)(answer)


class _Remember:
    """Keeps the reasoning of an answer that its client's format cannot carry."""

    __slots__ = ("_backing", "_client", "_key_id")

    def __init__(self, backing: Backing, key_id: str, client: WireFormat) -> None:
        self._backing = backing
        self._key_id = key_id
        self._client = client

    def __call__(self, answer: Answer) -> None:
        found = kept(answer, self._client)
        if found:
            self._backing.remember(self._key_id, found)


def _lasting(request: Request, surface: Surface) -> Request:
    """Return what an answer repeats of its request, without the rest: that is the client's whole body."""
    match surface:
        case Surface.OPENAI_COMPLETIONS:  # may repeat its prompt
            return request
        case Surface.OPENAI_RESPONSES:
            return msgspec.structs.replace(request, messages=())
        case _:
            reasoning = request.reasoning
            return Request(
                origin=request.origin,
                model=request.model,
                messages=(),
                stop=request.stop,
                reasoning=None if reasoning is None else msgspec.structs.replace(reasoning, extra=NO_EXTRA),
                include_usage=request.include_usage,
                stream=request.stream,
                extra=LEGACY_CALLS if has_legacy_calls(request.extra) else NO_EXTRA,
            )


class _AtEnd:
    """Hands over the whole answer when the last event of a stream passes."""

    def __init__(self, origin: WireFormat, uses: Sequence[Callable[[Answer], None]]) -> None:
        self._folder = Folder(origin)
        self._uses = uses

    def __call__(self, events: list[Event]) -> None:
        self._folder.see(events)
        if any(isinstance(event, MessageStop) for event in events):
            answer = self._folder.so_far
            for use in self._uses:
                use(answer)


def _no_trailer(usage: Usage) -> bytes:
    del usage
    return b""
