"""A stream that breaks off is finished by somebody else, inside the same stream: whole and once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import gevent
import msgspec
import pytest

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import CallKind, Request, Stop, Text, Thinking, ToolCall
from omniroute.formats.codec import Reply
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    UsageUpdate,
)
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat
from omniroute.gateway.continuation import INSTRUCTION
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.providers.upstream import UpstreamRequest
from tests.fakes.upstream import Act, FakeUpstream, Received, answer, fake_upstream, has_left, silence, stream
from tests.gateway.callers import GOOGLE, NODES, REQUESTS
from tests.gateway.conftest import QUICK, Bench, quick_clocks
from tests.gateway.test_faithful_streams import BROKEN, OVERLOADED, ends_of, error_in, events, text_of

Make = Callable[..., Bench]

SURFACES: Final = (Surface.OPENAI_CHAT, Surface.OPENAI_RESPONSES, Surface.ANTHROPIC_MESSAGES, Surface.GEMINI)
OF_FORMAT: Final = {DIALECTS[surface].format: surface for surface in (*SURFACES, Surface.OLLAMA_CHAT)}
WHOLE: Final = "0:marsh 1:lamp 2:tower 3:river 4:b\u00fcrde \u2014 all."
SPENT: Final = Usage(input=11, output=5)
LAST: Final = Usage(input=20, output=7)

OPTED: Final = {
    **QUICK,
    ("combo-defaults", "config"): {**QUICK["combo-defaults", "config"], "midStreamContinuation": True},
}


def rendered(wire_format: WireFormat, *happened: Event, model: str = "m-1", usage: Usage = SPENT) -> bytes:
    """The stream of a provider that says this."""
    request = Request(wire_format, model, (), include_usage=True, stream=True)
    renderer = DIALECTS[OF_FORMAT[wire_format]].new_renderer(
        Reply(request, model, "f" * 4, 1_700_000_000, lambda _: b"")
    )
    started = MessageStart("", model, None, Usage(input=usage.input, output=1))
    return renderer.render([started, *happened, UsageUpdate(usage), MessageStop(Stop.END)])


def saying(*pieces: str, index: int = 0) -> list[Event]:
    deltas = [BlockDelta(index, DeltaKind.TEXT, piece) for piece in pieces if piece]
    return [BlockStart(index, Text("")), *deltas, BlockStop(index)]


def words(text: str) -> list[str]:
    return [text[start : start + 11] for start in range(0, len(text), 11)]


def shown(request: bytes) -> str:
    """What a provider is told that it has said already."""
    body = json.loads(request)
    turns = body.get("messages") or body.get("contents") or body.get("input") or []
    if isinstance(turns, str):
        return ""
    for turn in reversed(turns):
        if turn.get("role") in {"assistant", "model"}:
            content = turn.get("content") or turn.get("parts")
            return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return ""


def rest_of(whole: str, given: str, repeats: int) -> str:
    """What comes after the given text, with so much of its end once more."""
    assert whole.startswith(given)
    return whole[max(0, len(given) - repeats) :] if given else whole


def finishing(wire_format: WireFormat, repeats: int = 0, whole: str = WHOLE) -> Act:
    """A provider that knows how the text ends; it may repeat the end of what it is shown."""

    def act(sock: Any, request: Received) -> Any:
        rest = rest_of(whole, shown(request.body), repeats)
        return stream(rendered(wire_format, *saying(*words(rest)), usage=LAST))(sock, request)

    return act


def ask(bench: Bench, surface: Surface, **members: Any) -> tuple[bytes, dict[str, str]]:
    body = {**REQUESTS[surface], **members}
    more: dict[str, Any] = {}
    if surface in GOOGLE:
        more = {"model": "up/m-1", "is_stream": True}
    else:
        body |= {"model": "up/m-1", "stream": True}
    opened = bench.call(body, surface, **more)
    assert not isinstance(opened.body, bytes)
    try:
        return b"".join(opened.body), dict(opened.headers)
    finally:
        opened.body.close()


def tries(bench: Bench) -> list[dict[str, Any]]:
    decision = bench.log.only.decision
    assert decision is not None
    found: list[dict[str, Any]] = msgspec.json.decode(decision.body)[0]["attempts"]
    return found


def seam(bench: Bench) -> int | None:
    decision = bench.log.only.decision
    assert decision is not None
    found: int | None = msgspec.json.decode(decision.body)[0].get("continued_at")
    return found


def check_frames(surface: Surface, read: list[Any]) -> None:
    """What makes one answer of many frames: one id, one model, numbers in order, blocks one after the other."""
    if surface is Surface.OPENAI_CHAT:
        chunks = [one for one in read if isinstance(one, dict)]
        assert len({one["id"] for one in chunks}) == 1
        assert {one["model"] for one in chunks} == {"up/m-1"}
        assert read.count("[DONE]") == 1
        assert read[-1] == "[DONE]"
        assert [choice["delta"].get("role") for one in chunks for choice in one["choices"]].count("assistant") == 1
    elif surface is Surface.OPENAI_RESPONSES:
        assert [one["sequence_number"] for one in read] == list(range(len(read)))
        ids = {one["response"]["id"] for one in read if "response" in one}
        assert len(ids) == 1
        items = [one["item"]["id"] for one in read if one["type"] == "response.output_item.added"]
        assert [one["item"]["id"] for one in read if one["type"] == "response.output_item.done"] == items
        assert [one["id"] for one in read[-1]["response"]["output"]] == items
        assert {one["item_id"] for one in read if "item_id" in one} <= set(items)
        last = read[-1]["response"]
        assert last["model"] == "up/m-1"
        texts = [part["text"] for item in last["output"] for part in item.get("content", ()) if "text" in part]
        assert "".join(texts) == text_of(surface, read)
    elif surface is Surface.ANTHROPIC_MESSAGES:
        kinds = [one["type"] for one in read if one["type"] != "ping"]
        assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
        open_block, next_block = None, 0
        for one in read:
            if one["type"] == "content_block_start":
                assert (open_block, one["index"]) == (None, next_block)
                open_block, next_block = one["index"], next_block + 1
            elif one["type"] == "content_block_delta":
                assert one["index"] == open_block
            elif one["type"] == "content_block_stop":
                assert one["index"] == open_block
                open_block = None
    else:
        assert len({one["responseId"] for one in read}) == 1
        assert {one["modelVersion"] for one in read} == {"up/m-1"}


class Pipe:
    """A provider's stream in memory, for thousands of breaks; implements :class:`UpstreamResponse`."""

    status = 200
    headers: Mapping[str, str] = {"content-type": "text/event-stream"}

    def __init__(self, data: bytes, *, is_whole: bool) -> None:
        self._data = data
        self._is_whole = is_whole
        self.is_closed = False

    def read(self, timeout_s: float) -> bytes:
        del timeout_s  # nothing is waited for
        data, self._data = self._data[:200], self._data[200:]
        if not data and not self._is_whole:
            raise UpstreamProtocolError("The provider's answer ended early.")
        return data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        raise AssertionError("nobody leaves here")


