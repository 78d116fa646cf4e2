"""Did every numbered chunk of a stream arrive exactly once and in order? Pure; called for each read of each stream."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

CHUNK_NUMBER = re.compile(rb'"(?:content|text)": ?"[^"0-9]*(\d+)')
"""The first number in the text delta of an event; the sandbox begins the text of each chunk with its number."""


@dataclass(frozen=True, slots=True)
class SequenceReport:
    """What was wrong with one stream; all zero but `received` for a whole one."""

    received: int
    lost: int
    duplicated: int
    reordered: int

    @property
    def is_whole(self) -> bool:
        """True when nothing was lost, repeated or out of place."""
        return not (self.lost or self.duplicated or self.reordered)


class SequenceCheck:
    """Follows one stream that must carry the numbers first … first + total - 1.

    The usual case costs one list comparison per read: the numbers are compared as bytes with a slice of the expected
    ones. Only a read that differs is looked at number by number.
    """

    __slots__ = ("_duplicated", "_expected", "_next", "_received", "_reordered", "_seen")

    def __init__(self, expected: list[bytes]) -> None:
        self._expected = expected
        self._next = 0
        self._received = 0
        self._duplicated = 0
        self._reordered = 0
        self._seen: set[bytes] | None = None
        """None while everything was in order: then the first `_next` numbers are the ones seen."""

    @property
    def received(self) -> int:
        """Return how many chunks arrived so far, repeated ones included."""
        return self._received

    def feed(self, numbers: Sequence[bytes]) -> None:
        """Take the numbers of one read, in the order of arrival."""
        count = len(numbers)
        self._received += count
        if self._seen is None:
            end = self._next + count
            if numbers == self._expected[self._next : end]:
                self._next = end
                return
            self._seen = set(self._expected[: self._next])
        for number in numbers:
            self._place(number, self._seen)

    def _place(self, number: bytes, seen: set[bytes]) -> None:
        if number in seen:
            self._duplicated += 1
            return
        seen.add(number)
        try:
            position = self._expected.index(number)
        except ValueError:  # a number that was never sent: not lost, but certainly out of place
            self._reordered += 1
            return
        if position < self._next:
            self._reordered += 1
        else:
            self._next = position + 1

    def report(self) -> SequenceReport:
        """Return the verdict at the end of the stream."""
        if self._seen is None:
            return SequenceReport(self._received, len(self._expected) - self._next, 0, 0)
        lost = sum(1 for number in self._expected if number not in self._seen)
        return SequenceReport(self._received, lost, self._duplicated, self._reordered)


def expected_numbers(total: int, first: int = 0) -> list[bytes]:
    """Return the numbers of a whole stream as they stand in the text."""
    return [str(number).encode() for number in range(first, first + total)]
