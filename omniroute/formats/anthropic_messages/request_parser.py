"""A Messages request to the canonical one; the inverse for the same format is `own_request.py`."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.anthropic_messages.content_parser import parse_content
from omniroute.formats.canonical import (
    NO_EXTRA,
    AnyTool,
    Block,
    ChoiceMode,
    Effort,
    Extra,
    Message,
    Output,
    Reasoning,
    Request,
    Role,
    ServerToolDefinition,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from omniroute.formats.codec import Pause
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import (
    EMPTY_LIST,
    NULL,
    BadShape,
    Members,
    keep_spelling,
    list_of,
    missing,
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
)
from omniroute.formats.surrogates import mend
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.ANTHROPIC_MESSAGES


def parse_request(body: bytes, pause: Pause) -> Request:
    """See :class:`omniroute.formats.codec.RequestParser`.

    `max_tokens` may be missing, since the bodies of `count_tokens` have none.
    """
    try:
        text = mend(body)
        pause()
        return _parse(object_of(text), pause)
    except BadShape as error:
        raise error.for_client() from None


def _parse(members: Members, pause: Pause) -> Request:
    pause()
    model = take_text(members, "model")
    messages = _messages(members, pause)
    choice, parallel = _tool_choice(members)
    reasoning, output = _thinking_and_output(members)
    max_output = take_int(members, "max_tokens")
    if max_output is not None and max_output < 0:
        raise BadShape("max_tokens", "This must not be negative.")
    return Request(
        _ORIGIN,
        model,
        messages,
        system=_system(members),
        tools=_tools(members, pause),
        tool_choice=choice,
        parallel_tools=parallel,
        max_output=max_output,
        temperature=take_float(members, "temperature"),
        top_p=take_float(members, "top_p"),
        top_k=take_int(members, "top_k"),
        stop=take_texts(members, "stop_sequences"),
        reasoning=reasoning,
        output=output,
        user=_user(members),
        service_tier=_service_tier(members),
        stream=_stream(members),
        extra=members or NO_EXTRA,  # evaluated last: what is left
    )


# --- system and messages ---------------------------------------------------------------------------------------------


def _system(members: Members) -> tuple[Message, ...]:
    raw = take_raw(members, "system")
    if raw is None:
        return ()
    blocks, is_plain = parse_content(raw, "system")
    _only_text(blocks, "system")
    return (Message(Role.SYSTEM, blocks, plain=is_plain),)


def _messages(members: Members, pause: Pause) -> tuple[Message, ...]:
    raw = members.pop("messages", None)
    if raw is None:
        missing("messages")
    items = list_of(raw, "messages")
    pause()
    if not items:
        raise BadShape("messages", "At least one message is required.")
    messages: list[Message] = []
    for index, item in enumerate(items):
        try:
            _add_message(messages, item)
        except BadShape as error:
            raise error.under(f"messages.{index}") from None
        pause()
    return tuple(messages)


def _add_message(messages: list[Message], raw: msgspec.Raw) -> None:
    members = object_of(raw)
    role = take_text(members, "role")
    blocks, is_plain = parse_content(members.pop("content", None))
    extra = members or NO_EXTRA
    match role:
        case "assistant":
            _refuse(blocks, ToolResult, "assistant")
            messages.append(Message(Role.ASSISTANT, blocks, plain=is_plain, extra=extra))
        case "user":
            _refuse(blocks, ToolCall | Thinking, "user")
            messages.extend(_user_messages(blocks, is_plain=is_plain, extra=extra))
        case "system":
            _only_text(blocks, "content")
            messages.append(Message(Role.SYSTEM, blocks, plain=is_plain, extra=extra))
        case _:
            raise BadShape("role", "This must be 'user', 'assistant' or 'system'.")


def _user_messages(blocks: tuple[Block, ...], *, is_plain: bool, extra: Extra) -> list[Message]:
    """Split a user turn where results and other content meet: canonical results have messages of their own."""
    runs: list[list[Block]] = []
    for block in blocks:
        if runs and isinstance(runs[-1][-1], ToolResult) == isinstance(block, ToolResult):
            runs[-1].append(block)
        else:
            runs.append([block])
    if not runs:
        return [Message(Role.USER, (), plain=is_plain, extra=extra)]
    return [
        Message(
            Role.TOOL if isinstance(run[0], ToolResult) else Role.USER,
            tuple(run),
            plain=is_plain,
            is_continued=number > 0,
            extra=NO_EXTRA if number else extra,
        )
        for number, run in enumerate(runs)
    ]


def _only_text(blocks: tuple[Block, ...], path: str) -> None:
    for index, block in enumerate(blocks):
        if not isinstance(block, Text):
            raise BadShape(f"{path}.{index}.type", "Only text may stand here.")


def _refuse(blocks: tuple[Block, ...], kinds: type[Block] | object, role: str) -> None:
    for index, block in enumerate(blocks):
        if isinstance(block, kinds):  # type: ignore[arg-type]  # a class or a union of some
            raise BadShape(f"content.{index}.type", f"A block of this type cannot stand in a turn of the {role}.")


# --- tools -----------------------------------------------------------------------------------------------------------


def _tools(members: Members, pause: Pause) -> tuple[AnyTool, ...]:
    if members.get("tools") == EMPTY_LIST:
        keep_spelling(members, "tools")
        return ()
    tools: list[AnyTool] = []
    for index, raw in enumerate(take_list(members, "tools") or ()):
        try:
            tools.append(_tool(raw))
        except BadShape as error:
            raise error.under(f"tools.{index}") from None
    pause()
    return tuple(tools)


def _tool(raw: msgspec.Raw) -> AnyTool:
    members = object_of(raw)
    kind = take_text_if_any(members, "type")
    if kind is not None and kind != "custom":
        return ServerToolDefinition(_ORIGIN, kind, raw, take_text_if_any(members, "name"))
    if kind is not None:
        members[SPELLING + "type"] = _CUSTOM
    return Tool(
        take_text(members, "name"),
        description=take_text_if_any(members, "description"),
        schema=take_object(members, "input_schema"),
        strict=take_bool(members, "strict"),
        cache=take_raw(members, "cache_control"),
        extra=members or NO_EXTRA,
    )


_CUSTOM: Final = msgspec.Raw(b'"custom"')


def _tool_choice(members: Members) -> tuple[ToolChoice | None, bool | None]:
    """Return the choice, and whether several calls at once are allowed, which is said inside it."""
    raw = take_raw(members, "tool_choice")
    if raw is None:
        return None, None
    choice = object_of(raw, "tool_choice")
    try:
        kind = take_text(choice, "type")
        is_single = take_bool(choice, "disable_parallel_tool_use")
        mode = _mode(kind)
        names = (take_text(choice, "name"),) if mode is ChoiceMode.NAMED else ()
    except BadShape as error:
        raise error.under("tool_choice") from None
    return ToolChoice(mode, names, extra=choice or NO_EXTRA), None if is_single is None else not is_single


def _mode(kind: str) -> ChoiceMode:
    mode = _MODES.get(kind)
    if mode is None:
        raise BadShape("type", "This must be 'auto', 'any', 'tool' or 'none'.")
    return mode


_MODES: Final = {
    "auto": ChoiceMode.AUTO,
    "any": ChoiceMode.REQUIRED,
    "tool": ChoiceMode.NAMED,
    "none": ChoiceMode.NONE,
}


# --- reasoning and output --------------------------------------------------------------------------------------------


def _thinking_and_output(members: Members) -> tuple[Reasoning | None, Output | None]:
    reasoning = _thinking(members)
    raw = take_raw(members, "output_config")
    output = None
    if raw is not None:
        config = object_of(raw, "output_config")
        try:
            effort = _effort(config)
            output = _output(take_raw(config, "format"), "format")
        except BadShape as error:
            raise error.under("output_config") from None
        if effort is not None:
            reasoning = msgspec.structs.replace(reasoning or Reasoning(), effort=effort)
        if config or (effort is None and output is None):
            is_spelling = all(name.startswith(SPELLING) for name in config)
            members[SPELLING + "output_config" if is_spelling else "output_config"] = raw
    older = members.get("output_format")  # where the beta of structured outputs had it
    if output is None and older is not None and older != NULL:
        output = _output(older, "output_format")
        keep_spelling(members, "output_format")
    return reasoning, output


def _thinking(members: Members) -> Reasoning | None:
    raw = take_raw(members, "thinking")
    if raw is None:
        return None
    thinking = object_of(raw, "thinking")
    try:
        return _read_thinking(thinking)
    except BadShape as error:
        raise error.under("thinking") from None


def _read_thinking(thinking: Members) -> Reasoning:
    match kind := take_text(thinking, "type"):
        case "enabled":
            budget = take_int(thinking, "budget_tokens")
            if budget is None:
                missing("budget_tokens")
            if budget < 1:
                raise BadShape("budget_tokens", "This must be positive.")
            reasoning = Reasoning(budget=budget)
        case "adaptive":
            reasoning = Reasoning(is_adaptive=True)
        case "disabled":
            reasoning = Reasoning(budget=0)
        case _:  # a mode that came later: whether it reasons is for the model to say
            thinking["type"] = msgspec.Raw(msgspec.json.encode(kind))
            return Reasoning(extra=thinking)
    display = thinking.get("display")
    if display in _DISPLAYS:
        del thinking["display"]
        reasoning = msgspec.structs.replace(reasoning, is_visible=display == _SUMMARIZED)
    return msgspec.structs.replace(reasoning, extra=thinking or NO_EXTRA)


_SUMMARIZED: Final = msgspec.Raw(b'"summarized"')
_DISPLAYS: Final = (_SUMMARIZED, msgspec.Raw(b'"omitted"'))


def _effort(config: Members) -> Effort | None:
    word = take_text_if_any(config, "effort")
    if word is None:
        return None
    try:
        return Effort(word)
    except ValueError:
        raise BadShape("effort", "This must be 'low', 'medium', 'high', 'xhigh' or 'max'.") from None


def _output(raw: msgspec.Raw | None, path: str) -> Output | None:
    if raw is None:
        return None
    try:
        return _read_output(object_of(raw))
    except BadShape as error:
        raise error.under(path) from None


def _read_output(members: Members) -> Output:
    if take_text(members, "type") != "json_schema":
        raise BadShape("type", "This must be 'json_schema'.")
    schema = take_object(members, "schema")
    if schema is None:
        missing("schema")
    return Output(schema, extra=members or NO_EXTRA)


# --- the rest --------------------------------------------------------------------------------------------------------


def _user(members: Members) -> str | None:
    raw = take_object(members, "metadata")
    if raw is None:
        return None
    metadata = object_of(raw)
    try:
        user = take_text_if_any(metadata, "user_id")
    except BadShape as error:
        raise error.under("metadata") from None
    if metadata or user is None:
        is_spelling = all(name.startswith(SPELLING) for name in metadata)
        members[SPELLING + "metadata" if is_spelling else "metadata"] = raw
    return user


def _service_tier(members: Members) -> str | None:
    """Return the tier in the words of the other formats; a word that is none of this format's goes back verbatim."""
    word = take_text_if_any(members, "service_tier")
    if word == "standard_only":
        return "default"
    if word == "default":
        members[SPELLING + "service_tier"] = msgspec.Raw(b'"default"')
    return word


def _stream(members: Members) -> bool:
    is_stream = take_bool(members, "stream")
    if is_stream is False:
        members[SPELLING + "stream"] = msgspec.Raw(b"false")
    return bool(is_stream)
