"""The free text of a custom tool that was sent as a function with one string `input`, out of the JSON as it arrives.

Theory. Nearly all arguments are `{"input": "…"}`; their string is decoded while it is being written. Whatever follows
the string is ignored. Anything else is held until it is whole, and then the best is made of it: the member `input`
wherever it stands, a single string member under another name, a bare JSON string, or the text as the model wrote it.
What breaks off inside the string gives the text so far. Any split of the arguments gives the same text.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

import msgspec

_INPUT: Final = "input"
_EXPECTED: Final = ("{", f'"{_INPUT}"', ":", '"')
_BLANKS: Final = " \t\r\n"
_SPECIAL: Final = re.compile(r'["\\]')
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX: Final = re.compile(r"[0-9a-fA-F]*")
_ESCAPE_LENGTH: Final = 6
_REPLACEMENT: Final = "\ufffd"

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING: Final = msgspec.json.Decoder(str)


class _State(Enum):
    PREFIX = auto()
    STRING = auto()
    DONE = auto()
    HOLD = auto()


class CustomInput:
    """Decodes the arguments of one call."""

    __slots__ = ("_held", "_matched", "_pending", "_state", "_step")

    def __init__(self) -> None:
        self._state = _State.PREFIX
        self._step = 0
        self._matched = 0
        self._held: list[str] = []
        self._pending = ""

    def feed(self, fragment: str) -> str:
        """Return the text that this piece of the arguments completes."""
        match self._state:
            case _State.STRING:
                return self._decode(fragment)
            case _State.PREFIX:
                return self._match(fragment)
            case _State.HOLD:
                self._held.append(fragment)
            case _State.DONE:
                pass
        return ""

    def close(self) -> str:
        """The arguments have ended: return the rest of the text."""
        state, self._state = self._state, _State.DONE
        if state is _State.STRING:
            # An escape that broke off says nothing, but half a pair before it was a character.
            return _REPLACEMENT if len(self._pending) >= _ESCAPE_LENGTH else ""
        return _best_of("".join(self._held)) if state is _State.HOLD else ""

    def _match(self, fragment: str) -> str:
        for place, character in enumerate(fragment):
            expected = _EXPECTED[self._step]
            if self._matched == 0 and character in _BLANKS:
                continue
            if character != expected[self._matched]:
                self._state = _State.HOLD
                break
            self._matched += 1
            if self._matched < len(expected):
                continue
            self._matched = 0
            self._step += 1
            if self._step == len(_EXPECTED):
                self._state = _State.STRING
                self._held.clear()
                return self._decode(fragment[place + 1 :])
        self._held.append(fragment)
        return ""

    def _decode(self, fragment: str) -> str:
        text = self._pending + fragment if self._pending else fragment
        self._pending = ""
        found = _SPECIAL.search(text)
        if found is None:
            return text
        pieces: list[str] = []
        start = 0
        while found is not None:
            place = found.start()
            pieces.append(text[start:place])
            if text[place] == '"':
                self._state = _State.DONE
                return "".join(pieces)
            decoded, start = _escape_at(text, place)
            if decoded is None:
                self._pending = text[place:]
                return "".join(pieces)
            pieces.append(decoded)
            found = _SPECIAL.search(text, start)
        pieces.append(text[start:])
        return "".join(pieces)


def _escape_at(text: str, place: int) -> tuple[str | None, int]:
    """Return what the escape at a place means and where it ends; None when more has to come to know it."""
    if place + 1 >= len(text):
        return None, place
    letter = text[place + 1]
    if letter != "u":
        # No JSON, but plain: a backslash that the model forgot to escape.
        return _ESCAPES.get(letter, "\\" + letter), place + 2
    end = place + _ESCAPE_LENGTH
    unit = _unit_at(text, place)
    if unit is None:
        return (None, place) if _may_grow(text, place) else ("\\u", place + 2)
    if 0xDC00 <= unit <= 0xDFFF:
        return _REPLACEMENT, end
    if not 0xD800 <= unit <= 0xDBFF:
        return chr(unit), end
    low = _unit_at(text, end)
    if low is not None and 0xDC00 <= low <= 0xDFFF:
        return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)), end + _ESCAPE_LENGTH
    if low is None and _may_grow(text, end):
        return None, place
    return _REPLACEMENT, end


def _unit_at(text: str, place: int) -> int | None:
    digits = text[place + 2 : place + _ESCAPE_LENGTH]
    if text[place : place + 2] == "\\u" and len(digits) == 4 and _HEX.fullmatch(digits):
        return int(digits, 16)
    return None


def _may_grow(text: str, place: int) -> bool:
    """Say whether what stands at the end of the text may become an escape of four hex digits."""
    rest = text[place:]
    return len(rest) < _ESCAPE_LENGTH and "\\u".startswith(rest[:2]) and _HEX.fullmatch(rest[2:]) is not None


def _best_of(arguments: str) -> str:
    try:
        members = _MEMBERS.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        try:
            return _STRING.decode(arguments)
        except msgspec.DecodeError:
            return arguments
    raw = members.get(_INPUT)
    if raw is None:
        if not members:
            return ""
        if len(members) > 1:
            return arguments
        raw = next(iter(members.values()))
        if not bytes(raw).startswith(b'"'):
            return arguments
    try:
        return _STRING.decode(raw)
    except msgspec.DecodeError:
        return bytes(raw).decode()
