"""Who counts the tokens of a request: the provider where it can, the gateway where not, and never an error."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from omniroute.errors import InvalidRequest, MissingField, ModelNotFound, NotFound
from omniroute.formats.codec import Pause
from omniroute.formats.token_count import Encoding
from omniroute.gateway.admitted import admitted_targets
from omniroute.gateway.counting import Counting
from omniroute.gateway.dialects import Surface
from omniroute.gateway.handover import Answer, Call
from omniroute.records import NodeType
from omniroute.services.access import Caller, CallerKind, ModelRules
from tests.fakes.upstream import Act, FakeUpstream, answer, fake_upstream, hang_up
from tests.gateway.conftest import Bench

Make = Callable[..., Bench]

CALLER = Caller(CallerKind.LOCAL, None, "local", "local", ModelRules())
SAID: dict[str, Any] = {"messages": [{"role": "user", "content": "one two three four"}]}


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def exactly(texts: list[str], encoding: Encoding, pause: Pause) -> int:
    del pause
    return 1000 * len(texts) + len(encoding.value)


def counting(bench: Bench, clock: Clock | None = None) -> Counting:
    def targets(caller: Caller, model: str, provider: str | None) -> Any:
        return admitted_targets(bench.routing.resolvers.current, caller, model, provider)

    return Counting(targets=targets, send=bench.http.send, now=clock or Clock(), exactly=exactly)


def call(body: Any, surface: Surface = Surface.ANTHROPIC_MESSAGES, **more: Any) -> Call:
    return Call("req_1", "/v1/messages", surface, json.dumps(body).encode(), CALLER, **more)


def told(given: Answer) -> Any:
    assert isinstance(given.body, bytes)
    assert given.status == 200
    return json.loads(given.body)


def counts(number: int = 77) -> Act:
    return answer(json.dumps({"input_tokens": number, "totalTokens": number}).encode())


def test_a_node_of_the_clients_format_is_asked(bench_of: Make) -> None:
    with fake_upstream(counts()) as upstream:
        made = counting(bench_of(upstream, node_type=NodeType.ANTHROPIC))
        body = {"model": "up/m", **SAID, "max_tokens": 5, "stream": True, "system": "be brief", "temperature": 1}
        given = told(made.messages(call(body, client_headers=(("anthropic-beta", "x-1"),))))
        assert given == {"input_tokens": 77, "source": "provider", "model": "up/m", "provider": "up"}
        asked = upstream.received[0]
        assert asked.head.startswith(b"POST /v1/messages/count_tokens ")
        assert json.loads(asked.body) == {"model": "m", **SAID, "system": "be brief"}
        assert asked.headers["anthropic-beta"] == "x-1"


@pytest.mark.parametrize(
    "act",
    [
        answer(b"{}", status=404),
        answer(b"{}", status=500),
        answer(b"{}", status=400),
        answer(b"<html>", content_type="text/html"),
        answer(b'{"input_tokens": "many"}'),
        answer(b'{"input_tokens": 0}'),
        answer(b"[]"),
        hang_up,
    ],
)
def test_a_failure_gives_our_own_count(bench_of: Make, act: Act) -> None:
    with fake_upstream(act) as upstream:
        given = told(
            counting(bench_of(upstream, node_type=NodeType.ANTHROPIC)).messages(call({"model": "up/m", **SAID}))
        )
        assert given["source"] == "local"
        assert 3 < given["input_tokens"] < 40


@pytest.mark.parametrize(("status", "rests_s"), [(404, 900.0), (405, 900.0), (503, 60.0)])
def test_a_node_without_a_counter_is_left_alone_for_a_while(bench_of: Make, status: int, rests_s: float) -> None:
    clock = Clock()
    with fake_upstream(answer(b"{}", status=status), counts()) as upstream:
        made = counting(bench_of(upstream, node_type=NodeType.ANTHROPIC), clock)
        body = {"model": "up/m", **SAID}
        assert told(made.messages(call(body)))["source"] == "local"
        clock.ahead = rests_s - 5
        assert told(made.messages(call(body)))["source"] == "local"
        assert len(upstream.received) == 1
        clock.ahead = rests_s + 5
        assert told(made.messages(call(body)))["input_tokens"] == 77


def test_a_refusal_of_one_request_says_nothing_about_the_next(bench_of: Make) -> None:
    with fake_upstream(answer(b"{}", status=400), counts()) as upstream:
        made = counting(bench_of(upstream, node_type=NodeType.ANTHROPIC))
        assert told(made.messages(call({"model": "up/m", **SAID})))["source"] == "local"
        assert told(made.messages(call({"model": "up/m", **SAID})))["source"] == "provider"


def test_others_are_counted_for_here(bench_of: Make) -> None:
    with fake_upstream(counts()) as upstream:
        made = counting(bench_of(upstream))
        assert told(made.messages(call({"model": "up/llama", **SAID})))["source"] == "local"
        exact = told(made.messages(call({"model": "up/gpt-4o", **SAID})))
        assert exact["source"] == "local"
        assert exact["input_tokens"] > 1000
        assert upstream.received == []


def test_without_a_model_it_is_an_estimate(bench_of: Make) -> None:
    with fake_upstream(counts()) as upstream:
        given = told(counting(bench_of(upstream)).messages(call(SAID)))
        assert set(given) == {"input_tokens", "source"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": "up/m"}, MissingField),
        ({"model": "up/m", "messages": []}, InvalidRequest),
        ({"model": "up/m", "messages": "hi"}, InvalidRequest),
        ({"model": 7, **SAID}, InvalidRequest),
        ({"model": "", **SAID}, InvalidRequest),
        ({"model": "nobody/m", **SAID}, ModelNotFound),
    ],
)
def test_what_is_no_request_is_refused(bench_of: Make, body: Any, error: type[Exception]) -> None:
    with fake_upstream(hang_up) as upstream:
        made = counting(bench_of(upstream, node_type=NodeType.ANTHROPIC))
        with pytest.raises(error):
            made.messages(call(body))


def test_the_path_may_name_the_provider(bench_of: Make) -> None:
    with fake_upstream(counts()) as upstream:
        bench = bench_of(upstream, node_type=NodeType.ANTHROPIC)
        made = counting(bench)
        with pytest.raises(NotFound):
            made.messages(call({"model": "m", **SAID}, provider="nobody"))
        with pytest.raises(InvalidRequest):
            made.messages(call(SAID, provider="up"))


CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "one two three"}]}]}


def gemini(made: Counting, body: Any) -> Any:
    return told(made.gemini(call(body, Surface.GEMINI, model="up/m")))


def received(upstream: FakeUpstream) -> Any:
    return json.loads(upstream.received[-1].body)


def test_geminis_own_counter_gets_what_it_takes(bench_of: Make) -> None:
    with fake_upstream(counts()) as upstream:
        made = counting(bench_of(upstream, node_type=NodeType.GEMINI))
        assert gemini(made, CONTENTS) == {"totalTokens": 77}
        assert upstream.received[0].head.startswith(b"POST /v1/models/m:countTokens ")
        assert received(upstream) == CONTENTS
        told_more = {**CONTENTS, "systemInstruction": {"parts": [{"text": "be brief"}]}}
        whole = {"generateContentRequest": {"model": "models/m", **told_more}}
        gemini(made, told_more)
        assert received(upstream) == whole
        gemini(made, {"generateContentRequest": {"model": "models/up/m", **told_more}})
        assert received(upstream) == whole
        with pytest.raises(MissingField):
            gemini(made, {"generateContentRequest": {"model": "models/up/m"}})


def test_geminis_counter_failing_gives_our_own_count(bench_of: Make) -> None:
    with fake_upstream(answer(b"{}", status=500)) as upstream:
        made = counting(bench_of(upstream, node_type=NodeType.GEMINI))
        assert 0 < gemini(made, CONTENTS)["totalTokens"] < 30
