"""How often a step was used, by time: minutes for the last two hours, quarters of an hour for the rest of a day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LONGEST_MIN: Final = 1440
"""The longest window that a combo may ask for."""

_EXACT_MIN: Final = 120
_COARSE_MIN: Final = 15

Uses = Mapping[int, int]
"""How often, by the minute since 1970 at which a minute or a quarter of an hour begins."""


def minute_of(at: float) -> int:
    """Return the minute since 1970 of epoch seconds."""
    return int(at // 60)


def within(uses: Uses, window_min: int, minute: int) -> int:
    """Return how many uses the last `window_min` minutes have seen, the running one included."""
    return sum(count for began, count in uses.items() if began > minute - window_min)


def added(uses: Uses, more: Uses, minute: int) -> dict[int, int]:
    """Return the sum of two counts as of a minute: what is older than a day is left out, older minutes are joined."""
    total: dict[int, int] = {}
    for part in (uses, more):
        for began, count in part.items():
            if began <= minute - LONGEST_MIN - _COARSE_MIN:
                continue
            at = began if began > minute - _EXACT_MIN else began - began % _COARSE_MIN
            total[at] = total.get(at, 0) + count
    return total
