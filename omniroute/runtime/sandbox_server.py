"""The simulated provider as a server of its own: HTTP/1.1 on gevent's loop, without a greenlet per connection.

A connection is a few callbacks: bytes come in through its read watcher, whole requests become scripts, and a script is
played by its *due times*: frame k goes out k waits after the head, however late the frame before was, so that a busy
machine delays a stream but never stretches it; chunks that are late leave together in one send. One timer serves every
stream: 500 streams of 200 chunks a second were measured at 10 microseconds of processor time for each send, where a
greenlet for each stream with a sleep for each chunk took 30.

The read watcher stays on while an answer is played; a client that leaves is noticed when its socket says so.
"""

from __future__ import annotations

import json
import random
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from http import HTTPStatus
from itertools import count
from typing import Any, Final

import httptools
from gevent import get_hub
from gevent.server import StreamServer

from omniroute.providers.sandbox.invoice import Ledger
from omniroute.providers.sandbox.routes import find_route
from omniroute.providers.sandbox.script import NEVER, Dialect, Ending, Frame, Options, Script, VendorError
from omniroute.providers.sandbox.service import build_script, credential_of, failure, render_failure
from omniroute.providers.sandbox.window import RateWindow

_READ, _WRITE = 1, 2
_BACKLOG: Final = 4096
_READ_SIZE: Final = 64 * 1024
_MOST_BODY: Final = 64 * 1024 * 1024
_MOST_WAITING: Final = 32
"""Pipelined requests of one connection; more than any client sends, and a bound."""
_MOST_AT_ONCE: Final = 128 * 1024
"""Bytes of one stream that are handed to the kernel before another stream gets its turn."""
_RESOLUTION_S: Final = 0.001
_HEADERS_READ: Final = {
    name.encode(): name
    for name in (
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "anthropic-version",
        "expect",
        "x-sandbox-latency-ms",
        "x-sandbox-chunks",
        "x-sandbox-chunk-size",
        "x-sandbox-chunk-interval-ms",
    )
}
_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_STATUS_LINES[529] = "HTTP/1.1 529 Overloaded\r\n"
_STATS_PATH: Final = "/__stats"
_INVOICE_PATH: Final = "/__invoice"


@dataclass(slots=True)
class Stats:
    """What the server has done so far, and what is open now."""

    open_connections: int = 0
    open_streams: int = 0
    requests: int = 0
    chunks_sent: int = 0
    """Frames of streams: events, with the one that opens and the ones that close."""
    aborted_streams: int = 0
    """Streams whose client left before their end."""
    aborted_requests: int = 0
    """Other answers whose client left before their end."""

    def render(self) -> bytes:
        """Return the counts as JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()


def _page(content_type: str, content: bytes) -> Script:
    headers = (("content-type", content_type), ("content-length", str(len(content))))
    return Script(200, headers, iter(((0.0, content),)))


class SandboxServer:
    """Listens, and holds what connections share."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        options: Options,
        rng: random.Random,
        now: Callable[[], float],
        rate_window: RateWindow | None = None,
    ) -> None:
        self.stats = Stats()
        self.ledger = Ledger()
        self.now = now
        self.ticker = _Ticker(now)
        self._options = options
        self._rng = rng
        self._rate_window = rate_window
        self._connections: set[_Connection] = set()
        self._listener = _Listener((host, port), self._connect)

    @property
    def port(self) -> int:
        """The port that is listened on, once started; 0 before."""
        return self._listener.server_port or 0

    def start(self) -> None:
        """Bind and listen."""
        self._listener.start()

    def serve_forever(self) -> None:
        """Serve until :meth:`stop`."""
        self._listener.serve_forever()

    def stop(self) -> None:
        """Close the listener and every connection."""
        self._listener.close()
        self.ticker.stop()
        for connection in tuple(self._connections):
            connection.close()

    def script(self, request: _Request) -> Script:
        """Decide how to answer."""
        self.stats.requests += 1
        route = find_route(request.path, request.headers)
        dialect = route.dialect
        if request.method not in route.methods:
            return render_failure(dialect, VendorError(405, "This path has no such method."), request.body)
        if self._rate_window is not None and "POST" in route.methods:
            retry_after_s = self._rate_window.take(credential_of(request.headers), self.now())
            if retry_after_s is not None:
                return render_failure(dialect, failure(429, round(retry_after_s, 3)), request.body)
        return build_script(request.path, request.headers, request.body, self._options, self._rng)

    def forget(self, connection: _Connection) -> None:
        """Drop a closed connection."""
        self._connections.discard(connection)
        self.stats.open_connections -= 1

    def _connect(self, sock: Any, _address: Any) -> None:
        self.stats.open_connections += 1
        self._connections.add(_Connection(self, sock))


