"""A string for a regular expression: the part of the syntax that JSON schemas use."""

from __future__ import annotations

import re
from typing import Final

_CLASSES: Final = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_CANDIDATES: Final = "a0A-_ ./@:"
_MOST_REPEATS: Final = 64


def example(pattern: str) -> str | None:
    """Return a short string in which `pattern` is found, or None when the pattern says more than is understood here."""
    try:
        compiled = re.compile(pattern)
        text, end = _alternatives(pattern, 0)
    except (re.error, IndexError, ValueError, RecursionError):
        return None
    return text if end == len(pattern) and compiled.search(text) else None


def _alternatives(pattern: str, at: int) -> tuple[str, int]:
    """Read up to the closing bracket or the end; the first alternative is the one taken."""
    first, at = _sequence(pattern, at)
    while at < len(pattern) and pattern[at] == "|":
        _, at = _sequence(pattern, at + 1)
    return first, at


def _sequence(pattern: str, at: int) -> tuple[str, int]:
    said: list[str] = []
    while at < len(pattern) and pattern[at] not in "|)":
        text, at = _atom(pattern, at)
        least, at = _least_repeats(pattern, at)
        said.append(text * least)
    return "".join(said), at


def _atom(pattern: str, at: int) -> tuple[str, int]:
    match pattern[at]:
        case "^" | "$":
            return "", at + 1
        case ".":
            return "a", at + 1
        case "[":
            return _bracket(pattern, at)
        case "(":
            return _group(pattern, at)
        case "\\":
            letter = pattern[at + 1]
            if letter in "bB":
                return "", at + 2
            if letter in "xupP" or (letter.isdigit() and letter != "0"):
                raise ValueError("escape not understood")
            return _CLASSES.get(letter) or _ESCAPES.get(letter, letter), at + 2
        case "*" | "+" | "?" | "{":
            raise ValueError("nothing to repeat")
        case literal:
            return literal, at + 1


def _group(pattern: str, at: int) -> tuple[str, int]:
    start = at + 1
    is_silent = False
    if pattern.startswith("?", start):
        if pattern.startswith("?:", start):
            start += 2
        elif pattern.startswith(("?=", "?!"), start):
            start, is_silent = start + 2, True
        elif pattern.startswith(("?<=", "?<!"), start):
            start, is_silent = start + 3, True
        elif named := re.compile(r"\?P?<\w+>").match(pattern, start):
            start = named.end()
        else:
            raise ValueError("group not understood")
    text, end = _alternatives(pattern, start)
    if pattern[end] != ")":
        raise ValueError("group not closed")
    return ("" if is_silent else text), end + 1


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    end = at + 1
    if pattern[end] == "^":
        end += 1
    if pattern[end] == "]":
        end += 1
    while pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    source = pattern[at : end + 1]
    one_of = re.compile(source)
    for candidate in (*_CANDIDATES, *map(chr, range(33, 127))):
        if one_of.fullmatch(candidate):
            return candidate, end + 1
    raise ValueError("no printable member")


def _least_repeats(pattern: str, at: int) -> tuple[int, int]:
    """Read the quantifier at `at`, if there is one: the fewest repeats it allows."""
    if at >= len(pattern):
        return 1, at
    if pattern[at] in "*?":
        least, at = 0, at + 1
    elif pattern[at] == "+":
        least, at = 1, at + 1
    elif counted := re.compile(r"\{(\d*)(?:,\d*)?\}").match(pattern, at):
        least, at = int(counted[1] or 0), counted.end()
        if least > _MOST_REPEATS:
            raise ValueError("too long")
    else:
        return 1, at
    if at < len(pattern) and pattern[at] in "?+":
        at += 1
    return least, at
