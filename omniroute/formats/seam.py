"""The events of an answer that goes on from where another one broke off, as part of that other one.

Theory. The client has a text open. The first text of the second answer is its continuation: the end of the sent text
that a model repeats before it goes on is cut off, which is why the first characters are held back. Reasoning ahead of
it was about how to go on, and is left out. Whatever follows gets the next numbers. Tokens count for both answers
together.
"""

from __future__ import annotations

from typing import Final

from omniroute.formats.canonical import Text, Thinking
from omniroute.formats.estimates import Estimates
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    DeltaKind,
    Event,
    MessageStart,
    MessageStop,
    Ping,
    StreamError,
    UsageUpdate,
)
from omniroute.formats.usage import NOT_REPORTED, Usage
from omniroute.formats.way_back import WayBack
from omniroute.formats.wire import WireFormat

HELD: Final = 400
"""Characters that are held back, and the longest repetition that is looked for."""
LEAST_OVERLAP: Final = 8
"""A shorter one may be chance."""


def overlap(sent: str, text: str, gap: str = "") -> int:
    """Return how many characters at the start of a continuation repeat the end of what was sent.

    `gap` is white space at the end of `sent` that the model was not shown: any of it counts as repeated.
    """
    for size in range(min(HELD, len(sent), len(text)), LEAST_OVERLAP - 1, -1):
        if sent.endswith(text[:size]):
            return size
    for size in range(min(len(gap), len(text)), 0, -1):
        if gap.endswith(text[:size]):
            return size
    return 0


def added(first: Usage, second: Usage) -> Usage:
    """Return the tokens of two answers together; what only one of them reports counts as reported."""
    names = (name for name in first.__struct_fields__ if not name.startswith("is_"))
    sums: dict[str, int | None] = {}
    for name in names:
        one, other = getattr(first, name), getattr(second, name)
        sums[name] = other if one is None else one if other is None else one + other
    return Usage(
        **sums,
        is_input_estimated=first.is_input_estimated or second.is_input_estimated,
        is_output_estimated=first.is_output_estimated or second.is_output_estimated,
    )


class Seam:
    """Turns the events of the second answer; used in place of a :class:`WayBack`.

    Attributes:
        has_content: the second answer has begun to say something.
        is_crossed: the client has been given something of it.
    """

    def __init__(
        self, way_back: WayBack, estimates: Estimates, *, index: int, sent: str, gap: str, spent: Usage
    ) -> None:
        """Begin in an open text.

        Args:
            way_back: turns the second answer into the client's terms.
            estimates: fills in what the second provider does not report.
            index: number of the open block.
            sent: the text that the client has.
            gap: see :func:`overlap`.
            spent: tokens of the first answer.
        """
        self.has_content = False
        self.is_crossed = False
        self._way_back = way_back
        self._estimates = estimates
        self._open = index
        self._shift = 0
        self._sent = sent[-HELD:]
        self._gap = gap
        self._spent = spent
        self._own = NOT_REPORTED
        self._is_joining = True
        """The text that the client has open has not been ended."""
        self._is_holding = True
        self._dropped: int | None = None
        self._joined: int | None = None
        self._held: list[BlockDelta] = []
        self._held_characters = 0

    @property
    def client(self) -> WireFormat:
        """The format that the client speaks."""
        return self._way_back.client

    @property
    def usage(self) -> Usage:
        """Tokens of both answers."""
        return added(self._spent, self._own)

    @property
    def own_usage(self) -> Usage:
        """What the second provider has reported of its own part."""
        return self._own

    @property
    def own_characters(self) -> int:
        """How much the second provider has said."""
        return self._estimates.characters

    def events(self, events: list[Event]) -> list[Event]:
        """Return what the client is to see of these events."""
        out: list[Event] = []
        for event in self._estimates.events(self._way_back.events(events)):
            self._take(event, out)
        if any(not isinstance(event, StreamError | UsageUpdate | Ping) for event in out):
            self.is_crossed = True
        return out

    def _take(self, event: Event, out: list[Event]) -> None:
        match event:
            case BlockDelta():
                self._delta(event, out)
            case BlockStart():
                self._start(event, out)
            case BlockStop(index=index):
                self._stop(index, out)
            case MessageStart(usage=usage):
                if usage is not None:
                    self._own = self._own.merge(usage)
            case UsageUpdate(usage=usage):
                self._own = self._own.merge(usage)
                if self.has_content:
                    out.append(UsageUpdate(self.usage))
            case MessageStop():
                self.has_content = True
                if self._is_joining:
                    self._end_text(out)
                out += (UsageUpdate(self.usage), event)
            case Ping():
                if self.is_crossed:
                    out.append(event)
            case _:
                out.append(event)

    def _start(self, event: BlockStart, out: list[Event]) -> None:
        block = event.block
        if self._is_joining and self._joined is None:
            if isinstance(block, Thinking):
                self._dropped = event.index
                self.has_content = True
                return
            if isinstance(block, Text):
                self._joined = event.index
                if block.text:
                    self._delta(BlockDelta(event.index, DeltaKind.TEXT, block.text, block.logprobs), out)
                return
            self._joined = event.index - 1  # as if a text without words had stood before it
            self._end_text(out)
        self.has_content = True
        out.append(BlockStart(event.index + self._shift, block))

    def _stop(self, index: int, out: list[Event]) -> None:
        if index == self._dropped:
            self._dropped = None
        elif index == self._joined:
            self._end_text(out)
        else:
            out.append(BlockStop(index + self._shift))

    def _delta(self, event: BlockDelta, out: list[Event]) -> None:
        self.has_content = True
        if event.index == self._dropped:
            return
        if event.index != self._joined or not self._is_joining:
            out.append(BlockDelta(event.index + self._shift, event.kind, event.value, event.logprobs))
        elif not self._is_holding:
            out.append(BlockDelta(self._open, event.kind, event.value, event.logprobs))
        else:
            self._held.append(event)
            self._held_characters += len(event.value) if isinstance(event.value, str) else 0
            if self._held_characters >= HELD:
                self._let_go(out)

    def _let_go(self, out: list[Event]) -> None:
        """Say what was held back, without what repeats the sent text."""
        self._is_holding = False
        text = "".join(delta.value for delta in self._held if isinstance(delta.value, str))
        size = overlap(self._sent, text, self._gap)
        for delta in self._held:
            value = delta.value
            if isinstance(value, str) and size:
                size, value = max(0, size - len(value)), value[size:]
                if not value:
                    continue
                # Probabilities belong to the whole piece.
                logprobs = delta.logprobs if value == delta.value else None
                out.append(BlockDelta(self._open, delta.kind, value, logprobs))
            else:
                out.append(BlockDelta(self._open, delta.kind, value, delta.logprobs))
        self._held.clear()

    def _end_text(self, out: list[Event]) -> None:
        if self._is_holding:
            self._let_go(out)
        self._is_joining = False
        self.has_content = True  # also of an answer that had nothing to add
        self._shift = self._open - (self._joined or 0) if self._joined is not None else 0
        out.append(BlockStop(self._open))
