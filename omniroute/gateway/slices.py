"""Long work in slices, so that other requests of this worker get their turn in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import gevent

SLICE_S: Final = 0.004


class Slices:
    """Called often during long work; lets the hub run whenever a slice is used up."""

    __slots__ = ("_now", "_until")

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` is a monotonic clock in seconds."""
        self._now = now
        self._until = now() + SLICE_S

    def __call__(self) -> None:
        """Give others their turn when it is time."""
        if self._now() >= self._until:
            gevent.sleep(0)
            self._until = self._now() + SLICE_S
