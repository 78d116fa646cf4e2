"""Long work gives way: how often, how long a step may be, and that the others really get their turn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import gevent
import msgspec
import pytest
from gevent import socket

from omniroute.errors import InvalidJson
from omniroute.formats.canonical import MediaKind
from omniroute.formats.codec import Pause
from omniroute.formats.profile import Profile, profile_for
from omniroute.formats.splice import scan
from omniroute.formats.translate import translate_request
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.gateway.slices import SLICE_S, Slices, let_others_run

CHAT, RESPONSES, MESSAGES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES, WireFormat.ANTHROPIC_MESSAGES
GEMINI, OLLAMA = WireFormat.GEMINI, WireFormat.OLLAMA
SURFACES = {
    CHAT: Surface.OPENAI_CHAT,
    RESPONSES: Surface.OPENAI_RESPONSES,
    MESSAGES: Surface.ANTHROPIC_MESSAGES,
    GEMINI: Surface.GEMINI,
    OLLAMA: Surface.OLLAMA_CHAT,
}


class Clock:
    """Stands still until somebody moves it."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


# --- the slices themselves -------------------------------------------------------------------------------------------


def test_others_run_when_a_slice_is_used_up_and_not_before() -> None:
    clock, rests = Clock(), []
    pause = Slices(clock, lambda: rests.append(clock()))
    pause()
    clock.time += SLICE_S / 2
    pause()
    assert rests == []
    clock.time += SLICE_S
    pause()
    assert rests == [clock()]
    pause()
    assert len(rests) == 1, "a new slice has begun"


def test_the_time_of_the_others_is_not_counted() -> None:
    clock, rests = Clock(), []

    def rest() -> None:
        rests.append(clock())
        clock.time += 60.0

    pause = Slices(clock, rest)
    pause.rest()
    pause()
    assert len(rests) == 1


def test_a_socket_is_served_after_each_slice() -> None:
    """Also a question that arrives in the middle of the work, and one greenlet after another."""
    near, far = socket.socketpair()
    log: list[str] = []

    def answer() -> None:
        while far.recv(1):
            log.append("answer")

    server = gevent.spawn(answer)
    gevent.sleep(0)  # it waits for the first question now
    for _ in range(5):
        near.sendall(b"?")
        log.append("slice")
        let_others_run()
    near.close()
    server.join(timeout=5)
    far.close()
    assert log == ["slice", "answer"] * 5


def test_two_long_works_take_turns() -> None:
    log: list[str] = []

    def work(name: str) -> None:
        for _ in range(4):
            log.append(name)
            let_others_run()

    gevent.joinall([gevent.spawn(work, "a"), gevent.spawn(work, "b")], timeout=5)
    assert log == ["a", "b"] * 4


# --- a large request -------------------------------------------------------------------------------------------------