class Pipes:
    """Stands for the network: the first connection breaks off, the second knows the rest."""

    def __init__(self, wire_format: WireFormat) -> None:
        self._format = wire_format
        self.first = b""
        self.repeats = 0
        self.opened: list[Pipe] = []

    def send(self, request: UpstreamRequest) -> Pipe:
        is_first = len(self.opened) % 2 == 0
        if is_first:
            pipe = Pipe(self.first, is_whole=False)
        else:
            rest = rest_of(WHOLE, shown(request.body), self.repeats)
            pipe = Pipe(rendered(self._format, *saying(*words(rest)), usage=LAST), is_whole=True)
        self.opened.append(pipe)
        return pipe


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("upstream_format", [WireFormat.OPENAI_CHAT, WireFormat.ANTHROPIC_MESSAGES])
def test_a_stream_cut_anywhere_is_whole(surface: Surface, upstream_format: WireFormat, bench_of: Make) -> None:
    finished, torn, whole = cut_anywhere(surface, upstream_format, bench_of)
    assert finished > whole / 8
    assert torn


@pytest.mark.parametrize("surface", [Surface.OPENAI_RESPONSES, Surface.GEMINI])
def test_so_is_one_that_is_passed_through(surface: Surface, bench_of: Make) -> None:
    finished, torn, whole = cut_anywhere(surface, DIALECTS[surface].format, bench_of)
    assert finished > whole / 8
    assert torn


