"""Ids for calls of clients that write none, and which call a result without an id answers.

Ids are made of the number of the call in the conversation and its name, so that a growing conversation keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from omniroute.formats.canonical import ToolResult

_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME: Final = 24


class _Call:
    __slots__ = ("id", "is_answered", "name")

    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.is_answered = False


class CallIds:
    """The calls of one conversation."""

    __slots__ = ("_calls", "_count", "_is_new_turn", "_open", "_used")

    def __init__(self) -> None:
        self._count = 0
        self._is_new_turn = False
        self._used: set[str] = set()
        self._calls: dict[str, list[_Call]] = {}
        self._open: list[_Call] = []
        """The calls of the latest turn that called."""

    def begin_turn(self) -> None:
        """A turn of the model begins: once it calls, open calls before it can only be answered by their id."""
        self._is_new_turn = True

    def call(self, call_id: str, name: str) -> str:
        """Return the id of the next call."""
        number = self._count
        self._count += 1
        if not call_id:
            call_id = made = f"call_{number}_{_ILLEGAL.sub('_', name)[:_LONGEST_NAME]}"
            suffix = 1
            while call_id in self._used:
                suffix += 1
                call_id = f"{made}_{suffix}"
        self._used.add(call_id)
        call = _Call(call_id, name)
        self._calls.setdefault(call_id, []).append(call)
        if self._is_new_turn:
            self._open, self._is_new_turn = [], False
        self._open.append(call)
        return call_id

    def paired(self, results: list[ToolResult]) -> Iterator[ToolResult]:
        """Yield the results of one content with the ids of the calls that they answer.

        First by id, then by name, then by order. A result that answers nothing keeps what it has.
        """
        found: dict[int, _Call] = {}
        for find in (self._by_id, self._by_name, self._by_order):
            for place, result in enumerate(results):
                if place in found:
                    continue
                if find != self._by_id and result.call_id in self._calls:
                    continue  # a second result of a call
                call = find(result)
                if call is not None:
                    call.is_answered = True
                    found[place] = call
        for place, result in enumerate(results):
            call = found.get(place)
            if call is None:
                yield result
            else:
                yield msgspec.structs.replace(result, call_id=call.id, name=result.name or call.name)

    def _by_id(self, result: ToolResult) -> _Call | None:
        # An id that some vendor gave twice means the later call.
        return _first_open(reversed(self._calls.get(result.call_id, ())))

    def _by_name(self, result: ToolResult) -> _Call | None:
        return _first_open(call for call in self._open if call.name == result.name)

    def _by_order(self, result: ToolResult) -> _Call | None:
        # A result that states both an id and a tool which were never called answers nothing.
        return None if result.call_id and result.name is not None else _first_open(self._open)


def _first_open(calls: Iterable[_Call]) -> _Call | None:
    return next((call for call in calls if not call.is_answered), None)
