"""A stream that somebody else could go on with: it keeps what the client has been sent, and can get another end."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.codec import Reply, StreamParser, StreamRenderer
from omniroute.formats.estimates import Estimates
from omniroute.formats.events import Event
from omniroute.formats.journal import Journal
from omniroute.formats.openai_responses.stream_renderer import Renderer as ResponsesRenderer
from omniroute.formats.seam import Seam
from omniroute.formats.translate import UPSTREAMS, TranslatedStream
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import RelayedStream

OnEvents = Callable[[list[Event]], None]


class Continuable:
    """A relayed stream inside its framing.

    A passed-through stream is followed by reading what the client is sent once more, as the client does; a translated
    one by the events that are rendered for it.
    """

    def __init__(self, wire_format: WireFormat, client: WireFormat, trailer: Callable[[Usage], bytes]) -> None:
        """`wire_format`: the provider's; `client`: in which the client is answered."""
        self.trailer = trailer
        self.journal = Journal(wire_format)
        self._client = client
        self._inner: RelayedStream | None = None
        self._first: RelayedStream | None = None
        self._parser: StreamParser | None = None
        self._seam: Seam | None = None

    def around(self, stream: RelayedStream) -> RelayedStream:
        """Return the stream with this one around it."""
        self._inner = self._first = stream
        if not isinstance(stream, TranslatedStream):
            self._parser = UPSTREAMS[self._client].new_parser()
        return self

    def seen_by(self, other: OnEvents | None) -> OnEvents:
        """Return what follows the events of a translated stream, beside somebody else who does."""
        if other is None:
            return self.journal.see

        def see(events: list[Event]) -> None:
            self.journal.see(events)
            other(events)

        return see

    def go_on(
        self, parser: StreamParser, seam: Seam, new_renderer: Callable[[Reply], StreamRenderer], reply: Reply
    ) -> None:
        """Let another provider's stream end this one."""
        assert self.journal.open is not None  # noqa: S101 - only a torn text is gone on with
        index = self.journal.open[0]
        self._seam = seam
        if isinstance(self._first, TranslatedStream):
            self._first.go_on(parser, seam, index)
            return
        journal = self.journal
        reply = msgspec.structs.replace(
            reply,
            model=journal.model or reply.model,
            created=reply.created if journal.created is None else journal.created,
            answer_id=journal.answer.id,
            item_ids=tuple(journal.item_ids),
        )
        renderer = new_renderer(reply)
        renderer.render(journal.replay())  # the client has it already
        if isinstance(renderer, ResponsesRenderer) and journal.number is not None:
            renderer.count_from(journal.number + 1)
        stream = TranslatedStream(parser, renderer, seam, Estimates(0, at_start=False))
        stream.go_on(parser, seam, index)
        self._parser = None
        self._inner = stream

    def give_up(self) -> bool:
        """Take the other end back, if the client has seen nothing of it; say whether that is so."""
        if self._seam is not None and self._seam.is_crossed:
            return False
        self._inner = self._first
        return True

    @property
    def _stream(self) -> RelayedStream:
        assert self._inner is not None  # noqa: S101 - it is put around a stream as soon as it is made
        return self._inner

    @property
    def has_content(self) -> bool:
        """See the stream."""
        return self._stream.has_content

    @property
    def is_complete(self) -> bool:
        """See the stream."""
        return self._stream.is_complete

    @property
    def error(self) -> bytes | None:
        """See the stream."""
        return self._stream.error

    @property
    def usage(self) -> Usage:
        """See the stream; with a second end, the tokens of both."""
        return self._stream.usage if self._seam is None or not self._seam.has_content else self._seam.usage

    @property
    def spoken(self) -> int:
        """See the stream."""
        return self._stream.spoken

    @property
    def seam(self) -> Seam | None:
        """Where another provider goes on; None where none does."""
        return self._seam

    @property
    def is_verbatim(self) -> bool:
        """See the stream."""
        return self._stream.is_verbatim

    def feed(self, data: bytes) -> bytes:
        """See the stream."""
        frames = self._stream.feed(data)
        if frames and self._parser is not None:
            self.journal.read(frames, self._parser)
        return frames

    def end(self) -> bytes:
        """See the stream."""
        return self._stream.end()

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """See the stream."""
        return self._stream.fail(error, request_id)

    def raw_error(self, data: bytes) -> bytes:
        """See the stream."""
        return self._stream.raw_error(data)


class LastEnd:
    """The framed stream as its second provider is read: content is what that one says."""

    def __init__(self, framed: RelayedStream, seam: Seam) -> None:
        self._framed = framed
        self._seam = seam

    @property
    def has_content(self) -> bool:
        """Whether the second provider has said anything."""
        return self._seam.has_content

    @property
    def is_complete(self) -> bool:
        """See the stream."""
        return self._framed.is_complete

    @property
    def error(self) -> bytes | None:
        """See the stream."""
        return self._framed.error

    @property
    def usage(self) -> Usage:
        """See the stream."""
        return self._framed.usage

    @property
    def spoken(self) -> int:
        """See the stream."""
        return self._framed.spoken

    @property
    def is_verbatim(self) -> bool:
        """The second provider's errors are never the client's."""
        return False

    def feed(self, data: bytes) -> bytes:
        """See the stream."""
        return self._framed.feed(data)

    def end(self) -> bytes:
        """See the stream."""
        return self._framed.end()

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """See the stream."""
        return self._framed.fail(error, request_id)

    def raw_error(self, data: bytes) -> bytes:
        """See the stream: the words of the first provider, where the second has said nothing."""
        return self._framed.raw_error(data)
