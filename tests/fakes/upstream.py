"""A provider on a real socket that does what a test tells it: answer, stall, cut, trickle, close."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import gevent
import gevent.socket
from gevent.server import StreamServer

from omniroute.providers.sandbox import respond
from omniroute.providers.sandbox.script import Ending


@dataclass
class Received:
    """One request as it arrived."""

    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


Act = Callable[[Any, Received], bool | None]
"""Answers on the socket; returning False closes the connection."""


@dataclass
class FakeUpstream:
    """Plays one act per request, in order; the last one again and again."""

    acts: list[Act]
    port: int = 0
    received: list[Received] = field(default_factory=list)
    opened: int = 0
    open_now: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle(self, sock: Any, _address: Any) -> None:
        self.opened += 1
        self.open_now += 1
        try:
            buffered = b""
            while True:
                while b"\r\n\r\n" not in buffered:
                    data = sock.recv(65536)
                    if not data:
                        return
                    buffered += data
                head, _, rest = buffered.partition(b"\r\n\r\n")
                request = Received(head, b"")
                length = int(request.headers.get("content-length", "0"))
                while len(rest) < length:
                    data = sock.recv(65536)
                    if not data:
                        return
                    rest += data
                request.body, buffered = rest[:length], rest[length:]
                self.received.append(request)
                act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
                if act(sock, request) is False:
                    return
        except OSError:
            return
        finally:
            self.open_now -= 1
            sock.close()


@contextmanager
def fake_upstream(*acts: Act) -> Iterator[FakeUpstream]:
    """Run a fake provider on loopback in this process's hub."""
    upstream = FakeUpstream(list(acts))
    with serving(upstream.handle) as upstream.port:
        yield upstream


@contextmanager
def serving(handle: Callable[[Any, Any], Any]) -> Iterator[int]:
    """Handle connections to a port of loopback; at the end none is left, whatever its handler was doing.

    A server of gevent's without a pool leaves its handlers running when it stops. One that is killed before its first
    step never gets to a `finally` of its own, so the connections are closed from here.
    """
    connections: dict[gevent.Greenlet[..., Any], Any] = {}

    def spawn(run: Callable[..., Any], given: Any, close: Any, accepted: tuple[Any, Any]) -> None:
        greenlet = gevent.spawn(run, given, close, accepted)
        connections[greenlet] = accepted[0]
        greenlet.rawlink(lambda ended: connections.pop(ended).close())

    server = StreamServer(("127.0.0.1", 0), handle, spawn=cast("Any", spawn))
    server.start()
    try:
        yield int(server.address[1])
    finally:
        server.stop()
        gevent.killall(list(connections))
        for sock in connections.values():
            sock.close()


def answer(
    body: bytes, *, status: int = 200, headers: dict[str, str] | None = None, content_type: str = "application/json"
) -> Act:
    """A whole answer with its length."""

    def act(sock: Any, _request: Received) -> None:
        lines = {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        sock.sendall(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body)

    return act


def stream(*pieces: bytes | float, end: bool = True) -> Act:
    """A chunked event stream; a number is a pause in seconds. Without `end` the connection is cut."""

    def act(sock: Any, _request: Received) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            if isinstance(piece, float):
                if has_left(sock, piece):
                    return False
            else:
                sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        if end:
            sock.sendall(b"0\r\n\r\n")
        return end

    return act


def has_left(sock: Any, within_s: float) -> bool:
    """Pause, but notice when the other side closes meanwhile."""
    try:
        gevent.socket.wait_read(sock.fileno(), timeout=within_s, timeout_exc=TimeoutError())
    except TimeoutError:
        return False
    return True


def raw(data: bytes, *, keep: bool = False) -> Act:
    """These bytes, then the end of the connection."""

    def act(sock: Any, _request: Received) -> bool:
        sock.sendall(data)
        return keep

    return act


def silence(sock: Any, _request: Received) -> bool:
    """Nothing, until the other side goes."""
    sock.recv(1)
    return False


def hang_up(_sock: Any, _request: Received) -> bool:
    """The connection ends without an answer."""
    return False


def sandboxed(sock: Any, request: Received) -> bool:
    """What the simulated provider answers, at once: in the format of the path, with the faults of the model."""
    path = request.head.split(b" ", 2)[1].decode("latin-1")
    script = respond(path, request.headers, request.body)
    headers = "".join(f"{name}: {value}\r\n" for name, value in script.headers)
    is_sized = any(name == "content-length" for name, _ in script.headers)
    if not is_sized:
        headers += "transfer-encoding: chunked\r\n"
    sock.sendall(f"HTTP/1.1 {script.status} X\r\n{headers}\r\n".encode())
    for _, frame in script.frames:
        if frame:
            sock.sendall(frame if is_sized else b"%x\r\n%b\r\n" % (len(frame), frame))
    if script.ending is not Ending.COMPLETE:
        return False
    if not is_sized:
        sock.sendall(b"0\r\n\r\n")
    return True
