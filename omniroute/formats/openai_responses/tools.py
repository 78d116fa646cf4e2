"""Tools of a request, both ways: functions, custom tools, groups of them, and tools that the vendor runs.

Only this format groups tools (`namespace`) and calls them by two names. Elsewhere a grouped tool goes by one flat name;
what it was is noted in its `extra`, so that a call can be given back under both names from the request alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

import msgspec

from omniroute.errors import InvalidRequest, MissingField
from omniroute.formats.canonical import (
    NO_EXTRA,
    AnyTool,
    CallKind,
    ChoiceMode,
    Request,
    ServerToolDefinition,
    Tool,
    ToolChoice,
)
from omniroute.formats.losses import Losses
from omniroute.formats.openai_responses.client_tools import definition_as_tool
from omniroute.formats.openai_responses.members import (
    LIST,
    OBJECT,
    TEXT,
    Members,
    encoded,
    is_object,
    is_text,
    note_of,
    put_back,
)
from omniroute.formats.profile import Profile
from omniroute.formats.schemas import is_strictable
from omniroute.formats.wire import WireFormat

_TRUE: Final = msgspec.Raw(b"true")
_NO_INPUT: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_FUNCTION_OR_CUSTOM: Final = frozenset({"function", "custom"})


class Names:
    """Flat names of grouped tools: each pair of names has one, and none is taken twice."""

    __slots__ = ("_flat", "_taken")

    def __init__(self) -> None:
        self._flat: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def take(self, name: str) -> None:
        """Note the name of a tool without a group."""
        self._taken.add(name)

    def flat(self, namespace: str, name: str) -> str:
        """Return the flat name of a grouped tool: `group__tool`, marked if that is another tool's name."""
        known = self._flat.get((namespace, name))
        if known is None:
            known = flat_name(namespace, name)
            if known in self._taken:
                known = f"{known}_{zlib.crc32(f'{namespace} {name}'.encode()):08x}"
            self._taken.add(known)
            self._flat[namespace, name] = known
        return known


def flat_name(namespace: str, name: str) -> str:
    """Join the name of a group and of a tool in it."""
    return f"{namespace.rstrip('_')}__{name.lstrip('_')}"


class OwnName(msgspec.Struct, frozen=True):
    """What the client calls a tool: its type where it is no plain function, its group and its name in it."""

    name: str
    namespace: str | None = None
    type: str | None = None


def own_names(request: Request) -> dict[str, OwnName]:
    """Return, by canonical name, how the client of this format calls the tools that have a name of another kind."""
    if request.origin is not WireFormat.OPENAI_RESPONSES:
        return {}
    found: dict[str, OwnName] = {}
    for tool in request.tools:
        if not isinstance(tool, Tool) or tool.extra is NO_EXTRA:
            continue
        namespace, builtin = note_of(tool.extra, "namespace"), note_of(tool.extra, "definition")
        if namespace is not None:
            own = TEXT.decode(note_of(tool.extra, "name") or encoded(tool.name))
            found.setdefault(tool.name, OwnName(own, TEXT.decode(namespace)))
        elif builtin is not None:
            found.setdefault(tool.name, OwnName(tool.name, type=TEXT.decode(OBJECT.decode(builtin)["type"])))
    return found


# --- from the client ----------------------------------------------------------------------------------------------


def parse_tools(listed: Iterable[msgspec.Raw], path: str, names: Names, *, is_elsewhere: bool = False) -> list[AnyTool]:
    """Return the tools of a list; `is_elsewhere` marks those that stand in an item of the conversation."""
    entries = [Members(raw, f"{path}[{index}]") for index, raw in enumerate(listed)]
    types = [entry.needed_text("type") for entry in entries]
    for entry, kind in zip(entries, types, strict=True):
        name = entry.peek("name")
        if kind in _FUNCTION_OR_CUSTOM and is_text(name):
            names.take(TEXT.decode(name))
    found: list[AnyTool] = []
    for index, (raw, entry, kind) in enumerate(zip(listed, entries, types, strict=True)):
        if is_elsewhere:
            entry.note("elsewhere", value=True)
        if kind in _FUNCTION_OR_CUSTOM:
            found.append(_parse_tool(entry, kind, None))
        elif kind == "namespace":
            found += _parse_namespace(raw, entry, index, names, is_elsewhere=is_elsewhere)
        elif (tool := definition_as_tool(kind, raw, entry)) is not None:
            found.append(tool)
        else:
            found.append(ServerToolDefinition(WireFormat.OPENAI_RESPONSES, kind, raw, _name_if_any(entry)))
    return found


