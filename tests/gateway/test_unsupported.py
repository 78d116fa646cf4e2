"""What a target must not be asked: refused in the client's dialect, with its place, before any provider is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import Surface
from tests.fakes.upstream import answer, fake_upstream
from tests.formats.strategies import PDF, PNG, WAV
from tests.gateway.callers import NODES, asked
from tests.gateway.conftest import Bench

Make = Callable[..., Bench]

CHAT, RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
MESSAGES, GEMINI, OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA


def _said(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, *parts]}]}


def _contents(part: dict[str, Any]) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "hi"}, part]}]}


def _input(part: dict[str, Any]) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}, part]}]}


_SPEAK: Final = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
_SAY: Final = {"responseModalities": ["AUDIO"]}
_PICTURES: Final = {"candidateCount": 2}
_HEAR: Final = {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}
_WATCH: Final = {"inlineData": {"mimeType": "video/mp4", "data": "AAAAGGZ0eXBtcDQy"}}
_SEARCH: Final = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
_OWN: Final = {"name": "look", "input_schema": {"type": "object"}}

REFUSED: Final[list[tuple[Surface, dict[str, Any], tuple[WireFormat, ...], str]]] = [
    # several answers
    (Surface.OPENAI_CHAT, {"n": 2}, (RESPONSES, MESSAGES, OLLAMA), "n"),
    (Surface.GEMINI, {"generationConfig": _PICTURES}, (RESPONSES, MESSAGES, OLLAMA), "generationConfig.candidateCount"),
    # audio out and in, video
    (Surface.OPENAI_CHAT, _SPEAK, (RESPONSES, MESSAGES, OLLAMA), "audio"),
    (Surface.GEMINI, {"generationConfig": _SAY}, (RESPONSES, MESSAGES, OLLAMA), "generationConfig.responseModalities"),
    (Surface.OPENAI_CHAT, _said(_HEAR), (MESSAGES, OLLAMA), "messages.0.content.1"),
    (Surface.GEMINI, _contents(_WATCH), (CHAT, RESPONSES, MESSAGES, OLLAMA), "contents.0.parts.1"),
    # what lies at another vendor
    (
        Surface.OPENAI_CHAT,
        _said({"type": "file", "file": {"file_id": "file-1"}}),
        (MESSAGES, GEMINI, OLLAMA),
        "messages.0.content.1",
    ),
    (Surface.OPENAI_RESPONSES, _input({"type": "input_image", "file_id": "file-1"}), (CHAT, MESSAGES, GEMINI), "input"),
    (
        Surface.ANTHROPIC_MESSAGES,
        _said({"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
        (CHAT, RESPONSES, GEMINI, OLLAMA),
        "messages.0.content.1",
    ),
    (Surface.OPENAI_RESPONSES, {"conversation": "conv_1"}, (CHAT, MESSAGES, GEMINI, OLLAMA), "conversation"),
    (Surface.ANTHROPIC_MESSAGES, {"container": "c_1"}, (CHAT, RESPONSES, GEMINI, OLLAMA), "container"),
    (Surface.GEMINI, {"cachedContent": "cachedContents/1"}, (CHAT, RESPONSES, MESSAGES, OLLAMA), "cachedContent"),
    # what another vendor runs, alone or demanded
    (Surface.ANTHROPIC_MESSAGES, {"tools": [_SEARCH]}, (CHAT, RESPONSES, GEMINI, OLLAMA), "tools"),
    (
        Surface.ANTHROPIC_MESSAGES,
        {"tools": [_SEARCH, _OWN], "tool_choice": {"type": "tool", "name": "web_search"}},
        (CHAT, RESPONSES, GEMINI, OLLAMA),
        "tools",
    ),
    (Surface.OPENAI_RESPONSES, {"tools": [{"type": "web_search"}]}, (CHAT, MESSAGES, GEMINI, OLLAMA), "tools"),
    (Surface.GEMINI, {"tools": [{"googleSearch": {}}]}, (CHAT, RESPONSES, MESSAGES, OLLAMA), "tools"),
    # what nobody knows
    (Surface.OPENAI_CHAT, _said({"type": "hologram"}), (RESPONSES, MESSAGES, GEMINI, OLLAMA), "messages.0.content.1"),
    # media that only some read
    (
        Surface.ANTHROPIC_MESSAGES,
        _said({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}),
        (OLLAMA,),
        "messages.0.content.1",
    ),
]
"""Client, what it asks beside "hi", formats of targets that refuse it, and the place that is named."""


@pytest.mark.parametrize(
    ("surface", "members", "target", "param"),
    [(surface, members, target, param) for surface, members, targets, param in REFUSED for target in targets],
)
def test_it_is_refused_before_any_provider_is_called(
    surface: Surface, members: dict[str, Any], target: WireFormat, param: str, bench_of: Make
) -> None:
    with fake_upstream(answer(b"{}")) as upstream:
        bench = bench_of(upstream, **NODES[target])
        status, _, body = asked(bench, surface, is_stream=False, **members)
        assert status == 400
        assert upstream.received == []
        assert bench.log.only.error_code == "unsupported_feature"
    _check_dialect(surface, json.loads(body), param)


def _check_dialect(surface: Surface, told: dict[str, Any], param: str) -> None:
    error = told["error"]
    match surface:
        case Surface.OPENAI_CHAT | Surface.OPENAI_RESPONSES:
            assert error["type"] == "invalid_request_error"
            assert (error["code"], error["param"]) == ("unsupported_feature", param)
        case Surface.ANTHROPIC_MESSAGES:
            assert told["type"] == "error"
            assert error["type"] == "invalid_request_error"
            assert error["message"].startswith(f"{param}: ")
        case Surface.GEMINI:
            assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
            assert param in json.dumps(error)
        case _:
            raise AssertionError(surface)


def test_what_must_not_be_dropped_is_asked_of_a_target_that_can(bench_of: Make) -> None:
    whole = b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"},{"index":1,"message":{"role":"assistant","content":"b"},"finish_reason":"stop"}]}'  # fmt: skip  # noqa: E501
    with fake_upstream(answer(whole)) as upstream:
        status, _, body = asked(
            bench_of(upstream, **NODES[CHAT]), Surface.GEMINI, is_stream=False, generationConfig=_PICTURES
        )
        assert status == 200
        assert len(json.loads(body)["candidates"]) == 2
        assert json.loads(upstream.received[0].body)["n"] == 2


def test_knobs_are_dropped_with_a_warning_and_content_is_not(bench_of: Make) -> None:
    said = _said({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}})
    knobs: dict[str, Any] = {"seed": 1, "logit_bias": {"1": 1}, "top_logprobs": 1, "logprobs": True, "verbosity": "low"}
    whole = b'{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}'  # fmt: skip  # noqa: E501
    with fake_upstream(answer(whole)) as upstream:
        bench = bench_of(upstream, **NODES[MESSAGES])
        status, headers, _ = asked(bench, Surface.OPENAI_CHAT, is_stream=False, **said, **knobs)
        assert status == 200
        warning = headers["X-OmniRoute-Warning"].split(",")
        assert len(warning) == 6
        assert warning[-1] == "dropped:+1"
        assert warning[0] == "dropped:media.detail"
        assert PNG.encode() in upstream.received[0].body
