"""The canonical request to a Chat Completions request."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import (
    CallKind,
    ChoiceMode,
    Effort,
    Output,
    Request,
    ServerToolDefinition,
    Tool,
    ToolChoice,
)
from omniroute.formats.codec import Pause
from omniroute.formats.losses import SPELLING, Losses, unsupported
from omniroute.formats.members import object_of
from omniroute.formats.openai_chat.message_renderer import Json, Translator, as_sent, put_back
from omniroute.formats.openai_chat.request_parser import has_legacy_calls, is_spelt
from omniroute.formats.profile import Profile, ReasoningStyle
from omniroute.formats.reasoning import budget_of, effort_of, is_wanted, nearest_effort
from omniroute.formats.schemas import is_strictable
from omniroute.formats.wire import WireFormat

TEXT_COMPLETION_NOTE: Final = f"{SPELLING}text_completion"
"""Marks a request that a client of `/v1/completions` made: of this vendor, but not as this format would have it."""

_MOST_STOPS: Final = 4
_OUTPUT_NAME: Final = "response"
_ILLEGAL_IN_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
_NAME_LIMIT: Final = 64
_INCLUDE_USAGE: Final = "include_usage"
_NO_CAPACITY: Final = "standard_only"
"""Messages' word for not using priority capacity."""


def render_request(request: Request, profile: Profile, losses: Losses, pause: Pause) -> bytes:
    """See :class:`omniroute.formats.codec.RequestRenderer`."""
    if request.origin is WireFormat.OPENAI_CHAT and TEXT_COMPLETION_NOTE not in request.extra:
        return msgspec.json.encode(_as_sent(request, profile, pause))
    return msgspec.json.encode(_Translation(request, profile, losses).body(pause))


# --- a request of this format, as it was ---------------------------------------------------------------------------


def _as_sent(request: Request, profile: Profile, pause: Pause) -> Json:
    body: Json = {"model": profile.model}
    messages: list[msgspec.Raw] = []
    for message in (*request.system, *request.messages):
        messages.append(msgspec.Raw(msgspec.json.encode(as_sent(message))))
        pause()
    body["messages"] = messages
    extra = request.extra
    if not is_spelt(extra, "max_tokens"):
        _put(body, "max_completion_tokens", request.max_output)
    if not is_spelt(extra, "safety_identifier"):
        _put(body, "user", request.user)
    for name, member in _COMMON.items():
        _put(body, name, getattr(request, member))
    if request.stop:
        body["stop"] = request.stop
    if not has_legacy_calls(extra):
        if request.tools:
            body["tools"] = [_tool_as_sent(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _choice(request.tool_choice)
        _put(body, "parallel_tool_calls", request.parallel_tools)
    if request.output is not None:
        body["response_format"] = _format(request.output, profile)
    if request.reasoning is not None and not any(is_spelt(extra, name) for name in _REASONING_MEMBERS):
        _put(body, "reasoning_effort", effort_of(request.reasoning))
    if request.stream:
        body["stream"] = True
    put_back(body, extra)
    if request.stream and profile.takes_usage_option and not request.include_usage:
        options = body.get("stream_options")
        sent = {} if options is None or bytes(options) == b"null" else object_of(options)
        body["stream_options"] = {**sent, _INCLUDE_USAGE: True}
    return body


_COMMON: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "logprobs": "logprobs",
    "top_logprobs": "top_logprobs",
    "n": "n",
    "metadata": "metadata",
    "service_tier": "service_tier",
    "prompt_cache_key": "cache_key",
    "store": "store",
    "verbosity": "verbosity",
    "audio": "audio_output",
}
_REASONING_MEMBERS: Final = ("reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget")


def _put(body: Json, name: str, value: object) -> None:
    if value is not None:
        body[name] = value


def _tool_as_sent(tool: Tool | ServerToolDefinition) -> Any:
    if isinstance(tool, ServerToolDefinition):
        return tool.raw
    kind = tool.kind.value
    inner: Json = {"name": tool.name}
    _put(inner, "description", tool.description)
    _put(inner, "parameters", tool.schema)
    _put(inner, "strict", tool.strict)
    _put(inner, "format", tool.format)
    written: Json = {"type": kind, kind: inner}
    _put(written, "cache_control", tool.cache)
    for name, value in tool.extra.items():
        plain = name.removeprefix(SPELLING)
        if plain == kind:
            inner.update(object_of(value))
        else:
            written[plain] = value
    return written


def _choice(choice: ToolChoice) -> Any:
    match choice.mode:
        case ChoiceMode.AUTO | ChoiceMode.REQUIRED if choice.names:
            tools = [_pointer(name, choice.kind) for name in choice.names]
            return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode.value, "tools": tools}}
        case ChoiceMode.NAMED:
            return _pointer(choice.names[0], choice.kind)
        case _:
            return choice.mode.value


