"""Paths, options, chance and pace: what does not belong to one dialect."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from omniroute.providers.sandbox import LISTED, NEVER, Dialect, Ending, Options, respond
from omniroute.providers.sandbox.service import dialect_of
from omniroute.secret import Secret
from tests.providers.sandbox.wire import CHAT, MESSAGES, answer, ask, content

HELLO = [{"role": "user", "content": "Hello"}]
ECHO = {"model": "echo", "max_tokens": 50, "messages": HELLO}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/chat/completions/", CHAT + "?a=b"])
def test_chat_paths(path: str) -> None:
    assert answer(path, ECHO)["object"] == "chat.completion"


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/messages?beta=true"])
def test_message_paths(path: str) -> None:
    assert answer(path, ECHO)["type"] == "message"


def test_unknown_path_is_refused_in_the_callers_dialect() -> None:
    assert answer("/v1/nowhere", {})["error"]["code"] == "unknown_url"
    assert answer("/v1/nowhere", {}, anthropic_version="2023-06-01")["type"] == "error"


def test_model_lists() -> None:
    ids = [model.id for model in LISTED]
    openai = answer("/v1/models", {})
    assert [model["id"] for model in openai["data"]] == ids
    anthropic = answer("/v1/models", {}, Anthropic_Version="2023-06-01")
    assert [model["id"] for model in anthropic["data"]] == ids
    assert (anthropic["first_id"], anthropic["last_id"], anthropic["has_more"]) == (ids[0], ids[-1], False)
    assert answer("/v1/models/echo", {})["owned_by"] == "sandbox"
    assert answer("/v1/models/sandbox%2Fecho", {}, anthropic_version="x")["display_name"] == "Sandbox Echo"
    assert answer("/v1/models/other", {})["error"]["code"] == "model_not_found"


def test_dialect_of_a_path() -> None:
    assert dialect_of("/v1/chat/completions?x", {}) is Dialect.OPENAI_CHAT
    assert dialect_of("/v1/messages/count_tokens", {}) is Dialect.ANTHROPIC_MESSAGES
    assert dialect_of("/v1/models", {"anthropic-version": "1"}) is Dialect.ANTHROPIC_MESSAGES
    assert dialect_of("/v1/models", {}) is Dialect.OPENAI_CHAT


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer right"}, 200),
        ({"x_api_key": "right"}, 200),
        ({"X_Api_Key": "wrong", "authorization": "Bearer right"}, 401),
    ],
)
def test_required_key(headers: dict[str, str], status: int) -> None:
    options = Options(require_key=Secret("right"))
    assert ask(CHAT, ECHO, options=options, **headers).status == status
    assert ask(MESSAGES, ECHO, options=options, **headers).status == status


def delays(model: str, **arguments: Any) -> list[float]:
    body = {"model": model, "max_tokens": 5000, "messages": HELLO, "stream": True}
    return [delay for delay, _ in ask(MESSAGES, body, **arguments).frames]


def test_pace_of_a_story() -> None:
    assert sum(delays("story-26")) == pytest.approx(25 * 0.04)
    assert sum(delays("story-26-5")) == pytest.approx(25 * 0.005)
    assert sum(delays("story", options=Options(chunks=11, chunk_interval_ms=10))) == pytest.approx(10 * 0.01)
    by_name = delays("story-11-5", options=Options(chunk_interval_ms=90), x_sandbox_chunk_interval_ms="70")
    assert sum(by_name) == pytest.approx(10 * 0.005), "the name counts before header and option"
    assert sum(delays("story-9", x_sandbox_chunk_interval_ms="0")) == 0
    assert 5 < sum(delays("story")) < 10


def test_slow_waits_before_its_content() -> None:
    waits = delays("slow-1500")
    assert waits[:3] == [0.0, 0.0, 1.5], "the opening events come at once"
    assert sum(waits) == 1.5
    assert ask(CHAT, {**ECHO, "model": "slow"}).head_delay_s == 3.0


def test_hang_never_answers() -> None:
    script = ask(CHAT, {**ECHO, "model": "hang"})
    assert (script.head_delay_s, script.ending, list(script.frames)) == (NEVER, Ending.HANG, [])
    streamed = ask(CHAT, {**ECHO, "model": "hang", "stream": True})
    assert (streamed.head_delay_s, streamed.ending) == (0.0, Ending.HANG)


def test_latency_holds_back_the_head_of_every_answer() -> None:
    options = Options(latency_ms=250)
    assert ask(CHAT, ECHO, options=options).head_delay_s == 0.25
    assert ask(CHAT, {**ECHO, "model": "fail-500"}, options=options).head_delay_s == 0.25
    assert ask(CHAT, {**ECHO, "model": "slow-1000"}, options=options).head_delay_s == 1.25
    assert ask(CHAT, ECHO, options=options, x_sandbox_latency_ms="10").head_delay_s == 0.01
    assert ask(CHAT, {**ECHO, "model": "hang"}, options=options).head_delay_s == NEVER


def test_jitter_is_drawn_from_the_given_chance() -> None:
    options = Options(latency_ms=100, jitter_ms=50)
    body = json.dumps(ECHO).encode()
    first = [respond(CHAT, {}, body, options=options, rng=random.Random(7)).head_delay_s for _ in range(2)]
    rng = random.Random(7)
    row = [respond(CHAT, {}, body, options=options, rng=rng).head_delay_s for _ in range(50)]
    assert first[0] == first[1] == row[0]
    assert all(0.1 <= delay <= 0.15 for delay in row)
    assert len(set(row)) == 50


def test_share_of_requests_fails() -> None:
    options = Options(fail_rate=0.3, fail_status=503)
    rng = random.Random(1)
    body = json.dumps(ECHO).encode()
    statuses = [respond(CHAT, {}, body, options=options, rng=rng).status for _ in range(1000)]
    assert set(statuses) == {200, 503}
    assert 250 <= statuses.count(503) <= 350
    assert len({respond(CHAT, {}, body, options=options).status for _ in range(20)}) == 1, (
        "chance follows from the body"
    )


@pytest.mark.parametrize("value", ["x", "-1", "1e99", "nan"])
def test_override_that_cannot_be_used_is_refused(value: str) -> None:
    assert ask(CHAT, ECHO, x_sandbox_latency_ms=value).status == 400


def test_overrides_of_chunks() -> None:
    body = {"model": "story", "messages": HELLO, "stream": True}
    text = content(ask(CHAT, body, x_sandbox_chunks="3", x_sandbox_chunk_size="8"))
    assert [f'"content":"{n}:' in text.decode() for n in range(4)] == [True, True, True, False]
    assert b'"content":"0:marsh "' in text


def test_deep_json_is_refused() -> None:
    nested = b'{"model":"echo","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    assert respond(CHAT, {}, nested).status == 400


def test_large_body_is_echoed() -> None:
    text = "word " * 200_000
    body = {"model": "echo", "messages": [{"role": "user", "content": text}]}
    assert answer(CHAT, body)["choices"][0]["message"]["content"] == text
    streamed = ask(CHAT, {**body, "stream": True})
    assert 40 <= sum(1 for _ in streamed.frames) <= 50
