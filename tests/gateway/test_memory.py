"""What a request leaves dies at once: no cycles that hold its body until some later collection."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from omniroute.gateway.dialects import Surface
from omniroute.gateway.run import Run
from tests.gateway.conftest import Bench


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
