"""Requests of every other format keep this format's rules once they are prepared and rendered."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from omniroute.errors import CallerError
from omniroute.formats.canonical import Request, ToolCall, ToolResult
from omniroute.formats.codec import no_pause
from omniroute.formats.losses import Losses
from omniroute.formats.ollama.request_parser import parse_request
from omniroute.formats.ollama.request_renderer import render_request
from omniroute.formats.prepare import prepare
from omniroute.formats.profile import profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.strategies import requests

OLLAMA = WireFormat.OLLAMA
OTHERS = [WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES, WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI]


@pytest.mark.parametrize("origin", OTHERS)
def test_t05_t07_results_find_their_calls_without_ids(origin: WireFormat) -> None:
    rendered = []

    @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    @given(requests(origin, media=False))
    def run(request: Request) -> None:
        losses, profile = Losses(OLLAMA), profile_for(OLLAMA, "qwen3")
        try:
            prepared, _ = prepare(request, profile, losses)
        except CallerError:
            return  # refused with a reason
        rendered.append(render_request(prepared, profile, losses, no_pause))
        again = parse_request(rendered[-1], no_pause)
        blocks = [block for message in again.messages for block in message.blocks]
        calls = [block for block in blocks if isinstance(block, ToolCall)]
        results = [block for block in blocks if isinstance(block, ToolResult)]
        assert [call.id for call in calls] == [result.call_id for result in results]
        assert [call.name for call in calls] == [result.name for result in results]

    run()
    assert rendered
