"""Reasoning that a host writes into the visible text between `<think>` and `</think>`, taken out of a stream.

Theory. Only the very start of the content can open it, blanks before it allowed: the same words later are something
that the model talks about. What is open at the end of the content is reasoning that was cut off. Line breaks that
merely set the tags off belong to neither side. Text that may be the beginning of a tag is held until it is known, which
is never more than a tag's length, so any split of the content gives the same result.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_MOST_BLANKS: Final = 64
_BREAKS: Final = "\r\n"

Pieces = list[tuple[bool, str]]
"""Pieces of content in order; True marks reasoning. None is empty."""


class _State(Enum):
    START = auto()
    OPENED = auto()
    THINKING = auto()
    CLOSED = auto()
    TEXT = auto()


class InlineThink:
    """Splits the content of one answer as it arrives."""

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._state = _State.START
        self._held = ""

    def feed(self, text: str) -> Pieces:
        """Return the pieces that this text completes."""
        if self._state is _State.TEXT:
            return [(False, text)] if text else []
        rest = self._held + text
        self._held = ""
        pieces: Pieces = []
        if self._state is _State.START:
            rest = self._start(rest)
        if self._state is _State.OPENED and (rest := rest.lstrip(_BREAKS)):
            self._state = _State.THINKING
        if self._state is _State.THINKING:
            rest = self._think(rest, pieces)
        if self._state is _State.CLOSED and (rest := rest.lstrip(_BREAKS)):
            self._state = _State.TEXT
        if self._state is _State.TEXT and rest:
            pieces.append((False, rest))
        return pieces

    def _start(self, text: str) -> str:
        content = text.lstrip()
        if len(text) - len(content) <= _MOST_BLANKS:
            if content.startswith(_OPEN):
                self._state = _State.OPENED
                return content[len(_OPEN) :]
            if _OPEN.startswith(content):
                self._held = text
                return ""
        self._state = _State.TEXT
        return text

    def _think(self, text: str, pieces: Pieces) -> str:
        thought, tag, rest = text.partition(_CLOSE)
        if tag:
            self._state = _State.CLOSED
        else:
            kept = _possible_start(thought)
            thought, self._held, rest = thought[:kept], thought[kept:], ""
        if thought:
            pieces.append((True, thought))
        return rest

    def close(self) -> Pieces:
        """The content has ended: return what is held."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [(self._state is _State.THINKING, held)]


def _possible_start(text: str) -> int:
    """Return where the longest end of the text begins that may become the closing tag."""
    for size in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if text.endswith(_CLOSE[:size]):
            return len(text) - size
    return len(text)
