"""Which session a request belongs to."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.splice import scan
from omniroute.formats.wire import WireFormat
from omniroute.gateway.asks import NO_ASKS, Asks
from omniroute.gateway.session_keys import SessionKey, SessionKeys

KEYS = SessionKeys(b"the secret of this server")
CHAT, MESSAGES, RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.ANTHROPIC_MESSAGES, WireFormat.OPENAI_RESPONSES
GEMINI, OLLAMA = WireFormat.GEMINI, WireFormat.OLLAMA
HELLO = {"role": "user", "content": "Hello"}


def find(
    body: dict[str, Any] | bytes,
    wire_format: WireFormat = CHAT,
    *,
    asks: Asks = NO_ASKS,
    key_id: str = "key_1",
    keys: SessionKeys = KEYS,
) -> SessionKey:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return keys.find(key_id, asks, scan(data), wire_format)


def derived(*messages: Any, **members: Any) -> str:
    found = find({"model": "m", "messages": list(messages), **members})
    assert found.effective is not None
    assert not found.is_explicit
    return found.effective


MARKED = {"messages": [HELLO], "metadata": {"user_id": "u-1"}, "prompt_cache_key": "p-1", "conversation": {"id": "c-1"}}


def test_the_callers_own_word_comes_first_then_its_clients_then_the_bodys() -> None:
    both = Asks(session="s-1", native_session="n-1")
    assert find(MARKED, MESSAGES, asks=both).shown == "s-1"
    assert find(MARKED, MESSAGES, asks=Asks(native_session="n-1")).shown == "n-1"
    assert find(MARKED, MESSAGES).shown == "u-1"
    assert find(MARKED, CHAT).shown == "p-1"
    assert find(MARKED, RESPONSES).shown == "p-1"
    unkeyed = {"input": [HELLO], "conversation": {"id": "c-1"}, "metadata": {"user_id": "u-1"}}
    assert find(unkeyed, RESPONSES).shown == "c-1"
    assert find({"input": [HELLO], "conversation": "c-2"}, RESPONSES).shown == "c-2"
    assert find(MARKED, GEMINI).shown is not None


@pytest.mark.parametrize(
    ("body", "wire_format"), [(MARKED, MESSAGES), (MARKED, CHAT), (MARKED, RESPONSES)], ids=["user", "cache", "input"]
)
def test_what_the_caller_named_is_explicit(body: dict[str, Any], wire_format: WireFormat) -> None:
    found = find(body, wire_format)
    assert found.is_explicit
    assert re.fullmatch("[0-9a-f]{32}", found.effective or "")


def test_a_derived_key_is_shown_as_an_opaque_one() -> None:
    found = find({"messages": [HELLO]})
    assert not found.is_explicit
    assert re.fullmatch("ses_[0-9a-f]{32}", found.shown or "")


@given(st.text(min_size=1, max_size=20), st.text(max_size=10), st.text(max_size=10))
def test_two_api_keys_never_share_a_session(value: str, one: str, other: str) -> None:
    if one == other:
        return
    asks = Asks(session=value)
    assert find({}, asks=asks, key_id=one).effective != find({}, asks=asks, key_id=other).effective
    assert find({"messages": [HELLO]}, key_id=one).effective != find({"messages": [HELLO]}, key_id=other).effective


def test_another_kind_another_value_or_another_server_is_another_session() -> None:
    values = [
        find({}, asks=Asks(session="x")),
        find({}, asks=Asks(session="y")),
        find({}, asks=Asks(native_session="x")),
        find({"metadata": {"user_id": "x"}}, MESSAGES),
        find({"prompt_cache_key": "x"}, CHAT),
        find({"conversation": "x"}, RESPONSES),
        find({"messages": [{"role": "user", "content": "x"}]}),
        find({}, asks=Asks(session="x"), keys=SessionKeys(b"another")),
    ]
    assert len({found.effective for found in values}) == len(values)


@pytest.mark.parametrize(
    ("members", "wire_format", "named"),
    [
        ({"metadata": {"user_id": "x" * 257}}, MESSAGES, "metadata.user_id:ignored"),
        ({"metadata": {"user_id": "a\nb"}}, MESSAGES, "metadata.user_id:ignored"),
        ({"prompt_cache_key": ""}, CHAT, "prompt_cache_key:ignored"),
        ({"conversation": {"id": "x" * 300}}, RESPONSES, "conversation.id:ignored"),
    ],
)
def test_a_mark_that_cannot_be_used_is_named(members: dict[str, Any], wire_format: WireFormat, named: str) -> None:
    found = find({"messages": [HELLO], **members}, wire_format)
    assert found.warnings == (named,)
    assert not found.is_explicit
    assert found.effective == find({"messages": [HELLO]}, wire_format).effective


@pytest.mark.parametrize(
    "members",
    [
        {"metadata": None},
        {"metadata": "u"},
        {"metadata": {"user_id": None}},
        {"metadata": {"user_id": 7}},
        {"metadata": {"user_id": "u", "more": "x" * 20_000}},
    ],
)
def test_what_is_no_mark_at_all_is_passed_over(members: dict[str, Any]) -> None:
    found = find({"messages": [HELLO], **members}, MESSAGES)
    assert (found.is_explicit, found.warnings) == (False, ())


# --- derived keys ----------------------------------------------------------------------------------------------------


def test_a_conversation_keeps_its_key_as_it_grows() -> None:
    system = {"role": "system", "content": "Be brief."}
    first = derived(system, HELLO)
    assert derived(system, HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "More"}) == first
    assert derived(system, HELLO, model="another", temperature=1) == first
    assert derived(system, {"role": "user", "content": "Hullo"}) != first
    assert derived({"role": "system", "content": "Be long."}, HELLO) != first
    assert derived(HELLO) != first


def test_marks_for_caches_do_not_count() -> None:
    plain = derived({"role": "user", "content": "Hello"})
    part = {"type": "text", "text": "Hello"}
    assert derived({"role": "user", "content": [part]}) == plain
    assert derived({"role": "user", "content": [{**part, "cache_control": {"type": "ephemeral"}}]}) == plain
    assert derived({"role": "user", "content": [{**part, "text": "Hullo"}]}) != plain


@pytest.mark.parametrize(
    ("system", "turns", "wire_format"),
    [
        ("system", {"messages": [HELLO]}, MESSAGES),
        ("instructions", {"input": [{"type": "message", **HELLO}]}, RESPONSES),
        ("instructions", {"input": "Hello"}, RESPONSES),
        ("systemInstruction", {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}, GEMINI),
        ("system_instruction", {"contents": [{"parts": [{"text": "Hello"}]}]}, GEMINI),
        ("system", {"prompt": "Hello"}, OLLAMA),
    ],
)
def test_every_format_has_a_system_text_and_a_first_message(
    system: str, turns: dict[str, Any], wire_format: WireFormat
) -> None:
    found = [
        find(turns, wire_format),
        find({system: "Be brief.", **turns}, wire_format),
        find({system: "Be long.", **turns}, wire_format),
        find(json.loads(json.dumps(turns).replace("Hello", "Hullo")), wire_format),
    ]
    assert len({one.effective for one in found}) == 4
    assert None not in {one.effective for one in found}
    if isinstance(next(iter(turns.values())), list):
        name, several = next(iter(turns.items()))
        longer = {name: [*several, {"role": "assistant", "content": "Hi", "parts": []}]}
        assert find(longer, wire_format).effective == found[0].effective


def test_the_first_user_message_counts_wherever_it_stands() -> None:
    before = [{"type": "reasoning"}, {"role": "assistant", "content": "I am here."}]
    assert derived(*before, HELLO) == derived(HELLO)


@pytest.mark.parametrize(
    "body", [{}, {"messages": []}, {"input": [{"type": "function_call_output"}]}, {"messages": [{"role": "assistant"}]}]
)
def test_where_nothing_was_said_there_is_no_session(body: dict[str, Any]) -> None:
    assert find(body) == SessionKey()


def test_numbers_and_texts_for_completion_have_a_key_as_well() -> None:
    bodies: list[dict[str, Any]] = [{"prompt": [1, 2]}, {"prompt": [1, 3]}, {"prompt": ["a", "b"]}, {"prompt": "a"}]
    assert len({find(body).effective for body in bodies}) == 4


@pytest.mark.parametrize("size", [3000, 12_000, 17_000, 200_000, 300_000, 3_000_000])
def test_a_long_first_message_gives_a_key_that_lasts(size: int) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * size}}
    system = {"role": "system", "content": "s" * 9000}
    first = derived(system, {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]})
    later = derived(
        system,
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]},
        {"role": "assistant", "content": "x" * 400_000},
    )
    assert later == first
    other = derived(system, {"role": "user", "content": [{"type": "text", "text": "What is that?"}, image]})
    assert other != first


@pytest.mark.parametrize("size", [100, 15_000, 20_000, 200_000])
def test_messages_that_differ_only_at_their_end_are_told_apart(size: int) -> None:
    one, other = ({"role": "user", "content": "x" * size + end} for end in ("a", "b"))
    assert derived(one) != derived(other)
    assert derived(one) == derived(one, {"role": "assistant", "content": "y" * size})


@pytest.mark.parametrize("place", ["start", "end"])
def test_long_system_texts_are_told_apart_by_their_ends(place: str) -> None:
    middle = "x" * 50_000
    one, other = ("a" + middle, "b" + middle) if place == "start" else (middle + "a", middle + "b")
    body = {"messages": [HELLO]}
    assert find({"system": one, **body}, MESSAGES).effective != find({"system": other, **body}, MESSAGES).effective
    assert find({"system": one, **body}, MESSAGES).effective != find({"system": one + "c", **body}, MESSAGES).effective


def test_the_way_the_body_is_laid_out_does_not_matter_to_the_message() -> None:
    plain = find(b'{"messages":[{"role":"user","content":"Hello"}]}')
    spread = find(b'{ "messages" : [ \n\t{ "content" : "Hello" , "role" : "user" } \n, {} ] }')
    assert spread.effective == plain.effective


def test_only_so_many_turns_are_looked_at() -> None:
    assert find({"messages": [{"role": "assistant"}] * 1000 + [HELLO]}) == SessionKey()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "parts", "id"]), inner)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["messages", "input", "contents", "prompt", "system", "metadata", "conversation", "prompt_cache_key"]
        ),
        json_values,
    ),
    st.sampled_from(WireFormat),
)
def test_any_body_has_a_key_or_none_and_the_same_each_time(body: dict[str, Any], wire_format: WireFormat) -> None:
    found = find(body, wire_format)
    assert found == find(body, wire_format)
    assert (found.effective is None) == (found.shown is None)