def _name_if_any(entry: Members) -> str | None:
    name = entry.peek("name")
    return TEXT.decode(name) if is_text(name) else None


def _parse_tool(entry: Members, kind: str, flat: str | None) -> Tool:
    name = entry.needed_text("name")
    if flat is not None:
        entry.note("name", name)
        name = flat
    if not name:
        raise InvalidRequest(f"'{entry.where('name')}' must not be empty.", param=entry.where("name"))
    description = entry.text("description")
    if kind == "custom":
        grammar = entry.raw("format")
        return Tool(name, description, kind=CallKind.CUSTOM, format=grammar, extra=entry.rest())
    schema = entry.raw("parameters")
    if schema is not None and not is_object(schema):
        raise entry.wrong("parameters", "an object")
    strict = entry.flag("strict")
    return Tool(name, description, schema, strict, extra=entry.rest())


def _parse_namespace(
    raw: msgspec.Raw, group: Members, index: int, names: Names, *, is_elsewhere: bool
) -> Iterator[AnyTool]:
    """Yield the tools of a group.

    The first one carries the description of the group, which has no place elsewhere, and all carry the group's other
    members, by which they are put together again.
    """
    namespace = group.needed_text("name")
    description = group.text("description")
    listed = group.list("tools") or []
    where = group.where("tools")
    members = [Members(one, f"{where}[{position}]") for position, one in enumerate(listed)]
    kinds = [member.needed_text("type") for member in members]
    if not members or not _FUNCTION_OR_CUSTOM.issuperset(kinds):
        yield ServerToolDefinition(WireFormat.OPENAI_RESPONSES, "namespace", raw, namespace)
        return
    head: dict[str, Any] = {"type": "namespace", "name": namespace}
    if description is not None:
        head["description"] = description
    identity = encoded([index, put_back(head, group.rest())])
    for position, (member, kind) in enumerate(zip(members, kinds, strict=True)):
        own = member.peek("name")
        if not is_text(own):
            raise MissingField(f"'{member.where('name')}' must be a string.", param=member.where("name"))
        member.note("namespace", namespace)
        member.note("group", identity)
        if is_elsewhere:
            member.note("elsewhere", value=True)
        flat = names.flat(namespace, TEXT.decode(own))
        if position == 0 and description:
            said = member.peek("description")
            if said is not None:
                member.spell("description", said)
            member.note("explained", value=said is None)
        tool = _parse_tool(member, kind, flat)
        if position == 0 and description:
            tool = msgspec.structs.replace(tool, description=_explained(tool.description, namespace, description))
        yield tool


def _explained(description: str | None, namespace: str, group: str) -> str:
    about = f"About all tools {flat_name(namespace, '')}*: {group}"
    return f"{description}\n\n{about}" if description else about


def parse_choice(raw: msgspec.Raw, names: Names) -> ToolChoice:
    """Return the tool choice."""
    if is_text(raw):
        word = TEXT.decode(raw)
        if word not in {"auto", "none", "required"}:
            raise InvalidRequest(f"Invalid value for 'tool_choice': '{word}'.", param="tool_choice")
        return ToolChoice(ChoiceMode(word))
    entry = Members(raw, "tool_choice")
    kind = entry.needed_text("type")
    if kind in _FUNCTION_OR_CUSTOM:
        name = entry.needed_text("name")
        namespace = entry.text("namespace")
        if namespace is not None:
            entry.spell("namespace", encoded(namespace))
            entry.spell("name", encoded(name))
            name = names.flat(namespace, name)
        return ToolChoice(ChoiceMode.NAMED, (name,), CallKind(kind), entry.rest())
    if kind == "allowed_tools":
        mode = entry.needed_text("mode")
        if mode not in {"auto", "required"}:
            raise InvalidRequest(f"Invalid value for 'tool_choice.mode': '{mode}'.", param="tool_choice.mode")
        listed = entry.raw("tools")
        allowed: list[str] = []
        if listed is not None:
            entry.spell("tools", listed)
            allowed = [_allowed_name(one, index, names) for index, one in enumerate(_tool_list(listed))]
        return ToolChoice(ChoiceMode(mode), tuple(allowed), extra=entry.rest())
    # One of the vendor's own tools is forced: it goes by its type, and the whole choice is kept.
    entry.note("choice", raw)
    return ToolChoice(ChoiceMode.NAMED, (kind,), extra=entry.rest())


