"""What only the client's own format knows, in words that another target understands.

Tools that a provider runs itself, blocks of an unknown type, free-text tools, limits on the choice of tools and answers
after a schema: each is said in another way, left out where that is declared, or refused.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.errors import InvalidRequest
from omniroute.formats.canonical import (
    AnyTool,
    CallKind,
    ChoiceMode,
    Message,
    Output,
    Request,
    Role,
    ServerTool,
    ServerToolDefinition,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Unknown,
)
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.profile import Profile
from omniroute.formats.tool_names import Names
from omniroute.formats.wire import WireFormat

_ANY_OBJECT: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_ONE_STRING: Final = msgspec.Raw(
    b'{"type":"object","properties":{"input":{"type":"string","description":"The whole input, as free text."}},'
    b'"required":["input"],"additionalProperties":false}'
)
_OUTPUT_NAME: Final = "answer"
_OUTPUT_DESCRIPTION: Final = "Gives the final answer. Its input is the answer itself."
_STUB_DESCRIPTION: Final = "Was used earlier in this conversation; is not available now."
NO_CALL: Final = ToolChoice(ChoiceMode.NONE)
"""What goes with stubs: nothing may be called."""


# --- tools -----------------------------------------------------------------------------------------------------------


class Tools(msgspec.Struct, frozen=True):
    """What of a request concerns tools, as the target gets it. `customs` and `output_tool` as in `Changes`."""

    tools: tuple[AnyTool, ...]
    choice: ToolChoice | None
    parallel: bool | None
    output: Output | None
    customs: frozenset[str] = frozenset()
    output_tool: str | None = None


def names_for(request: Request, profile: Profile) -> Names:
    """Return the names of the request's tools at the target."""
    defined = [tool.name for tool in request.tools if isinstance(tool, Tool)]
    return Names(profile.name_limit, defined, needs_letter=profile.format is WireFormat.GEMINI)


def fit_tools(request: Request, profile: Profile, names: Names, losses: Losses) -> Tools:
    """Return the tools as the target takes them.

    Raises:
        UnsupportedFeature: they cannot be said, and leaving them out would change what the caller asked for.
        InvalidRequest: a tool must be called, but there is none.
    """
    choice = request.tool_choice
    if not profile.takes_tools:
        if request.tools and (choice is None or choice.mode is not ChoiceMode.NONE):
            raise unsupported("tools", f"{profile.model} takes no tools.")
        return _with_output(Tools((), None, None, request.output), profile, names)
    kept = _without_foreign(request, profile, losses)
    if len(kept) < len(request.tools):
        choice = _of_kept(choice, kept)
    if choice is not None and choice.names and _reduces(profile, choice):
        allowed = frozenset(choice.names)
        kept = tuple(tool for tool in kept if not isinstance(tool, Tool) or tool.name in allowed)
        choice = msgspec.structs.replace(choice, names=())
    customs = frozenset(tool.name for tool in kept if isinstance(tool, Tool) and _becomes_function(tool, profile))
    fitted = tuple(_fit_tool(tool, profile, names) for tool in kept)
    if all(a is b for a, b in zip(fitted, request.tools, strict=False)) and len(fitted) == len(request.tools):
        fitted = request.tools
    if profile.max_tools is not None and len(fitted) > profile.max_tools:
        raise unsupported("tools", f"{profile.model} takes at most {profile.max_tools} tools, not {len(fitted)}.")
    if not fitted:
        if choice is not None and choice.mode in (ChoiceMode.REQUIRED, ChoiceMode.NAMED):
            raise InvalidRequest("A tool must be called, but none is defined.", param="tool_choice")
        return _with_output(Tools((), None, None, request.output), profile, names)
    choice = _fit_choice(choice, profile, names)
    return _with_output(Tools(fitted, choice, request.parallel_tools, request.output, customs), profile, names)


def stubs(messages: tuple[Message, ...]) -> tuple[Tool, ...]:
    """Return a definition for every tool that is called in a conversation, in the order of the first calls."""
    called = dict.fromkeys(
        block.name for message in messages for block in message.blocks if isinstance(block, ToolCall)
    )
    return tuple(Tool(name, _STUB_DESCRIPTION, _ANY_OBJECT) for name in called)