class _Listener(StreamServer):
    """gevent's accept loop, with a callback in place of a greenlet for each connection."""

    def __init__(self, address: tuple[str, int], connect: Callable[[Any, Any], None]) -> None:
        super().__init__(address, connect, backlog=_BACKLOG)
        self._connect = connect

    def do_handle(self, *args: Any) -> None:
        """Take over a new socket."""
        self._connect(*args)


class _Ticker:
    """One timer for everything that waits: wakes players when their next frame is due, in order.

    It ticks every millisecond while anything waits at all. Arming it for the exact next frame instead costs more than
    the ticks that it saves as soon as a few streams are open.
    """

    __slots__ = ("_heap", "_now", "_order", "_timer")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._heap: list[tuple[float, int, _Player]] = []
        self._order = count()
        self._timer = get_hub().loop.timer(_RESOLUTION_S, _RESOLUTION_S)

    def call_at(self, due: float, player: _Player) -> None:
        """Wake `player` in the first tick after `due`."""
        if not self._heap:
            self._timer.start(self._tick, update=True)
        heappush(self._heap, (due, next(self._order), player))

    def stop(self) -> None:
        """Wake nobody any more."""
        self._timer.stop()
        self._heap.clear()

    def _tick(self) -> None:
        heap, now = self._heap, self._now()
        while heap and heap[0][0] <= now:
            heappop(heap)[2].wake(now)
        if not heap:
            self._timer.stop()


@dataclass(frozen=True, slots=True)
class _Request:
    """One request as read."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    is_keep_alive: bool


class _Connection:
    """One client: its parser, its requests in order, and what could not be sent yet."""

    __slots__ = (
        "_body",
        "_body_size",
        "_headers",
        "_is_closing",
        "_outgoing",
        "_parser",
        "_player",
        "_reader",
        "_server",
        "_sock",
        "_url",
        "_waiting",
        "_writer",
        "is_closed",
    )

    def __init__(self, server: SandboxServer, sock: Any) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = server
        self._sock = sock
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_size = 0
        self._waiting: deque[_Request] = deque()
        self._player: _Player | None = None
        self._outgoing = b""
        self._is_closing = False
        self.is_closed = False
        loop = get_hub().loop
        self._writer = loop.io(sock.fileno(), _WRITE)
        self._reader = loop.io(sock.fileno(), _READ)
        self._reader.start(self._readable)

    # --- in

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if self._is_closing:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400, "The request is not valid HTTP/1.1.")

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the headers that mean something here."""
        known = _HEADERS_READ.get(name.lower())
        if known is not None:
            self._headers[known] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Let a cautious client send its body."""
        if self._headers.get("expect", "").lower() == "100-continue" and self._player is None:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._body_size += len(body)
        if self._body_size <= _MOST_BODY:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, or have it wait for its turn."""
        if self.is_closed:
            return
        request = _Request(
            self._parser.get_method().decode("latin-1"),
            self._url.decode("latin-1"),
            self._headers,
            self._body[0] if len(self._body) == 1 else b"".join(self._body),
            self._parser.should_keep_alive(),
        )
        is_too_large = self._body_size > _MOST_BODY
        self._url, self._headers, self._body, self._body_size = b"", {}, [], 0
        if is_too_large:
            self._refuse(413, "The request body is too large.")
        elif self._player is None:
            self._answer(request)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(request)
        else:
            self.close()

    # --- out

    def _answer(self, request: _Request) -> None:
        if request.path == _STATS_PATH:
            script = _page("application/json", self._server.stats.render())
        elif request.path == _INVOICE_PATH:
            script = _page("text/csv; charset=utf-8", self._server.ledger.render())
        else:
            script = self._server.script(request)
        self._player = _Player(self._server, self, script, request)
        self._player.start()

    def _refuse(self, status: int, message: str) -> None:
        if self._player is not None:
            self.close()
            return
        script = render_failure(Dialect.OPENAI_CHAT, VendorError(status, message), b"")
        self._player = _Player(self._server, self, script, _Request("POST", "", {}, b"", is_keep_alive=False))
        self._player.start()

    def finish(self, data: bytes, *, is_reusable: bool) -> None:
        """Send the end of an answer and go on with the next request, or close."""
        self._player = None
        self.send(data)
        if self.is_closed:
            return
        if not is_reusable:
            self._is_closing = True
            if not self._outgoing:
                self.close()
        elif self._waiting:
            self._answer(self._waiting.popleft())

    def send(self, data: bytes) -> bool:
        """Send what the kernel takes and keep the rest; True if nothing had to be kept."""
        if self._outgoing:
            self._outgoing += data
            return False
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return False
        if sent == len(data):
            return True
        self._outgoing = data[sent:]
        self._writer.start(self._writable)
        return False

    def _writable(self) -> None:
        rest, self._outgoing = self._outgoing, b""
        self._writer.stop()
        if not self.send(rest) or self.is_closed:
            return
        if self._is_closing:
            self.close()
        elif self._player is not None:
            self._player.wake(self._server.now())

    def close(self) -> None:
        """Close the socket; an answer that is still played is abandoned. Idempotent."""
        if self.is_closed:
            return
        self.is_closed = True
        self._reader.stop()
        self._reader.close()
        self._writer.stop()
        self._writer.close()
        self._sock.close()
        self._outgoing = b""
        self._waiting.clear()
        player, self._player = self._player, None
        if player is not None:
            player.abandon()
        self._server.forget(self)


