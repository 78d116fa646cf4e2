"""Forward a stream whose two sides speak the same format, and read what the gateway must know from a copy.

Theory. Before content, events are looked at one by one and held back, so that the attempt can still fail and another
target serve. From the first content event on, whole events are forwarded as they arrive and only a search for a few
byte patterns decides whether a batch must be read closely: where usage, an end or an error may stand. Those patterns
cannot occur inside generated text, because a quote inside a JSON string is escaped.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from omniroute.errors import OmniRouteError, UpstreamProtocolError
from omniroute.formats.sse import EventCutter, split_events
from omniroute.formats.usage import NOT_REPORTED, Usage

_MODEL_MEMBER: Final = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
_MAX_HELD_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one event is. `forward` is False for events that the client did not ask for."""

    is_content: bool = False
    is_terminal: bool = False
    error: bytes | None = None
    forward: bool = True


PLAIN: Final = Verdict()
CONTENT: Final = Verdict(is_content=True)
TERMINAL: Final = Verdict(is_terminal=True)
WITHHELD: Final = Verdict(forward=False)


_UNREAD: Final = 16
_LARGE_BATCH: Final = 4096
_FIRST_LOOK: Final = 256


def spoken_in(data: bytes, marks: tuple[bytes, ...], enough: int = 1 << 30) -> int:
    """Return about how many bytes stand behind these marks: strings up to their quote, objects up to `}}`.

    Only what scans at the speed of memory, since this runs over every byte of every stream: what follows a mark that
    stands there `enough` times is not looked for.
    """
    if b"\\" in data:
        data = data.replace(b'\\"', b"..")
    if b'": ' in data[:_FIRST_LOOK]:
        data = data.replace(b'": ', b'":')
    total = 0
    for mark in marks:
        values = data.split(mark)
        if len(values) > 1:
            del values[0]
            end = b'"' if mark.endswith(b'"') else b"}}"
            total += sum([value.find(end) for value in values])
            if len(values) >= enough:
                break
    return max(total, 0)


