"""Connections through outbound proxies: HTTP and HTTPS by CONNECT, SOCKS5, each with a user and password if need be.

What goes wrong before the connection to the provider stands is the proxy's matter and says nothing about the account:
it ends as `ProxyUnavailable`, which names the proxy. A proxy that fails is left alone for ten seconds, as a whole where
it is down or lets nobody in, else for that one destination.

SOCKS5 is spoken by `socksio`, which has no sockets of its own, CONNECT by the parser that reads answers. Both work on
gevent's sockets, to addresses that the guard has allowed.
"""

from __future__ import annotations

import contextlib
import logging
import socket as plain_socket
import ssl as plain_ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gevent
import httptools
from gevent import socket
from socksio import ProtocolError, socks5

from omniroute import __version__
from omniroute.errors import ProxyUnavailable, UpstreamUnreachable, UrlBlocked
from omniroute.gateway.proxies import ProxyGuard, Way
from omniroute.records import ProxyLevel, ProxyType

log = logging.getLogger(__name__)

REST_S: Final = 10.0
_MOST_RESTS: Final = 1000
_MOST_HEAD_BYTES: Final = 64 * 1024
_LONGEST_SOCKS_FIELD: Final = 255
_REFUSED_AUTH: Final = "does not accept its user name and password"
_WANTS_AUTH: Final = "wants a user name and password"
_NOT_ITS_PROTOCOL: Final = "does not speak its protocol"
_SOCKS_SAYS: Final = {
    1: "failed to reach the provider",
    2: "does not allow connections to the provider",
    3: "cannot reach the provider's network",
    4: "cannot reach the provider's host",
    5: "was refused by the provider's host",
    6: "cannot reach the provider's host in time",
    7: "does not take this command",
    8: "does not take this kind of address",
}
_FINAL_SOCKS_REPLIES: Final = frozenset({2, 7})
"""Another address of the same host would be refused as well."""

_Place = tuple[str, str, int]
"""A proxy's key, with a destination or without."""
Wrap = Callable[[Any, str], Any]
"""Puts TLS around a connection to a host of this name; closes the connection if that fails."""


class _Refusal(Exception):
    """A proxy cannot be used.

    Attributes:
        what: why, as the end of a sentence.
        is_of_target: it works, but not to this destination.
        is_final: for all addresses of the destination.
    """

    def __init__(self, what: str, *, is_of_target: bool = False, is_final: bool = True) -> None:
        super().__init__(what)
        self.what = what
        self.is_of_target = is_of_target
        self.is_final = is_final


class _Stalled(Exception):
    """The time for a connection is over."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a connection shall lead.

    Attributes:
        scheme: https, or http for a bare connection.
        host: the name that the certificate must have.
        names: the addresses, or the name, that a proxy is given, one after the other.
    """

    scheme: str
    host: str
    port: int
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class _Course:
    """One opening, and how far it has come. Who has taken the order may well wait for the provider."""

    way: Way
    goal: Goal
    has_taken_order: bool = False

    @property
    def as_a_whole(self) -> _Place:
        return self.way.key, "", 0

    @property
    def to_there(self) -> _Place:
        return self.way.key, self.goal.host, self.goal.port


