"""A queue in which nobody waits behind somebody else's crowd."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

W = TypeVar("W")


class FairQueue(Generic[W]):
    """First come, first served within a key; between keys in turns, one each.

    Entries are told apart by identity or equality, and stand in the queue once.
    """

    __slots__ = ("_arrivals", "_by_key", "_size")

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, OrderedDict[W, int]] = OrderedDict()  # in the order of turns; arrival numbers
        self._size = 0
        self._arrivals = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[W]:
        """Yield everything that waits, by key; safe against changes meanwhile."""
        return iter([entry for entries in self._by_key.values() for entry in entries])

    def push(self, key: str, entry: W) -> None:
        """Let an entry wait behind those of its key; a key that had none waiting takes the last turn."""
        self._by_key.setdefault(key, OrderedDict())[entry] = self._arrivals
        self._arrivals += 1
        self._size += 1

    def first(self) -> W | None:
        """Return whose turn it is; None when nobody waits."""
        for entries in self._by_key.values():
            return next(iter(entries))
        return None

    def serve(self, key: str, entry: W) -> None:
        """Take out an entry that was served: the turn goes to the next key."""
        if self.remove(key, entry) and key in self._by_key:
            self._by_key.move_to_end(key)

    def remove(self, key: str, entry: W) -> bool:
        """Take out an entry that leaves unserved, which costs its key no turn; False when it does not wait here."""
        entries = self._by_key.get(key)
        if entries is None or entry not in entries:
            return False
        del entries[entry]
        self._size -= 1
        if not entries:
            del self._by_key[key]
        return True

    def most_crowded(self) -> W | None:
        """Return who has to go when the queue is too long: the newest of the keys with the most entries."""
        crowd = max(map(len, self._by_key.values()), default=0)
        newest = [next(reversed(entries.items())) for entries in self._by_key.values() if len(entries) == crowd]
        return max(newest, key=lambda one: one[1])[0] if newest else None
