"""Requests and answers on their way from every format to every other and back: what survives, and what may differ.

The list of all that may differ without being a loss is in `crossings.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from omniroute.errors import UnsupportedFeature
from omniroute.formats.canonical import (
    Answer,
    CallKind,
    Message,
    Request,
    Role,
    Stop,
    Text,
    Token,
    ToolCall,
    is_torn,
    stop_of,
)
from omniroute.formats.changes import NO_CHANGES, Changes
from omniroute.formats.codec import Reply, no_pause
from omniroute.formats.events import Checked, Event, MessageStop, StreamError
from omniroute.formats.fold import Folder, unfold
from omniroute.formats.media import urls_to_fetch, with_fetched
from omniroute.formats.translate import UPSTREAMS, TranslatedRequest, translate_request
from omniroute.formats.usage import Usage
from omniroute.formats.way_back import WayBack
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import DIALECTS, Surface
from tests.formats.crossings import (
    CANNOT_SHOW,
    CHAT,
    FETCHED,
    FORMATS,
    GEMINI,
    MESSAGES,
    OLLAMA,
    PAIRS,
    RESPONSES,
    able,
    answered,
    calls_of,
    differences,
    media_of,
    notes_of,
    plain,
    results_of,
    sayable,
)
from tests.formats.strategies import requests

FIXTURES: Final = Path(__file__).parents[1] / "fixtures"
_SOME: Final = settings(max_examples=10, phases=(Phase.explicit, Phase.generate))
"""For each of twenty pairs. A whole conversation takes minutes to be made smaller, and reads well enough as it is."""

SURFACES: Final = {
    CHAT: Surface.OPENAI_CHAT,
    RESPONSES: Surface.OPENAI_RESPONSES,
    MESSAGES: Surface.ANTHROPIC_MESSAGES,
    GEMINI: Surface.GEMINI,
    OLLAMA: Surface.OLLAMA_CHAT,
}
_HI: Final = [{"role": "user", "content": "Hi"}]
ASKED: Final = {
    CHAT: {"model": "m", "messages": _HI, "stream": True, "stream_options": {"include_usage": True}},
    RESPONSES: {
        "model": "m",
        "input": "Hi",
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    },
    MESSAGES: {
        "model": "m",
        "max_tokens": 9999,
        "messages": _HI,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    },
    GEMINI: {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    },
    OLLAMA: {"model": "m", "messages": _HI, "think": True},
}
"""What clients ask that want to see all that their format can show."""


def cases(kind: str) -> list[tuple[WireFormat, str]]:
    return [(form, path.parent.name) for form in FORMATS for path in sorted((FIXTURES / form).glob(f"*/{kind}"))]


def parsed(wire_format: WireFormat, body: bytes, *, stream: bool = False) -> Request:
    request = UPSTREAMS[wire_format].parse_request(body, no_pause)
    return msgspec.structs.replace(request, model="m", stream=stream or request.stream)


def nothing_kept(call_id: str) -> tuple[str, Token | None] | None:
    del call_id
    return None


def fetched(request: Request, target: WireFormat) -> Request:
    """Do what the gateway does before: fetch what a target cannot, there or on the way back."""
    foreign = msgspec.structs.replace(request, origin=WireFormat.OTHER)
    urls = [url for form in (target, request.origin) for url in urls_to_fetch(foreign, able(form))]
    return with_fetched(request, dict.fromkeys(urls, FETCHED))


def sent(request: Request, target: WireFormat) -> tuple[TranslatedRequest, Request]:
    """Send a request to a target; return what goes out, and what the target's own parser reads in it."""
    translated = translate_request(request, able(target), thinking_of=nothing_kept)
    return translated, parsed(target, translated.body, stream=request.stream)


def there_and_back(start: Request, target: WireFormat) -> tuple[Request, Request, tuple[str, ...]]:
    """Return what the target reads, what the client's format reads when it comes back, and what was lost."""
    there, middle = sent(start, target)
    back, end = sent(middle, start.origin)
    return middle, end, (*there.losses.paths, *back.losses.paths)


# --- requests --------------------------------------------------------------------------------------------------------

