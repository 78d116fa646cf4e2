# ruff: noqa: E501 -- a table row, or a frame as it is on the wire, reads better on one line
"""Requests from open to settlement over providers that answer, refuse, stall, cut and lie."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gevent
import pytest

from omniroute.errors import (
    InvalidJson,
    InvalidRequest,
    MissingField,
    ModelNotFound,
    OmniRouteError,
    ProviderCredentials,
    RateLimited,
    ServerDraining,
    UpstreamError,
    UpstreamTimeout,
)
from omniroute.gateway.dialects import Surface
from omniroute.gateway.handover import Answer, ClientGone
from omniroute.providers.upstream import Deadlines
from omniroute.records import NodeType
from tests.fakes.upstream import Act, answer, fake_upstream, hang_up, silence, stream
from tests.gateway.conftest import KEY, Bench, quick_clocks

Make = Callable[..., Bench]

HELLO = {"model": "up/m", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**HELLO, "stream": True}


def completion(text: str = "hello") -> bytes:
    return json.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
        }
    ).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    body = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


ROLE = chunk({"role": "assistant", "content": ""})
TEXT = chunk({"content": "hello"})
STOP = chunk({}, "stop")
USAGE = b'data: {"id":"c1","model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = (ROLE, TEXT, STOP, USAGE, DONE)


def refused(status: int, message: str = "no", code: str | None = None, **headers: str) -> Act:
    body = json.dumps({"error": {"message": message, "type": "x", "code": code}}).encode()
    return answer(body, status=status, headers=headers)


def drink(opened: Answer) -> bytes:
    body = opened.body
    assert not isinstance(body, bytes)
    try:
        return b"".join(body)
    finally:
        body.close()


def events(data: bytes) -> list[bytes]:
    return [event for event in data.split(b"\n\n") if event]


def without_comments(data: bytes) -> bytes:
    lines = data.split(b"\n")
    kept = [line for line in lines if not line.startswith(b":")]
    return b"\n".join(kept).replace(b"\n\n\n", b"\n\n")


# --- whole answers -------------------------------------------------------------------------------------------------


def test_an_answer_keeps_its_bytes_but_for_the_model(bench_of: Make) -> None:
    body = b'{ "model" : "up/m", "messages":[{"role":"user","content":"\\u0041"}], "x":1e400, "seed":12345678901234567890 }'
    with fake_upstream(answer(completion())) as upstream:
        bench = bench_of(upstream)
        opened = bench.call(body)
        assert upstream.received[0].body == body.replace(b'"up/m"', b'"m"')
        assert upstream.received[0].headers["authorization"] == f"Bearer {KEY}"
        assert opened.body == completion().replace(b'"model": "m"', b'"model": "up/m"')
        assert opened.status == 200
        assert opened.headers["X-OmniRoute-Provider"] == "up"
        assert (opened.headers["X-OmniRoute-Tokens-In"], opened.headers["X-OmniRoute-Tokens-Out"]) == ("9", "2")
        record = bench.log.only
        assert (record.outcome, record.status, record.tokens_in, record.tokens_out, record.cache_read) == (
            "success",
            200,
            9,
            2,
            4,
        )
        assert (record.model, record.provider, record.connection_id) == ("m", "up", "conn_0")
        assert [attempt.failure_class for attempt in record.attempts] == [None]
        assert bench.inference.runs == {}


@pytest.mark.parametrize("act", [refused(401), refused(402), refused(403), refused(429), refused(500), refused(529), hang_up, silence,
                                 answer(b"<html>", content_type="text/html"), answer(b'{"error":{"message":"x","type":"server_error"}}')])  # fmt: skip
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_failing_connection_gives_way_to_the_next(bench_of: Make, act: Act, is_streamed: bool) -> None:
    good = stream(*WHOLE) if is_streamed else answer(completion())
    with fake_upstream(act) as first, fake_upstream(good) as second:
        bench = bench_of(first, second)
        opened = bench.call(STREAMED if is_streamed else HELLO)
        body = opened.body if isinstance(opened.body, bytes) else drink(opened)
        assert b"hello" in body
        assert opened.headers["X-OmniRoute-Attempts"] == "2"
        record = bench.log.only
        assert (record.outcome, record.connection_id, len(record.attempts)) == ("success", "conn_1", 2)
        assert record.attempts[0].failure_class is not None


def test_a_fault_of_the_caller_stops_the_loop_and_is_passed_on_verbatim(bench_of: Make) -> None:
    said = b'{"error":{"message":"bad tool \xc3\xa9","type":"invalid_request_error","param":"tools","code":null},"extra":1}'
    with fake_upstream(answer(said, status=400)) as first, fake_upstream(answer(completion())) as second:
        bench = bench_of(first, second)
        opened = bench.call(HELLO)
        assert (opened.status, opened.body) == (400, said)
        assert second.received == []
        assert (bench.log.only.outcome, bench.log.only.status) == ("failed", 400)


def test_our_credential_never_reaches_the_caller(bench_of: Make) -> None:
    said = json.dumps({"error": {"message": f"key {KEY} may not do that", "type": "invalid_request_error"}}).encode()
    with fake_upstream(answer(said, status=400)) as upstream:
        opened = bench_of(upstream).call(HELLO)
        assert isinstance(opened.body, bytes)
        assert KEY.encode() not in opened.body


@pytest.mark.parametrize(
    ("act", "error", "status"),
    [
        (refused(401), ProviderCredentials, 503),
        (refused(402), ProviderCredentials, 503),
        (refused(429, **{"Retry-After": "7"}), RateLimited, 429),
        (refused(404, code="model_not_found"), ModelNotFound, 404),
        (refused(500), UpstreamError, 502),
        (silence, UpstreamTimeout, 504),
    ],
)
def test_the_failure_keeps_its_meaning(bench_of: Make, act: Act, error: type[OmniRouteError], status: int) -> None:
    with fake_upstream(act) as upstream:
        bench = bench_of(upstream)
        with pytest.raises(error) as caught:
            bench.call(HELLO)
        assert caught.value.http_status == status
        if error is RateLimited:
            assert caught.value.retry_after_s == pytest.approx(7)
        assert (bench.log.only.outcome, bench.log.only.status) == ("failed", status)
        assert bench.http.open_connections <= 1
        assert bench.inference.runs == {}


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        (b"{", InvalidJson, None),
        (b"[]", InvalidJson, None),
        (b'{"messages":[]}', MissingField, "model"),
        (b'{"model":1,"messages":[]}', InvalidRequest, "model"),
        (b'{"model":"","messages":[]}', InvalidRequest, "model"),
        (b'{"model":"up/m"}', MissingField, "messages"),
        (b'{"model":"up/m","messages":"hi"}', InvalidRequest, "messages"),
        (b'{"model":"up/m","messages":[],"stream":"yes"}', InvalidRequest, "stream"),
        (b'{"model":"up/m","messages":[],"stream":true,"stream_options":3}', InvalidRequest, "stream_options"),
        (b'{"model":"up/m","messages":[],"model":"x"}', InvalidRequest, "model"),
        (b'{"model":"../../x","messages":[]}', InvalidRequest, "model"),
        (b'{"model":"nowhere/x","messages":[]}', ModelNotFound, "model"),
    ],
)
def test_bad_requests_never_reach_a_provider(
    bench_of: Make, body: bytes, error: type[OmniRouteError], param: str
) -> None:
    with fake_upstream(answer(completion())) as upstream:
        bench = bench_of(upstream)
        with pytest.raises(error) as caught:
            bench.call(body)
        assert caught.value.param == param
        assert upstream.received == []
        assert bench.log.only.outcome == "failed"


def test_a_provider_of_another_format_is_spoken_to_in_its_own(bench_of: Make) -> None:
    with fake_upstream(answer(completion())) as upstream:
        opened = bench_of(upstream).call({**HELLO, "max_tokens": 5}, Surface.ANTHROPIC_MESSAGES)
        assert b"chat/completions" in upstream.received[0].head
        assert isinstance(opened.body, bytes)
        assert json.loads(opened.body)["content"] == [{"type": "text", "text": "hello"}]


# --- streams -------------------------------------------------------------------------------------------------------


def test_a_stream_keeps_its_bytes_but_for_the_model_and_the_unasked_usage(bench_of: Make) -> None:
    with fake_upstream(stream(*WHOLE)) as upstream:
        bench = bench_of(upstream)
        opened = bench.call(STREAMED)
        data = drink(opened)
        expected = b"".join((ROLE, TEXT, STOP, DONE)).replace(b'"model":"m"', b'"model":"up/m"')
        assert without_comments(data) == expected
        assert json.loads(upstream.received[0].body)["stream_options"] == {"include_usage": True}
        assert opened.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        record = bench.log.only
        assert (record.outcome, record.tokens_in, record.tokens_out, record.stream) == ("success", 9, 2, True)
        assert record.ttft_ms is not None
        assert b": x-omniroute-tokens-in=9\n" in data
        assert data.endswith(DONE)
        assert bench.http.open_connections == 1, "the connection is kept for the next request"


def test_usage_is_forwarded_to_a_client_that_asked_for_it(bench_of: Make) -> None:
    with fake_upstream(stream(*WHOLE)) as upstream:
        data = drink(bench_of(upstream).call({**STREAMED, "stream_options": {"include_usage": True, "x": 1}}))
        assert b'"prompt_tokens":9' in data
        assert json.loads(upstream.received[0].body)["stream_options"] == {"include_usage": True, "x": 1}


def test_a_stream_fed_byte_by_byte_is_the_same(bench_of: Make) -> None:
    text = b"".join(WHOLE)
    with fake_upstream(stream(*(text[i : i + 1] for i in range(len(text))))) as upstream:
        data = drink(bench_of(upstream).call(STREAMED))
        assert without_comments(data) == b"".join((ROLE, TEXT, STOP, DONE)).replace(b'"model":"m"', b'"model":"up/m"')


def test_messages_streams_pass_too(bench_of: Make) -> None:
    start = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1","model":"m","usage":{"input_tokens":5,"cache_read_input_tokens":3,"output_tokens":1}}}\n\n'
    block = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    delta = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\"usage\\""}}\n\n'
    end = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}\n\n'
    stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    with fake_upstream(stream(start, block, delta, end, stop)) as upstream:
        bench = bench_of(upstream, node_type=NodeType.ANTHROPIC)
        data = drink(bench.call({**STREAMED, "max_tokens": 9}, Surface.ANTHROPIC_MESSAGES))
        expected = b"".join((start, block, delta, end, stop)).replace(b'"model":"m"', b'"model":"up/m"')
        assert without_comments(data) == expected
        assert data.endswith(stop)
        record = bench.log.only
        assert (record.tokens_in, record.cache_read, record.tokens_out) == (8, 3, 7)


def test_another_target_serves_behind_heartbeats(bench_of: Make) -> None:
    clocks = quick_clocks(commit_after_s=0.05, heartbeat_s=0.03)
    with fake_upstream(silence) as first, fake_upstream(stream(*WHOLE)) as second:
        bench = bench_of(first, second, clocks=clocks)
        opened = bench.call(STREAMED)
        assert "X-OmniRoute-Provider" not in opened.headers, "the answer began before a target was chosen"
        data = drink(opened)
        assert data.startswith(b": ping\n\n")
        assert without_comments(data).endswith(DONE)
        assert bench.log.only.outcome == "success"


def test_a_failure_behind_heartbeats_is_an_error_event(bench_of: Make) -> None:
    clocks = quick_clocks(commit_after_s=0.02, heartbeat_s=0.03)
    with fake_upstream(silence) as upstream:
        bench = bench_of(upstream, clocks=clocks)
        data = without_comments(drink(bench.call(STREAMED)))
        assert data.endswith(DONE)
        assert json.loads(events(data)[-2].removeprefix(b"data: "))["error"]["code"] == "upstream_timeout"
        assert (bench.log.only.outcome, bench.log.only.error_code) == ("failed", "upstream_timeout")


def test_silence_in_mid_stream_gets_heartbeats_and_then_ends(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, TEXT, 30.0)) as upstream:
        bench = bench_of(upstream)
        data = drink(bench.call(STREAMED))
        assert data.count(b": ping\n\n") >= 3
        assert b"upstream_timeout" in data
        assert data.endswith(DONE)
        assert b'"finish_reason":"stop"' not in data
        assert bench.log.only.outcome == "failed"
        gevent.sleep(0.02)
        assert upstream.open_now == 0


@pytest.mark.parametrize("sent", range(1, len(b"".join((ROLE, TEXT, STOP, DONE))), 7))
def test_a_stream_cut_anywhere_has_one_defined_end(bench_of: Make, sent: int) -> None:
    text = b"".join((ROLE, TEXT, STOP, DONE))
    with fake_upstream(stream(text[:sent], end=False)) as upstream:
        bench = bench_of(upstream)
        try:
            data = without_comments(drink(bench.call(STREAMED)))
        except UpstreamError:
            assert sent < len(ROLE + TEXT), "only before content"
            assert bench.log.only.outcome == "failed"
            return
        assert data.count(b"[DONE]") == 1
        assert data.endswith(DONE)
        has_finished = sent >= len(ROLE + TEXT + STOP)
        assert (b'"error"' in data) != has_finished
        assert bench.log.only.outcome == ("success" if has_finished else "truncated")
        assert all(json.loads(event[6:]) for event in events(data) if event != b"data: [DONE]")


@pytest.mark.parametrize("before", [(), (ROLE,), (ROLE, TEXT)])
def test_an_error_event_fails_over_before_content_and_is_passed_on_after_it(
    bench_of: Make, before: tuple[bytes, ...]
) -> None:
    error = b'data: {"error":{"message":"overloaded","type":"overloaded_error"}}\n\n'
    with fake_upstream(stream(*before, error)) as first, fake_upstream(stream(*WHOLE)) as second:
        bench = bench_of(first, second)
        data = drink(bench.call(STREAMED))
        if TEXT in before:
            assert b"overloaded_error" in data
            assert bench.log.only.outcome == "failed"
            assert second.received == []
        else:
            assert b"overloaded_error" not in data
            assert bench.log.only.outcome == "success"
        assert data.endswith(DONE)


def test_accept_asks_for_a_stream_only_where_the_body_is_silent(bench_of: Make) -> None:
    with fake_upstream(stream(*WHOLE)) as upstream:
        opened = bench_of(upstream).call(HELLO, accepts_stream=True)
        drink(opened)
        assert json.loads(upstream.received[0].body)["stream"] is True
    with fake_upstream(answer(completion())) as upstream:
        opened = bench_of(upstream).call({**HELLO, "stream": False}, accepts_stream=True)
        assert isinstance(opened.body, bytes)


# --- clients that leave, servers that stop -----------------------------------------------------------------------


def _leave_after(bench: Bench, delay_s: float) -> None:
    gevent.spawn_later(delay_s, bench.client.close)


def test_a_client_that_leaves_while_nothing_comes_frees_the_provider_at_once(bench_of: Make) -> None:
    with fake_upstream(silence) as upstream:
        bench = bench_of(upstream)
        _leave_after(bench, 0.05)
        with pytest.raises(ClientGone):
            bench.call(HELLO)
        gevent.sleep(0.02)
        assert upstream.open_now == 0
        assert (bench.log.only.outcome, bench.log.only.status) == ("cancelled", 499)


def test_a_client_that_leaves_in_mid_stream_is_noticed_in_silence(bench_of: Make) -> None:
    clocks = quick_clocks(heartbeat_s=30.0)
    with fake_upstream(stream(ROLE, TEXT, 30.0)) as upstream:
        bench = bench_of(upstream, clocks=clocks)
        opened = bench.call(STREAMED)
        _leave_after(bench, 0.05)
        with gevent.Timeout(5):
            assert TEXT.replace(b'"m"', b'"up/m"') in drink(opened)
        gevent.sleep(0.02)
        assert upstream.open_now == 0
        assert bench.log.only.outcome == "cancelled"
        assert bench.http.open_connections == 0


@pytest.mark.parametrize("steps", [0, 1])
def test_a_body_that_is_closed_early_settles_once(bench_of: Make, steps: int) -> None:
    with fake_upstream(stream(ROLE, TEXT, 30.0)) as upstream:
        bench = bench_of(upstream)
        body: Any = bench.call(STREAMED).body
        for _ in range(steps):
            next(body)
        body.close()
        body.close()
        gevent.sleep(0.02)
        assert upstream.open_now == 0
        assert bench.log.only.outcome == "cancelled"
        assert bench.inference.runs == {}


def test_a_body_closed_before_content_stops_the_driver(bench_of: Make) -> None:
    clocks = quick_clocks(commit_after_s=0.01)
    with fake_upstream(silence) as upstream:
        bench = bench_of(upstream, clocks=clocks)
        body: Any = bench.call(STREAMED).body
        body.close()
        gevent.sleep(0.02)
        assert upstream.open_now == 0
        assert bench.log.only.outcome == "cancelled"


def test_draining_refuses_new_calls_and_ends_running_streams_with_an_event(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, TEXT, 30.0)) as upstream:
        bench = bench_of(upstream)
        opened = bench.call(STREAMED)
        bench.inference.drain()
        with pytest.raises(ServerDraining):
            bench.call(HELLO)
        gevent.spawn_later(0.05, bench.inference.end_all)
        data = drink(opened)
        assert b"server_draining" in data
        assert bench.log.records[-1].error_code == "server_draining"


def test_draining_ends_calls_that_still_wait(bench_of: Make) -> None:
    with fake_upstream(silence) as upstream:
        bench = bench_of(upstream)
        gevent.spawn_later(0.05, bench.inference.end_all)
        with pytest.raises(ServerDraining):
            bench.call(HELLO)
        gevent.sleep(0.02)
        assert upstream.open_now == 0


def test_more_requests_than_allowed_are_refused(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, TEXT, 30.0)) as upstream:
        bench = bench_of(upstream)
        bench.inference._max_in_flight = 1
        body: Any = bench.call(STREAMED).body
        with pytest.raises(OmniRouteError) as caught:
            bench.call(STREAMED)
        assert (caught.value.http_status, caught.value.error_code) == (503, "overloaded")
        body.close()


# --- the simulated provider ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surface", [Surface.OPENAI_CHAT, Surface.ANTHROPIC_MESSAGES])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_sandbox_answers_in_process(bench_of: Make, surface: Surface, is_streamed: bool) -> None:
    bench = bench_of()
    body = {
        "model": "sandbox/echo",
        "messages": [{"role": "user", "content": "ping 123"}],
        "max_tokens": 50,
        "stream": is_streamed,
    }
    opened = bench.call(body, surface)
    data = opened.body if isinstance(opened.body, bytes) else drink(opened)
    assert b"123" in data
    assert b'"sandbox/echo"' in data
    record = bench.log.only
    assert (record.outcome, record.provider, record.model) == ("success", "sandbox", "echo")
    assert record.tokens_in
    assert record.tokens_out


def test_many_clients_leaving_leave_nothing_behind(bench_of: Make) -> None:
    """The same for fifty at once, at fifty moments."""
    with fake_upstream(stream(ROLE, TEXT, 0.03, TEXT, 30.0)) as upstream:
        bench = bench_of(upstream)
        bodies: Iterator[Any] = (bench.call(STREAMED).body for _ in range(50))

        def drink_a_while(body: Any, steps: int) -> None:
            for _ in range(steps):
                next(body)
            body.close()

        gevent.joinall([gevent.spawn(drink_a_while, body, 1 + i % 4) for i, body in enumerate(bodies)], timeout=20)
        gevent.sleep(0.05)
        assert upstream.open_now == 0
        assert bench.http.open_connections == 0
        assert {record.outcome for record in bench.log.records} == {"cancelled"}
        assert len(bench.log.records) == 50
        greenlets = [one for one in gc.get_objects() if isinstance(one, gevent.Greenlet) and not one.dead]
        assert not [one for one in greenlets if "_drive" in repr(one)], "no driver is left"
        assert bench.inference.runs == {}


# --- providers that surprise ---------------------------------------------------------------------------------------


def test_a_header_is_ascii_whatever_the_model_is_called(bench_of: Make) -> None:
    with fake_upstream(answer(completion()), stream(*WHOLE)) as upstream:
        bench = bench_of(upstream)
        opened = bench.call({**HELLO, "model": "up/mod\u00e8le-\u4e2d"})
        assert opened.headers["X-OmniRoute-Model"] == "up/mod%C3%A8le-%E4%B8%AD"
        data = drink(bench.call({**STREAMED, "model": "up/mod\u00e8le"}))
        assert b": x-omniroute-model=up/mod%C3%A8le\n" in data


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ({"X-Request-Id": "req_1"}, "req_1"),
        ({"request-id": "req_2"}, "req_2"),
        ({"X-Request-Id": "a\tb"}, None),
        ({"X-Request-Id": "caf\u00e9"}, None),
        ({"X-Request-Id": "x" * 5000}, None),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_providers_id_is_passed_back_if_it_is_one(
    bench_of: Make, said: dict[str, str], passed: str | None, is_streamed: bool
) -> None:
    body = b"".join(WHOLE) if is_streamed else completion()
    content_type = "Text/Event-Stream" if is_streamed else "application/json"
    with fake_upstream(answer(body, headers={**said, "openai-processing-ms": "12"}, content_type=content_type)) as up:
        opened = bench_of(up).call(STREAMED if is_streamed else HELLO)
        assert opened.headers.get("X-Upstream-Request-Id") == passed
        assert opened.headers["openai-processing-ms"] == "12"
        if is_streamed:
            drink(opened)


@pytest.mark.parametrize("rest", [b"", b"x"], ids=["silence", "cut"])
def test_a_refusal_counts_by_its_status_where_its_body_does_not_come(bench_of: Make, rest: bytes) -> None:
    def act(sock: Any, _request: Any) -> bool:
        sock.sendall(b"HTTP/1.1 401 X\r\nContent-Length: 50000\r\n\r\n" + rest)
        return False

    with fake_upstream(act) as upstream:
        bench = bench_of(upstream)
        with pytest.raises(ProviderCredentials):
            bench.call(HELLO)
        assert bench.log.only.attempts[0].failure_class == "credential"


def test_a_redirect_is_a_failure_and_is_not_followed(bench_of: Make) -> None:
    with fake_upstream(answer(completion(), status=302, headers={"Location": "/elsewhere"})) as upstream:
        with pytest.raises(OmniRouteError):
            bench_of(upstream).call(HELLO)
        assert len(upstream.received) == 1


def test_accept_asks_for_a_stream_where_the_body_says_null(bench_of: Make) -> None:
    with fake_upstream(stream(*WHOLE)) as upstream:
        drink(bench_of(upstream).call({**HELLO, "stream": None}, accepts_stream=True))
        assert json.loads(upstream.received[0].body)["stream"] is True


def test_a_whole_answer_has_one_limit_from_its_sending_on(bench_of: Make) -> None:
    def slow(sock: Any, _request: Any) -> bool:
        gevent.sleep(0.25)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            gevent.sleep(0.02)
            sock.sendall(b" ")
        return False

    limits = Deadlines(connect_s=1.0, headers_s=0.4, content_s=0.4, idle_s=0.4, total_s=0.4)
    clocks = replace(quick_clocks(), answer=limits)
    with fake_upstream(slow) as upstream:
        bench = bench_of(upstream, clocks=clocks)
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            bench.call(HELLO)
        assert time.monotonic() - began < 0.6


def test_later_targets_get_what_is_left_of_the_whole_time(bench_of: Make) -> None:
    with fake_upstream(refused(500)) as first, fake_upstream(silence) as second:
        bench = bench_of(first, second, clocks=replace(quick_clocks(), before_commit_s=0.15))
        began = time.monotonic()
        with pytest.raises(OmniRouteError):
            bench.call(HELLO)
        assert time.monotonic() - began < 0.4


def test_the_limit_of_a_stream_holds_although_bytes_always_wait(bench_of: Make) -> None:
    def endless(sock: Any, _request: Any) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            sock.sendall(TEXT * 500)

    clocks = quick_clocks()
    clocks = replace(clocks, stream=replace(clocks.stream, total_s=0.3))
    with fake_upstream(endless) as upstream:
        bench = bench_of(upstream, clocks=clocks)
        body: Any = bench.call(STREAMED).body
        frames = []
        with gevent.Timeout(10):
            for frame in body:
                frames.append(frame[-200:])
                gevent.sleep(0.001)
        body.close()
        assert b"upstream_timeout" in frames[-1]
        assert bench.log.only.error_code == "upstream_timeout"


def test_the_clients_end_does_not_wait_for_the_providers(bench_of: Make) -> None:
    with fake_upstream(stream(*WHOLE, 30.0)) as upstream:
        bench = bench_of(upstream)
        body: Any = bench.call(STREAMED).body
        while b"[DONE]" not in next(body):
            continue
        began = time.monotonic()
        assert next(body, None) is None
        assert time.monotonic() - began < 0.1
        body.close()
        assert bench.log.only.outcome == "success"
        assert bench.http.open_connections == 0


def test_an_attempt_that_we_ended_is_no_success_in_the_log(bench_of: Make) -> None:
    with fake_upstream(silence) as upstream:
        bench = bench_of(upstream)
        _leave_after(bench, 0.05)
        with pytest.raises(ClientGone):
            bench.call(HELLO)
        assert [attempt.failure_class for attempt in bench.log.only.attempts] == ["cancelled"]


def test_what_the_drain_ends_is_cancelled(bench_of: Make) -> None:
    with fake_upstream(silence) as upstream:
        bench = bench_of(upstream)
        gevent.spawn_later(0.05, bench.inference.end_all)
        with pytest.raises(ServerDraining):
            bench.call(HELLO)
        assert (bench.log.only.outcome, bench.log.only.error_code) == ("cancelled", "server_draining")


def test_tokens_are_counted_for_a_client_that_left_before_the_handler_saw_them(bench_of: Make) -> None:
    with fake_upstream(stream(*WHOLE[:3], USAGE, 30.0)) as upstream:
        bench = bench_of(upstream)
        body: Any = bench.call(STREAMED).body
        body.close()
        assert bench.log.only.outcome == "cancelled"


def test_a_log_that_fails_leaves_no_run_behind(bench_of: Make) -> None:
    with fake_upstream(answer(completion())) as upstream:
        bench = bench_of(upstream)

        def fail(_record: Any) -> None:
            raise RuntimeError

        bench.log.put = fail  # type: ignore[method-assign,assignment]
        with pytest.raises(RuntimeError):
            bench.call(HELLO)
        assert bench.inference.runs == {}


def test_a_stream_of_several_choices_is_finished_when_all_are(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, TEXT, STOP, end=False)) as upstream:
        bench = bench_of(upstream)
        data = drink(bench.call({**STREAMED, "n": 2}))
        assert b'"error"' in data
        assert bench.log.only.outcome == "truncated"


def test_a_model_that_is_named_late_is_renamed_all_the_same(bench_of: Make) -> None:
    nameless = b'data: {"id":"","model":"","choices":[],"prompt_filter_results":[]}\n\n'
    with fake_upstream(stream(nameless, *WHOLE)) as upstream:
        data = drink(bench_of(upstream).call(STREAMED))
        assert b'"model":"m"' not in data
        assert data.count(b'"model":"up/m"') == 4


def test_counts_that_cannot_be_are_not_reported(bench_of: Make) -> None:
    body = completion().replace(b'"prompt_tokens": 9', b'"prompt_tokens": 9' + b"0" * 30)
    with fake_upstream(answer(body)) as upstream:
        bench = bench_of(upstream)
        assert bench.call(HELLO).status == 200
        record = bench.log.only
        assert record.tokens_in is not None
        assert (record.tokens_in < 100, record.is_estimated) == (True, True), "ours, and marked as such"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_stream_with_any_line_ends_is_read(bench_of: Make, end: bytes) -> None:
    comment = b": hello" + end + end
    text = b"\xef\xbb\xbf" + comment + b"".join(WHOLE).replace(b"\n", end)
    for cut in (1, 2, 7, len(text)):
        pieces = [text[start : start + cut] for start in range(0, len(text), cut)]
        with fake_upstream(stream(*pieces)) as upstream:
            bench = bench_of(upstream)
            data = drink(bench.call(STREAMED))
            assert b'"content":"hello"' in data
            assert (bench.log.only.outcome, bench.log.only.tokens_in) == ("success", 9)