def cut_anywhere(surface: Surface, upstream_format: WireFormat, bench_of: Make) -> tuple[int, int, int]:
    """Cut a stream after each of its bytes; return how often it was finished elsewhere, how often not, and its size."""
    full = rendered(upstream_format, *saying(*words(WHOLE)))
    finished = torn = 0
    pipes = Pipes(upstream_format)
    with fake_upstream(silence) as first, fake_upstream(silence) as second:
        bench = bench_of(first, second, settings=OPTED, **NODES[upstream_format])
        bench.http.send = pipes.send  # type: ignore[method-assign]
        for cut in range(len(full)):
            pipes.first, pipes.repeats = full[:cut], (0, 9, 0, 30)[cut % 4]
            pipes.opened.clear()
            bench.log.records.clear()
            bench.forget_failures()
            data, _ = ask(bench, surface)
            assert all(pipe.is_closed for pipe in pipes.opened)
            read = events(surface, data)
            record = bench.log.only
            if record.outcome == "truncated":
                torn += 1
                said = text_of(surface, read)
                if said == WHOLE:  # its block has been ended, so that nothing can be added to it
                    assert ends_of(surface, read) == []
                    assert b"error" in data
                else:
                    assert error_in(surface, read)[0] == BROKEN[surface]
                    assert WHOLE.startswith(said)
                    assert len(said) < 32, "only what is short is left as it is"
                assert len(record.attempts) == 1
                continue
            assert record.outcome == "success"
            assert text_of(surface, read) == WHOLE, cut
            assert len(ends_of(surface, read)) == 1
            check_frames(surface, read)
            finished += check_books(surface, data, bench)
    assert bench.inference.runs == {}
    return finished, torn, len(full)


