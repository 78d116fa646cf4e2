"""Token counts with one meaning for all formats."""

from __future__ import annotations

from typing import Annotated, Any

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
    is_input_estimated: bool = False
    """The input is ours, not the provider's."""
    is_output_estimated: bool = False

    @property
    def is_estimated(self) -> bool:
        """Whether at least one count is ours, not the provider's."""
        return self.is_input_estimated or self.is_output_estimated

    def merge(self, later: Usage) -> Usage:
        """Return the largest of each count: reports are cumulative and not added, and some hosts end with zeros.

        A count of ours gives way to the provider's, whichever is larger.
        """
        if self is NOT_REPORTED or self is later:
            return later
        one, other = self, later
        if one.is_input_estimated is not other.is_input_estimated and None not in (one.input, other.input):
            one, other = _without_guess(one, other, "input")
        if one.is_output_estimated is not other.is_output_estimated and None not in (one.output, other.output):
            one, other = _without_guess(one, other, "output")
        # Written out: some providers report with every piece of text, and each report is merged several times.
        return Usage(
            one.input if (new := other.input) is None or ((old := one.input) is not None and old >= new) else new,
            one.output if (new := other.output) is None or ((old := one.output) is not None and old >= new) else new,
            one.cache_read
            if (new := other.cache_read) is None or ((old := one.cache_read) is not None and old >= new)
            else new,
            one.cache_write
            if (new := other.cache_write) is None or ((old := one.cache_write) is not None and old >= new)
            else new,
            one.cache_write_1h
            if (new := other.cache_write_1h) is None or ((old := one.cache_write_1h) is not None and old >= new)
            else new,
            one.reasoning
            if (new := other.reasoning) is None or ((old := one.reasoning) is not None and old >= new)
            else new,
            one.audio_in
            if (new := other.audio_in) is None or ((old := one.audio_in) is not None and old >= new)
            else new,
            one.audio_out
            if (new := other.audio_out) is None or ((old := one.audio_out) is not None and old >= new)
            else new,
            one.web_searches
            if (new := other.web_searches) is None or ((old := one.web_searches) is not None and old >= new)
            else new,
            one.is_input_estimated or other.is_input_estimated,
            one.is_output_estimated or other.is_output_estimated,
        )


def _without_guess(one: Usage, other: Usage, count: str) -> tuple[Usage, Usage]:
    """Take a count out of that usage of the two in which it is ours."""
    flag = f"is_{count}_estimated"
    changes: dict[str, Any] = {count: None, flag: False}
    if getattr(one, flag):
        return msgspec.structs.replace(one, **changes), other
    return one, msgspec.structs.replace(other, **changes)


NOT_REPORTED = Usage()