class Tunnels:
    """Opens connections through proxies, and remembers for a while which of them fail. One per worker."""

    def __init__(
        self, guard: ProxyGuard, *, now: Callable[[], float], wrap: Wrap, context: Callable[[], plain_ssl.SSLContext]
    ) -> None:
        """`now` is a monotonic clock; `context` is what TLS to providers and proxies is made with."""
        self._guard = guard
        self._now = now
        self._wrap = wrap
        self._context = context
        self._rests: dict[_Place, tuple[float, str]] = {}

    def open(self, way: Way, goal: Goal, within_s: float) -> Any:
        """Return a connection to a provider; where the scheme wants it, TLS with it is done.

        Raises:
            ProxyUnavailable: there is none to be had; with the time after which it is worth another try.
        """
        course = _Course(way, goal)
        return self._held(course, within_s, lambda: self._tunnel(course))

    def dial(self, way: Way, goal: Goal, within_s: float) -> Any:
        """Return a connection to the proxy itself, for requests that it forwards; raises what `open` does."""
        return self._held(_Course(way, goal), within_s, lambda: self._dial(way))

    def refused(self, way: Way) -> ProxyUnavailable:
        """Note that a proxy does not let us in, and return the error that says so."""
        what = _REFUSED_AUTH if way.authorization else _WANTS_AUTH
        self._rest((way.key, "", 0), what)
        return _unavailable(way, what, REST_S)

    def _held(self, course: _Course, within_s: float, run: Callable[[], Any]) -> Any:
        """Open within the time that there is, unless the proxy is known to be of no use."""
        self._check(course)
        try:
            with gevent.Timeout(within_s, _Stalled()):
                opened = run()
        except _Stalled:
            refusal = _Refusal("does not answer in time", is_of_target=course.has_taken_order)
        except _Refusal as refused:
            refusal = refused
        else:
            self._rests.pop(course.as_a_whole, None)
            self._rests.pop(course.to_there, None)
            return opened
        self._rest(course.to_there if refusal.is_of_target else course.as_a_whole, refusal.what)
        error = _unavailable(course.way, refusal.what, REST_S)
        log.warning("%s (%s)", error.message, type(refusal.__cause__ or refusal).__name__)
        raise error from refusal

    def _check(self, course: _Course) -> None:
        if course.way.problem is not None:
            raise _unavailable(course.way, course.way.problem, None)
        for place in (course.as_a_whole, course.to_there):
            until, what = self._rests.get(place, (0.0, ""))
            if (left_s := until - self._now()) > 0:
                raise _unavailable(course.way, what, left_s)

    def _rest(self, place: _Place, what: str) -> None:
        if len(self._rests) >= _MOST_RESTS:
            self._rests = {key: rest for key, rest in self._rests.items() if rest[0] > self._now()}
        self._rests[place] = (self._now() + REST_S, what)

    # --- the steps ---------------------------------------------------------------------------------------------------

    def _tunnel(self, course: _Course) -> Any:
        way, goal = course.way, course.goal
        refusal: _Refusal | None = None
        for name in goal.names:
            sock = self._dial(way)
            try:
                if way.is_socks:
                    _ask_socks(sock, course, name)
                else:
                    course.has_taken_order = True
                    _ask_http(sock, way, name, goal.port)
            except _Refusal as error:
                sock.close()
                refusal = error
                if error.is_final:
                    raise
            except (OSError, EOFError) as error:
                sock.close()
                refusal = _Refusal("breaks the connection off", is_of_target=course.has_taken_order, is_final=False)
                refusal.__cause__ = error
            except BaseException:
                sock.close()
                raise
            else:
                return self._secured(sock, way, goal.host) if goal.scheme == "https" else sock
        raise refusal or _Refusal("was given no address")

    def _dial(self, way: Way) -> Any:
        """Connect to the proxy, by TLS where it wants that."""
        proxy = way.proxy
        try:
            is_own = way.level is ProxyLevel.ENVIRONMENT
            addresses = self._guard.proxy_addresses(proxy.host, proxy.port, is_from_environment=is_own)
        except UrlBlocked as error:
            raise _Refusal(f"is at an address that is not allowed: {error.message.rstrip('.')}") from error
        except UpstreamUnreachable as error:
            raise _Refusal("has a host name that does not resolve") from error
        failure: OSError | None = None
        for address in addresses:
            try:
                sock = _connected(address, proxy.port)
            except OSError as error:
                failure = error
                continue
            if proxy.type is not ProxyType.HTTPS:
                return sock
            try:
                return self._wrap(sock, proxy.host)
            except plain_ssl.SSLCertVerificationError as error:
                raise _Refusal("has a certificate that is not valid") from error
            except OSError as error:
                failure = error
        raise _Refusal("cannot be reached") from failure

    def _secured(self, sock: Any, way: Way, host: str) -> Any:
        """Put TLS with the provider around a tunnel to it."""
        try:
            return _Nested(sock, self._context(), host) if way.proxy.type is ProxyType.HTTPS else self._wrap(sock, host)
        except plain_ssl.SSLCertVerificationError as error:
            raise _Refusal("shows a certificate of the provider that is not valid", is_of_target=True) from error
        except (OSError, EOFError) as error:
            raise _Refusal("breaks off while TLS with the provider begins", is_of_target=True) from error


class _Nested:
    """TLS inside TLS, with what the transport uses of a socket."""

    session = None

    def __init__(self, outer: Any, context: plain_ssl.SSLContext, host: str) -> None:
        from urllib3.util.ssltransport import SSLTransport

        try:
            inner = SSLTransport(outer, context, server_hostname=host)
        except BaseException:
            outer.close()
            raise
        self._sock = outer._sock  # noqa: SLF001 -- the transport looks at the socket at the very bottom
        self.recv, self.sendall = inner.recv, inner.sendall
        self.settimeout, self.close = inner.settimeout, inner.close


def _connected(address: str, port: int) -> Any:
    family = plain_socket.AF_INET6 if ":" in address else plain_socket.AF_INET
    sock = socket.socket(family, plain_socket.SOCK_STREAM)
    try:
        sock.setsockopt(plain_socket.IPPROTO_TCP, plain_socket.TCP_NODELAY, 1)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _unavailable(way: Way, what: str, wait_s: float | None) -> ProxyUnavailable:
    return ProxyUnavailable(f"The outbound proxy {way.label} {what}.", retry_after_s=wait_s)


# --- CONNECT ---------------------------------------------------------------------------------------------------------


