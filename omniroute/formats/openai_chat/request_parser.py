"""A Chat Completions request to the canonical request."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import msgspec

from omniroute.errors import InvalidRequest, MissingField
from omniroute.formats.canonical import AnyTool, Effort, Extra, Message, Output, Reasoning, Request, Role
from omniroute.formats.codec import Pause
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import (
    EMPTY_LIST,
    NULL,
    BadShape,
    Members,
    is_text,
    object_of,
    take_bool,
    take_float,
    take_int,
    take_list,
    take_object,
    take_raw,
    take_text,
    take_text_if_any,
    take_texts,
    text_of,
)
from omniroute.formats.openai_chat.message_parser import parse_message, spelt
from omniroute.formats.openai_chat.tool_parser import parse_functions, parse_tools, take_choice
from omniroute.formats.surrogates import mend
from omniroute.formats.wire import WireFormat

DYNAMIC: Final = -1
"""A budget that leaves the amount to the model."""

KNOBS: Final = frozenset(
    {"model", "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty", "logit_bias"}
    | {"n", "stop", "user", "safety_identifier", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
    | {"metadata", "service_tier", "prompt_cache_key", "store", "verbosity", "parallel_tool_calls"}
)
_KNOWN: Final = KNOBS | frozenset(
    {"logprobs", "top_logprobs", "tools", "functions", "tool_choice", "function_call", "response_format"}
    | {"reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget", "modalities", "audio"}
)
_LEADING: Final = frozenset({Role.SYSTEM, Role.DEVELOPER})


def parse_request(body: bytes, pause: Pause) -> Request:
    """See :class:`omniroute.formats.codec.RequestParser`."""
    return read_body(body, pause, _parse)


def read_body(body: bytes, pause: Pause, parse: Callable[[Members, Pause], Request]) -> Request:
    """Parse a body; one whose strings cannot be read is mended and parsed again."""
    try:
        return parse(object_of(body), pause)
    except BadShape as error:
        mended = mend(body)
        if mended is body:
            raise error.for_client() from None
    try:
        return parse(object_of(mended), pause)
    except BadShape as error:
        raise error.for_client() from None


def _parse(members: Members, pause: Pause) -> Request:
    pause()
    messages = _messages(members, pause)
    start = next((at for at, message in enumerate(messages) if message.role not in _LEADING), len(messages))
    knobs = take_knobs(members)
    logprobs, top_logprobs = take_bool(members, "logprobs"), take_int(members, "top_logprobs")
    tools = _tools(members)
    choice = take_choice(members)
    output = _output(members)
    reasoning = _reasoning(members)
    audio = _audio(members)
    if has_legacy_calls(members):
        knobs["parallel_tools"] = False  # the old form has room for one call
    return Request(
        origin=WireFormat.OPENAI_CHAT,
        messages=tuple(messages[start:]),
        system=tuple(messages[:start]),
        tools=tools,
        tool_choice=choice,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        reasoning=reasoning,
        output=output,
        audio_output=audio,
        extra=spelt(members, _KNOWN),
        **knobs,
    )


def _messages(members: Members, pause: Pause) -> list[Message]:
    items = take_list(members, "messages")
    if items is None:
        raise MissingField("messages: This field is required.", param="messages")
    if not items:
        raise InvalidRequest("messages: At least one message is needed.", param="messages")
    pause()
    messages: list[Message] = []
    for index, item in enumerate(items):
        try:
            messages.append(parse_message(item))
        except BadShape as error:
            raise error.under(f"messages.{index}") from None
        pause()
    return messages


# --- members that the format shares with its forerunner `/v1/completions` --------------------------------------------


def take_knobs(members: Members) -> dict[str, Any]:
    """Take the members that need no other knowledge than their own; by the names of canonical members."""
    stream = take_bool(members, "stream")
    if stream is False:
        members[f"{SPELLING}stream"] = msgspec.Raw(b"false")
    return {
        "model": take_text_if_any(members, "model") or "",
        "temperature": take_float(members, "temperature"),
        "top_p": take_float(members, "top_p"),
        "top_k": take_int(members, "top_k"),
        "seed": take_int(members, "seed"),
        "frequency_penalty": take_float(members, "frequency_penalty"),
        "presence_penalty": take_float(members, "presence_penalty"),
        "logit_bias": take_object(members, "logit_bias"),
        "n": _at_least(1, members, "n"),
        "stop": _stop(members),
        "user": _user(members),
        "max_output": _max_output(members),
        "metadata": take_object(members, "metadata"),
        "service_tier": take_text_if_any(members, "service_tier"),
        "cache_key": take_text_if_any(members, "prompt_cache_key"),
        "store": take_bool(members, "store"),
        "verbosity": take_text_if_any(members, "verbosity"),
        "parallel_tools": take_bool(members, "parallel_tool_calls"),
        "stream": bool(stream),
        "include_usage": _include_usage(members),
    }


def _at_least(least: int, members: Members, name: str) -> int | None:
    value = take_int(members, name)
    if value is not None and value < least:
        raise BadShape(name, f"This must be at least {least}.")
    return value


def _max_output(members: Members) -> int | None:
    """Take the output limit; the newer of its two names counts."""
    old = members.get("max_tokens")
    limit = _at_least(1, members, "max_tokens")
    if limit is not None and old is not None:
        members[f"{SPELLING}max_tokens"] = old
    newer = members.get("max_completion_tokens")
    newer_limit = _at_least(1, members, "max_completion_tokens")
    if newer_limit is None:
        return limit
    if limit is not None and newer is not None:
        members[f"{SPELLING}max_completion_tokens"] = newer
    return newer_limit


def _stop(members: Members) -> tuple[str, ...]:
    raw = members.get("stop")
    if raw is not None and is_text(raw):
        members[f"{SPELLING}stop"] = members.pop("stop")
        return (text_of(raw, "stop"),)
    return take_texts(members, "stop")


def _user(members: Members) -> str | None:
    """Take the end user's id; `safety_identifier` is the newer name of what `user` was."""
    newer = members.get("safety_identifier")
    identifier = take_text_if_any(members, "safety_identifier")
    if identifier is not None and newer is not None:
        members[f"{SPELLING}safety_identifier"] = newer
    user = members.get("user")
    name = take_text_if_any(members, "user")
    if name is not None and identifier is not None and user is not None:
        members[f"{SPELLING}user"] = user
    return name if name is not None else identifier


