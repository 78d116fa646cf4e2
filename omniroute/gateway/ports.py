"""What the gateway needs from outside, as small protocols declared where they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from omniroute.providers.upstream import UpstreamRequest


class UpstreamResponse(Protocol):
    """An answer whose body is still on its way. The greenlet that opened it reads it and closes it."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of repeated headers the last one."""

    def read(self, timeout_s: float) -> bytes:
        """Return the bytes that have arrived, waiting at most `timeout_s` for the first; `b""` at the end.

        Raises:
            ReadTimeout: nothing arrived in time; the response stays readable.
            UpstreamProtocolError: the body ended early or its framing is broken.
        """
        ...

    def close(self) -> None:
        """Release the connection: back to the pool if the body was read to its end, closed otherwise. Idempotent."""
        ...

    def abort(self) -> None:
        """Wake the reader from any greenlet or hub callback: its `read` sees the end of the stream. Does not block."""
        ...


class ReadTimeout(Exception):
    """`UpstreamResponse.read` saw no byte in time; control flow only, never shown."""


class Transport(Protocol):
    """The only way out to a provider."""

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request and return once the status line and headers are there, whatever the status.

        Raises:
            UpstreamUnreachable: no connection was made (name, guard, TCP or TLS); nothing was sent.
            UpstreamTimeout: a limit passed while connecting or waiting for headers.
            UpstreamProtocolError: the connection broke or the answer is not HTTP.
        """
        ...
