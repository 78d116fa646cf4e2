"""Numbered pitfalls of the wire formats that only show while requests and streams are moving."""

from __future__ import annotations

import json
import statistics
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import gevent
import pytest

from omniroute.formats.canonical import Effort
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import Surface
from omniroute.gateway.handover import Answer
from tests.fakes.upstream import Act, Received, answer, fake_upstream, stream
from tests.gateway.callers import NODES, REQUESTS, SURFACES, asked
from tests.gateway.conftest import KEY, Bench

Make = Callable[..., Bench]

CHAT, RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
MESSAGES, GEMINI, OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA
FORMATS: Final = tuple(NODES)


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c1", "model": "m", "choices": [choice]}).encode() + b"\n\n"


USAGE: Final = b'data: {"id":"c1","model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n'
STREAM: Final = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "hel"}),
    chunk({"content": "lo"}),
    chunk({}, "stop"),
    USAGE,
    b"data: [DONE]\n\n",
)


def completion(message: dict[str, Any], finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    return json.dumps(
        {"id": "c1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    ).encode()


HELLO: Final = completion({"content": "hello"})


def steps_of(opened: Answer) -> Any:
    assert not isinstance(opened.body, bytes)
    return opened.body


def call(bench: Bench, surface: Surface, *, is_stream: bool, **more: Any) -> Answer:
    body = dict(REQUESTS[surface])
    if surface in (Surface.GEMINI, Surface.GEMINI_ARRAY):
        return bench.call(body, surface, model="up/m", is_stream=is_stream, **more)
    return bench.call({**body, "model": "up/m", "stream": is_stream}, surface, **more)


# --- streams ---------------------------------------------------------------------------------------------------------


def compressed(pieces: tuple[bytes, ...], sent_at: list[float], gap_s: float) -> Act:
    """A stream that a host compresses although nobody asked, flushed after each event."""

    def act(sock: Any, _request: Received) -> bool:
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n"
        sock.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            packed = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
            sent_at.append(time.monotonic())
            sock.sendall(b"%x\r\n%b\r\n" % (len(packed), packed))
            gevent.sleep(gap_s)
        last = packer.flush()
        sock.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))
        return True

    return act


@pytest.mark.parametrize("surface", [Surface.OPENAI_CHAT, Surface.ANTHROPIC_MESSAGES])
def test_t53_no_compression_is_asked_for_and_a_compressed_stream_is_read_as_it_comes(
    bench_of: Make, surface: Surface
) -> None:
    sent_at: list[float] = []
    with fake_upstream(compressed(STREAM, sent_at, 0.1)) as upstream:
        body = steps_of(call(bench_of(upstream), surface, is_stream=True))
        seen_at, whole = [], b""
        for piece in body:
            seen_at.append(time.monotonic())
            whole += piece
        body.close()
        assert upstream.received[0].headers["accept-encoding"] == "identity"
    assert b"hel" in whole
    assert b"lo" in whole
    assert seen_at[0] < sent_at[-1], "the first event is out before the last has come"


@pytest.mark.parametrize("upstream_format", FORMATS)
def test_t54_a_client_that_leaves_frees_the_provider_and_is_booked_once(
    upstream_format: WireFormat, bench_of: Make
) -> None:
    with fake_upstream(stream(*_events_of(upstream_format), 30.0)) as upstream:
        bench = bench_of(upstream, **NODES[upstream_format])
        body = steps_of(call(bench, Surface.ANTHROPIC_MESSAGES, is_stream=True))
        first = next(body)
        assert b"message_start" in first
        assert upstream.open_now == 1
        began = time.monotonic()
        bench.client.close()
        for _ in body:
            pass
        body.close()
        while upstream.open_now and time.monotonic() - began < 2:
            gevent.sleep(0.01)
        assert time.monotonic() - began < 1
        assert upstream.open_now == 0
        assert bench.inference.runs == {}
        record = bench.log.only
        assert record.outcome == "cancelled"
        assert record.bytes_out >= len(first)


def _events_of(upstream_format: WireFormat) -> tuple[bytes, ...]:
    """The beginning of a stream, up to its first words."""
    match upstream_format:
        case WireFormat.OPENAI_CHAT:
            return STREAM[:2]
        case WireFormat.OPENAI_RESPONSES:
            item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
            at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
            part = {"type": "output_text", "text": "", "annotations": []}
            said: tuple[dict[str, Any], ...] = (
                {"type": "response.created", "response": {"id": "resp_1", "model": "m", "output": []}},
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                {"type": "response.content_part.added", **at, "part": part},
                {"type": "response.output_text.delta", **at, "delta": "hel"},
            )
            return _named(said)
        case WireFormat.ANTHROPIC_MESSAGES:
            message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
            said = (
                {"type": "message_start", "message": {**message, "usage": {"input_tokens": 9, "output_tokens": 0}}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hel"}},
            )
            return _named(said)
        case WireFormat.GEMINI:
            part_of = {"content": {"role": "model", "parts": [{"text": "hel"}]}, "index": 0}
            return (b"data: " + json.dumps({"candidates": [part_of]}).encode() + b"\r\n\r\n",)
        case _:
            line = {"model": "m", "message": {"role": "assistant", "content": "hel"}, "done": False}
            return (json.dumps(line).encode() + b"\n",)


def _named(events: tuple[dict[str, Any], ...]) -> tuple[bytes, ...]:
    return tuple(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def timed(pieces: tuple[bytes, ...], sent_at: list[float], *, is_chunked: bool) -> Act:
    def act(sock: Any, _request: Received) -> bool:
        framing = b"Transfer-Encoding: chunked\r\n" if is_chunked else b"Connection: close\r\n"
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
        for piece in pieces:
            gevent.sleep(0.02)
            sent_at.append(time.monotonic())
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            sock.sendall(b"0\r\n\r\n")
        return is_chunked

    return act


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize("surface", [Surface.OPENAI_CHAT, Surface.ANTHROPIC_MESSAGES])
def test_t55_an_event_leaves_within_five_milliseconds_of_its_arrival(
    bench_of: Make, surface: Surface, is_chunked: bool
) -> None:
    """Of several streams the middle one counts: a machine with other work to do pauses whom it likes."""
    took: list[float] = []
    for _ in range(5):
        sent_at: list[float] = []
        with fake_upstream(timed(STREAM[1:], sent_at, is_chunked=is_chunked)) as upstream:
            body = steps_of(call(bench_of(upstream), surface, is_stream=True))
            piece = next(body)
            took.append(time.monotonic() - sent_at[0])
            assert b"hel" in piece
            body.close()
    assert statistics.median(took) < 0.005


# --- headers ---------------------------------------------------------------------------------------------------------

_SENT: Final = (
    ("user-agent", "client/1"),
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "files-2025,fine-grained-2025"),
    ("openai-beta", "assistants=v2"),
    ("openai-organization", "org-1"),
)
"""What the views let through of a client's headers (`providers/requests.forwardable`)."""
_NEVER: Final = ("cookie", "x-forwarded-for", "forwarded", "x-real-ip", "referer", "x-omniroute-tag", "te", "via")


@pytest.mark.parametrize("upstream_format", FORMATS)
@pytest.mark.parametrize("surface", SURFACES)
def test_t56_headers_are_clean_both_ways(surface: Surface, upstream_format: WireFormat, bench_of: Make) -> None:
    headers = {
        "Set-Cookie": "session=1",
        "Server": "vendor/9",
        "Alt-Svc": "h3",
        "CF-Ray": "1",
        "X-Request-Id": "req_vendor",
        "X-RateLimit-Remaining-Requests": "3",
        "Strict-Transport-Security": "max-age=1",
    }
    with fake_upstream(answer(b'{"error":{"message":"no"}}', status=418, headers=headers)) as upstream:
        bench = bench_of(upstream, **NODES[upstream_format])
        try:
            told = dict(call(bench, surface, is_stream=False, client_headers=_SENT).headers)
        except Exception as error:  # noqa: BLE001 - whatever it is, its headers are looked at
            told = dict(getattr(error, "headers", {}))
        sent = upstream.received[0].headers
    assert not any(name in sent for name in _NEVER)
    assert sent["accept-encoding"] == "identity"
    assert sum(KEY in value for value in sent.values()) == 1
    assert sent["host"].startswith("127.0.0.1")
    names = {name.lower() for name in told}
    assert names.isdisjoint({"set-cookie", "server", "alt-svc", "cf-ray", "strict-transport-security"})
    assert not any(KEY in str(value) for value in told.values())


@pytest.mark.parametrize("upstream_format", FORMATS)
@pytest.mark.parametrize("surface", SURFACES)
def test_t57_beta_flags_go_to_their_own_vendor_only_and_none_is_added(
    surface: Surface, upstream_format: WireFormat, bench_of: Make
) -> None:
    own = {Surface.ANTHROPIC_MESSAGES: MESSAGES, Surface.OPENAI_CHAT: CHAT, Surface.OPENAI_RESPONSES: RESPONSES}
    is_same = own.get(surface) is upstream_format
    with fake_upstream(answer(b"{}")) as upstream:
        asked(bench_of(upstream, **NODES[upstream_format]), surface, is_stream=False)
        assert "anthropic-beta" not in upstream.received[0].headers
        assert "openai-beta" not in upstream.received[0].headers
    with fake_upstream(answer(b"{}")) as upstream:
        bench = bench_of(upstream, **NODES[upstream_format])
        with pytest.raises(Exception, match=r"."):
            call(bench, surface, is_stream=False, client_headers=_SENT)
        sent = upstream.received[0].headers
    flags = {name: sent[name] for name in ("anthropic-beta", "openai-beta", "openai-organization") if name in sent}
    if is_same and upstream_format is MESSAGES:
        assert flags == {"anthropic-beta": "files-2025,fine-grained-2025"}
    elif is_same:
        assert set(flags) <= {"openai-beta", "openai-organization"}
        assert flags["openai-beta"] == "assistants=v2"
    else:
        assert flags == {}


# --- usage and prices ------------------------------------------------------------------------------------------------


def test_t40_usage_is_asked_for_and_hidden_from_who_did_not_ask(bench_of: Make) -> None:
    with fake_upstream(stream(*STREAM)) as upstream:
        _, _, quiet = asked(bench_of(upstream), Surface.OPENAI_CHAT, is_stream=True)
        assert json.loads(upstream.received[0].body)["stream_options"] == {"include_usage": True}
        assert b'"usage"' not in quiet
    with fake_upstream(stream(*STREAM)) as upstream:
        bench = bench_of(upstream)
        _, _, loud = asked(bench, Surface.OPENAI_CHAT, is_stream=True, stream_options={"include_usage": True})
        assert b'"prompt_tokens":9' in loud
        assert (bench.log.only.tokens_in, bench.log.only.tokens_out) == (9, 2)


@pytest.mark.parametrize("is_stream", [False, True])
def test_t42_what_nobody_has_priced_is_unpriced_and_not_free(bench_of: Make, is_stream: bool) -> None:
    """Tiers, surcharges and fees belong to the price list; a figure of 0 is never made up for the lack of one."""
    act = stream(*STREAM) if is_stream else answer(HELLO)
    with fake_upstream(act) as upstream:
        bench = bench_of(upstream, is_local=False)
        status, headers, body = asked(bench, Surface.OPENAI_CHAT, is_stream=is_stream)
        assert status == 200
        record = bench.log.only
        assert (record.cost_kind, record.cost_nano_usd) == ("unpriced", None)
        assert not any("cost" in name.lower() for name in headers if name != "X-OmniRoute-Cost-Kind")
        assert headers.get("X-OmniRoute-Cost-Kind") == (None if is_stream else "unpriced")
        assert b"response-cost" not in body.lower()
        assert (b": x-omniroute-cost-kind=unpriced\n" in body) is is_stream


# --- one conversation, several providers -----------------------------------------------------------------------------

_LOOP: Final = [
    {"role": "user", "content": "Weather in Oslo?"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "I look.", "signature": "c2lnbmVkIGJ5IHRoZSBmaXJzdA=="},
            {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Oslo"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01", "content": "3 °C"}]},
]
_TOOLS: Final = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]


