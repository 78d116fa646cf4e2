"""What a request leaves dies at once: no cycles that hold its body until some later collection."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
import pytest

from omniroute.formats.canonical import Message
from omniroute.gateway.clocks import Clocks
from omniroute.gateway.dialects import Surface
from omniroute.gateway.run import Run
from omniroute.providers.upstream import Deadlines
from omniroute.records import NodeType
from tests.fakes.upstream import answer, fake_upstream, stream
from tests.gateway.conftest import Bench

STREAMS: Final = 300
REQUESTS: Final = 40


class Own:
    """What a test brought into being and is still there; what others left behind is not its fault."""

    def __init__(self, *kinds: type) -> None:
        self._kinds = kinds
        # Held, so that none of them can go and give its identity to a new one.
        self._earlier = self._all()
        self._earlier_ids = {id(one) for one in self._earlier}

    def alive(self, kind: type) -> list[object]:
        assert kind in self._kinds
        return [one for one in self._all() if isinstance(one, kind) and id(one) not in self._earlier_ids]

    def _all(self) -> list[object]:
        return [one for one in gc.get_objects() if isinstance(one, self._kinds)]


@pytest.fixture(autouse=True)
def own() -> Iterator[Own]:
    """Judge without the collector's help: what dies only with it is not gone."""
    gevent.sleep(0)  # the hub lets go of the callbacks of an earlier test
    gc.collect()
    gc.disable()
    try:
        yield Own(Run, Message)
    finally:
        gc.enable()


_LIMITS: Final = Deadlines(connect_s=60.0, headers_s=60.0, content_s=60.0, idle_s=60.0, total_s=600.0)


@pytest.fixture
def unhurried_bench_of(bench_of: Callable[..., Bench]) -> Callable[..., Bench]:
    """Make services with time limits that no machine is too slow for: these tests are about memory."""
    clocks = Clocks(stream=_LIMITS, answer=_LIMITS, commit_after_s=60.0, heartbeat_s=60.0, client_write_s=60.0)
    return partial(bench_of, clocks=clocks)


@pytest.mark.parametrize("surface", [Surface.OPENAI_CHAT, Surface.ANTHROPIC_MESSAGES])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_served_request_is_gone_when_its_answer_is(
    unhurried_bench_of: Callable[..., Bench], own: Own, surface: Surface, is_streamed: bool
) -> None:
    bench = unhurried_bench_of()
    body: dict[str, Any] = {
        "model": "sandbox/echo",
        "max_tokens": 5,
        "stream": is_streamed,
        "messages": [{"role": "user", "content": "x" * 100_000}, {"role": "user", "content": "hi"}],
    }
    for _ in range(3):
        opened = bench.call(body, surface)
        if not isinstance(opened.body, bytes):
            with closing(opened.body) as pieces:
                for _piece in pieces:
                    pass
            del pieces
        del opened
    gevent.sleep(0)  # the hub lets go of its callbacks when it has run them
    assert len(bench.log.records) == 3
    assert not own.alive(Run)


def test_an_open_stream_does_not_keep_what_the_client_sent(unhurried_bench_of: Callable[..., Bench]) -> None:
    bench = unhurried_bench_of()
    marker = b"MARKER" * 20_000
    body = b'{"model":"sandbox/story","stream":true,"messages":[{"role":"user","content":"' + marker + b'"}]}'
    with closing(bench.call(body).body):  # type: ignore[type-var]
        (run,) = bench.inference.runs.values()
        assert run.call.body == b""
        assert run._inquiry is None


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


def _grows(once: Callable[[], None], times: int, limit_bytes: int) -> bool:
    """Tell whether memory stays behind when something is done many times.

    What leaks does so each time; a single round may also show what was freed or moved for others.
    """
    for _ in range(times // 3):
        once()
    for _ in range(3):
        gevent.sleep(0)
        before = _rss_bytes()
        for _ in range(times):
            once()
        gevent.sleep(0)
        if _rss_bytes() - before < limit_bytes:
            return False
    return True


def test_translated_streams_leave_no_memory_behind(unhurried_bench_of: Callable[..., Bench], own: Own) -> None:
    with fake_upstream(answer(_MESSAGES_STREAM, content_type="text/event-stream")) as upstream:
        bench = unhurried_bench_of(upstream, node_type=NodeType.ANTHROPIC)
        body = {"model": "up/m", "stream": True, "messages": [{"role": "user", "content": "x" * 2000}]}

        def once() -> None:
            opened = bench.call(body)
            assert not isinstance(opened.body, bytes)
            with closing(opened.body) as relayed:
                pieces = b"".join(relayed)
            assert pieces.endswith(b"data: [DONE]\n\n")
            upstream.received.clear()
            bench.log.records.clear()

        assert not _grows(once, STREAMS, 2 << 20)
    assert not own.alive(Run)


def test_large_translated_requests_leave_no_memory_behind(unhurried_bench_of: Callable[..., Bench], own: Own) -> None:
    with fake_upstream(answer(_MESSAGES_ANSWER)) as upstream:
        bench = unhurried_bench_of(upstream, node_type=NodeType.ANTHROPIC)
        said = [{"role": "user", "content": "x" * 25_000}, {"role": "assistant", "content": "y" * 25_000}] * 20
        body = msgspec.json.encode({"model": "up/m", "messages": [*said, {"role": "user", "content": "z"}]})
        assert len(body) > 1_000_000

        def once() -> None:
            opened = bench.call(body)
            assert b'"content":"hi"' in opened.body
            assert len(upstream.received[0].body) > 1_000_000
            upstream.received.clear()
            bench.log.records.clear()

        assert not _grows(once, REQUESTS, 4 << 20)
    assert not own.alive(Run)


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
    unhurried_bench_of: Callable[..., Bench], own: Own, surface: Surface, node_type: NodeType
) -> None:
    said = _MESSAGES_STREAM if node_type is NodeType.ANTHROPIC else _CHAT_STREAM
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    plain_tool = {"name": "f", "input_schema": {"type": "object"}}
    body = msgspec.json.encode(
        {
            "model": "up/m",
            "max_tokens": 9,
            "stream": True,
            "messages": [{"role": "user", "content": "MARKER" * 20_000}],
            "tools": [plain_tool if surface is Surface.ANTHROPIC_MESSAGES else tool],
        }
    )
    before = sys.getrefcount(body)
    with fake_upstream(stream(said[: said.rindex(b"word") - 400], 30.0)) as upstream:
        bench = unhurried_bench_of(upstream, node_type=node_type)
        with closing(bench.call(body, surface).body):  # type: ignore[type-var]
            gc.collect()
            assert sys.getrefcount(body) == before
            assert not own.alive(Message)
