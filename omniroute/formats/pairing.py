"""Calls and their results: every call answered exactly once, directly after its turn, in the order of the calls.

Theory. Consecutive assistant messages are one turn (some formats write each item as a message of its own). A turn that
calls is followed by one message of role TOOL that holds its results and nothing else; what stood between goes after it.
A result belongs to a call that stands before it, has its id and has no result yet: of the latest turn that has one, and
there the first. Without ids, the tool's name decides. Whatever finds no call (it never had one, or the call has a
result) becomes text of the user where it stands. A call that is never answered gets `[no result]`.

So all that is decided about a turn depends on nothing after its results, and a conversation keeps its beginning from
turn to turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from omniroute.formats.canonical import Block, Media, Message, Role, Text, ToolCall, ToolResult
from omniroute.formats.codec import Pause, no_pause
from omniroute.formats.tool_ids import Ids

NO_RESULT: Final = "[no result]"
_ORPHAN: Final = "[tool result]"
_FAILED_ORPHAN: Final = "[tool error]"

Results = tuple[ToolResult, ...]
Settle = Callable[[Results], tuple[Results, tuple[Block, ...]]]
"""Takes the results of a turn; returns them and what a user message right after them must hold."""


_PAIRED: Final = frozenset({ToolCall, ToolResult})


def _as_they_are(results: Results) -> tuple[Results, tuple[Block, ...]]:
    return results, ()


def pair(
    messages: tuple[Message, ...],
    ids: Ids,
    *,
    settle: Settle = _as_they_are,
    needs_names: bool = False,
    pause: Pause = no_pause,
) -> tuple[Message, ...]:
    """Return the conversation with its calls and results in order, ids assigned.

    Args:
        messages: the conversation without the system text in front of it.
        ids: gives calls their ids; results follow.
        settle: see :data:`Settle`.
        needs_names: results carry the name of their tool, because the target knows them by it.
        pause: called between messages.
    """
    if all(message.blocks and _PAIRED.isdisjoint(map(type, message.blocks)) for message in messages):
        return messages
    pairing = _Pairing(ids, needs_names=needs_names)
    for message in messages:
        pairing.take(message)
        pause()
    paired = tuple(pairing.written(settle, pause))
    return messages if _is_same(paired, messages) else paired


def as_text(result: ToolResult) -> tuple[Block, ...]:
    """Return a result that has no call as blocks of a user message."""
    mark = _FAILED_ORPHAN if result.is_error else _ORPHAN
    blocks: list[Block] = list(result.blocks)
    first = blocks[0] if blocks else None
    if isinstance(first, Text):
        blocks[0] = msgspec.structs.replace(first, text=f"{mark} {first.text}")
    else:
        blocks.insert(0, Text(mark))
    last = blocks[-1]
    if result.cache is not None and isinstance(last, Text | Media) and last.cache is None:
        blocks[-1] = msgspec.structs.replace(last, cache=result.cache)
    return tuple(blocks)


class _Slot:
    """A call, and the result that it gets."""

    __slots__ = ("call", "result", "source")

    def __init__(self, call: ToolCall) -> None:
        self.call = call
        self.result: ToolResult | None = None
        self.source: Message | None = None
        """The message that the result stood in."""


class _Turn:
    """An assistant turn that calls."""

    __slots__ = ("message", "slots")

    def __init__(self, message: Message, slots: list[_Slot]) -> None:
        self.message = message
        self.slots = slots


class _Open:
    """The unanswered calls of one id or one name, by turn."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns: list[tuple[_Turn, deque[_Slot]]] = []

    def add(self, turn: _Turn, slot: _Slot) -> None:
        if not self._turns or self._turns[-1][0] is not turn:
            self._turns.append((turn, deque()))
        self._turns[-1][1].append(slot)

    def take(self) -> _Slot | None:
        """Return the first unanswered call of the latest turn that has one."""
        while self._turns:
            slots = self._turns[-1][1]
            while slots:
                slot = slots.popleft()
                if slot.result is None:  # may have been found by its other key
                    return slot
            self._turns.pop()
        return None


