"""The running server against clients that dawdle, break off and crowd, over raw sockets."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.processes import Server, running_server, wait_until

HELLO = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("wire") / "data"
    with running_server(directory, workers=1, CLIENT_READ_TIMEOUT_MS="1000", CLIENT_WRITE_TIMEOUT_MS="1000") as running:
        yield running
        assert "Traceback" not in running.output


def connected(server: Server) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return made


def post(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    if not any("chunked" in header for header in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_to_end(client: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            piece = client.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def test_a_body_that_stops_coming_gets_408_and_the_connection_ends(server: Server) -> None:
    with connected(server) as client:
        client.sendall(post(b'{"model"', length=100))
        began = time.monotonic()
        data = read_to_end(client)
        assert data.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in data.lower()
        assert time.monotonic() - began < 5


def test_after_a_broken_chunk_nothing_is_taken_for_a_request(server: Server) -> None:
    smuggled = b"zz\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(server) as client:
        client.sendall(post(b'5\r\n{"mod\r\n' + smuggled, "Transfer-Encoding: chunked"))
        data = read_to_end(client)
        assert data.count(b"HTTP/1.1 ") == 1
        assert data.startswith(b"HTTP/1.1 400 ")


def test_requests_in_one_breath_are_answered_in_order(server: Server) -> None:
    texts = ["first", "second", "third"]
    bodies = [
        json.dumps({"model": "sandbox/echo", "stream": index == 1, "messages": [{"role": "user", "content": text}]})
        for index, text in enumerate(texts)
    ]
    with connected(server) as client:
        client.sendall(
            b"".join(post(body.encode()) for body in bodies[:2]) + post(bodies[2].encode(), "Connection: close")
        )
        data = read_to_end(client)
        assert data.count(b"HTTP/1.1 200 ") == 3
        found = [data.index(text.encode()) for text in texts]
        assert found == sorted(found)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_client_that_takes_nothing_is_let_go(server: Server, is_streamed: bool) -> None:
    text = "word " * 2_400_000
    body = {**HELLO, "stream": is_streamed, "messages": [{"role": "user", "content": text}]}
    [worker] = server.worker_pids()
    before = _open_sockets(worker)
    with connected(server) as client:
        client.sendall(post(json.dumps(body).encode()))
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        assert _open_sockets(worker) > before
        # What the client would see waits behind the bytes that it does not take, so the server is asked.
        wait_until(lambda: _open_sockets(worker) <= before, within_s=20, what="the server lets go of the connection")
    assert requests.post(f"{server.url}/v1/chat/completions", json=HELLO, timeout=10).status_code == 200


def _open_sockets(pid: int) -> int:
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    return sum(str(link).startswith("socket:") for link in links)


def test_a_model_with_any_letters_is_served_with_plain_headers(server: Server) -> None:
    body = {**HELLO, "model": "sandbox/m\u00f6del-\u4e2d"}
    answer = requests.post(f"{server.url}/v1/chat/completions", json=body, timeout=10)
    assert answer.status_code in {200, 404}
    assert all(value.isascii() for value in answer.headers.values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_every_phase_settles_what_was_let_in(tmp_path: Path, number: int) -> None:
    with running_server(tmp_path / "data", workers=1, SHUTDOWN_TIMEOUT_MS="700") as server:
        uploading, waiting, streaming = (connected(server) for _ in range(3))
        uploading.sendall(post(b'{"model"', length=100))
        waiting.sendall(post(json.dumps({**HELLO, "model": "sandbox/hang"}).encode()))
        streaming.sendall(post(json.dumps({**HELLO, "model": "sandbox/story-5000", "stream": True}).encode()))
        assert streaming.recv(100)
        time.sleep(0.1)
        server.process.send_signal(number)
        told = read_to_end(streaming)
        assert read_to_end(waiting).startswith(b"HTTP/1.1 503 ")
        assert b"server_draining" in told
        for client in (uploading, waiting, streaming):
            client.close()
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.output
    with running_server(tmp_path / "data", workers=1) as server:
        rows = server.logs()
        assert {row["outcome"] for row in rows} == {"cancelled"}
        assert {row["model"] for row in rows} == {"hang", "story-5000"}
