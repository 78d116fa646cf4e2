from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import UpstreamProtocolError, UpstreamTimeout
from omniroute.formats.canonical import Answer, Refusal, Stop, Text, Thinking, Token, ToolCall, ToolResult
from omniroute.formats.events import (
    PING,
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.fold import unfold
from omniroute.formats.gemini.framing import MAX_CHUNK_BYTES, Documents
from omniroute.formats.gemini.response import parse_answer, render_answer
from omniroute.formats.gemini.stream_parser import Parser
from omniroute.formats.gemini.stream_renderer import Renderer
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from tests.formats.gemini.fixtures import PAIRS, STREAMS, body_of, events_of, folded, reply_for, stream_of

GEMINI = WireFormat.GEMINI


# --- any split gives the same events ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", STREAMS)
def test_byte_by_byte_is_the_same_as_whole(case: str) -> None:
    data = stream_of(case)
    assert events_of(data[i : i + 1] for i in range(len(data))) == events_of([data])


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 4000), max_size=8))
def test_any_cuts_are_the_same_as_whole(case: str, cuts: list[int]) -> None:
    data = stream_of(case)
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    assert events_of(data[a:b] for a, b in pairwise(bounds)) == events_of([data])


@pytest.mark.parametrize("case", STREAMS)
def test_t35_a_stream_cut_at_every_byte_ends_with_an_error_unless_it_is_whole(case: str) -> None:
    data = stream_of(case)
    whole = events_of([data])
    for cut in range(len(data)):
        parser = Parser()
        try:
            events = parser.feed(data[:cut]) + parser.close()
        except UpstreamProtocolError:
            continue
        last = events[-1]
        if isinstance(last, MessageStop):
            assert events == whole
        else:
            assert isinstance(last, StreamError)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_t51_all_line_ends(newline: bytes) -> None:
    data = stream_of("oddities").replace(b"\r\n", b"\n").replace(b"\n", newline)
    assert folded(events_of([data])) == folded(events_of([stream_of("oddities")]))


def test_t51_an_array_is_a_stream_too() -> None:
    expected = parse_answer(body_of("array", "response.json"))
    assert folded(events_of([stream_of("array")])) == expected
    assert folded(events_of([b"\xef\xbb\xbf \n", stream_of("array")])) == expected
    assert folded(events_of([body_of("array", "response.json")])) == expected


def test_t51_a_closed_array_without_a_reason_is_complete() -> None:
    assert folded(events_of([b'[{"candidates":[{"content":{"parts":[{"text":"x"}]}}]}]'])).stop is Stop.END
    assert isinstance(events_of([b"[]"])[-1], StreamError)
    assert isinstance(events_of([b'[{"candidates":[{"content":{"parts":[{"text":"x"}]}}]}'])[-1], StreamError)


@given(st.text(alphabet='a"\\{}[],', max_size=12), st.lists(st.integers(0, 200), max_size=6))
def test_t51_brackets_inside_strings_are_text(text: str, cuts: list[int]) -> None:
    documents = [json.dumps({"a": {text: [text, {"b": text}]}}).encode(), b"{}"]
    data = b"[" + b",\n".join(documents) + b"]"
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    reader = Documents()
    found = [document for a, b in pairwise(bounds) for document in reader.feed(data[a:b])]
    assert found == documents
    assert reader.is_closed
    assert reader.close() == []


# --- errors ----------------------------------------------------------------------------------------------------------

ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize(
    "data",
    [
        b"data: " + json.dumps(ERROR).encode() + b"\n\n",
        b"data: [" + json.dumps(ERROR).encode() + b"]\n\n",
        json.dumps(ERROR).encode(),
        json.dumps([ERROR], indent=2).encode(),
        b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n' + json.dumps([ERROR], indent=2).encode(),
    ],
)
def test_an_error_in_any_wrapping_is_the_providers_error(data: bytes) -> None:
    last = events_of([data])[-1]
    assert isinstance(last, StreamError)
    assert json.loads(last.data) == ERROR


def test_t34_a_malformed_call_is_an_error_of_the_provider() -> None:
    last = events_of([stream_of("malformed")])[-1]
    assert isinstance(last, StreamError)
    assert json.loads(last.data)["error"]["status"] == "INTERNAL"


@pytest.mark.parametrize("data", [b"", b"\n\n", b"<html>no</html>", b": ping\n\n", b"data: \n\n", b"[", b'{"a"'])
def test_t52_a_stream_of_nothing_is_broken_off(data: bytes) -> None:
    assert events_of([data]) == [StreamError()]


def test_t52_chunks_that_are_not_json_are_refused() -> None:
    for data in (b"data: {nope}\n\n", b"data: [1\n\n", b'data: {"candidates": 7}\n\n'):
        with pytest.raises(UpstreamProtocolError):
            Parser().feed(data)


