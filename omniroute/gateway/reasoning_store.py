"""Reasoning that a provider wants back and that the client's format cannot carry, kept until the client's next turn.

A Chat client sends a tool's result but not the thought signature or the reasoning text that came with the call; some
providers refuse the history without it. Kept per API key and tool call, in this worker's memory: what is not found (it
expired, or another worker served the turn before) is treated like reasoning of another provider.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from omniroute.formats.canonical import Token

KEPT_S: Final = 30 * 60.0
MOST: Final = 2000
_MOST_CHARACTERS: Final = 16 << 20
"""Of all entries together: one answer may reason for a hundred thousand characters."""

_Kept = tuple[str, Token | None]


class ReasoningStore:
    """A bounded map from API key and tool-call id to reasoning; the oldest goes first."""

    def __init__(self, *, now: Callable[[], float], most: int = MOST, kept_s: float = KEPT_S) -> None:
        """`now` is a monotonic clock in seconds."""
        self._now = now
        self._most = most
        self._kept_s = kept_s
        self._entries: OrderedDict[tuple[str, str], tuple[float, _Kept]] = OrderedDict()
        self._characters = 0
        self.hits = 0
        self.misses = 0

    def put(self, key_id: str, kept: Mapping[str, _Kept]) -> None:
        """Keep the reasoning of one answer, by tool-call id."""
        until = self._now() + self._kept_s
        for call_id, value in kept.items():
            key = (key_id, call_id)
            self._drop(key)
            self._entries[key] = (until, value)
            self._characters += _size(value)
        while len(self._entries) > self._most or self._characters > _MOST_CHARACTERS:
            self._drop(next(iter(self._entries)))

    def get(self, key_id: str, call_id: str) -> _Kept | None:
        """Return what was kept for a call, None when there is nothing (any more)."""
        key = (key_id, call_id)
        entry = self._entries.get(key)
        if entry is not None and entry[0] <= self._now():
            self._drop(key)
            entry = None
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        return entry[1]

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, key: tuple[str, str]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._characters -= _size(entry[1])


def _size(kept: _Kept) -> int:
    text, token = kept
    return len(text) + (0 if token is None else len(token.value))