def _messages_body(turns: int) -> bytes:
    """Return a session in which every turn calls a tool that gives back a text or a picture."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Go on. ✓"}]
    for turn in range(turns):
        call = {"type": "tool_use", "id": f"toolu_{turn}", "name": "read", "input": {"path": f"/{turn}"}}
        content: Any = "line\n" * 400
        if turn % 25 == 1:
            source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" + "A" * 4001}
            content = [{"type": "image", "source": source}]
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": content}
        messages += (
            {"role": "assistant", "content": [{"type": "text", "text": f"Step {turn}."}, call]},
            {"role": "user", "content": [result, {"type": "text", "text": "…"}]},
        )
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    tools = [{"name": "read" if not n else f"tool_{n}", "input_schema": schema} for n in range(80)]
    return msgspec.json.encode({"model": "m", "max_tokens": 9, "tools": tools, "messages": messages})


def _translated(client: WireFormat, upstream: WireFormat, body: bytes, pause: Pause) -> bytes:
    """Translate as the gateway does, from the scan on."""
    dialect = DIALECTS[SURFACES[client]]
    top = scan(body, acted_on=dialect.acted_on, pause=pause)
    request = msgspec.structs.replace(dialect.parse_request(top.body, pause), model="m")
    return translate_request(request, _profile(upstream), thinking_of=lambda _: None, pause=pause).body


def _profile(upstream: WireFormat) -> Profile:
    return profile_for(upstream, "m", takes=frozenset(MediaKind))


def _body_of(client: WireFormat, turns: int) -> bytes:
    body = _messages_body(turns)
    if client is MESSAGES:
        return body
    request = DIALECTS[Surface.ANTHROPIC_MESSAGES].parse_request(body, lambda: None)
    translated = translate_request(request, _profile(client), thinking_of=lambda _: None)
    return translated.body


class Work:
    """Counts the calls of Python functions between pauses: a measure of work that no other process disturbs."""

    def __init__(self) -> None:
        self.longest = 0
        self.pauses = 0
        self._calls = 0

    def measure(self, work: Callable[[Pause], object]) -> None:
        before = sys.getprofile()
        sys.setprofile(self._see)
        try:
            work(self._pause)
        finally:
            sys.setprofile(before)

    def _see(self, _frame: object, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            self._calls += 1

    def _pause(self) -> None:
        self.longest = max(self.longest, self._calls)
        self.pauses += 1
        self._calls = 0


PAIRS = [
    (MESSAGES, CHAT),
    (MESSAGES, RESPONSES),
    (MESSAGES, GEMINI),
    (MESSAGES, OLLAMA),
    (CHAT, MESSAGES),
    (RESPONSES, MESSAGES),
    (RESPONSES, CHAT),
    (GEMINI, CHAT),
    (OLLAMA, CHAT),
]


@pytest.mark.parametrize(("client", "upstream"), PAIRS, ids=lambda value: value.value)
def test_t69_no_step_grows_with_the_conversation(client: WireFormat, upstream: WireFormat) -> None:
    few, many = Work(), Work()
    short, long = _body_of(client, 40), _body_of(client, 160)
    few.measure(lambda pause: _translated(client, upstream, short, pause))
    many.measure(lambda pause: _translated(client, upstream, long, pause))
    assert many.pauses > 3 * few.pauses
    assert many.pauses > 2 * 320, "at least once per message when it is parsed, and when it is rendered"
    assert many.longest < 1.25 * few.longest, "the longest step is the same for four times the messages"


def test_t69_translating_in_slices_changes_nothing() -> None:
    body = _messages_body(30)
    pauses: list[int] = []
    sliced = _translated(MESSAGES, CHAT, body, lambda: pauses.append(1))
    assert sliced == _translated(MESSAGES, CHAT, body, lambda: None)
    assert len(pauses) > 60


def test_t69_streams_go_on_while_a_large_request_is_translated() -> None:
    """With a clock on which every look takes a millisecond, so that the slices are the same on every machine."""
    clock = Clock()

    def now() -> float:
        clock.time += 0.001
        return clock.time

    turns, rests = 0, 0
    is_done = False

    def stream() -> None:
        nonlocal turns
        while not is_done:
            turns += 1
            let_others_run()

    def rest() -> None:
        nonlocal rests
        rests += 1
        let_others_run()

    body = _messages_body(160)
    other = gevent.spawn(stream)
    _translated(MESSAGES, CHAT, body, Slices(now, rest))
    seen = turns
    is_done = True
    other.join(timeout=5)
    assert rests > 100
    assert seen >= rests - 1, "every slice was followed by a turn of the stream"


def test_a_body_of_many_letters_is_checked_in_pieces_at_any_cut() -> None:
    """The check of the encoding goes by pieces of bytes, which may end inside a letter."""
    pauses: list[int] = []
    letters = "ж€𝄞" * 400_000
    body = msgspec.json.encode({"model": "m", "text": letters})
    for shift in range(4):
        shifted = b" " * shift + body
        assert scan(shifted, pause=lambda: pauses.append(1)).value("model") == "m"
    assert len(pauses) > 4 * (len(body) >> 20)


@pytest.mark.parametrize("place", [0, 1 << 20, -3])
def test_a_long_body_that_is_not_utf_8_is_refused_wherever_it_breaks(place: int) -> None:
    text = bytearray(b"x" * ((1 << 20) + 500))
    text[place] = 0xFF
    with pytest.raises(InvalidJson, match="UTF-8"):
        scan(b'{"model":"m","t":"' + bytes(text) + b'"}')
