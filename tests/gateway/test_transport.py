# ruff: noqa: E501 -- a table row, or a frame as it is on the wire, reads better on one line
"""The outbound client against a real socket that misbehaves in every way it can."""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.socket
import pytest

from omniroute.errors import UpstreamProtocolError, UpstreamTimeout, UpstreamUnreachable, UrlBlocked
from omniroute.gateway.answers import read_all
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


def request_to(
    upstream: FakeUpstream, path: str = "/v1/x", body: bytes = b"{}", deadlines: Deadlines = QUICK, **more: Any
) -> UpstreamRequest:
    return UpstreamRequest(
        "POST", upstream.url + path, (("Authorization", "Bearer k"),), body, deadlines, is_local=True, **more
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


def test_a_connection_in_use_when_the_transport_closes_is_not_kept() -> None:
    transport = HttpTransport(guard=loopback, now=time.monotonic)
    with fake_upstream(answer(b"{}")) as upstream:
        read(transport, request_to(upstream))
        response = transport.send(request_to(upstream, "/again"))
        transport.close()
        assert read_all(response, 1.0, 100, time.monotonic) == b"{}"
        response.close()
    assert transport.open_connections == 0


# --- providers that mean harm ---------------------------------------------------------------------------------------

DRIPS = [
    pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", id="headers"),
    pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="interim answers"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX-", b"x", id="an endless name"),
]


def dripping(head: bytes, drop: bytes, pause_s: float = 0.02) -> Any:
    def act(sock: Any, _request: Any) -> bool:
        sock.sendall(head)
        for _ in range(200):
            sock.sendall(drop)
            gevent.sleep(pause_s)
        return False

    return act


@pytest.mark.parametrize(("head", "drop"), DRIPS)
def test_a_trickle_does_not_stretch_the_header_limit(transport: HttpTransport, head: bytes, drop: bytes) -> None:
    with fake_upstream(dripping(head, drop)) as upstream:
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout) as caught:
            transport.send(request_to(upstream))
        assert caught.value.phase == "headers"
        assert time.monotonic() - began < 1.0
    assert transport.open_connections == 0


