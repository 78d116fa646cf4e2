"""Long work in slices, so that other requests of this worker get their turn in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import gevent

SLICE_S: Final = 0.004
_LAST: Final = -2
"""The loop serves what is ready by priority; this is the lowest that there is."""


def let_others_run() -> None:
    """Let the loop look for what has arrived, serve all of it, and only then go on.

    Not `gevent.sleep(0)`: that comes back before the loop looks at any socket, up to fifty times in a row, so that
    slices of milliseconds would add up to a fifth of a second.
    """
    hub = gevent.get_hub()
    turn = hub.loop.timer(0.0, priority=_LAST)
    try:
        hub.wait(turn)
    finally:
        turn.close()


class Slices:
    """Called often during long work; lets others run whenever a slice is used up."""

    __slots__ = ("_now", "_rest", "_until")

    def __init__(self, now: Callable[[], float], rest: Callable[[], None] = let_others_run) -> None:
        """`now` is a monotonic clock in seconds; `rest` gives the others their turn."""
        self._now = now
        self._rest = rest
        self._until = now() + SLICE_S

    def __call__(self) -> None:
        """Give others their turn when it is time."""
        if self._now() >= self._until:
            self.rest()

    def rest(self) -> None:
        """Give others their turn at once, ahead of a long step or behind one."""
        self._rest()
        self._until = self._now() + SLICE_S
