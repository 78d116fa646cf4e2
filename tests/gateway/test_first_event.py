"""T55: how long the first event stays in the gateway."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from omniroute.gateway.dialects import Surface
from omniroute.records import NodeType
from tests.fakes.upstream import Received, fake_upstream
from tests.gateway.callers import GOOGLE, REQUESTS
from tests.gateway.conftest import Bench

Make = Callable[..., Bench]

EVENTS = (
    b'event: message_start\ndata: {"type":"message_start",'
    b'"message":{"id":"m","model":"m","usage":{"input_tokens":3}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"hello"}}\n\n'
)
ALLOWED_S = 0.005
TRIES = 12
"""The quickest of several: what other programs do to the clock is no fault of the gateway."""


@pytest.mark.parametrize("surface", list(REQUESTS))
@pytest.mark.parametrize("is_chunked", [True, False])
def test_t55_the_first_event_leaves_as_soon_as_it_came(bench_of: Make, surface: Surface, is_chunked: bool) -> None:
    sent_at = 0.0

    def act(sock: Any, _request: Received) -> bool:
        nonlocal sent_at
        framing = b"Transfer-Encoding: chunked" if is_chunked else b"Connection: close"
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n\r\n")
        data = b"%x\r\n%b\r\n" % (len(EVENTS), EVENTS) if is_chunked else EVENTS
        sent_at = time.monotonic()
        sock.sendall(data)
        sock.recv(1)
        return False

    took: list[float] = []
    with fake_upstream(act) as upstream:
        bench = bench_of(upstream, node_type=NodeType.ANTHROPIC)
        for _ in range(TRIES):
            said = REQUESTS[surface]
            is_named_by_path = surface in GOOGLE
            body = said if is_named_by_path else {**said, "model": "up/m", "stream": True}
            more: dict[str, Any] = {"model": "up/m", "is_stream": True} if is_named_by_path else {}
            opened = bench.call(body, surface, **more)
            assert not isinstance(opened.body, bytes)
            seen = b""
            while b"hello" not in seen:
                seen += next(opened.body)
            took.append(time.monotonic() - sent_at)
            opened.body.close()
    assert min(took) < ALLOWED_S