def test_t64_a_conversation_falls_back_to_another_vendor_and_returns(bench_of: Make) -> None:
    asked_with: dict[str, Any] = {"messages": _LOOP, "tools": _TOOLS}
    with fake_upstream(answer(HELLO)) as second:
        status, _, told = asked(bench_of(second), Surface.ANTHROPIC_MESSAGES, is_stream=False, **asked_with)
        assert status == 200
        sent = json.loads(second.received[0].body)
        assert [call["id"] for call in sent["messages"][1]["tool_calls"]] == ["toolu_01"]
        assert sent["messages"][2]["tool_call_id"] == "toolu_01"
        assert b"c2lnbmVk" not in second.received[0].body
    reply = json.loads(told)["content"]
    later = [*_LOOP, {"role": "assistant", "content": reply}, {"role": "user", "content": "And now?"}]
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    body = json.dumps({**whole, "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}).encode()
    with fake_upstream(answer(body)) as first:
        bench = bench_of(first, **NODES[MESSAGES])
        status, _, _ = asked(bench, Surface.ANTHROPIC_MESSAGES, is_stream=False, messages=later, tools=_TOOLS)
        assert status == 200
        sent = json.loads(first.received[0].body)
        assert sent["messages"][:3] == _LOOP, "the first vendor gets its signature back"


CANARIES: Final[dict[Surface, dict[str, Any]]] = {
    surface: {"canary_top": "canary-1", "x_omniroute": {"canary": "canary-2"}, "_private": "canary-3"}
    for surface in SURFACES
}


@pytest.mark.parametrize("upstream_format", FORMATS)
@pytest.mark.parametrize("surface", SURFACES)
def test_t66_no_foreign_or_internal_member_reaches_a_provider(
    surface: Surface, upstream_format: WireFormat, bench_of: Make
) -> None:
    """A canary that a client puts into its body stays with providers of the client's own format, ours nowhere."""
    own = {
        Surface.OPENAI_CHAT: CHAT,
        Surface.OPENAI_COMPLETIONS: CHAT,
        Surface.OPENAI_RESPONSES: RESPONSES,
        Surface.ANTHROPIC_MESSAGES: MESSAGES,
        Surface.GEMINI: GEMINI,
        Surface.GEMINI_ARRAY: GEMINI,
        Surface.OLLAMA_CHAT: OLLAMA,
        Surface.OLLAMA_GENERATE: OLLAMA,
    }
    for is_stream in (False, True):
        with fake_upstream(answer(b"{}")) as upstream:
            asked(bench_of(upstream, **NODES[upstream_format]), surface, is_stream=is_stream, **CANARIES[surface])
            body = upstream.received[0].body
        for word in (b"up/", b"req_", b"omniroute:", b"origin", b"is_continued", b"call_id_map"):
            assert word not in body
        if own.get(surface) is not upstream_format:
            assert b"canary" not in body


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_t22_redacted_thinking_passes_through_byte_for_byte(bench_of: Make) -> None:
    sealed = b'{ "type" :"redacted_thinking","data" : "EmwKAhgB\\u0045gyZ+/==" }'
    body = (
        b'{"model":"up/m","max_tokens":9,"messages":[{"role":"user","content":"Hi"},'
        b'{"role":"assistant","content":[' + sealed + b',{"type":"text","text":"a"}]},{"role":"user","content":"b"}]}'
    )
    whole = (
        b'{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[' + sealed + b"],"
        b'"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}'
    )
    with fake_upstream(answer(whole)) as upstream:
        opened = bench_of(upstream, **NODES[MESSAGES]).call(body, Surface.ANTHROPIC_MESSAGES)
        assert upstream.received[0].body == body.replace(b'"up/m"', b'"m"')
        assert opened.body == whole.replace(b'"m"', b'"up/m"')
    start = _named(({"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 1}}},))
    block = (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":%b}\n\n' % sealed
    )
    rest = _named(
        (
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        )
    )
    with fake_upstream(stream(*start, block, *rest)) as upstream:
        _, _, told = asked(bench_of(upstream, **NODES[MESSAGES]), Surface.ANTHROPIC_MESSAGES, is_stream=True)
        assert block in told


# --- what may be repeated, and what not ------------------------------------------------------------------------------

_LOOK: Final = {"name": "look", "input_schema": {"type": "object", "properties": {"a": {}, "b": {}}}}


def test_t68_an_argument_that_the_model_left_out_stays_out(bench_of: Make) -> None:
    pieces = ('{"a":', "1}")
    head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
    deltas = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
    act = stream(chunk({"tool_calls": [head]}), *map(chunk, deltas), chunk({}, "tool_calls"), b"data: [DONE]\n\n")
    tools: dict[str, Any] = {"tools": [_LOOK]}
    with fake_upstream(act) as upstream:
        _, _, told = asked(bench_of(upstream), Surface.ANTHROPIC_MESSAGES, is_stream=True, **tools)
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith(b"data: ")]
    said = [one["delta"]["partial_json"] for one in events if one.get("delta", {}).get("type") == "input_json_delta"]
    assert "".join(said) == '{"a":1}'
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    with fake_upstream(answer(completion({"tool_calls": [call]}, "tool_calls"))) as upstream:
        _, _, whole = asked(bench_of(upstream), Surface.ANTHROPIC_MESSAGES, is_stream=False, **tools)
    assert json.loads(whole)["content"][0]["input"] == {"a": 1}


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    "body",
    [completion({"content": ""}, "content_filter"), completion({"content": None, "refusal": "I will not."})],
    ids=["filter", "refusal"],
)
def test_t72_a_refusal_is_an_answer_and_asked_once(surface: Surface, body: bytes, bench_of: Make) -> None:
    with fake_upstream(answer(body)) as first, fake_upstream(answer(HELLO)) as second:
        bench = bench_of(first, second)
        status, headers, _ = asked(bench, surface, is_stream=False)
        assert status == 200
        assert headers["X-OmniRoute-Attempts"] == "1"
        assert (len(first.received), second.received) == (1, [])
        record = bench.log.only
        assert record.outcome == "success"
        assert [attempt.failure_class for attempt in record.attempts] == [None], "not counted against its health"


def test_t34_a_malformed_call_is_asked_for_once_more(bench_of: Make) -> None:
    part = {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "Malformed function call: print(x)", "index": 0}
    broken = json.dumps({"candidates": [part], "usageMetadata": {"promptTokenCount": 3}}).encode()
    said = {"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP", "index": 0}
    good = json.dumps({"candidates": [said]}).encode()
    with fake_upstream(answer(broken)) as first, fake_upstream(answer(good)) as second:
        bench = bench_of(first, second, **NODES[GEMINI])
        status, headers, body = asked(bench, Surface.OPENAI_CHAT, is_stream=False)
        assert status == 200
        assert b"hello" in body
        assert headers["X-OmniRoute-Attempts"] == "2"


@pytest.mark.parametrize("surface", SURFACES)
def test_t73_ids_are_those_of_the_request_whichever_leg_served(surface: Surface, bench_of: Make) -> None:
    if surface in (Surface.OPENAI_CHAT, Surface.OLLAMA_CHAT, Surface.OLLAMA_GENERATE):
        return  # a passthrough keeps the provider's id, and Ollama has none
    with fake_upstream(answer(b"{}", status=500)) as first, fake_upstream(stream(*STREAM)) as second:
        _, headers, later = asked(bench_of(first, second), surface, is_stream=True)
        assert headers["X-OmniRoute-Attempts"] == "2"
    with fake_upstream(stream(*STREAM)) as only:
        _, _, at_once = asked(bench_of(only), surface, is_stream=True)
    assert later.replace(b"attempts=2", b"attempts=1") == at_once or _ids(later) == _ids(at_once)


def _ids(body: bytes) -> set[bytes]:
    return {part.split(b'"')[0] for part in body.split(b'"id":"')[1:]}


# --- an effort in the model's name -----------------------------------------------------------------------------------


@pytest.mark.parametrize("surface", [Surface.OPENAI_CHAT, Surface.ANTHROPIC_MESSAGES, Surface.OPENAI_COMPLETIONS])
def test_t23_an_effort_in_the_name_reaches_the_provider_as_a_setting(
    surface: Surface, bench_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_upstream(answer(HELLO)) as upstream:
        bench = bench_of(upstream)
        lookup: Any = bench.routing.resolvers.current._lookup
        (plain,) = lookup.find("up/m-1")
        # What `Directory` makes of a name (`test_directory.py`); a node of one's own has no list to find it in.
        hard = {key: replace(target, effort=Effort.HIGH) for key, target in plain.handles.items()}
        monkeypatch.setattr(lookup, "find", lambda _name: (replace(plain, handles=hard),))
        status, headers, body = asked(bench, surface, is_stream=False, model="m-1-high", reasoning_effort="low")
        assert status == 200
        sent = json.loads(upstream.received[0].body)
        assert (sent["model"], sent["reasoning_effort"]) == ("m-1", "high")
        assert headers["X-OmniRoute-Model"] == "up/m-1"
        assert json.loads(body)["model"] == "up/m-1-high"
