"""Outbound proxies on real sockets: HTTP with CONNECT and forwarding, HTTPS, SOCKS5; each may want a password, refuse,
stall or break off. Whatever they are asked for, they lead to one port of loopback: so public addresses can be played.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import gevent
import gevent.socket

from tests.fakes.tls import Authority, secured, server_context
from tests.fakes.upstream import serving

PATIENCE_S = 20.0
"""Longer than any test waits: the server's end ends it."""


@dataclass
class FakeProxy:
    """One proxy.

    Attributes:
        leads_to: the port of loopback that every connection goes on to.
        login: the only user and password that are let in; None for everybody.
        fate: what happens to a request: "" is served, "stall" waits, "close" breaks off, "garbage" answers nonsense, a
            number is the status or SOCKS code of a refusal.
        asked: the places that it was asked for.
        logins: what came along as user and password.
    """

    leads_to: int = 0
    login: tuple[str, str] | None = None
    fate: str | int = ""
    port: int = 0
    opened: int = 0
    asked: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    def http(self, sock: Any, _address: Any) -> None:
        """Speak HTTP on one connection."""
        self.opened += 1
        with suppress(OSError, EOFError):
            head, rest = _head(sock)
            while self._http(sock, head, rest):
                head, rest = _head(sock)
        sock.close()

    def _http(self, sock: Any, head: bytes, rest: bytes) -> bool:
        """Serve one request; True if another may follow."""
        method, place, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.heads.append(head)
        self.asked.append(place)
        self.logins.append(_login_of(head))
        if self.fate == "stall":
            gevent.sleep(PATIENCE_S)
        if self.fate == "close":
            return False
        if self.fate == "garbage":
            sock.sendall(b"this is no HTTP\r\n\r\n")
            return False
        if self.login is not None and _login_of(head) != ":".join(self.login):
            _say(sock, b"407 Proxy Authentication Required", b'Proxy-Authenticate: Basic realm="x"\r\n')
            return True
        if isinstance(self.fate, int):
            _say(sock, b"%d Refused" % self.fate)
            return True
        if method == "CONNECT":
            surplus = b"surplus" if self.fate == "surplus" else b""
            sock.sendall(b"HTTP/1.1 200 Connection established\r\nVia: fake\r\n\r\n" + surplus)
            self._relay(sock)
            return False
        path = "/" + place.partition("://")[2].partition("/")[2]
        self._relay(sock, head.replace(place.encode(), path.encode(), 1) + b"\r\n\r\n" + rest)
        return False

    # --- SOCKS5 -------------------------------------------------------------------------------------------------------

    def socks(self, sock: Any, _address: Any) -> None:
        """Speak SOCKS5 on one connection."""
        self.opened += 1
        with suppress(OSError, EOFError):
            self._socks(sock)
        sock.close()

    def _socks(self, sock: Any) -> None:
        version, count = _exactly(sock, 2)
        methods = _exactly(sock, count)
        if self.fate == "stall":
            gevent.sleep(PATIENCE_S)
        if self.fate in ("close", "garbage"):
            sock.sendall(b"HTTP" if self.fate == "garbage" else b"")
            return
        assert version == 5
        if self.login is None:
            sock.sendall(b"\x05\x00")
        elif 2 not in methods:
            sock.sendall(b"\x05\xff")
            return
        else:
            sock.sendall(b"\x05\x02")
            if not self._let_in(sock):
                return
        _, command, _, kind = _exactly(sock, 4)
        assert command == 1
        size = {1: 4, 4: 16}.get(kind) or _exactly(sock, 1)[0]
        raw = _exactly(sock, size)
        host = raw.decode() if kind == 3 else str(ipaddress.ip_address(raw))
        self.asked.append(f"{host}:{int.from_bytes(_exactly(sock, 2), 'big')}")
        if isinstance(self.fate, int):
            sock.sendall(bytes([5, self.fate, 0]))  # cut short, as some do
            return
        for byte in b"\x05\x00\x00\x03\x04fake\x04\x38":  # a slow one, and a name as the address
            sock.sendall(bytes([byte]))
        self._relay(sock)

    def _let_in(self, sock: Any) -> bool:
        assert _exactly(sock, 1) == b"\x01"
        pair = [_exactly(sock, _exactly(sock, 1)[0]).decode() for _ in range(2)]
        self.logins.append(":".join(pair))
        sock.sendall(b"\x01\x00" if tuple(pair) == self.login else b"\x01\x01")
        return tuple(pair) == self.login

    # --- onwards ------------------------------------------------------------------------------------------------------

    def _relay(self, sock: Any, first: bytes = b"") -> None:
        onward = gevent.socket.create_connection(("127.0.0.1", self.leads_to))
        back = gevent.spawn(_copy, onward, sock)
        try:
            onward.sendall(first)
            _copy(sock, onward)
            back.join()
        finally:
            back.kill()
            onward.close()


def _copy(source: Any, target: Any) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(gevent.socket.SHUT_WR)


def _head(sock: Any) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _exactly(sock: Any, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _login_of(head: bytes) -> str | None:
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() == "proxy-authorization":
            return base64.b64decode(value.removeprefix("Basic ")).decode()
    return None


def _say(sock: Any, status: bytes, more: bytes = b"") -> None:
    sock.sendall(b"HTTP/1.1 %b\r\n%bContent-Length: 0\r\n\r\n" % (status, more))


@contextmanager
def fake_proxy(kind: str, leads_to: int, authority: Authority | None = None, **more: Any) -> Iterator[FakeProxy]:
    """Run a proxy of a kind (`http`, `https`, `socks5`) on loopback in this process's hub."""
    proxy = FakeProxy(leads_to, **more)
    handle: Callable[[Any, Any], Any] = proxy.socks if kind.startswith("socks") else proxy.http
    if kind == "https":
        assert authority is not None
        handle = secured(handle, server_context(authority))
    with serving(handle) as proxy.port:
        yield proxy
