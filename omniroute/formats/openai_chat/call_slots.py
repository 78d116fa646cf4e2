"""The calls of one stream, put together from deltas as hosts number and repeat them.

Theory. The format gives each call an `index`; its first delta has id and name, later ones fragments of the arguments.
Hosts leave the index out, give all calls the index 0, repeat id or name in every delta, send the arguments whole, or
send them whole once more after the fragments. So a delta belongs to the call of its index or id, unless it names a tool
and cannot be a continuation: a second id at the same index, or an object after arguments that are complete already.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.canonical import CallKind, Token, ToolCall, arguments_object
from omniroute.formats.openai_chat.shapes import WireCall, WireFunction, arguments_text

_EMPTY: Final = "{}"
_VALUE: Final = msgspec.json.Decoder()


class Slot:
    """One call. `fragments` are the pieces of its arguments, of which `sent` have been made events."""

    __slots__ = ("_placeholder", "fragments", "id", "index", "is_closed", "kind", "name", "sent", "token")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.kind = CallKind.FUNCTION
        self.token: Token | None = None
        self.fragments: list[str] = []
        self.sent = 0
        self.index = -1
        """Of its block; -1 before that is open."""
        self.is_closed = False
        self._placeholder = ""

    def add(self, fragment: str) -> None:
        """Add a piece of the arguments, unless it is the whole of them once more."""
        if not self.fragments and not self._placeholder and fragment.strip() == _EMPTY and not self.is_custom:
            self._placeholder = fragment  # some hosts begin with it and send the true arguments afterwards
            return
        if self._placeholder:
            held, self._placeholder = self._placeholder, ""
            if not fragment.lstrip().startswith("{"):
                self.fragments.append(held)
        if not self.is_repeated(fragment):
            self.fragments.append(fragment)

    def finish(self) -> None:
        """There will be no more pieces."""
        if self._placeholder:
            self.fragments.append(self._placeholder)
            self._placeholder = ""

    @property
    def is_custom(self) -> bool:
        """Its input is free text."""
        return self.kind is CallKind.CUSTOM

    @property
    def arguments(self) -> str:
        """What has come of the arguments."""
        return "".join(self.fragments) + self._placeholder

    @property
    def is_whole(self) -> bool:
        """The arguments are a JSON object already, so that nothing can follow."""
        last = self.fragments[-1] if self.fragments else self._placeholder
        if self.is_custom or not last.rstrip().endswith("}"):
            return False
        return arguments_object(self.arguments) is not None

    def is_repeated(self, fragment: str) -> bool:
        """Say whether a piece is an object after arguments that are complete."""
        return fragment.lstrip().startswith("{") and fragment.rstrip().endswith("}") and self.is_whole

    def call(self) -> ToolCall:
        """Return the call."""
        return ToolCall(self.id, self.name, self.arguments, self.kind, self.token)


class Slots:
    """Finds the call of each delta."""

    __slots__ = ("_by_id", "_by_index", "all")

    def __init__(self) -> None:
        self.all: list[Slot] = []
        self._by_index: dict[int, Slot] = {}
        self._by_id: dict[str, Slot] = {}

    def take(self, wire: WireCall) -> tuple[Slot, bool]:
        """Take one delta; return its call and whether that is new."""
        inner = wire.function or wire.custom
        call_id = "" if wire.id is None else str(wire.id)
        name = "" if inner is None or inner.name is None else inner.name
        fragment = "" if inner is None else _written(wire, inner)
        slot = self._find(wire.index, call_id, name, fragment)
        is_new = slot is None
        if slot is None:
            slot = Slot()
            self.all.append(slot)
        if wire.index is not None:
            self._by_index[wire.index] = slot
        if call_id and not slot.id:
            slot.id = call_id
            self._by_id[call_id] = slot
        slot.name = slot.name or name
        if wire.custom is not None or wire.type == "custom":
            slot.kind = CallKind.CUSTOM
        slot.token = slot.token or wire.token
        if fragment and not slot.is_closed:
            slot.add(fragment)
        return slot, is_new

    def has(self, place: int, wire: WireCall) -> bool:
        """Say whether a call of a whole message has come before, in pieces."""
        return place < len(self.all) or str(wire.id) in self._by_id

    def _find(self, index: int | None, call_id: str, name: str, fragment: str) -> Slot | None:
        if index is not None:
            slot = self._by_index.get(index)
        elif call_id:
            return self._by_id.get(call_id)
        else:
            slot = self.all[-1] if self.all else None
        if slot is None or not name:
            return slot
        if call_id and slot.id and call_id != slot.id:
            return self._by_id.get(call_id)
        if call_id or not slot.name:
            return slot
        # Named once more, without an id: the same call again, or the next one.
        if name != slot.name:
            return None
        if index is None and slot.is_whole and not fragment:
            return None
        if slot.is_repeated(fragment) and not _is_same(slot.arguments, fragment):
            return None
        return slot


def _written(wire: WireCall, inner: WireFunction) -> str:
    return arguments_text(inner.input if wire.custom is not None else inner.arguments)


def _is_same(one: str, other: str) -> bool:
    try:
        return bool(_VALUE.decode(one) == _VALUE.decode(other))
    except (msgspec.DecodeError, RecursionError):
        return one == other
