"""What requests in flight show of themselves, and what cancelling them does to their clients."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from omniroute.errors import RequestCancelled
from omniroute.gateway.active import active_runs
from tests.fakes.upstream import fake_upstream, silence, stream
from tests.gateway.conftest import quick_clocks
from tests.gateway.test_inference import HELLO, ROLE, STREAMED, TEXT, Make, drink


def test_a_stream_shows_how_far_it_is(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, TEXT, 30.0)) as upstream:
        bench = bench_of(upstream)
        body: Any = bench.call(STREAMED).body
        first = next(body)
        [run] = active_runs(bench.inference)
        assert (run.stage, run.is_stream, run.attempts) == ("streaming", True, 1)
        assert run.bytes_out == len(first)
        assert run.model is not None
        assert run.provider is not None
        assert run.requested_model
        assert run.idle_ms is not None
        assert 0 <= run.idle_ms <= run.duration_ms
        body.close()
        assert active_runs(bench.inference) == []


def test_a_call_shows_what_it_waits_for(bench_of: Make) -> None:
    with fake_upstream(silence) as upstream:
        bench = bench_of(upstream)
        seen: list[Any] = []

        def look() -> None:
            seen.extend(active_runs(bench.inference))
            assert bench.inference.cancel(seen[0].request_id)

        gevent.spawn_later(0.1, look)
        with pytest.raises(RequestCancelled) as caught:
            bench.call(HELLO)
        assert (caught.value.http_status, caught.value.error_code) == (499, "request_cancelled")
        assert caught.value.should_retry is False
        [run] = seen
        assert (run.stage, run.bytes_out, run.idle_ms) == ("connecting", 0, None)
        gevent.sleep(0.02)
        assert upstream.open_now == 0
        record = bench.log.only
        assert (record.outcome, record.status, record.error_code) == ("cancelled", 499, "request_cancelled")


def test_a_cancelled_stream_ends_with_an_event_that_says_so(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, TEXT, 30.0)) as upstream:
        bench = bench_of(upstream)
        opened = bench.call(STREAMED)
        [request_id] = bench.inference.runs
        gevent.spawn_later(0.05, bench.inference.cancel, request_id)
        data = drink(opened)
        assert b"request_cancelled" in data
        gevent.sleep(0.02)
        assert upstream.open_now == 0
        record = bench.log.only
        assert (record.outcome, record.error_code) == ("cancelled", "request_cancelled")
        assert bench.inference.cancel(request_id) is False


def test_a_stream_is_cancelled_before_its_content(bench_of: Make) -> None:
    with fake_upstream(silence) as upstream:
        bench = bench_of(upstream, clocks=quick_clocks(commit_after_s=0.01))
        opened = bench.call(STREAMED)
        [request_id] = bench.inference.runs
        gevent.spawn_later(0.05, bench.inference.cancel, request_id)
        assert b"request_cancelled" in drink(opened)
        assert bench.log.only.outcome == "cancelled"


def test_what_is_not_in_flight_cannot_be_cancelled(bench_of: Make) -> None:
    with fake_upstream(silence) as upstream:
        assert bench_of(upstream).inference.cancel("req_none") is False
