"""Settings that a provider may refuse and that nobody misses: asked once more without them, and remembered.

A request is not worth failing for a temperature. What shapes the answer (tools, format, stop sequences, the number of
answers) is never taken out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from omniroute.formats.splice import scan, splice

DROPPABLE: Final = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "metadata",
        "min_p",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "repetition_penalty",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "stream_options",
        "temperature",
        "top_k",
        "top_p",
        "user",
        "verbosity",
    }
)
REMEMBERED_S: Final = 86_400.0
_MOST_OPTIONS: Final = 2000


def droppable(param: str | None) -> str | None:
    """Return the top-level member that a refused parameter names, if it may be left out; None if not."""
    if param is None:
        return None
    member = param.partition(".")[0].partition("[")[0]
    return member if member in DROPPABLE else None


def without(body: bytes, members: frozenset[str]) -> bytes:
    """Return a JSON object without some of its top-level members."""
    top = scan(body)
    present = [member for member in members if member in top]
    return splice(top, dict.fromkeys(present)) if present else body


class Refusals:
    """Which members which option has refused lately. One per worker; forgets after a day."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        """`now`: any clock in seconds."""
        self._now = now
        self._known: OrderedDict[str, dict[str, float]] = OrderedDict()

    def note(self, option: str, member: str) -> None:
        """Remember that an option does not take a member."""
        self._known.setdefault(option, {})[member] = self._now() + REMEMBERED_S
        self._known.move_to_end(option)
        if len(self._known) > _MOST_OPTIONS:
            self._known.popitem(last=False)

    def of(self, option: str) -> frozenset[str]:
        """Return the members that an option does not take."""
        known = self._known.get(option)
        if known is None:
            return _NONE
        now = self._now()
        return frozenset(member for member, until in known.items() if until > now)


_NONE: Final[frozenset[str]] = frozenset()
