"""Numbers and moments as vendors write them in headers and usage reports; what cannot be true is no value."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any, Final

from omniroute.providers import hint_text

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
WEEK_S: Final = 7 * DAY_S
MONTH_S: Final = 30 * DAY_S
MOST_USED: Final = 10.0
"""Tenfold use of a grant is no overdraft any more, but a mistake in reading."""

_FAR_S: Final = 400 * DAY_S
_EPOCH_S: Final = 1e9
_EPOCH_MS: Final = 1e12
_MOST: Final = 1e15
_MAX_TEXT: Final = 64
_NUMBER: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,30})?", re.ASCII)


def number_of(value: Any) -> float | None:
    """Return a number from 0 that is given as one or as text, with or without a percent sign; None for all else."""
    if isinstance(value, str):
        text = value[:_MAX_TEXT].strip().removesuffix("%")
        return float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and 0 <= value < _MOST else None


def fraction_of(value: Any, whole: float = 1.0) -> float | None:
    """Return a used fraction; `whole` is what all of it is written as."""
    found = number_of(value)
    return None if found is None or found / whole > MOST_USED else found / whole


def moment_of(value: Any, now: float) -> float | None:
    """Return a moment ahead in epoch seconds: given as such, in milliseconds, as seconds or a duration, or RFC 3339."""
    at = _moment(value, now)
    return at if at is not None and now < at < now + _FAR_S else None


def _moment(value: Any, now: float) -> float | None:
    number = number_of(value)
    if number is not None:
        if number >= _EPOCH_MS:
            return number / 1000
        return number if number >= _EPOCH_S else now + number
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return None
    seconds = hint_text.duration(value.strip())
    if seconds is not None:
        return now + seconds
    try:
        moment = datetime.fromisoformat(value.strip())
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
