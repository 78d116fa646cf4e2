"""Tools of a Chat request, the choice among them, and the old `functions` that preceded both."""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.canonical import AnyTool, CallKind, ChoiceMode, ServerToolDefinition, Tool, ToolChoice
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import (
    NULL,
    BadShape,
    Members,
    is_text,
    list_of,
    object_of,
    take_bool,
    take_object,
    take_raw,
    take_text,
    take_text_if_any,
    text_of,
)
from omniroute.formats.wire import WireFormat

_MODES: Final = {
    "auto": ChoiceMode.AUTO,
    "none": ChoiceMode.NONE,
    "required": ChoiceMode.REQUIRED,
    "any": ChoiceMode.REQUIRED,
}
_USUAL: Final = frozenset({"auto", "none", "required"})
_KINDS: Final = {"function": CallKind.FUNCTION, "custom": CallKind.CUSTOM}


def parse_tools(items: list[msgspec.Raw]) -> tuple[AnyTool, ...]:
    """Return the elements of `tools`.

    Raises:
        BadShape: one is not a tool.
    """
    tools: list[AnyTool] = []
    for index, item in enumerate(items):
        try:
            tools.append(_tool(item))
        except BadShape as error:
            raise error.under(f"tools.{index}") from None
    return tuple(tools)


def parse_functions(items: list[msgspec.Raw]) -> tuple[AnyTool, ...]:
    """Return the elements of the old `functions`."""
    tools: list[AnyTool] = []
    for index, item in enumerate(items):
        try:
            members = object_of(item)
            tools.append(_function(members, {}))
        except BadShape as error:
            raise error.under(f"functions.{index}") from None
    return tuple(tools)


def _tool(raw: msgspec.Raw) -> AnyTool:
    members = object_of(raw)
    kind = take_text_if_any(members, "type")
    if kind is None and "function" in members:
        kind = "function"
    match kind:
        case None:
            raise BadShape("type", "This field is required.", is_missing=True)
        case "function" | "custom":
            inner_raw = members.pop(kind, None)
            if inner_raw is None:
                raise BadShape(kind, "This field is required.", is_missing=True)
            try:
                inner = object_of(inner_raw)
                return _function(inner, members) if kind == "function" else _custom(inner, members)
            except BadShape as error:
                raise error.under(kind) from None
        case _:
            name = members.get("name")
            named = text_of(name) if name is not None and is_text(name) else None
            return ServerToolDefinition(WireFormat.OPENAI_CHAT, kind, raw, named)


def _function(inner: Members, members: Members) -> Tool:
    name = take_text(inner, "name")
    description = take_text_if_any(inner, "description")
    schema = take_object(inner, "parameters")
    strict = take_bool(inner, "strict")
    cache = take_raw(members, "cache_control")
    _keep_inner(inner, members, "function")
    return Tool(name, description, schema, strict, cache=cache, extra=members)


def _custom(inner: Members, members: Members) -> Tool:
    name = take_text(inner, "name")
    description = take_text_if_any(inner, "description")
    grammar = take_object(inner, "format")
    cache = take_raw(members, "cache_control")
    _keep_inner(inner, members, "custom")
    return Tool(name, description, kind=CallKind.CUSTOM, format=grammar, cache=cache, extra=members)


def _keep_inner(inner: Members, members: Members, kind: str) -> None:
    if not inner:
        return
    said = {name: value for name, value in inner.items() if not name.startswith(SPELLING)}
    unsaid = {name.removeprefix(SPELLING): value for name, value in inner.items() if name.startswith(SPELLING)}
    if said:
        members[kind] = msgspec.Raw(msgspec.json.encode(said))
    if unsaid:
        members[SPELLING + kind] = msgspec.Raw(msgspec.json.encode(unsaid))


# --- choice --------------------------------------------------------------------------------------------------------


def take_choice(members: Members) -> ToolChoice | None:
    """Take `tool_choice`, or the old `function_call`, out of the members of a request.

    Raises:
        BadShape: it is not a choice.
    """
    raw = take_raw(members, "tool_choice")
    if raw is not None:
        try:
            choice = _choice(raw)
        except BadShape as error:
            raise error.under("tool_choice") from None
        if not is_text(raw) or text_of(raw) not in _USUAL:
            members[f"{SPELLING}tool_choice"] = raw
        return choice
    raw = take_raw(members, "function_call")
    if raw is None:
        return None
    members[f"{SPELLING}function_call"] = raw
    try:
        if is_text(raw):
            return ToolChoice(_mode(text_of(raw)))
        return ToolChoice(ChoiceMode.NAMED, (take_text(object_of(raw), "name"),))
    except BadShape as error:
        raise error.under("function_call") from None


def _mode(word: str, path: str = "") -> ChoiceMode:
    mode = _MODES.get(word)
    if mode is None:
        raise BadShape(path, "The choice must be auto, none, required or a tool.")
    return mode


def _choice(raw: msgspec.Raw) -> ToolChoice:
    if is_text(raw):
        return ToolChoice(_mode(text_of(raw)))
    members = object_of(raw)
    kind = take_text(members, "type")
    match kind:
        case "function" | "custom":
            return ToolChoice(ChoiceMode.NAMED, (_name_in(members, kind),), _KINDS[kind])
        case "allowed_tools":
            inner_raw = take_object(members, "allowed_tools")
            try:
                return _subset(members if inner_raw is None else object_of(inner_raw))
            except BadShape as error:
                raise error.under("allowed_tools") from None
        case "tool":  # as Messages writes it; several agents send it here too
            return ToolChoice(ChoiceMode.NAMED, (take_text(members, "name"),))
        case _:
            return ToolChoice(_mode(kind, "type"))


def _subset(members: Members) -> ToolChoice:
    mode = _mode(take_text(members, "mode"), "mode")
    items = members.get("tools", NULL)
    names: list[str] = []
    kinds: set[str] = set()
    for index, item in enumerate(list_of(items, "tools")):
        try:
            tool = object_of(item)
            kind = take_text(tool, "type")
            names.append(_name_in(tool, kind))
            kinds.add(kind)
        except BadShape as error:
            raise error.under(f"tools.{index}") from None
    if not names:
        raise BadShape("tools", "At least one tool must be allowed.")
    return ToolChoice(mode, tuple(names), CallKind.CUSTOM if kinds == {"custom"} else CallKind.FUNCTION)


def _name_in(members: Members, kind: str) -> str:
    """Return the name of a tool that is pointed to: below its kind here, beside it in Responses."""
    inner = members.get(kind)
    if inner is None and "name" in members:
        return take_text(members, "name")
    if inner is None:
        raise BadShape(kind, "This field is required.", is_missing=True)
    try:
        return take_text(object_of(inner), "name")
    except BadShape as error:
        raise error.under(kind) from None
