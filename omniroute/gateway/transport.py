"""The only code that opens a connection to a provider: HTTP/1.1 over gevent sockets, parsed by llhttp (`httptools`).

Chosen by measurement (`ecosystem/bench/transport.py`, decision record 0001): a proxied call costs a fifth of urllib3's
CPU time, and a socket of our own gives what the libraries hide: pinned addresses, reads that return what has arrived,
separate time limits, and a reader that any greenlet can wake.

A response belongs to the greenlet that asked for it: that one reads and closes it. Others may only call `abort`, which
shuts the socket down so that the reader sees the end; closing a descriptor under a reader would let the next connection
inherit its number.
"""

from __future__ import annotations

import logging
import socket as plain_socket
import ssl as plain_ssl
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import gevent
import httptools
from gevent import socket, ssl

from omniroute.errors import ProxyUnavailable, UpstreamProtocolError, UpstreamTimeout, UpstreamUnreachable, UrlBlocked
from omniroute.gateway.ports import ReadTimeout, Transport, UpstreamResponse
from omniroute.gateway.proxies import ProxyChoice, Way
from omniroute.gateway.tunnels import Goal, Tunnels, authority
from omniroute.providers.upstream import UpstreamRequest

log = logging.getLogger(__name__)

_READ_BYTES: Final = 65536
_IDLE_LIMIT_S: Final = 30.0
"""Below the keep-alive time of common servers, so that a pooled connection is rarely closed under us."""
_POOL_PER_ORIGIN: Final = 256
_MOST_TLS_SESSIONS: Final = 1000
_MAX_HEADER_BYTES: Final = 256 * 1024
_MAX_INFLATED_BYTES: Final = 256 * 1024
"""How much of a compressed answer is unpacked at a time: a few bytes can stand for a thousand times as many."""
_BODILESS: Final = frozenset({204, 304})

Origin = tuple[str, str, int, bool, str]
"""Scheme, host, port, declared local, the proxy's key ("" without): connections are shared only within these."""


class AddressGuard(Protocol):
    """Resolves a host once and returns addresses that are all allowed (`gateway.egress`)."""

    def __call__(self, host: str, port: int, *, is_local: bool, is_operator: bool) -> tuple[str, ...]:
        """Raises UrlBlocked for a forbidden target, UpstreamUnreachable when the name does not resolve."""
        ...


