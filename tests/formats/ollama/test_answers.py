"""Answers and streams, in both directions, and the relay of a stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import Overloaded, UpstreamProtocolError
from omniroute.formats.canonical import (
    Answer,
    Block,
    CallKind,
    Media,
    MediaKind,
    Refusal,
    ServerTool,
    SourceKind,
    Stop,
    Text,
    Thinking,
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
from omniroute.formats.ollama import errors
from omniroute.formats.ollama.response import parse_answer, read_answer, render_answer, render_generate_answer
from omniroute.formats.ollama.stream import OllamaStream
from omniroute.formats.ollama.stream_parser import Parser
from omniroute.formats.ollama.stream_renderer import GenerateRenderer, Renderer
from omniroute.formats.sse import MAX_EVENT_BYTES
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from tests.formats.ollama.fixtures import ANSWERS, STREAMS, answer_of, chat, lines, reply_to, stream_of, value

OLLAMA, CHAT = WireFormat.OLLAMA, WireFormat.OPENAI_CHAT
HEAD = {"model": "the-model", "created_at": "2023-11-14T22:13:20Z"}


def read(body: bytes) -> Answer:
    answer = parse_answer(body)
    assert answer is not None
    return answer


def shown(*blocks: Block, stop: Stop = Stop.END, **members: Any) -> Any:
    return value(render_answer(Answer(CHAT, "chatcmpl-1", "gpt", blocks, stop, **members), reply_to(chat())))


def events_of(*pieces: bytes) -> list[Event]:
    parser, checked = Parser(), Checked()
    events = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.close()
    checked.see(events)
    checked.end()
    return events


def folded(events: Sequence[Event]) -> Answer:
    folder = Folder(OLLAMA)
    folder.see(events)
    return folder.answer()


def compact(answer: Answer) -> Answer:
    """Return the answer with its JSON spelt in one way."""

    def spelt(block: Block) -> Block:
        if isinstance(block, ToolCall):
            arguments = msgspec.json.format(block.arguments.encode(), indent=-1).decode()
            return msgspec.structs.replace(block, arguments=arguments)
        if isinstance(block, Text) and block.logprobs is not None:
            logprobs = msgspec.Raw(msgspec.json.format(bytes(block.logprobs), indent=-1))
            return msgspec.structs.replace(block, logprobs=logprobs)
        return block

    return msgspec.structs.replace(answer, blocks=tuple(spelt(block) for block in answer.blocks))


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", STREAMS)
def test_a_folded_stream_equals_the_answer(case: str) -> None:
    assert compact(folded(events_of(stream_of(case)))) == compact(read(answer_of(case)))


@pytest.mark.parametrize("case", STREAMS)
def test_t51_any_cut_gives_the_same_events(case: str) -> None:
    stream = stream_of(case)
    whole = events_of(stream)
    assert events_of(*(stream[at : at + 1] for at in range(len(stream)))) == whole
    assert events_of(stream.replace(b"\n", b"\r\n\n")) == whole
    assert events_of(stream.rstrip(b"\n")) == whole


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 2000), max_size=6))
def test_t51_random_cuts_give_the_same_events(case: str, cuts: list[int]) -> None:
    stream = stream_of(case)
    edges = [0, *sorted(cuts), len(stream)]
    assert events_of(*(stream[a:b] for a, b in pairwise(edges))) == events_of(stream)


@pytest.mark.parametrize("case", STREAMS)
def test_t35_a_stream_cut_anywhere_never_ends_well(case: str) -> None:
    stream = stream_of(case)
    for end in range(len(stream) - 1):
        parser, checked = Parser(), Checked()
        events = [*parser.feed(stream[:end]), *parser.close()]
        checked.see(events)
        checked.end()
        assert events[-1] == StreamError()


def test_t05_ids_of_calls_are_kept_or_left_to_be_made() -> None:
    answer = read(answer_of("tools"))
    assert [(call.id, call.name) for call in answer.calls] == [("call_1", "get_weather"), ("", "now")]
    assert [call.arguments for call in answer.calls][1] == "{}"


def test_t70_arguments_keep_their_numbers() -> None:
    line = b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"n":1e400,"i":-0}}}]},"done":true}\n'
    assert folded(events_of(line)).calls[0].arguments == '{"n":1e400,"i":-0}'
    assert read(line).calls[0].arguments == '{"n":1e400,"i":-0}'


def test_t37_counts_that_are_missing_are_not_reported() -> None:
    assert read(answer_of("text")).usage == Usage(input=11, output=18)
    assert read(answer_of("cached_prompt")).usage == Usage(output=18)
    assert read(b'{"message":{"content":"x"},"done":true,"eval_count":"many"}').usage == Usage()


def test_times_are_read_where_they_can_be() -> None:
    assert read(answer_of("text")).created == 1_767_608_430
    for time in ("yesterday", "2026-01-05T10:20:30", None):
        body = {"message": {"content": "x"}, "done": True, "created_at": time}
        assert read(msgspec.json.encode(body)).created == (1_767_608_430 if time and "T" in time else None)


@pytest.mark.parametrize(
    ("word", "stop"), [("stop", Stop.END), ("length", Stop.LENGTH), ("load", Stop.END), (None, Stop.END)]
)
def test_t34_reasons_are_read(word: str | None, stop: Stop) -> None:
    body = {"message": {"content": "x"}, "done": True, "done_reason": word}
    assert read(msgspec.json.encode(body)).stop is stop
    assert folded(events_of(msgspec.json.encode(body))).stop is stop


def test_kinds_of_content_may_alternate() -> None:
    said = [{"content": "a"}, {"thinking": "b"}, {"content": "c", "thinking": "d"}, {"content": ""}, {"content": "e"}]
    stream = b"".join(json.dumps({"message": one, "done": False}).encode() + b"\n" for one in said) + b'{"done":true}\n'
    assert folded(events_of(stream)).blocks == (Text("a"), Thinking("bd"), Text("ce"))


def test_an_error_line_is_the_end() -> None:
    error = b'{"error":"out of memory"}'
    parser = Parser()
    events = parser.feed(stream_of("text").split(b"\n")[0] + b"\n" + error + b"\n" + stream_of("text"))
    assert events[-1] == StreamError(error)
    assert parser.feed(stream_of("text")) == []
    assert parser.close() == []


def test_nothing_follows_the_end() -> None:
    parser = Parser()
    events = parser.feed(stream_of("text") + stream_of("text"))
    assert isinstance(events[-1], MessageStop)
    assert sum(isinstance(event, MessageStop) for event in events) == 1


def test_t52_a_whole_answer_is_a_stream_of_one_line() -> None:
    body = msgspec.json.format(answer_of("tools"), indent=-1)
    assert compact(folded(events_of(body))) == compact(read(answer_of("tools")))


def test_t52_errors_and_torsos_are_no_answers() -> None:
    assert parse_answer(b'{"error":"model not found"}') is None
    assert read_answer(b'{"error":"model not found"}') is None
    assert read_answer(answer_of("text")) == (Usage(input=11, output=18), b'"qwen3:8b"')
    for body in (b"", b"<html>", b"[]", b"{}", b'{"message":5}', b'{"message":{"content":"x"},"done":false}'):
        with pytest.raises(UpstreamProtocolError):
            parse_answer(body)
        with pytest.raises(UpstreamProtocolError):
            read_answer(body)


@pytest.mark.parametrize(
    "stream", [b"<html>\n", b"{\n", b'{"message":{"content":5}}\n', b"[" * 5000 + b"\n", b"x" * (MAX_EVENT_BYTES + 1)]
)
def test_bytes_that_cannot_be_the_format_are_the_providers_fault(stream: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        Parser().feed(stream)


def test_a_half_of_a_surrogate_pair_is_not_the_end_of_the_stream() -> None:
    stream = b'{"message":{"content":"\\ud83d"},"done":false}\n{"done":true}\n'
    assert folded(events_of(stream)).blocks == (Text("\ufffd"),)


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_of_the_same_format_comes_back(case: str) -> None:
    answer = read(answer_of(case))
    again = read(render_answer(answer, reply_to(chat())))
    assert compact(again) == compact(msgspec.structs.replace(answer, model="the-model", created=1_700_000_000))


def test_a_whole_answer() -> None:
    body = shown(
        Thinking("hm"),
        Text("I look."),
        ToolCall("call_9", "f", '{"a":1}'),
        ToolCall("", "patch", "free", CallKind.CUSTOM),
        stop=Stop.TOOL_USE,
        usage=Usage(input=10, output=5, cache_read=4),
    )
    assert body == {
        **HEAD,
        "message": {
            "role": "assistant",
            "content": "I look.",
            "thinking": "hm",
            "tool_calls": [
                {"id": "call_9", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}},
                {"function": {"index": 1, "name": "patch", "arguments": {"input": "free"}}},
            ],
        },
        "done_reason": "stop",
        "done": True,
        "prompt_eval_count": 10,
        "eval_count": 5,
    }


def test_an_answer_to_a_prompt() -> None:
    answer = Answer(CHAT, "", "", (Thinking("hm"), Text("Hi")), Stop.LENGTH)
    assert value(render_generate_answer(answer, reply_to(chat()))) == {
        **HEAD,
        "response": "Hi",
        "thinking": "hm",
        "done_reason": "length",
        "done": True,
    }


def test_t72_t74_refusals_and_torn_calls_are_text() -> None:
    body = shown(Refusal("I cannot. "), ToolCall("a", "rm", '{"path": "/ho'), stop=Stop.LENGTH)
    assert body["message"]["content"].startswith("I cannot. [The call of the tool rm was cut off")
    assert "tool_calls" not in body["message"]
    assert body["done_reason"] == "length"


def test_what_only_another_format_can_show_is_said_in_words() -> None:
    body = shown(
        Media(MediaKind.IMAGE, SourceKind.INLINE, "iVBORw0KGgo="),
        Media(MediaKind.AUDIO, SourceKind.INLINE, "AAAA", "audio/wav"),
        ServerTool(WireFormat.GEMINI, msgspec.Raw(b"{}"), "[It ran code.]"),
    )
    assert body["message"]["images"] == ["iVBORw0KGgo="]
    assert body["message"]["content"] == "[audio of type audio/wav, which this format cannot show][It ran code.]"


def one_of_each() -> list[Event]:
    return [
        MessageStart("x", "y", 5, Usage(input=10)),
        Ping(),
        BlockStart(0, Thinking("")),
        BlockDelta(0, DeltaKind.THINKING, "hm"),
        BlockStop(0),
        BlockStart(1, Text("")),
        BlockDelta(1, DeltaKind.TEXT, 'say "hi"\n'),
        BlockDelta(1, DeltaKind.TEXT, "!", msgspec.Raw(b"[1]")),
        BlockStop(1),
        BlockStart(2, ToolCall("t", "f", "")),
        BlockDelta(2, DeltaKind.ARGUMENTS, '{"a"'),
        BlockDelta(2, DeltaKind.ARGUMENTS, ":1}"),
        BlockStop(2),
        BlockStart(3, ToolCall("u", "g", "")),
        BlockStop(3),
        UsageUpdate(Usage(input=10, output=7)),
        MessageStop(Stop.TOOL_USE),
    ]


def said(**members: Any) -> dict[str, Any]:
    return {**HEAD, "message": {"role": "assistant", "content": "", **members}, "done": False}


def test_the_lines_of_a_stream() -> None:
    stream = Renderer(reply_to(chat())).render(one_of_each())
    assert lines(stream) == [
        said(thinking="hm"),
        said(content='say "hi"\n'),
        {**said(content="!"), "logprobs": [1]},
        said(tool_calls=[{"id": "t", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}]),
        said(tool_calls=[{"id": "u", "function": {"index": 1, "name": "g", "arguments": {}}}]),
        {**said(), "done": True, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 7},
    ]
    renderer = Renderer(reply_to(chat()))
    assert b"".join(renderer.render([event]) for event in one_of_each()) == stream


def test_the_lines_of_a_stream_to_a_prompt() -> None:
    stream = GenerateRenderer(reply_to(chat(), model="100 %d")).render([*one_of_each()[:7], MessageStop(Stop.LENGTH)])
    head = HEAD | {"model": "100 %d"}
    assert lines(stream) == [
        {**head, "response": "", "thinking": "hm", "done": False},
        {**head, "response": 'say "hi"\n', "done": False},
        {**head, "response": "", "done": True, "done_reason": "length", "prompt_eval_count": 10},
    ]


def test_t74_a_torn_call_is_streamed_as_text() -> None:
    answer = Answer(CHAT, "", "", (ToolCall("a", "rm", '{"path": "/ho'),), Stop.LENGTH)
    first, last = lines(Renderer(reply_to(chat())).render(list(unfold(answer))))
    assert '{"path": "/ho' in first["message"]["content"]
    assert last["done_reason"] == "length"


@pytest.mark.parametrize("case", STREAMS)
def test_a_rendered_stream_reads_as_it_was(case: str) -> None:
    events = events_of(stream_of(case))
    again = folded(events_of(Renderer(reply_to(chat())).render(events)))
    wanted = msgspec.structs.replace(folded(events), model="the-model", created=1_700_000_000)
    assert compact(again) == compact(wanted)


def test_a_stream_that_fails_has_no_end() -> None:
    frame = Renderer(reply_to(chat())).fail(Overloaded("Too much."), "req_1")
    assert frame == b'{"error":"Too much."}\n'
    assert errors.render(Overloaded("Too much."), "req_1") == b'{"error":"Too much."}'
    assert errors.status_of(Overloaded()) == 503


BLOCKS = st.one_of(
    st.builds(Text, st.text(min_size=1, max_size=9)),
    st.builds(Thinking, st.text(min_size=1, max_size=9)),
    st.builds(ToolCall, st.text(max_size=3), st.text(min_size=1, max_size=3), st.just('{"a":1}')),
)


@given(st.lists(BLOCKS, max_size=4), st.sampled_from([Stop.END, Stop.LENGTH]))
def test_any_answer_streams_and_comes_back(blocks: list[Block], stop: Stop) -> None:
    answer = Answer(OLLAMA, "", "the-model", tuple(blocks), stop, usage=Usage(input=3), created=1_700_000_000)
    again = folded(events_of(Renderer(reply_to(chat())).render(list(unfold(answer)))))
    assert again.calls == answer.calls
    assert joined(again, Text) == joined(answer, Text)
    assert joined(again, Thinking) == joined(answer, Thinking)
    assert (again.stop, again.usage, again.model) == (stop, Usage(input=3), "the-model")


def joined(answer: Answer, kind: type[Text | Thinking]) -> str:
    """Return all text of a kind: where one block ended and the next began is not in the stream."""
    return "".join(block.text for block in answer.blocks if isinstance(block, kind))


# --- passing through -------------------------------------------------------------------------------------------------


def relay(requested: str | None = None) -> tuple[OllamaStream, list[Usage]]:
    seen: list[Usage] = []

    def trailer(usage: Usage) -> bytes:
        seen.append(usage)
        return b": trailer\n\n"

    return OllamaStream(requested, trailer), seen


@pytest.mark.parametrize("case", STREAMS)
def test_a_passed_stream_is_the_same_bytes_however_it_comes(case: str) -> None:
    stream = stream_of(case)
    for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))], stream.splitlines(keepends=True)):
        relayed, seen = relay()
        assert b"".join(relayed.feed(piece) for piece in pieces) + relayed.end() == stream
        assert relayed.is_complete
        assert seen == [relayed.usage]
        assert relayed.usage == read(answer_of(case)).usage


def test_nothing_leaves_before_content() -> None:
    relayed, _ = relay()
    first, second, *_ = stream_of("text").splitlines(keepends=True)
    empty = first.replace("Γειά σου".encode(), b"")
    assert relayed.feed(empty) == b""
    assert not relayed.has_content
    assert relayed.feed(second) == empty + second
    assert relayed.has_content


def test_t61_the_clients_model_stands_in_every_line_but_not_in_arguments() -> None:
    line = (
        b'{"model":"up","message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"model":"up"}}}]},'
        b'"done":false}\n'
    )
    relayed, _ = relay("mine")
    out = relayed.feed(line) + relayed.feed(line + line) + relayed.feed(b'{"model":"up","done":true}\n')
    assert [one["model"] for one in lines(out)] == ["mine"] * 4
    assert out.count(b'"arguments":{"model":"up"}') == 3


def test_a_relayed_error_is_the_providers_own() -> None:
    relayed, _ = relay()
    assert relayed.feed(b'{"error":"out of memory"}\n') == b""
    assert relayed.error == b'{"error":"out of memory"}'
    assert relayed.raw_error(relayed.error) == b'{"error":"out of memory"}\n'
    assert relayed.fail(Overloaded("Too much."), "req_1") == b'{"error":"Too much."}\n'


def test_a_relayed_error_after_content_ends_the_stream() -> None:
    relayed, _ = relay()
    line = stream_of("text").splitlines(keepends=True)[0]
    assert relayed.feed(line + b'{"error":"out of memory"}\n' + line) == line
    assert relayed.error is not None


def test_t35_a_relayed_stream_that_breaks_off_is_an_error() -> None:
    stream = stream_of("text")
    for end in range(len(stream) - 1):
        relayed, _ = relay()
        relayed.feed(stream[:end])
        with pytest.raises(UpstreamProtocolError):
            relayed.end()
    relayed, _ = relay()
    assert relayed.feed(stream[:-1]) + relayed.end() == stream
