"""The outbound client over TLS: certificates, time limits, wake-ups and short handshakes."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from omniroute.errors import UpstreamProtocolError, UpstreamTimeout, UpstreamUnreachable
from omniroute.gateway.answers import read_all
from omniroute.gateway.ports import ReadTimeout
from omniroute.gateway.transport import HttpTransport
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from tests.fakes.tls import Authority, new_authority, tls_upstream
from tests.fakes.upstream import FakeUpstream, answer, serving, silence, stream

QUICK = Deadlines(connect_s=0.5, headers_s=0.5, content_s=0.5, idle_s=0.5, total_s=1.0)


def loopback(host: str, port: int, *, is_local: bool, is_operator: bool) -> tuple[str, ...]:
    del host, port, is_local, is_operator
    return ("127.0.0.1",)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def transport(authority: Authority) -> Iterator[HttpTransport]:
    made = HttpTransport(guard=loopback, now=time.monotonic, ca_bundle=authority.bundle)
    yield made
    made.close()
    assert made.open_connections == 0


def request_to(upstream: FakeUpstream, body: bytes = b"{}") -> UpstreamRequest:
    return UpstreamRequest("POST", upstream.url + "/v1/x", (), body, QUICK)


def read(transport: HttpTransport, request: UpstreamRequest) -> bytes:
    response = transport.send(request)
    try:
        return read_all(response, 2.0, 8 << 20, time.monotonic)
    finally:
        response.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_call_over_a_known_authority(transport: HttpTransport, authority: Authority) -> None:
    big = b"x" * 900_000
    with tls_upstream(authority, answer(b'{"ok":1}'), answer(big)) as upstream:
        assert read(transport, request_to(upstream)) == b'{"ok":1}'
        assert read(transport, request_to(upstream, body=big)) == big
        assert upstream.received[1].body == big
        assert upstream.opened == 1, "the connection was kept"


def test_an_unknown_authority_is_unreachable(authority: Authority) -> None:
    transport = HttpTransport(guard=loopback, now=time.monotonic)
    with tls_upstream(authority, answer(b"{}")) as upstream:
        before = open_descriptors()
        with pytest.raises(UpstreamUnreachable, match="certificate"):
            transport.send(request_to(upstream))
        gevent.sleep(0.02)
        assert open_descriptors() <= before
        assert upstream.received == []
    assert transport.open_connections == 0


def test_a_certificate_for_another_name_is_unreachable(transport: HttpTransport, authority: Authority) -> None:
    with tls_upstream(authority, answer(b"{}")) as upstream:
        request = UpstreamRequest("POST", f"https://elsewhere.test:{upstream.port}/", (), b"{}", QUICK)
        with pytest.raises(UpstreamUnreachable, match="certificate"):
            transport.send(request)
        assert upstream.received == []


def test_what_does_not_speak_tls_is_unreachable(transport: HttpTransport) -> None:
    with serving(lambda sock, _: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        url = f"https://localhost:{port}/"
        with pytest.raises(UpstreamUnreachable):
            transport.send(UpstreamRequest("POST", url, (), b"{}", QUICK))


def test_a_handshake_that_stalls_ends_with_the_connect_limit(transport: HttpTransport) -> None:
    with serving(lambda *_: gevent.sleep(5)) as port:
        before = open_descriptors()
        url = f"https://localhost:{port}/"
        with pytest.raises(UpstreamTimeout) as caught:
            transport.send(UpstreamRequest("POST", url, (), b"{}", QUICK))
        assert caught.value.phase == "connect"
        # Of the two descriptors only the server's is left, while this test still holds the error and its frames.
        assert open_descriptors() <= before + 1


def test_a_read_that_times_out_can_be_continued(transport: HttpTransport, authority: Authority) -> None:
    with tls_upstream(authority, stream(b"data: 1\n\n", 0.1, b"data: 2\n\n")) as upstream:
        response = transport.send(request_to(upstream))
        assert response.read(1.0) == b"data: 1\n\n"
        with pytest.raises(ReadTimeout):
            response.read(0.01)
        assert response.read(1.0) == b"data: 2\n\n"
        assert response.read(1.0) == b""
        response.close()
        assert transport.open_connections == 1


def test_silence_is_left_after_the_header_limit(transport: HttpTransport, authority: Authority) -> None:
    with tls_upstream(authority, silence) as upstream:
        with pytest.raises(UpstreamTimeout) as caught:
            transport.send(request_to(upstream))
        assert caught.value.phase == "headers"
        gevent.sleep(0.02)
        assert upstream.open_now == 0


def test_abort_wakes_the_reader(transport: HttpTransport, authority: Authority) -> None:
    with tls_upstream(authority, stream(b"data: 1\n\n", 30.0)) as upstream:
        response = transport.send(request_to(upstream))
        assert response.read(1.0) == b"data: 1\n\n"
        gevent.spawn_later(0.02, response.abort)
        began = time.monotonic()
        with pytest.raises(UpstreamProtocolError):
            response.read(20.0)
        assert time.monotonic() - began < 5
        response.close()
        gevent.sleep(0.02)
        assert upstream.open_now == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_second_handshake_with_a_provider_is_a_short_one(
    transport: HttpTransport, authority: Authority, version: ssl.TLSVersion
) -> None:
    with tls_upstream(authority, answer(b"{}"), version=version) as upstream:
        read(transport, request_to(upstream))
        transport.close()
        read(transport, request_to(upstream))
        assert upstream.resumed == [False, True]


def test_a_connection_that_the_provider_closed_is_replaced(transport: HttpTransport, authority: Authority) -> None:
    def once(sock: Any, request: Any) -> bool:
        answer(b"1")(sock, request)
        return False

    with tls_upstream(authority, once, answer(b"2")) as upstream:
        assert read(transport, request_to(upstream)) == b"1"
        gevent.sleep(0.02)
        assert read(transport, request_to(upstream)) == b"2"
        assert upstream.opened == 2
