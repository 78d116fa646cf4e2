"""What clients and providers should not send, in every format: each has one defined outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniroute.errors import CallerError, UnsupportedFeature, UpstreamProtocolError
from omniroute.formats.canonical import Answer, Request, Role, Stop, Text, ToolCall, ToolResult, is_torn
from omniroute.formats.codec import no_pause
from omniroute.formats.events import BlockDelta, Checked, DeltaKind, Event, MessageStop, Ping, StreamError, UsageUpdate
from omniroute.formats.fold import unfold
from omniroute.formats.translate import UPSTREAMS, translate_request
from omniroute.formats.wire import WireFormat
from tests.formats.crossings import CHAT, FORMATS, GEMINI, MESSAGES, OLLAMA, RESPONSES, able, results_of
from tests.formats.test_cross_format import folded, nothing_kept, parsed, read, sent, shown, streamed, way_back

EACH: Final = pytest.mark.parametrize("wire_format", FORMATS)
_OBJECTS: Final = frozenset({MESSAGES, GEMINI, OLLAMA})
"""Formats whose calls have an object where the others have a string."""


def stream_in(wire_format: WireFormat, *blocks: Text | ToolCall, stop: Stop = Stop.END) -> bytes:
    """A stream as a provider of the format sends it."""
    return streamed(unfold(Answer(wire_format, "id", "m", blocks, stop)), wire_format)


def fed(wire_format: WireFormat, pieces: list[bytes]) -> list[Event]:
    """Read pieces one by one; the events keep their rules."""
    parser, checked = UPSTREAMS[wire_format].new_parser(), Checked()
    events = [event for piece in pieces for event in parser.feed(piece)] + parser.close()
    checked.see(events)
    checked.end()
    return events


def words(events: list[Event]) -> str:
    found = (event for event in events if isinstance(event, BlockDelta) and event.kind is DeltaKind.TEXT)
    return "".join(str(event.value) for event in found)


# --- streams of providers --------------------------------------------------------------------------------------------


@EACH
def test_a_stream_cut_at_every_byte_ends_well_only_when_it_is_whole(wire_format: WireFormat) -> None:
    data = stream_in(wire_format, Text("weiß 😀 日本"), ToolCall("call_1", "look", '{"a":1}'), stop=Stop.TOOL_USE)
    whole = read(data, wire_format)
    assert isinstance(whole[-1], MessageStop)
    for cut in range(len(data)):
        try:
            events = fed(wire_format, [data[:cut]])
        except UpstreamProtocolError:
            continue
        if isinstance(events[-1], MessageStop):  # the reason was seen; only its marker or usage is missing
            assert folded(events, wire_format).blocks == folded(whole, wire_format).blocks
        else:
            assert events[-1] == StreamError(b"")


@EACH
def test_a_stream_split_inside_characters_is_the_same(wire_format: WireFormat) -> None:
    data = stream_in(wire_format, Text("ß😀日\u200f é"))
    if b"\\u" not in data:
        assert "😀".encode() in data
    assert fed(wire_format, [bytes([byte]) for byte in data]) == read(data, wire_format)
    place = data.find("😀".encode())
    assert fed(wire_format, [data[: place + 2], data[place + 2 :]]) == read(data, wire_format)


@EACH
def test_t69_a_data_line_over_a_megabyte_is_one_piece_of_text(wire_format: WireFormat) -> None:
    text = "0123456789abcdef" * 90_000
    data = stream_in(wire_format, Text(text))
    assert words(read(data, wire_format)) == text
    assert words(fed(wire_format, [data[at : at + 16_384] for at in range(0, len(data), 16_384)])) == text


ERRORS: Final = {
    CHAT: b'{"error":{"message":"no","type":"server_error","code":null,"param":null}}',
    RESPONSES: b'{"error":{"message":"no","type":"server_error","code":"server_error"}}',
    MESSAGES: b'{"type":"error","error":{"type":"overloaded_error","message":"no"}}',
    GEMINI: b'{"error":{"code":503,"message":"no","status":"UNAVAILABLE"}}',
    OLLAMA: b'{"error":"no"}',
}
ERROR_EVENTS: Final = {
    CHAT: b"data: " + ERRORS[CHAT] + b"\n\n",
    RESPONSES: b'event: error\ndata: {"type":"error","code":"server_error","message":"no","param":null}\n\n',
    MESSAGES: b"event: error\ndata: " + ERRORS[MESSAGES] + b"\n\n",
    GEMINI: b"data: " + ERRORS[GEMINI] + b"\r\n\r\n",
    OLLAMA: ERRORS[OLLAMA] + b"\n",
}


@EACH
def test_t52_an_error_inside_a_200_is_an_error(wire_format: WireFormat) -> None:
    assert UPSTREAMS[wire_format].parse_answer(ERRORS[wire_format]) is None
    events = read(ERROR_EVENTS[wire_format], wire_format)
    assert isinstance(events[-1], StreamError)
    assert b"no" in events[-1].data


@EACH
@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\r\n", b" "])
def test_t52_an_empty_stream_is_an_error(wire_format: WireFormat, data: bytes) -> None:
    events = fed(wire_format, [data])
    assert [event for event in events if not isinstance(event, Ping)] == [StreamError(b"")]


@EACH
@pytest.mark.parametrize("body", [b"", b"[]", b"<html>Bad gateway</html>", b'"text"', b"{", b"null"])
def test_t52_a_body_that_is_no_answer_is_the_providers_fault(wire_format: WireFormat, body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        UPSTREAMS[wire_format].parse_answer(body)


@EACH
def test_of_two_terminal_events_the_first_counts(wire_format: WireFormat) -> None:
    data = stream_in(wire_format, Text("once"))
    if wire_format is GEMINI:  # has no terminal event but a reason, which some hosts send with every chunk
        again = [data[data.rstrip().rindex(b"data: ") :]]
    else:
        again = [data, ERROR_EVENTS[wire_format]]
    events = fed(wire_format, [data, *again])
    assert [event for event in events if not isinstance(event, UsageUpdate)] == read(data, wire_format)
    assert [type(event) for event in events].count(MessageStop) == 1


@EACH
@settings(max_examples=40)
@given(data=st.binary(max_size=60), at=st.integers(0, 400))
def test_garbage_in_a_stream_is_a_fault_of_the_provider_and_no_crash(
    wire_format: WireFormat, data: bytes, at: int
) -> None:
    good = stream_in(wire_format, Text("hello"), ToolCall("call_1", "look", "{}"), stop=Stop.TOOL_USE)
    try:
        events = fed(wire_format, [good[:at], data, good[at:]])
    except (UpstreamProtocolError, UnicodeDecodeError):
        return  # the driver takes both for a protocol error
    assert isinstance(events[-1], MessageStop | StreamError)


# --- calls -----------------------------------------------------------------------------------------------------------

_BROKEN: Final = ('{"a":', "not json", "[1]", '"{}"', "12")


@EACH
@pytest.mark.parametrize("arguments", _BROKEN)
def test_t02_arguments_that_are_not_json_reach_every_client_and_crash_none(
    wire_format: WireFormat, arguments: str
) -> None:
    """Formats with a string repeat what the model wrote; formats with an object say that it is none."""
    call = ToolCall("call_1", "look", arguments)
    said = way_back(wire_format, CHAT).answer(Answer(CHAT, "id", "m", (call,), Stop.TOOL_USE))
    body = shown(said, wire_format)
    assert body.startswith(b"{")
    if wire_format is GEMINI:  # has a word for it, which is a failure to be asked for again
        assert b'"finishReason":"MALFORMED_FUNCTION_CALL"' in body or b'"functionCall"' in body
        return
    heard = UPSTREAMS[wire_format].parse_answer(body)
    assert heard is not None
    if wire_format in _OBJECTS:
        (shown_call,) = heard.calls
        assert json.loads(shown_call.arguments) in ({"raw_arguments": arguments}, {})
    else:
        assert [one.arguments for one in heard.calls] == [arguments]
        assert is_torn(heard.calls[0])


@EACH
@pytest.mark.parametrize("ids", [("", ""), ("same", "same"), ("", "same"), ("used", "used")])
def test_t05_ids_that_are_missing_or_repeated_are_made(wire_format: WireFormat, ids: tuple[str, str]) -> None:
    blocks = tuple(ToolCall(call_id, "look", "{}") for call_id in ids)
    said = way_back(wire_format, CHAT).answer(Answer(CHAT, "id", "m", blocks, Stop.TOOL_USE))
    made = [call.id for call in said.calls]
    assert len(set(made)) == 2
    assert all(made)
    events = read(streamed(unfold(said), wire_format), wire_format)
    heard = [call.id for call in folded(events, wire_format).calls]
    assert heard == (made if wire_format is not OLLAMA else heard)


# --- requests of clients ---------------------------------------------------------------------------------------------

_TOOLS: Final = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
ORPHANS: Final[dict[WireFormat, dict[str, Any]]] = {
    CHAT: {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "tool_call_id": "gone", "content": "lost"}]
    },
    RESPONSES: {
        "input": [
            {"role": "user", "content": "Hi"},
            {"type": "function_call_output", "call_id": "gone", "output": "lost"},
        ]
    },
    MESSAGES: {
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "gone", "content": "lost"}]},
        ],
    },
    GEMINI: {
        "contents": [
            {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"result": "lost"}}}]},
        ]
    },
    OLLAMA: {"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "tool_name": "look", "content": "lost"}]},
}
"""A result whose call nobody made."""

UNKNOWN: Final[dict[WireFormat, tuple[dict[str, Any], str]]] = {
    CHAT: ({"messages": [{"role": "user", "content": [{"type": "hologram", "x": 1}]}]}, "messages.0.content.0"),
    RESPONSES: ({"input": [{"role": "user", "content": [{"type": "hologram", "x": 1}]}]}, "input"),
    MESSAGES: (
        {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "hologram", "x": 1}]}]},
        "messages.0.content.0",
    ),
    GEMINI: ({"contents": [{"role": "user", "parts": [{"hologram": {"x": 1}}]}]}, "contents.0.parts.0"),
}
"""A block of a type that nobody knows, and where it is. Ollama's messages have no blocks."""

