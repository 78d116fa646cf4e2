"""Sums of hours, days and months that are over, kept in memory: a page adds up what is in progress, not a year.

What is over changes seldom, but it does: a worker stores rows late, retention removes days, a backup is restored. So
sums are used again only while what they were made of is the same by its count and some sums of its own, its mark. To
read a mark takes a tenth of the time of grouping the same rows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final

MOST_ROWS: Final = 3000
"""Kept in all; about 1 KB each."""

Rows = list[tuple[Any, ...]]
Mark = tuple[Any, ...]


class ClosedSums:
    """The sums that were asked for last."""

    def __init__(self, *, now: Callable[[], float], most_rows: int = MOST_ROWS) -> None:
        self._now = now
        self._most_rows = most_rows
        self._kept: OrderedDict[Hashable, tuple[Mark, Rows]] = OrderedDict()
        self._rows = 0
        self._lock = threading.Lock()

    def view(self) -> View:
        """Return these sums for one reading of the database."""
        return View(self, self._now())

    def find(self, key: Hashable, mark: Mark) -> Rows | None:
        """Return what was kept under a key, if its mark is this one."""
        with self._lock:
            mark_then, rows = self._kept.get(key, (None, None))
            if mark_then != mark:
                return None
            self._kept.move_to_end(key)
            return rows

    def keep(self, key: Hashable, mark: Mark, rows: Rows) -> None:
        """Keep rows under a key, and forget what was not asked for longest."""
        with self._lock:
            self._rows -= len(self._kept.pop(key, ((), []))[1])
            if len(rows) > self._most_rows:
                return
            self._kept[key] = mark, rows
            self._rows += len(rows)
            while self._rows > self._most_rows:
                self._rows -= len(self._kept.popitem(last=False)[1][1])


class View:
    """Closed sums within one transaction that reads: each mark is read once."""

    def __init__(self, sums: ClosedSums, now: float) -> None:
        self._sums = sums
        self._now = int(now)
        self._marks: dict[Hashable, Mark] = {}

    def closed_until(self, step_s: int) -> int:
        """Return when the bucket in progress has begun."""
        return self._now - self._now % step_s

    def rows(
        self, part: Hashable, question: Hashable, *, read_mark: Callable[[], Mark], read: Callable[[], Rows]
    ) -> Rows:
        """Return the answer to a question about a part of a table, which the caller must not change.

        Args:
            part: names rows of a table.
            question: says what of them is wanted.
            read_mark: reads the mark of the part.
            read: reads the answer.
        """
        mark = self._marks.get(part)
        if mark is None:
            mark = self._marks[part] = read_mark()
        found = self._sums.find((part, question), mark)
        if found is None:
            found = read()
            self._sums.keep((part, question), mark, found)
        return found