class _Player:
    """Plays one script on one connection."""

    __slots__ = (
        "_connection",
        "_due",
        "_ending",
        "_frames",
        "_has_begun",
        "_head",
        "_head_delay_s",
        "_is_head_only",
        "_is_keep_alive",
        "_is_over",
        "_is_stream",
        "_is_wake_set",
        "_job",
        "_next",
        "_server",
        "_taken",
    )

    def __init__(self, server: SandboxServer, connection: _Connection, script: Script, request: _Request) -> None:
        self._server = server
        self._connection = connection
        self._frames: Iterator[Frame] = script.frames
        self._ending = script.ending
        self._job = script.job
        self._taken = 0
        self._head_delay_s = script.head_delay_s
        self._is_keep_alive = request.is_keep_alive
        self._is_head_only = request.method == "HEAD"
        self._is_stream = all(name != "content-length" for name, _ in script.headers) and script.head_delay_s < NEVER
        lines = [_STATUS_LINES.get(script.status) or f"HTTP/1.1 {script.status} Unknown\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in script.headers]
        if self._is_stream:
            lines.append("transfer-encoding: chunked\r\n")
        lines.append("\r\n" if request.is_keep_alive else "connection: close\r\n\r\n")
        self._head = "".join(lines).encode("latin-1")
        self._next: bytes | None = None
        self._due = 0.0
        self._has_begun = False
        self._is_over = False
        self._is_wake_set = False
        if self._is_stream:
            server.stats.open_streams += 1

    def start(self) -> None:
        """Begin, at once or when the head is due."""
        if self._head_delay_s == NEVER:
            return
        now = self._server.now()
        self._due = now + self._head_delay_s
        if self._head_delay_s > 0:
            self._wake_at(self._due)
        else:
            self.wake(now)

    def wake(self, now: float) -> None:
        """Send everything that is due by `now` in one piece, and ask to be woken for the rest."""
        self._is_wake_set = False
        if self._is_over:
            return
        ready: list[bytes] = []
        if not self._has_begun:
            if self._due > now:  # woken by a socket that drained, before the head is due
                self._wake_at(self._due)
                return
            self._has_begun = True
            ready.append(self._head)
        body, is_last = self._take_due(now)
        if body:
            ready.append(body)
        if is_last:
            self._finish(ready)
        elif self._connection.send(b"".join(ready)):
            # A stream with more to say at once waits for the next tick, so that the others get their turn.
            self._wake_at(self._due if self._due > now else now + _RESOLUTION_S)

    def abandon(self) -> None:
        """Stop because the client has gone."""
        self._is_over = True
        self._bill(is_complete=False)
        if self._is_stream:
            self._server.stats.open_streams -= 1
            self._server.stats.aborted_streams += 1
        else:
            self._server.stats.aborted_requests += 1

    def _take_due(self, now: float) -> tuple[bytes, bool]:
        """Return the framed bytes that are due, and whether they are the last."""
        due: list[bytes] = []
        size = 0
        is_last = False
        while True:
            if self._next is None:
                frame = next(self._frames, None)
                if frame is None:
                    is_last = True
                    break
                self._due += frame[0]
                self._next = frame[1]
            if self._due > now or size > _MOST_AT_ONCE:
                break
            due.append(self._next)
            size += len(self._next)
            self._next = None
        self._taken += len(due)
        if not due or self._is_head_only:
            return b"", is_last
        body = due[0] if len(due) == 1 else b"".join(due)
        if not self._is_stream:
            return body, is_last
        self._server.stats.chunks_sent += len(due)
        return b"%x\r\n%b\r\n" % (size, body), is_last

    def _finish(self, ready: list[bytes]) -> None:
        if self._ending is Ending.HANG:
            if ready:
                self._connection.send(b"".join(ready))
            return
        self._is_over = True
        is_cut = self._ending is Ending.CUT
        self._bill(is_complete=not is_cut)
        if self._is_stream:
            self._server.stats.open_streams -= 1
            if not is_cut:
                ready.append(b"0\r\n\r\n")
        self._connection.finish(b"".join(ready), is_reusable=self._is_keep_alive and not is_cut)

    def _bill(self, *, is_complete: bool) -> None:
        job, self._job = self._job, None
        if job is not None:
            is_torn = job.answer.torn_after is not None
            self._server.ledger.add(job, self._taken, is_complete=is_complete and not is_torn)

    def _wake_at(self, due: float) -> None:
        if not self._is_wake_set:
            self._is_wake_set = True
            self._server.ticker.call_at(due, self)