def check_books(surface: Surface, data: bytes, bench: Bench) -> bool:
    """What is written down of an answer that two have given; says whether it was one."""
    offset, record = seam(bench), bench.log.only
    if offset is None:
        assert b"x-omniroute-continued" not in data
        return False
    one, other = tries(bench)
    assert [one.get("kind", "normal"), other["kind"]] == ["normal", "continuation"]
    assert (one["failure_class"], one["failure_kind"]) == ("transient", "protocol")
    assert (one["account"], other["account"]) == ("conn_0", "conn_1")
    assert one["tokens_out"] == -(-offset // 4)
    assert (record.tokens_in, record.tokens_out) == (one["tokens_in"] + 20, one["tokens_out"] + 7)
    assert [attempt.failure_class for attempt in record.attempts] == ["transient", None]
    assert record.connection_id == "conn_1"
    if surface is not Surface.GEMINI:
        assert b": x-omniroute-continued=%d\n" % offset in data
        assert b": x-omniroute-continued-model=up1/m-1\n" in data
        assert b": x-omniroute-attempts=2\n" in data
    return True


# --- on real sockets -------------------------------------------------------------------------------------------------


def cut_after(wire_format: WireFormat, text: str, *, end: bytes = b"") -> Act:
    """A stream of which the client gets this text, and no more."""
    full = rendered(wire_format, *saying(*words(text), "|"))
    cut = full.index(b"|")
    between = b"\n" if wire_format is WireFormat.OLLAMA else b"\n\n"
    head = full[: full.rindex(between, 0, cut) + len(between)]
    return stream(head, 0.01, *([end] if end else ()), end=False)


TORN: Final = WHOLE[:33]
PAIRS = pytest.mark.parametrize(
    ("surface", "upstream_format"),
    [
        (surface, one)
        for surface in SURFACES
        for one in (WireFormat.OPENAI_CHAT, WireFormat.ANTHROPIC_MESSAGES, DIALECTS[surface].format)
    ],
)


def settle(*upstreams: FakeUpstream, bench: Bench) -> None:
    bench.http.close()
    for _ in range(200):
        if not any(one.open_now for one in upstreams):
            break
        gevent.sleep(0.005)
    assert [one.open_now for one in upstreams] == [0] * len(upstreams)
    assert bench.http.open_connections == 0
    assert bench.inference.runs == {}
    loads = [bench.routing.board.load_of(f"conn_{place}").in_flight for place in range(len(upstreams))]
    assert loads == [0] * len(upstreams)


@PAIRS
def test_over_the_network(surface: Surface, upstream_format: WireFormat, bench_of: Make) -> None:
    with fake_upstream(cut_after(upstream_format, TORN)) as one, fake_upstream(finishing(upstream_format, 10)) as two:
        bench = bench_of(one, two, settings=OPTED, **NODES[upstream_format])
        data, headers = ask(bench, surface)
        read = events(surface, data)
        assert text_of(surface, read) == WHOLE
        check_frames(surface, read)
        assert check_books(surface, data, bench)
        assert headers["X-OmniRoute-Model"] == "up/m-1"
        assert bench.routing.board.copy.rest("conn_0", "conn_0") is not None, "who broke off rests"
        assert bench.routing.board.copy.rest("conn_1", "conn_1") is None
        settle(one, two, bench=bench)


OTHERS: Final = (Surface.OPENAI_COMPLETIONS, Surface.GEMINI_ARRAY, Surface.OLLAMA_CHAT, Surface.OLLAMA_GENERATE)


@pytest.mark.parametrize("surface", OTHERS)
@pytest.mark.parametrize("upstream_format", [WireFormat.OPENAI_CHAT, WireFormat.GEMINI, WireFormat.OLLAMA])
def test_the_other_ways_in(surface: Surface, upstream_format: WireFormat, bench_of: Make) -> None:
    torn = cut_after(upstream_format, TORN)
    with fake_upstream(torn) as one, fake_upstream(finishing(upstream_format, 10)) as two:
        bench = bench_of(one, two, settings=OPTED, **NODES[upstream_format])
        data, _ = ask(bench, surface)
        read = events(surface, data)
        assert text_of(surface, read) == WHOLE
        assert len(ends_of(surface, read)) == 1
        assert (bench.log.only.outcome, seam(bench)) == ("success", len(TORN))
        settle(one, two, bench=bench)


@PAIRS
def test_what_the_second_is_asked(surface: Surface, upstream_format: WireFormat, bench_of: Make) -> None:
    with fake_upstream(cut_after(upstream_format, TORN)) as one, fake_upstream(finishing(upstream_format)) as two:
        bench = bench_of(one, two, settings=OPTED, **NODES[upstream_format])
        limits_of: dict[Surface, dict[str, Any]] = {
            Surface.OPENAI_CHAT: {"max_tokens": 64},
            Surface.OPENAI_RESPONSES: {"max_output_tokens": 64},
            Surface.ANTHROPIC_MESSAGES: {"max_tokens": 64},
            Surface.GEMINI: {"generationConfig": {"maxOutputTokens": 64}},
        }
        ask(bench, surface, **limits_of[surface])
        body = json.loads(two.received[0].body)
        spelt = json.dumps(body)
        is_prefix = upstream_format is WireFormat.ANTHROPIC_MESSAGES
        assert (INSTRUCTION in spelt) is not is_prefix
        assert shown(two.received[0].body) == (TORN.rstrip() if is_prefix else TORN)
        left = 64 - -(-len(TORN) // 4)
        config = body.get("generationConfig", {})
        limits = [body.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")]
        assert left in (*limits, config.get("maxOutputTokens")), body


@pytest.mark.parametrize("surface", SURFACES)
def test_an_error_in_mid_stream_is_mended_if_it_is_a_passing_one(surface: Surface, bench_of: Make) -> None:
    refused = b'data: {"error":{"message":"No.","type":"invalid_request_error","code":"content_filter"}}\n\n'
    for end, is_mended in ((OVERLOAD, True), (refused, False)):
        torn = cut_after(WireFormat.OPENAI_CHAT, TORN, end=end)
        with fake_upstream(torn) as one, fake_upstream(finishing(WireFormat.OPENAI_CHAT)) as two:
            bench = bench_of(one, two, settings=OPTED)
            data, _ = ask(bench, surface)
            assert text_of(surface, events(surface, data)) == (WHOLE if is_mended else TORN)
            assert bench.log.only.outcome == ("success" if is_mended else "failed")
            settle(one, two, bench=bench)


LONG: Final = "x" * 600
OVERLOAD: Final = b'data: {"error":{"message":"Overloaded","type":"server_error","code":"overloaded"}}\n\n'


@pytest.mark.parametrize(
    ("act", "more"),
    [
        (silence, ""),
        (stream(end=False), ""),
        (cut_after(WireFormat.OPENAI_CHAT, WHOLE[33:]), ""),
        (stream(OVERLOAD), ""),
        (cut_after(WireFormat.OPENAI_CHAT, WHOLE[33:], end=OVERLOAD), ""),
        (cut_after(WireFormat.OPENAI_CHAT, LONG), LONG),
        (cut_after(WireFormat.OPENAI_CHAT, LONG, end=OVERLOAD), LONG),
    ],
)
@pytest.mark.parametrize("surface", SURFACES)
def test_when_the_second_fails_too_the_client_hears_of_the_first(
    surface: Surface, act: Act, more: str, bench_of: Make
) -> None:
    first, third = cut_after(WireFormat.OPENAI_CHAT, TORN, end=OVERLOAD), finishing(WireFormat.OPENAI_CHAT)
    with fake_upstream(first) as one, fake_upstream(act) as two, fake_upstream(third) as three:
        bench = bench_of(one, two, three, settings=OPTED)
        data, _ = ask(bench, surface)
        read = events(surface, data)
        assert error_in(surface, read)[0] == OVERLOADED[surface]
        said = text_of(surface, read)
        assert said == TORN + more[: len(said) - len(TORN)]
        assert len(said) > len(TORN) or not more
        assert (bench.log.only.outcome, bench.log.only.error_code) == ("failed", "overloaded")
        assert three.received == [], "one is asked, and no more"
        assert [tried["kind"] for tried in tries(bench)[1:]] == ["continuation"]
        assert bench.log.only.connection_id == "conn_0" or act is not silence
        settle(one, two, three, bench=bench)


def test_nobody_is_asked_where_nobody_wants_it(bench_of: Make) -> None:
    with fake_upstream(cut_after(WireFormat.OPENAI_CHAT, TORN)) as one, fake_upstream(silence) as two:
        bench = bench_of(one, two)
        data, _ = ask(bench, Surface.OPENAI_CHAT)
        assert error_in(Surface.OPENAI_CHAT, events(Surface.OPENAI_CHAT, data))[0] == "upstream_error"
        assert two.received == []
        settle(one, two, bench=bench)


UNFIT: Final[list[dict[str, Any]]] = [
    {"n": 2},
    {"max_tokens": 12},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
]


@pytest.mark.parametrize("members", UNFIT)
def test_what_cannot_be_gone_on_with_is_left_torn(members: dict[str, Any], bench_of: Make) -> None:
    with fake_upstream(cut_after(WireFormat.OPENAI_CHAT, TORN)) as one, fake_upstream(silence) as two:
        bench = bench_of(one, two, settings=OPTED)
        data, _ = ask(bench, Surface.OPENAI_CHAT, **members)
        assert error_in(Surface.OPENAI_CHAT, events(Surface.OPENAI_CHAT, data))[0] == "upstream_error"
        assert two.received == []
        settle(one, two, bench=bench)


def test_an_open_call_is_left_torn(bench_of: Make) -> None:
    call = ToolCall("call_1", "f", "", CallKind.FUNCTION)
    said = [*saying(WHOLE), BlockStart(1, call), BlockDelta(1, DeltaKind.ARGUMENTS, '{"a":"|')]
    full = rendered(WireFormat.OPENAI_CHAT, *said)
    torn = stream(full[: full.index(b"|") + 40], end=False)
    for surface in SURFACES:
        with fake_upstream(torn) as one, fake_upstream(silence) as two:
            bench = bench_of(one, two, settings=OPTED)
            ask(bench, surface)
            assert two.received == []
            assert bench.log.only.outcome == "truncated"
            settle(one, two, bench=bench)


@pytest.mark.parametrize("surface", SURFACES)
def test_what_was_thought_and_called_before_stays(surface: Surface, bench_of: Make) -> None:
    before: list[Event] = [
        BlockStart(0, Thinking("")),
        BlockDelta(0, DeltaKind.THINKING, "hm"),
        BlockStop(0),
        BlockStart(1, ToolCall("call_1", "f", "")),
        BlockDelta(1, DeltaKind.ARGUMENTS, "{}"),
        BlockStop(1),
    ]
    wire_format = WireFormat.ANTHROPIC_MESSAGES
    full = rendered(wire_format, *before, *saying(*words(TORN), "|", index=2))
    head = full[: full.rindex(b"event:", 0, full.index(b"|"))]
    after: list[Event] = [
        BlockStart(0, Thinking("")),
        BlockDelta(0, DeltaKind.THINKING, "I go on"),
        BlockStop(0),
        *saying(*words(WHOLE[33:]), index=1),
        BlockStart(2, ToolCall("call_1", "g", "")),
        BlockDelta(2, DeltaKind.ARGUMENTS, '{"b":1}'),
        BlockStop(2),
    ]
    rest = rendered(wire_format, *after, usage=LAST).replace(b"end_turn", b"tool_use")
    with fake_upstream(stream(head, end=False)) as one, fake_upstream(stream(rest)) as two:
        bench = bench_of(one, two, settings=OPTED, **NODES[wire_format])
        data, _ = ask(bench, surface)
        read = events(surface, data)
        assert text_of(surface, read) == WHOLE
        check_frames(surface, read)
        assert b"I go on" not in data
        assert INSTRUCTION in two.received[0].body.decode()
        assert "[called f: {}]" in two.received[0].body.decode()
        ids = call_ids(surface, read)
        assert len(ids) == len(set(ids)) == 2
        assert ids[0] == "call_1"
        settle(one, two, bench=bench)


def call_ids(surface: Surface, read: list[Any]) -> list[str]:
    found: list[str] = []
    for event in read:
        if surface is Surface.OPENAI_CHAT and isinstance(event, dict):
            calls = [one for choice in event["choices"] for one in choice["delta"].get("tool_calls", ())]
            found += [one["id"] for one in calls if "id" in one]
        elif surface is Surface.OPENAI_RESPONSES and event["type"] == "response.output_item.done":
            found += [event["item"]["call_id"]] if "call_id" in event["item"] else []
        elif surface is Surface.ANTHROPIC_MESSAGES and event["type"] == "content_block_start":
            found += [event["content_block"]["id"]] if event["content_block"]["type"] == "tool_use" else []
        elif surface is Surface.GEMINI:
            parts = [part for one in event["candidates"] for part in one["content"].get("parts", ())]
            found += [part["functionCall"]["id"] for part in parts if "functionCall" in part]
    return found


def test_silence_is_filled_while_the_rest_is_looked_for(bench_of: Make) -> None:
    def late(sock: Any, request: Received) -> Any:
        return False if has_left(sock, 0.2) else finishing(WireFormat.OPENAI_CHAT)(sock, request)

    with fake_upstream(cut_after(WireFormat.OPENAI_CHAT, TORN)) as one, fake_upstream(late) as two:
        bench = bench_of(one, two, settings=OPTED, clocks=quick_clocks(heartbeat_s=0.03))
        data, _ = ask(bench, Surface.OPENAI_CHAT)
        assert data.count(b": ping\n\n") >= 2
        assert text_of(Surface.OPENAI_CHAT, events(Surface.OPENAI_CHAT, data)) == WHOLE
        settle(one, two, bench=bench)


def test_a_client_that_leaves_meanwhile_ends_the_search(bench_of: Make) -> None:
    with fake_upstream(cut_after(WireFormat.OPENAI_CHAT, TORN)) as one, fake_upstream(silence) as two:
        bench = bench_of(one, two, settings=OPTED)

        def leaving(sock: Any, request: Received) -> bool:
            bench.client.close()
            return silence(sock, request)

        two.acts[:] = [leaving]
        data, _ = ask(bench, Surface.OPENAI_CHAT)
        assert b"error" not in data
        assert (bench.log.only.outcome, bench.log.only.error_code) == ("cancelled", "client_gone")
        assert [tried["failure_class"] for tried in tries(bench)] == ["transient", "cancelled"]
        settle(one, two, bench=bench)


def test_a_server_that_stops_meanwhile_says_so(bench_of: Make) -> None:
    with fake_upstream(cut_after(WireFormat.OPENAI_CHAT, TORN)) as one, fake_upstream(silence) as two:
        bench = bench_of(one, two, settings=OPTED)

        def stopping(sock: Any, request: Received) -> bool:
            bench.inference.end_all()
            return silence(sock, request)

        two.acts[:] = [stopping]
        data, _ = ask(bench, Surface.OPENAI_CHAT)
        assert error_in(Surface.OPENAI_CHAT, events(Surface.OPENAI_CHAT, data))[0] == "server_draining"
        assert bench.log.only.error_code == "server_draining"
        settle(one, two, bench=bench)


def test_a_body_closed_meanwhile_leaves_nothing_behind(bench_of: Make) -> None:
    with fake_upstream(cut_after(WireFormat.OPENAI_CHAT, TORN)) as one, fake_upstream(silence) as two:
        bench = bench_of(one, two, settings=OPTED, clocks=quick_clocks(heartbeat_s=0.03))
        opened = bench.call({**REQUESTS[Surface.OPENAI_CHAT], "model": "up/m-1", "stream": True})
        assert not isinstance(opened.body, bytes)
        for piece in opened.body:
            if piece == b": ping\n\n":
                break
        assert len(two.received) == 1
        opened.body.close()
        assert bench.log.only.outcome == "cancelled"
        settle(one, two, bench=bench)


def test_a_whole_answer_finishes_it_too(bench_of: Make) -> None:
    def whole(sock: Any, request: Received) -> Any:
        text = rest_of(WHOLE, shown(request.body), 0)
        message = {"role": "assistant", "content": text}
        body = {
            "id": "c",
            "object": "chat.completion",
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 7},
        }
        return answer(json.dumps(body).encode())(sock, request)

    for surface in SURFACES:
        with fake_upstream(cut_after(WireFormat.OPENAI_CHAT, TORN)) as one, fake_upstream(whole) as two:
            bench = bench_of(one, two, settings=OPTED)
            data, _ = ask(bench, surface)
            read = events(surface, data)
            assert text_of(surface, read) == WHOLE
            check_frames(surface, read)
            assert check_books(surface, data, bench)
            settle(one, two, bench=bench)
