"""Cut a byte stream of server-sent events at event boundaries without decoding it (WHATWG HTML, section 9.2).

Used where frames are forwarded as they came: only whole events leave, so that an error or a trailer never lands inside
one and an unterminated last event can be dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from omniroute.errors import UpstreamProtocolError

MAX_EVENT_BYTES: Final = 32 << 20
"""An upstream event larger than this is refused, since it is held in memory until it ends.

Not smaller, because whole things come as one event: the terminal event of Responses repeats the output, drawn pictures
arrive in one piece (decision record 0012).
"""

_BOM: Final = b"\xef\xbb\xbf"


class EventCutter:
    """Feed arrived bytes, get back the whole events among them; the rest is kept.

    Line ends may be LF, CRLF or CR; each event keeps its own spelling.
    """

    __slots__ = ("_is_first", "_max_bytes", "_more", "_more_bytes", "_rest")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._rest = b""
        self._more: list[bytes] = []
        """What follows `_rest` on the same line: joined only when the line ends, so that long ones stay cheap."""
        self._more_bytes = 0
        self._max_bytes = max_event_bytes
        self._is_first = True

    @property
    def rest(self) -> bytes:
        """What has arrived of an event that is not complete yet."""
        return b"".join((self._rest, *self._more))

    def feed(self, data: bytes) -> bytes:
        """Return all bytes up to the last event boundary, `b""` when no event is complete yet."""
        if self._rest:
            if b"\n" not in data and b"\r" not in data and self._rest[-1] != 0x0D and not self._is_first:
                self._more.append(data)
                self._more_bytes += len(data)
                if len(self._rest) + self._more_bytes > self._max_bytes:
                    raise self._too_large()
                return b""
            data = b"".join((self._rest, *self._more, data))
            self._more.clear()
            self._more_bytes = 0
        if self._is_first and data:
            if data.startswith(_BOM):
                data = data[3:]
            elif _BOM.startswith(data):
                self._rest = data  # the first bytes of a mark that is still on its way
                return b""
            self._is_first = False
        if data.endswith((b"\n\n", b"\r\n\r\n")):  # the common case: the provider writes whole events
            self._rest = b""
            return data
        boundary = data.rfind(b"\n\n")
        cut = boundary + 2 if boundary >= 0 else 0
        if b"\r" in data:
            cut = max(cut, _last_cr_boundary(data))
        self._rest = data[cut:]
        if len(self._rest) > self._max_bytes:
            raise self._too_large()
        return data[:cut]

    def _too_large(self) -> UpstreamProtocolError:
        return UpstreamProtocolError(f"The provider sent an event larger than {self._max_bytes >> 20} MiB.")


def _last_cr_boundary(data: bytes) -> int:
    """Find the last blank line where line ends hold a CR; a text may mix all three kinds."""
    last = data.rfind(b"\n\r\n") + 3
    # A final CR may be the first half of a CRLF that is still on its way, so it ends no line yet.
    for blank in (b"\r\r", b"\n\r"):
        found = data.rfind(blank, 0, len(data) - 1)
        if found >= 0:
            end = found + 2
            last = max(last, end + 1 if data[end] == 0x0A else end)
    return last if last > 2 else 0


def split_events(data: bytes) -> Iterator[bytes]:
    """Yield each event of a text that :class:`EventCutter` returned, with its blank line."""
    returns = data.count(b"\r")
    if not returns or returns == data.count(b"\r\n") == data.count(b"\n"):  # the same line end everywhere
        blank = b"\r\n\r\n" if returns else b"\n\n"
        start = 0
        while (end := data.find(blank, start)) >= 0:
            yield data[start : end + len(blank)]
            start = end + len(blank)
        return
    event: list[bytes] = []
    for line in data.splitlines(keepends=True):
        event.append(line)
        if not line.strip(b"\r\n"):
            yield b"".join(event)
            event.clear()
    if event:
        yield b"".join(event)


def event_data(event: bytes) -> bytes:
    """Return the data of one event: its `data:` lines joined by a newline, without the one optional space."""
    if b"\r" not in event:  # one line of data, as nearly everybody writes it
        start = 0 if event.startswith(b"data:") else event.find(b"\ndata:") + 1
        end = event.find(b"\n", start)
        if (start or event.startswith(b"data:")) and end >= 0 and event.find(b"\ndata:", end) < 0:
            start += 6 if event[start + 5 : start + 6] == b" " else 5
            return event[start:end]
    if event.startswith(b"data: ") and (end := event.find(b"\n")) >= len(event) - 3 and b"\r" not in event[: end - 1]:
        return event[6:end].rstrip(b"\r")  # one line, as nearly everybody writes it
    lines = []
    for line in event.splitlines():
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value[:1] == b" " else value)
    return b"\n".join(lines)
