"""The outbound client against a real socket that misbehaves in every way it can."""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from omniroute.errors import UpstreamProtocolError, UpstreamTimeout, UpstreamUnreachable, UrlBlocked
from omniroute.gateway.inference import read_all
from omniroute.gateway.ports import ReadTimeout
from omniroute.gateway.transport import HttpTransport
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from tests.fakes.upstream import FakeUpstream, answer, fake_upstream, hang_up, raw, silence, stream

QUICK = Deadlines(connect_s=1.0, headers_s=0.2, content_s=0.2, idle_s=0.2, total_s=1.0)


def loopback(host: str, port: int, *, is_local: bool, is_operator: bool) -> tuple[str, ...]:
    del port, is_operator
    if not is_local:
        raise UrlBlocked
    return (host,)


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    made = HttpTransport(guard=loopback, now=time.monotonic)
    yield made
    made.close()


def request_to(upstream: FakeUpstream, path: str = "/v1/x", body: bytes = b"{}", **more: Any) -> UpstreamRequest:
    return UpstreamRequest(
        "POST", upstream.url + path, (("Authorization", "Bearer k"),), body, QUICK, is_local=True, **more
    )


def read(transport: HttpTransport, request: UpstreamRequest) -> bytes:
    response = transport.send(request)
    try:
        return read_all(response, 1.0, 1 << 20, time.monotonic)
    finally:
        response.close()


def test_a_call_arrives_as_it_was_made_and_its_answer_comes_back(transport: HttpTransport) -> None:
    with fake_upstream(answer(b'{"ok":1}', headers={"X-Request-Id": "u1"})) as upstream:
        response = transport.send(request_to(upstream, "/v1/chat?a=b", b'{"x":2}'))
        assert (response.status, response.headers["x-request-id"]) == (200, "u1")
        assert read_all(response, 1.0, 100, time.monotonic) == b'{"ok":1}'
        response.close()
        received = upstream.received[0]
        assert received.head.startswith(b"POST /v1/chat?a=b HTTP/1.1\r\n")
        assert received.body == b'{"x":2}'
        assert received.headers["authorization"] == "Bearer k"
        assert received.headers["host"] == f"127.0.0.1:{upstream.port}"


def test_connections_are_reused_and_a_closed_one_is_replaced(transport: HttpTransport) -> None:
    def answer_and_close(sock: Any, request: Any) -> bool:
        answer(b"2")(sock, request)
        return False

    with fake_upstream(answer(b"1"), answer_and_close, answer(b"3")) as upstream:
        assert read(transport, request_to(upstream)) == b"1"
        assert read(transport, request_to(upstream)) == b"2"
        assert upstream.opened == 1
        gevent.sleep(0.01)  # lets the end of the connection arrive
        assert read(transport, request_to(upstream)) == b"3"
        assert (upstream.opened, len(upstream.received)) == (2, 3)


def test_an_idle_connection_that_dies_under_the_request_is_replaced_once(transport: HttpTransport) -> None:
    with fake_upstream(answer(b"1"), hang_up, answer(b"2")) as upstream:
        assert read(transport, request_to(upstream)) == b"1"
        assert read(transport, request_to(upstream)) == b"2"
        assert upstream.opened == 2


def test_a_fresh_connection_that_dies_is_an_error(transport: HttpTransport) -> None:
    with fake_upstream(hang_up) as upstream, pytest.raises(UpstreamProtocolError):
        transport.send(request_to(upstream))
    assert transport.open_connections == 0


def test_a_large_body_and_a_large_answer_pass(transport: HttpTransport) -> None:
    big = b"x" * 900_000
    with fake_upstream(answer(big)) as upstream:
        assert read(transport, request_to(upstream, body=big)) == big
        assert upstream.received[0].body == big


def test_reading_returns_what_has_arrived(transport: HttpTransport) -> None:
    with fake_upstream(stream(b"data: 1\n\n", 0.05, b"data: 2\n\n")) as upstream:
        response = transport.send(request_to(upstream))
        assert response.read(1.0) == b"data: 1\n\n"
        with pytest.raises(ReadTimeout):
            response.read(0.005)
        assert response.read(1.0) == b"data: 2\n\n"
        assert response.read(1.0) == b""
        response.close()
        assert transport.open_connections == 1


