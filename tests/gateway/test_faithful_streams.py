"""How a stream ends: once, in the client's own words, and never as if a torn answer were whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from gevent import sleep

from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import Surface
from tests.fakes.upstream import Act, answer, fake_upstream, sandboxed, stream
from tests.gateway.callers import GOOGLE, NODES, OLLAMA, SURFACES, Told, asked
from tests.gateway.conftest import Bench, quick_clocks
from tests.gateway.test_faithful_errors import check

Make = Callable[..., Bench]

CHATS = (Surface.OPENAI_CHAT, Surface.OPENAI_COMPLETIONS)
NUMBERED = "0:marsh 1:lamp 2:tower "
"""What the models of the sandbox say before they break off."""

LAST = {"response.completed", "response.incomplete", "message_stop"}
WORDS_OF_ERRORS = ("overload", "error", "broke off", "fail", "provider")


def events(surface: Surface, body: bytes) -> list[Any]:
    """The JSON of a client's stream, in order; `[DONE]` as that."""
    if surface in OLLAMA:
        return [json.loads(line) for line in body.splitlines()]
    if surface is Surface.GEMINI_ARRAY:
        found: list[Any] = json.loads(body)
        return found
    frames = [
        frame
        for frame in body.decode().replace("\r\n", "\n").split("\n\n")
        if frame.strip() and not frame.startswith(":")
    ]
    read: list[Any] = []
    for frame in frames:
        named = [line.removeprefix("event: ") for line in frame.splitlines() if line.startswith("event: ")]
        (data,) = [line.removeprefix("data: ") for line in frame.splitlines() if line.startswith("data: ")]
        read.append(data if data == "[DONE]" else json.loads(data))
        if named:
            assert named == [read[-1]["type"]]
        else:
            assert surface in (*CHATS, *GOOGLE)
    return read


def text_of(surface: Surface, read: list[Any]) -> str:
    """What the client shows as the assistant's words."""
    pieces: list[str] = []
    for event in read:
        if surface is Surface.OPENAI_CHAT and isinstance(event, dict):
            pieces += [choice["delta"].get("content") or "" for choice in event.get("choices", ())]
        elif surface is Surface.OPENAI_COMPLETIONS and isinstance(event, dict):
            pieces += [choice["text"] for choice in event.get("choices", ())]
        elif surface is Surface.OPENAI_RESPONSES and event["type"] == "response.output_text.delta":
            pieces.append(event["delta"])
        elif surface is Surface.ANTHROPIC_MESSAGES and event["type"] == "content_block_delta":
            pieces.append(event["delta"].get("text", ""))
        elif surface in GOOGLE:
            for candidate in event.get("candidates", ()):
                pieces += [part.get("text", "") for part in candidate.get("content", {}).get("parts", ())]
        elif surface is Surface.OLLAMA_CHAT:
            pieces.append(event.get("message", {}).get("content", ""))
        elif surface is Surface.OLLAMA_GENERATE:
            pieces.append(event.get("response", ""))
    return "".join(pieces)


def ends_of(surface: Surface, read: list[Any]) -> list[Any]:
    """Everything by which a client takes an answer for complete."""
    ends: list[Any] = []
    for event in read:
        if surface in CHATS and isinstance(event, dict):
            ends += [choice["finish_reason"] for choice in event.get("choices", ()) if choice.get("finish_reason")]
        elif surface in (Surface.OPENAI_RESPONSES, Surface.ANTHROPIC_MESSAGES):
            ends += [event["type"]] if event["type"] in LAST else []
        elif surface in GOOGLE:
            ends += [one["finishReason"] for one in event.get("candidates", ()) if one.get("finishReason")]
            ends += [event["promptFeedback"]["blockReason"]] if "promptFeedback" in event else []
        elif surface in OLLAMA and event.get("done"):
            ends.append(event["done_reason"])
    return ends


def error_in(surface: Surface, read: list[Any]) -> tuple[str, str]:
    """The error that ends a stream: its code, type or status, and its sentence. Checks the frames around it."""
    assert ends_of(surface, read) == []
    last = read[-1]
    if surface in CHATS:
        assert last == "[DONE]"
        assert read.count("[DONE]") == 1
        detail = read[-2]["error"]
        assert set(detail) >= {"message", "type", "code"}
        return detail["code"], detail["message"]
    if surface is Surface.OPENAI_RESPONSES:
        numbers = [event["sequence_number"] for event in read]
        assert numbers == list(range(len(read)))
        if last["type"] == "error":
            return last["code"], last["message"]
        assert last["type"] == "response.failed"
        assert last["response"]["status"] == "failed"
        assert not any(event["type"].endswith((".done", ".completed")) for event in read)
        return last["response"]["error"]["code"], last["response"]["error"]["message"]
    if surface is Surface.ANTHROPIC_MESSAGES:
        assert last["type"] == "error"
        assert set(last) == {"type", "error", "request_id"}
        kinds = {event["type"] for event in read}
        assert kinds.isdisjoint({"message_stop", "message_delta", "content_block_stop"})
        return last["error"]["type"], last["error"]["message"]
    if surface in GOOGLE:
        assert set(last) == {"error"}
        assert set(last["error"]) <= {"code", "message", "status", "details"}
        return last["error"]["status"], last["error"]["message"]
    assert set(last) == {"error"}
    return "", last["error"]


