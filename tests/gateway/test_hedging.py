"""A second attempt beside a slow one: who wins, what becomes of the other, and who gets none at all."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import msgspec
import pytest

from omniroute.errors import UpstreamError
from omniroute.gateway.dialects import Surface
from omniroute.gateway.handover import Answer, ClientGone
from omniroute.gateway.hedging import Race
from omniroute.records import AttemptRecord
from tests.fakes.upstream import Act, FakeUpstream, answer, fake_upstream, hang_up, has_left, silence, stream
from tests.gateway.conftest import QUICK, Bench
from tests.gateway.test_inference import DONE, HELLO, ROLE, STOP, STREAMED, TEXT, completion, drink, refused

Make = Callable[..., Bench]

DELAY_S = 0.1


def hedged(**config: Any) -> dict[tuple[str, str], Any]:
    """Settings under which everybody's slow attempts are hedged."""
    own = {**QUICK["combo-defaults", "config"], "hedging": True, "hedgeDelayMs": int(DELAY_S * 1000), **config}
    return {**QUICK, ("combo-defaults", "config"): own}


def late(seconds: float, act: Act) -> Act:
    """The act, after a pause that ends when the other side leaves."""

    def later(sock: Any, request: Any) -> bool | None:
        return False if has_left(sock, seconds) else act(sock, request)

    return later


class Hook:
    """Something that happens when a provider is asked; set later than the provider is made."""

    def __init__(self, then: Act = silence) -> None:
        self.then = then
        self.on_asked: Callable[[], Any] = lambda: None
        self.asked = gevent.event.Event()

    def __call__(self, sock: Any, request: Any) -> bool | None:
        self.asked.set()
        self.on_asked()
        return self.then(sock, request)


def after(other: Hook, act: Act) -> Act:
    """The act, once another provider has been asked."""

    def later(sock: Any, request: Any) -> bool | None:
        assert other.asked.wait(5)
        return act(sock, request)

    return later


def text_of(opened: Answer) -> str:
    data = opened.body if isinstance(opened.body, bytes) else drink(opened)
    return "second" if b"second" in data else "first" if b"first" in data else ""


def said(text: str, *, is_stream: bool) -> Act:
    if is_stream:
        return stream(ROLE, TEXT.replace(b"hello", text.encode()), STOP, DONE)
    return answer(completion(text))


def settle(*upstreams: FakeUpstream, bench: Bench) -> None:
    """Let the fake providers see what was closed, then check that nothing is left."""
    bench.http.close()
    for _ in range(200):
        if not any(one.open_now for one in upstreams):
            break
        gevent.sleep(0.005)
    assert [one.open_now for one in upstreams] == [0] * len(upstreams)
    assert bench.http.open_connections == 0
    assert bench.inference.runs == {}
    assert [bench.routing.board.load_of(f"conn_{index}").in_flight for index in range(len(upstreams))] == [0] * len(
        upstreams
    )
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, Race)]


def tried(bench: Bench) -> list[tuple[str, str | None]]:
    return [(one.connection_id, one.failure_class) for one in bench.log.only.attempts]


def kinds(bench: Bench) -> list[tuple[str, str, str | None]]:
    decision = bench.log.only.decision
    assert decision is not None
    found = msgspec.json.decode(decision.body)[0]["attempts"]
    return [(one["account"], one.get("kind", "normal"), one.get("failure_class")) for one in found]


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_hedge_that_is_faster_serves(bench_of: Make, is_stream: bool) -> None:
    with fake_upstream(silence) as slow, fake_upstream(said("second", is_stream=is_stream)) as quick:
        bench = bench_of(slow, quick, settings=hedged())
        opened = bench.call(STREAMED if is_stream else HELLO)
        assert text_of(opened) == "second"
        assert "reason=hedge;" in opened.headers["X-OmniRoute-Decision"]
        assert opened.headers["X-OmniRoute-Attempts"] == "2"
        assert tried(bench) == [("conn_0", "cancelled"), ("conn_1", None)]
        assert kinds(bench) == [("conn_0", "normal", "cancelled"), ("conn_1", "hedge", None)]
        record = bench.log.only
        assert (record.outcome, record.connection_id) == ("success", "conn_1")
        settle(slow, quick, bench=bench)
        assert bench.routing.board.copy.rest("conn_0", "conn_0") is None, "losing is no failure"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_head_that_is_faster_after_all_serves(bench_of: Make, is_stream: bool) -> None:
    hedge = Hook()
    head = after(hedge, said("first", is_stream=is_stream))
    with fake_upstream(head) as slow, fake_upstream(hedge) as slower:
        bench = bench_of(slow, slower, settings=hedged())
        opened = bench.call(STREAMED if is_stream else HELLO)
        assert text_of(opened) == "first"
        assert "reason=head;" in opened.headers["X-OmniRoute-Decision"]
        assert tried(bench) == [("conn_0", None), ("conn_1", "cancelled")]
        assert (bench.log.only.connection_id, bench.log.only.outcome) == ("conn_0", "success")
        settle(slow, slower, bench=bench)
        assert bench.routing.board.copy.rest("conn_1", "conn_1") is None


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_head_that_is_quick_has_nobody_beside_it(bench_of: Make, is_stream: bool) -> None:
    with fake_upstream(said("first", is_stream=is_stream)) as quick, fake_upstream(silence) as other:
        bench = bench_of(quick, other, settings=hedged())
        assert text_of(bench.call(STREAMED if is_stream else HELLO)) == "first"
        assert other.received == []
        assert tried(bench) == [("conn_0", None)]
        settle(quick, other, bench=bench)


