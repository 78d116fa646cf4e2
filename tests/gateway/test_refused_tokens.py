"""T18: a provider that refuses an opaque token of the history is asked once more, without any."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import Surface
from tests.fakes.upstream import Act, answer, fake_upstream
from tests.gateway.callers import NODES, asked
from tests.gateway.conftest import Bench
from tests.gateway.provider_errors import CASES

Make = Callable[..., Bench]

REFUSALS = {case.name: case for case in CASES if case.kind == "opaque_token"}
SIGNATURE = "EpAB5ignatureThatNobodyCanRead"

MESSAGES: dict[str, Any] = {
    "max_tokens": 4000,
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    "messages": [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": SIGNATURE},
                {"type": "redacted_thinking", "data": SIGNATURE},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 5}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"}]},
    ],
}
RESPONSES: dict[str, Any] = {
    "store": False,
    "input": [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SIGNATURE},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "seen"},
    ],
}
GEMINI: dict[str, Any] = {
    "contents": [
        {"role": "user", "parts": [{"text": "hi"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "look", "args": {}}, "thoughtSignature": SIGNATURE},
                {"functionCall": {"name": "look", "args": {"again": True}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look", "response": {"x": 1}}},
                {"functionResponse": {"name": "look", "response": {"x": 2}}},
            ],
        },
    ],
}
ANSWERS: dict[WireFormat, Any] = {
    WireFormat.ANTHROPIC_MESSAGES: {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [{"type": "text", "text": "fine"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 1},
    },
    WireFormat.OPENAI_RESPONSES: {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "m-1",
        "output": [
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "fine", "annotations": []}],
            }
        ],
        "usage": {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4},
    },
    WireFormat.GEMINI: {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "fine"}]}, "finishReason": "STOP"}],
        "modelVersion": "m-1",
    },
}
OWN = [
    (Surface.ANTHROPIC_MESSAGES, WireFormat.ANTHROPIC_MESSAGES, MESSAGES, "anthropic-signature"),
    (Surface.ANTHROPIC_MESSAGES, WireFormat.ANTHROPIC_MESSAGES, MESSAGES, "anthropic-expected"),
    (Surface.OPENAI_RESPONSES, WireFormat.OPENAI_RESPONSES, RESPONSES, "openai-encrypted"),
    (Surface.GEMINI, WireFormat.GEMINI, GEMINI, "gemini-corrupted"),
    (Surface.GEMINI, WireFormat.GEMINI, GEMINI, "gemini-missing"),
]


def refusal(name: str) -> Act:
    return answer(REFUSALS[name].data, status=400)


def good(wire_format: WireFormat) -> Act:
    return answer(json.dumps(ANSWERS[wire_format]).encode())


@pytest.mark.parametrize(("surface", "wire_format", "body", "name"), OWN)
def test_t18_the_same_target_is_asked_again_without_tokens(
    surface: Surface, wire_format: WireFormat, body: dict[str, Any], name: str, bench_of: Make
) -> None:
    with fake_upstream(refusal(name), good(wire_format)) as upstream:
        bench = bench_of(upstream, **NODES[wire_format])
        status, headers, given = asked(bench, surface, is_stream=False, **body)
    first, second = (request.body.decode() for request in upstream.received)
    assert status == 200
    assert b"fine" in given
    assert SIGNATURE in first
    assert SIGNATURE not in second
    assert "look" in second, "calls and results stay"
    assert "dropped:thinking" in headers["X-OmniRoute-Warning"]
    assert headers["X-OmniRoute-Attempts"] == "2"
    record = bench.log.only
    assert record.outcome == "success"
    assert [attempt.kind for attempt in record.attempts] == ["opaque_token", None]
    assert {attempt.connection_id for attempt in record.attempts} == {"conn_0"}


def test_t18_what_goes_without_tokens_is_a_request_that_the_vendor_takes(bench_of: Make) -> None:
    seen: dict[WireFormat, Any] = {}
    for surface, wire_format, body, name in OWN:
        with fake_upstream(refusal(name), good(wire_format)) as upstream:
            asked(bench_of(upstream, **NODES[wire_format]), surface, is_stream=False, **body)
            seen[wire_format] = json.loads(upstream.received[1].body)
    messages = seen[WireFormat.ANTHROPIC_MESSAGES]
    assert [block["type"] for block in messages["messages"][1]["content"]] == ["tool_use"]
    assert messages["thinking"] == {"type": "disabled"}, "a loop of calls cannot think without its own thoughts"
    responses = seen[WireFormat.OPENAI_RESPONSES]
    assert [item.get("type", "message") for item in responses["input"]] == [
        "message",
        "function_call",
        "function_call_output",
    ]
    assert "id" not in responses["input"][1], "an id ties a call to the reasoning that is gone"
    first, second = seen[WireFormat.GEMINI]["contents"][1]["parts"]
    assert first["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in second


def test_t18_a_second_refusal_is_the_last_and_the_first_is_told(bench_of: Make) -> None:
    with fake_upstream(refusal("anthropic-signature")) as upstream:
        bench = bench_of(upstream, **NODES[WireFormat.ANTHROPIC_MESSAGES])
        status, _, given = asked(bench, Surface.ANTHROPIC_MESSAGES, is_stream=False, **MESSAGES)
        assert len(upstream.received) == 2
    assert (status, given) == (400, REFUSALS["anthropic-signature"].data)
    assert [attempt.kind for attempt in bench.log.only.attempts] == ["opaque_token", "opaque_token"]


def test_t18_without_tokens_nothing_is_asked_twice(bench_of: Make) -> None:
    with fake_upstream(refusal("anthropic-signature")) as upstream:
        bench = bench_of(upstream, **NODES[WireFormat.ANTHROPIC_MESSAGES])
        status, _, _ = asked(bench, Surface.ANTHROPIC_MESSAGES, is_stream=False)
        assert len(upstream.received) == 1
    assert status == 400


def test_t18_a_stream_is_asked_again_as_well(bench_of: Make) -> None:
    refused = REFUSALS["openai-encrypted"].data
    event = b'event: error\ndata: {"type":"error",' + refused[1:-1] + b"}\n\n"
    with fake_upstream(answer(event, content_type="text/event-stream"), good(WireFormat.OPENAI_RESPONSES)) as upstream:
        bench = bench_of(upstream, **NODES[WireFormat.OPENAI_RESPONSES])
        status, _, given = asked(bench, Surface.OPENAI_RESPONSES, is_stream=True, **RESPONSES)
    assert status == 200
    assert b"event: response.completed" in given
    assert SIGNATURE not in upstream.received[1].body.decode()
    assert [attempt.kind for attempt in bench.log.only.attempts] == ["opaque_token", None]


def test_t18_reasoning_that_the_gateway_kept_is_left_out_too(bench_of: Make) -> None:
    called = {
        **ANSWERS[WireFormat.ANTHROPIC_MESSAGES],
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": SIGNATURE},
            {"type": "tool_use", "id": "toolu_7", "name": "look", "input": {}},
        ],
        "stop_reason": "tool_use",
    }
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    question = {"role": "user", "content": "hi"}
    acts = (
        answer(json.dumps(called).encode()),
        refusal("anthropic-signature"),
        good(WireFormat.ANTHROPIC_MESSAGES),
    )
    with fake_upstream(*acts) as upstream:
        bench = bench_of(upstream, **NODES[WireFormat.ANTHROPIC_MESSAGES])
        _, _, given = asked(bench, Surface.OPENAI_CHAT, is_stream=False, messages=[question], tools=tools)
        turn = json.loads(given)["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": "seen"}
        status, _, _ = asked(
            bench, Surface.OPENAI_CHAT, is_stream=False, messages=[question, turn, result], tools=tools
        )
    bodies = [request.body.decode() for request in upstream.received]
    assert status == 200
    assert [SIGNATURE in body for body in bodies] == [False, True, False]