@pytest.mark.parametrize("end", ["close", "length"])
def test_a_body_without_chunks_is_read_as_it_arrives(transport: HttpTransport, end: str) -> None:
    def act(sock: Any, _request: Any) -> bool:
        length = b"Content-Length: 2\r\n" if end == "length" else b""
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\na")
        gevent.sleep(0.02)
        sock.sendall(b"b")
        return end == "length"

    with fake_upstream(act) as upstream:
        response = transport.send(request_to(upstream))
        assert [response.read(1.0), response.read(1.0), response.read(1.0)] == [b"a", b"b", b""]
        response.close()
        assert transport.open_connections == (1 if end == "length" else 0)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_body_that_breaks_off_is_an_error(transport: HttpTransport, data: bytes) -> None:
    with fake_upstream(raw(data)) as upstream, pytest.raises(UpstreamProtocolError):
        read(transport, request_to(upstream))
    assert transport.open_connections == 0


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400_000 + b"\r\n\r\n"])
def test_what_is_not_http_is_an_error(transport: HttpTransport, data: bytes) -> None:
    with fake_upstream(raw(data)) as upstream, pytest.raises(UpstreamProtocolError):
        transport.send(request_to(upstream))


def test_a_silent_provider_is_left_after_the_header_limit(transport: HttpTransport) -> None:
    with fake_upstream(silence) as upstream:
        with pytest.raises(UpstreamTimeout) as caught:
            transport.send(request_to(upstream))
        assert caught.value.phase == "headers"
        gevent.sleep(0.01)
        assert upstream.open_now == 0


def test_a_refused_connection_is_unreachable(transport: HttpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    request = UpstreamRequest("POST", f"http://127.0.0.1:{port}/", (), b"", QUICK, is_local=True)
    with pytest.raises(UpstreamUnreachable):
        transport.send(request)


def test_the_guard_decides_before_a_socket_is_opened(transport: HttpTransport) -> None:
    with fake_upstream(answer(b"{}")) as upstream:
        request = UpstreamRequest("POST", upstream.url, (), b"", QUICK, is_local=False)
        with pytest.raises(UrlBlocked):
            transport.send(request)
        assert upstream.opened == 0


def test_a_declared_local_connection_is_never_shared_with_another(transport: HttpTransport) -> None:
    with fake_upstream(answer(b"{}")) as upstream:
        read(transport, request_to(upstream))
        request = UpstreamRequest("POST", upstream.url + "/v1/x", (), b"", QUICK, is_local=False)
        with pytest.raises(UrlBlocked):
            transport.send(request)
        assert len(upstream.received) == 1


def test_abort_wakes_the_reader_from_another_greenlet(transport: HttpTransport) -> None:
    with fake_upstream(stream(b"data: 1\n\n", 30.0)) as upstream:
        response = transport.send(request_to(upstream))
        assert response.read(1.0) == b"data: 1\n\n"
        gevent.spawn_later(0.01, response.abort)
        began = time.monotonic()
        with pytest.raises(UpstreamProtocolError):
            response.read(20.0)
        assert time.monotonic() - began < 5
        response.close()
        response.close()
        assert transport.open_connections == 0


def test_interim_answers_are_skipped(transport: HttpTransport) -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with fake_upstream(raw(data, keep=True)) as upstream:
        assert read(transport, request_to(upstream)) == b"ok"


def test_a_compressed_answer_is_opened(transport: HttpTransport) -> None:
    packed = zlib.compress(b'{"a":1}')
    with fake_upstream(answer(packed, headers={"Content-Encoding": "deflate"})) as upstream:
        assert read(transport, request_to(upstream)) == b'{"a":1}'


def test_an_unknown_encoding_is_an_error(transport: HttpTransport) -> None:
    with (
        fake_upstream(answer(b"?", headers={"Content-Encoding": "br"})) as upstream,
        pytest.raises(UpstreamProtocolError),
    ):
        transport.send(request_to(upstream))


def test_an_endless_answer_is_cut(transport: HttpTransport) -> None:
    def flood(sock: Any, _request: Any) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        for _ in range(200):
            sock.sendall(b"x" * 65536)
        return False

    with fake_upstream(flood) as upstream, pytest.raises(UpstreamProtocolError, match="too large"):
        read(transport, request_to(upstream))
    assert transport.open_connections == 0


def test_idle_connections_are_closed_after_a_while() -> None:
    now = [100.0]
    transport = HttpTransport(guard=loopback, now=lambda: now[0])
    with fake_upstream(answer(b"{}")) as upstream:
        read(transport, request_to(upstream))
        transport.close_idle()
        assert transport.open_connections == 1
        now[0] += 31
        transport.close_idle()
        assert transport.open_connections == 0
