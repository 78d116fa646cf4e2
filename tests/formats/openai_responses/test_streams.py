"""Streams of providers of this format, as events."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import CallKind, ServerTool, Stop, Text, Thinking, ToolCall, Unknown
from omniroute.formats.events import (
    PING,
    BlockDelta,
    BlockStart,
    Checked,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.openai_responses.response import parse_answer
from omniroute.formats.openai_responses.stream_parser import Parser
from omniroute.formats.sse import MAX_EVENT_BYTES
from omniroute.formats.usage import Usage
from tests.formats.openai_responses.responses_samples import cases, folded, read_stream, sample

STREAMS = cases("stream.sse")
PAIRED = [case for case in STREAMS if (case / "response.json").exists()]


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)


def added(index: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def arguments(index: int, delta: str) -> dict[str, Any]:
    return {"type": "response.function_call_arguments.delta", "output_index": index, "delta": delta}


def text(index: int, delta: str, part: int = 0) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": index, "content_index": part, "delta": delta}


COMPLETED = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}}


def call(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{name}", "call_id": f"call_{name}", "name": name, **more}


@pytest.mark.parametrize("case", PAIRED, ids=lambda path: path.name)
def test_a_folded_stream_is_the_answer_that_was_not_streamed(case: Path) -> None:
    response = json.loads((case / "response.json").read_bytes())
    written = json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode()
    assert folded((case / "stream.sse").read_bytes()) == parse_answer(written)


@pytest.mark.parametrize("case", STREAMS, ids=lambda path: path.name)
def test_any_split_gives_the_same_events(case: Path) -> None:
    data = (case / "stream.sse").read_bytes()
    whole = read_stream(data)
    parser = Parser()
    single = [event for index in range(len(data)) for event in parser.feed(data[index : index + 1])]
    assert single + parser.close() == whole
    rng = random.Random(1)
    for _ in range(20):
        cuts = sorted(rng.sample(range(len(data)), 5))
        parser = Parser()
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert [event for piece in pieces for event in parser.feed(piece)] + parser.close() == whole


@pytest.mark.parametrize("case", STREAMS, ids=lambda path: path.name)
def test_t35_a_stream_that_is_cut_ends_with_an_error(case: Path) -> None:
    data = (case / "stream.sse").read_bytes()
    parser, seen = Parser(), list[Event]()
    for cut in range(len(data) - 1):
        seen += parser.feed(data[cut : cut + 1])
        assert not any(isinstance(event, MessageStop | StreamError) for event in seen[-3:])
        if cut % 97 == 0:
            assert read_stream(data[:cut])[-1] == StreamError(b"")
    assert isinstance(read_stream(data[:-1])[-1], MessageStop)  # only the blank line is missing
    short = read_stream(data[:-2])
    assert short[-1] == StreamError(b"")
    check = Checked()
    check.see(short)
    check.end()


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_t51_other_line_ends_comments_and_several_lines_of_data(ending: str) -> None:
    data = sample("text", "stream.sse").decode().replace("\n", ending).encode()
    strange = "\ufeff: hello\n\n".encode() + data
    assert [event for event in read_stream(strange) if event != PING] == read_stream(sample("text", "stream.sse"))
    several = b'data: {"type":\ndata: "response.completed",\ndata: "response":{"id":"r","output":[]}}\n\n'
    assert isinstance(read_stream(several)[-1], MessageStop)


def test_the_first_event_begins_the_answer() -> None:
    events = read_stream(sample("text", "stream.sse"))
    start = events[0]
    assert isinstance(start, MessageStart)
    assert start.id.startswith("resp_68f0")
    assert (start.model, start.created) == ("gpt-5.2-2025-12-11", 1_760_000_000)


def test_t37_usage_is_in_the_last_event() -> None:
    events = read_stream(sample("web_search", "stream.sse"))
    usage = [event.usage for event in events if isinstance(event, UsageUpdate)]
    assert usage == [Usage(input=400, output=20, cache_read=0, cache_write=0, reasoning=0, web_searches=1)]


@pytest.mark.parametrize(
    ("case", "stop"),
    [
        ("text", Stop.END),
        ("parallel_tools", Stop.TOOL_USE),
        ("empty_arguments", Stop.TOOL_USE),
        ("custom_tool", Stop.TOOL_USE),
        ("length", Stop.LENGTH),
        ("torn_call", Stop.LENGTH),
        ("content_filter", Stop.REFUSAL),
        ("refusal", Stop.REFUSAL),
        ("host_call_in_the_end", Stop.TOOL_USE),
    ],
)
def test_t34_t74_the_reason_is_derived_from_the_items(case: str, stop: Stop) -> None:
    assert folded(sample(case, "stream.sse")).stop is stop


def test_t13_custom_input_and_grouped_names() -> None:
    patch = folded(sample("custom_tool", "stream.sse")).calls[0]
    assert patch.kind is CallKind.CUSTOM
    assert patch.arguments.startswith("*** Begin Patch\n")
    spawned = folded(sample("codex", "stream.sse")).calls[0]
    assert spawned.name == "collaboration__spawn_agent"


def test_server_tools_and_unknown_items_come_whole() -> None:
    blocks = folded(sample("web_search", "stream.sse")).blocks
    assert isinstance(blocks[0], ServerTool)
    assert isinstance(folded(sample("unknown_fields", "stream.sse")).blocks[0], Unknown)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("host_without_numbers", ["Hello"]),
        ("host_call_in_the_end", [("call_1", '{"a":1}')]),
        ("host_output_in_the_end", ["All at once.", ("call_1", '{"zone":"UTC"}')]),
        ("host_reasoning_text", ["Let me think.", "Done"]),
        ("host_changing_ids", [("call_1", '{"x":1}')]),
    ],
)
def test_t03_hosts_that_leave_out_or_repeat(case: str, expected: list[Any]) -> None:
    found: list[Any] = []
    for block in folded(sample(case, "stream.sse")).blocks:
        if isinstance(block, ToolCall):
            found.append((block.id, block.arguments.replace(" ", "")))
        elif isinstance(block, Text | Thinking):
            found.append(block.text)
    assert found == expected


def test_t01_calls_that_overlap_become_two_blocks() -> None:
    answer = folded(
        sse(
            added(0, **call("a", arguments="")),
            added(1, **call("b", arguments="")),
            arguments(1, '{"n":'),
            arguments(0, '{"m":'),
            arguments(1, "2}"),
            arguments(0, "1}"),
            done(1, **call("b", arguments='{"n":2}')),
            done(0, **call("a", arguments='{"m":1}')),
            COMPLETED,
        )
    )
    assert [(one.id, one.arguments) for one in answer.calls] == [("call_a", '{"m":1}'), ("call_b", '{"n":2}')]


def test_arguments_ahead_of_their_call_wait_for_its_name() -> None:
    answer = folded(sse(arguments(0, '{"a"'), arguments(0, ":1}"), done(0, **call("f", arguments="")), COMPLETED))
    assert [(one.name, one.arguments) for one in answer.calls] == [("f", '{"a":1}')]
    late = folded(sse(arguments(0, "{}"), added(0, **call("g", arguments="")), COMPLETED))
    assert [(one.name, one.arguments) for one in late.calls] == [("g", "{}")]


def test_t03_a_text_that_comes_only_whole_counts_once() -> None:
    whole = {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "All."}
    item = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "All."}]}
    answer = folded(sse(added(0, type="message", id="m"), whole, whole, done(0, **item), COMPLETED))
    assert [block.text for block in answer.blocks if isinstance(block, Text)] == ["All."]


def test_an_item_of_another_id_in_the_end_is_not_a_second_one() -> None:
    last = {
        "id": "r",
        "output": [{"type": "message", "id": "other", "content": [{"type": "output_text", "text": "Hi"}]}],
    }
    answer = folded(sse(text(0, "H"), text(0, "i"), {"type": "response.completed", "response": last}))
    assert [block.text for block in answer.blocks if isinstance(block, Text)] == ["Hi"]


def test_parts_of_a_message_are_blocks_and_parts_of_a_summary_are_paragraphs() -> None:
    answer = folded(sample("reasoning", "stream.sse"))
    thinking = answer.blocks[0]
    assert isinstance(thinking, Thinking)
    assert thinking.text == "**Scattering**\n\nShort waves scatter more.\n\n**Answering**\n\nBe short."
    assert thinking.id == "rs_68f0e0"
    assert thinking.token is not None
    assert thinking.token.value == "gAAAAABo8rXYZ-sealed=="
    parts = folded(sse(text(0, "a"), text(0, "b", 1), COMPLETED))
    assert [block.text for block in parts.blocks if isinstance(block, Text)] == ["a", "b"]


def test_citations_listed_only_in_the_end_are_found() -> None:
    part = {"type": "output_text", "text": "x", "annotations": [{"type": "url_citation", "url": "u", "title": "t"}]}
    answer = folded(sse(text(0, "x"), done(0, type="message", content=[part]), COMPLETED))
    block = answer.blocks[0]
    assert isinstance(block, Text)
    assert [one.url for one in block.citations] == ["u"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            {"type": "error", "code": "server_error", "message": "Oops", "param": None},
            b'{"error":{"message":"Oops","type":"server_error","param":null,"code":"server_error"}}',
        ),
        (
            {"type": "error", "error": {"type": "x", "code": "rate_limit_exceeded", "message": "Slow"}},
            b'{"error":{"type":"x","code":"rate_limit_exceeded","message":"Slow"}}',
        ),
        (
            {"type": "response.failed", "response": {"id": "r", "error": {"code": "server_error", "message": "No"}}},
            b'{"error":{"code":"server_error","message":"No"}}',
        ),
        (
            {"type": "response.failed", "response": {"id": "r", "error": None}},
            (
                b'{"error":{"message":"The provider reported a failure.","type":"server_error","param":null,'
                b'"code":"server_error"}}'
            ),
        ),
    ],
)
def test_an_error_of_the_provider_becomes_an_event(event: dict[str, Any], expected: bytes) -> None:
    events = read_stream(sse({"type": "response.created", "response": {"id": "r"}}, event, COMPLETED))
    assert events[-1] == StreamError(expected)


def test_nothing_follows_the_terminal_event() -> None:
    parser = Parser()
    events = parser.feed(sse(text(0, "a"), COMPLETED, text(0, "b"), COMPLETED))
    assert sum(isinstance(event, MessageStop) for event in events) == 1
    assert parser.feed(sse(text(0, "c"))) == []
    assert parser.close() == []


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: <html>\n\n", b"data: nonsense\n\n"])
def test_t52_bytes_that_cannot_be_the_format(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        Parser().feed(data)


def test_t52_an_empty_stream_is_an_error() -> None:
    assert read_stream(b"") == [StreamError(b"")]
    assert read_stream(b"data: [DONE]\n\n") == [StreamError(b"")]


def test_other_events_and_odd_members_are_passed_over() -> None:
    events = read_stream(
        sse(
            {"type": "codex.rate_limits", "rate_limits": {}},
            {"type": "response.future.delta", "delta": {"deep": 1}},
            {"type": "response.output_text.delta", "delta": 5},
            {"type": "keepalive", "sequence_number": 3},
            [],  # type: ignore[arg-type]
            {"type": "response.completed", "text": {"format": 1}, "response": {"id": "r", "output": None}},
        )
    )
    assert [type(event) for event in events] == [type(PING), MessageStart, MessageStop]


def test_a_piece_of_the_wrong_kind_is_a_fault_of_the_provider() -> None:
    with pytest.raises(UpstreamProtocolError):
        Parser().feed(sse(added(0, **call("f", arguments="")), text(0, "x")))


_EVENTS = st.one_of(
    st.builds(text, st.integers(0, 2), st.text(max_size=3), st.integers(0, 1)),
    st.builds(arguments, st.integers(0, 2), st.text(max_size=3)),
    st.builds(lambda i, n: added(i, **call(n, arguments="")), st.integers(0, 2), st.sampled_from(["f", "g", ""])),
    st.builds(lambda i, n: done(i, **call(n, arguments="{}")), st.integers(0, 2), st.sampled_from(["f", "g", ""])),
    st.builds(lambda i: added(i, type="message", id=f"m{i}"), st.integers(0, 2)),
    st.builds(lambda i: done(i, type="message", content=[{"text": "t"}]), st.integers(0, 2)),
    st.builds(lambda i: done(i, type="reasoning", encrypted_content="e"), st.integers(0, 2)),
    st.builds(lambda i: {"type": "response.reasoning_text.delta", "output_index": i, "delta": "r"}, st.integers(0, 2)),
    st.builds(lambda i: done(i, type="web_search_call", id="w"), st.integers(0, 2)),
    st.just(COMPLETED),
    st.just({"type": "response.created", "response": {"id": "r"}}),
)


@given(st.lists(_EVENTS, max_size=12))
def test_whatever_comes_the_events_keep_their_rules(events: list[dict[str, Any]]) -> None:
    parser, check = Parser(), Checked()
    try:
        check.see(parser.feed(sse(*events)))
    except UpstreamProtocolError:
        return
    check.see(parser.close())
    check.end()


@given(st.binary(max_size=200))
def test_any_bytes_end_somehow(data: bytes) -> None:
    try:
        events = read_stream(data + b"\n\n")
    except UpstreamProtocolError:
        return
    assert isinstance(events[-1], StreamError | MessageStop)


def test_t69_a_million_characters_of_arguments() -> None:
    pieces = ["x" * 1000] * 1000
    data = sse(added(0, **call("f", arguments="")), *(arguments(0, piece) for piece in pieces), COMPLETED)
    deltas = [event for event in read_stream(data) if isinstance(event, BlockDelta)]
    assert len(deltas) == len(pieces)
    assert deltas[0] == BlockDelta(0, DeltaKind.ARGUMENTS, pieces[0])


def test_an_event_over_its_limit_is_refused() -> None:
    with pytest.raises(UpstreamProtocolError):
        Parser().feed(b"data: " + b"x" * MAX_EVENT_BYTES)


def test_blocks_open_with_their_first_piece() -> None:
    events = read_stream(sse(added(0, type="message", id="m", content=[]), text(0, "a"), COMPLETED))
    assert [event.block for event in events if isinstance(event, BlockStart)] == [
        Text("", extra={"==message": msgspec.Raw(b'["m",null]')})
    ]
