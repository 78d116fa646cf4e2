"""System text in the places that a target has for it.

Where system text may only stand in front, what leads the conversation joins it there and what comes later becomes text
of the user in its place, in a fixed tag: the model sees who speaks and when, and the beginning of the conversation
stays what it was (a system text that grows with the conversation would change the prompt's first bytes each time).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from omniroute.formats.canonical import Block, Message, Role, Text
from omniroute.formats.profile import Profile
from omniroute.formats.wire import WireFormat

TAG: Final = "system-message"
OPENING: Final = "Please begin."
"""What the user says where a format demands a turn of his and there is none."""

_NEEDS_A_TURN: Final = frozenset({WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OPENAI_RESPONSES})


def is_system(message: Message) -> bool:
    """Say whether the message is system text, of whatever rank."""
    return message.role is Role.SYSTEM or message.role is Role.DEVELOPER


def as_user_text(message: Message) -> Message:
    """Return later system text as text of the user."""
    return Message(Role.USER, tuple(map(_tagged, message.blocks)))


def with_role(message: Message, profile: Profile) -> Message:
    """Return system text in the role that the target knows."""
    if message.role is Role.DEVELOPER and not profile.takes_developer:
        return msgspec.structs.replace(message, role=Role.SYSTEM)
    return message


def with_roles(messages: tuple[Message, ...], profile: Profile) -> tuple[Message, ...]:
    """Do so for several; the same tuple when nothing changes."""
    if profile.takes_developer or not any(message.role is Role.DEVELOPER for message in messages):
        return messages
    return tuple(with_role(message, profile) for message in messages)


def opened(messages: tuple[Message, ...], profile: Profile) -> tuple[Message, ...]:
    """Return a conversation that has a turn where the target's format demands one."""
    if profile.format not in _NEEDS_A_TURN or _has_turn(messages):
        return messages
    return (*messages, Message(Role.USER, (Text(OPENING),), plain=True))


def _has_turn(messages: Iterable[Message]) -> bool:
    return any(not is_system(message) for message in messages)


def _tagged(block: Block) -> Block:
    if not isinstance(block, Text):
        return block
    # Some formats join the parts of a turn without anything between them.
    return msgspec.structs.replace(block, text=f"\n<{TAG}>\n{block.text}\n</{TAG}>\n")
