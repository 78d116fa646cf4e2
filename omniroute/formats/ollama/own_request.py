"""A canonical request that came in this format, back in this format: JSON-equal but for the model.

That holds for `/api/chat`. What came to `/api/generate` becomes the chat that it is read as.
"""

from __future__ import annotations

from typing import Any

import msgspec

from omniroute.formats.arguments import object_for
from omniroute.formats.canonical import (
    AnyTool,
    Effort,
    Extra,
    Media,
    Message,
    Reasoning,
    Request,
    Role,
    ServerToolDefinition,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from omniroute.formats.codec import Pause
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import Members, as_spelt, object_of
from omniroute.formats.ollama.request_parser import FUNCTION, MADE_ID, OPTION, UNSAID_STREAM


def render_own_request(request: Request, model: str, pause: Pause) -> bytes:
    """Return the body for the model."""
    options: dict[str, Any] = _said(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        num_predict=request.max_output,
        stop=request.stop or None,
    )
    top: dict[str, msgspec.Raw] = {}
    for name, raw in request.extra.items():
        plain = name.removeprefix(SPELLING)
        if plain.startswith(OPTION):
            options[plain.removeprefix(OPTION)] = raw
        else:
            top[name] = raw
    body = _said(
        model=model,
        messages=[_message(message, pause) for message in (*request.system, *request.messages)],
        tools=[_tool(tool) for tool in request.tools] or None,
        format=_format(request),
        think=None if request.reasoning is None else _think(request.reasoning),
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        options=options or None,
        stream=request.stream,
    )
    body.update(as_spelt(top))
    if not request.stream:
        body["stream"] = False  # the gateway may want the answer at once
    elif UNSAID_STREAM in top:
        del body["stream"]
    return msgspec.json.encode(body)


def _said(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _format(request: Request) -> msgspec.Raw | str | None:
    if request.output is None:
        return None
    return "json" if request.output.schema is None else request.output.schema


def _think(reasoning: Reasoning) -> bool | str:
    if reasoning.effort is None:
        return True
    return False if reasoning.effort is Effort.NONE else reasoning.effort.value


# --- messages --------------------------------------------------------------------------------------------------------


def _message(message: Message, pause: Pause) -> msgspec.Raw:
    if message.role is Role.TOOL:
        members = _result(message)
    else:
        members = {"role": "system" if message.role is Role.DEVELOPER else message.role.value}
        thinking = [block.text for block in message.blocks if isinstance(block, Thinking)]
        if thinking:
            members["thinking"] = "".join(thinking)
        members.update(_content(message.blocks))
        calls = [_call(block) for block in message.blocks if isinstance(block, ToolCall)]
        if calls:
            members["tool_calls"] = calls
    members.update(as_spelt(message.extra))
    pause()
    return msgspec.Raw(msgspec.json.encode(members))


def _content(blocks: tuple[Any, ...]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    texts = [block.text for block in blocks if isinstance(block, Text)]
    if texts:
        members["content"] = "\n\n".join(texts)
    images = [block.data for block in blocks if isinstance(block, Media)]
    if images:
        members["images"] = images
    return members


def _call(call: ToolCall) -> dict[str, Any]:
    function: dict[str, Any] = {"name": call.name, **_inner(call.extra)}
    if call.arguments:
        function["arguments"] = object_for(call)
    members: dict[str, Any] = {"function": function}
    if MADE_ID not in call.extra:
        members["id"] = call.id
    members.update(as_spelt(call.extra))
    return members


def _result(message: Message) -> dict[str, Any]:
    members: dict[str, Any] = {"role": "tool"}
    for block in message.blocks:
        if isinstance(block, ToolResult):
            members.update(_content(block.blocks))
            if block.name is not None and SPELLING + "tool_name" not in block.extra:
                members["tool_name"] = block.name
            if MADE_ID not in block.extra:
                members["tool_call_id"] = block.call_id
    return members


# --- tools -----------------------------------------------------------------------------------------------------------


def _tool(tool: AnyTool) -> dict[str, Any] | msgspec.Raw:
    match tool:
        case ServerToolDefinition(raw=raw):
            return raw
        case Tool():
            function = _said(name=tool.name, description=tool.description, parameters=tool.schema, strict=tool.strict)
            return {"function": function | _inner(tool.extra), **as_spelt(tool.extra)}


def _inner(extra: Extra) -> Members:
    """Return what the inner object of a call or tool says beside what is known."""
    noted = extra.get(FUNCTION)
    return {} if noted is None else as_spelt(object_of(noted))
