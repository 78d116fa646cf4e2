"""A canonical request as a body for a provider of Responses."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import Message, Output, Reasoning, Request, Text
from omniroute.formats.codec import Pause, encoded_in_turn
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.openai_responses.input_renderer import render_items
from omniroute.formats.openai_responses.input_writer import write_items
from omniroute.formats.openai_responses.members import lost, note_of, put_back
from omniroute.formats.openai_responses.request_parser import LOGPROBS, SEALED_REASONING
from omniroute.formats.openai_responses.tools import render_choice, render_tools, write_choice, write_tools
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.reasoning import effort_of, is_wanted, nearest_effort
from omniroute.formats.schemas import is_strictable
from omniroute.formats.wire import WireFormat

_LEAST_OUTPUT: Final = 16
_MOST_TOP_LOGPROBS: Final = 20
_LONGEST_NAME: Final = 64
_PLACED: Final = msgspec.json.Decoder(list[tuple[int, msgspec.Raw]])
_TIERS: Final = {"standard_only": "default"}
_SCHEMA_NAME: Final = "response"


def render_request(request: Request, profile: Profile, losses: Losses, pause: Pause) -> bytes:
    """Render a body; see :class:`omniroute.formats.codec.RequestRenderer`."""
    if request.origin is WireFormat.OPENAI_RESPONSES:
        return msgspec.json.encode(_write(request, profile, pause))
    return msgspec.json.encode(_render(request, profile, losses, pause))


# --- a request of this very format: everything as it came ----------------------------------------------------------


def _write(request: Request, profile: Profile, pause: Pause) -> dict[str, Any]:
    body: dict[str, Any] = {"model": profile.model}
    if request.system:
        body["instructions"] = _text_of(request.system[0])
    body["input"] = _write_input(request, pause)
    tools = write_tools(request.tools)
    if tools:
        body["tools"] = tools
    if request.tool_choice is not None:
        body["tool_choice"] = write_choice(request.tool_choice)
    said = (
        ("parallel_tool_calls", request.parallel_tools),
        ("max_output_tokens", request.max_output),
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        ("top_logprobs", request.top_logprobs),
        ("metadata", request.metadata),
        ("prompt_cache_key", request.cache_key),
        ("service_tier", request.service_tier),
        ("store", request.store),
        ("previous_response_id", request.previous_id),
    )
    body.update((name, value) for name, value in said if value is not None)
    if request.user is not None and "=user" not in request.extra:
        body["safety_identifier"] = request.user
    if request.reasoning is not None:
        body["reasoning"] = _write_reasoning(request.reasoning)
    text = _write_text(request)
    if text:
        body["text"] = text
    put_back(body, request.extra)
    if request.stream:
        body["stream"] = True
    if body["input"] is None:
        del body["input"]
    return body


def _write_input(request: Request, pause: Pause) -> Any:
    messages = request.messages
    if note_of(request.extra, "no_input") is not None and not messages:
        return None
    if len(messages) == 1 and note_of(messages[0].extra, "input") is not None:
        return _text_of(messages[0])
    items = write_items(messages, pause)
    placed = note_of(request.extra, "items")
    if placed is not None:
        for index, raw in _PLACED.decode(placed):
            items.insert(index, raw)
    return items


def _text_of(message: Message) -> str:
    return "\n\n".join(block.text for block in message.blocks if isinstance(block, Text))


def _write_reasoning(reasoning: Reasoning) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if reasoning.effort is not None:
        written["effort"] = reasoning.effort.value
    if reasoning.summary is not None:
        written["summary"] = reasoning.summary
    return put_back(written, reasoning.extra)


def _write_text(request: Request) -> dict[str, Any]:
    text: dict[str, Any] = {}
    if request.output is not None:
        text["format"] = put_back(_format(request.output), request.output.extra)
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    return text


def _format(output: Output) -> dict[str, Any]:
    if output.schema is None:
        return {"type": "json_object"}
    written: dict[str, Any] = {"type": "json_schema", "schema": output.schema}
    if output.name is not None:
        written["name"] = output.name
    if output.description is not None:
        written["description"] = output.description
    if output.strict is not None:
        written["strict"] = output.strict
    return written


# --- a request of another format ------------------------------------------------------------------------------------


def _render(request: Request, profile: Profile, losses: Losses, pause: Pause) -> dict[str, Any]:
    _refuse(request)
    body: dict[str, Any] = {"model": profile.model}
    if request.system:
        body["instructions"] = _instructions(request.system[0], losses)
    items = render_items((*request.system[1:], *request.messages), profile, losses, pause)
    body["input"] = encoded_in_turn(items, pause)
    _render_tools(request, profile, losses, body)
    _render_sampling(request, profile, losses, body)
    include = _render_reasoning(request, profile, losses, body)
    include += _render_logprobs(request, profile, losses, body)
    if include:
        body["include"] = include
    text = _render_text(request, losses)
    if text:
        body["text"] = text
    _render_rest(request, profile, losses, body)
    if request.stream:
        body["stream"] = True
    return body


def _refuse(request: Request) -> None:
    if request.n is not None and request.n > 1:
        raise unsupported("n", "The target gives one answer per request.")
    if request.audio_output is not None:
        raise unsupported("audio", "The target does not answer with audio.")
    if request.previous_id is not None:
        raise unsupported("previous_response_id", "The target does not know this stored response.")


def _instructions(message: Message, losses: Losses) -> str:
    for block in message.blocks:
        if isinstance(block, Text) and block.cache is not None:
            losses.drop("cache")
            break
    if message.name is not None:
        losses.drop("message.name")
    return _text_of(message)


def _render_tools(request: Request, profile: Profile, losses: Losses, body: dict[str, Any]) -> None:
    tools = render_tools(request.tools, profile, losses)
    if not tools:
        return  # neither a choice nor a switch means anything without tools
    body["tools"] = tools
    if request.tool_choice is not None:
        body["tool_choice"] = render_choice(request.tool_choice, request.tools)
    if request.parallel_tools is not None:
        if profile.takes_parallel_switch:
            body["parallel_tool_calls"] = request.parallel_tools
        elif not request.parallel_tools:
            losses.drop("parallel_tools")


def _render_sampling(request: Request, profile: Profile, losses: Losses, body: dict[str, Any]) -> None:
    if request.max_output is not None:
        most = request.max_output if profile.max_output is None else min(request.max_output, profile.max_output)
        body["max_output_tokens"] = max(most, _LEAST_OUTPUT)
    for name, value in (("temperature", request.temperature), ("top_p", request.top_p)):
        if value is None:
            continue
        if not profile.takes_sampling:
            losses.drop(name)
        elif name == "temperature" and profile.max_temperature is not None:
            body[name] = min(value, profile.max_temperature)
        else:
            body[name] = value
    for name in ("top_k", "seed", "frequency_penalty", "presence_penalty", "logit_bias"):
        if getattr(request, name) is not None:
            losses.drop(name)
    if request.stop:
        losses.drop("stop")


def _render_reasoning(request: Request, profile: Profile, losses: Losses, body: dict[str, Any]) -> list[str]:
    """Write how hard to think; return what must be included for the reasoning to survive without a store."""
    if profile.reasoning is not ReasoningStyle.EFFORT:
        return []
    reasoning = request.reasoning
    if reasoning is not None:
        losses.drop_all("reasoning", lost(reasoning.extra))
        written: dict[str, Any] = {}
        effort = effort_of(reasoning)
        if effort is not None:
            written["effort"] = nearest_effort(effort, profile.efforts).value
        if reasoning.is_visible is not False and is_wanted(reasoning) is not False:
            # Messages and Gemini show reasoning to whoever switches it on; an effort alone does not ask for that.
            is_shown = reasoning.is_visible or reasoning.is_adaptive or reasoning.budget is not None
            summary = reasoning.summary or ("auto" if is_shown else None)
            if summary is not None:
                written["summary"] = summary
        if written:
            body["reasoning"] = written
    return [SEALED_REASONING]


def _render_logprobs(request: Request, profile: Profile, losses: Losses, body: dict[str, Any]) -> list[str]:
    if not request.logprobs and not request.top_logprobs:
        return []
    if not profile.takes_logprobs:
        for name, value in (("logprobs", request.logprobs), ("top_logprobs", request.top_logprobs)):
            if value:
                losses.drop(name)
        return []
    if request.top_logprobs is not None:
        body["top_logprobs"] = min(request.top_logprobs, _MOST_TOP_LOGPROBS)
    return [LOGPROBS]


def _render_text(request: Request, losses: Losses) -> dict[str, Any]:
    text: dict[str, Any] = {}
    output = request.output
    if output is not None:
        losses.drop_all("extra", lost(output.extra))
        form = _format(output)
        if output.schema is not None:
            form.setdefault("name", _SCHEMA_NAME)
            if output.strict and not is_strictable(output.schema):
                losses.drop("tools.strict")
                form["strict"] = False
        text["format"] = form
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    return text


def _render_rest(request: Request, profile: Profile, losses: Losses, body: dict[str, Any]) -> None:
    said = (
        ("metadata", request.metadata),
        ("prompt_cache_key", _short(request.cache_key)),
        ("safety_identifier", _short(request.user)),
    )
    body.update((name, value) for name, value in said if value is not None)
    if request.service_tier is not None:
        if profile.takes_service_tier:
            body["service_tier"] = _TIERS.get(request.service_tier, request.service_tier)
        else:
            losses.drop("service_tier")
    if profile.takes_store:
        # The vendor keeps answers unless told not to, and nobody but this format's own callers asks for that.
        body["store"] = bool(request.store)
    elif request.store:
        losses.drop("store")
    losses.drop_all("extra", lost(request.extra))


def _short(name: str | None) -> str | None:
    """Return a name as the vendor takes it: a longer one, as some clients make them, becomes its digest."""
    if name is None or len(name) <= _LONGEST_NAME:
        return name
    return hashlib.sha256(name.encode()).hexdigest()
