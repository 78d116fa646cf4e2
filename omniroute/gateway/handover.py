"""What goes in and out of an inference run: the call, the answer, and what the driver hands over once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from omniroute.errors import OmniRouteError
from omniroute.formats.usage import Usage
from omniroute.gateway.asks import NO_ASKS, Asks
from omniroute.gateway.continuable import Continuable
from omniroute.gateway.dialects import RelayedStream, Surface
from omniroute.gateway.directory import Target
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.tap import Tap
from omniroute.providers import requests
from omniroute.providers.requests import Endpoint
from omniroute.routing.failures import Failure
from omniroute.services.access import Caller

CANCELLED_STATUS: Final = 499


@dataclass(frozen=True, slots=True)
class Call:
    """An inference request as it came in, free of the web framework.

    Attributes:
        model, is_stream: what the path says, for the formats that say it there; None leaves it to the body.
        asks: what its headers say about routing.
        provider: the only one that may serve it, where the path names one.
        tap: sees what goes out for it and what comes back; None for nearly all.
    """

    request_id: str
    endpoint: str
    surface: Surface
    body: bytes
    caller: Caller
    client_headers: requests.ClientHeaders = ()
    accepts_stream: bool = False
    tag: str | None = None
    client_socket: Any = None
    model: str | None = None
    is_stream: bool | None = None
    provider: str | None = None
    asks: Asks = NO_ASKS
    tap: Tap | None = None


class Body(Iterator[bytes], Protocol):
    """The pieces of a streamed answer. `close` is idempotent and must be called whatever happens."""

    def close(self) -> None:
        """Free what the stream holds and settle it."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What the view returns: a whole body, or an iterator with an idempotent `close()`."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Body


class ClientGone(Exception):
    """The client left before its answer; nobody is there to be told."""


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """A complete answer of a provider, in the client's format."""

    status: int
    body: bytes
    usage: Usage
    target: Target
    headers: Mapping[str, str]
    """The provider's."""
    characters: int = 0
    """About how many the model generated, where nobody says how many tokens they are."""


class Mending(Protocol):
    """What may still be done for a stream that breaks off; see `gateway/continuation.py`."""

    def may_begin(self, failure: Failure) -> bool:
        """Say whether somebody else may finish the answer, once."""
        ...

    def drive(self) -> OpenStream | None:
        """Ask for the rest; None when nobody gives it."""
        ...

    def give_up(self) -> bool:
        """Leave it torn; say whether the client has seen nothing of an attempt to mend it."""
        ...


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream at its commit point: the handler reads and closes `response` from here on.

    Attributes:
        at_end: what is to be done before the last bytes of a whole answer leave.
        continuable, mending: where somebody else may finish what breaks off.
    """

    response: UpstreamResponse
    stream: RelayedStream
    first: bytes
    target: Target
    endpoint: Endpoint
    opened_at: float
    at_end: Callable[[RelayedStream], None] | None
    continuable: Continuable | None = None
    mending: Mending | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing served. `verbatim` is a provider's own error body in the client's dialect, fit to be passed on."""

    error: OmniRouteError
    verbatim: tuple[int, bytes] | None = None


Handover = WholeAnswer | OpenStream | Refusal
