"""Requests of every other format keep this format's rules once they are prepared and rendered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omniroute.errors import CallerError
from omniroute.formats.anthropic_messages.request_parser import parse_request
from omniroute.formats.anthropic_messages.request_renderer import render_request
from omniroute.formats.canonical import Request
from omniroute.formats.codec import no_pause
from omniroute.formats.losses import Losses
from omniroute.formats.prepare import prepare
from omniroute.formats.profile import Profile, ReasoningStyle, profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.anthropic_messages.fixtures import value
from tests.formats.strategies import broken_histories, requests

MESSAGES = WireFormat.ANTHROPIC_MESSAGES
OTHERS = [WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES, WireFormat.GEMINI, WireFormat.OLLAMA]
PROFILES = st.builds(
    lambda style, prefill, schema: profile_for(
        MESSAGES, "claude", reasoning=style, takes_prefill=prefill, takes_output_schema=schema
    ),
    st.sampled_from([ReasoningStyle.NONE, ReasoningStyle.ADAPTIVE, ReasoningStyle.BUDGET]),
    st.booleans(),
    st.booleans(),
)


def check(request: Request, profile: Profile) -> None:
    losses = Losses(MESSAGES)
    try:
        prepared, _ = prepare(request, profile, losses)
        body = render_request(prepared, profile, losses, no_pause)
    except CallerError:
        return  # refused with a reason
    assert parse_request(body, no_pause).model == "claude"
    check_turns(value(body))
    check_parameters(value(body))


def check_turns(body: dict[str, Any]) -> None:
    messages = body["messages"]
    roles = [message["role"] for message in messages]
    assert roles == [("user", "assistant")[number % 2] for number in range(len(roles))]
    open_calls: list[str] = []
    for message in messages:
        content = message["content"]
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        assert blocks
        kinds = [block["type"] for block in blocks]
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert kinds[: len(answered)] == ["tool_result"] * len(answered)
        assert answered == open_calls
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert all(block["text"].strip() for block in blocks if block["type"] == "text")
        assert all(isinstance(block["input"], dict) for block in blocks if block["type"] == "tool_use")
    assert not open_calls


def check_parameters(body: dict[str, Any]) -> None:
    thinking = body.get("thinking", {"type": "disabled"})
    assert body["max_tokens"] > thinking.get("budget_tokens", 0)
    assert 0 <= body.get("temperature", 0) <= 1
    if thinking["type"] == "enabled":
        assert thinking["budget_tokens"] >= 1024
        assert body.get("tool_choice", {"type": "auto"})["type"] in ("auto", "none")
        assert not {"temperature", "top_k"} & set(body)
    if "tool_choice" in body:
        assert body["tool_choice"]["type"] == "none" or body["tools"]
    blocks = [*body.get("tools", ()), *(block for block in body.get("system", ()) if isinstance(block, dict))]
    for message in body["messages"]:
        blocks += message["content"] if isinstance(message["content"], list) else []
    assert sum("cache_control" in block for block in blocks) <= 4


@pytest.mark.parametrize("origin", OTHERS)
def test_t31_t32_t43_t60_any_request_keeps_the_rules(origin: WireFormat) -> None:
    seen = []

    @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    @given(requests(origin), PROFILES)
    def run(request: Request, profile: Profile) -> None:  # one per origin, so that each has its own examples
        seen.append(request)
        check(request, profile)

    run()
    assert seen


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(broken_histories(), PROFILES)
def test_t07_any_broken_history_keeps_the_rules(history: Any, profile: Profile) -> None:
    request = history if isinstance(history, Request) else Request(WireFormat.OPENAI_CHAT, "m", tuple(history))
    check(request, profile)
    assert request.origin is not MESSAGES