def test_a_hedge_that_fails_leaves_the_head_alone(bench_of: Make) -> None:
    hedge = Hook(refused(500))
    head = after(hedge, late(DELAY_S, said("first", is_stream=False)))
    with fake_upstream(head) as slow, fake_upstream(hedge) as broken:
        bench = bench_of(slow, broken, settings=hedged())
        assert text_of(bench.call(HELLO)) == "first"
        assert tried(bench) == [("conn_0", None), ("conn_1", "transient")]
        assert bench.routing.board.copy.rest("conn_1", "conn_1") is not None, "a failure stays one"
        settle(slow, broken, bench=bench)


def test_a_head_that_fails_leaves_the_answer_to_the_hedge(bench_of: Make) -> None:
    hedge = Hook(late(2 * DELAY_S, said("second", is_stream=True)))
    with fake_upstream(after(hedge, refused(500))) as broken, fake_upstream(hedge) as slow:
        bench = bench_of(broken, slow, settings=hedged())
        assert text_of(bench.call(STREAMED)) == "second"
        assert tried(bench) == [("conn_0", "transient"), ("conn_1", None)]
        settle(broken, slow, bench=bench)


def test_when_both_fail_the_next_one_is_tried(bench_of: Make) -> None:
    hedge = Hook(late(DELAY_S / 2, hang_up))
    with (
        fake_upstream(after(hedge, refused(500))) as one,
        fake_upstream(hedge) as two,
        fake_upstream(said("first", is_stream=False)) as three,
    ):
        bench = bench_of(one, two, three, settings=hedged())
        assert text_of(bench.call(HELLO)) == "first"
        assert tried(bench) == [("conn_0", "transient"), ("conn_1", "transient"), ("conn_2", None)]
        assert [one[1] for one in kinds(bench)] == ["normal", "hedge", "normal"]
        settle(one, two, three, bench=bench)


def test_when_all_fail_the_error_is_one_of_theirs(bench_of: Make) -> None:
    hedge = Hook(late(DELAY_S / 2, refused(500)))
    with fake_upstream(after(hedge, refused(500))) as one, fake_upstream(hedge) as two:
        bench = bench_of(one, two, settings=hedged())
        with pytest.raises(UpstreamError):
            bench.call(HELLO)
        assert tried(bench) == [("conn_0", "transient"), ("conn_1", "transient")]
        settle(one, two, bench=bench)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_leaves_ends_both(bench_of: Make, is_stream: bool) -> None:
    hedge = Hook()
    with fake_upstream(silence) as one, fake_upstream(hedge) as two:
        bench = bench_of(one, two, settings=hedged())
        hedge.on_asked = bench.client.close
        with pytest.raises(ClientGone):
            bench.call(STREAMED if is_stream else HELLO)
        assert (len(one.received), len(two.received)) == (1, 1)
        assert tried(bench) == [("conn_0", "cancelled"), ("conn_1", "cancelled")]
        assert bench.log.only.outcome == "cancelled"
        settle(one, two, bench=bench)


def test_a_client_that_leaves_before_the_hedge_ends_the_head(bench_of: Make) -> None:
    head = Hook()
    with fake_upstream(head) as one, fake_upstream(silence) as two:
        bench = bench_of(one, two, settings=hedged(hedgeDelayMs=400))
        head.on_asked = bench.client.close
        with pytest.raises(ClientGone):
            bench.call(HELLO)
        assert tried(bench) == [("conn_0", "cancelled")]
        assert two.received == []
        settle(one, two, bench=bench)