class HttpTransport:
    """Keeps idle connections per origin and sends requests over them. One per worker, created after the fork."""

    def __init__(
        self,
        *,
        guard: AddressGuard,
        now: Callable[[], float],
        ca_bundle: Path | None = None,
        proxies: ProxyChoice | None = None,
    ) -> None:
        """`now` is a monotonic clock in seconds; `ca_bundle` is trusted beside the system's certificate authorities.

        Without `proxies` none is ever used, whatever the environment says.
        """
        self._guard = guard
        self._now = now
        self._ca_bundle = ca_bundle
        self._proxies = proxies
        self._tunnels: Tunnels | None = None
        self._tls: plain_ssl.SSLContext | None = None
        self._tls_sessions: dict[Origin, Any] = {}
        self._idle: dict[Origin, deque[tuple[Any, float]]] = {}
        self._targets: dict[str, tuple[Origin, bytes, bytes]] = {}
        self._is_closed = False
        self.open_connections = 0

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """See :class:`Transport`. A kept-alive connection that the provider had closed meanwhile is replaced once."""
        if self._proxies is not None and self._proxies.current is not None:
            return self._send_by_choice(self._proxies, request)
        return self._exchange(request, *self._target(request))

    def send_through(self, request: UpstreamRequest, way: Way) -> UpstreamResponse:
        """Send a request by this way and no other; raises what `send` does, and ProxyUnavailable."""
        (scheme, name, port, is_local, _), path, host = self._target(request)
        origin = (scheme, name, port, is_local, way.key)
        if scheme == "https" or way.is_socks:
            return self._exchange(request, origin, path, host, way=way)
        # A proxy forwards what is not encrypted. It is told the address: what a name means is not left to it.
        place = authority(self._places(request, way)[0])
        forwarded = b"http://%b:%d%b" % (place, port, path)
        response = self._exchange(request, origin, forwarded, host, way=way, more=way.authorization)
        if response.status == 407:
            response.discard()
            raise self._through.refused(way)
        return response

    def _send_by_choice(self, proxies: ProxyChoice, request: UpstreamRequest) -> UpstreamResponse:
        target = self._target(request)
        scheme, name, port, _, _ = target[0]
        way = None if proxies.current is None else proxies.current.of(request.sender, scheme, name, port)
        if way is None:
            return self._exchange(request, *target)
        try:
            return self.send_through(request, way)
        except ProxyUnavailable as error:
            if not proxies.is_fail_open:
                raise
            log.warning("%s The request goes without it, as PROXY_FAIL_OPEN says.", error.message)
            return self._exchange(request, *target)

    def _exchange(
        self,
        request: UpstreamRequest,
        origin: Origin,
        path: bytes,
        host: bytes,
        *,
        way: Way | None = None,
        more: bytes = b"",
    ) -> HttpResponse:
        head = _head(request, path, host, more)
        payload = head + request.body if len(request.body) < _READ_BYTES else None
        deadlines = request.deadlines
        sock = self._take_idle(origin)
        is_reused = sock is not None
        while True:
            if sock is None:
                sock = self._connect(origin, request) if way is None else self._connect_through(way, origin, request)
            response = HttpResponse(self, origin, sock, expects_body=request.method != "HEAD")
            give_up_at = self._now() + deadlines.headers_s
            try:
                sock.settimeout(deadlines.headers_s)
                try:
                    if payload is not None:
                        sock.sendall(payload)
                    else:
                        sock.sendall(head)
                        sock.sendall(request.body)
                except (BrokenPipeError, ConnectionResetError):
                    # A provider that refuses a body while it arrives says so, then closes: what it said counts.
                    response.is_cut_short = True
                response.receive_head(give_up_at)
            except TimeoutError:
                response.discard()
                raise UpstreamTimeout("headers") from None
            except (OSError, EOFError) as error:
                response.discard()
                if is_reused and not response.has_received:
                    sock, is_reused = None, False  # it was closed before the provider saw this request
                    continue
                raise UpstreamProtocolError("The connection to the provider broke before it answered.") from error
            except BaseException:
                response.discard()
                raise
            return response

    def close_idle(self) -> None:
        """Close connections that have been idle for too long; called once in a while by the worker."""
        limit = self._now() - _IDLE_LIMIT_S
        for idle in self._idle.values():
            while idle and idle[0][1] < limit:
                self.drop(idle.popleft()[0])
        # Hosts that callers named, and proxies as they were before a change, do not come again.
        self._idle = {origin: idle for origin, idle in self._idle.items() if idle}
        if len(self._tls_sessions) > _MOST_TLS_SESSIONS:
            self._tls_sessions.clear()

    def close(self) -> None:
        """Close every idle connection now, and those in use as soon as their answers have been read."""
        self._is_closed = True
        for idle in self._idle.values():
            while idle:
                self.drop(idle.pop()[0])

    def keep(self, origin: Origin, sock: Any) -> None:
        """Take back a connection whose answer was read to its end."""
        if self._is_closed:
            self.drop(sock)
            return
        if origin[0] == "https":
            # Only now: TLS 1.3 servers send what a short handshake needs along with their first answer.
            self._tls_sessions[origin] = sock.session
        idle = self._idle.setdefault(origin, deque())
        if len(idle) >= _POOL_PER_ORIGIN:
            self.drop(idle.popleft()[0])
        idle.append((sock, self._now()))

    def drop(self, sock: Any) -> None:
        """Close a connection for good."""
        self.open_connections -= 1
        sock.close()

    def _target(self, request: UpstreamRequest) -> tuple[Origin, bytes, bytes]:
        known = self._targets.get(request.url)
        if known is not None and known[0][3] == request.is_local:
            return known
        try:
            target = _read_target(request.url, request.is_local)
        except ValueError:  # a port out of range, or letters that an address cannot have
            raise UrlBlocked("The provider's address is not a usable URL.") from None
        if len(self._targets) > 1000:
            self._targets.clear()
        self._targets[request.url] = target
        return target

    def _take_idle(self, origin: Origin) -> Any:
        idle = self._idle.get(origin)
        while idle:
            sock, since = idle.pop()
            if since >= self._now() - _IDLE_LIMIT_S and _is_quiet(sock):
                return sock
            self.drop(sock)
        return None

    def _connect(self, origin: Origin, request: UpstreamRequest) -> Any:
        scheme, host, port, is_local, _ = origin
        failure: Exception | None = None
        with gevent.Timeout(request.deadlines.connect_s, UpstreamTimeout("connect")):
            addresses = request.addresses or self._guard(host, port, is_local=is_local, is_operator=request.is_operator)
            for address in addresses:
                try:
                    return self._open(scheme, host, address, port, origin)
                except OSError as error:  # refused, unreachable, TLS failure
                    failure = error
        if isinstance(failure, plain_ssl.SSLCertVerificationError):
            raise UpstreamUnreachable("The provider's certificate is not valid.") from failure
        raise UpstreamUnreachable from failure

    @property
    def _through(self) -> Tunnels:
        if self._tunnels is None:
            assert self._proxies is not None  # noqa: S101 - ways come from there
            self._tunnels = Tunnels(
                self._proxies.guard,
                now=self._now,
                wrap=lambda sock, host: self._wrap(sock, host, None),
                context=self._context,
            )
        return self._tunnels

    def _connect_through(self, way: Way, origin: Origin, request: UpstreamRequest) -> Any:
        scheme, host, port, _, _ = origin
        within_s = request.deadlines.connect_s
        if scheme == "http" and not way.is_socks:
            sock = self._through.dial(way, Goal(scheme, host, port), within_s)
        else:
            goal = Goal(scheme, host, port, self._places(request, way))
            sock = self._through.open(way, goal, within_s)
        self.open_connections += 1
        return sock

    def _places(self, request: UpstreamRequest, way: Way) -> tuple[str, ...]:
        """Return the addresses that a proxy is told, all of them allowed; the name where it looks names up itself."""
        _, host, port, is_local, _ = self._target(request)[0]
        if request.addresses:
            return request.addresses
        if way.has_remote_dns and self._proxies is not None:
            self._proxies.guard.check_beyond_proxy(host, is_local=is_local, is_operator=request.is_operator)
            return (host,)
        with gevent.Timeout(request.deadlines.connect_s, UpstreamTimeout("connect")):
            return self._guard(host, port, is_local=is_local, is_operator=request.is_operator)

    def _open(self, scheme: str, host: str, address: str, port: int, origin: Origin) -> Any:
        family = plain_socket.AF_INET6 if ":" in address else plain_socket.AF_INET
        sock = socket.socket(family, plain_socket.SOCK_STREAM)
        try:
            sock.setsockopt(plain_socket.IPPROTO_TCP, plain_socket.TCP_NODELAY, 1)
            sock.connect((address, port))
            if scheme == "https":
                sock = self._wrap(sock, host, origin)
        except BaseException:
            sock.close()
            raise
        self.open_connections += 1
        return sock

    def _context(self) -> plain_ssl.SSLContext:
        if self._tls is None:
            self._tls = _tls_context(self._ca_bundle)
        return self._tls

    def _wrap(self, sock: Any, host: str, origin: Origin | None) -> Any:
        session = None if origin is None else self._tls_sessions.get(origin)
        wrapped = self._context().wrap_socket(
            sock, server_hostname=host, session=session, do_handshake_on_connect=False
        )
        try:
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()  # it has taken the descriptor over from `sock`
            raise
        return wrapped


