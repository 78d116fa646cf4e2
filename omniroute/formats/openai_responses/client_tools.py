"""Built-in tools that the client runs itself: elsewhere they are functions, and calls of them come back as their items.

`local_shell` runs a command on the client's machine; `tool_search` with `execution: "client"` lets the client look up
further tools, whose definitions then stand in the item that answers the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import Text, Tool, ToolCall, ToolResult, arguments_object
from omniroute.formats.openai_responses.members import (
    NULL,
    OBJECT,
    TEXT,
    Members,
    encoded,
    is_list,
    is_object,
    is_text,
)

LOCAL_SHELL: Final = "local_shell"
TOOL_SEARCH: Final = "tool_search"
CLIENT_TOOLS: Final = frozenset({LOCAL_SHELL, TOOL_SEARCH})

CALLS: Final[Mapping[str, str]] = MappingProxyType(
    {"local_shell_call": LOCAL_SHELL, "tool_search_call": TOOL_SEARCH},
)
"""Type of a call's item to the type of its tool."""
OUTPUTS: Final = frozenset({"local_shell_call_output", "tool_search_output"})
PREFIXES: Final[Mapping[str, str]] = MappingProxyType({LOCAL_SHELL: "lsh", TOOL_SEARCH: "tsc"})

_CLIENT: Final = msgspec.Raw(b'"client"')
_SHELL_DESCRIPTION: Final = "Runs a command on the user's machine and returns its output."
_SHELL_SCHEMA: Final = msgspec.Raw(
    b'{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"},"description":'
    b'"Program and arguments, for example [\\"bash\\", \\"-lc\\", \\"ls\\"]."},"working_directory":{"type":"string"},'
    b'"timeout_ms":{"type":"integer"}},"required":["command"]}'
)
_SEARCH_DESCRIPTION: Final = "Finds further tools. The tools that it names can be called from then on."
_SEARCH_SCHEMA: Final = msgspec.Raw(
    b'{"type":"object","properties":{"query":{"type":"string"},"limit":{"type":"integer"}},"required":["query"]}'
)


class _Action(msgspec.Struct):
    command: list[str] | str
    env: dict[str, str] | None = None
    timeout_ms: int | None = None
    user: str | None = None
    working_directory: str | None = None


_ACTION: Final = msgspec.json.Decoder(_Action)


def definition_as_tool(kind: str, raw: msgspec.Raw, entry: Members) -> Tool | None:
    """Return the function that stands for a built-in tool of the client; None for a tool of the vendor's."""
    if kind == LOCAL_SHELL:
        entry.note("definition", raw)
        return Tool(LOCAL_SHELL, _SHELL_DESCRIPTION, _SHELL_SCHEMA, extra=_notes(entry))
    if kind == TOOL_SEARCH and entry.peek("execution") == _CLIENT:
        entry.note("definition", raw)
        schema, description = entry.peek("parameters"), entry.peek("description")
        return Tool(
            TOOL_SEARCH,
            TEXT.decode(description) if is_text(description) else _SEARCH_DESCRIPTION,
            schema if is_object(schema) else _SEARCH_SCHEMA,
            extra=_notes(entry),
        )
    return None


def _notes(entry: Members) -> dict[str, msgspec.Raw]:
    # The whole definition is kept, so its members need not be.
    return {name: value for name, value in entry.rest().items() if name.startswith("==")}


def call_of(kind: str, raw: msgspec.Raw) -> ToolCall | None:
    """Return the call that an item of one of `CALLS` is; None when a vendor ran it, or it has no id to answer to."""
    try:
        members = OBJECT.decode(raw)
        call_id = TEXT.decode(members["call_id"])
        if kind == "local_shell_call":
            action = OBJECT.decode(members["action"])
            told = {name: value for name, value in action.items() if name != "type" and value != NULL}
            return ToolCall(call_id, LOCAL_SHELL, _compact(msgspec.json.encode(told)), extra={"==whole": raw})
        if members.get("execution") != _CLIENT:
            return None
        found = members.get("arguments", NULL)
        text = TEXT.decode(found) if is_text(found) else "" if found == NULL else _compact(bytes(found))
        return ToolCall(call_id, TOOL_SEARCH, text, extra={"==whole": raw})
    except (msgspec.DecodeError, KeyError):
        return None


def _compact(json: bytes) -> str:
    return msgspec.json.format(json, indent=-1).decode()


def result_of(kind: str, raw: msgspec.Raw, found: tuple[str, ...]) -> ToolResult | None:
    """Return the result that an item of `OUTPUTS` is; `found` are the names of the tools that a search found."""
    try:
        members = OBJECT.decode(raw)
        call_id = TEXT.decode(members["call_id"] if "call_id" in members else members["id"])
        if kind == "local_shell_call_output":
            name, text = LOCAL_SHELL, TEXT.decode(members["output"])
        elif members.get("execution") == _CLIENT:
            name, text = TOOL_SEARCH, f"Tools found: {', '.join(found)}" if found else "No tools found."
        else:
            return None
    except (msgspec.DecodeError, KeyError):
        return None
    return ToolResult(call_id, (Text(text),), name=name, plain=True, extra={"==whole": raw})


def item_of(tool: str, call: ToolCall, item_id: str, status: str) -> dict[str, Any] | None:
    """Return the item that a call of a built-in tool of the client is; None when its arguments do not fit it."""
    if tool == TOOL_SEARCH:
        arguments = arguments_object(call.arguments)
        if arguments is None:
            return None
        head: dict[str, Any] = {"id": item_id, "type": "tool_search_call", "status": status, "execution": "client"}
        return {**head, "call_id": call.id, "arguments": arguments}
    try:
        read = _ACTION.decode(call.arguments)
    except msgspec.DecodeError:
        return None
    action: dict[str, Any] = {"type": "exec", "env": read.env or {}}
    action["command"] = ["bash", "-lc", read.command] if isinstance(read.command, str) else read.command
    for name in ("timeout_ms", "user", "working_directory"):
        value = getattr(read, name)
        if value is not None:
            action[name] = value
    return {"id": item_id, "type": "local_shell_call", "status": status, "call_id": call.id, "action": action}


def listed_tools(raw: msgspec.Raw) -> msgspec.Raw:
    """Return the list of definitions in an item that brings tools along; an empty one when it has none."""
    try:
        tools = OBJECT.decode(raw).get("tools", NULL)
    except msgspec.DecodeError:
        return encoded([])
    return tools if is_list(tools) else encoded([])