def _tool_list(raw: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return LIST.decode(raw)
    except msgspec.DecodeError:
        raise InvalidRequest("'tool_choice.tools' must be an array.", param="tool_choice.tools") from None


def _allowed_name(raw: msgspec.Raw, index: int, names: Names) -> str:
    entry = Members(raw, f"tool_choice.tools[{index}]")
    name, namespace = entry.text("name"), entry.text("namespace")
    if name is None:
        return entry.needed_text("type")
    return name if namespace is None else names.flat(namespace, name)


# --- to the provider ----------------------------------------------------------------------------------------------


def write_tools(tools: Iterable[AnyTool]) -> list[Any]:
    """Return the tools of a request of this very format, as they came."""
    written: list[Any] = []
    here = [tool for tool in tools if not (isinstance(tool, Tool) and note_of(tool.extra, "elsewhere") is not None)]
    for group, members in groupby(here, key=_group_of):
        if group is None:
            written += [_write_own(tool) for tool in members]
        else:
            head = OBJECT.decode(LIST.decode(group)[1])
            written.append({**head, "tools": [_write_own(tool) for tool in members]})
    return written


def _group_of(tool: AnyTool) -> bytes | None:
    group = note_of(tool.extra, "group") if isinstance(tool, Tool) else None
    return None if group is None else bytes(group)


def _write_own(tool: AnyTool) -> Any:
    if isinstance(tool, ServerToolDefinition):
        return tool.raw
    definition = note_of(tool.extra, "definition")
    if definition is not None:
        return definition
    written: dict[str, Any] = {"type": tool.kind.value, "name": note_of(tool.extra, "name") or tool.name}
    if tool.description is not None and note_of(tool.extra, "explained") != _TRUE:
        written["description"] = tool.description
    if tool.schema is not None:
        written["parameters"] = tool.schema
    if tool.strict is not None:
        written["strict"] = tool.strict
    if tool.format is not None:
        written["format"] = tool.format
    return put_back(written, tool.extra)


def render_tools(tools: Iterable[AnyTool], profile: Profile, losses: Losses) -> list[Any]:
    """Return the tools of a request of another format."""
    written: list[Any] = []
    for tool in tools:
        if isinstance(tool, ServerToolDefinition):
            losses.drop("tools.server", tool.type)
            continue
        if tool.cache is not None:
            losses.drop("cache")
        losses.drop_all("tools.extra", tool.extra)
        one: dict[str, Any] = {"type": tool.kind.value, "name": tool.name}
        if tool.description is not None:
            one["description"] = tool.description
        if tool.kind is CallKind.CUSTOM:
            if tool.format is not None:
                one["format"] = _flat_grammar(tool.format)
        else:
            one["parameters"] = tool.schema or _NO_INPUT
            # Left unsaid, the vendor turns strict mode on where it can: the client's format does not.
            is_strict = bool(tool.strict) and is_strictable(one["parameters"])
            if tool.strict and not (is_strict and profile.takes_strict):
                losses.drop("tools.strict")
            if profile.takes_strict:
                one["strict"] = is_strict
        written.append(one)
    return written


def _flat_grammar(raw: msgspec.Raw) -> msgspec.Raw | dict[str, Any]:
    """Return a grammar in this format's shape: Chat has its fields one level deeper."""
    try:
        members = OBJECT.decode(raw)
        inner = OBJECT.decode(members["grammar"]) if "grammar" in members else None
    except msgspec.DecodeError:
        return raw
    return raw if inner is None else {"type": "grammar", **inner}


def write_choice(choice: ToolChoice) -> Any:
    """Return the tool choice of a request of this very format."""
    whole = note_of(choice.extra, "choice")
    if whole is not None:
        return whole
    if choice.mode is ChoiceMode.NAMED:
        return put_back({"type": choice.kind.value, "name": choice.names[0]}, choice.extra)
    if choice.names or choice.extra:
        return put_back({"type": "allowed_tools", "mode": choice.mode.value}, choice.extra)
    return choice.mode.value


def render_choice(choice: ToolChoice, tools: Iterable[AnyTool]) -> Any:
    """Return the tool choice of a request of another format."""
    kinds = {tool.name: tool.kind for tool in tools if isinstance(tool, Tool)}
    if choice.mode is ChoiceMode.NAMED:
        name = choice.names[0]
        return {"type": kinds.get(name, choice.kind).value, "name": name}
    if choice.names:
        allowed = [{"type": kinds.get(name, CallKind.FUNCTION).value, "name": name} for name in choice.names]
        return {"type": "allowed_tools", "mode": choice.mode.value, "tools": allowed}
    return choice.mode.value