def _include_usage(members: Members) -> bool:
    raw = take_object(members, "stream_options")
    if raw is None:
        return False
    members[f"{SPELLING}stream_options"] = raw
    try:
        return bool(take_bool(object_of(raw), "include_usage"))
    except BadShape as error:
        raise error.under("stream_options") from None


# --- tools, output, reasoning ----------------------------------------------------------------------------------------


def _tools(members: Members) -> tuple[AnyTool, ...]:
    raw = members.get("functions")
    functions = take_list(members, "functions")
    items = take_list(members, "tools")
    if items is not None and not items:
        members["tools"] = EMPTY_LIST
    if not functions or raw is None:
        if functions is not None:
            members["functions"] = EMPTY_LIST
        return parse_tools(items or [])
    if items:
        raise BadShape("functions", "Use either tools or functions.")
    members[f"{SPELLING}functions"] = raw
    return parse_functions(functions)


def _output(members: Members) -> Output | None:
    raw = take_object(members, "response_format")
    if raw is None:
        return None
    members[f"{SPELLING}response_format"] = raw
    try:
        return _format(object_of(raw))
    except BadShape as error:
        raise error.under("response_format") from None


def _format(members: Members) -> Output | None:
    kind = take_text(members, "type")
    match kind:
        case "text":
            return None
        case "json_object":
            return Output()
        case "json_schema":
            inner_raw = members.get("json_schema")
            if inner_raw is None:
                raise BadShape("json_schema", "This field is required.", is_missing=True)
            try:
                inner = object_of(inner_raw)
                return Output(
                    schema=take_object(inner, "schema"),
                    name=take_text_if_any(inner, "name"),
                    description=take_text_if_any(inner, "description"),
                    strict=take_bool(inner, "strict"),
                )
            except BadShape as error:
                raise error.under("json_schema") from None
        case _:
            raise BadShape("type", "The format must be text, json_object or json_schema.")