class _Reply:
    """The head of a proxy's answer; implements llhttp's callbacks."""

    def __init__(self) -> None:
        self.status = 0
        self.has_surplus = False
        self.parser: Any = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        """Keep the status; interim answers are none."""
        status = self.parser.get_status_code()
        self.status = status if status >= 200 else 0

    def on_body(self, data: bytes) -> None:
        """Note that more came than the head."""
        self.has_surplus = bool(data)


def _ask_http(sock: Any, way: Way, name: str, port: int) -> None:
    place = b"%b:%d" % (authority(name), port)
    sock.sendall(
        b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: OmniRoute/%b\r\n%b\r\n"
        % (place, place, __version__.encode("ascii"), way.authorization)
    )
    reply, size = _Reply(), 0
    try:
        while not reply.status:
            data = sock.recv(4096)
            size += len(data)
            if not data:
                raise EOFError
            if size > _MOST_HEAD_BYTES:
                raise _Refusal(_NOT_ITS_PROTOCOL)
            with contextlib.suppress(httptools.HttpParserUpgrade):
                reply.parser.feed_data(data)
    except httptools.HttpParserError as error:
        raise _Refusal(_NOT_ITS_PROTOCOL) from error
    finally:
        reply.parser = None  # they refer to each other
    if reply.status == 407:
        raise _Refusal(_REFUSED_AUTH if way.authorization else _WANTS_AUTH)
    if reply.status >= 300:
        what = f"refuses the connection to the provider with status {reply.status}"
        raise _Refusal(what, is_of_target=True, is_final=reply.status < 500)
    if reply.has_surplus:  # it would be taken for the provider's
        raise _Refusal(_NOT_ITS_PROTOCOL)


def authority(name: str) -> bytes:
    """Return a host as it stands in an address."""
    return f"[{name}]".encode() if ":" in name else name.encode("ascii")


# --- SOCKS5 ----------------------------------------------------------------------------------------------------------


def _ask_socks(sock: Any, course: _Course, name: str) -> None:
    connection = socks5.SOCKS5Connection()
    try:
        _greet(sock, course.way, connection)
        request = socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, (name, course.goal.port))
        connection.send(request)
        course.has_taken_order = True
        sock.sendall(connection.data_to_send())
        code = _socks_reply(sock, connection)
    except ProtocolError as error:
        raise _Refusal(_NOT_ITS_PROTOCOL) from error
    if code:
        what = _SOCKS_SAYS.get(code, f"refuses the connection to the provider with code {code}")
        raise _Refusal(what, is_of_target=True, is_final=code in _FINAL_SOCKS_REPLIES)


def _greet(sock: Any, way: Way, connection: socks5.SOCKS5Connection) -> None:
    methods = socks5.SOCKS5AuthMethod
    username = way.proxy.username
    offered = [methods.NO_AUTH_REQUIRED, *([] if username is None else [methods.USERNAME_PASSWORD])]
    connection.send(socks5.SOCKS5AuthMethodsRequest(offered))
    sock.sendall(connection.data_to_send())
    reply = connection.receive_data(_socks_bytes(sock, 2))
    match reply.method if isinstance(reply, socks5.SOCKS5AuthReply) else None:
        case methods.NO_AUTH_REQUIRED:
            return
        case methods.USERNAME_PASSWORD if username is not None:
            _log_in(sock, way, username, connection)
        case methods.NO_ACCEPTABLE_METHODS:
            raise _Refusal(_WANTS_AUTH if username is None else "takes no user name and password")
        case _:
            raise _Refusal(_NOT_ITS_PROTOCOL)


def _log_in(sock: Any, way: Way, username: str, connection: socks5.SOCKS5Connection) -> None:
    password = "" if way.proxy.password is None else way.proxy.password.reveal()
    pair = username.encode(), password.encode()
    if max(map(len, pair)) > _LONGEST_SOCKS_FIELD:
        raise _Refusal("has a user name or password that is too long for SOCKS5")
    connection.send(socks5.SOCKS5UsernamePasswordRequest(*pair))
    sock.sendall(connection.data_to_send())
    reply = connection.receive_data(_exactly(sock, 2))
    if not (isinstance(reply, socks5.SOCKS5UsernamePasswordReply) and reply.success):
        raise _Refusal(_REFUSED_AUTH)


def _socks_reply(sock: Any, connection: socks5.SOCKS5Connection) -> int:
    """Return the code of the answer to a command; 0 is success. What follows a refusal may be cut short."""
    head = _socks_bytes(sock, 2)
    if head[1]:
        return head[1]
    kind = _exactly(sock, 3)
    sizes = {1: 4, 3: kind[2] + 1, 4: 16}
    if kind[1] not in sizes:
        raise ProtocolError
    connection.receive_data(head + kind + _exactly(sock, sizes[kind[1]] - 1 + 2))
    return 0


def _socks_bytes(sock: Any, count: int) -> bytes:
    """Read the beginning of an answer, which is the version."""
    data = _exactly(sock, count)
    if data[0] != 5:
        raise ProtocolError
    return data


def _exactly(sock: Any, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece: bytes = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
