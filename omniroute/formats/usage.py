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
        if self in (NOT_REPORTED, later):
            return later
        changed = {name: value for name in _COUNTS if (value := getattr(later, name)) is not None}
        return msgspec.structs.replace(self, **changed, is_estimated=later.is_estimated)


NOT_REPORTED = Usage()
_COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "is_estimated")