OVERLOADED = {
    Surface.OPENAI_CHAT: "overloaded",
    Surface.OPENAI_COMPLETIONS: "overloaded",
    Surface.OPENAI_RESPONSES: "server_is_overloaded",
    Surface.ANTHROPIC_MESSAGES: "overloaded_error",
    Surface.GEMINI: "UNAVAILABLE",
    Surface.GEMINI_ARRAY: "UNAVAILABLE",
    Surface.OLLAMA_CHAT: "",
    Surface.OLLAMA_GENERATE: "",
}
BROKEN = {
    Surface.OPENAI_CHAT: "upstream_error",
    Surface.OPENAI_COMPLETIONS: "upstream_error",
    Surface.OPENAI_RESPONSES: "upstream_error",
    Surface.ANTHROPIC_MESSAGES: "api_error",
    Surface.GEMINI: "INTERNAL",
    Surface.GEMINI_ARRAY: "INTERNAL",
    Surface.OLLAMA_CHAT: "",
    Surface.OLLAMA_GENERATE: "",
}

pairs = pytest.mark.parametrize(("surface", "upstream_format"), [(one, other) for one in SURFACES for other in NODES])


@pairs
def test_an_error_in_mid_stream_is_told_in_the_clients_words(
    surface: Surface, upstream_format: WireFormat, bench_of: Make
) -> None:
    with fake_upstream(sandboxed) as upstream:
        bench = bench_of(upstream, **NODES[upstream_format])
        status, _, body = asked(bench, surface, is_stream=True, model="late-error")
    read = events(surface, body)
    code, message = error_in(surface, read)
    assert (status, code) == (200, OVERLOADED[surface])
    assert "overload" in message.lower() or "busy" in message
    assert text_of(surface, read) == NUMBERED
    assert (bench.log.only.outcome, bench.log.only.error_code) == ("failed", "overloaded")


@pytest.mark.parametrize("model", ["no-finish", "cut"])
@pairs
def test_t35_a_torn_stream_never_looks_complete(
    surface: Surface, upstream_format: WireFormat, model: str, bench_of: Make
) -> None:
    with fake_upstream(sandboxed) as upstream:
        bench = bench_of(upstream, **NODES[upstream_format])
        status, _, body = asked(bench, surface, is_stream=True, model=model)
    read = events(surface, body)
    code, _ = error_in(surface, read)
    assert (status, code) == (200, BROKEN[surface])
    said = text_of(surface, read)
    assert said.startswith(NUMBERED)
    assert not any(word in said for word in WORDS_OF_ERRORS)
    assert bench.log.only.outcome == "truncated"


@pairs
def test_an_error_instead_of_a_stream_is_an_error_of_http(
    surface: Surface, upstream_format: WireFormat, bench_of: Make
) -> None:
    with fake_upstream(sandboxed) as upstream:
        bench = bench_of(upstream, **NODES[upstream_format])
        for model, row, kind in (
            ("early-error", "overloaded", "overloaded"),
            ("empty-stream", "fault", "protocol"),
            ("garbage", "fault", "protocol"),
        ):
            for is_stream in (True, False):
                bench.log.records.clear()
                bench.forget_failures()
                check(row, surface, asked(bench, surface, is_stream=is_stream, model=model))
                record = bench.log.only
                assert (record.outcome, record.attempts[0].kind) == ("failed", kind)


@pytest.mark.parametrize("model", ["double-end", "refusal", "filter", "echo"])
@pairs
def test_t72_a_good_stream_has_one_end(
    surface: Surface, upstream_format: WireFormat, model: str, bench_of: Make
) -> None:
    with fake_upstream(sandboxed) as upstream:
        bench = bench_of(upstream, **NODES[upstream_format])
        status, _, body = asked(bench, surface, is_stream=True, model=model)
        assert len(upstream.received) == 1, "the end of an answer is no reason to ask again"
    read = events(surface, body)
    assert status == 200
    assert len(ends_of(surface, read)) == 1
    if surface in CHATS:
        assert read.count("[DONE]") == 1
        assert read[-1] == "[DONE]"
    assert not any("error" in event and event["error"] for event in read if isinstance(event, dict))
    record = bench.log.only
    assert (record.outcome, [attempt.failure_class for attempt in record.attempts]) == ("success", [None])


@pairs
def test_an_event_over_a_megabyte_is_delivered_or_refused(
    surface: Surface, upstream_format: WireFormat, bench_of: Make
) -> None:
    with fake_upstream(sandboxed) as upstream:
        bench = bench_of(upstream, **NODES[upstream_format])
        told = asked(bench, surface, is_stream=True, model="big-delta")
    if told[0] != 200:
        check("fault", surface, told)
        return
    read = events(surface, told[2])
    assert len(ends_of(surface, read)) == 1
    assert len(text_of(surface, read)) > 1_000_000


