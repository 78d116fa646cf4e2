"""Whole answers that are not what the operator asks for: another candidate is asked, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from omniroute.errors import UpstreamError
from omniroute.formats.canonical import Answer, Stop, Text, Thinking, ToolCall
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import Surface
from omniroute.gateway.validation import problem_of
from omniroute.records import NodeType
from tests.fakes.upstream import answer, fake_upstream, sandboxed, stream
from tests.gateway.callers import NODES
from tests.gateway.conftest import QUICK, Bench
from tests.gateway.test_inference import DONE, HELLO, ROLE, STOP, STREAMED, TEXT, USAGE, completion, drink

Make = Callable[..., Bench]


def demanding(**rules: Any) -> dict[tuple[str, str], Any]:
    own = {**QUICK["combo-defaults", "config"], "responseValidation": rules}
    return {**QUICK, ("combo-defaults", "config"): own}


def said(*blocks: Any, **more: Any) -> Answer:
    return Answer(WireFormat.OPENAI_CHAT, "a", "m", blocks, Stop.END, **more)


JSON = json.dumps({"ok": True, "items": [{"name": "x", "n": 1}], "none": None})
CALL = ToolCall("c", "f", "{}")


@pytest.mark.parametrize(
    ("given", "rules", "is_fit"),
    [
        (said(Text("hello")), {}, True),
        (said(Text("hello")), {"required": ["ell"]}, True),
        (said(Text("hel"), Text("lo")), {"required": ["hello"]}, True),
        (said(Text("hello")), {"required": ["ell", "x"]}, False),
        (said(Text("hello")), {"forbidden": ["ell"]}, False),
        (said(Thinking("ell"), Text("ho")), {"forbidden": ["ell"]}, True),
        (said(Thinking("ell"), Text("ho")), {"required": ["ell"]}, False),
        (said(Text("  hi \n")), {"minContentLength": 3}, False),
        (said(Text("hey")), {"minContentLength": 3}, True),
        (said(), {"minContentLength": 1}, False),
        (said(CALL), {"minContentLength": 1, "required": ["x"], "jsonPath": [{"path": "a", "exists": True}]}, True),
        (said(Text("bad"), CALL), {"forbidden": ["bad"]}, False),
        (said(Text("good"), others=(said(Text("bad")),)), {"forbidden": ["bad"]}, False),
        (said(Text(JSON)), {"jsonPath": [{"path": "ok", "equals": True}]}, True),
        (said(Text(JSON)), {"jsonPath": [{"path": "ok", "equals": 1}]}, False),
        (said(Text(JSON)), {"jsonPath": [{"path": "items.0.name", "equals": "x"}]}, True),
        (said(Text(JSON)), {"jsonPath": [{"path": "items.0.n", "equals": 1.0}]}, True),
        (said(Text(JSON)), {"jsonPath": [{"path": "items.1.name", "exists": False}]}, True),
        (said(Text(JSON)), {"jsonPath": [{"path": "items.-1.name", "exists": True}]}, False),
        (said(Text(JSON)), {"jsonPath": [{"path": "none", "exists": True}, {"path": "none", "equals": None}]}, True),
        (said(Text(JSON)), {"jsonPath": [{"path": "ok.deeper", "exists": True}]}, False),
        (said(Text("no json")), {"jsonPath": [{"path": "ok", "exists": False}]}, False),
        (said(Text("[" * 5000)), {"jsonPath": [{"path": "ok", "exists": False}]}, False),
    ],
)
def test_the_rules(given: Answer, rules: dict[str, Any], is_fit: bool) -> None:
    problem = problem_of(given, rules)
    assert (problem is None) is is_fit
    assert problem is None or "bad" not in problem, "what is forbidden is not for callers"


def test_another_candidate_is_asked(bench_of: Make) -> None:
    with fake_upstream(answer(completion("short"))) as one, fake_upstream(answer(completion("long enough"))) as two:
        bench = bench_of(one, two, settings=demanding(minContentLength=8))
        # Two connections of one target give the same kind of answer, so there is nobody else to ask.
        with pytest.raises(UpstreamError, match="too short"):
            bench.call(HELLO)
        assert two.received == []
        attempt = bench.log.only.attempts[0]
        assert (attempt.failure_class, attempt.kind, attempt.status) == ("unknown", "invalid_answer", 200)
        assert bench.routing.board.copy.rest("conn_0", "conn_0") is None
        assert bench.http.open_connections == 1, "it was read to its end"


def test_a_combo_goes_on_to_its_next_target_once(bench_of: Make) -> None:
    answers = ("short", "brief", "long enough")
    for given, expected in ((answers[1:], "long enough"), (answers, None)):
        with fake_upstream(*(answer(completion(text)) for text in given)) as upstream:
            bench = bench_of(upstream, settings=demanding(minContentLength=8), combo=("up/m-1", "up/m-2", "up/m-3"))
            body = {**HELLO, "model": "mix"}
            if expected is None:
                with pytest.raises(UpstreamError):
                    bench.call(body)
            else:
                opened = bench.call(body)
                assert isinstance(opened.body, bytes)
                assert expected in opened.body.decode()
            assert [json.loads(one.body)["model"] for one in upstream.received] == ["m-1", "m-2"]
            assert [one.kind for one in bench.log.only.attempts] == [
                "invalid_answer",
                None if expected else "invalid_answer",
            ]


@pytest.mark.parametrize("upstream_format", NODES)
def test_the_text_is_found_in_every_format(upstream_format: WireFormat, bench_of: Make) -> None:
    for forbidden, is_fit in (("hi", False), ("no such text", True)):
        with fake_upstream(sandboxed) as upstream:
            bench = bench_of(upstream, **NODES[upstream_format], settings=demanding(forbidden=[forbidden]))
            body = {"model": "up/echo", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
            for surface in (Surface.OPENAI_CHAT, Surface.ANTHROPIC_MESSAGES):
                bench.log.records.clear()
                if is_fit:
                    assert bench.call(body, surface).status == 200
                else:
                    with pytest.raises(UpstreamError):
                        bench.call(body, surface)


def test_a_stream_that_nobody_asked_for_is_validated_too(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, TEXT, STOP, USAGE, DONE)) as upstream:
        bench = bench_of(upstream, settings=demanding(forbidden=["hello"]))
        with pytest.raises(UpstreamError):
            bench.call(HELLO)
        assert bench.log.only.attempts[0].kind == "invalid_answer"


def test_a_stream_is_not_validated(bench_of: Make) -> None:
    with fake_upstream(stream(ROLE, TEXT, STOP, USAGE, DONE)) as upstream:
        bench = bench_of(upstream, settings=demanding(forbidden=["hello"]))
        assert b"hello" in drink(bench.call(STREAMED))


def test_an_error_inside_an_answer_stays_an_error(bench_of: Make) -> None:
    body = b'{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}'
    with fake_upstream(answer(body)) as upstream:
        bench = bench_of(upstream, node_type=NodeType.OPENAI, settings=demanding(required=["x"]))
        with pytest.raises(Exception, match="rate"):
            bench.call(HELLO)
        assert bench.log.only.attempts[0].failure_class == "rate_limit"