_HERE: Final = frozenset(FORMATS)
_OPENAI: Final = frozenset({CHAT, RESPONSES})
REFUSED: Final[dict[tuple[WireFormat, str], dict[frozenset[WireFormat], str]]] = {
    (CHAT, "all_knobs"): {_HERE: "n"},
    (CHAT, "documents_and_audio"): {
        frozenset({RESPONSES}): "audio",
        frozenset({MESSAGES, GEMINI}): "messages.0.content.1",
        frozenset({OLLAMA}): "messages.0.content.3",
    },
    (CHAT, "images"): {_HERE - {GEMINI}: "messages.0.content.5"},
    (CHAT, "unknown_fields"): {_HERE: "messages.0.content.1"},
    (RESPONSES, "codex"): {_HERE: "input"},
    (RESPONSES, "continued"): {_HERE: "previous_response_id"},
    (RESPONSES, "media"): {_HERE - _OPENAI: "input"},
    (RESPONSES, "unknown_fields"): {_HERE: "previous_response_id"},
    (RESPONSES, "web_search"): {_HERE: "tools"},
    (MESSAGES, "media"): {_HERE: "messages.0.content.2"},
    (MESSAGES, "oddities"): {_HERE: "messages.2.content.2"},
    (MESSAGES, "server_tools"): {_HERE: "container"},
    (GEMINI, "candidates"): {_HERE - {CHAT}: "generationConfig.candidateCount"},
    (GEMINI, "media"): {_HERE - {OLLAMA}: "contents.0.parts.3", frozenset({OLLAMA}): "contents.0.parts.0"},
    (GEMINI, "oddities"): {_HERE: "cachedContent"},
    (GEMINI, "server_tools"): {_HERE: "tools"},
    (GEMINI, "speech"): {_HERE - {CHAT}: "generationConfig.responseModalities"},
}
"""Fixtures that some target must refuse, and the place in the client's own words that it must name."""


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize(("client", "case"), cases("request.json"))
def test_a_recorded_request_survives_the_way_there_and_back(client: WireFormat, case: str, target: WireFormat) -> None:
    start = fetched(parsed(client, (FIXTURES / client / case / "request.json").read_bytes()), target)
    if client is target:
        there, _ = sent(start, target)
        assert there.losses.paths == ()
        return
    for targets, param in REFUSED.get((client, case), {}).items():
        if target in targets:
            with pytest.raises(UnsupportedFeature) as refused:
                sent(start, target)
            assert refused.value.param == param
            start = sayable(start, target)
            if not start.messages:
                return
    middle, end, lost = there_and_back(start, target)
    assert differences(start, end, target, lost) == {}
    _assert_calls_survive(start, middle, target)


def _assert_calls_survive(start: Request, middle: Request, target: WireFormat) -> None:
    """Ids, names, arguments, order and pairing, without any loss: property 5."""
    before, after = calls_of(start), calls_of(middle)
    assert [name for _, name, _, _ in before] == [name for _, name, _, _ in after]
    for (old, _, said, kind), (new, _, heard, _) in zip(before, after, strict=True):
        if OLLAMA not in (start.origin, target) and old and len(old) <= 40 and [b[0] for b in before].count(old) == 1:
            assert new == old
        if kind == CallKind.CUSTOM and heard != said:
            assert plain(heard) == {"input": said}
        elif _is_object(said):
            assert heard == (said or "{}")
    answered_calls = [call_id for call_id, _ in results_of(middle)]
    assert answered_calls == [call_id for call_id, *_ in after][: len(answered_calls)]


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(plain(arguments), dict) if arguments else True
    except ValueError:
        return False


def wire_requests(client: WireFormat) -> st.SearchStrategy[Request]:
    """Requests as that format's parser reads them from a body that could be on the wire."""
    other = OLLAMA if client is not OLLAMA else CHAT

    def on_the_wire(request: Request) -> Request:
        request = sayable(fetched(request, client), client)
        translated = translate_request(request, able(client), thinking_of=nothing_kept)
        return parsed(client, translated.body, stream=request.stream)

    return requests(other, output=client is not GEMINI).map(on_the_wire)


@pytest.mark.parametrize(("client", "target"), PAIRS)
@_SOME
@given(data=st.data())
def test_any_request_survives_the_way_there_and_back(
    client: WireFormat, target: WireFormat, data: st.DataObject
) -> None:
    start = fetched(data.draw(wire_requests(client)), target)
    try:
        middle, end, lost = there_and_back(start, target)
    except UnsupportedFeature:
        start = sayable(start, target)
        middle, end, lost = there_and_back(start, target)
    assert differences(start, end, target, lost) == {}
    _assert_calls_survive(start, middle, target)


