"""What a request leaves dies at once: no cycles that hold its body until some later collection."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
import pytest

from omniroute.formats.canonical import Message
from omniroute.gateway.dialects import Surface
from omniroute.gateway.run import Run
from omniroute.records import NodeType
from tests.fakes.upstream import answer, fake_upstream, stream
from tests.gateway.conftest import Bench

STREAMS: Final = 300
REQUESTS: Final = 40


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("surface", [Surface.OPENAI_CHAT, Surface.ANTHROPIC_MESSAGES])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_served_request_is_gone_when_its_answer_is(
    bench_of: Callable[..., Bench], surface: Surface, is_streamed: bool
) -> None:
    bench = bench_of()
    body: dict[str, Any] = {
        "model": "sandbox/echo",
        "max_tokens": 5,
        "stream": is_streamed,
        "messages": [{"role": "user", "content": "x" * 100_000}, {"role": "user", "content": "hi"}],
    }
    for _ in range(3):
        opened = bench.call(body, surface)
        if not isinstance(opened.body, bytes):
            for _piece in opened.body:
                pass
            opened.body.close()
        del opened
    gevent.sleep(0)  # the hub lets go of its callbacks when it has run them
    assert len(bench.log.records) == 3
    assert not [alive for alive in gc.get_objects() if isinstance(alive, Run)]


def test_an_open_stream_does_not_keep_what_the_client_sent(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of()
    marker = b"MARKER" * 20_000
    body = b'{"model":"sandbox/story","stream":true,"messages":[{"role":"user","content":"' + marker + b'"}]}'
    opened = bench.call(body)
    (run,) = bench.inference.runs.values()
    assert run.call.body == b""
    assert run._inquiry is None
    opened.body.close()  # type: ignore[union-attr]


# --- translated ------------------------------------------------------------------------------------------------------

_MESSAGES_STREAM: Final = b"".join(
    b"event: %b\ndata: %b\n\n" % (msgspec.json.decode(data)["type"].encode(), data)
    for data in (
        b'{"type":"message_start","message":{"id":"m1","model":"m","usage":{"input_tokens":5}}}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        *[b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word "}}'] * 40,
        b'{"type":"content_block_stop","index":0}',
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}',
        b'{"type":"message_stop"}',
    )
)
_CHAT_STREAM: Final = (
    b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n' * 40
)
_MESSAGES_ANSWER: Final = (
    b'{"id":"m1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hi"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":2}}'
)


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _growth(once: Callable[[], None], times: int) -> int:
    """Return how much memory stays behind when something is done many times, the first third to warm up."""
    for _ in range(times // 3):
        once()
    gevent.sleep(0)
    before = _rss_bytes()
    for _ in range(times):
        once()
    gevent.sleep(0)
    return _rss_bytes() - before


def test_translated_streams_leave_no_memory_behind(bench_of: Callable[..., Bench]) -> None:
    with fake_upstream(answer(_MESSAGES_STREAM, content_type="text/event-stream")) as upstream:
        bench = bench_of(upstream, node_type=NodeType.ANTHROPIC)
        body = {"model": "up/m", "stream": True, "messages": [{"role": "user", "content": "x" * 2000}]}

        def once() -> None:
            opened = bench.call(body)
            assert not isinstance(opened.body, bytes)
            pieces = b"".join(opened.body)
            opened.body.close()
            assert pieces.endswith(b"data: [DONE]\n\n")
            upstream.received.clear()
            bench.log.records.clear()

        assert _growth(once, STREAMS) < 2 << 20
    assert not [alive for alive in gc.get_objects() if isinstance(alive, Run)]


def test_large_translated_requests_leave_no_memory_behind(bench_of: Callable[..., Bench]) -> None:
    with fake_upstream(answer(_MESSAGES_ANSWER)) as upstream:
        bench = bench_of(upstream, node_type=NodeType.ANTHROPIC)
        said = [{"role": "user", "content": "x" * 25_000}, {"role": "assistant", "content": "y" * 25_000}] * 20
        body = msgspec.json.encode({"model": "up/m", "messages": [*said, {"role": "user", "content": "z"}]})
        assert len(body) > 1_000_000

        def once() -> None:
            opened = bench.call(body)
            assert b'"content":"hi"' in opened.body
            assert len(upstream.received[0].body) > 1_000_000
            upstream.received.clear()
            bench.log.records.clear()

        assert _growth(once, REQUESTS) < 4 << 20
    assert not [alive for alive in gc.get_objects() if isinstance(alive, Run)]


@pytest.mark.parametrize(
    ("surface", "node_type"),
    [
        (Surface.OPENAI_CHAT, NodeType.OPENAI),
        (Surface.OPENAI_CHAT, NodeType.ANTHROPIC),
        (Surface.ANTHROPIC_MESSAGES, NodeType.ANTHROPIC),
        (Surface.ANTHROPIC_MESSAGES, NodeType.OPENAI),
    ],
)
def test_an_open_stream_holds_nothing_of_the_request(
    bench_of: Callable[..., Bench], surface: Surface, node_type: NodeType
) -> None:
    said = _MESSAGES_STREAM if node_type is NodeType.ANTHROPIC else _CHAT_STREAM
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    own = {"name": "f", "input_schema": {"type": "object"}}
    body = msgspec.json.encode(
        {
            "model": "up/m",
            "max_tokens": 9,
            "stream": True,
            "messages": [{"role": "user", "content": "MARKER" * 20_000}],
            "tools": [own if surface is Surface.ANTHROPIC_MESSAGES else tool],
        }
    )
    before = sys.getrefcount(body)
    with fake_upstream(stream(said[: said.rindex(b"word") - 400], 30.0)) as upstream:
        bench = bench_of(upstream, node_type=node_type)
        opened = bench.call(body, surface)
        gc.collect()
        assert sys.getrefcount(body) == before
        assert not [alive for alive in gc.get_objects() if isinstance(alive, Message)]
        opened.body.close()  # type: ignore[union-attr]
