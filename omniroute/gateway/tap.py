"""A look at one request from inside: what goes out to providers for it, what comes back, and how it ended.

A tap only looks: it changes nothing, blocks nothing and raises nothing. Requests without one pay a comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from omniroute.gateway.ports import UpstreamResponse
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import RequestRecord

if TYPE_CHECKING:
    from omniroute.gateway.exchange import Inquiry

Send = Callable[[UpstreamRequest], UpstreamResponse]


class Tap(Protocol):
    """Sees one request."""

    def around(self, send: Send, inquiry: Inquiry, record: RequestRecord) -> Send:
        """Return what sends in the place of `send`; `record` says at that moment which target is asked.

        The inquiry holds the client's whole request: it must not be kept beyond the call of what is returned.
        """
        ...

    def settled(self, record: RequestRecord) -> None:
        """The request is over, and its books are closed."""
        ...


class Joined:
    """Two taps on one request; implements :class:`Tap`."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Tap, second: Tap) -> None:
        self._first = first
        self._second = second

    def around(self, send: Send, inquiry: Inquiry, record: RequestRecord) -> Send:
        """See :class:`Tap`."""
        return self._first.around(self._second.around(send, inquiry, record), inquiry, record)

    def settled(self, record: RequestRecord) -> None:
        """See :class:`Tap`."""
        self._first.settled(record)
        self._second.settled(record)


class TappedResponse:
    """A provider's answer whose bytes somebody else sees as well; implements :class:`UpstreamResponse`."""

    __slots__ = ("_response", "_see", "headers", "status")

    def __init__(self, response: UpstreamResponse, see: Callable[[bytes], None]) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._see = see

    def read(self, timeout_s: float) -> bytes:
        """See :class:`UpstreamResponse`."""
        data = self._response.read(timeout_s)
        if data:
            self._see(data)
        return data

    def close(self) -> None:
        """See :class:`UpstreamResponse`."""
        self._response.close()

    def abort(self) -> None:
        """See :class:`UpstreamResponse`."""
        self._response.abort()
