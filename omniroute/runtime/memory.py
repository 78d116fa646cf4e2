"""A worker that outgrows its memory limit makes room for a fresh one, without cutting a stream.

Theory. Above the limit for half a minute, the worker asks for a successor and stops accepting; it goes when its streams
have ended. Only at twice the limit is it killed, because then the host is in danger; what was settled is in the spool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 30.0
_PAGE_BYTES: Final = 4096
_STATM: Final = Path("/proc/self/statm")


class Advice(StrEnum):
    """What to do about the memory in use."""

    NOTHING = "nothing"
    RECYCLE = "recycle"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Pressure:
    """Since when the limit has been exceeded; None while it is not."""

    since: float | None = None


def judge(pressure: Pressure, rss_bytes: int, limit_bytes: int, now: float) -> tuple[Pressure, Advice]:
    """Return the new state and what to do now. `now` in seconds of a monotonic clock."""
    if rss_bytes > 2 * limit_bytes:
        return pressure, Advice.KILL
    if rss_bytes <= limit_bytes:
        return Pressure(), Advice.NOTHING
    since = now if pressure.since is None else pressure.since
    advice = Advice.RECYCLE if now - since >= PATIENCE_S else Advice.NOTHING
    return Pressure(since), advice


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where the system does not tell."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def watch(
    *,
    limit_bytes: int,
    now: Callable[[], float],
    sleep: Callable[[float], None],
    measure: Callable[[], int],
    recycle: Callable[[], None],
    kill: Callable[[], None],
    interval_s: float = 5.0,
) -> None:
    """Look at the memory every few seconds until it is too much; returns after `recycle`."""
    pressure = Pressure()
    while True:
        sleep(interval_s)
        pressure, advice = judge(pressure, measure(), limit_bytes, now())
        match advice:
            case Advice.NOTHING:
                continue
            case Advice.RECYCLE:
                recycle()
                return
            case Advice.KILL:
                kill()
                return