class _Pairing:
    def __init__(self, ids: Ids, *, needs_names: bool) -> None:
        self.items: list[Message | _Turn] = []
        self._ids = ids
        self._needs_names = needs_names
        self._is_in_turn = False
        """The message before was the assistant's."""
        self._with_id: dict[str, _Open] = {}
        # By name, and all of them under "".
        self._without_id: dict[str, _Open] = {}
        self._all: dict[str, _Open] | None = None
        """Made for the first result without an id: most histories have none."""

    def take(self, message: Message) -> None:
        for block in message.blocks:
            if type(block) is ToolResult:
                message = self._without_results(message)
                break
        if message.role is Role.ASSISTANT:
            self._take_assistant(message)
            self._is_in_turn = True
            return
        self._is_in_turn = False
        if message.blocks:
            self.items.append(message)

    def _take_assistant(self, message: Message) -> None:
        last = self.items[-1] if self._is_in_turn else None
        calls = [block for block in message.blocks if type(block) is ToolCall]
        if not calls:
            if isinstance(last, _Turn):
                last.message = _joined(last.message, message.blocks)
            else:
                self.items.append(message)
            return
        message = self._with_ids(message, calls)
        slots = [_Slot(block) for block in message.blocks if type(block) is ToolCall]
        if last is None:
            turn = _Turn(message, slots)
            self.items.append(turn)
        elif isinstance(last, _Turn):
            turn = last
            turn.message = _joined(turn.message, message.blocks)
            turn.slots += slots
        else:
            turn = self.items[-1] = _Turn(_joined(last, message.blocks), slots)
        for slot, call in zip(slots, calls, strict=True):
            self._enter(turn, slot, call)

    def _enter(self, turn: _Turn, slot: _Slot, call: ToolCall) -> None:
        if call.id:
            _add(self._with_id, call.id, turn, slot)
        else:
            _add(self._without_id, call.name, turn, slot)
            _add(self._without_id, "", turn, slot)
        if self._all is not None:
            _add(self._all, call.name, turn, slot)
            _add(self._all, "", turn, slot)

    def _by_name(self) -> dict[str, _Open]:
        if self._all is None:
            self._all = {}
            for turn in self.items:
                if isinstance(turn, _Turn):
                    for slot in turn.slots:
                        _add(self._all, slot.call.name, turn, slot)
                        _add(self._all, "", turn, slot)
        return self._all

    def _with_ids(self, message: Message, calls: Sequence[ToolCall]) -> Message:
        sent = [self._ids.assign(call.id, call.name) for call in calls]
        if all(call.id == made for call, made in zip(calls, sent, strict=True)):
            return message
        ids = iter(sent)
        blocks = tuple(
            msgspec.structs.replace(block, id=next(ids)) if isinstance(block, ToolCall) else block
            for block in message.blocks
        )
        return msgspec.structs.replace(message, blocks=blocks)

    def _without_results(self, message: Message) -> Message:
        rest: list[Block] = []
        for block in message.blocks:
            if not isinstance(block, ToolResult):
                rest.append(block)
                continue
            slot = self._slot_of(block)
            if slot is None:
                rest.extend(as_text(block))
            else:
                slot.result = self._answering(slot.call, block)
                slot.source = message
        role = Role.USER if message.role is Role.TOOL else message.role
        return msgspec.structs.replace(message, role=role, blocks=tuple(rest), plain=False)

    def _slot_of(self, result: ToolResult) -> _Slot | None:
        if not result.call_id:
            found = self._by_name().get(result.name or "")
        else:
            found = self._with_id.get(result.call_id)
            if found is None:  # a host that forgot the ids of its calls
                found = self._without_id.get(result.name or "")
        return found.take() if found is not None else None

    def _answering(self, call: ToolCall, result: ToolResult) -> ToolResult:
        name = call.name if self._needs_names or result.name is not None else None
        if result.call_id == call.id and result.name == name and result.kind is call.kind:
            return result
        return msgspec.structs.replace(result, call_id=call.id, name=name, kind=call.kind)

    def missing(self, call: ToolCall) -> ToolResult:
        """Return what stands for the result of a call that has none."""
        name = call.name if self._needs_names else None
        return ToolResult(call.id, (Text(NO_RESULT),), kind=call.kind, name=name, plain=True)

    def written(self, settle: Settle, pause: Pause) -> Iterator[Message]:
        """Yield the conversation."""
        for item in self.items:
            pause()
            if isinstance(item, Message):
                yield item
                continue
            yield item.message
            found = tuple(slot.result or self.missing(slot.call) for slot in item.slots)
            results, after = settle(found)
            source = item.slots[0].source
            if source is not None and source.role is Role.TOOL and _is_same(source.blocks, results):
                yield source
            else:
                yield Message(Role.TOOL, results)
            if after:
                yield Message(Role.USER, after)


def _add(index: dict[str, _Open], key: str, turn: _Turn, slot: _Slot) -> None:
    found = index.get(key)
    if found is None:
        found = index[key] = _Open()
    found.add(turn, slot)


def _joined(message: Message, more: tuple[Block, ...]) -> Message:
    return msgspec.structs.replace(message, blocks=(*message.blocks, *more), plain=False)


def _is_same(some: Sequence[object], others: Sequence[object]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))
