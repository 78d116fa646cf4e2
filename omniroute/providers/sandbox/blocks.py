"""What an answer is made of, before any dialect spells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from omniroute.providers.sandbox import prose
from omniroute.providers.sandbox.script import Ending, VendorError

_ARGUMENT_PIECE: Final = 12


class Stop(StrEnum):
    """Why the model stopped talking."""

    END = "end"
    LENGTH = "length"
    SEQUENCE = "sequence"
    TOOLS = "tools"
    FILTER = "filter"
    REFUSAL = "refusal"


class Fault(StrEnum):
    """What is wrong with the way in which an answer is sent."""

    NONE = "none"
    EARLY_ERROR = "early_error"
    """The error comes in place of the first event."""
    LATE_ERROR = "late_error"
    """The error comes after `torn_after` pieces."""
    NO_FINISH = "no_finish"
    """All is said, and nothing says that it is."""
    DOUBLE_END = "double_end"
    """The end is said twice."""
    EMPTY = "empty"
    """Nothing comes at all."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A source for a stretch of text."""

    url: str
    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Text:
    """Visible text in streamed pieces."""

    pieces: tuple[str, ...]
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning in streamed pieces."""

    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model's words of refusal in streamed pieces."""

    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `arguments` is JSON, or free text when `is_custom`. `key` makes its id."""

    key: str
    name: str
    arguments: str
    is_custom: bool = False
    is_at_once: bool = False
    """The arguments are streamed in one piece."""
    namespace: str | None = None

    def pieces(self) -> tuple[str, ...]:
        """Return the arguments as they are streamed."""
        if self.is_at_once:
            return (self.arguments,)
        return prose.slices(self.arguments, _ARGUMENT_PIECE)

    def parsed(self) -> dict[str, Any] | None:
        """Return the arguments as an object; None when they are no JSON object."""
        if not self.arguments:
            return {}
        try:
            value = msgspec.json.decode(self.arguments)
        except msgspec.DecodeError:
            return None
        return value if isinstance(value, dict) else None


Block = Text | Thinking | Refusal | Call


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished answer.

    Attributes:
        output_tokens: all of them, reasoning included.
        first_delay_s: wait before the first content; infinite for an answer that never comes.
        interval_s: wait between two streamed pieces.
        torn_after: pieces after which the answer breaks off as `ending` says; None for one that is told to its end.
        is_interleaved: calls are streamed by turns, where the dialect can.
        error: what is said in the stream when `fault` is an error.
    """

    blocks: tuple[Block, ...]
    stop: Stop
    output_tokens: int
    reasoning_tokens: int = 0
    stop_sequence: str | None = None
    first_delay_s: float = 0.0
    interval_s: float = 0.0
    torn_after: int | None = None
    ending: Ending = Ending.COMPLETE
    fault: Fault = Fault.NONE
    is_interleaved: bool = False
    error: VendorError | None = None

    @property
    def text(self) -> str:
        """All visible text."""
        return "".join("".join(block.pieces) for block in self.blocks if isinstance(block, Text))

    @property
    def refusal(self) -> str | None:
        """The words of refusal, if it is one."""
        said = ["".join(block.pieces) for block in self.blocks if isinstance(block, Refusal)]
        return "".join(said) if said else None

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The sources of the text."""
        return tuple(c for block in self.blocks if isinstance(block, Text) for c in block.citations)

    def paced(self) -> Iterator[float]:
        """Yield the wait before each content piece, for ever."""
        yield self.first_delay_s
        while True:
            yield self.interval_s
