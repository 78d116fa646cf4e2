"""Token counts of Ollama: the prompt's may be missing when it was cached, and nothing is said of caching itself."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.usage import NOT_REPORTED, Count, Usage


class _Counts(msgspec.Struct):
    prompt_eval_count: Count | None = None
    eval_count: Count | None = None


_DECODER: Final = msgspec.json.Decoder(_Counts)


def read_usage(data: bytes) -> Usage:
    """Return the counts of a last line; what cannot be a count is not reported."""
    try:
        counts = _DECODER.decode(data)
    except msgspec.DecodeError:
        return NOT_REPORTED
    return Usage(input=counts.prompt_eval_count, output=counts.eval_count)


def render_usage(usage: Usage) -> dict[str, int]:
    """Return the members of a last line. Durations are not known here, so they are left out and never made up."""
    counts = {"prompt_eval_count": usage.input, "eval_count": usage.output}
    return {name: count for name, count in counts.items() if count is not None}
