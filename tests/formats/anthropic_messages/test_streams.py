"""Streams, in both directions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from anthropic._models import construct_type_unchecked
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from omniroute.errors import Overloaded, UpstreamProtocolError
from omniroute.formats.anthropic_messages.response import parse_answer
from omniroute.formats.anthropic_messages.stream_parser import Parser
from omniroute.formats.anthropic_messages.stream_renderer import Renderer
from omniroute.formats.canonical import (
    NO_EXTRA,
    Answer,
    Block,
    CallKind,
    Citation,
    Refusal,
    ServerTool,
    Stop,
    Text,
    Thinking,
    Token,
    ToolCall,
)
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Checked,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    Ping,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.fold import Folder, unfold
from omniroute.formats.sse import MAX_EVENT_BYTES
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from tests.formats.anthropic_messages.fixtures import STREAMS, answer_of, chat, reply_to, stream_of

MESSAGES, CHAT = WireFormat.ANTHROPIC_MESSAGES, WireFormat.OPENAI_CHAT


def events_of(*pieces: bytes) -> list[Event]:
    parser, checked = Parser(), Checked()
    events = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.close()
    checked.see(events)
    checked.end()
    return events


def folded(events: Sequence[Event]) -> Answer:
    folder = Folder(MESSAGES)
    folder.see(events)
    return folder.answer()


def compact(answer: Answer) -> Answer:
    """Return the answer with its JSON spelt in one way: a stream spells it with other white space."""

    def spelt(block: Block) -> Block:
        if isinstance(block, ToolCall):
            return msgspec.structs.replace(block, arguments=one_line(block.arguments.encode()).decode())
        if isinstance(block, ServerTool):
            return msgspec.structs.replace(block, raw=msgspec.Raw(one_line(bytes(block.raw))))
        if isinstance(block, Text):
            citations = [
                msgspec.structs.replace(one, raw=msgspec.Raw(one_line(bytes(one.raw)))) for one in block.citations
            ]
            return msgspec.structs.replace(block, citations=tuple(citations))
        return block

    return msgspec.structs.replace(answer, blocks=tuple(spelt(block) for block in answer.blocks))


def one_line(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1)


def frames(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def rendered(events: Sequence[Event], trailer: bytes = b"") -> bytes:
    renderer = Renderer(reply_to(chat(), trailer))
    return renderer.render(events)


def data_of(stream: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in stream.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines]


START: dict[str, Any] = {
    "type": "message_start",
    "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {}},
}
END: list[dict[str, Any]] = [
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
]


def opened(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def added(index: int, kind: str, **members: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **members}}


def closed(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", STREAMS)
def test_a_folded_stream_equals_the_answer(case: str) -> None:
    answer = parse_answer(answer_of(case))
    assert answer is not None
    assert compact(folded(events_of(stream_of(case)))) == compact(msgspec.structs.replace(answer, extra=NO_EXTRA))


@pytest.mark.parametrize("case", STREAMS)
def test_t51_any_cut_gives_the_same_events(case: str) -> None:
    stream = stream_of(case)
    whole = events_of(stream)
    assert events_of(*(stream[at : at + 1] for at in range(len(stream)))) == whole
    assert events_of(stream.replace(b"\n", b"\r\n")) == whole
    assert events_of(b"\xef\xbb\xbf" + stream.replace(b"data: ", b"data:")) == whole


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 4000), max_size=6))
def test_t51_random_cuts_give_the_same_events(case: str, cuts: list[int]) -> None:
    stream = stream_of(case)
    edges = [0, *sorted(cuts), len(stream)]
    assert events_of(*(stream[a:b] for a, b in itertools.pairwise(edges))) == events_of(stream)


@pytest.mark.parametrize("case", STREAMS)
def test_t35_a_stream_cut_anywhere_never_ends_well(case: str) -> None:
    stream = stream_of(case)
    finished = stream.index(b"event: message_delta")
    complete = stream.index(b"\n\n", finished) + 2
    for end in range(len(stream)):
        parser, checked = Parser(), Checked()
        events = [*parser.feed(stream[:end]), *parser.close()]
        checked.see(events)
        checked.end()
        if end < complete:
            assert events[-1] == StreamError()
        else:
            # The reason has been given, so that nothing but the end mark is missing.
            assert isinstance(events[-1], MessageStop)


def test_t02_t03_arguments_come_in_pieces_whole_or_not_at_all() -> None:
    stream = frames(
        START,
        opened(0, type="tool_use", id="a", name="f", input={}),
        added(0, "input_json_delta", partial_json='{"x"'),
        added(0, "input_json_delta", partial_json=": 1}"),
        closed(0),
        opened(1, type="tool_use", id="b", name="f", input={"y": 2}),
        closed(1),
        opened(2, type="tool_use", id="c", name="f", input={"z": 0}),
        added(2, "input_json_delta", partial_json='{"z": 3}'),
        closed(2),
        opened(3, type="tool_use", id="d", name="f", input={}),
        closed(3),
        opened(4, type="tool_use", id="e", name="f"),
        added(4, "input_json_delta", partial_json=""),
        closed(4),
        *END,
    )
    calls = folded(events_of(stream)).calls
    assert [call.arguments for call in calls] == ['{"x": 1}', '{"y": 2}', '{"z": 3}', "{}", "{}"]


def test_t01_blocks_that_overlap_are_put_one_after_the_other() -> None:
    stream = frames(
        START,
        opened(0, type="text", text=""),
        opened(1, type="tool_use", id="a", name="f", input={}),
        added(1, "input_json_delta", partial_json='{"a":'),
        added(0, "text_delta", text="one "),
        opened(2, type="tool_use", id="b", name="g", input={}),
        added(2, "input_json_delta", partial_json='{"b":'),
        added(1, "input_json_delta", partial_json="1}"),
        added(0, "text_delta", text="two"),
        closed(0),
        added(2, "input_json_delta", partial_json="2}"),
        closed(2),
        closed(1),
        *END,
    )
    assert folded(events_of(stream)).blocks == (
        Text("one two"),
        ToolCall("a", "f", '{"a":1}'),
        ToolCall("b", "g", '{"b":2}'),
    )


def test_blocks_that_nobody_stops_are_stopped_by_the_end() -> None:
    stream = frames(START, opened(0, type="text", text="Hi"), opened(1, type="text", text=""), *END)
    assert folded(events_of(stream)).blocks == (Text("Hi"), Text(""))


def test_a_server_tools_call_arrives_whole() -> None:
    events = events_of(stream_of("server_tools"))
    heads = [event.block for event in events if isinstance(event, BlockStart)]
    assert isinstance(heads[0], ServerTool)
    assert json.loads(bytes(heads[0].raw))["input"] == {"query": "who won"}
    assert heads[0].note == '[The assistant used the tool web_search with the input {"query": "who won"}]'


def test_t39_counts_are_the_highest_reported_and_never_added() -> None:
    stream = frames(
        {**START, "message": {**START["message"], "usage": {"input_tokens": 100, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 0, "output_tokens": 7}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
    assert folded(events_of(stream)).usage == Usage(input=100, output=9)
    assert folded(events_of(stream_of("stop_sequence"))).usage == Usage(input=9, output=4)
    assert folded(events_of(stream_of("length"))).usage == Usage(input=9, output=4)


def test_events_that_nobody_knows_are_passed_over() -> None:
    stream = frames(
        START,
        {"type": "fallback", "index": "x", "delta": 5},
        opened(0, type="text", text=""),
        added(0, "hologram_delta", hologram=1),
        {"type": "content_block_revised", "index": 0},
        added(0, "text_delta", text="Hi"),
        closed(0),
        *END,
    )
    assert folded(events_of(b": comment\n\n" + stream)).blocks == (Text("Hi"),)


def test_an_error_of_the_provider_is_the_end() -> None:
    error = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    stream = frames(START, opened(0, type="text", text="")) + b"event: error\ndata: " + error + b"\n\n" + frames(*END)
    parser = Parser()
    assert parser.feed(stream)[-1] == StreamError(error)
    assert parser.feed(frames(*END)) == []
    assert parser.close() == []


def test_nothing_follows_the_end() -> None:
    parser = Parser()
    events = parser.feed(stream_of("text") + stream_of("text"))
    assert [type(event) for event in events].count(MessageStop) == 1
    assert isinstance(events[-1], MessageStop)
    assert parser.feed(stream_of("text")) == []


def test_t52_an_empty_stream_is_an_error() -> None:
    assert events_of() == [StreamError()]
    assert events_of(b"\n\n") == [StreamError()]


@pytest.mark.parametrize(
    "stream",
    [
        b"data: <html>\n\n",
        b"data: {\n\n",
        frames({"type": "content_block_start", "index": 0, "content_block": 5}),
        frames({"type": "content_block_start", "index": "0"}),
        frames(opened(0, type="text", text=5)),
        frames(opened(0, text="x")),
        frames(opened(0, type="text", text=""), added(0, "text_delta", text=5)),
        b'data: {"type":"x","deep":' + b"[" * 5000 + b"\n\n",
        b"data: " + b"x" * MAX_EVENT_BYTES + b"\n",
    ],
)
def test_bytes_that_cannot_be_the_format_are_the_providers_fault(stream: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        Parser().feed(stream)


def test_hosts_may_leave_out_the_start() -> None:
    events = events_of(frames(opened(0, type="text", text="Hi"), closed(0), *END))
    assert events[0] == MessageStart("", "")
    assert folded(events).blocks == (Text("Hi"),)


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", STREAMS)
def test_a_rendered_stream_reads_as_it_was(case: str) -> None:
    events = events_of(stream_of(case))
    again = folded(events_of(rendered(events)))
    assert msgspec.structs.replace(again, id="", model="") == msgspec.structs.replace(folded(events), id="", model="")


@pytest.mark.parametrize("case", STREAMS)
def test_t75_the_official_client_reads_a_stream(case: str) -> None:
    answer = parse_answer(answer_of(case))
    assert answer is not None
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    adapter: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
    for data in data_of(rendered(events_of(stream_of(case)))):
        adapter.validate_python(data)
        event: Any = construct_type_unchecked(type_=RawMessageStreamEvent, value=data)  # type: ignore[arg-type]
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    wanted = json.loads(answer_of(case))
    assert [block.type for block in snapshot.content] == [block["type"] for block in wanted["content"]]
    for block, expected in zip(snapshot.content, wanted["content"], strict=True):
        got = block.model_dump()
        for member in ("text", "thinking", "signature", "data", "input"):
            assert got.get(member) == expected.get(member)
    assert snapshot.stop_reason == wanted["stop_reason"]
    assert snapshot.usage.output_tokens == wanted["usage"]["output_tokens"]
    assert snapshot.usage.input_tokens == wanted["usage"]["input_tokens"]


def one_of_each() -> list[Event]:
    return [
        MessageStart("x", "y", 5, Usage(input=10, cache_read=4)),
        BlockStart(0, Thinking("")),
        BlockDelta(0, DeltaKind.THINKING, "hm"),
        BlockDelta(0, DeltaKind.TOKEN, Token("SIG", CHAT)),
        BlockDelta(0, DeltaKind.THINKING, "m"),
        BlockStop(0),
        BlockStart(1, ServerTool(WireFormat.GEMINI, msgspec.Raw(b"{}"))),
        BlockStop(1),
        BlockStart(2, Text("")),
        BlockDelta(2, DeltaKind.TEXT, 'say "hi"\n'),
        BlockDelta(2, DeltaKind.CITATION, Citation(CHAT, msgspec.Raw(b"{}"), url="u")),
        Ping(),
        BlockStop(2),
        BlockStart(3, ToolCall("t", "f", "")),
        BlockStop(3),
        UsageUpdate(Usage(input=10, output=7, cache_read=4)),
        MessageStop(Stop.TOOL_USE),
    ]


def test_the_frames_of_a_stream() -> None:
    stream = rendered(one_of_each(), trailer=b": x-omniroute-cost=1\n\n")
    assert data_of(stream) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_0123456789abcdef01234567",
                "type": "message",
                "role": "assistant",
                "model": "the-model",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 6, "output_tokens": 0, "cache_read_input_tokens": 4},
            },
        },
        opened(0, type="thinking", thinking="", signature=""),
        added(0, "thinking_delta", thinking="hm"),
        added(0, "thinking_delta", thinking="m"),
        added(0, "signature_delta", signature="SIG"),
        closed(0),
        opened(1, type="text", text=""),
        added(1, "text_delta", text='say "hi"\n'),
        closed(1),
        opened(2, type="tool_use", id="t", name="f", input={}),
        closed(2),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"input_tokens": 6, "output_tokens": 7, "cache_read_input_tokens": 4},
        },
        {"type": "message_stop"},
    ]
    # The trailer stands before the end, after which nothing may follow.
    assert stream.endswith(b': x-omniroute-cost=1\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n')
    for frame in stream.split(b"\n\n"):
        assert frame == b"" or frame.startswith((b"event: ", b": "))


def test_the_same_frames_whatever_comes_together() -> None:
    renderer = Renderer(reply_to(chat()))
    assert b"".join(renderer.render([event]) for event in one_of_each()) == rendered(one_of_each())


def test_t35_the_last_delta_is_there_without_any_usage() -> None:
    data = data_of(rendered([MessageStart("", ""), MessageStop(Stop.END)]))
    assert data[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert data[-2]["usage"] == {"input_tokens": 0, "output_tokens": 0}


@pytest.mark.parametrize("block", [Refusal("I cannot."), Text("I cannot.")])
def test_t72_a_refusal_is_streamed_as_text(block: Block) -> None:
    answer = Answer(CHAT, "", "", (block,), Stop.REFUSAL)
    data = data_of(rendered(list(unfold(answer))))
    assert data[2] == added(0, "text_delta", text="I cannot.")
    assert data[-2]["delta"]["stop_reason"] == "refusal"


def test_t13_free_text_of_a_custom_tool_becomes_an_object_at_the_end() -> None:
    events: list[Event] = [
        MessageStart("", ""),
        BlockStart(0, ToolCall("t", "patch", "", CallKind.CUSTOM)),
        BlockDelta(0, DeltaKind.ARGUMENTS, 'a "b'),
        BlockDelta(0, DeltaKind.ARGUMENTS, '" c'),
        BlockStop(0),
        MessageStop(Stop.TOOL_USE),
    ]
    data = data_of(rendered(events))
    assert data[2] == added(0, "input_json_delta", partial_json='{"input":"a \\"b\\" c"}')


def test_t68_arguments_are_passed_on_piece_by_piece_as_they_are() -> None:
    pieces = ['{"pa', 'th": "/tmp/\\u00e9', '"', "}"]
    events: list[Event] = [MessageStart("", ""), BlockStart(0, ToolCall("t", "f", ""))]
    events += [BlockDelta(0, DeltaKind.ARGUMENTS, piece) for piece in pieces]
    events += [BlockStop(0), MessageStop(Stop.TOOL_USE)]
    sent = [
        event["delta"]["partial_json"] for event in data_of(rendered(events)) if "index" in event and "delta" in event
    ]
    assert sent == pieces


def test_a_stream_that_fails_has_no_end() -> None:
    renderer = Renderer(reply_to(chat()))
    before = renderer.render(one_of_each()[:3])
    frame = renderer.fail(Overloaded(), "req_1")
    assert frame.startswith(b"event: error\ndata: ")
    assert json.loads(frame.split(b"data: ")[1])["error"]["type"] == "overloaded_error"
    assert b"message_stop" not in before + frame


BLOCKS = st.one_of(
    st.builds(Text, st.text(max_size=9)),
    st.builds(Thinking, st.text(max_size=9), st.none() | st.builds(Token, st.text(min_size=1), st.just(MESSAGES))),
    st.builds(Thinking, st.just(""), st.builds(Token, st.text(min_size=1), st.just(MESSAGES)), redacted=st.just(True)),
    st.builds(ToolCall, st.text(max_size=3), st.text(max_size=3), st.just('{"a":1}')),
)


@given(st.lists(BLOCKS, max_size=4), st.sampled_from(list(Stop)))
def test_any_answer_streams_and_comes_back(blocks: list[Block], stop: Stop) -> None:
    answer = Answer(MESSAGES, "", "", tuple(blocks), stop, usage=Usage(input=3, output=2))
    assert folded(events_of(rendered(list(unfold(answer))))) == msgspec.structs.replace(
        answer, id="msg_0123456789abcdef01234567", model="the-model"
    )
