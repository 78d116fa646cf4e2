"""Read and edit the top-level keys of a JSON object without re-serialising it.

What a client sent must reach a provider of the same format byte for byte: unknown fields, key order, the spelling of
numbers and escapes, signatures. Only the values of named top-level keys are replaced, by their byte span.

`msgspec` checks the whole text in C and hands out each top-level value as a raw slice. Its slices carry no offset, so
the spans are found by walking the keys in order; where that walk meets anything unusual (a repeated key, a key written
with escapes) the standard library's scanner decides instead.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from json.scanner import make_scanner
from typing import Any, Final

import msgspec

from omniroute.errors import InvalidJson, InvalidRequest

MAX_DEPTH: Final = 64
MAX_MEMBERS: Final = 100_000

_WHITESPACE: Final = b" \t\n\r"
_NOT_OPENING: Final = bytes(set(range(256)) - set(b"[{"))
_OPENING: Final = b"[{"
_BRACE: Final = ord("{")
_COUNTED_BYTES: Final = 4096
_DECODED_BYTES: Final = 1 << 20
_PARTS_AT_ONCE: Final = 32
_RAW_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANY: Final = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class TopLevel:
    """A JSON object with the byte span `[start, end)` of each top-level value."""

    body: bytes
    spans: Mapping[str, tuple[int, int]]

    def __contains__(self, key: str) -> bool:
        return key in self.spans

    def value(self, key: str) -> Any:
        """Return the parsed value of a key, None when it is absent."""
        span = self.spans.get(key)
        return None if span is None else _ANY.decode(self.body[span[0] : span[1]])


def _no_pause() -> None:
    """Go on at once."""


def scan(body: bytes, *, acted_on: frozenset[str] = frozenset(), pause: Callable[[], None] = _no_pause) -> TopLevel:
    """Check a JSON object and find its top-level values.

    Args:
        body: the whole request body.
        acted_on: keys whose repetition is refused, because two readers could disagree on the value that counts.
        pause: called between the steps of the work, of which only reading the JSON takes longer for a longer body.

    Raises:
        InvalidJson: not UTF-8, not JSON, not an object, or nested deeper than 64.
        InvalidRequest: a key in `acted_on` stands twice.
    """
    try:
        members = _RAW_OBJECT.decode(body)
        pause()
        if not body.isascii():
            _check_encoding(body, pause)  # msgspec skips over strings without checking their encoding
    except UnicodeDecodeError:
        raise InvalidJson("The request body is not valid UTF-8.") from None
    except RecursionError:
        raise InvalidJson(f"The request body is nested deeper than {MAX_DEPTH} levels.") from None
    except msgspec.ValidationError:
        raise InvalidJson("The request body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise InvalidJson(f"The request body is not valid JSON: {error}.") from None
    _check_parts(members.values(), MAX_DEPTH, pause)
    pause()
    spans = _walk(body, members)
    pause()
    if spans is None:
        spans = _scan_slowly(body, acted_on)
    return TopLevel(body, spans)


def splice(top: TopLevel, changes: Mapping[str, bytes | None]) -> bytes:
    """Return the body with the values of top-level keys replaced, added (in front) or removed (None)."""
    edits: list[tuple[int, int, bytes]] = []
    added: list[bytes] = []
    for key, value in changes.items():
        span = top.spans.get(key)
        if span is not None and value is not None:
            edits.append((span[0], span[1], value))
        elif span is not None:
            edits.append((*_member_span(top.body, span), b""))
        elif value is not None:
            added.append(msgspec.json.encode(key) + b":" + value)
    body = top.body
    for start, end, value in sorted(edits, reverse=True):
        body = body[:start] + value + body[end:]
    if added:
        brace = body.index(b"{") + 1
        separator = b"" if body[brace:].lstrip(_WHITESPACE).startswith(b"}") else b","
        body = body[:brace] + b",".join(added) + separator + body[brace:]
    return body


def rename_member(body: bytes, key: str, old: bytes, new: bytes) -> bytes:
    """Replace the value `old` of a top-level key in a body that is known to be JSON.

    An answer usually spells the member in one of two ways and holds it once; only otherwise is it scanned.
    """
    name = msgspec.json.encode(key)
    for colon in (b":", b": "):
        member = name + colon + old
        if body.count(member) == 1:
            return body.replace(member, name + colon + new, 1)
    top = scan(body)
    return splice(top, {key: new}) if key in top else body


def check_depth(body: bytes, limit: int = MAX_DEPTH) -> None:
    """Refuse valid JSON that is nested deeper than `limit`, without building objects.

    A text cannot be nested deeper than it has opening brackets, and most parts of a request have few. A long text is
    taken apart before it is counted, for three levels, so that long strings are not looked through at all; only a part
    that still has too many brackets is measured exactly.
    """
    if not _is_surely_shallow(body, limit, levels=3):
        raise InvalidJson(f"The request body is nested deeper than {limit} levels.")


def _check_encoding(body: bytes, pause: Callable[[], None]) -> None:
    """Raise UnicodeDecodeError unless the text is UTF-8."""
    if len(body) <= _DECODED_BYTES:
        body.decode()
        return
    decode = codecs.getincrementaldecoder("utf-8")().decode
    view = memoryview(body)
    for start in range(0, len(body), _DECODED_BYTES):
        decode(view[start : start + _DECODED_BYTES])
        pause()
    decode(b"", final=True)


def _check_parts(parts: Iterable[msgspec.Raw], limit: int, pause: Callable[[], None]) -> None:
    """Do what :func:`check_depth` does for a text that has been taken apart once already."""
    for part in parts:
        if not _is_surely_shallow(part, limit - 1, levels=2, pause=pause):
            raise InvalidJson(f"The request body is nested deeper than {limit} levels.")


def _is_surely_shallow(
    text: bytes | msgspec.Raw, limit: int, levels: int, pause: Callable[[], None] = _no_pause
) -> bool:
    """`pause` is called around taking a long text apart, and between some of its parts."""
    view = memoryview(text)
    size = len(view)
    if size <= limit:
        return True
    first = view[0] if view[0] not in _WHITESPACE else bytes(text).lstrip(_WHITESPACE)[0]
    if first not in _OPENING:
        return True
    if (size <= _COUNTED_BYTES or levels == 0) and len(bytes(text).translate(None, _NOT_OPENING)) <= limit:
        return True
    if limit == 0:
        return False
    if levels == 0:
        return _is_shallow(bytes(text), limit)
    pause()
    parts = _RAW_OBJECT.decode(text).values() if first == _BRACE else _RAW_LIST.decode(text)
    pause()
    for number, part in enumerate(parts):
        if not _is_surely_shallow(part, limit - 1, levels - 1, pause):
            return False
        if not number % _PARTS_AT_ONCE:
            pause()
    return True


def _is_shallow(text: bytes, limit: int) -> bool:
    brackets = _brackets_outside_strings(text)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")  # takes out exactly the innermost level
        if not brackets:
            return True
    return False


_ALL_BUT_STRUCTURE: Final = bytes(set(range(256)) - set(b'"[]{}'))
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_STRING: Final = re.compile(rb'"[^"]*"')


def _brackets_outside_strings(body: bytes) -> bytes:
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    structure = body.translate(None, _ALL_BUT_STRUCTURE)
    # A string without brackets is now an empty pair of quotes; taking out adjacent quotes never changes which
    # brackets lie inside a string, since that depends only on whether an odd number of quotes stands before them.
    return _STRING.sub(b"", structure.replace(b'""', b"")).translate(_SQUARE)


def _walk(body: bytes, members: Mapping[str, msgspec.Raw]) -> dict[str, tuple[int, int]] | None:
    """Find the spans by going through the members in order; None when the text is not as plain as that needs."""
    spans: dict[str, tuple[int, int]] = {}
    position = body.index(b"{") + 1
    for key, raw in members.items():
        if body[position] in _WHITESPACE:
            position = _skip(body, position)
        quoted = b'"%b":' % key.encode()
        if body.startswith(quoted, position):  # no space before the colon, as nearly everybody writes it
            position += len(quoted)
        elif body.startswith(quoted[:-1], position):
            position = _skip(body, position + len(quoted) - 1)
            if body[position] != 0x3A:  # ":"
                return None
            position += 1
        else:
            return None
        if body[position] in _WHITESPACE:
            position = _skip(body, position)
        value = bytes(raw)
        if not body.startswith(value, position):
            return None
        end = position + len(value)
        spans[key] = (position, end)
        position = end if body[end] not in _WHITESPACE else _skip(body, end)
        if body[position] == 0x2C:  # ","
            position += 1
    if body[position] in _WHITESPACE:
        position = _skip(body, position)
    return spans if body[position] == 0x7D else None  # "}"


def _skip(body: bytes, position: int) -> int:
    while body[position] in _WHITESPACE:
        position += 1
    return position


def _refuse_constant(name: str) -> Any:
    raise InvalidJson(f"{name} is not valid JSON.")


_SCAN_ONCE: Final = make_scanner(json.JSONDecoder(parse_constant=_refuse_constant))  # type: ignore[arg-type]


def _scan_slowly(body: bytes, acted_on: frozenset[str]) -> dict[str, tuple[int, int]]:
    """The same by the standard library, value by value, for texts with repeated or escaped keys."""
    # One character per byte, so that positions are byte positions; keys are decoded on their own below.
    text = body.decode("latin-1")
    spans: dict[str, tuple[int, int]] = {}
    position = _skip(body, _skip(body, 0) + 1)
    while body[position] != 0x7D:
        _, key_end = _SCAN_ONCE(text, position)
        key = json.loads(body[position:key_end])
        start = _skip(body, _skip(body, key_end) + 1)
        _, end = _SCAN_ONCE(text, start)
        if key in spans and key in acted_on:
            raise InvalidRequest(f"The key {key!r} stands twice in the request body.", param=key)
        spans[key] = (start, end)
        position = _skip(body, end)
        if body[position] == 0x2C:
            position = _skip(body, position + 1)
    return spans


def _member_span(body: bytes, span: tuple[int, int]) -> tuple[int, int]:
    """Widen the span of a value to its whole member with one of the commas beside it."""
    colon = body.rindex(b":", 0, span[0])
    key_end = colon
    while body[key_end - 1] in _WHITESPACE:
        key_end -= 1
    key_start = body.rindex(b'"', 0, key_end - 1)
    while _is_escaped(body, key_start):
        key_start = body.rindex(b'"', 0, key_start)
    before = key_start
    while body[before - 1] in _WHITESPACE:
        before -= 1
    if body[before - 1] == 0x2C:
        return before - 1, span[1]
    after = _skip(body, span[1])
    return (key_start, after + 1) if body[after] == 0x2C else (key_start, span[1])


def _is_escaped(body: bytes, position: int) -> bool:
    backslashes = 0
    while body[position - 1 - backslashes] == 0x5C:
        backslashes += 1
    return backslashes % 2 == 1