def _tls_context(ca_bundle: Path | None) -> plain_ssl.SSLContext:
    # By its class: gevent's `create_default_context` makes the library's blocking kind where nothing is patched.
    context: plain_ssl.SSLContext = ssl.SSLContext(plain_ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = plain_ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    if ca_bundle is not None:
        context.load_verify_locations(cafile=str(ca_bundle))
    return context


def _read_target(url: str, is_local: bool) -> tuple[Origin, bytes, bytes]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UrlBlocked("The provider's address is not an http or https URL.")
    is_default = parts.port in {None, 443 if parts.scheme == "https" else 80}
    port = parts.port or (443 if parts.scheme == "https" else 80)
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    host = name if is_default else f"{name}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return (parts.scheme, parts.hostname, port, is_local, ""), path.encode("ascii"), host.encode("ascii")


def _head(request: UpstreamRequest, path: bytes, host: bytes, more: bytes) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in request.headers]
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%bContent-Length: %d\r\n\r\n" % (
        request.method.encode("ascii"),
        path,
        host,
        more,
        "".join(lines).encode("latin-1"),
        len(request.body),
    )


def _is_quiet(sock: Any) -> bool:
    """Tell whether an idle connection is still open: one that can be read has been closed, or is out of step."""
    try:
        sock._sock.recv(1, plain_socket.MSG_PEEK)  # noqa: SLF001 -- the non-blocking socket below gevent's
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class HttpResponse:
    """One answer being read; implements :class:`UpstreamResponse` and llhttp's callbacks."""

    __slots__ = (
        "_chunks",
        "_decoder",
        "_expects_body",
        "_headers",
        "_is_complete",
        "_is_head_complete",
        "_is_released",
        "_keeps_alive",
        "_origin",
        "_packed",
        "_parser",
        "_sock",
        "_transport",
        "has_received",
        "headers",
        "is_cut_short",
        "status",
    )

    def __init__(self, transport: HttpTransport, origin: Origin, sock: Any, *, expects_body: bool) -> None:
        self.status = 0
        self._headers: dict[str, str] = {}
        self.headers: Mapping[str, str] = self._headers
        self.has_received = False
        self.is_cut_short = False
        """The provider stopped reading the request before its end; its connection cannot serve again."""
        self._transport = transport
        self._origin = origin
        self._sock = sock
        self._expects_body = expects_body
        self._chunks: list[bytes] = []
        self._decoder: Any = None
        self._packed: bytes | None = None
        self._is_head_complete = False
        self._is_complete = False
        self._is_released = False
        self._keeps_alive = False
        self._parser: Any = httptools.HttpResponseParser(self)

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        """Refuse a second message on the same answer."""
        if self._is_complete:  # bytes of a second answer that nobody asked for
            raise _SurplusError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head; of repeated ones the last."""
        if not self._is_head_complete:  # else it stands behind the body, where nothing may change what was said before
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Read the status; interim answers do not complete the head."""
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._is_head_complete = True
            encoding = self.headers.get("content-encoding", "").strip().lower()
            if encoding not in {"", "identity"}:
                self._decoder = _decoder_for(encoding)

    def on_body(self, data: bytes) -> None:
        """Keep what has arrived until it is read."""
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        """Note the end of the answer, or of an interim one."""
        if self._is_head_complete:
            self._is_complete = True
            self._keeps_alive = self._parser.should_keep_alive()  # asked later it speaks of the next message
        else:  # 100 Continue and its kin come before the answer itself
            self._headers.clear()

    # what the gateway uses

    def receive_head(self, give_up_at: float) -> None:
        """Read until the headers are there; EOFError when the connection ends before."""
        size = self._receive()
        while not self._is_head_complete:
            if size > _MAX_HEADER_BYTES:
                raise UpstreamProtocolError("The provider's headers are too large.")
            self._wait_at_most(give_up_at)
            size += self._receive()
        if not self._is_complete and (self.status in _BODILESS or not self._expects_body):
            self._is_complete = True
            self._keeps_alive = self._parser.should_keep_alive()

    def read(self, timeout_s: float) -> bytes:
        """See :class:`UpstreamResponse`."""
        if self._decoder is None:
            return self._read_raw(timeout_s)
        give_up_at = self._transport._now() + timeout_s  # noqa: SLF001 -- one module, one clock
        while True:
            packed = self._packed
            if packed is None:
                packed = self._read_raw(give_up_at - self._transport._now())  # noqa: SLF001
                if not packed:
                    return b""
            try:
                data: bytes = self._decoder.decompress(packed, _MAX_INFLATED_BYTES)
            except zlib.error as error:
                raise UpstreamProtocolError("The provider's answer is not compressed as it says.") from error
            # Output of exactly the limit may leave more behind even where all input is taken.
            has_more = len(data) == _MAX_INFLATED_BYTES
            self._packed = self._decoder.unconsumed_tail if has_more else None
            if data:
                return data

    def _read_raw(self, timeout_s: float) -> bytes:
        chunks = self._chunks
        if not chunks:
            if self._is_complete:
                return b""
            give_up_at = self._transport._now() + timeout_s  # noqa: SLF001
            self._sock.settimeout(timeout_s if timeout_s > 0 else 0.001)
            try:
                framing = self._receive()
                while not chunks and not self._is_complete:
                    if framing > _MAX_HEADER_BYTES:
                        raise UpstreamProtocolError("The provider sends framing without content.")
                    self._wait_at_most(give_up_at)
                    framing += self._receive()
            except TimeoutError:
                raise ReadTimeout from None
            except (OSError, EOFError) as error:
                if self._ends_with_connection() and isinstance(error, EOFError):
                    self._is_complete = True
                    return b""
                raise UpstreamProtocolError("The provider's answer ended early.") from error
        if len(chunks) == 1:
            data = chunks.pop()
        else:
            data = b"".join(chunks)
            chunks.clear()
        return data

    def _wait_at_most(self, give_up_at: float) -> None:
        """Bound the next wait by what is left of the whole: a trickle must not stretch a limit."""
        left = give_up_at - self._transport._now()  # noqa: SLF001
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def close(self) -> None:
        """See :class:`UpstreamResponse`."""
        if self._is_released:
            return
        if self._is_complete and self._keeps_alive and not self.is_cut_short and not self._ends_with_connection():
            self._is_released = True
            self._parser = None  # parser and response refer to each other; the collector need not sort that out
            self._transport.keep(self._origin, self._sock)
        else:
            self.discard()

    def discard(self) -> None:
        """Close the connection without giving it back. Idempotent."""
        if not self._is_released:
            self._is_released = True
            self._parser = None
            self._transport.drop(self._sock)

    def abort(self) -> None:
        """See :class:`UpstreamResponse`."""
        if self._is_released:
            return
        self._keeps_alive = False
        try:
            # Of the socket below gevent's: TLS's own shutdown would try to talk to the provider and may block.
            self._sock._sock.shutdown(plain_socket.SHUT_RDWR)  # noqa: SLF001 -- see above
        except OSError:
            return  # it is gone already, which the reader sees too

    def _receive(self) -> int:
        """Feed the parser with what has arrived, at least a byte; return how many those were."""
        data = self._sock.recv(_READ_BYTES)
        if not data:
            raise EOFError
        self.has_received = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._is_complete:  # the answer is whole; what follows it is nobody's, and so is the connection
                self._keeps_alive = False
                return len(data)
            cause = error.__context__
            if isinstance(cause, UpstreamProtocolError):
                raise cause from None
            raise UpstreamProtocolError("The provider's answer is not HTTP.") from error
        return len(data)

    def _ends_with_connection(self) -> bool:
        return "content-length" not in self.headers and "chunked" not in self.headers.get("transfer-encoding", "")


class _SurplusError(Exception):
    """The provider sent more than the answer; stops the parser."""


def _decoder_for(encoding: str) -> Any:
    """Return a decompressor; we ask for identity, but some hosts compress all the same."""
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    raise UpstreamProtocolError("The provider used a content encoding that was not asked for.")


class OnDemand:
    """A transport that is made when it is first used: the simulated provider is a tenth of a second of imports."""

    def __init__(self, make: Callable[[], Transport]) -> None:
        self._make = make
        self._made: Transport | None = None

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """See :class:`Transport`."""
        if self._made is None:
            self._made = self._make()
        return self._made.send(request)


class RoutedTransport:
    """Chooses by URL scheme between the network and the simulated provider in this process."""

    def __init__(self, http: HttpTransport, sandbox: Transport) -> None:
        self.http = http
        self._sandbox = sandbox

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """See :class:`Transport`."""
        if request.url.startswith("sandbox:"):
            return self._sandbox.send(request)
        return self.http.send(request)
