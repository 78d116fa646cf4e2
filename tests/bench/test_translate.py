"""What the translation part of the benchmark sends, and how it counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omnibench import agents, bodies, inprocess, wire
from omnibench.calls import Body, Case, Sample
from omnibench.inprocess import Job, RequestCost, least_request
from omnibench.parts.translate import added_cpu_us, translation_cost
from omniroute.formats.events import Checked
from omniroute.formats.fold import Folder
from omniroute.formats.translate import UPSTREAMS
from omniroute.formats.wire import WireFormat


def _sample(name: str, turn: int, cpu_us: float) -> Sample:
    return Sample(name, Case(Body.SMALL, 16), turn, 1000.0, 1.0, 2.0, cpu_us, 3000, 0)


def test_the_small_bodies_of_both_formats_are_of_one_size() -> None:
    assert len(agents.small("upstream/echo")) == len(bodies.small("upstream/echo")) == bodies.SMALL_BYTES


@pytest.mark.parametrize(
    ("build", "size", "messages", "tools"),
    [
        (agents.usual, bodies.LARGE_BYTES, 49, 18),
        (agents.huge, agents.HUGE_BYTES, agents.HUGE_MESSAGES + 1, agents.HUGE_TOOLS),
    ],
)
def test_an_agents_body_is_a_whole_session(build: Any, size: int, messages: int, tools: int) -> None:
    body = build("m")
    read = json.loads(body)
    assert abs(len(body) - size) < 0.05 * size
    assert (len(read["messages"]), len(read["tools"])) == (messages, tools)
    assert [message["role"] for message in read["messages"]] == (["user", "assistant"] * messages)[:messages]
    assert not body.isascii(), "as JavaScript writes it"
    assert body == build("m"), "the same every time"
    called: list[str] = []
    answered: list[str] = []
    for message in read["messages"]:
        blocks = message["content"]
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert results == called[len(answered) :], "each call is answered by the next message"
        answered += results
        called += [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert called == answered
    assert len(set(called)) == len(called) > 20


@pytest.mark.parametrize("name", inprocess.UPSTREAMS)
def test_the_recorded_streams_say_the_same_in_every_format(name: str) -> None:
    parser = UPSTREAMS[WireFormat(name)].new_parser()
    checked, folder = Checked(), Folder(WireFormat(name))
    for event in wire.streams()[name]:
        events = parser.feed(event)
        checked.see(events)
        folder.see(events)
    events = parser.close()
    checked.see(events)
    folder.see(events)
    checked.end()
    thinking, text, call = folder.answer().blocks
    thoughts, words, fragments = wire.pieces()
    assert thinking.text == "".join(thoughts)  # type: ignore[union-attr]
    assert text.text == "".join(words)  # type: ignore[union-attr]
    assert json.loads(call.arguments) == json.loads("".join(fragments))  # type: ignore[union-attr]
    assert folder.usage.input == 21_034


def test_each_pair_and_each_upstream_is_measured() -> None:
    report = inprocess.run(Job(requests=1, streams=1))
    assert {cost.upstream for cost in report.requests} == set(inprocess.UPSTREAMS) - {"anthropic_messages"}
    pairs = {(cost.client, cost.upstream) for cost in report.streams}
    assert pairs == {(a, b) for a in inprocess.CLIENTS for b in inprocess.UPSTREAMS if a != b}
    assert all(cost.total_ms > 0 for cost in report.requests)
    assert all(cost.event_us > 0 and cost.events > 200 for cost in report.streams)


def test_the_least_time_of_each_phase_counts() -> None:
    one = RequestCost("gemini", 100, scan_ms=1.0, parse_ms=5.0, render_ms=2.0)
    other = RequestCost("gemini", 100, scan_ms=2.0, parse_ms=3.0, render_ms=2.5)
    assert least_request(one, other) == RequestCost("gemini", 100, 1.0, 3.0, 2.0)
    assert least_request(None, other) is other
    assert least_request(one, other).total_ms == 6.0


def test_a_translated_call_is_compared_with_the_passthrough_of_its_round() -> None:
    passed = [_sample("Chat → Chat", turn, 700.0 + 100 * turn) for turn in range(3)]
    translated = [_sample("Chat → Messages", turn, 900.0 + 100 * turn) for turn in range(3)]
    assert added_cpu_us(translated, passed).median == 200.0


def test_what_an_upstream_costs_by_itself_is_not_counted_as_translation() -> None:
    """Messages answers cost 100 µs more here, translated or not; a translation costs 200."""
    samples = {
        "Chat → Chat": [_sample("", turn, 700.0) for turn in range(3)],
        "Chat → Messages": [_sample("", turn, 1000.0) for turn in range(3)],
        "Messages → Messages": [_sample("", turn, 800.0) for turn in range(3)],
        "Messages → Chat": [_sample("", turn, 900.0) for turn in range(3)],
    }
    assert translation_cost(samples).median == 200.0
