r"""Lone halves of surrogate pairs in JSON text, which no UTF-8 can hold.

JavaScript cuts strings between UTF-16 units, so clients that shorten a tool's output, and hosts that cut a stream into
pieces, write a lone `\ud83d` now and then. JSON's grammar allows it; the decoder does not.
"""

from __future__ import annotations

import re
from typing import Final

_HALVES: Final = re.compile(
    rb"\\\\"  # an escaped backslash: what follows is no escape
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_LONE_BYTES: Final = 6
_REPLACEMENT: Final = b"\\ufffd"


def mend(text: bytes) -> bytes:
    """Return JSON text with every lone half replaced by U+FFFD; the text itself when there is none."""
    if b"\\u" not in text or (b"\\ud" not in text and b"\\uD" not in text):  # most clients write no such escapes at all
        return text
    return _HALVES.sub(_mend_one, text)


def _mend_one(match: re.Match[bytes]) -> bytes:
    found = match.group()
    return _REPLACEMENT if len(found) == _LONE_BYTES else found
