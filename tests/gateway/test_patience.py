"""The limits of a stream's beginning, stretched for what takes its time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omniroute.formats.splice import scan
from omniroute.gateway.patience import extended, extension_s
from omniroute.providers.upstream import Deadlines

TOOL = {"type": "function", "function": {"name": "f" * 40, "parameters": {"type": "object", "description": "d" * 1500}}}


def said(count: int, size: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": "x" * size}] * count


@pytest.mark.parametrize(
    ("body", "extra"),
    [
        ({"messages": said(1, 10)}, 0.0),
        ({"messages": said(151, 200)}, 20.0),
        ({"messages": said(2, 130_000)}, 20.0),
        ({"messages": said(401, 100)}, 45.0),
        ({"messages": said(2, 400_000)}, 45.0),
        ({"messages": said(1, 10), "tools": [TOOL] * 15}, 15.0),
        ({"messages": said(1, 10), "tools": [TOOL] * 14}, 0.0),
        ({"messages": said(1, 10), "reasoning_effort": "high"}, 30.0),
        ({"messages": said(1, 10), "reasoning_effort": "low"}, 0.0),
        ({"input": "x", "reasoning": {"effort": "xhigh"}}, 30.0),
        ({"messages": said(1, 10), "thinking": {"type": "enabled", "budget_tokens": 16_000}}, 30.0),
        ({"messages": said(1, 10), "thinking": {"type": "enabled", "budget_tokens": 15_999}}, 0.0),
        ({"messages": said(1, 10), "output_config": {"effort": "max"}}, 30.0),
        ({"contents": [], "generationConfig": {"thinkingConfig": {"thinkingBudget": 20_000}}}, 30.0),
        ({"contents": [], "generationConfig": {"thinkingConfig": {"thinkingLevel": "HIGH"}}}, 30.0),
        ({"messages": said(160, 200), "tools": [TOOL] * 20, "reasoning_effort": "max"}, 65.0),
        ({"messages": said(1, 30_000), "tools": 5}, 0.0),
    ],
)
def test_what_takes_its_time(body: dict[str, Any], extra: float) -> None:
    top = scan(json.dumps(body).encode())
    assert extension_s(top, effort=None, model="m", is_local=False) == extra
    assert extension_s(top, effort=None, model="m", is_local=True) == extra + 60.0


def test_the_models_name_counts_too() -> None:
    top = scan(b'{"messages":[]}')
    assert extension_s(top, effort="high", model="m", is_local=False) == 30.0
    assert extension_s(top, effort=None, model="o4-mini-deep-research", is_local=False) == 60.0


def test_limits_grow_within_what_clients_wait_for() -> None:
    limits = Deadlines()
    assert extended(limits, 0.0, most_headers_s=110.0, most_content_s=180.0) is limits
    grown = extended(limits, 20.0, most_headers_s=110.0, most_content_s=180.0)
    assert (grown.headers_s, grown.content_s, grown.idle_s) == (80.0, 100.0, limits.idle_s)
    most = extended(limits, 500.0, most_headers_s=110.0, most_content_s=180.0)
    assert (most.headers_s, most.content_s) == (110.0, 180.0)
    own = extended(Deadlines(headers_s=300.0, content_s=400.0), 20.0, most_headers_s=110.0, most_content_s=180.0)
    assert (own.headers_s, own.content_s) == (300.0, 400.0), "what the operator has set is no less for it"
