"""Reasoning that we gave an id to, on its way to a provider that would look the id up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from omniroute.gateway.dialects import Surface
from tests.fakes.upstream import answer, fake_upstream
from tests.gateway.conftest import Bench

Make = Callable[..., Bench]

OURS = "rs_" + "0123456789abcdef" * 2 + "0000"
THEIRS = "rs_68af4030baa48193b0b43b4c2a176a1a0e6967589f080e77"
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "yes", "annotations": []}],
}


def sent(bench_of: Make, reasoning: dict[str, Any]) -> tuple[bytes, Any]:
    said = json.dumps(
        {
            "model": "up/m",
            "input": [
                {"role": "user", "content": "is it?"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], **reasoning},
                MESSAGE,
                {"role": "user", "content": "sure?"},
            ],
        }
    ).encode()
    reply = json.dumps({"id": "resp_1", "object": "response", "status": "completed", "output": [MESSAGE], "model": "m"})
    with fake_upstream(answer(reply.encode())) as upstream:
        assert bench_of(upstream, api_type="responses").call(said, Surface.OPENAI_RESPONSES).status == 200
        return said, json.loads(upstream.received[0].body)


@pytest.mark.parametrize("sealed", [{}, {"encrypted_content": None}])
def test_t64_reasoning_of_a_translated_answer_stays_behind(bench_of: Make, sealed: dict[str, Any]) -> None:
    _, body = sent(bench_of, {"id": OURS, **sealed})
    assert [item.get("type", "message") for item in body["input"]] == ["message", "message", "message"]
    assert body["input"][1] == MESSAGE


@pytest.mark.parametrize("own", [{"id": THEIRS}, {"id": THEIRS, "encrypted_content": "gAAAA"}])
def test_reasoning_of_the_provider_passes_untouched(bench_of: Make, own: dict[str, Any]) -> None:
    said, body = sent(bench_of, own)
    assert body == {**json.loads(said), "model": "m"}
