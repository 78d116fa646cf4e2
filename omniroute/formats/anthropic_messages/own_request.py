"""A canonical request that came in this format, back in this format: JSON-equal but for the model.

Only what the gateway itself did to it may differ: opaque tokens that were not this target's are gone, and where that
takes away the reasoning that a tool loop has to begin with, thinking is switched off for the call.
"""

from __future__ import annotations

from typing import Any

import msgspec

from omniroute.formats.anthropic_messages.content_renderer import render_own
from omniroute.formats.canonical import (
    AnyTool,
    ChoiceMode,
    Message,
    Reasoning,
    Request,
    Role,
    ServerToolDefinition,
    Text,
    Tool,
    ToolChoice,
)
from omniroute.formats.codec import Pause
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import as_spelt

_ROLES = {
    Role.USER: "user",
    Role.TOOL: "user",
    Role.ASSISTANT: "assistant",
    Role.SYSTEM: "system",
    Role.DEVELOPER: "system",
}


def render_own_request(request: Request, model: str, pause: Pause, *, may_think: bool) -> bytes:
    """Return the body.

    Args:
        request: one whose origin is this format.
        model: the model to ask for.
        pause: called between messages.
        may_think: False switches manual thinking off.
    """
    body: dict[str, Any] = {"model": model}
    put = body.__setitem__
    if request.max_output is not None:
        put("max_tokens", request.max_output)
    if request.system:
        put("system", _content(request.system))
    put("messages", _messages(request.messages, pause))
    if request.tools:
        put("tools", [_tool(tool) for tool in request.tools])
    if request.tool_choice is not None:
        put("tool_choice", _tool_choice(request.tool_choice, request.parallel_tools))
    _put_reasoning(body, request, may_think=may_think)
    for name, value in (
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        ("top_k", request.top_k),
        ("stop_sequences", request.stop or None),
        ("service_tier", "standard_only" if request.service_tier == "default" else request.service_tier),
        ("stream", request.stream or None),
    ):
        if value is not None:
            put(name, value)
    if request.user is not None:
        put("metadata", {"user_id": request.user})
    spelt = as_spelt(request.extra)
    if request.stream:
        spelt.pop("stream", None)  # the gateway may ask for a stream where the client did not
    body.update(spelt)
    return msgspec.json.encode(body)


def _messages(messages: tuple[Message, ...], pause: Pause) -> list[msgspec.Raw]:
    turns: list[list[Message]] = []
    for message in messages:
        if message.is_continued and turns:
            turns[-1].append(message)
        else:
            turns.append([message])
    rendered = []
    for turn in turns:
        members = {"role": _ROLES[turn[0].role], "content": _content(turn), **as_spelt(turn[0].extra)}
        rendered.append(msgspec.Raw(msgspec.json.encode(members)))
        pause()
    return rendered


def _content(messages: tuple[Message, ...] | list[Message]) -> str | list[Any]:
    first = messages[0]
    if first.plain and len(messages) == 1 and len(first.blocks) == 1 and isinstance(first.blocks[0], Text):
        return first.blocks[0].text
    return [one for message in messages for block in message.blocks if (one := render_own(block)) is not None]


def _tool(tool: AnyTool) -> dict[str, Any] | msgspec.Raw:
    match tool:
        case ServerToolDefinition(raw=raw):
            return raw
        case Tool():
            members = {
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.schema,
                "strict": tool.strict,
                "cache_control": tool.cache,
            }
            said = {name: value for name, value in members.items() if value is not None}
            return said | as_spelt(tool.extra)


TYPES = {
    ChoiceMode.AUTO: "auto",
    ChoiceMode.NONE: "none",
    ChoiceMode.REQUIRED: "any",
    ChoiceMode.NAMED: "tool",
}


def _tool_choice(choice: ToolChoice, parallel_tools: bool | None) -> dict[str, Any]:
    members: dict[str, Any] = {"type": TYPES[choice.mode]}
    if choice.mode is ChoiceMode.NAMED:
        members["name"] = choice.names[0]
    if parallel_tools is not None:
        members["disable_parallel_tool_use"] = not parallel_tools
    members.update(as_spelt(choice.extra))
    return members


def _put_reasoning(body: dict[str, Any], request: Request, *, may_think: bool) -> None:
    reasoning, output = request.reasoning, request.output
    if reasoning is not None:
        thinking = _thinking(reasoning)
        if thinking:
            body["thinking"] = thinking if may_think else {"type": "disabled"}
    config: dict[str, Any] = {}
    if reasoning is not None and reasoning.effort is not None:
        config["effort"] = reasoning.effort.value
    if output is not None and SPELLING + "output_format" not in request.extra:
        config["format"] = {"type": "json_schema", "schema": output.schema, **as_spelt(output.extra)}
    if config:
        body["output_config"] = config


def _thinking(reasoning: Reasoning) -> dict[str, Any]:
    if reasoning.is_adaptive:
        thinking: dict[str, Any] = {"type": "adaptive"}
    elif reasoning.budget is not None:
        is_on = reasoning.budget > 0
        thinking = {"type": "enabled", "budget_tokens": reasoning.budget} if is_on else {"type": "disabled"}
    else:
        thinking = {}
    if reasoning.is_visible is not None:
        thinking["display"] = "summarized" if reasoning.is_visible else "omitted"
    thinking.update(as_spelt(reasoning.extra))
    return thinking
