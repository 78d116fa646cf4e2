"""Streams of providers, read."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import CallKind, Media, Refusal, Stop, Text, Thinking, Token, ToolCall
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Checked,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.openai_chat.stream_parser import Parser
from omniroute.formats.usage import Usage
from tests.formats.openai_chat.fixtures import (
    CHAT,
    DONE,
    answer_of,
    calls_of,
    cases,
    chunk,
    events_of,
    folded,
    frame,
    read,
    thinking_of,
)


def call_delta(
    index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None, **more: Any
) -> dict[str, Any]:
    wire: dict[str, Any] = {"function": {}, **more}
    if index is not None:
        wire["index"] = index
    if call_id is not None:
        wire["id"] = call_id
    if name is not None:
        wire["function"]["name"] = name
    if arguments is not None:
        wire["function"]["arguments"] = arguments
    return wire


def calls(*deltas: dict[str, Any] | list[dict[str, Any]], finish: str = "tool_calls") -> list[tuple[str, str, str]]:
    """Return the calls of a stream with one chunk for each delta."""
    return calls_of(answer_of(call_stream(*deltas, finish=finish)))


def call_stream(*deltas: dict[str, Any] | list[dict[str, Any]], finish: str = "tool_calls") -> bytes:
    chunks = [chunk({"tool_calls": delta if isinstance(delta, list) else [delta]}) for delta in deltas]
    return b"".join(chunks) + chunk({}, finish) + DONE


def deltas_of(events: list[Event], kind: DeltaKind) -> list[Any]:
    return [event.value for event in events if isinstance(event, BlockDelta) and event.kind is kind]


# --- any split of the bytes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("stream.sse"))
def test_byte_by_byte_gives_the_same_events(case: str) -> None:
    stream = read(case, "stream.sse")
    whole = events_of(stream)
    assert events_of(stream[at : at + 1] for at in range(len(stream))) == whole


@settings(max_examples=60)
@given(st.sampled_from(cases("stream.sse")), st.data())
def test_any_cut_gives_the_same_events(case: str, data: st.DataObject) -> None:
    stream = read(case, "stream.sse")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[start:stop] for start, stop in pairwise([0, *cuts, len(stream)])]
    assert events_of(pieces) == events_of(stream)


@pytest.mark.parametrize("case", cases("stream.sse"))
def test_t35_a_stream_cut_anywhere_ends_with_an_error_unless_it_was_complete(case: str) -> None:
    stream = read(case, "stream.sse")
    whole = events_of(stream)
    last_of_content = max(stream.find(word) for word in (b'"finish_reason":"', b'"finish_reason": "eos"'))
    for length in range(0, len(stream), 1 + len(stream) // 4000):
        parser, checked = Parser(), Checked()
        events = [*parser.feed(stream[:length]), *parser.close()]
        checked.see(events)
        checked.end()
        if isinstance(events[-1], MessageStop):
            assert length > last_of_content
            assert folded(events).blocks == folded(whole).blocks
        else:
            assert events[-1] == StreamError()
        assert parser.feed(b"data: {}\n\n") == []


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("space", ["", " "])
def test_t51_all_line_ends_and_no_space(end: str, space: str) -> None:
    text = read("tools", "stream.sse").decode().replace("data: ", f"data:{space}")
    written = ("\ufeff: comment\n\n" + text.replace("\n\n", "\n\n: comment\n\n")).replace("\n", end).encode()
    assert events_of(written) == events_of(read("tools", "stream.sse"))
    assert events_of(written[at : at + 1] for at in range(len(written))) == events_of(read("tools", "stream.sse"))


def test_t51_one_chunk_a_line_without_blank_lines() -> None:
    stream = read("parallel_tools_with_text", "stream.sse")
    assert events_of(stream.replace(b"\n\n", b"\n")) == events_of(stream)


def test_t51_the_last_blank_line_may_be_missing() -> None:
    stream = read("tools", "stream.sse")
    assert events_of(stream.rstrip()) == events_of(stream)


def test_t69_large_arguments_in_one_event_and_in_many() -> None:
    text = json.dumps({"content": "x{}" * 600_000})
    assert calls(call_delta(0, "a", "f", text)) == [("a", "f", text)]
    pieces = [text[at : at + 500] for at in range(0, len(text), 500)]
    deltas = [call_delta(0, "a", "f", ""), *(call_delta(0, arguments=piece) for piece in pieces)]
    assert calls(*deltas) == [("a", "f", text)]


# --- the events of an answer -----------------------------------------------------------------------------------------


def test_the_events_of_a_text() -> None:
    assert events_of(read("text", "stream.sse")) == [
        MessageStart("chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "gpt-5-mini-2025-08-07", 1767225600),
        BlockStart(0, Text("")),
        BlockDelta(0, DeltaKind.TEXT, "Hello"),
        BlockDelta(0, DeltaKind.TEXT, "! How can I"),
        BlockDelta(0, DeltaKind.TEXT, " help you today?"),
        BlockStop(0),
        UsageUpdate(Usage(19, 10)),
        MessageStop(Stop.END),
    ]


def test_text_goes_out_as_it_comes() -> None:
    parser = Parser()
    assert parser.feed(chunk({"content": "He"}))[-1] == BlockDelta(0, DeltaKind.TEXT, "He")
    assert parser.feed(chunk({"content": "llo"})) == [BlockDelta(0, DeltaKind.TEXT, "llo")]


def test_only_the_first_choice_is_read() -> None:
    second = {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}
    first = {"index": 0, "delta": {"content": "one"}, "finish_reason": None}
    stream = frame({"choices": [second, first]}) + frame({"choices": [second]}) + chunk({}, "stop") + DONE
    answer = answer_of(stream)
    assert (answer.blocks, answer.stop) == ((Text("one"),), Stop.END)


def test_nothing_follows_the_end() -> None:
    parser = Parser()
    events = parser.feed(chunk({"content": "x"}, "stop") + DONE + chunk({"content": "more"}) + DONE)
    assert isinstance(events[-1], MessageStop)
    assert parser.feed(DONE) == []
    assert parser.close() == []


def test_t35_a_finish_without_end_marker_is_complete() -> None:
    parser = Parser()
    parser.feed(chunk({"content": "x"}) + chunk({}, "length"))
    assert parser.close() == [MessageStop(Stop.LENGTH)]


def test_t35_an_end_marker_without_a_finish_is_complete_if_there_is_content() -> None:
    assert answer_of(chunk({"content": "x"}) + DONE).stop is Stop.END
    call = chunk({"tool_calls": [call_delta(0, "a", "f", "{}")]})
    assert answer_of(call + DONE).stop is Stop.TOOL_USE


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        DONE,
        chunk({"role": "assistant"}) + DONE,
        chunk({"content": "x"}),
        chunk({"tool_calls": [call_delta(0, "a", "f", '{"a":')]}) + DONE,
        b": ping\n\n",
        b"<html><body>Bad gateway</body></html>",
        chunk({"content": "x"}, "network_error") + DONE,
        chunk({"content": "x"}, "insufficient_system_resource") + DONE,
    ],
)
def test_t35_an_end_that_is_none_is_an_error(stream: bytes) -> None:
    assert events_of(stream)[-1] == StreamError()


# --- hosts that write it their own way -------------------------------------------------------------------------------


def test_t4_an_empty_list_of_calls_does_not_close_the_text() -> None:
    stream = chunk({"content": "a", "tool_calls": []}) + chunk({"content": "b", "tool_calls": []}, "stop") + DONE
    events = events_of(stream)
    assert sum(isinstance(event, BlockStart) for event in events) == 1
    assert folded(events).blocks == (Text("ab"),)


def test_t40_usage_on_every_chunk_is_cumulative() -> None:
    events = events_of(read("usage_on_every_chunk", "stream.sse"))
    assert [event.usage for event in events if isinstance(event, UsageUpdate)] == [
        Usage(5, 1),
        Usage(5, 2),
        Usage(5, 3),
    ]
    assert folded(events).usage == Usage(5, 3)


@pytest.mark.parametrize(
    "last",
    [
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
        {"choices": [], "x_groq": {"id": "req", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}},
        {"choices": [{"index": 0, "delta": {}, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}]},
        {"usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    ],
)
def test_t37_usage_wherever_the_host_puts_it(last: dict[str, Any]) -> None:
    assert answer_of(chunk({"content": "x"}, "stop") + frame(last) + DONE).usage == Usage(3, 4)


def test_azures_first_chunk_is_no_start() -> None:
    events = events_of(read("azure_filter_chunk", "stream.sse"))
    assert events[0] == MessageStart("chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "gpt-5-mini-2025-08-07", 1767225600)


def test_a_message_in_the_place_of_a_delta() -> None:
    message = {
        "role": "assistant",
        "content": "Hi",
        "reasoning_content": "Hm",
        "tool_calls": [call_delta(None, "a", "f", "{}")],
    }
    whole = frame({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    answer = answer_of(whole + DONE)
    assert answer.blocks == (Thinking("Hm"), Text("Hi"), ToolCall("a", "f", "{}"))
    pieces = (
        chunk({"reasoning_content": "Hm"})
        + chunk({"content": "Hi"})
        + chunk({"tool_calls": [call_delta(0, "a", "f", "")]})
        + chunk({"tool_calls": [call_delta(0, arguments="{}")]})
    )
    assert answer_of(pieces + whole + DONE).blocks == answer.blocks


def test_t52_a_whole_answer_where_a_stream_was_asked_for() -> None:
    assert answer_of(read("parallel_tools_with_text", "response.json").replace(b"\n", b"")).calls == (
        ToolCall("call_a", "get_weather", '{"city":"Paris"}'),
        ToolCall("call_b", "edit_file", '{"path":"a.txt","limit":12345678901234567890}'),
    )


@pytest.mark.parametrize(
    "data",
    [
        b'{"error":{"message":"Slow down","type":"rate_limit_error"}}',
        b'{"error":"Slow down"}',
        b'{"id":"c","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],"error":{"code":502}}',
        b'{"object":"error","message":"bad","code":400}',
        b'{"base_resp":{"status_code":1002,"status_msg":"limit"}}',
        b'{"code":"500","message":"internal"}',
    ],
)
@pytest.mark.parametrize("before", [b"", chunk({"content": "x"})])
@pytest.mark.parametrize("framing", ["data: %s\n\n", "data:%s\n\n", "%s\n\n", "%s", "event: error\ndata: %s\n\n"])
def test_t52_an_error_is_passed_on_as_it_was_said(data: bytes, before: bytes, framing: str) -> None:
    events = events_of(before + (framing % data.decode()).encode())
    assert events[-1] == StreamError(data)


def test_an_error_event_needs_no_error_member() -> None:
    assert events_of(b'event: error\ndata: {"reason":"x"}\n\n')[-1] == StreamError(b'{"reason":"x"}')


@pytest.mark.parametrize(
    "event", [b"data: null\n\n", b'data: "ping"\n\n', b"event: ping\n\n", b'data: {"type":"ping"}\n\n']
)
def test_words_of_the_hosts_own_are_ignored(event: bytes) -> None:
    assert answer_of(event + chunk({"content": "x"}, "stop") + event + DONE).blocks == (Text("x"),)


def test_t51_an_event_without_end_is_not_collected_for_ever() -> None:
    parser = Parser()
    assert parser.feed(b"x" * (31 << 20)) == []
    with pytest.raises(UpstreamProtocolError):
        parser.feed(b"x" * (2 << 20))


@pytest.mark.parametrize("data", [b"{", b"{]", b'{"choices":3}', b"never", b'{"choices":[{"delta":{"tool_calls":3}}]}'])
def test_what_cannot_be_a_chunk_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        Parser().feed(b"data: " + data + b"\n\n")


def test_t71_half_of_a_surrogate_pair_is_replaced() -> None:
    half = rb'data: {"choices":[{"delta":{"content":"cut \ud83d"},"finish_reason":"stop"}]}' + b"\n\n"
    assert answer_of(half + DONE).blocks == (Text("cut \ufffd"),)


def test_t71_every_character_survives() -> None:
    assert "😀" in str(answer_of(read("unicode", "stream.sse")).blocks[0])
    assert "\x00" in str(getattr(answer_of(read("unicode", "stream.sse")).blocks[0], "text", ""))


# --- calls -----------------------------------------------------------------------------------------------------------


def test_t1_interleaved_calls_are_two_blocks() -> None:
    events = events_of(read("interleaved_tools", "stream.sse"))
    assert sum(isinstance(event, BlockStart) for event in events) == 2
    assert calls_of(folded(events)) == [
        ("call_a", "get_weather", '{"city":"Paris"}'),
        ("call_b", "get_weather", '{"city":"Rome"}'),
    ]


def test_t1_a_later_call_waits_only_until_the_first_is_whole() -> None:
    parser = Parser()
    parser.feed(chunk({"tool_calls": [call_delta(0, "a", "f", "")]}))
    parser.feed(chunk({"tool_calls": [call_delta(0, arguments='{"x":')]}))
    assert parser.feed(chunk({"tool_calls": [call_delta(1, "b", "g", "")]})) == []
    events = parser.feed(chunk({"tool_calls": [call_delta(0, arguments="1}")]}))
    assert events == [
        BlockDelta(0, DeltaKind.ARGUMENTS, "1}"),
        BlockStop(0),
        BlockStart(1, ToolCall("b", "g", "")),
    ]


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([[call_delta(0, "a", "f", "{}"), call_delta(1, "b", "g", "{}")]], id="both in one chunk"),
        pytest.param([call_delta(None, "a", "f", "{}"), call_delta(None, "b", "g", "{}")], id="no index"),
        pytest.param([call_delta(0, "a", "f", "{}"), call_delta(0, "b", "g", "{}")], id="all at index 0"),
        pytest.param(
            [call_delta(None, "a", "f", ""), call_delta(None, "a", None, "{}"), call_delta(None, "b", "g", "{}")],
            id="no index, id repeated",
        ),
        pytest.param(
            [call_delta(0, "a", "f", ""), call_delta(0, "a", "f", "{}"), call_delta(1, "b", "g", "{}")],
            id="id and name repeated",
        ),
        pytest.param(
            [call_delta(0, "a", "f", ""), call_delta(0, "", "", "{}"), call_delta(1, "b", "g", "{}")],
            id="empty id and name in later deltas",
        ),
        pytest.param(
            [call_delta(0, "a", "f"), call_delta(0, "random", None, "{}"), call_delta(1, "b", "g", "{}")],
            id="a new id in every delta",
        ),
        pytest.param(
            [
                call_delta(0, "a"),
                call_delta(0, None, "f"),
                call_delta(0, None, None, "{}"),
                call_delta(1, "b", "g", {}),
            ],
            id="the name later, the object itself",
        ),
        pytest.param([call_delta(3, "a", "f", "{}"), call_delta(7, "b", "g", "{}")], id="odd indexes"),
    ],
)
def test_t1_however_hosts_number_their_calls(deltas: list[Any]) -> None:
    assert calls(*deltas) == [("a", "f", "{}"), ("b", "g", "{}")]


def test_t1_calls_without_index_and_id() -> None:
    assert calls(call_delta(None, None, "f", '{"a":1}'), call_delta(None, None, "f", '{"a":2}')) == [
        ("", "f", '{"a":1}'),
        ("", "f", '{"a":2}'),
    ]
    assert calls(call_delta(0, None, "f", '{"a":1}'), call_delta(0, None, "f", '{"a":2}')) == [
        ("", "f", '{"a":1}'),
        ("", "f", '{"a":2}'),
    ]
    assert calls(
        call_delta(None, None, "f", ""), call_delta(None, None, None, '{"a"'), call_delta(None, arguments=":1}")
    ) == [("", "f", '{"a":1}')]


def test_t3_whole_arguments_at_the_end_are_one_delta() -> None:
    stream = call_stream(call_delta(0, "a", "f", ""), call_delta(0, arguments='{"a":1}'))
    assert deltas_of(events_of(stream), DeltaKind.ARGUMENTS) == ['{"a":1}']


@pytest.mark.parametrize("copy", ['{"a":{"b":1}}', '{ "a": {"b": 1} }'])
@pytest.mark.parametrize("head", [{}, {"call_id": "x"}, {"call_id": "x", "name": "f"}, {"name": "f"}])
def test_t3_a_final_copy_is_no_second_set(copy: str, head: dict[str, str]) -> None:
    stream = [
        call_delta(0, "x", "f", ""),
        call_delta(0, arguments='{"a":'),
        call_delta(0, arguments='{"b":1}'),
        call_delta(0, arguments="}"),
        call_delta(0, arguments=copy, **head),
    ]
    assert calls(*stream) == [("x", "f", '{"a":{"b":1}}')]


def test_t3_an_empty_object_before_the_true_arguments_is_not_theirs() -> None:
    assert calls(call_delta(0, "a", "f", "{}"), call_delta(0, arguments='{"x"'), call_delta(0, arguments=":1}")) == [
        ("a", "f", '{"x":1}')
    ]
    assert calls(call_delta(0, "a", "f", "{}"), call_delta(0, "a", "f", "{}")) == [("a", "f", "{}")]


def test_code_full_of_braces_is_not_taken_for_a_copy() -> None:
    text = json.dumps({"code": "a{}{}{b}"})
    assert calls(call_delta(0, "a", "f", ""), *(call_delta(0, arguments=letter) for letter in text)) == [
        ("a", "f", text)
    ]


def test_t2_no_arguments_at_all() -> None:
    answer = answer_of(call_stream(call_delta(0, "a", "f", "")))
    assert (calls_of(answer), answer.stop) == ([("a", "f", "")], Stop.TOOL_USE)


def test_t6_a_call_whose_name_never_comes_is_dropped() -> None:
    assert calls(call_delta(0, "a", None, "{}"), call_delta(1, "b", "g", "{}")) == [("b", "g", "{}")]


def test_text_between_and_after_calls_keeps_its_place() -> None:
    stream = (
        chunk({"content": "a"})
        + chunk({"tool_calls": [call_delta(0, "x", "f", '{"p":')]})
        + chunk({"content": "b", "reasoning_content": "hm"})
        + chunk({"content": "c"})
        + chunk({"tool_calls": [call_delta(0, arguments="1}")]})
        + chunk({"content": "d"})
        + chunk({}, "tool_calls")
        + DONE
    )
    assert answer_of(stream).blocks == (
        Text("a"),
        ToolCall("x", "f", '{"p":1}'),
        Thinking("hm"),
        Text("bcd"),
    )


def test_t74_a_torn_call_keeps_its_reason() -> None:
    answer = answer_of(read("torn_call", "stream.sse"))
    assert (answer.stop, calls_of(answer)) == (Stop.LENGTH, [("call_1", "edit_file", '{"path":"a.t')])


def test_t13_custom_calls_come_as_text() -> None:
    answer = answer_of(read("custom_tool", "stream.sse"))
    assert answer.calls == (ToolCall("call_d", "apply_patch", "*** Begin\n} {", CallKind.CUSTOM),)


def test_t15_legacy_calls_are_read() -> None:
    answer = answer_of(read("legacy_functions", "stream.sse"))
    assert (answer.calls, answer.stop) == ((ToolCall("", "get_weather", '{"city":"Oslo"}'),), Stop.TOOL_USE)


def test_t65_text_and_call_end_with_tool_use() -> None:
    answer = answer_of(chunk({"content": "a"}) + call_stream(call_delta(0, "x", "f", "{}"), finish="stop"))
    assert answer.stop is Stop.TOOL_USE


def test_a_thought_signature_is_the_token_of_its_call() -> None:
    answer = answer_of(read("google_signature", "stream.sse"))
    assert [call.token for call in answer.calls] == [Token("CiQBsig==", CHAT), None]
    assert calls_of(answer) == [
        ("function-call-1", "get_weather", '{"city":"Paris"}'),
        ("function-call-2", "get_weather", '{"city":"Rome"}'),
    ]


# --- reasoning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text"])
def test_reasoning_comes_before_the_text(field: str) -> None:
    stream = (
        chunk({field: "H", "content": ""}) + chunk({field: "m"}) + chunk({field: "", "content": "So."}, "stop") + DONE
    )
    assert answer_of(stream).blocks == (Thinking("Hm"), Text("So."))


def test_elements_and_text_are_not_two() -> None:
    answer = answer_of(read("reasoning_details", "stream.sse"))
    assert thinking_of(answer) == "I should call the tool."
    tokens = [block.token for block in answer.blocks if isinstance(block, Thinking)]
    assert [json.loads(token.value).get("signature") for token in tokens if token is not None] == [
        "ErcBCkgIBRABGAIiQL8signed==",
        None,
    ]


def test_elements_with_other_numbers_are_other_blocks() -> None:
    def element(number: int, **members: str) -> bytes:
        return chunk({"reasoning_details": [{"type": "reasoning.text", "index": number, **members}]})

    stream = element(0, text="a") + element(0, signature="s0") + element(1, text="b") + element(1, signature="s1")
    answer = answer_of(stream + chunk({}, "stop") + DONE)
    assert answer.blocks == (Thinking("a", Token("s0", CHAT)), Thinking("b", Token("s1", CHAT)))


def test_encrypted_reasoning_after_a_call_waits_for_it() -> None:
    stream = (
        chunk({"tool_calls": [call_delta(0, "x", "f", '{"p":')]})
        + chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "enc"}]})
        + chunk({"tool_calls": [call_delta(0, arguments="1}")]})
        + chunk({}, "tool_calls")
        + DONE
    )
    assert answer_of(stream).blocks == (
        ToolCall("x", "f", '{"p":1}'),
        Thinking("", Token("enc", CHAT), redacted=True),
    )


def test_t20_inline_reasoning_at_any_cut() -> None:
    text = "<think>Hm</think>So <think>."
    for cut in range(1, len(text)):
        stream = chunk({"content": text[:cut]}) + chunk({"content": text[cut:]}, "stop") + DONE
        assert answer_of(stream).blocks == (Thinking("Hm"), Text("So <think>."))
    unclosed = chunk({"content": "<think>Hm"}) + chunk({}, "stop") + DONE
    assert answer_of(unclosed).blocks == (Thinking("Hm"),)
    held = chunk({"content": "<thi"}) + chunk({}, "stop") + DONE
    assert answer_of(held).blocks == (Text("<thi"),)
    called = chunk({"content": "<thi"}) + call_stream(call_delta(0, "x", "f", "{}"))
    assert answer_of(called).blocks == (Text("<thi"), ToolCall("x", "f", "{}"))


# --- the rest --------------------------------------------------------------------------------------------------------


def test_log_probabilities_come_with_their_text() -> None:
    events = events_of(read("logprobs", "stream.sse"))
    found = [bytes(event.logprobs) for event in events if isinstance(event, BlockDelta) and event.logprobs is not None]
    assert [json.loads(one)[0]["token"] for one in found] == ["Hi", " you"]


def test_sources_listed_beside_the_chunks_come_once() -> None:
    listed: dict[str, Any] = {"citations": ["https://a.example"]}
    stream = chunk({"content": "x"}, **listed) + chunk({"content": "y"}, "stop", **listed) + DONE
    text = answer_of(stream).blocks[0]
    assert isinstance(text, Text)
    assert [(one.url, one.title) for one in text.citations] == [("https://a.example", None)]


def test_speech_is_put_together() -> None:
    spoken = answer_of(read("documents_and_audio", "stream.sse")).blocks[0]
    assert isinstance(spoken, Media)
    assert (spoken.data, json.loads(bytes(spoken.extra["transcript"]))) == ("UklGRgAB", "Hello there.")
    with pytest.raises(UpstreamProtocolError):
        Parser().feed(chunk({"audio": {"data": "%"}}) + chunk({}, "stop"))


def test_t72_a_refusal_is_a_block() -> None:
    answer = answer_of(read("refusal", "stream.sse"))
    assert (answer.blocks, answer.stop) == ((Refusal("I'm sorry, I cannot help with that."),), Stop.REFUSAL)


def test_a_stop_sequence_that_a_server_reports_is_read() -> None:
    answer = answer_of(read("stop_sequence", "stream.sse"))
    assert (answer.stop, answer.stop_sequence) == (Stop.STOP_SEQUENCE, "###")
