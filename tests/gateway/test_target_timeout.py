"""How long one target may take before another gets its turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from omniroute.providers.upstream import Deadlines
from tests.fakes.upstream import answer, fake_upstream, silence
from tests.gateway.conftest import QUICK, Bench, quick_clocks

HELLO = {"model": "up/m", "messages": [{"role": "user", "content": "hi"}]}
WHOLE = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'


def test_a_target_that_takes_too_long_gives_way(bench_of: Callable[..., Bench]) -> None:
    config = {**QUICK["combo-defaults", "config"], "targetTimeoutMs": 1000}
    patient = Deadlines(connect_s=5.0, headers_s=30.0, content_s=30.0, idle_s=30.0, total_s=30.0)
    began = time.monotonic()
    with fake_upstream(silence) as first, fake_upstream(answer(WHOLE)) as second:
        bench = bench_of(
            first,
            second,
            clocks=replace(quick_clocks(), answer=patient),
            settings={**QUICK, ("combo-defaults", "config"): config},
        )
        opened = bench.call(HELLO)
    assert opened.status == 200
    assert [attempt.kind for attempt in bench.log.only.attempts] == ["timeout_headers", None]
    assert time.monotonic() - began < 20, "long before the limits of the server"