def test_one_request_in_ten_is_hedged(bench_of: Make) -> None:
    slow_head = late(2 * DELAY_S, said("first", is_stream=False))
    with fake_upstream(slow_head) as slow, fake_upstream(said("second", is_stream=False)) as quick:
        bench = bench_of(slow, quick, settings=hedged())
        answers = [text_of(bench.call(HELLO)) for _ in range(12)]
        assert answers == ["second", *["first"] * 9, "second", "first"]
        settle(slow, quick, bench=bench)


WITH_STATE: list[tuple[Surface, dict[str, Any]]] = [
    (Surface.OPENAI_CHAT, {**HELLO, "store": True}),
    (Surface.OPENAI_CHAT, {**HELLO, "modalities": ["text", "audio"], "audio": {"voice": "ash", "format": "mp3"}}),
    (Surface.OPENAI_RESPONSES, {"model": "up/m", "input": "hi"}),
    (Surface.OPENAI_RESPONSES, {"model": "up/m", "input": "hi", "store": False, "background": True}),
    (Surface.OPENAI_RESPONSES, {"model": "up/m", "input": "hi", "store": False, "tools": [{"type": "web_search"}]}),
]


@pytest.mark.parametrize(("surface", "body"), WITH_STATE)
def test_what_leaves_something_behind_is_asked_once(bench_of: Make, surface: Surface, body: dict[str, Any]) -> None:
    is_responses = surface is Surface.OPENAI_RESPONSES
    whole = json.dumps(
        {
            "id": "resp_1",
            "object": "response",
            "status": "completed",
            "model": "m",
            "output": [
                {
                    "type": "message",
                    "id": "msg_1",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "first", "annotations": []}],
                }
            ],
        }
    ).encode()
    act = answer(whole if is_responses else completion("first"))
    with fake_upstream(late(2 * DELAY_S, act)) as one, fake_upstream(act) as two:
        bench = bench_of(one, two, api_type="responses" if is_responses else None, settings=hedged())
        assert text_of(bench.call(body, surface)) == "first"
        assert (len(one.received), len(two.received)) == (1, 0)
        settle(one, two, bench=bench)


def test_a_responses_request_that_is_not_kept_may_be_hedged(bench_of: Make) -> None:
    act = said("second", is_stream=False)
    with fake_upstream(silence) as one, fake_upstream(act) as two:
        bench = bench_of(one, two, settings=hedged())
        assert text_of(bench.call({"model": "up/m", "input": "hi", "store": False}, Surface.OPENAI_RESPONSES)) == (
            "second"
        )
        settle(one, two, bench=bench)


def test_a_single_connection_is_waited_for(bench_of: Make) -> None:
    with fake_upstream(late(2 * DELAY_S, said("first", is_stream=False))) as only:
        bench = bench_of(only, settings=hedged())
        assert text_of(bench.call(HELLO)) == "first"
        assert tried(bench) == [("conn_0", None)]
        settle(only, bench=bench)


def test_an_ill_pool_is_not_burdened_further(bench_of: Make) -> None:
    slow = late(2 * DELAY_S, said("first", is_stream=False))
    quick = said("second", is_stream=False)
    with (
        fake_upstream(refused(500)) as one,
        fake_upstream(refused(500)) as two,
        fake_upstream(refused(500)) as three,
        fake_upstream(said("first", is_stream=False), slow) as four,
        fake_upstream(quick) as five,
    ):
        bench = bench_of(one, two, three, four, five, settings=hedged())
        assert text_of(bench.call(HELLO)) == "first"
        bench.log.records.clear()
        assert text_of(bench.call(HELLO)) == "first", "three of five rest"
        assert tried(bench) == [("conn_3", None)]
        assert five.received == []
        bench.log.records.clear()
        bench.forget_failures()
        one.acts[:], two.acts[:] = [slow], [quick]
        assert text_of(bench.call(HELLO)) == "second"
        bench.log.records.clear()
        settle(one, two, three, four, five, bench=bench)


def test_the_cancelled_attempt_is_noted_with_what_it_took(bench_of: Make) -> None:
    with fake_upstream(silence) as slow, fake_upstream(said("second", is_stream=False)) as quick:
        bench = bench_of(slow, quick, settings=hedged())
        bench.call(HELLO)
        first, second = bench.log.only.attempts
        assert isinstance(first, AttemptRecord)
        assert first.connected_ms is None
        assert first.started_ms < second.started_ms
        assert first.ended_ms >= second.started_ms
        settle(slow, quick, bench=bench)
