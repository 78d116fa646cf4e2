"""Identifiers that sort by creation time, so that inserts land at the right edge of an index."""

from __future__ import annotations

import os
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
"""Two digits at a time: an id is made for every request."""


def new_id(prefix: str) -> str:
    """Return `<prefix>_<26 characters>`: 48 bits of milliseconds, then 80 random bits (the ULID layout)."""
    number = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    pairs = _PAIRS
    return f"{prefix}_" + "".join([pairs[(number >> shift) & 1023] for shift in range(120, -1, -10)])
