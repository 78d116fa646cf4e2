"""An effort in a model's name: `gpt-5-high` is `gpt-5`, asked to think hard.

The name is split before anything is looked up for it; the effort then takes the place of what the body says.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.errors import InvalidRequest
from omniroute.formats.canonical import Effort, Reasoning, Request
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.reasoning import gemini_thinking, messages_thinking, nearest_effort
from omniroute.formats.splice import TopLevel
from omniroute.formats.wire import WireFormat

_SUFFIXES: Final = {f"-{effort.value}": effort for effort in Effort if effort is not Effort.NONE}
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LEVELS: Final = (Effort.LOW, Effort.MEDIUM, Effort.HIGH)
_LOOSE: Final = "reasoning_effort"

Edits = dict[str, bytes | None]


def split_effort(name: str) -> tuple[str, Effort | None]:
    """Return a model's name without an effort at its end, and that effort; None where there is none."""
    base, dash, word = name.rpartition("-")
    effort = _SUFFIXES.get(dash + word)
    return (base, effort) if base and effort is not None else (name, None)


def with_effort(request: Request, effort: Effort) -> Request:
    """Return a request that asks for this effort; what it says of showing the reasoning stays."""
    said = request.reasoning or Reasoning()
    wanted = msgspec.structs.replace(said, effort=effort, budget=None, is_adaptive=False)
    extra = request.extra
    if _LOOSE in extra:  # beside a text completion, where it is nobody's member
        extra = {name: value for name, value in extra.items() if name != _LOOSE}
    return msgspec.structs.replace(request, reasoning=wanted, extra=extra)


def effort_edits(top: TopLevel, effort: Effort, profile: Profile) -> Edits:
    """Return what to change at the top of a body in the target's own format so that it asks for this effort.

    A model that cannot be told how hard to think is told nothing.

    Raises:
        InvalidRequest: a member that holds the setting beside others is no object.
    """
    if profile.reasoning is ReasoningStyle.NONE:
        return {}
    match profile.format:
        case WireFormat.OPENAI_CHAT:
            return {"reasoning_effort": _encode(nearest_effort(effort, profile.efforts))}
        case WireFormat.OPENAI_RESPONSES:
            return {"reasoning": _merged(top, "reasoning", effort=nearest_effort(effort, profile.efforts))}
        case WireFormat.ANTHROPIC_MESSAGES:
            return _messages(top, effort, profile)
        case WireFormat.GEMINI:
            member = "generation_config" if "generation_config" in top else "generationConfig"
            config = gemini_thinking(Reasoning(effort=effort), profile)
            return {} if config is None else {member: _merged(top, member, thinkingConfig=config)}
        case WireFormat.OLLAMA:
            has_levels = profile.reasoning is ReasoningStyle.EFFORT
            return {"think": _encode(nearest_effort(effort, profile.efforts or _LEVELS)) if has_levels else b"true"}
        case _:
            return {}


def _messages(top: TopLevel, effort: Effort, profile: Profile) -> Edits:
    limit = top.value("max_tokens")
    told = messages_thinking(Reasoning(effort=effort), profile, limit if isinstance(limit, int) else None)
    edits: Edits = {}
    if told.thinking is not None:
        edits["thinking"] = _encode(told.thinking)
    if told.effort is not None:
        edits["output_config"] = _merged(top, "output_config", effort=told.effort)
    if told.max_output is not None and told.max_output != limit:
        edits["max_tokens"] = _encode(told.max_output)
    if told.is_on:  # the vendor refuses them beside reasoning
        edits |= {name: None for name in ("temperature", "top_k") if name in top}
    return edits


def _merged(top: TopLevel, member: str, **changes: Any) -> bytes:
    span = top.spans.get(member)
    raw = b"null" if span is None else top.body[span[0] : span[1]]
    if raw == b"null":
        return _encode(changes)
    try:
        return _encode({**_OBJECT.decode(raw), **changes})
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"'{member}' must be an object.", param=member) from error


_encode: Final = msgspec.json.Encoder().encode