class PassthroughStream(ABC):
    """Relay of one upstream stream. Pure: bytes in, bytes out.

    Attributes:
        has_content: the first content event has been seen; from then on :meth:`feed` forwards.
        is_complete: the format's terminal signal has been seen.
        is_finished: a finish reason has been seen, so that an end without terminal signal loses no content.
        error: data of an error event, as the provider sent it. Before content the event itself is not forwarded.
    """

    close_look: ClassVar[tuple[bytes, ...]]
    """Byte patterns of which at least one stands in every event that matters after content has begun."""
    names_model_once: ClassVar[bool]
    """Only the first event of the format carries the model name."""
    trailer_is_last: ClassVar[bool] = False
    """The trailer stands after the terminal event, not before it."""
    terminal: ClassVar[bytes] = b""
    """What ends a stream whose provider left its terminal signal out after a finish reason."""
    is_verbatim: ClassVar[bool] = True
    """What the provider reports in the stream is in the client's own dialect."""
    said_in: ClassVar[tuple[bytes, ...]]
    """How members begin that hold what the model generates: the name, a colon, and the quote or brace behind it."""
    max_held_bytes: ClassVar[int] = _MAX_HELD_BYTES
    """What may come before the first content, together with the event that brings it."""

    def __init__(self, requested_model: str | None, trailer: Callable[[Usage], bytes]) -> None:
        """Make a relay.

        Args:
            requested_model: the name that the client used, None when it is the one that went upstream.
            trailer: called once, with the usage, when the terminal event arrives; its comment lines go out beside it.
        """
        self.has_content = False
        self.is_complete = False
        self.is_finished = False
        self.error: bytes | None = None
        self.usage: Usage = NOT_REPORTED
        self._spoken = 0
        self._unread: list[bytes] = []
        """What has passed and is not in `_spoken` yet: counting piece by piece would cost more than passing it on."""
        self._trailer = trailer
        self._cutter = EventCutter()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._new_member = b"" if requested_model is None else b'"model":' + msgspec.json.encode(requested_model)
        self._old_member = b""

    @property
    def spoken(self) -> int:
        """Bytes of text, reasoning and arguments so far: for when nobody says how many tokens they are."""
        self._count()
        return self._spoken

    def _count(self) -> None:
        self._spoken += spoken_in(b"".join(self._unread), self.said_in, len(self._unread))
        self._unread.clear()

    @abstractmethod
    def judge(self, event: bytes) -> Verdict:
        """Read one event closely; updates usage and the finish flag."""

    def split(self, batch: bytes) -> Iterator[bytes]:
        """Take whole events apart; a format not made of server-sent events does it its own way, as its cutter does."""
        return split_events(batch)

    def fail(self, error: OmniRouteError, request_id: str) -> bytes:
        """Return the frames that end this stream with an error of ours, in the state in which it is."""
        return b""

    def end(self) -> bytes:
        """The provider's bytes have ended: return what is missing of an answer that is whole but for its marker.

        Raises:
            UpstreamProtocolError: they ended in the middle of the answer.
        """
        if self.is_complete:
            return b""
        if self.is_finished:
            self.is_complete = True
            return self.terminal
        if not self.has_content:
            raise UpstreamProtocolError("The provider's stream ended before any content.")
        raise UpstreamProtocolError("The provider's stream broke off in the middle of its answer.")

    def raw_error(self, data: bytes) -> bytes:
        """Return the frames that end the stream with an error of the provider, as it said it."""
        return b"data: " + data + b"\n\n"

    def feed(self, data: bytes) -> bytes:
        """Take bytes that arrived, return the bytes to forward: always whole events.

        Raises:
            UpstreamProtocolError: an event, or all that comes before content, is over its size limit.
        """
        batch = self._cutter.feed(data)
        if not batch:
            return b""
        self._unread.append(batch)
        if len(self._unread) == _UNREAD or len(batch) > _LARGE_BATCH:
            self._count()
        if self.has_content:
            for pattern in self.close_look:
                if pattern in batch:
                    return self._read_closely(batch)
            return self._rename(batch) if self._new_member else batch
        return self._read_closely(batch)

    def _read_closely(self, batch: bytes) -> bytes:
        out: list[bytes] = []
        for event in self.split(batch):
            if self.is_complete:
                break  # nothing may follow the terminal signal
            verdict = self.judge(event)
            if verdict.error is not None:
                self.error = verdict.error
                break
            if not verdict.forward:
                continue
            ready = self._rename(event)
            if not self.has_content:
                self._hold(ready)
                if not (verdict.is_content or verdict.is_terminal):
                    continue
                self.has_content = True  # an answer without any content is committed by its end
                ready = b"".join(self._held)
                self._held.clear()
            if verdict.is_terminal:
                self.is_complete = True
                trailer = self._trailer(self.usage)
                out += (ready, trailer) if self.trailer_is_last else (trailer, ready)
            else:
                out.append(ready)
        return b"".join(out)

    def _hold(self, event: bytes) -> None:
        self._held_bytes += len(event)
        if self._held_bytes > self.max_held_bytes:
            raise UpstreamProtocolError(f"The provider sent {self.max_held_bytes >> 20} MiB without any content.")
        self._held.append(event)

    def _rename(self, events: bytes) -> bytes:
        """Put back the model name that the client used; the provider's spelling is learnt from its first event."""
        if not self._new_member:
            return events
        if not self._old_member:
            match = _MODEL_MEMBER.search(events)
            if match is None:
                return events
            self._old_member = match.group()
            if self.names_model_once:
                renamed = events.replace(self._old_member, self._new_member, 1)
                self._new_member = b""
                return renamed
        renamed = events.replace(self._old_member, self._new_member)
        if renamed is events and self._old_member not in events:  # some hosts spell it out only after the first event
            match = _MODEL_MEMBER.search(events)
            if match is not None:
                self._old_member = match.group()
                return events.replace(self._old_member, self._new_member)
        return renamed
