"""System text stands where the target has a place for it, the same with every further turn."""

from __future__ import annotations

import pytest

from omniroute.errors import UnsupportedFeature
from omniroute.formats.canonical import (
    Block,
    Media,
    MediaKind,
    Message,
    Request,
    Role,
    SourceKind,
    Text,
    ToolCall,
    ToolResult,
)
from omniroute.formats.losses import Losses
from omniroute.formats.prepare import prepare
from omniroute.formats.profile import profile_for
from omniroute.formats.wire import WireFormat
from tests.formats.strategies import CACHE_MARK, PNG

_CHAT, _RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
_MESSAGES, _GEMINI, _OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA


def _message(role: Role, *blocks: Block | str) -> Message:
    return Message(role, tuple(Text(block) if isinstance(block, str) else block for block in blocks))


_ONE, _TWO, _LATE = (
    _message(role, text)
    for role, text in zip((Role.SYSTEM, Role.DEVELOPER, Role.SYSTEM), ("one", "two", "late"), strict=True)
)
_HI, _OK = _message(Role.USER, "hi"), _message(Role.ASSISTANT, "ok")
_TAGGED = _message(Role.USER, "\n<system-message>\nlate\n</system-message>\n")


def _prepare(target: WireFormat, *messages: Message, system: tuple[Message, ...] = (), **facts: object) -> Request:
    origin = _MESSAGES if target is not _MESSAGES else _CHAT
    request = Request(origin, "m", messages, system=system)
    return prepare(request, profile_for(target, "the-model", **facts), Losses(target))[0]


@pytest.mark.parametrize("target", [_MESSAGES, _GEMINI])
def test_t29_leading_system_text_goes_in_front_and_later_text_to_the_user(target: WireFormat) -> None:
    prepared = _prepare(target, _TWO, _HI, _LATE, _OK, system=(_ONE,))
    assert prepared.system == (_ONE, _message(Role.SYSTEM, "two"))
    assert prepared.messages == (_HI, _TAGGED, _OK)


@pytest.mark.parametrize("target", [_MESSAGES, _GEMINI])
def test_t29_the_next_turn_begins_the_same(target: WireFormat) -> None:
    before = _prepare(target, _HI, _LATE, _OK, system=(_ONE,))
    after = _prepare(target, _HI, _LATE, _OK, _HI, _LATE, system=(_ONE,))
    assert after.system == before.system
    assert after.messages == (*before.messages, _HI, _TAGGED)


@pytest.mark.parametrize("target", [_CHAT, _RESPONSES])
def test_t29_system_text_stays_in_place_where_it_may_stand_there(target: WireFormat) -> None:
    messages = (_TWO, _HI, _LATE, _OK)
    assert _prepare(target, *messages, system=(_ONE,)).messages == messages


def test_t29_it_never_stands_between_a_call_and_its_result() -> None:
    call, result = ToolCall("a", "f", "{}"), ToolResult("a", (Text("1"),))
    prepared = _prepare(_MESSAGES, _HI, _message(Role.ASSISTANT, call), _LATE, _message(Role.TOOL, result))
    assert prepared.messages == (_HI, _message(Role.ASSISTANT, call), _message(Role.TOOL, result), _TAGGED)


def test_t33_developer_text_is_system_text_where_that_role_is_not_known() -> None:
    prepared = _prepare(_OLLAMA, _HI, _TWO, system=(_TWO, _ONE))
    assert prepared.system == (_message(Role.SYSTEM, "two"), _ONE)
    assert prepared.messages == (_HI, _message(Role.SYSTEM, "two"))


def test_cache_marks_of_system_text_stay() -> None:
    late = Message(Role.SYSTEM, (Text("a"), Text("b", cache=CACHE_MARK)))
    blocks = _prepare(_GEMINI, _HI, late).messages[1].blocks
    assert blocks == (
        Text("\n<system-message>\na\n</system-message>\n"),
        Text("\n<system-message>\nb\n</system-message>\n", cache=CACHE_MARK),
    )


@pytest.mark.parametrize("target", [_MESSAGES, _GEMINI, _RESPONSES])
def test_t30_a_conversation_of_system_text_only_gets_a_turn(target: WireFormat) -> None:
    prepared = _prepare(target, system=(_ONE,))
    assert [message.role for message in prepared.messages] == [Role.USER]
    assert prepared.messages[0].blocks == (Text("Please begin."),)
    assert _prepare(target, _ONE).messages[-1].role is Role.USER


@pytest.mark.parametrize("target", [_CHAT, _OLLAMA])
def test_t30_but_not_where_it_needs_none(target: WireFormat) -> None:
    assert _prepare(target, system=(_ONE,)).messages == ()


def test_t30_nor_where_there_is_one() -> None:
    assert _prepare(_MESSAGES, _HI, system=(_ONE,)).messages == (_HI,)


def test_images_in_system_text_are_refused_but_by_responses() -> None:
    image = Media(MediaKind.IMAGE, SourceKind.INLINE, PNG, "image/png")
    shown = _message(Role.DEVELOPER, "see", image)
    assert _prepare(_RESPONSES, _HI, shown, system=(shown,)).system == (shown,)
    for messages, system in (((_HI,), (shown,)), ((shown, _HI), ())):
        with pytest.raises(UnsupportedFeature, match="system"):
            _prepare(_MESSAGES, *messages, system=system)
    assert _prepare(_MESSAGES, _HI, shown).messages[1].blocks[1] is image
