"""How long to wait, in the words that clients read it from."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final

_SAYS_SECONDS: Final = re.compile(r"try again in [0-9]+(?:\.[0-9]+)?\s?(?:s|ms|seconds?)\b", re.IGNORECASE)


def in_seconds(seconds: float) -> str:
    """Return a time as a plain number of seconds, rounded up to milliseconds: clients take no exponent."""
    return f"{math.ceil(max(seconds, 0.0) * 1000) / 1000:.3f}".rstrip("0").rstrip(".")


def with_wait(message: str, seconds: float | None) -> str:
    """Return a sentence that says when to try again, in seconds; it may say so already."""
    if seconds is None or _SAYS_SECONDS.search(message):
        return message
    stop = "" if message.endswith((".", "!", "?")) else "."
    return f"{message}{stop} Please try again in {in_seconds(seconds)}s."


def moment(at: float) -> str:
    """Return a time in epoch seconds as text in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
