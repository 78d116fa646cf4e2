"""Cut a byte stream of JSON objects, one per line, at line ends without decoding it."""

from __future__ import annotations

from collections.abc import Iterator

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.sse import EventCutter


class LineCutter(EventCutter):
    """Feed arrived bytes, get back the whole lines among them; the rest is kept. A line ends with LF or CRLF."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        """Return all bytes up to the last line end, `b""` when no line is complete yet."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._more.append(data)
            self._more_bytes += len(data)
            self._check(self._more_bytes)
            return b""
        whole = b"".join((*self._more, data[:end]))
        rest = data[end:]
        self._more = [rest] if rest else []
        self._more_bytes = len(rest)
        self._check(self._more_bytes)
        return whole

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise UpstreamProtocolError(f"The provider sent a line larger than {self._max_bytes >> 20} MiB.")


def split_lines(data: bytes) -> Iterator[bytes]:
    """Yield each line of a text that :class:`LineCutter` returned, with its line end."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield data[start : end + 1]
        start = end + 1
