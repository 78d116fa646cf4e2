"""Streams written for clients of the format."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from omniroute.errors import ContextLengthExceeded, RateLimited, UpstreamProtocolError
from omniroute.formats.canonical import (
    Answer,
    Block,
    CallKind,
    Citation,
    Media,
    MediaKind,
    Refusal,
    SourceKind,
    Stop,
    Text,
    Thinking,
    Token,
    ToolCall,
    stop_of,
)
from omniroute.formats.events import (
    PING,
    BlockDelta,
    BlockStart,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    StreamError,
)
from omniroute.formats.fold import unfold
from omniroute.formats.openai_chat.errors import render, render_in_stream
from omniroute.formats.openai_chat.response import parse_answer, render_answer
from omniroute.formats.openai_chat.stream_renderer import Renderer
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from tests.formats.openai_chat.fixtures import CHAT, answer_of, cases, events_of, normal, read, reply, without_extra

MESSAGES = WireFormat.ANTHROPIC_MESSAGES
DONE = "[DONE]"
FUNCTIONS = [{"name": "f"}]


def written(events: list[Event], **request: Any) -> bytes:
    return Renderer(reply(**request)).render(events)


def data_of(stream: bytes) -> list[str]:
    return [line[6:] for line in stream.decode().split("\n") if line.startswith("data: ")]


def chunks_of(stream: bytes) -> list[dict[str, Any]]:
    found = [json.loads(data) for data in data_of(stream) if data != DONE]
    for one in found:
        ChatCompletionChunk.model_validate(one)
    return found


def deltas_of(stream: bytes) -> list[dict[str, Any]]:
    return [choice["delta"] for one in chunks_of(stream) for choice in one["choices"]]


def made(*blocks: Block, stop: Stop = Stop.END, origin: WireFormat = MESSAGES, **members: Any) -> list[Event]:
    return list(unfold(Answer(origin, "msg_1", "m", blocks, stop, **members)))


@pytest.mark.parametrize("case", cases("stream.sse"))
def test_a_stream_comes_back_as_it_was_understood(case: str) -> None:
    events = events_of(read(case, "stream.sse"))
    stream = Renderer(reply(stream_options={"include_usage": True})).render(events)
    before, after = answer_of(read(case, "stream.sse")), answer_of(stream)
    expected = msgspec.structs.replace(
        before,
        id=after.id,
        model="asked-for",
        created=1_700_000_000,
        stop_sequence=None,
        stop=Stop.END if before.stop is Stop.STOP_SEQUENCE else before.stop,
    )
    assert _respelt(normal(after)) == _respelt(normal(expected))


def _respelt(answer: Answer) -> Answer:
    """Citations and annotations are spelt anew."""
    empty = msgspec.Raw(b"")
    blocks = [
        msgspec.structs.replace(
            block, citations=tuple(msgspec.structs.replace(one, raw=empty) for one in block.citations)
        )
        if isinstance(block, Text)
        else block
        for block in answer.blocks
    ]
    return msgspec.structs.replace(answer, blocks=tuple(blocks))


def test_the_frames_of_a_text() -> None:
    stream = written(made(Text("Hi"), usage=Usage(3, 4)))
    assert stream.decode().split("\n\n") == [
        (
            'data: {"id":"chatcmpl-0123456789abcdef01234567","object":"chat.completion.chunk","created":1700000000,'
            '"model":"asked-for","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},'
            '"logprobs":null,"finish_reason":null}]}'
        ),
        (
            'data: {"id":"chatcmpl-0123456789abcdef01234567","object":"chat.completion.chunk","created":1700000000,'
            '"model":"asked-for","choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}]}'
        ),
        (
            'data: {"id":"chatcmpl-0123456789abcdef01234567","object":"chat.completion.chunk","created":1700000000,'
            '"model":"asked-for","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}'
        ),
        ": x-omniroute-tokens-out=4",
        "data: [DONE]",
        "",
    ]


def test_t40_the_usage_chunk_comes_only_when_asked_for() -> None:
    events = made(Text("Hi"), usage=Usage(3, 4))
    assert all("usage" not in one for one in chunks_of(written(events)))
    found = chunks_of(written(events, stream=True, stream_options={"include_usage": True}))
    assert [one["usage"] for one in found[:-1]] == [None, None, None]
    assert (found[-1]["choices"], found[-1]["usage"]["total_tokens"]) == ([], 7)


def test_t73_all_chunks_have_one_id_and_the_stream_one_end() -> None:
    calls = (ToolCall("a", "f", "{}"), ToolCall("b", "g", '{"x":1}'))
    stream = written(made(Thinking("Hm"), Text("Hi"), *calls, stop=Stop.TOOL_USE))
    assert {(one["id"], one["created"], one["model"]) for one in chunks_of(stream)} == {
        ("chatcmpl-0123456789abcdef01234567", 1_700_000_000, "asked-for")
    }
    assert data_of(stream).count(DONE) == 1
    assert data_of(stream)[-1] == DONE


def test_calls_are_numbered_and_named_once() -> None:
    events = made(Text("a"), ToolCall("x", "f", '{"a":1}'), ToolCall("y", "g", ""), stop=Stop.TOOL_USE)
    deltas = [delta["tool_calls"][0] for delta in deltas_of(written(events)) if "tool_calls" in delta]
    assert deltas == [
        {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":1}'}},
        {"index": 1, "id": "y", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]


def test_t13_custom_calls() -> None:
    events = made(ToolCall("x", "patch", "*** Begin", CallKind.CUSTOM), stop=Stop.TOOL_USE)
    stream = written(events)
    deltas = [json.loads(data)["choices"][0]["delta"] for data in data_of(stream)[:-1]]
    assert [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta] == [
        {"index": 0, "id": "x", "type": "custom", "custom": {"name": "patch", "input": ""}},
        {"index": 0, "custom": {"input": "*** Begin"}},
    ]


def test_t15_a_client_of_functions_gets_a_function_call() -> None:
    events = made(ToolCall("x", "f", '{"a":1}'), ToolCall("y", "g", "{}"), stop=Stop.TOOL_USE)
    stream = written(events, functions=FUNCTIONS)
    calls = [delta["function_call"] for delta in deltas_of(stream) if "function_call" in delta]
    assert calls == [{"name": "f", "arguments": ""}, {"arguments": '{"a":1}'}]
    assert chunks_of(stream)[-1]["choices"][0]["finish_reason"] == "function_call"
    assert b"tool_calls" not in stream


def test_t14_a_client_that_sent_null_functions_is_no_client_of_functions() -> None:
    stream = written(made(ToolCall("x", "f", "{}"), stop=Stop.TOOL_USE), functions=None)
    assert b'"tool_calls"' in stream


def test_reasoning_goes_out_as_reasoning_content() -> None:
    deltas = deltas_of(written(made(Thinking("Hm.", Token("sig", MESSAGES)), Text("So."))))
    assert [delta for delta in deltas if delta][1:] == [{"reasoning_content": "Hm."}, {"content": "So."}]


def test_tokens_of_this_format_are_shown_and_no_others() -> None:
    call = ToolCall("x", "f", "{}", token=Token("thought", CHAT))
    redacted = Thinking("", Token("enc", CHAT), redacted=True)
    stream = written(made(Thinking("Hm.", Token("sig", CHAT)), redacted, call, origin=CHAT, stop=Stop.TOOL_USE))
    answer = answer_of(stream)
    assert answer.blocks == (Thinking("Hm.", Token("sig", CHAT)), redacted, call)
    foreign = written(made(msgspec.structs.replace(call, token=Token("t", WireFormat.GEMINI)), stop=Stop.TOOL_USE))
    assert b"thought_signature" not in foreign


def test_sources_find_their_place() -> None:
    cited = Citation(MESSAGES, msgspec.Raw(b"{}"), "https://e.com", None, "quote")
    deltas = deltas_of(written(made(Text("It is "), Text("true", citations=(cited,)), Text("."))))
    assert [delta["annotations"] for delta in deltas if "annotations" in delta] == [
        [
            {
                "type": "url_citation",
                "url_citation": {"url": "https://e.com", "title": "https://e.com", "start_index": 6, "end_index": 10},
            }
        ]
    ]


def test_media_goes_out_whole() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, "aaaa", "image/png")
    speech = Media(MediaKind.AUDIO, SourceKind.INLINE, "UklG", "audio/wav")
    deltas = [delta for delta in deltas_of(written(made(image, speech))) if delta]
    assert deltas[1] == {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}]}
    assert deltas[2]["audio"]["data"] == "UklG"


def test_t72_a_refusal_says_why() -> None:
    chunks = chunks_of(written(made(Refusal("No."), stop=Stop.REFUSAL)))
    assert chunks[1]["choices"][0]["delta"] == {"refusal": "No."}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    filtered = chunks_of(written(made(Text("x"), stop=Stop.REFUSAL)))
    assert filtered[-1]["choices"][0]["finish_reason"] == "content_filter"


def test_t65_text_and_call_end_with_tool_calls() -> None:
    chunks = chunks_of(written(made(Text("a"), ToolCall("x", "f", "{}"), stop=Stop.TOOL_USE)))
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_error_ends_the_stream_once() -> None:
    renderer = Renderer(reply())
    renderer.render([MessageStart("a", "m"), BlockStart(0, Text("")), BlockDelta(0, DeltaKind.TEXT, "Hi")])
    assert renderer.render([StreamError(b'{"error":{}}'), PING]) == b""
    frames = renderer.fail(UpstreamProtocolError("It broke off."), "req_1")
    assert [json.loads(data)["error"]["code"] for data in data_of(frames)[:1]] == ["upstream_error"]
    assert data_of(frames)[1:] == [DONE]
    assert renderer.fail(UpstreamProtocolError(), "req_1") == b""
    assert renderer.render([MessageStop(Stop.END)]) == b""


def test_nothing_follows_the_end() -> None:
    renderer = Renderer(reply())
    renderer.render(made(Text("x")))
    assert renderer.fail(UpstreamProtocolError(), "req_1") == b""


def test_the_official_client_reads_the_stream() -> None:
    events = made(
        Thinking("Hm"),
        Text("Hi 😀"),
        ToolCall("x", "f", '{"a": 1e5}'),
        ToolCall("y", "g", ""),
        stop=Stop.TOOL_USE,
        usage=Usage(3, 4, cache_read=1, reasoning=2),
    )
    state: Any = ChatCompletionStreamState()
    for one in chunks_of(written(events, stream=True, stream_options={"include_usage": True})):
        state.handle_chunk(ChatCompletionChunk.model_validate(one))
    completion = state.get_final_completion()
    message = completion.choices[0].message
    assert (message.content, completion.choices[0].finish_reason) == ("Hi 😀", "tool_calls")
    assert [call.function.arguments for call in message.tool_calls] == ['{"a": 1e5}', "{}"]
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, 4)


_WORDS = st.text(max_size=12)
_BLOCKS = st.lists(
    st.one_of(
        st.builds(Thinking, _WORDS.filter(bool)),
        st.builds(Text, _WORDS.filter(bool)),
        st.builds(
            ToolCall,
            st.uuids().map(str),
            st.sampled_from(["f", "g"]),
            st.dictionaries(_WORDS, st.integers() | _WORDS, min_size=1, max_size=2).map(json.dumps),
        ),
    ),
    max_size=5,
)


@settings(max_examples=80)
@given(_BLOCKS)
def test_any_stream_folds_to_the_answer_that_is_not_streamed(blocks: list[Block]) -> None:
    merged = _merged(blocks)
    stop = stop_of(Stop.END, [block for block in merged if isinstance(block, ToolCall)])
    answer = Answer(MESSAGES, "a", "m", tuple(merged), stop, usage=Usage(1, 2))
    stream = Renderer(reply(stream=True, stream_options={"include_usage": True})).render(list(unfold(answer)))
    assert answer_of(stream).blocks == tuple(merged)
    whole = parse_answer(render_answer(answer, reply()))
    assert whole is not None
    assert [call for call in whole.blocks if isinstance(call, ToolCall)] == list(answer.calls)
    assert without_extra(whole).usage == answer.usage


def _merged(blocks: list[Block]) -> list[Block]:
    """Neighbours of one kind are one block in this format."""
    merged: list[Block] = []
    for block in blocks:
        last = merged[-1] if merged else None
        if isinstance(block, Text) and isinstance(last, Text):
            merged[-1] = Text(last.text + block.text)
        elif isinstance(block, Thinking) and isinstance(last, Thinking):
            merged[-1] = Thinking(last.text + block.text)
        else:
            merged.append(block)
    return merged


def test_a_rate_limit_says_how_long_to_wait() -> None:
    body = json.loads(render(RateLimited("Slow down.", retry_after_s=7200.4567)))
    assert body["error"]["message"] == "Slow down. Please try again in 7200.457s."
    said = json.loads(render(RateLimited("Please try again in 3s.", retry_after_s=3)))
    assert said["error"]["message"] == "Please try again in 3s."
    assert render_in_stream(RateLimited("x")).endswith(b"\n\ndata: [DONE]\n\n")


def test_a_context_that_is_too_long_has_its_numbers() -> None:
    error = ContextLengthExceeded(used=9000, limit=8000)
    assert "8000" in json.loads(render(error))["error"]["message"]
