"""Answers turned back into the client's terms, streamed and whole."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.canonical import (
    Answer,
    Block,
    CallKind,
    Citation,
    Media,
    MediaKind,
    Refusal,
    ServerTool,
    SourceKind,
    Stop,
    Text,
    Thinking,
    Token,
    ToolCall,
    stop_of,
)
from omniroute.formats.changes import NO_CHANGES, Changes
from omniroute.formats.events import (
    PING,
    BlockDelta,
    BlockStart,
    BlockStop,
    Checked,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.fold import Folder, unfold
from omniroute.formats.profile import Profile, profile_for
from omniroute.formats.tokens import is_wrapped, unwrap
from omniroute.formats.usage import Usage
from omniroute.formats.way_back import WayBack, kept
from omniroute.formats.wire import WireFormat

CHAT, RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
MESSAGES, GEMINI, OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA
_ID = "0123456789abcdef01234567"
_CUSTOM = Changes(names={"apply_patch_1f": "apply.patch"}, customs=frozenset({"apply.patch"}))
_FORCED = Changes(output_tool="answer")


def _profile(wire_format: WireFormat) -> Profile:
    return profile_for(wire_format, "model", provider="maker", family="conn")


def _way_back(changes: Changes = NO_CHANGES, upstream: WireFormat = CHAT, client: WireFormat = MESSAGES) -> WayBack:
    return WayBack(changes, _profile(upstream), client, _ID)


def _answer(*blocks: Block, stop: Stop = Stop.END, origin: WireFormat = CHAT) -> Answer:
    return Answer(origin, "up_1", "model", blocks, stop)


def _turned(
    *blocks: Block,
    changes: Changes = NO_CHANGES,
    upstream: WireFormat = CHAT,
    client: WireFormat = MESSAGES,
    stop: Stop = Stop.END,
) -> Answer:
    """Return an answer turned back whole, after checking that the stream of it says the same."""
    answer = _answer(*blocks, stop=stop, origin=upstream)
    whole = _way_back(changes, upstream, client).answer(answer)
    assert _streamed(list(unfold(answer)), changes, upstream, client) == whole
    return whole


def _streamed(events: list[Event], changes: Changes, upstream: WireFormat, client: WireFormat) -> Answer:
    way_back, checked, folder = _way_back(changes, upstream, client), Checked(), Folder(upstream)
    for event in events:
        turned = way_back.events([event])
        checked.see(turned)
        folder.see(turned)
    checked.end()
    return folder.answer()


# --- ids and names ---------------------------------------------------------------------------------------------------


def test_t5_ids_survive_and_missing_or_repeated_ones_are_made() -> None:
    calls = (
        ToolCall("call_a", "f", "{}"),
        ToolCall("", "f", "{}"),
        ToolCall("call_a", "f", "{}"),
        ToolCall("functions.f:0", "f", "{}"),
    )
    turned = _turned(*calls, changes=Changes(known_ids=frozenset({"functions.f:0"})))
    ids = [call.id for call in turned.calls]
    prefix = f"call_{_ID[:20]}_"
    assert ids == ["call_a", f"{prefix}2", f"{prefix}3", f"{prefix}4"]
    assert all(len(one) <= 40 and one.replace("_", "a").isalnum() for one in ids)


def test_t5_a_made_id_never_repeats_one_of_the_conversation() -> None:
    taken = f"call_{_ID[:20]}_1"
    turned = _turned(ToolCall("", "f", ""), ToolCall("", "f", ""), changes=Changes(known_ids=frozenset({taken})))
    assert len({taken, *(call.id for call in turned.calls)}) == 3


def test_t5_ids_are_unique_over_all_choices() -> None:
    call = ToolCall("", "f", "{}")
    answer = msgspec.structs.replace(_answer(call), others=(_answer(call), _answer(Text("x"))))
    turned = _way_back().answer(answer)
    assert turned.others[0].calls[0].id not in ("", turned.calls[0].id)
    assert [turned.stop, *(other.stop for other in turned.others)] == [Stop.TOOL_USE, Stop.TOOL_USE, Stop.END]


def test_t6_names_map_back_and_calls_without_a_name_are_dropped() -> None:
    changes = Changes(names={"mcp_x_1f": "mcp.x"})
    turned = _turned(
        ToolCall("1", "", '{"a":1}'),
        Text("between"),
        ToolCall("2", "mcp_x_1f", "{}"),
        ToolCall("3", " ", "{}"),
        ToolCall("4", "known", "{}"),
        changes=changes,
    )
    assert [type(block) for block in turned.blocks] == [Text, ToolCall, ToolCall]
    assert [(call.id, call.name) for call in turned.calls] == [("2", "mcp.x"), ("4", "known")]


def test_t6_an_answer_of_nothing_but_nameless_calls_calls_nothing() -> None:
    turned = _turned(ToolCall("1", "", "{}"), stop=Stop.TOOL_USE)
    assert (turned.blocks, turned.stop) == ((), Stop.END)


# --- custom tools ----------------------------------------------------------------------------------------------------


def test_t13_a_custom_tool_comes_back_with_its_raw_text() -> None:
    patch = '*** Begin Patch\n+\U0001f600 "x"\n*** End Patch'
    turned = _turned(ToolCall("c", "apply_patch_1f", json.dumps({"input": patch})), changes=_CUSTOM, client=RESPONSES)
    assert turned.calls == (ToolCall("c", "apply.patch", patch, CallKind.CUSTOM),)
    assert turned.stop is Stop.TOOL_USE


def test_t13_custom_text_is_streamed_as_it_is_written() -> None:
    way_back = _way_back(_CUSTOM, CHAT, RESPONSES)
    way_back.events([MessageStart("m", "m"), BlockStart(0, ToolCall("c", "apply_patch_1f", ""))])
    assert way_back.events([BlockDelta(0, DeltaKind.ARGUMENTS, '{"inp')]) == []
    assert way_back.events([BlockDelta(0, DeltaKind.ARGUMENTS, 'ut":"a\\')]) == [
        BlockDelta(0, DeltaKind.ARGUMENTS, "a")
    ]
    assert way_back.events([BlockDelta(0, DeltaKind.ARGUMENTS, 'nb"}'), BlockStop(0)]) == [
        BlockDelta(0, DeltaKind.ARGUMENTS, "\nb"),
        BlockStop(0),
    ]


def test_t13_a_native_custom_call_stays_as_it_is() -> None:
    call = ToolCall("c", "apply.patch", '{"input":"x"}', CallKind.CUSTOM)
    assert _turned(call, changes=_CUSTOM, upstream=RESPONSES, client=CHAT).calls == (call,)


# --- the forced output tool ------------------------------------------------------------------------------------------


def test_t50_the_forced_tool_becomes_text() -> None:
    turned = _turned(
        ToolCall("t", "answer", '{"n": 1.0}'), changes=_FORCED, upstream=MESSAGES, client=CHAT, stop=Stop.TOOL_USE
    )
    assert (turned.blocks, turned.stop) == ((Text('{"n": 1.0}'),), Stop.END)


def test_t50_prose_beside_the_forced_tool_is_left_out() -> None:
    turned = _turned(
        Thinking("hm"),
        Text("Here you are:"),
        ToolCall("t", "answer", "{}"),
        Text("Done."),
        ToolCall("t2", "answer", '{"second":1}'),
        changes=_FORCED,
        upstream=MESSAGES,
        client=CHAT,
    )
    assert turned.blocks == (Thinking("hm"), Text("{}"))


def test_t50_without_the_forced_tool_nothing_is_lost() -> None:
    blocks = (Text("I cannot."), Thinking("hm"), Text("Really."), ToolCall("c", "other", "{}"), Text("x"))
    turned = _turned(*blocks, changes=_FORCED, upstream=MESSAGES, client=CHAT)
    assert turned.blocks == blocks
    assert turned.stop is Stop.TOOL_USE


@pytest.mark.parametrize("arguments", ["", " "])
def test_t2_a_forced_tool_without_arguments_is_the_empty_object(arguments: str) -> None:
    turned = _turned(ToolCall("t", "answer", arguments), changes=_FORCED, upstream=MESSAGES, client=CHAT)
    assert isinstance(turned.blocks[0], Text)
    assert turned.blocks[0].text.strip() == "{}"


def test_t50_an_answer_cut_off_inside_the_forced_tool_says_so() -> None:
    turned = _turned(ToolCall("t", "answer", '{"a":'), changes=_FORCED, client=CHAT, stop=Stop.LENGTH)
    assert (turned.blocks, turned.stop) == ((Text('{"a":'),), Stop.LENGTH)


def test_held_prose_is_given_out_before_an_error() -> None:
    way_back = _way_back(_FORCED)
    way_back.events([MessageStart("m", "m")])
    assert way_back.events([BlockStart(0, Text("")), BlockDelta(0, DeltaKind.TEXT, "a"), PING]) == [PING]
    assert way_back.events([StreamError(b"{}")]) == [
        BlockStart(0, Text("")),
        BlockDelta(0, DeltaKind.TEXT, "a"),
        StreamError(b"{}"),
    ]


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [RESPONSES, GEMINI])
def test_t64_tokens_leave_in_an_envelope_that_names_their_maker(client: WireFormat) -> None:
    token = Token("c2ln", MESSAGES)
    turned = _turned(
        Thinking("hm", token),
        Thinking("", Token("cmVk", MESSAGES), redacted=True),
        Text("x"),
        upstream=MESSAGES,
        client=client,
    )
    for block, value in zip(turned.blocks, ("c2ln", "cmVk"), strict=False):
        assert isinstance(block, Thinking)
        assert block.token is not None
        assert unwrap(block.token.value, client) == Token(value, MESSAGES, "maker", "conn")


def test_t17_a_call_token_is_kept_by_the_client_or_by_us() -> None:
    call = ToolCall("c", "f", "{}", token=Token("c2ln", GEMINI))
    to_messages = _turned(Thinking("why"), call, upstream=GEMINI, client=MESSAGES)
    made = Token("c2ln", GEMINI, "maker", "conn")
    assert to_messages.calls[0].token == made
    assert kept(to_messages, MESSAGES) == {"c": ("", made)}
    to_chat = _turned(Thinking("why"), call, ToolCall("d", "f", "{}"), upstream=GEMINI, client=CHAT)
    assert kept(to_chat, CHAT) == {"c": ("why", made)}
    to_gemini = _turned(
        Thinking("why", Token("eA==", MESSAGES)),
        ToolCall("c", "f", "{}", token=Token("eQ==", MESSAGES)),
        upstream=MESSAGES,
        client=GEMINI,
    )
    assert to_gemini.calls[0].token is not None
    assert is_wrapped(to_gemini.calls[0].token.value)
    assert kept(to_gemini, GEMINI) == {}


def test_t16_the_same_format_keeps_its_tokens_untouched() -> None:
    block = Thinking("hm", Token("c2ln", MESSAGES))
    bare = Thinking("unsigned")
    assert _turned(block, bare, upstream=MESSAGES, client=MESSAGES).blocks == (block, bare)


def test_t19_unsigned_reasoning_shown_to_messages_is_marked() -> None:
    turned = _turned(Thinking("hm"), Text("x"), upstream=CHAT, client=MESSAGES)
    first = turned.blocks[0]
    assert isinstance(first, Thinking)
    assert first.token is not None
    assert unwrap(first.token.value, MESSAGES) == Token("", CHAT, "maker", "conn")
    assert _turned(Thinking("hm"), upstream=OLLAMA, client=CHAT).blocks == (Thinking("hm"),)


# --- the reason to stop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "said", "true"),
    [
        ((Text("a"), ToolCall("1", "f", "{}")), Stop.END, Stop.TOOL_USE),
        ((ToolCall("1", "f", "{}"),), Stop.STOP_SEQUENCE, Stop.TOOL_USE),
        ((ToolCall("1", "f", ""),), Stop.PAUSE, Stop.TOOL_USE),
        ((Text("a"),), Stop.TOOL_USE, Stop.END),
        ((Text("a"),), Stop.LENGTH, Stop.LENGTH),
        ((ToolCall("1", "f", "{}"),), Stop.REFUSAL, Stop.REFUSAL),
        ((ToolCall("1", "f", '{"a":1}'),), Stop.LENGTH, Stop.TOOL_USE),
    ],
)
def test_t34_t65_a_call_decides_the_reason(blocks: tuple[Block, ...], said: Stop, true: Stop) -> None:
    assert _turned(*blocks, stop=said).stop is true


@pytest.mark.parametrize("stop", [Stop.LENGTH, Stop.CONTEXT_FULL])
@pytest.mark.parametrize(
    "call",
    [
        ToolCall("1", "f", '{"a":'),
        ToolCall("1", "apply_patch_1f", '{"input":"*** Begin'),
        ToolCall("1", "apply_patch_1f", '{"inp'),
        ToolCall("1", "native", "*** Begin", CallKind.CUSTOM),
    ],
)
def test_t74_a_torn_call_is_never_passed_off_as_a_whole_one(stop: Stop, call: ToolCall) -> None:
    assert _turned(ToolCall("0", "f", "{}"), call, changes=_CUSTOM, stop=stop).stop is stop


def test_t74_free_text_before_the_end_is_whole() -> None:
    turned = _turned(ToolCall("1", "n", "text", CallKind.CUSTOM), Text("and"), stop=Stop.LENGTH)
    assert turned.stop is Stop.TOOL_USE


def test_the_stop_sequence_goes_with_its_reason_only() -> None:
    answer = msgspec.structs.replace(_answer(Text("a"), stop=Stop.STOP_SEQUENCE), stop_sequence="X")
    assert _way_back().answer(answer).stop_sequence == "X"
    calling = msgspec.structs.replace(answer, blocks=(ToolCall("1", "f", "{}"),))
    assert _way_back().answer(calling).stop_sequence is None


# --- all together ----------------------------------------------------------------------------------------------------

_WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_MADE = st.none() | st.builds(Token, st.sampled_from(["c2ln", "opaque_-"]), st.just(CHAT))
_ARGUMENTS = st.one_of(
    st.sampled_from(["", "{}", '{"a":1e400}', '{"a":', "text", '{"input":"a\\n\\ud83d\\ude00"}', '{"input":3}', " "]),
    st.builds(lambda text: json.dumps({"input": text}), _WORDS),
)
_CALL = st.builds(
    ToolCall,
    st.sampled_from(["", "a", "b", "known", " "]),
    st.sampled_from(["", "f", "apply_patch_1f", "answer", "mapped_1"]),
    _ARGUMENTS,
    st.sampled_from([CallKind.FUNCTION, CallKind.FUNCTION, CallKind.CUSTOM]),
    _MADE,
)
_CITATION = st.just(Citation(CHAT, msgspec.Raw(b'{"u":1}'), url="https://example.com"))
_BLOCKS = st.one_of(
    st.builds(Text, _WORDS, citations=st.lists(_CITATION, max_size=1).map(tuple)),
    st.builds(Thinking, _WORDS, _MADE),
    st.just(Thinking("", Token("cmVk", CHAT), redacted=True)),
    _CALL,
    _CALL,
    st.builds(Refusal, _WORDS),
    st.just(Media(MediaKind.IMAGE, SourceKind.INLINE, "AAAA", "image/png")),
    st.just(ServerTool(CHAT, msgspec.Raw(b"{}"))),
)
_CHANGES = st.builds(
    Changes,
    st.just({"apply_patch_1f": "apply.patch", "mapped_1": "mapped!"}),
    st.sampled_from([frozenset(), frozenset({"apply.patch"})]),
    st.sampled_from([None, None, "answer"]),
    st.sampled_from([frozenset(), frozenset({"known"})]),
)
_ANSWERS = st.builds(_answer, st.one_of(_BLOCKS), stop=st.sampled_from(Stop)) | st.builds(
    lambda blocks, stop: _answer(*blocks, stop=stop), st.lists(_BLOCKS, max_size=7), st.sampled_from(Stop)
)


def _pieces(events: list[Event], data: st.DataObject) -> list[Event]:
    """Return a stream of the same answer in smaller pieces, with signs of life between."""
    pieces: list[Event] = []
    for event in events:
        if isinstance(event, BlockDelta) and isinstance(event.value, str) and len(event.value) > 1:
            cut = data.draw(st.integers(0, len(event.value)))
            pieces.append(msgspec.structs.replace(event, value=event.value[:cut]))
            pieces.append(msgspec.structs.replace(event, value=event.value[cut:]))
        else:
            pieces.append(event)
        if data.draw(st.integers(0, 5)) == 0 and not isinstance(event, MessageStop):
            pieces.append(PING)
            pieces.append(UsageUpdate(Usage(output=1)))
    return pieces


@given(_ANSWERS, _CHANGES, st.sampled_from(WireFormat), st.data())
def test_a_stream_turned_back_folds_to_the_answer_turned_back(
    answer: Answer, changes: Changes, client: WireFormat, data: st.DataObject
) -> None:
    whole = _way_back(changes, CHAT, client).answer(answer)
    events = _pieces(list(unfold(answer)), data)
    streamed = _streamed(events, changes, CHAT, client)
    assert msgspec.structs.replace(streamed, usage=whole.usage) == whole
    together = _way_back(changes, CHAT, client)
    folder = Folder(CHAT)
    folder.see(together.events(events))
    assert msgspec.structs.replace(folder.answer(), usage=whole.usage) == whole
    ids = [call.id for call in whole.calls]
    assert len(set(ids)) == len(ids)
    assert not changes.known_ids.intersection(ids)
    assert all(call.name.strip() and call.id for call in whole.calls)
    if not whole.calls:
        assert whole.stop is not Stop.TOOL_USE


@given(_ANSWERS)
def test_what_needs_no_change_is_not_changed(answer: Answer) -> None:
    blocks = tuple(
        msgspec.structs.replace(block, id=f"id{place}", name="f", kind=CallKind.FUNCTION)
        if isinstance(block, ToolCall)
        else block
        for place, block in enumerate(answer.blocks)
    )
    plain = msgspec.structs.replace(
        answer, blocks=blocks, stop=stop_of(answer.stop, [b for b in blocks if isinstance(b, ToolCall)])
    )
    assert _way_back(client=CHAT).answer(plain) == plain


# --- speed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DeltaKind.TEXT, DeltaKind.THINKING, DeltaKind.ARGUMENTS])
def test_a_delta_that_needs_no_change_passes_as_the_same_list(kind: DeltaKind) -> None:
    heads: dict[DeltaKind, Block] = {
        DeltaKind.TEXT: Text(""),
        DeltaKind.THINKING: Thinking(""),
        DeltaKind.ARGUMENTS: ToolCall("c", "f", ""),
    }
    way_back = _way_back()
    way_back.events([MessageStart("m", "m"), BlockStart(0, heads[kind])])
    events: list[Event] = [BlockDelta(0, kind, "word")]
    assert way_back.events(events) is events
    start = time.process_time()
    for _ in range(20_000):
        way_back.events(events)
    assert (time.process_time() - start) / 20_000 < 5e-6  # a tenth of it on a quiet machine
