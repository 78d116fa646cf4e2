"""An answer in motion: the events that every stream becomes.

Theory. A stream is one `MessageStart`, then blocks, then one terminal event (`MessageStop` or `StreamError`). Block
indexes rise by one from 0; one block is open at a time; each `BlockStart` has one `BlockStop`; deltas name the open
block. A parser that reads interleaved calls (OpenAI Chat may send the arguments of two calls by turns) holds the deltas
of the later call until the block before it stops: that is the only buffering. `UsageUpdate` and `Ping` may stand
anywhere before the terminal event. :class:`Checked` is this paragraph as code.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from omniroute.formats.canonical import Block, Citation, Refusal, Stop, Text, Thinking, Token, ToolCall
from omniroute.formats.usage import Usage


class MessageStart(msgspec.Struct, frozen=True):
    """The answer begins. `created` is epoch seconds. `usage` is what is known of the prompt by now."""

    id: str
    model: str
    created: int | None = None
    usage: Usage | None = None


class BlockStart(msgspec.Struct, frozen=True):
    """A block opens. `block` is its head: a Text, Thinking or Refusal with text "", a ToolCall with arguments "".

    Blocks that do not come in pieces (Media, ServerTool, Unknown, redacted Thinking) stand here whole and stop next.
    """

    index: int
    block: Block


class DeltaKind(StrEnum):
    """What a delta adds to. The value is a `Token` for TOKEN, a `Citation` for CITATION, otherwise a `str`."""

    TEXT = "text"
    THINKING = "thinking"
    ARGUMENTS = "arguments"
    REFUSAL = "refusal"
    TOKEN = "token"  # noqa: S105 - not a secret of ours
    CITATION = "citation"


class BlockDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of the open block. `logprobs` is a list of token objects that belong to a piece of text."""

    index: int
    kind: DeltaKind
    value: str | Token | Citation
    logprobs: msgspec.Raw | None = None


class BlockStop(msgspec.Struct, frozen=True, gc=False):
    """The open block is complete."""

    index: int


class UsageUpdate(msgspec.Struct, frozen=True, gc=False):
    """Counts so far: cumulative, to be set and not to be added."""

    usage: Usage


class MessageStop(msgspec.Struct, frozen=True, gc=False):
    """The answer is complete."""

    stop: Stop
    sequence: str | None = None


class StreamError(msgspec.Struct, frozen=True, gc=False):
    """The provider reported an error (`data` is its JSON, as sent), or the stream broke off (`data` is empty)."""

    data: bytes = b""


class Ping(msgspec.Struct, frozen=True, gc=False):
    """A sign of life."""


Event = MessageStart | BlockStart | BlockDelta | BlockStop | UsageUpdate | MessageStop | StreamError | Ping
PING = Ping()


class InvalidStream(AssertionError):
    """A stream of events breaks the rules of this module: a fault of its parser."""


class Checked:
    """Holds a stream of events against the rules; used by tests and by debug builds."""

    def __init__(self) -> None:
        self._has_started = False
        self._open: tuple[int, Block] | None = None
        self._next_index = 0
        self._is_over = False

    def see(self, events: Sequence[Event]) -> None:
        """Check the next events.

        Raises:
            InvalidStream: a rule is broken.
        """
        for event in events:
            self._see(event)

    def end(self) -> None:
        """Check that the stream is complete."""
        if not self._is_over:
            raise InvalidStream("no terminal event")

    def _see(self, event: Event) -> None:  # noqa: C901, PLR0912 - one branch per kind of event
        if self._is_over:
            raise InvalidStream(f"{event} after the terminal event")
        match event:
            case MessageStart():
                if self._has_started:
                    raise InvalidStream("a second start")
                self._has_started = True
            case BlockStart(index=index, block=block):
                if not self._has_started:
                    raise InvalidStream("a block before the start")
                if self._open is not None:
                    raise InvalidStream(f"block {index} opens inside block {self._open[0]}")
                if index != self._next_index:
                    raise InvalidStream(f"block {index} follows block {self._next_index - 1}")
                self._next_index += 1
                self._open = (index, block)
            case BlockDelta(index=index, kind=kind):
                if self._open is None or self._open[0] != index:
                    raise InvalidStream(f"a delta of block {index}, which is not open")
                if not isinstance(self._open[1], _FITS[kind]):
                    raise InvalidStream(f"a delta of kind {kind} in {type(self._open[1]).__name__}")
            case BlockStop(index=index):
                if self._open is None or self._open[0] != index:
                    raise InvalidStream(f"block {index} stops but is not open")
                self._open = None
            case MessageStop():
                if not self._has_started or self._open is not None:
                    raise InvalidStream("stops before its start, or inside a block")
                self._is_over = True
            case StreamError():
                self._is_over = True
            case UsageUpdate() | Ping():
                pass
            case _:
                raise InvalidStream(f"unknown event {event}")


_FITS: dict[DeltaKind, type | tuple[type, ...]] = {
    DeltaKind.TEXT: Text,
    DeltaKind.THINKING: Thinking,
    DeltaKind.ARGUMENTS: ToolCall,
    DeltaKind.REFUSAL: Refusal,
    DeltaKind.TOKEN: (Thinking, ToolCall, Text),
    DeltaKind.CITATION: Text,
}
