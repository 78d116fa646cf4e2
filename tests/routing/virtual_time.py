"""Time that passes as fast as there is work: greenlets sleep in it, and nothing waits for a real clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import Event

START: Final = 1_800_000_000.0


class VirtualTime:
    """A clock with a heap of what is to happen. It moves on when every greenlet waits for something."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._due: list[tuple[float, int, Callable[[], object], bool]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """Return seconds since the beginning: the monotonic clock."""
        return self.passed

    def wall(self) -> float:
        """Return epoch seconds."""
        return START + self.passed

    def after(self, seconds: float, call: Callable[[], object], *, wakes: bool = True) -> None:
        """Let something happen later; `wakes` says whether greenlets may have to run then."""
        heapq.heappush(self._due, (self.passed + max(0.0, seconds), next(self._numbers), call, wakes))

    def every(self, seconds: float, call: Callable[[], object], *, first: float | None = None) -> Callable[[], None]:
        """Let something that wakes nobody happen again and again; return what ends it."""
        is_over = False

        def again() -> None:
            if not is_over:
                call()
                self.after(seconds, again, wakes=False)

        def end() -> None:
            nonlocal is_over
            is_over = True

        self.after(seconds if first is None else first, again, wakes=False)
        return end

    def sleep(self, seconds: float) -> None:
        """Let the calling greenlet wait."""
        if seconds > 0:
            woken = Event()
            self.after(seconds, woken.set)
            woken.wait()

    def wait(self, event: Event, seconds: float) -> bool:
        """Let the calling greenlet wait for an event, but no longer than some time; True when it came."""
        if event.is_set():
            return True
        woken = Event()

        def wake(_event: object = None) -> None:
            woken.set()

        event.rawlink(wake)
        self.after(seconds, wake)
        try:
            woken.wait()
        finally:
            event.unlink(wake)
        return event.is_set()

    def run(self, seconds: float) -> None:
        """Let time pass, from one event to the next; whatever an event sets going comes to rest before the next."""
        end = self.passed + seconds
        gevent.idle()
        while self._due and self._due[0][0] <= end:
            self.passed, _, call, wakes = heapq.heappop(self._due)
            call()
            if wakes:
                gevent.idle()
        self.passed = end