@pytest.mark.parametrize(("client", "target"), PAIRS)
@_SOME
@given(data=st.data())
def test_further_trips_change_nothing_more(client: WireFormat, target: WireFormat, data: st.DataObject) -> None:
    """What a crossing changes it changes once, so that no conversation drifts."""
    start = sayable(fetched(data.draw(wire_requests(client)), target), target)
    bodies: list[bytes] = []
    for _ in range(4):
        there, middle = sent(start, target)
        bodies.append(there.body)
        start = sent(middle, client)[1]
    # What is left of a wish about reasoning may take two trips: from an effort to a switch to the model's own choice.
    assert bodies[3] == bodies[2]
    assert calls_of(start) == calls_of(sent(sent(start, target)[1], client)[1])


@pytest.mark.parametrize(("client", "target"), PAIRS)
@_SOME
@given(said=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_t71_a_text_that_stands_alone_keeps_every_character(client: WireFormat, target: WireFormat, said: str) -> None:
    text = f"a{said}z"
    start = Request(client, "m", (Message(Role.USER, (Text(text),), plain=True),))
    _, middle = sent(start, target)
    assert [block.text for message in middle.messages for block in message.blocks if isinstance(block, Text)] == [text]


# --- answers ---------------------------------------------------------------------------------------------------------

_TORN: Final = frozenset({"torn_call"})
_FAILED: Final = frozenset({"malformed"})


def reply_to(client: WireFormat) -> Reply:
    return Reply(
        parsed(client, msgspec.json.encode(ASKED[client])), "m", "0123456789abcdef01234567", 1_700_000_000, _no_trailer
    )


def _no_trailer(usage: Usage) -> bytes:
    del usage
    return b""


def way_back(client: WireFormat, upstream: WireFormat, changes: Changes = NO_CHANGES) -> WayBack:
    return WayBack(changes, able(upstream), client, "0123456789abcdef")


def shown(answer: Answer, client: WireFormat) -> bytes:
    return DIALECTS[SURFACES[client]].render_answer(answer, reply_to(client))


def streamed(events: Iterable[Event], client: WireFormat) -> bytes:
    renderer = DIALECTS[SURFACES[client]].new_renderer(reply_to(client))
    return b"".join(renderer.render([event]) for event in events)


def read(data: bytes, wire_format: WireFormat) -> list[Event]:
    """Read a stream, holding its events against the rules of streams."""
    parser, checked = UPSTREAMS[wire_format].new_parser(), Checked()
    events = parser.feed(data) + parser.close()
    checked.see(events)
    checked.end()
    return events


def folded(events: Iterable[Event], wire_format: WireFormat) -> Answer:
    folder = Folder(wire_format)
    folder.see(events)
    return folder.answer()


def stream_of(upstream: WireFormat, case: str) -> bytes:
    (path,) = (FIXTURES / upstream / case).glob("stream.*")
    return path.read_bytes()


def whole_of(upstream: WireFormat, case: str) -> Answer:
    answer = UPSTREAMS[upstream].parse_answer((FIXTURES / upstream / case / "response.json").read_bytes())
    assert answer is not None
    return answer


@pytest.mark.parametrize("client", FORMATS)
@pytest.mark.parametrize(("upstream", "case"), [one for one in cases("response.json") if one[1] not in _TORN | _FAILED])
def test_a_recorded_answer_reaches_every_client(upstream: WireFormat, case: str, client: WireFormat) -> None:
    said = way_back(client, upstream).answer(whole_of(upstream, case))
    body = shown(said, client)
    heard = UPSTREAMS[client].parse_answer(body)
    assert heard is not None
    assert answered(heard, client, notes_of(said)) == answered(said, client)
    _assert_media_is_there(said, body)


def _assert_media_is_there(said: Answer, body: bytes) -> None:
    for media in media_of(said):
        assert media.data.encode() in body or CANNOT_SHOW.encode() in body


@pytest.mark.parametrize("client", FORMATS)
@pytest.mark.parametrize(("upstream", "case"), [one for one in cases("stream.*") if one[1] not in _TORN | _FAILED])
def test_a_recorded_stream_reaches_every_client(upstream: WireFormat, case: str, client: WireFormat) -> None:
    events = way_back(client, upstream).events(read(stream_of(upstream, case), upstream))
    body = streamed(events, client)
    said, heard = folded(events, upstream), folded(read(body, client), client)
    assert answered(heard, client, notes_of(said)) == answered(said, client)
    _assert_media_is_there(said, body)


@pytest.mark.parametrize("client", FORMATS)
@pytest.mark.parametrize(
    ("upstream", "case"),
    [one for one in cases("stream.*") if one in cases("response.json") and one[1] not in _TORN | _FAILED],
)
def test_whole_and_streamed_answers_agree_for_every_client(upstream: WireFormat, case: str, client: WireFormat) -> None:
    whole = UPSTREAMS[client].parse_answer(shown(way_back(client, upstream).answer(whole_of(upstream, case)), client))
    events = way_back(client, upstream).events(read(stream_of(upstream, case), upstream))
    assert whole is not None
    assert answered(folded(read(streamed(events, client), client), client), client) == answered(whole, client)


@pytest.mark.parametrize("client", FORMATS)
@pytest.mark.parametrize(("upstream", "case"), [one for one in cases("response.json") if one[1] not in _TORN | _FAILED])
def test_a_whole_answer_can_be_streamed_to_a_client_that_wants_a_stream(
    upstream: WireFormat, case: str, client: WireFormat
) -> None:
    said = way_back(client, upstream).answer(whole_of(upstream, case))
    heard = folded(read(streamed(unfold(said), client), client), client)
    assert answered(heard, client, notes_of(said)) == answered(said, client)


@pytest.mark.parametrize("client", FORMATS)
@pytest.mark.parametrize("upstream", [CHAT, RESPONSES])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_t74_a_torn_call_is_a_valid_call_for_no_client(
    upstream: WireFormat, client: WireFormat, is_streamed: bool
) -> None:
    events = way_back(client, upstream).events(read(stream_of(upstream, "torn_call"), upstream))
    if is_streamed:
        heard = folded(read(streamed(events, client), client), client)
    else:
        found = UPSTREAMS[client].parse_answer(shown(folded(events, upstream), client))
        assert found is not None
        heard = found
    assert all(is_torn(call) for call in heard.calls)
    assert heard.stop is Stop.LENGTH


@pytest.mark.parametrize("client", FORMATS)
def test_an_answer_that_failed_ends_no_clients_stream_well(client: WireFormat) -> None:
    events = way_back(client, GEMINI).events(read(stream_of(GEMINI, "malformed"), GEMINI))
    assert isinstance(events[-1], StreamError)
    end = read(streamed(events, client), client)[-1]
    assert not isinstance(end, MessageStop)


_TOOL_USE: Final = {
    CHAT: b'"finish_reason":"tool_calls"',
    RESPONSES: b'"type":"function_call"',
    MESSAGES: b'"stop_reason":"tool_use"',
    GEMINI: b'"functionCall":',
    OLLAMA: b'"tool_calls":[',
}
"""How each format says that the model waits for a tool."""


@pytest.mark.parametrize("client", FORMATS)
@pytest.mark.parametrize("upstream", FORMATS)
@pytest.mark.parametrize("reason", [Stop.END, Stop.TOOL_USE, Stop.STOP_SEQUENCE])
def test_t65_text_and_a_call_end_with_tool_use_for_every_client(
    upstream: WireFormat, client: WireFormat, reason: Stop
) -> None:
    blocks = (Text("I look."), ToolCall("call_1", "look", '{"a":1}'))
    said = way_back(client, upstream).answer(Answer(upstream, "id", "m", blocks, reason))
    whole, stream = shown(said, client), streamed(unfold(said), client)
    for body in (whole, stream):
        assert _TOOL_USE[client] in body
        assert b"I look." in body
        for other in (b'"finish_reason":"stop"', b'"stop_reason":"end_turn"', b'"status":"incomplete"'):
            assert other not in body
    heard = folded(read(stream, client), client)
    assert stop_of(heard.stop, heard.calls) is Stop.TOOL_USE


@pytest.mark.parametrize("client", FORMATS)
@pytest.mark.parametrize("upstream", FORMATS)
def test_what_a_provider_ran_itself_is_told_or_kept_quiet_but_never_passed_on_raw(
    upstream: WireFormat, client: WireFormat
) -> None:
    for case in ("server_tools", "web_search"):
        if not (FIXTURES / upstream / case / "response.json").exists() or client is upstream:
            continue
        said = way_back(client, upstream).answer(whole_of(upstream, case))
        body = shown(said, client)
        assert notes_of(said) != []
        for word in (b"web_search_tool_result", b'"executableCode"', b"web_search_call"):
            assert word not in body