def test_nothing_follows_the_end() -> None:
    parser = Parser()
    parser.feed(b"data: " + json.dumps(ERROR).encode() + b"\n\n")
    assert parser.feed(stream_of("text")) == []
    assert parser.close() == []


def test_a_reason_with_every_chunk_ends_nothing_early() -> None:
    chunks: list[dict[str, Any]] = [
        {"candidates": [{"content": {"parts": [{"text": word}]}, "finishReason": "STOP"}]} for word in "abc"
    ]
    data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    answer = folded(events_of([data]))
    assert (answer.blocks, answer.stop) == ((Text("abc"),), Stop.END)


def test_t71_a_pair_of_units_cut_in_two_is_no_crash() -> None:
    data = b'data: {"candidates":[{"content":{"parts":[{"text":"a\\ud83d"}]},"finishReason":"STOP"}]}\n\n'
    assert folded(events_of([data])).blocks == (Text("a\ufffd"),)


def test_t3_t68_arguments_come_once_and_as_they_are() -> None:
    events = events_of([stream_of("agent")])
    arguments = [event for event in events if isinstance(event, BlockDelta) and event.kind is DeltaKind.ARGUMENTS]
    assert [event.value for event in arguments] == ['{"command":"ls -la / | head"}', '{"file_path":"/c.txt"}']


def test_usage_is_told_as_it_changes() -> None:
    updates = [event.usage for event in events_of([stream_of("agent")]) if isinstance(event, UsageUpdate)]
    assert updates == [
        Usage(input=6021, output=180, cache_read=4096, reasoning=180),
        Usage(input=6021, output=224, cache_read=4096, reasoning=180),
    ]


def test_t69_a_chunk_of_a_few_megabytes_takes_linear_time() -> None:
    def seconds(size: int, head: bytes, tail: bytes) -> float:
        data = head + b'{"candidates":[{"content":{"parts":[{"text":"' + b"x" * size + b'"}]},"finishReason":"STOP"}]}'
        data += tail
        parser = Parser()
        began = time.process_time()
        for start in range(0, len(data), 4096):
            parser.feed(data[start : start + 4096])
        events = parser.close()
        assert isinstance(events[-1], MessageStop)
        return time.process_time() - began

    for head, tail in ((b"data: ", b"\n\n"), (b"[", b"]")):
        small = min(seconds(1 << 20, head, tail) for _ in range(3))
        large = min(seconds(8 << 20, head, tail) for _ in range(3))
        assert large < small * 8 * 3 + 0.05


def test_a_chunk_beyond_all_measure_is_refused() -> None:
    for head in (b"data: {", b"[{"):
        parser = Parser()
        parser.feed(head)
        parser.feed(b"x" * (MAX_CHUNK_BYTES - 16))
        with pytest.raises(UpstreamProtocolError):
            parser.feed(b"x" * 32)


# --- rendered for a client -------------------------------------------------------------------------------------------


def _chunks(data: bytes) -> list[dict[str, Any]]:
    assert data.endswith(b"\n\n")
    lines = data.split(b"\n\n")[:-1]
    assert all(line.startswith(b"data: ") and b"\n" not in line for line in lines)  # no comments, one line each
    return [json.loads(line[6:]) for line in lines]


def _rendered(events: list[Event], *, shows_thoughts: bool = True) -> list[dict[str, Any]]:
    return _chunks(Renderer(reply_for(shows_thoughts=shows_thoughts)).render(events))


@pytest.mark.parametrize("case", PAIRS)
def test_a_rendered_stream_is_the_rendered_answer(case: str) -> None:
    answer = parse_answer(body_of(case, "response.json"))
    assert answer is not None
    reply = reply_for()
    data = Renderer(reply).render(list(unfold(answer)))
    streamed = folded(events_of([data]))
    whole = parse_answer(render_answer(answer, reply))
    assert whole is not None
    assert streamed.blocks == whole.blocks or case == "server_tools"
    assert (streamed.stop, streamed.usage, streamed.id) == (whole.stop, whole.usage, whole.id)


