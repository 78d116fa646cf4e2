"""How much longer than usual a stream may take to begin: large histories, many tools and hard thinking take their time.

Read off the body without parsing it: roughly is good enough for a limit.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.splice import TopLevel
from omniroute.providers.upstream import Deadlines

_LONG: Final = ((400, 750_000, 45.0), (150, 250_000, 20.0))
"""More messages, or more characters, than these: so many seconds."""
_MANY_TOOLS: Final = 15
_FOR_TOOLS_S: Final = 15.0
_FOR_THINKING_S: Final = 30.0
_FOR_LOADING_S: Final = 60.0
"""A local provider may have to load the model first; deep research is slow by nature."""
_HARD: Final = frozenset({"high", "xhigh", "max"})
_LARGE_BUDGET: Final = 16_000
_EFFORT_MEMBERS: Final = ("reasoning_effort", "reasoning", "thinking", "output_config", "generationConfig")
_CHECKED_BYTES: Final = 24_000
"""Shorter bodies have neither so many messages nor so many tools."""

MOST_HEADERS_S: Final = 110.0
"""Common clients give up on a silent server after two minutes."""

_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


def extension_s(top: TopLevel, *, effort: str | None, model: str, is_local: bool) -> float:
    """Return by how many seconds the limits of headers and first content grow for a request.

    `effort` is what the model's name asks for; the body may ask for one as well.
    """
    extra = _FOR_LOADING_S if is_local or "deep-research" in model else 0.0
    if effort in _HARD or _thinks_hard(top):
        extra += _FOR_THINKING_S
    body = top.body
    if len(body) < _CHECKED_BYTES:
        return extra
    roles = body.count(b'"role"')
    extra += next((seconds for messages, size, seconds in _LONG if roles > messages or len(body) > size), 0.0)
    return extra + (_FOR_TOOLS_S if _tools(top) >= _MANY_TOOLS else 0.0)


def extended(limits: Deadlines, extra_s: float, *, most_headers_s: float, most_content_s: float) -> Deadlines:
    """Return the limits of a stream with its extension, within their bounds."""
    if not extra_s:
        return limits
    return Deadlines(
        connect_s=limits.connect_s,
        headers_s=max(limits.headers_s, min(limits.headers_s + extra_s, most_headers_s)),
        content_s=max(limits.content_s, min(limits.content_s + extra_s, most_content_s)),
        idle_s=limits.idle_s,
        total_s=limits.total_s,
    )


def _tools(top: TopLevel) -> int:
    span = top.spans.get("tools")
    if span is None:
        return 0
    try:
        return len(_ARRAY.decode(top.body[span[0] : span[1]]))
    except msgspec.DecodeError:
        return 0


def _thinks_hard(top: TopLevel) -> bool:
    return any(_is_hard(top.value(member)) for member in _EFFORT_MEMBERS if member in top)


def _is_hard(said: object) -> bool:
    match said:
        case str():
            return said in _HARD
        case dict():
            return any(
                (name in {"effort", "thinkingLevel"} and isinstance(value, str) and value.lower() in _HARD)
                or (name in {"budget_tokens", "thinkingBudget"} and isinstance(value, int) and value >= _LARGE_BUDGET)
                or (name == "thinkingConfig" and _is_hard(value))
                for name, value in said.items()
            )
        case _:
            return False