PLAIN: Final[dict[WireFormat, dict[str, Any]]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    RESPONSES: {"input": "Hi"},
    MESSAGES: {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    GEMINI: {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    OLLAMA: {"messages": [{"role": "user", "content": "Hi"}]},
}


MEMBERS: Final = [
    *("messages", "input", "contents", "tools", "system", "instructions", "tool_choice", "toolConfig", "stop"),
    *("generationConfig", "options", "response_format", "text", "format", "thinking", "think", "reasoning"),
]


def request_in(wire_format: WireFormat, body: dict[str, Any], **more: Any) -> Request:
    named = {} if wire_format is GEMINI else {"model": "m"}
    return parsed(wire_format, msgspec.json.encode({**named, **body, **more}))


@EACH
@pytest.mark.parametrize("target", FORMATS)
def test_t07_an_orphan_result_is_told_as_text(wire_format: WireFormat, target: WireFormat) -> None:
    start = request_in(wire_format, ORPHANS[wire_format])
    assert len(results_of(start)) == 1
    _, read_there = sent(start, target)
    if wire_format is target:
        assert len(results_of(read_there)) == 1, "the vendor's own judgement, in its own format"
        return
    assert results_of(read_there) == []
    texts = [block.text for message in read_there.messages for block in message.blocks if isinstance(block, Text)]
    assert any("lost" in text for text in texts)
    assert not any(isinstance(block, ToolResult) for message in read_there.messages for block in message.blocks)
    assert read_there.messages[-1].role is Role.USER


@pytest.mark.parametrize("wire_format", sorted(UNKNOWN))
@pytest.mark.parametrize("target", FORMATS)
def test_a_block_that_nobody_knows_is_refused_by_its_place(wire_format: WireFormat, target: WireFormat) -> None:
    body, place = UNKNOWN[wire_format]
    start = request_in(wire_format, body)
    if wire_format is target:
        assert b"hologram" in translate_request(start, able(target), thinking_of=nothing_kept).body
        return
    with pytest.raises(UnsupportedFeature) as refused:
        sent(start, target)
    assert refused.value.param == place
    assert "hologram" in refused.value.message


@EACH
@pytest.mark.parametrize("target", FORMATS)
def test_a_member_that_nobody_knows_stays_in_its_format_and_is_a_declared_loss_elsewhere(
    wire_format: WireFormat, target: WireFormat
) -> None:
    start = request_in(wire_format, PLAIN[wire_format], novelty={"deep": [1, None]})
    there, _ = sent(start, target)
    if wire_format is target:
        assert json.loads(there.body)["novelty"] == {"deep": [1, None]}
        assert there.losses.paths == ()
    else:
        assert b"novelty" not in there.body
        assert there.losses.warning == "dropped:novelty"


@EACH
@settings(max_examples=60)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
        max_leaves=4,
    ),
    member=st.sampled_from(MEMBERS),
)
def test_any_value_anywhere_is_read_or_refused_by_its_place(wire_format: WireFormat, value: Any, member: str) -> None:
    body = msgspec.json.encode({"model": "m", **PLAIN[wire_format], member: value})
    request = _or_refused(lambda: UPSTREAMS[wire_format].parse_request(body, no_pause))
    for target in FORMATS if request is not None else ():
        _or_refused(partial(translate_request, request, able(target), thinking_of=nothing_kept))
    assert request is None or isinstance(request, Request)


def _or_refused(work: Callable[[], Any]) -> Any:
    """Return what work gives; None when it refuses the caller's request, which is all that it may do else."""
    try:
        return work()
    except CallerError:
        return None