def _without_foreign(request: Request, profile: Profile, losses: Losses) -> tuple[AnyTool, ...]:
    kept: list[AnyTool] = []
    foreign: list[ServerToolDefinition] = []
    for tool in request.tools:
        if isinstance(tool, ServerToolDefinition):
            (kept if tool.origin is profile.format else foreign).append(tool)
        elif tool.name:
            kept.append(tool)
        else:
            losses.drop("tools.extra", "unnamed")
    if not foreign:
        return tuple(kept)
    choice = request.tool_choice
    mode = choice.mode if choice is not None else ChoiceMode.AUTO
    wanted = choice.names if choice is not None else ()
    own_names = {tool.name for tool in kept}
    is_forced = (
        mode in (ChoiceMode.NAMED, ChoiceMode.REQUIRED)
        and bool(wanted)
        and not any(name in own_names for name in wanted)
        and any(tool.name in wanted or tool.type in wanted for tool in foreign)
    )
    if is_forced or (not kept and mode is not ChoiceMode.NONE):
        tool = foreign[0]
        raise unsupported(
            "tools", f"The tool {tool.name or tool.type} is run by another vendor; {profile.model} does not have it."
        )
    for tool in foreign:
        losses.drop("tools.server", tool.type)
    return tuple(kept)


def _of_kept(choice: ToolChoice | None, kept: tuple[AnyTool, ...]) -> ToolChoice | None:
    """Return a limited choice without the tools that were left out; without any, nothing may be called."""
    if choice is None or not choice.names or choice.mode is ChoiceMode.NAMED:
        return choice
    known = {tool.name for tool in kept}
    names = tuple(name for name in choice.names if name in known)
    return msgspec.structs.replace(choice, names=names) if names else NO_CALL


def _becomes_function(tool: Tool, profile: Profile) -> bool:
    return tool.kind is CallKind.CUSTOM and not profile.takes_custom_tools


def _fit_tool(tool: AnyTool, profile: Profile, names: Names) -> AnyTool:
    if isinstance(tool, ServerToolDefinition):
        return tool
    name = names.sent(tool.name)
    if _becomes_function(tool, profile):
        return msgspec.structs.replace(
            tool, name=name, kind=CallKind.FUNCTION, schema=_ONE_STRING, format=None, description=_described(tool)
        )
    return tool if name == tool.name else msgspec.structs.replace(tool, name=name)


class _Grammar(msgspec.Struct):
    syntax: str = ""
    definition: str = ""


class _Format(msgspec.Struct):
    type: str = ""
    syntax: str = ""
    definition: str = ""
    grammar: _Grammar | None = None
    """Chat writes these two a level deeper than Responses."""


def _described(tool: Tool) -> str | None:
    """Return a description that tells the model the grammar which the target will not hold it to."""
    if tool.format is None:
        return tool.description
    try:
        form = msgspec.json.decode(tool.format, type=_Format)
    except msgspec.DecodeError:
        return tool.description
    grammar = form.grammar or _Grammar(form.syntax, form.definition)
    if not grammar.definition:
        return tool.description
    kind = f" ({grammar.syntax})" if grammar.syntax else ""
    hint = f"The input must match this grammar{kind}:\n{grammar.definition}"
    return f"{tool.description}\n\n{hint}" if tool.description else hint


def _reduces(profile: Profile, choice: ToolChoice) -> bool:
    """Say whether a limit on the choice has to be put into the list of tools."""
    if choice.mode not in (ChoiceMode.AUTO, ChoiceMode.REQUIRED):
        return False
    match profile.format:
        case WireFormat.ANTHROPIC_MESSAGES | WireFormat.OLLAMA:
            return True
        case WireFormat.OPENAI_CHAT:
            return not profile.is_vendor  # hosts that copy the format know no `allowed_tools`
        case _:
            return False


def _fit_choice(choice: ToolChoice | None, profile: Profile, names: Names) -> ToolChoice | None:
    if choice is None:
        return None
    sent = tuple(names.sent(name) for name in choice.names)
    kind = choice.kind if profile.takes_custom_tools else CallKind.FUNCTION
    if sent == choice.names and kind is choice.kind:
        return choice
    return msgspec.structs.replace(choice, names=sent, kind=kind)


# --- an answer after a schema, through a tool -------------------------------------------------------------------------


