"""When a grant runs out at today's pace, or how much of it lapses unused.

Theory. The pace is what was used between a first reading and the last one, by the time between them. The first is the
beginning of the window, at which nothing was used, where that is less than a day ago; otherwise the earliest reading of
the last day within this window. What was left before a top-up or a reset says nothing, so that readings count only as
far back as what is left never grew. Nothing is said from less than five minutes of readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DAY_S: Final = 86_400.0
LEAST_SPAN_S: Final = 300.0
_GROWTH: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Point:
    """A reading: how much was left at a time, as a fraction of the grant, or in whatever credit is counted in."""

    at: float
    left: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What comes of it.

    Attributes:
        exhausted_at: when nothing is left at this pace (epoch seconds); None if that is not before the reset.
        lapses: the fraction that is lost unused at the reset; None for what has no reset.
    """

    exhausted_at: float | None = None
    lapses: float | None = None


def forecast(
    points: Sequence[Point], *, now: float, resets_at: float | None, length_s: float | None
) -> Forecast | None:
    """Return what comes of a window, None where nobody can know.

    `points` are its readings, the oldest first. `left` is a fraction where the window has a reset or a length.
    """
    if resets_at is not None and resets_at <= now:
        return None
    began_at = resets_at - length_s if resets_at is not None and length_s else None
    current = _current(points, began_at, now)
    if not current:
        return None
    last = current[-1]
    if last.left <= 0:
        return Forecast(last.at, None if resets_at is None else 0.0)
    first = current[0]
    if began_at is not None and began_at > now - DAY_S and began_at < first.at:
        first = Point(began_at, max(1.0, first.left))
    span_s = last.at - first.at
    if span_s < LEAST_SPAN_S:
        return None
    pace = max(0.0, first.left - last.left) / span_s
    if resets_at is None:
        return Forecast(last.at + last.left / pace) if pace > 0 else Forecast()
    left_at_reset = last.left - pace * (resets_at - last.at)
    if left_at_reset >= 0:
        return Forecast(None, min(1.0, left_at_reset))
    return Forecast(last.at + last.left / pace, 0.0)


def _current(points: Sequence[Point], began_at: float | None, now: float) -> list[Point]:
    """Return the points of the last day, of this window, from the last time on that what is left grew."""
    since = max(now - DAY_S, began_at if began_at is not None else now - DAY_S)
    found: list[Point] = []
    for point in points:
        if not since <= point.at <= now:
            continue
        if found and point.left > found[-1].left + _GROWTH:
            found.clear()
        found.append(point)
    return found