def _pointer(name: str, kind: CallKind) -> Json:
    return {"type": kind.value, kind.value: {"name": name}}


def _format(output: Output, profile: Profile) -> Json:
    if output.schema is None:
        return {"type": "json_object"}
    name = _ILLEGAL_IN_NAME.sub("_", output.name or _OUTPUT_NAME)[:_NAME_LIMIT]
    inner: Json = {"name": name}
    _put(inner, "description", output.description)
    inner["schema"] = output.schema
    if profile.takes_strict and output.strict is not None:
        inner["strict"] = output.strict and is_strictable(output.schema)
    return {"type": "json_schema", "json_schema": inner}


# --- a request of any other format ---------------------------------------------------------------------------------


class _Translation:
    def __init__(self, request: Request, profile: Profile, losses: Losses) -> None:
        self._request = request
        self._profile = profile
        self._losses = losses
        self._body: Json = {}

    def body(self, pause: Pause) -> Json:
        request, profile = self._request, self._profile
        self._body = {"model": profile.model, "messages": self._messages(pause)}
        self._limits()
        self._sampling()
        self._tools()
        if request.output is not None:
            self._set("response_format", self._output(request.output), "output")
        self._reasoning()
        self._rest()
        if request.stream:
            self._body["stream"] = True
            if profile.takes_usage_option:
                self._set("stream_options", {_INCLUDE_USAGE: True}, "")
        return self._body

    def _messages(self, pause: Pause) -> list[msgspec.Raw]:
        translator = Translator(self._profile, self._losses)
        written: list[msgspec.Raw] = []
        for message in (*self._request.system, *self._request.messages):
            written += (msgspec.Raw(msgspec.json.encode(one)) for one in translator.messages_of(message))
            pause()
        return written

    def _set(self, name: str, value: object, path: str) -> None:
        """Write a member unless it was not said, or the target refuses it."""
        if value is None:
            return
        if name not in self._profile.refused:
            self._body[name] = value
        elif path:
            self._losses.drop(path)

    def _set_if(self, takes: bool, name: str, value: object, path: str) -> None:
        if value is None:
            return
        if takes:
            self._set(name, value, path)
        else:
            self._losses.drop(path)

    def _limits(self) -> None:
        request, profile = self._request, self._profile
        limit = request.max_output
        if limit is not None and profile.max_output is not None:
            limit = min(limit, profile.max_output)
        if limit is not None:
            self._body[profile.max_output_field] = limit
        most = _MOST_STOPS if profile.max_stops is None else profile.max_stops
        stops = [stop for stop in request.stop if stop]
        if len(stops[:most]) < len(request.stop):
            self._losses.drop("stop")
        self._set("stop", stops[:most] or None, "stop")
        if request.n is not None and request.n > 1:
            if "n" in profile.refused:
                raise unsupported("n", f"{profile.model} gives one answer at a time.")
            self._body["n"] = request.n

    def _sampling(self) -> None:
        request, profile = self._request, self._profile
        takes = profile.takes_sampling
        temperature = request.temperature
        if temperature is not None and profile.max_temperature is not None:
            temperature = min(temperature, profile.max_temperature)
        penalties = takes and profile.takes_penalties
        logprobs = takes and profile.takes_logprobs
        self._set_if(takes, "temperature", temperature, "temperature")
        self._set_if(takes, "top_p", request.top_p, "top_p")
        self._set_if(takes and profile.takes_top_k, "top_k", request.top_k, "top_k")
        self._set_if(profile.takes_seed, "seed", request.seed, "seed")
        self._set_if(penalties, "frequency_penalty", request.frequency_penalty, "frequency_penalty")
        self._set_if(penalties, "presence_penalty", request.presence_penalty, "presence_penalty")
        self._set_if(penalties, "logit_bias", request.logit_bias, "logit_bias")
        self._set_if(logprobs, "logprobs", bool(request.logprobs or request.top_logprobs) or None, "logprobs")
        self._set_if(logprobs, "top_logprobs", request.top_logprobs, "top_logprobs")

    def _tools(self) -> None:
        request, profile = self._request, self._profile
        tools = [written for tool in request.tools if (written := self._tool(tool)) is not None]
        if not tools:
            return
        self._body["tools"] = tools
        if request.tool_choice is not None:
            self._body["tool_choice"] = _choice(request.tool_choice)
        if profile.takes_parallel_switch:
            self._set("parallel_tool_calls", request.parallel_tools, "parallel_tools")
        elif request.parallel_tools is False:
            self._losses.drop("parallel_tools")

    def _tool(self, tool: Tool | ServerToolDefinition) -> Any:
        if isinstance(tool, ServerToolDefinition):
            if tool.origin is WireFormat.OPENAI_CHAT:
                return tool.raw
            self._losses.drop("tools.server", tool.type)
            return None
        if tool.cache is not None:
            self._losses.drop("cache")
        if tool.extra:
            self._losses.drop_all("tools.extra", tool.extra)
        inner: Json = {"name": tool.name}
        _put(inner, "description", tool.description)
        if tool.kind is CallKind.CUSTOM:
            _put(inner, "format", _grammar(tool.format))
            return {"type": "custom", "custom": inner}
        _put(inner, "parameters", tool.schema)
        if tool.strict is not None:
            if not self._profile.takes_strict:
                self._losses.drop("tools.strict")
            else:
                inner["strict"] = tool.strict and (tool.schema is None or is_strictable(tool.schema))
                if tool.strict and not inner["strict"]:
                    self._losses.drop("tools.strict")
        return {"type": "function", "function": inner}

    def _output(self, output: Output) -> Json:
        form = _format(output, self._profile)
        if output.strict and not form.get("json_schema", {}).get("strict"):
            self._losses.drop("tools.strict")
        return form

    def _reasoning(self) -> None:
        """Tell the model how hard to think; one that cannot be told is told nothing, which is no loss."""
        reasoning, profile = self._request.reasoning, self._profile
        if reasoning is None or profile.reasoning is ReasoningStyle.NONE:
            return
        self._losses.drop_all("reasoning", reasoning.extra)
        if reasoning.summary is not None:
            self._losses.drop("reasoning", "summary")
        wanted = is_wanted(reasoning)
        if wanted is None:
            return
        match profile.reasoning:
            case ReasoningStyle.SWITCH:
                self._set("thinking", {"type": "enabled" if wanted else "disabled"}, "reasoning")
            case ReasoningStyle.BUDGET:
                budget = budget_of(reasoning, profile)
                thinking = {"type": "enabled", "budget_tokens": budget} if budget else {"type": "disabled"}
                self._set("thinking", thinking, "reasoning")
            case _:
                effort = effort_of(reasoning)
                if effort is not None:
                    accepted = profile.efforts or _EFFORTS
                    self._set("reasoning_effort", nearest_effort(effort, accepted).value, "reasoning")

    def _rest(self) -> None:
        request, profile = self._request, self._profile
        if request.previous_id is not None:
            raise unsupported("previous_id", f"{profile.model} keeps no earlier responses: send the conversation.")
        self._set("user", request.user, "user")
        self._metadata()
        self._set("prompt_cache_key", request.cache_key, "cache_key")
        self._set("verbosity", request.verbosity, "verbosity")
        tier = "default" if request.service_tier == _NO_CAPACITY else request.service_tier
        self._set_if(profile.takes_service_tier, "service_tier", tier, "service_tier")
        if profile.takes_store:
            self._set("store", request.store, "store")
        elif request.store:
            self._losses.drop("store")
        if request.audio_output is not None:
            self._body["modalities"] = ["text", "audio"]
            self._body["audio"] = request.audio_output
        if request.origin is WireFormat.OPENAI_CHAT:
            self._body.update((name, value) for name, value in request.extra.items() if not name.startswith(SPELLING))
        else:
            self._losses.drop_all("extra", request.extra)

    def _metadata(self) -> None:
        """The vendor refuses metadata of an answer that is not to be stored."""
        request = self._request
        stores = bool(request.store) and self._profile.takes_store
        self._set_if(stores, "metadata", request.metadata, "metadata")


_EFFORTS: Final = tuple(effort for effort in Effort if effort is not Effort.MAX)


class _Grammar(msgspec.Struct):
    type: str = ""
    syntax: str | None = None
    definition: str | None = None
    grammar: msgspec.Raw | None = None


_GRAMMAR: Final[Callable[[msgspec.Raw], _Grammar]] = msgspec.json.Decoder(_Grammar).decode


def _grammar(written: msgspec.Raw | None) -> Any:
    """Return the format of a free-text tool with its grammar below it; Responses writes both on one level."""
    if written is None:
        return None
    try:
        found = _GRAMMAR(written)
    except msgspec.DecodeError:
        return written
    if found.grammar is not None or found.definition is None:
        return written
    return {"type": "grammar", "grammar": {"syntax": found.syntax, "definition": found.definition}}
