"""Token counts with one meaning for all formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
"""A number of tokens that can be one: what a provider makes up must not overflow what adds it up."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a provider reported: `None` means not reported, 0 means none.

    `input` includes cached tokens (read and written), `output` includes reasoning; each format converts at its edge.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None

    def merge(self, later: Usage) -> Usage:
        """Return these counts with every count that `later` reports in its place: reports are cumulative, not added."""
        return Usage(
            input=self.input if later.input is None else later.input,
            output=self.output if later.output is None else later.output,
            cache_read=self.cache_read if later.cache_read is None else later.cache_read,
            cache_write=self.cache_write if later.cache_write is None else later.cache_write,
            reasoning=self.reasoning if later.reasoning is None else later.reasoning,
        )


NOT_REPORTED = Usage()
