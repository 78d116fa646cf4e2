"""Token counts with one meaning for all formats."""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
"""A number of tokens that can be one: what a provider makes up must not overflow what adds it up."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What a provider reported: `None` means not reported, 0 means none.

    `input` includes cached tokens (read and written), `output` includes reasoning; each format converts at its edge.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    """All of them, whatever time they are kept for."""
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_in: int | None = None
    audio_out: int | None = None
    web_searches: int | None = None
    is_estimated: bool = False
    """At least one count is ours, not the provider's."""

    def merge(self, later: Usage) -> Usage:
        """Return these counts with every count that `later` reports in its place: reports are cumulative, not added."""
        if self is NOT_REPORTED or self is later:
            return later
        # Written out: some providers report with every piece of text, and each report is merged several times.
        return Usage(
            self.input if later.input is None else later.input,
            self.output if later.output is None else later.output,
            self.cache_read if later.cache_read is None else later.cache_read,
            self.cache_write if later.cache_write is None else later.cache_write,
            self.cache_write_1h if later.cache_write_1h is None else later.cache_write_1h,
            self.reasoning if later.reasoning is None else later.reasoning,
            self.audio_in if later.audio_in is None else later.audio_in,
            self.audio_out if later.audio_out is None else later.audio_out,
            self.web_searches if later.web_searches is None else later.web_searches,
            later.is_estimated,
        )


NOT_REPORTED = Usage()
