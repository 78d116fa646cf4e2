"""A stream whose two sides speak this format: bytes stay, the model's name is put back, errors are numbered."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from omniroute.errors import UpstreamProtocolError, UpstreamTimeout
from omniroute.formats.openai_responses.errors import raw_in_stream
from omniroute.formats.openai_responses.stream import ResponsesStream
from omniroute.formats.usage import NOT_REPORTED, Usage
from tests.formats.openai_responses.responses_samples import cases, frames, sample, trailer

STREAMS = cases("stream.sse")


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events)


def relay(model: str | None = None) -> ResponsesStream:
    return ResponsesStream(model, trailer)


CREATED = {"type": "response.created", "sequence_number": 0, "response": {"id": "r", "model": "up", "metadata": {}}}
DELTA = {"type": "response.output_text.delta", "sequence_number": 7, "output_index": 0, "delta": "a"}


@pytest.mark.parametrize("case", STREAMS, ids=lambda path: path.name)
def test_the_bytes_stay_and_the_trailer_is_last(case: Path) -> None:
    data = (case / "stream.sse").read_bytes()
    stream = relay()
    out = stream.feed(data)
    assert out == data + trailer(stream.usage)
    assert stream.is_complete
    assert stream.error is None


@pytest.mark.parametrize("case", STREAMS, ids=lambda path: path.name)
def test_any_split_gives_the_same_bytes(case: Path) -> None:
    data = (case / "stream.sse").read_bytes()
    whole = relay("mine").feed(data)
    stream = relay("mine")
    assert b"".join(stream.feed(data[index : index + 1]) for index in range(len(data))) == whole
    rng = random.Random(2)
    cuts = sorted(rng.sample(range(len(data)), 9))
    stream = relay("mine")
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert b"".join(map(stream.feed, pieces)) == whole


def test_t61_only_the_name_in_the_response_object_is_put_back() -> None:
    response = {"id": "r", "metadata": {"model": "up"}, "tools": [{"type": "x", "model": "up"}], "model": "up"}
    stream = relay('my"model')
    out = stream.feed(
        sse({**CREATED, "response": response}, DELTA, {"type": "response.completed", "response": response})
    )
    events = [json.loads(line[6:]) for line in out.decode().splitlines() if line.startswith("data: ")]
    for event in (events[0], events[2]):
        assert event["response"] == {**response, "model": 'my"model'}
    assert events[1] == DELTA


def test_the_name_is_put_back_where_data_spans_lines() -> None:
    out = relay("mine").feed(b'data: {"type":"response.completed",\ndata: "response":{"model":"up","id":"r"}}\n\n')
    assert out.startswith(b'event: response.completed\ndata: {"type":"response.completed", "response":{"model":"mine"')


def test_nothing_is_forwarded_before_content() -> None:
    stream = relay()
    assert stream.feed(sse(CREATED, {"type": "response.in_progress", "response": {"id": "r"}})) == b""
    added = {"type": "response.output_item.added", "item": {"type": "message"}}
    assert stream.feed(sse(added)) == b""
    assert not stream.has_content
    assert stream.feed(sse(DELTA)).count(b"data: ") == 4
    assert stream.response_id == "r"


@pytest.mark.parametrize(
    ("event", "is_content"),
    [
        ({"type": "response.output_item.added", "item": {"type": "reasoning"}}, False),
        ({"type": "response.output_item.added", "item": {"type": "function_call"}}, True),
        ({"type": "response.output_item.added", "item": {"type": "web_search_call"}}, True),
        ({"type": "response.output_item.added", "item": 5}, False),
        ({"type": "response.output_item.done", "item": {"type": "reasoning"}}, True),
        ({"type": "response.reasoning_summary_text.delta", "delta": "x"}, True),
        ({"type": "response.refusal.delta", "delta": "x"}, True),
        ({"type": "response.function_call_arguments.delta", "delta": "x"}, True),
        ({"type": "response.custom_tool_call_input.delta", "delta": "x"}, True),
        ({"type": "response.content_part.added"}, False),
        ({"type": "codex.rate_limits"}, False),
        ({"type": 5}, False),
    ],
)
def test_what_counts_as_content(event: dict[str, Any], is_content: bool) -> None:
    stream = relay()
    stream.feed(sse(CREATED, event))
    assert stream.has_content is is_content


def test_t37_usage_is_read_from_the_last_event() -> None:
    stream = relay()
    stream.feed(sample("parallel_tools", "stream.sse"))
    assert stream.usage == Usage(input=230, output=61, cache_read=128, cache_write=0, reasoning=20)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_t72_both_ends_are_complete_answers(kind: str) -> None:
    stream = relay()
    stream.feed(sse(CREATED, {"type": kind, "response": {"id": "r", "usage": None}}))
    assert (stream.is_complete, stream.error, stream.usage) == (True, None, NOT_REPORTED)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.failed", "response": {"id": "r", "error": {"code": "server_error", "message": "No"}}},
        {"type": "error", "code": "server_error", "message": "No"},
    ],
)
def test_an_error_before_content_is_not_forwarded(event: dict[str, Any]) -> None:
    stream = relay()
    assert stream.feed(sse(CREATED, event)) == b""
    error = json.loads(stream.error or b"")["error"]
    assert (error["code"], error["message"]) == ("server_error", "No")


def test_an_error_after_content_keeps_its_shape() -> None:
    failed = {"type": "response.failed", "sequence_number": 8, "response": {"id": "r", "error": {"code": "x"}}}
    stream = relay()
    out = stream.feed(sse(CREATED, DELTA, failed))
    assert b"response.failed" not in out
    assert json.loads(stream.error or b"") == failed
    assert list(frames(raw_in_stream(stream.error or b""))) == [failed]
    assert raw_in_stream(b"{").startswith(b"event: error\n")


def test_nothing_follows_the_terminal_event() -> None:
    completed = {"type": "response.completed", "response": {"id": "r"}}
    out = relay().feed(sse(CREATED, DELTA, completed, completed, DELTA))
    assert out.count(b"response.completed") == 1
    assert relay().feed(sse(DELTA) + b"data: [DONE]\n\n") == sse(DELTA)


def test_our_own_error_carries_the_next_number_and_the_response() -> None:
    stream = relay("mine")
    response = {"id": "r", "model": "up", "status": "in_progress", "error": None, "output": [], "tools": [{"a": 1}]}
    stream.feed(sse({**CREATED, "response": response}, DELTA))
    stream.feed(b": comment\n\n")
    event = next(frames(stream.fail(UpstreamTimeout("idle", "Silence."), "req_1")))
    assert (event["type"], event["sequence_number"]) == ("response.failed", 8)
    assert event["response"] == {
        **response,
        "model": "mine",
        "status": "failed",
        "error": {"code": "upstream_timeout", "message": "Silence."},
    }


def test_our_own_error_before_content_is_a_bare_event() -> None:
    stream = relay()
    stream.feed(sse(CREATED))
    event = next(frames(stream.fail(UpstreamTimeout("idle", "Silence."), "req_1")))
    assert (event["type"], event["sequence_number"]) == ("error", 0)


def test_a_host_without_numbers_and_response_can_fail_too() -> None:
    stream = relay("mine")
    stream.feed(sse({"type": "response.output_text.delta", "delta": "a"}))
    event = next(frames(stream.fail(UpstreamTimeout("idle", "Silence."), "req_1")))
    assert (event["sequence_number"], event["response"]["status"]) == (0, "failed")


def test_text_that_looks_like_an_event_changes_nothing() -> None:
    text = '"response": {"model": "up"}, "type": "response.completed", "error", "sequence_number": 99 [DONE]'
    stream = relay("mine")
    stream.feed(sse(CREATED))
    data = sse({**DELTA, "delta": text})
    assert stream.feed(data).endswith(data)
    assert not stream.is_complete
    event = next(frames(stream.fail(UpstreamTimeout("idle", "Silence."), "req_1")))
    assert event["sequence_number"] == 8


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: <html>\n\n"])
def test_t52_bytes_that_cannot_be_the_format(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        relay().feed(data)