@pytest.mark.parametrize(("head", "drop"), DRIPS)
def test_a_flood_before_the_answer_is_cut(transport: HttpTransport, head: bytes, drop: bytes) -> None:
    with fake_upstream(raw(head + drop * (600_000 // len(drop)))) as upstream, pytest.raises(UpstreamProtocolError):
        transport.send(request_to(upstream, deadlines=Deadlines()))  # it is size that ends it, not time
    assert transport.open_connections == 0


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("head", [CHUNKED + b"5;x=", CHUNKED + b"0\r\nX-"], ids=["chunk extension", "trailer"])
def test_framing_without_content_is_silence(transport: HttpTransport, head: bytes) -> None:
    with fake_upstream(dripping(head, b"x")) as upstream:
        response = transport.send(request_to(upstream))
        began = time.monotonic()
        with pytest.raises(ReadTimeout):
            response.read(0.1)
        assert time.monotonic() - began < 1.0
        response.close()
    with fake_upstream(raw(head + b"x" * 700_000)) as upstream:
        response = transport.send(request_to(upstream))
        with pytest.raises(UpstreamProtocolError):
            response.read(1.0)
        response.close()
    assert transport.open_connections == 0


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_compressed_bomb_is_unpacked_piece_by_piece(transport: HttpTransport, is_chunked: bool) -> None:
    packed = zlib.compress(bytes(80 << 20))
    assert len(packed) < 100_000
    act = stream(packed) if is_chunked else answer(packed)

    def compressed(sock: Any, request: Any) -> Any:
        class Renamed:
            def sendall(self, data: bytes) -> None:
                sock.sendall(data.replace(b"\r\nContent-Type", b"\r\nContent-Encoding: gzip\r\nContent-Type", 1))

        return act(Renamed(), request)

    with fake_upstream(compressed) as upstream:
        response = transport.send(request_to(upstream))
        sizes = [len(response.read(1.0)) for _ in range(20)]
        assert 0 < max(sizes) <= 1 << 20
        response.close()
        with pytest.raises(UpstreamProtocolError, match="too large"):
            read(transport, request_to(upstream))
    assert transport.open_connections <= 1


@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 1_000_000])
def test_a_compressed_answer_is_whole_whatever_its_size(transport: HttpTransport, size: int) -> None:
    text = (b"0123456789" * (size // 10 + 1))[:size]
    with fake_upstream(answer(zlib.compress(text), headers={"Content-Encoding": "gzip"})) as upstream:
        assert read(transport, request_to(upstream)) == text
    assert transport.open_connections == 1


def test_what_only_calls_itself_compressed_is_an_error(transport: HttpTransport) -> None:
    with (
        fake_upstream(answer(b"plain", headers={"Content-Encoding": "gzip"})) as upstream,
        pytest.raises(UpstreamProtocolError),
    ):
        read(transport, request_to(upstream))


ONE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"


@pytest.mark.parametrize("surplus", [b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 3\r\n\r\ntwo", b"\x00garbage"])
def test_a_second_answer_in_the_same_breath_is_nobodys(transport: HttpTransport, surplus: bytes) -> None:
    with fake_upstream(raw(ONE + surplus, keep=True), answer(b"next")) as upstream:
        response = transport.send(request_to(upstream))
        assert read_all(response, 1.0, 100, time.monotonic) == b"one"
        assert "x-a" not in response.headers
        response.close()
        assert transport.open_connections == 0, "a connection out of step is not used again"
        assert read(transport, request_to(upstream)) == b"next"


def test_trailers_change_nothing(transport: HttpTransport) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n2\r\nok\r\n0\r\nX-A: 2\r\nTransfer-Encoding: x\r\n\r\n"
    with fake_upstream(raw(data, keep=True)) as upstream:
        response = transport.send(request_to(upstream))
        assert read_all(response, 1.0, 100, time.monotonic) == b"ok"
        assert response.headers["x-a"] == "1"
        response.close()


def test_a_change_of_protocol_is_an_error(transport: HttpTransport) -> None:
    data = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello"
    with fake_upstream(raw(data)) as upstream, pytest.raises(UpstreamProtocolError):
        transport.send(request_to(upstream))
    assert transport.open_connections == 0


def test_what_a_provider_says_before_it_hangs_up_on_a_large_body_counts(transport: HttpTransport) -> None:
    """A server that takes no body this large answers while it arrives."""
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def refuse() -> None:
        sock, _ = listener.accept()
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
        sock.shutdown(socket.SHUT_WR)
        gevent.sleep(0.05)
        sock.close()

    serving = gevent.spawn(refuse)
    request = UpstreamRequest(
        "POST", f"http://127.0.0.1:{listener.getsockname()[1]}/", (), b"x" * (30 << 20), QUICK, is_local=True
    )
    response = transport.send(request)
    assert (response.status, read_all(response, 1.0, 100, time.monotonic)) == (413, b"{}")
    response.close()
    serving.join(1)
    listener.close()
    assert transport.open_connections == 0


def test_a_dead_pool_is_not_walked_through(transport: HttpTransport) -> None:
    """After one kept connection has failed under a request, the next try opens a new one."""
    with fake_upstream(answer(b"1"), answer(b"1"), hang_up, answer(b"2")) as upstream:
        held = [transport.send(request_to(upstream)) for _ in range(2)]
        for response in held:
            read_all(response, 1.0, 10, time.monotonic)
            response.close()
        assert read(transport, request_to(upstream)) == b"2"
        assert (upstream.opened, len(upstream.received)) == (3, 4)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://127.0.0.1:1/caf\u00e9", "http://b\u00fccher/"])
def test_an_address_that_is_none_is_blocked(transport: HttpTransport, url: str) -> None:
    with pytest.raises(UrlBlocked):
        transport.send(UpstreamRequest("POST", url, (), b"{}", QUICK, is_local=True))


def test_looking_up_a_name_is_part_of_connecting() -> None:
    def slow(host: str, port: int, *, is_local: bool, is_operator: bool) -> tuple[str, ...]:
        gevent.sleep(5)
        return (host,)

    transport = HttpTransport(guard=slow, now=time.monotonic)
    deadlines = Deadlines(connect_s=0.05)
    with pytest.raises(UpstreamTimeout) as caught:
        transport.send(UpstreamRequest("POST", "http://127.0.0.1:1/", (), b"{}", deadlines, is_local=True))
    assert caught.value.phase == "connect"
