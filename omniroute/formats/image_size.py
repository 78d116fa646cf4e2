"""Width and height of an image, read from the first bytes of its file."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from typing import Final

_HEAD_BYTES: Final = 96 << 10  # a JPEG's size stands behind its metadata, which may hold a preview
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})

Size = tuple[int, int]


def size_of(data: str) -> Size | None:
    """Return width and height in pixels of an image in base64; None when its head does not say."""
    wanted = _HEAD_BYTES // 3 * 4
    try:
        head = b64decode(data[:wanted] if len(data) > wanted else data)
    except (binascii.Error, ValueError):
        return None
    for signature, read in _READERS:
        if head.startswith(signature):
            try:
                width, height = read(head)
            except (IndexError, ValueError):
                return None
            return (width, height) if width > 0 and height > 0 else None
    return None


def _big(head: bytes, start: int, length: int) -> int:
    if start + length > len(head):
        raise IndexError(start)
    return int.from_bytes(head[start : start + length], "big")


def _little(head: bytes, start: int, length: int) -> int:
    if start + length > len(head):
        raise IndexError(start)
    return int.from_bytes(head[start : start + length], "little")


def _png(head: bytes) -> Size:
    return _big(head, 16, 4), _big(head, 20, 4)


def _gif(head: bytes) -> Size:
    return _little(head, 6, 2), _little(head, 8, 2)


def _webp(head: bytes) -> Size:
    match head[12:16]:
        case b"VP8X":
            return _little(head, 24, 3) + 1, _little(head, 27, 3) + 1
        case b"VP8L":
            bits = _little(head, 21, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return _little(head, 26, 2) & 0x3FFF, _little(head, 28, 2) & 0x3FFF
        case _:
            raise ValueError("no known kind of WebP")


def _jpeg(head: bytes) -> Size:
    place = 2
    while True:
        if head[place] != 0xFF:
            raise ValueError("no marker")
        marker = head[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif marker in _START_OF_FRAME:
            return _big(head, place + 7, 2), _big(head, place + 5, 2)
        elif marker in _WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + max(_big(head, place + 2, 2), 2)


_READERS: Final[tuple[tuple[bytes, Callable[[bytes], Size]], ...]] = (
    (_PNG, _png),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
    (b"\xff\xd8", _jpeg),
)