def _with_output(tools: Tools, profile: Profile, names: Names) -> Tools:
    """Return the tools with one more whose input is the answer, where the target knows no output schema.

    Beside other tools, some tool must be called: theirs to go on, or this one to answer. A caller who demands a call
    gets one of his own, which no output schema shapes.
    """
    output = tools.output
    if output is None or output.schema is None or profile.takes_output_schema:
        return tools
    if not profile.takes_tools:
        raise unsupported("output", f"{profile.model} cannot be held to a schema.")
    if tools.choice is not None and tools.choice.mode in (ChoiceMode.REQUIRED, ChoiceMode.NAMED):
        return msgspec.structs.replace(tools, output=None)
    if not _is_object(output.schema):
        raise unsupported("output", f"{profile.model} can only be held to a schema whose root is an object.")
    name = names.fresh(output.name or _OUTPUT_NAME)
    tool = Tool(name, output.description or _OUTPUT_DESCRIPTION, output.schema, output.strict)
    may_call = bool(tools.tools) and (tools.choice is None or tools.choice.mode is ChoiceMode.AUTO)
    choice = ToolChoice(ChoiceMode.REQUIRED) if may_call else ToolChoice(ChoiceMode.NAMED, (name,))
    return msgspec.structs.replace(
        tools,
        tools=(*tools.tools, tool),
        choice=choice,
        parallel=tools.parallel if may_call else False,
        output=None,
        output_tool=name,
    )


class _Root(msgspec.Struct):
    type: msgspec.Raw = msgspec.Raw(b'"object"')


def _is_object(schema: msgspec.Raw) -> bool:
    try:
        return b'"object"' in bytes(msgspec.json.decode(schema, type=_Root).type)
    except msgspec.DecodeError:
        return False


# --- blocks ----------------------------------------------------------------------------------------------------------


_STAND_FOR_MORE: Final = frozenset({"item_reference", "compaction", "compaction_summary"})
"""Items in the place of others, up to a whole conversation: a note of them would leave that out without a word."""


_NAMELESS: Final = "unknown block"
_LONGEST_TYPE: Final = 64


class _Typed(msgspec.Struct):
    type: str = ""


def fit_block(block: ServerTool | Unknown, profile: Profile, role: Role, path: str) -> ServerTool | Unknown | Text:
    """Return a block that only its origin understands as the target gets it.

    The model's own are noted in a few words. What the user says must not be guessed at.

    Raises:
        UnsupportedFeature: the user's block is of a type that nobody here knows, or what it stands for is elsewhere.
    """
    if block.origin is profile.format:
        return block
    kind = _type_of(block.raw)
    if kind in _STAND_FOR_MORE and isinstance(block, Unknown):
        raise unsupported(
            path, f"What an item of type {kind} stands for is not in the request, and only its vendor has it."
        )
    if isinstance(block, ServerTool):
        return Text(block.note or f"[{kind}]")
    match role:
        case Role.ASSISTANT:
            return Text(f"[{kind}]")
        case Role.TOOL:
            # Data that a tool gave back: whatever it is, a model can read it as JSON.
            return Text(bytes(block.raw).decode())
        case Role.USER | Role.SYSTEM | Role.DEVELOPER:
            raise unsupported(path, f"A block of type {kind} means nothing to {profile.model}.")


def _type_of(raw: msgspec.Raw) -> str:
    """Return the type of a block; in Gemini's form its one member says it."""
    try:
        if named := msgspec.json.decode(raw, type=_Typed).type:
            return named
        return next(iter(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])), _NAMELESS)[:_LONGEST_TYPE]
    except msgspec.DecodeError:
        return _NAMELESS


def fit_call(call: ToolCall, profile: Profile, names: Names) -> ToolCall:
    """Return a call with the name that the target knows, of a kind that it takes."""
    name = names.sent(call.name)
    if call.kind is CallKind.CUSTOM and not profile.takes_custom_tools:
        arguments = msgspec.json.encode({"input": call.arguments}).decode()
        return msgspec.structs.replace(call, name=name, kind=CallKind.FUNCTION, arguments=arguments)
    return call if name == call.name else msgspec.structs.replace(call, name=name)


def call_as_text(call: ToolCall) -> Text:
    """Return a call as a note for a model that has no tools."""
    return Text(f"[called {call.name}: {call.arguments.strip() or '{}'}]", cache=call.cache)
