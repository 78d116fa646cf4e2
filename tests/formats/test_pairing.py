"""Whatever a history looks like, the target sees every call answered once, in order, right after its turn."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.canonical import (
    Block,
    CallKind,
    Media,
    MediaKind,
    Message,
    Role,
    SourceKind,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from omniroute.formats.media import moved_out
from omniroute.formats.pairing import NO_RESULT, pair
from omniroute.formats.profile import IdRule
from omniroute.formats.tool_ids import Ids, is_legal
from omniroute.formats.wire import WireFormat
from tests.formats.strategies import CACHE_MARK, PNG, broken_histories, histories

_IMAGE = Media(MediaKind.IMAGE, SourceKind.INLINE, PNG, "image/png")


def _ids(rule: IdRule = IdRule.LONG) -> Ids:
    return Ids(rule, WireFormat.OPENAI_RESPONSES)


def _user(*blocks: Block | str) -> Message:
    return Message(Role.USER, tuple(Text(block) if isinstance(block, str) else block for block in blocks))


def _assistant(*blocks: Block | str) -> Message:
    return Message(Role.ASSISTANT, tuple(Text(block) if isinstance(block, str) else block for block in blocks))


def _call(call_id: str, name: str = "f") -> ToolCall:
    return ToolCall(call_id, name, "{}")


def _result(call_id: str, text: str = "done", name: str | None = None) -> ToolResult:
    return ToolResult(call_id, (Text(text),), name=name)


def _tool(*results: ToolResult) -> Message:
    return Message(Role.TOOL, results)


def _missing(call_id: str) -> ToolResult:
    return ToolResult(call_id, (Text(NO_RESULT),), plain=True)


def _check(messages: tuple[Message, ...]) -> None:
    ids: set[str] = set()
    for index, message in enumerate(messages):
        assert message.blocks
        calls = [block for block in message.blocks if isinstance(block, ToolCall)]
        results = [block for block in message.blocks if isinstance(block, ToolResult)]
        if results:
            assert message.role is Role.TOOL
            assert len(results) == len(message.blocks)
            assert any(isinstance(block, ToolCall) for block in messages[index - 1].blocks)
        if not calls:
            continue
        assert message.role is Role.ASSISTANT
        following = messages[index + 1]
        assert [block.call_id for block in following.blocks if isinstance(block, ToolResult)] == [
            call.id for call in calls
        ]
        assert [block.kind for block in following.blocks if isinstance(block, ToolResult)] == [
            call.kind for call in calls
        ]
        ids |= {call.id for call in calls}
    assert len(ids) == sum(isinstance(block, ToolCall) for message in messages for block in message.blocks)


def _words(messages: tuple[Message, ...]) -> int:
    """Count all texts and images of the user's and the tools'."""
    blocks = [block for message in messages for block in message.blocks]
    inner = [part for block in blocks if isinstance(block, ToolResult) for part in block.blocks]
    made = {NO_RESULT, "[tool result]", "[tool error]"}
    return sum(
        isinstance(block, Media) or (isinstance(block, Text) and block.text not in made) for block in (*blocks, *inner)
    )


@given(broken_histories(), st.sampled_from(IdRule))
def test_t07_every_call_is_answered_once_in_order_right_after_its_turn(
    messages: tuple[Message, ...], rule: IdRule
) -> None:
    paired = pair(messages, _ids(rule))
    _check(paired)
    calls = [block for message in paired for block in message.blocks if isinstance(block, ToolCall)]
    assert all(is_legal(call.id, rule) for call in calls)
    before = [block for message in messages for block in message.blocks if isinstance(block, ToolCall)]
    assert [(call.name, call.arguments, call.kind) for call in calls] == [
        (call.name, call.arguments, call.kind) for call in before
    ]


@given(broken_histories())
def test_nothing_that_was_said_is_lost(messages: tuple[Message, ...]) -> None:
    assert _words(pair(messages, _ids())) == _words(messages)


@given(broken_histories())
def test_pairing_twice_changes_nothing_more(messages: tuple[Message, ...]) -> None:
    once = pair(messages, _ids())
    assert pair(once, _ids()) == once


@given(broken_histories(), st.data())
def test_t64_ids_of_earlier_calls_do_not_depend_on_later_turns(
    messages: tuple[Message, ...], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(messages)))
    before = [block.id for m in pair(messages[:cut], _ids()) for block in m.blocks if isinstance(block, ToolCall)]
    after = [block.id for m in pair(messages, _ids()) for block in m.blocks if isinstance(block, ToolCall)]
    assert after[: len(before)] == before


@given(histories(WireFormat.OPENAI_CHAT, inline_system=False))
def test_well_formed_histories_keep_every_message_but_for_results_in_one(messages: tuple[Message, ...]) -> None:
    paired = pair(messages, _ids())
    assert [m for m in paired if m.role is not Role.TOOL] == [m for m in messages if m.role is not Role.TOOL]
    assert [b for m in paired for b in m.blocks] == [b for m in messages for b in m.blocks]


def test_a_history_in_order_is_returned_as_it_is() -> None:
    messages = (_user("hi"), _assistant(_call("a"), _call("b")), _tool(_result("a"), _result("b")), _assistant("ok"))
    assert pair(messages, _ids()) is messages


def test_results_of_one_turn_come_into_one_message_in_the_order_of_its_calls() -> None:
    paired = pair((_assistant(_call("a"), _call("b")), _tool(_result("b", "2")), _tool(_result("a", "1"))), _ids())
    assert paired[1] == _tool(_result("a", "1"), _result("b", "2"))
    assert len(paired) == 2


def test_t08_text_beside_results_follows_them() -> None:
    paired = pair((_assistant(_call("a")), _user("look:", _result("a"), "and go on")), _ids())
    assert paired == (_assistant(_call("a")), _tool(_result("a")), _user("look:", "and go on"))


def test_a_result_without_a_call_becomes_text_of_the_user_in_its_place() -> None:
    paired = pair((_user("hi"), _tool(_result("gone", "42")), _assistant("ok")), _ids())
    assert paired == (_user("hi"), _user("[tool result] 42"), _assistant("ok"))


def test_an_orphan_that_failed_says_so_and_keeps_its_images_and_mark() -> None:
    orphan = ToolResult("gone", (_IMAGE,), is_error=True, cache=CACHE_MARK)
    paired = pair((_user(orphan),), _ids())
    assert paired == (_user("[tool error]", msgspec.structs.replace(_IMAGE, cache=CACHE_MARK)),)


def test_a_result_before_its_call_is_no_result_of_it() -> None:
    paired = pair((_tool(_result("a", "early")), _assistant(_call("a")), _user("so?")), _ids())
    assert paired == (_user("[tool result] early"), _assistant(_call("a")), _tool(_missing("a")), _user("so?"))


def test_of_two_results_the_first_counts() -> None:
    paired = pair((_assistant(_call("a")), _tool(_result("a", "1")), _tool(_result("a", "2"))), _ids())
    assert paired == (_assistant(_call("a")), _tool(_result("a", "1")), _user("[tool result] 2"))


def test_a_late_result_moves_up_and_what_the_user_said_stays_after_it() -> None:
    paired = pair((_assistant(_call("a")), _user("hurry"), _tool(_result("a")), _assistant("ok")), _ids())
    assert paired == (_assistant(_call("a")), _tool(_result("a")), _user("hurry"), _assistant("ok"))


def test_system_text_between_call_and_result_goes_after_the_results() -> None:
    system = Message(Role.SYSTEM, (Text("be brief"),))
    paired = pair((_assistant(_call("a")), system, _tool(_result("a"))), _ids())
    assert paired == (_assistant(_call("a")), _tool(_result("a")), system)


def test_a_conversation_that_ends_with_calls_gets_results_for_them() -> None:
    assert pair((_user("go"), _assistant(_call("a"))), _ids())[2:] == (_tool(_missing("a")),)


def test_items_of_one_turn_become_one_message() -> None:
    thought = Thinking("hm")
    messages = (_assistant(thought), _assistant("I look."), _assistant(_call("a")), _assistant(_call("b")))
    paired = pair((*messages, _tool(_result("a")), _tool(_result("b"))), _ids())
    # A message without calls that stands alone is none of pairing's business; renderers join it.
    assert paired == (
        _assistant(thought),
        _assistant("I look.", _call("a"), _call("b")),
        _tool(_result("a"), _result("b")),
    )


def test_turns_with_results_between_them_stay_apart() -> None:
    messages = (_assistant(_call("a")), _tool(_result("a")), _assistant(_call("b")), _tool(_result("b")))
    assert pair(messages, _ids()) is messages


def test_an_id_that_comes_again_in_a_later_turn_is_another_call() -> None:
    turn = (_assistant(_call("a")), _tool(_result("a", "1")))
    paired = pair((*turn, _assistant(_call("a")), _tool(_result("a", "2"))), _ids())
    first, second = paired[1].blocks[0], paired[3].blocks[0]
    assert isinstance(first, ToolResult)
    assert isinstance(second, ToolResult)
    assert (first.call_id, first.blocks) == ("a", (Text("1"),))
    assert second.blocks == (Text("2"),)
    assert second.call_id != "a"


def test_equal_ids_in_one_turn_take_the_results_in_order() -> None:
    paired = pair((_assistant(_call("a"), _call("a")), _tool(_result("a", "1"), _result("a", "2"))), _ids())
    assert [block.blocks for block in paired[1].blocks if isinstance(block, ToolResult)] == [(Text("1"),), (Text("2"),)]


def test_an_open_id_of_the_latest_turn_is_answered_first() -> None:
    paired = pair((_assistant(_call("a")), _user("?"), _assistant(_call("a")), _tool(_result("a"))), _ids())
    assert paired[1] == _tool(_missing("a"))
    assert isinstance(paired[4].blocks[0], ToolResult)
    assert paired[4].blocks[0].blocks == (Text("done"),)


def test_without_ids_the_name_decides_then_the_order() -> None:
    calls = _assistant(_call("", "f"), _call("", "g"), _call("", "f"))
    paired = pair((calls, _tool(_result("", "g", "g"), _result("", "f1", "f"), _result("", "f2", "f"))), _ids())
    texts = [block.blocks[0] for block in paired[1].blocks if isinstance(block, ToolResult)]
    assert texts == [Text("f1"), Text("g"), Text("f2")]
    _check(paired)


@pytest.mark.parametrize(("call_id", "result_id"), [("a", ""), ("", "a")])
def test_ids_on_one_side_only_still_find_each_other_by_name(call_id: str, result_id: str) -> None:
    paired = pair((_assistant(_call(call_id)), _tool(_result(result_id, "done", "f"))), _ids())
    assert isinstance(paired[1].blocks[0], ToolResult)
    assert paired[1].blocks[0].blocks == (Text("done"),)
    assert len(paired) == 2


def test_names_are_filled_in_where_results_are_known_by_them() -> None:
    paired = pair((_assistant(_call("a", "f"), _call("b", "g")), _tool(_result("a"))), _ids(), needs_names=True)
    assert [block.name for block in paired[1].blocks if isinstance(block, ToolResult)] == ["f", "g"]


def test_t10_results_keep_that_they_failed() -> None:
    failed = ToolResult("a", (Text("no such file"),), is_error=True)
    assert pair((_assistant(_call("a")), _user(failed)), _ids())[1] == _tool(failed)


def test_a_result_takes_the_kind_of_its_call() -> None:
    call = ToolCall("a", "patch", "*** Begin", CallKind.CUSTOM)
    result = pair((_assistant(call), _tool(_result("a"))), _ids())[1].blocks[0]
    assert isinstance(result, ToolResult)
    assert result.kind is CallKind.CUSTOM


def test_t09_images_follow_all_results_of_their_turn() -> None:
    marked = msgspec.structs.replace(_IMAGE, cache=CACHE_MARK)
    messages = (
        _assistant(_call("a"), _call("b")),
        _tool(ToolResult("a", (Text("two:"), _IMAGE, marked))),
        _user("and?"),
        _tool(ToolResult("b", (_IMAGE,))),
    )
    paired = pair(messages, _ids(), settle=moved_out)
    assert paired == (
        messages[0],
        _tool(
            ToolResult(
                "a", (Text("two:"), Text("[image 1: see the next message]"), Text("[image 2: see the next message]"))
            ),
            ToolResult("b", (Text("[image 3: see the next message]"),)),
        ),
        _user("[image 1]", _IMAGE, "[image 2]", marked, "[image 3]", _IMAGE),
        _user("and?"),
    )


def test_pairing_is_linear_for_one_id_in_thousands_of_calls() -> None:
    calls = tuple(_call("a") for _ in range(20_000))
    paired = pair((_assistant(*calls), _tool(*(_result("a", str(n)) for n in range(20_000)))), _ids())
    last = paired[1].blocks[-1]
    assert isinstance(last, ToolResult)
    assert last.blocks == (Text("19999"),)