def _audio(members: Members) -> msgspec.Raw | None:
    """Take the wish for spoken output: the object counts only if the modality is asked for."""
    raw = members.get("modalities")
    modalities = take_texts(members, "modalities")
    if raw is not None and modalities:
        # Anything beside text and audio is a host's own and must not go unnoticed.
        note = SPELLING if set(modalities) <= {"text", "audio"} else ""
        members[f"{note}modalities"] = raw
    audio = take_object(members, "audio")
    if audio is not None and "audio" not in modalities:
        members[f"{SPELLING}audio"] = audio
        return None
    return audio


def _reasoning(members: Members) -> Reasoning | None:
    """Take all that the format and its hosts say about reasoning."""
    raw = members.get("reasoning_effort")
    effort = _effort(members, "reasoning_effort")
    said = None
    if effort is not None and raw is not None:
        members[f"{SPELLING}reasoning_effort"] = raw
        said = Reasoning(effort)
    for name, read in _SAYINGS.items():
        raw = take_raw(members, name)
        if raw is None:
            continue
        members[SPELLING + name] = raw
        try:
            more = read(raw)
        except BadShape as error:
            raise error.under(name) from None
        said = more if said is None else _joined(said, more)
    return said


def _effort(members: Members, name: str) -> Effort | None:
    word = take_text_if_any(members, name)
    if word is None:
        return None
    try:
        return Effort(word)
    except ValueError:
        raise BadShape(name, f"The effort must be one of {', '.join(Effort)}.") from None


def _joined(first: Reasoning, second: Reasoning) -> Reasoning:
    """Return what both say; the first has the word where they differ."""
    return Reasoning(
        effort=first.effort or second.effort,
        budget=second.budget if first.budget in (None, DYNAMIC) and second.budget is not None else first.budget,
        is_adaptive=first.is_adaptive or second.is_adaptive,
        is_visible=second.is_visible if first.is_visible is None else first.is_visible,
        summary=first.summary or second.summary,
    )


def _read_object(raw: msgspec.Raw) -> Reasoning:
    """Read `reasoning`, as routers of models write it."""
    members = object_of(raw)
    budget = take_int(members, "max_tokens")
    is_enabled = take_bool(members, "enabled")
    effort = _effort(members, "effort")
    is_hidden = take_bool(members, "exclude")
    if budget is None and effort is None and is_enabled is not None:
        budget = DYNAMIC if is_enabled else 0
    is_visible = None if is_hidden is None else not is_hidden
    return Reasoning(effort, budget, is_visible=is_visible, summary=take_text_if_any(members, "summary"))


def _read_thinking(raw: msgspec.Raw) -> Reasoning:
    """Read `thinking`, as Messages writes it and hosts of switchable models took it over."""
    members = object_of(raw)
    kind = take_text(members, "type")
    match kind:
        case "enabled" | "auto":
            budget = take_int(members, "budget_tokens")
            return Reasoning(budget=DYNAMIC if budget is None else budget)
        case "adaptive":
            return Reasoning(is_adaptive=True)
        case "disabled":
            return Reasoning(budget=0)
        case _:
            raise BadShape("type", "The type must be enabled, adaptive, auto or disabled.")


def _read_switch(raw: msgspec.Raw) -> Reasoning:
    is_on = take_bool({"": raw}, "")
    return Reasoning(budget=DYNAMIC if is_on else 0)


def _read_budget(raw: msgspec.Raw) -> Reasoning:
    return Reasoning(budget=take_int({"": raw}, ""))


_SAYINGS: Final[dict[str, Callable[[msgspec.Raw], Reasoning]]] = {
    "reasoning": _read_object,
    "thinking": _read_thinking,
    "enable_thinking": _read_switch,
    "thinking_budget": _read_budget,
}


LEGACY_CALLS: Final[Extra] = MappingProxyType({f"{SPELLING}functions": msgspec.Raw(b"true")})
"""Says that a client spoke of `functions`, and nothing else."""


def has_legacy_calls(extra: Extra) -> bool:
    """Say whether a client of this format spoke of `functions`, so that its answers must too."""
    return is_spelt(extra, "functions")


def is_spelt(extra: Extra, name: str) -> bool:
    """Say whether the member of this name was said, and is kept as it was spelt."""
    raw = extra.get(SPELLING + name)
    return raw is not None and raw not in (NULL, EMPTY_LIST)
