"""How hard a model shall think where somebody else than the body says so: its name, or the operator.

`gpt-5-high` is `gpt-5`, asked to think hard. The name is split before anything is looked up for it; the effort then
takes the place of what the body says.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.errors import InvalidRequest
from omniroute.formats.canonical import Effort, Reasoning, Request
from omniroute.formats.losses import SPELLING
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.reasoning import (
    budget_of,
    effort_of,
    gemini_thinking,
    is_wanted,
    messages_thinking,
    nearest_effort,
)
from omniroute.formats.splice import TopLevel
from omniroute.formats.wire import WireFormat

_SUFFIXES: Final = {f"-{effort.value}": effort for effort in Effort if effort is not Effort.NONE}
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LEVELS: Final = (Effort.LOW, Effort.MEDIUM, Effort.HIGH)
_LOOSE: Final = "reasoning_effort"
_CHAT_MEMBERS: Final = ("reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget")
"""Where hosts of the format look."""

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


def with_reasoning(request: Request, wanted: Reasoning | None) -> Request:
    """Return a request that asks for this in place of what it says of reasoning; None asks for nothing."""
    names = (*_CHAT_MEMBERS, *(SPELLING + name for name in _CHAT_MEMBERS))
    extra = request.extra
    if any(name in extra for name in names):
        extra = {name: value for name, value in extra.items() if name not in names}
    said = request.reasoning
    if wanted is not None and said is not None:
        wanted = msgspec.structs.replace(wanted, is_visible=said.is_visible, summary=said.summary)
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
        case _:
            return _edits(top, Reasoning(effort=effort), effort, profile)


def reasoning_edits(top: TopLevel, wanted: Reasoning | None, profile: Profile) -> Edits:
    """Return what to change at the top of a body in the target's own format so that it asks for this, and no more.

    None takes out whatever the body says of reasoning, so that the model decides.

    Raises:
        InvalidRequest: a member that holds the setting beside others is no object.
    """
    if wanted is None:
        return _without(top, profile)
    effort = effort_of(wanted)
    if profile.reasoning is ReasoningStyle.NONE or effort is None:
        return {}
    if profile.format is not WireFormat.OPENAI_CHAT:
        return _edits(top, wanted, effort, profile)
    edits: Edits = {name: None for name in _CHAT_MEMBERS if name in top}
    match profile.reasoning:
        case ReasoningStyle.SWITCH:
            edits["thinking"] = _encode({"type": "enabled" if is_wanted(wanted) else "disabled"})
        case ReasoningStyle.BUDGET:
            budget = budget_of(wanted, profile)
            told = {"type": "enabled", "budget_tokens": budget} if budget else {"type": "disabled"}
            edits["thinking"] = _encode(told)
        case _:
            edits["reasoning_effort"] = _encode(nearest_effort(effort, profile.efforts or _LEVELS))
    return edits


def _edits(top: TopLevel, wanted: Reasoning, effort: Effort, profile: Profile) -> Edits:
    match profile.format:
        case WireFormat.OPENAI_RESPONSES:
            return {"reasoning": _merged(top, "reasoning", effort=nearest_effort(effort, profile.efforts))}
        case WireFormat.ANTHROPIC_MESSAGES:
            return _messages(top, wanted, profile)
        case WireFormat.GEMINI:
            member = "generation_config" if "generation_config" in top else "generationConfig"
            config = gemini_thinking(wanted, profile)
            return {} if config is None else {member: _merged(top, member, thinkingConfig=config)}
        case WireFormat.OLLAMA:
            has_levels = profile.reasoning is ReasoningStyle.EFFORT
            word = nearest_effort(effort, profile.efforts or _LEVELS) if has_levels else None
            return {"think": _encode(word) if word else _encode(effort is not Effort.NONE)}
        case _:
            return {}


def _without(top: TopLevel, profile: Profile) -> Edits:
    match profile.format:
        case WireFormat.OPENAI_CHAT:
            return {name: None for name in _CHAT_MEMBERS if name in top}
        case WireFormat.OPENAI_RESPONSES:
            return _left(top, "reasoning", "effort")
        case WireFormat.ANTHROPIC_MESSAGES:
            return {"thinking": None, **_left(top, "output_config", "effort")}
        case WireFormat.GEMINI:
            member = "generation_config" if "generation_config" in top else "generationConfig"
            return _left(top, member, "thinkingConfig", "thinking_config")
        case WireFormat.OLLAMA:
            return {"think": None}
        case _:
            return {}


def _left(top: TopLevel, member: str, *names: str) -> Edits:
    """Return the edit that takes members out of an object; of one that holds no others, the whole."""
    held = top.value(member)
    if not isinstance(held, dict) or not any(name in held for name in names):
        return {}
    span = top.spans[member]
    kept = {name: raw for name, raw in _OBJECT.decode(top.body[span[0] : span[1]]).items() if name not in names}
    return {member: _encode(kept) if kept else None}


def _messages(top: TopLevel, wanted: Reasoning, profile: Profile) -> Edits:
    limit = top.value("max_tokens")
    told = messages_thinking(wanted, profile, limit if isinstance(limit, int) else None)
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