def test_t65_t73_a_stream_of_text_and_a_call() -> None:
    events: list[Event] = [
        MessageStart("msg_1", "claude", None, Usage(input=9)),
        PING,
        BlockStart(0, Text("")),
        BlockDelta(0, DeltaKind.TEXT, "Hé"),
        BlockDelta(0, DeltaKind.TEXT, "llo"),
        BlockStop(0),
        BlockStart(1, ToolCall("toolu_1", "f", "")),
        BlockDelta(1, DeltaKind.ARGUMENTS, '{"a":'),
        BlockDelta(1, DeltaKind.ARGUMENTS, " 1e400}"),
        BlockDelta(1, DeltaKind.TOKEN, Token("c2ln", GEMINI)),
        BlockStop(1),
        UsageUpdate(Usage(output=5)),
        MessageStop(Stop.TOOL_USE),
    ]
    data = Renderer(reply_for()).render(events)
    assert b'"args":{"a": 1e400}' in data
    first, second, call, last = _chunks(data)
    assert first["candidates"] == [{"content": {"role": "model", "parts": [{"text": "Hé"}]}, "index": 0}]
    assert second["candidates"][0]["content"]["parts"] == [{"text": "llo"}]
    (part,) = call["candidates"][0]["content"]["parts"]
    assert (part["functionCall"]["id"], part["thoughtSignature"]) == ("toolu_1", "c2ln")
    assert last["candidates"][0]["finishReason"] == "STOP"
    assert last["usageMetadata"] == {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}
    assert "finishReason" not in first["candidates"][0]
    assert {chunk["responseId"] for chunk in (first, second, call, last)} == {"0123456789abcdef01234567"}
    assert {chunk["modelVersion"] for chunk in (first, second, call, last)} == {"my-model"}


def test_a_frame_is_one_line_however_the_model_spaced_its_arguments() -> None:
    answer = Answer(GEMINI, "x", "m", (ToolCall("c", "f", '{\n  "a": 1e400,\r\n "b": "\\ud83d\\n"\n}'),), Stop.TOOL_USE)
    call, _ = _chunks(Renderer(reply_for()).render(list(unfold(answer))))
    args = call["candidates"][0]["content"]["parts"][0]["functionCall"]["args"]
    assert args["b"] == "\ufffd\n"


def test_each_event_gives_its_frames_at_once() -> None:
    renderer = Renderer(reply_for())
    answer = Answer(GEMINI, "x", "m", (Text("abc"), ToolCall("c", "f", "{}")), Stop.TOOL_USE)
    single = b"".join(renderer.render([event]) for event in unfold(answer))
    assert single == Renderer(reply_for()).render(list(unfold(answer)))


def test_thoughts_are_streamed_to_clients_that_asked() -> None:
    token = Token("c2ln", GEMINI)
    answer = Answer(
        GEMINI, "x", "m", (Thinking("why", token), Thinking("", token, redacted=True), Refusal("No")), Stop.REFUSAL
    )
    parts = [chunk["candidates"][0]["content"]["parts"][0] for chunk in _rendered(list(unfold(answer)))]
    assert parts == [
        {"text": "why", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": "c2ln"},
        {"thought": True, "thoughtSignature": "c2ln"},
        {"text": "No"},
        {"text": ""},
    ]
    hidden = _rendered(list(unfold(answer)), shows_thoughts=False)
    assert [chunk["candidates"][0]["content"]["parts"] for chunk in hidden] == [[{"text": "No"}], [{"text": ""}]]


@pytest.mark.parametrize(("stop", "word"), [(Stop.LENGTH, "MAX_TOKENS"), (Stop.TOOL_USE, "MALFORMED_FUNCTION_CALL")])
def test_t74_a_torn_call_is_not_streamed(stop: Stop, word: str) -> None:
    answer = Answer(GEMINI, "x", "m", (ToolCall("c", "f", '{"a'),), stop)
    (last,) = _rendered(list(unfold(answer)))
    assert last["candidates"][0]["finishReason"] == word
    assert "functionCall" not in json.dumps(last)


def test_a_failure_ends_the_stream_with_an_error_and_nothing_else() -> None:
    renderer = Renderer(reply_for())
    renderer.render([MessageStart("x", "m"), BlockStart(0, ToolCall("c", "f", ""))])
    (chunk,) = _chunks(renderer.fail(UpstreamTimeout("idle"), "req_1"))
    assert chunk["error"]["status"] == "DEADLINE_EXCEEDED"
    assert renderer.render([StreamError(b"{}")]) == b""


def test_blocks_that_no_answer_holds_have_no_frame() -> None:
    assert Renderer(reply_for()).render([BlockStart(0, ToolResult("c", ())), BlockStop(0)]) == b""


def test_t69_large_arguments_are_rendered_in_linear_time() -> None:
    def seconds(count: int) -> float:
        renderer = Renderer(reply_for())
        deltas = [BlockDelta(0, DeltaKind.ARGUMENTS, "x" * 16) for _ in range(count)]
        began = time.process_time()
        renderer.render([BlockStart(0, ToolCall("c", "f", '{"a":"')), *deltas])
        data = renderer.render([BlockDelta(0, DeltaKind.ARGUMENTS, '"}'), BlockStop(0)])
        assert len(data) > 16 * count
        return time.process_time() - began

    small = min(seconds(8_000) for _ in range(3))
    large = min(seconds(64_000) for _ in range(3))
    assert large < small * 8 * 3 + 0.05