# --- what comes before any content -----------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream_format", NODES)
@pytest.mark.parametrize("surface", SURFACES)
def test_t52_a_stream_that_is_none(surface: Surface, upstream_format: WireFormat, bench_of: Make) -> None:
    acts: list[tuple[Act, str]] = [
        (answer(b"", content_type="text/event-stream"), "fault"),
        (answer(b"<html><title>Welcome</title></html>", content_type="text/html"), "fault"),
        (answer(b"", content_type="application/json"), "fault"),
        (answer(b'{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}'), "rate"),
    ]
    for act, row in acts:
        with fake_upstream(act) as upstream:
            check(row, surface, asked(bench_of(upstream, **NODES[upstream_format]), surface, is_stream=True))


@pytest.mark.parametrize("upstream_format", NODES)
@pytest.mark.parametrize("surface", SURFACES)
def test_a_failure_after_the_status_line_is_an_event(
    surface: Surface, upstream_format: WireFormat, bench_of: Make
) -> None:
    # The provider speaks later than the gateway waits with its 200, and then only to refuse.
    def late(sock: Any, request: Any) -> None:
        sleep(0.03)
        answer(b"", status=503)(sock, request)

    with fake_upstream(late) as upstream:
        bench = bench_of(upstream, **NODES[upstream_format], clocks=quick_clocks(commit_after_s=0.005))
        told: Told = asked(bench, surface, is_stream=True)
    body = told[2].lstrip() if surface in GOOGLE else told[2].replace(b'event: ping\ndata: {"type":"ping"}\n\n', b"")
    code, _ = error_in(surface, events(surface, body))
    assert (told[0], code) == (200, OVERLOADED[surface])
    assert bench.log.only.outcome == "failed"


def test_a_filter_ends_a_messages_stream_as_a_refusal(bench_of: Make) -> None:
    filtered = b'{"error":{"message":"No.","type":"invalid_request_error","code":"content_filter"}}'

    def late(sock: Any, request: Any) -> None:
        sleep(0.03)
        answer(filtered, status=400)(sock, request)

    begun = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
    for act, said in ((late, ""), (stream(begun, 0.02, b"data: " + filtered + b"\n\n"), "Hello")):
        with fake_upstream(act) as upstream:
            bench = bench_of(upstream, clocks=quick_clocks(commit_after_s=0.005))
            status, _, body = asked(bench, Surface.ANTHROPIC_MESSAGES, is_stream=True)
        read = events(Surface.ANTHROPIC_MESSAGES, body.replace(b'event: ping\ndata: {"type":"ping"}\n\n', b""))
        kinds = [event["type"] for event in read]
        assert (status, kinds[0], kinds[-2:]) == (200, "message_start", ["message_delta", "message_stop"])
        assert read[-2]["delta"]["stop_reason"] == "refusal"
        assert text_of(Surface.ANTHROPIC_MESSAGES, read) == said
        assert kinds.count("content_block_start") == kinds.count("content_block_stop")
        assert (bench.log.only.outcome, bench.log.only.error_code) == ("failed", "content_filter")


def test_our_account_is_not_spoken_of_in_mid_stream(bench_of: Make) -> None:
    begun = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
    broken = b'data: {"error":{"message":"Incorrect API key provided: abc","type":"invalid_request_error",'
    broken += b'"code":"invalid_api_key"}}\n\n'
    with fake_upstream(stream(begun, broken)) as upstream:
        bench = bench_of(upstream)
        _, _, body = asked(bench, Surface.OPENAI_CHAT, is_stream=True)
    assert error_in(Surface.OPENAI_CHAT, events(Surface.OPENAI_CHAT, body))[0] == "provider_credentials"
    assert bench.log.only.error_code == "provider_credentials"


def test_an_error_in_no_vendors_shape_is_put_into_the_clients(bench_of: Make) -> None:
    begun = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"m-1"}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"Hello"}}\n\n'
    )
    broken = b'event: error\ndata: {"type":"error","message":"upstream overloaded","code":529}\n\n'
    with fake_upstream(stream(begun, broken)) as upstream:
        bench = bench_of(upstream, **NODES[WireFormat.ANTHROPIC_MESSAGES])
        _, _, body = asked(bench, Surface.ANTHROPIC_MESSAGES, is_stream=True)
    read = events(Surface.ANTHROPIC_MESSAGES, body)
    assert error_in(Surface.ANTHROPIC_MESSAGES, read)[0] == "overloaded_error"


@pytest.mark.parametrize("surface", SURFACES)
def test_bytes_that_are_no_text_are_a_fault_of_the_provider(surface: Surface, bench_of: Make) -> None:
    begun = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
    broken = b'data: {"usage":{},"choices":[{"index":0,"delta":{"content":"\xff\xfe"},"finish_reason":"stop"}]}\n\n'
    with fake_upstream(stream(begun, 0.02, broken)) as upstream:
        bench = bench_of(upstream)
        status, _, body = asked(bench, surface, is_stream=True)
    assert (status, error_in(surface, events(surface, body))[0]) == (200, BROKEN[surface])
    assert bench.log.only.outcome == "truncated"
