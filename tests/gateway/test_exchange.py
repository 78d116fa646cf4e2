"""How one target is spoken to: which format, what is translated, what is kept for the next turn."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from omniroute.errors import UnsupportedFeature, UpstreamError
from omniroute.formats import tokens
from omniroute.formats.canonical import Token
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import Surface
from omniroute.gateway.handover import Answer
from omniroute.records import NodeType
from tests.fakes.upstream import answer, fake_upstream, stream
from tests.gateway.conftest import Bench

Make = Callable[..., Bench]

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
CHAT_WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2},
}
CHAT_STREAM = (
    b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n',
    b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}\n\n',
    b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"c1","model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
)


def gemini_whole(*parts: dict[str, Any]) -> bytes:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11}
    return json.dumps({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"}).encode()


def drink(opened: Answer) -> bytes:
    body = opened.body
    if isinstance(body, bytes):
        return body
    try:
        return b"".join(body)
    finally:
        body.close()


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "up/m", "messages": list(messages) or [{"role": "user", "content": "hi"}], **more}


@pytest.mark.parametrize("surface", [Surface.OPENAI_CHAT, Surface.ANTHROPIC_MESSAGES])
def test_a_stream_that_nobody_asked_for_is_folded(bench_of: Make, surface: Surface) -> None:
    with fake_upstream(stream(*CHAT_STREAM)) as upstream:
        opened = bench_of(upstream).call(chat(max_tokens=9), surface)
        assert isinstance(opened.body, bytes)
        assert b"hello" in opened.body
        assert opened.headers["Content-Type"] == "application/json"
        assert (opened.headers["X-OmniRoute-Tokens-In"], opened.headers["X-OmniRoute-Tokens-Out"]) == ("9", "2")


@pytest.mark.parametrize(
    ("surface", "end"),
    [(Surface.OPENAI_CHAT, b"data: [DONE]\n\n"), (Surface.ANTHROPIC_MESSAGES, b'data: {"type":"message_stop"}\n\n')],
)
def test_a_whole_answer_to_a_stream_request_becomes_a_stream(bench_of: Make, surface: Surface, end: bytes) -> None:
    with fake_upstream(answer(json.dumps(CHAT_WHOLE).encode())) as upstream:
        bench = bench_of(upstream)
        opened = bench.call(chat(max_tokens=9, stream=True), surface)
        assert "event-stream" in opened.headers["Content-Type"]
        data = drink(opened)
        assert b"hello" in data
        assert data.endswith(end)
        assert (bench.log.only.outcome, bench.log.only.tokens_out) == ("success", 2)


def test_an_unasked_stream_that_breaks_off_is_a_failure(bench_of: Make) -> None:
    with fake_upstream(stream(*CHAT_STREAM[:2])) as upstream:
        bench = bench_of(upstream)
        with pytest.raises(UpstreamError):
            bench.call(chat())
        assert bench.log.only.outcome == "failed"


def test_the_log_names_both_formats(bench_of: Make) -> None:
    with fake_upstream(answer(json.dumps(CHAT_WHOLE).encode())) as upstream:
        bench = bench_of(upstream)
        bench.call(chat(max_tokens=9), Surface.ANTHROPIC_MESSAGES)
        record = bench.log.only
        assert (record.client_format, record.upstream_format) == ("anthropic_messages", "openai_chat")


def test_what_is_left_out_is_named(bench_of: Make) -> None:
    with fake_upstream(answer(json.dumps(CHAT_WHOLE).encode())) as upstream:
        opened = bench_of(upstream).call(chat(max_tokens=9, top_k=5), Surface.ANTHROPIC_MESSAGES)
        assert opened.headers["X-OmniRoute-Warning"] == "dropped:top_k"
        assert "top_k" not in json.loads(upstream.received[0].body)


def test_what_must_not_be_left_out_is_refused_before_a_provider_is_called(bench_of: Make) -> None:
    with fake_upstream(answer(b"{}")) as upstream:
        bench = bench_of(upstream, node_type=NodeType.ANTHROPIC)
        with pytest.raises(UnsupportedFeature) as caught:
            bench.call(chat(n=2))
        assert caught.value.param == "n"
        assert upstream.received == []
        assert (bench.log.only.outcome, bench.log.only.error_code) == ("failed", "unsupported_feature")


@pytest.mark.parametrize("member", ["container", "mcp_servers"])
def test_state_at_another_vendor_is_refused(bench_of: Make, member: str) -> None:
    with fake_upstream(answer(b"{}")) as upstream:
        with pytest.raises(UnsupportedFeature) as caught:
            bench_of(upstream).call(chat(max_tokens=9, **{member: [{"x": 1}]}), Surface.ANTHROPIC_MESSAGES)
        assert caught.value.param == member
        assert upstream.received == []


def test_a_wrapped_token_keeps_a_request_from_passing_through(bench_of: Make) -> None:
    foreign = tokens.wrap(Token("sig", WireFormat.GEMINI, "gemini", "conn_x"))
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm", "signature": foreign}, {"type": "text", "text": "yes"}],
        },
        {"role": "user", "content": "and?"},
    ]
    said = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "ok"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    with fake_upstream(answer(json.dumps(said).encode())) as upstream:
        bench = bench_of(upstream, node_type=NodeType.ANTHROPIC)
        opened = bench.call(
            chat(*history, max_tokens=9, unknown_to_us={"a": 12345678901234567890}), Surface.ANTHROPIC_MESSAGES
        )
        sent = upstream.received[0].body
        assert foreign.encode() not in sent
        assert json.loads(sent)["messages"][1]["content"] == [{"type": "text", "text": "yes"}]
        assert b'"unknown_to_us":{"a":12345678901234567890}' in sent.replace(b": ", b":")
        assert json.loads(drink(opened))["content"] == said["content"]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_thought_signature_comes_back_with_the_next_turn_of_a_chat_client(bench_of: Make, is_streamed: bool) -> None:
    signature = base64.b64encode(b"thought signature").decode()
    call = {"functionCall": {"name": "weather", "args": {"city": "Rome"}, "id": "fc1"}, "thoughtSignature": signature}
    first = gemini_whole(call)
    act = stream(b"data: " + first + b"\n\n") if is_streamed else answer(first)
    with fake_upstream(act, answer(gemini_whole({"text": "sunny"}))) as upstream:
        bench = bench_of(upstream, node_type=NodeType.GEMINI)
        opened = bench.call(chat(tools=[CHAT_TOOL], stream=is_streamed))
        assert b"thought signature" not in drink(opened)
        made = {"id": "fc1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
        turns: list[dict[str, Any]] = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [made]},
            {"role": "tool", "tool_call_id": "fc1", "content": "22 degrees"},
        ]
        bench.call(chat(*turns, tools=[CHAT_TOOL]))
        sent = json.loads(upstream.received[1].body)
        (part,) = sent["contents"][1]["parts"]
        assert part["thoughtSignature"] == signature


def test_another_key_does_not_get_it(bench_of: Make) -> None:
    bench = bench_of()
    bench.inference.remember("key_1", {"fc1": ("", Token("s", WireFormat.GEMINI))})
    assert bench.inference.thinking_of("key_1", "fc1") is not None
    assert bench.inference.thinking_of("key_2", "fc1") is None


def test_usage_that_a_provider_leaves_out_is_estimated(bench_of: Make) -> None:
    said = {**CHAT_WHOLE, "usage": None}
    with fake_upstream(answer(json.dumps(said).encode())) as upstream:
        opened = bench_of(upstream).call(chat(max_tokens=9), Surface.ANTHROPIC_MESSAGES)
        usage = json.loads(drink(opened))["usage"]
        assert usage["input_tokens"] > 0
        assert usage["output_tokens"] == 2
