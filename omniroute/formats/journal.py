"""What a client has been sent of an answer so far: all that is needed for another model to go on from there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from omniroute.errors import UpstreamProtocolError
from omniroute.formats.canonical import Answer, Block, Text, ToolCall
from omniroute.formats.codec import StreamParser
from omniroute.formats.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Event,
    MessageStart,
    MessageStop,
)
from omniroute.formats.fold import Folder, unfold_block
from omniroute.formats.sse import event_data, split_events
from omniroute.formats.wire import WireFormat

_NUMBER: Final = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')
_ADDED: Final = b"response.output_item.added"


class _Item(msgspec.Struct):
    id: str | None = None


class _Added(msgspec.Struct):
    item: _Item | None = None


_ADDED_ITEM: Final = msgspec.json.Decoder(_Added)


class Journal:
    """Folds what a client is sent, and remembers which block is open.

    Attributes:
        is_lost: what was sent could not be followed to its end.
        open: number and head of the open block.
        number: the last number of an event, where the format counts them.
        item_ids: ids of the items of the answer, where the format has them.
    """

    def __init__(self, origin: WireFormat) -> None:
        self.is_lost = False
        self.open: tuple[int, Block] | None = None
        self.number: int | None = None
        self.item_ids: list[str] = []
        self.model = ""
        self.created: int | None = None
        self._origin = origin
        self._folder = Folder(origin)
        self._is_over = False
        self._characters = 0

    def see(self, events: Sequence[Event]) -> None:
        """Take what the client is about to be sent."""
        self._folder.see(events)
        for event in events:
            match event:
                case BlockDelta(value=str() as text):
                    self._characters += len(text)
                case BlockStart(index=index, block=block):
                    self.open = index, block
                case BlockStop():
                    self.open = None
                case MessageStart(model=model, created=created):
                    self.model, self.created = model, created
                case MessageStop():
                    self._is_over = True
                case _:
                    pass

    def read(self, frames: bytes, parser: StreamParser) -> None:
        """Take frames that the client is sent as they are; `parser` is of their format, and reads them all."""
        try:
            self.see(parser.feed(frames))
            if self._origin is WireFormat.OPENAI_RESPONSES:
                self._read_marks(frames)
        except (UpstreamProtocolError, UnicodeDecodeError, RecursionError):
            self.is_lost = True

    def _read_marks(self, frames: bytes) -> None:
        numbers = _NUMBER.findall(frames)
        if numbers:
            self.number = int(numbers[-1])
        if _ADDED not in frames:
            return
        for event in split_events(frames):
            if _ADDED not in event:
                continue
            try:
                added = _ADDED_ITEM.decode(event_data(event))
            except msgspec.DecodeError:
                self.is_lost = True
                return
            self.item_ids.append((added.item.id if added.item is not None else None) or "")

    @property
    def answer(self) -> Answer:
        """The answer as far as it has come; its last block is the open one."""
        return self._folder.so_far

    @property
    def is_torn_in_text(self) -> bool:
        """Whether a text is open, which somebody else could go on with."""
        return not self.is_lost and not self._is_over and self.open is not None and isinstance(self.open[1], Text)

    @property
    def text(self) -> str:
        """The open text; "" when there is none."""
        last = self.answer.blocks[-1] if self.open is not None else None
        return last.text if isinstance(last, Text) else ""

    @property
    def all_text(self) -> str:
        """Everything that was said to the user."""
        return "".join(block.text for block in self.answer.blocks if isinstance(block, Text))

    @property
    def call_ids(self) -> frozenset[str]:
        """Ids of the calls that the client has seen."""
        return frozenset(block.id for block in self.answer.blocks if isinstance(block, ToolCall))

    @property
    def characters(self) -> int:
        """How much was generated: text, reasoning and arguments."""
        return self._characters

    def replay(self) -> list[Event]:
        """Return events that lead a renderer to where the client is."""
        answer = self.answer
        events: list[Event] = [MessageStart(answer.id, answer.model, answer.created)]
        for index, block in enumerate(answer.blocks):
            events += unfold_block(index, block)
        if self.open is not None:
            events.pop()  # the end of the open block
        return events
