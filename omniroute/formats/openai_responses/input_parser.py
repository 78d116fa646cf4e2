"""The items of `input` as turns of a conversation.

What the model said stands there item by item: reasoning, messages, calls. Items that follow each other become one turn,
whose blocks note which item they came from, so that the same items can be written again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from omniroute.errors import InvalidRequest, MissingField
from omniroute.formats.canonical import (
    AnyTool,
    Block,
    CallKind,
    Media,
    Message,
    Refusal,
    Role,
    ServerTool,
    Text,
    Thinking,
    Token,
    Tool,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import Pause
from omniroute.formats.openai_responses import client_tools, server_items
from omniroute.formats.openai_responses.members import LIST, TEXT, Members, encoded, is_list, is_text, put_back
from omniroute.formats.openai_responses.parts import parse_part
from omniroute.formats.openai_responses.tools import Names, parse_tools
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.OPENAI_RESPONSES
_ROLES: Final = {role.value: role for role in (Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.DEVELOPER)}


class _Summary(msgspec.Struct):
    text: str
    type: str | None = None


_SUMMARY: Final = msgspec.json.Decoder(list[_Summary])


class InputReader:
    """Reads items one by one.

    Attributes:
        messages: the turns so far.
        tools: definitions that stand in items of the conversation.
        placed: items that say nothing by themselves, with their places in the list.
    """

    def __init__(self, names: Names) -> None:
        self.messages: list[Message] = []
        self.tools: list[AnyTool] = []
        self.placed: list[tuple[int, msgspec.Raw]] = []
        self._names = names
        self._turn: list[Block] = []
        self._call_names: dict[str, str] = {}

    def read(self, items: list[msgspec.Raw], pause: Pause) -> None:
        """Read all items.

        Raises:
            InvalidRequest, MissingField: an item is not one of the format.
        """
        for index, raw in enumerate(items):
            pause()
            item = Members(raw, f"input[{index}]")
            kind = item.peek("type")
            name = TEXT.decode(kind) if is_text(kind) else "message" if "role" in item else ""
            if name == "additional_tools":
                self._find_tools(raw, item.path)
                self.placed.append((index, raw))
                continue
            read = _READERS.get(name)
            if read is not None:
                read(self, raw, item)
            else:
                self._other(name, raw, item)
        self._end_turn()

    def _end_turn(self) -> None:
        if self._turn:
            self.messages.append(Message(Role.ASSISTANT, tuple(self._turn)))
            self._turn = []

    def _say(self, message: Message) -> None:
        self._end_turn()
        self.messages.append(message)

    def _message(self, raw: msgspec.Raw, item: Members) -> None:
        word = item.needed_text("role")
        role = _ROLES.get(word)
        if role is None:
            raise InvalidRequest(f"Invalid value for '{item.where('role')}': '{word}'.", param=item.where("role"))
        content = item.raw("content")
        if content is None:
            raise MissingField(f"Missing required parameter: '{item.where('content')}'.", param=item.where("content"))
        text_type = "output_text" if role is Role.ASSISTANT else "input_text"
        parts: list[Text | Media | Refusal | Unknown] = []
        if is_text(content):
            try:
                parts.append(Text(TEXT.decode(content)))
            except msgspec.DecodeError:
                raise item.wrong("content", "a string or an array") from None
        elif is_list(content):
            where = item.where("content")
            for position, part in enumerate(LIST.decode(content)):
                parts.append(parse_part(part, f"{where}[{position}]", text_type))
        else:
            raise item.wrong("content", "a string or an array")
        item.spell_as_is("type", "id", "status")
        if role is Role.ASSISTANT:
            self._turn += _with_head(raw, parts, item, is_plain=is_text(content))
        else:
            self._say(Message(role, tuple(parts), plain=is_text(content), extra=item.rest()))

    def _function_call(self, raw: msgspec.Raw, item: Members) -> None:
        self._call(item, CallKind.FUNCTION, "arguments")

    def _custom_call(self, raw: msgspec.Raw, item: Members) -> None:
        self._call(item, CallKind.CUSTOM, "input")

    def _call(self, item: Members, kind: CallKind, member: str) -> None:
        item.raw("type")
        item.spell_as_is("id", "status")
        call_id, name = item.needed_text("call_id"), item.needed_text("name")
        arguments = item.text(member)
        if arguments is None:
            raise MissingField(f"Missing required parameter: '{item.where(member)}'.", param=item.where(member))
        namespace = item.text("namespace")
        if namespace is not None:
            item.spell("namespace", encoded(namespace))
            item.spell("name", encoded(name))
            name = self._names.flat(namespace, name)
        self._call_names[call_id] = name
        self._turn.append(ToolCall(call_id, name, arguments, kind, extra=item.rest()))

    def _function_output(self, raw: msgspec.Raw, item: Members) -> None:
        self._output(item, CallKind.FUNCTION)

    def _custom_output(self, raw: msgspec.Raw, item: Members) -> None:
        self._output(item, CallKind.CUSTOM)

    def _output(self, item: Members, kind: CallKind) -> None:
        item.raw("type")
        item.spell_as_is("id", "status")
        call_id = item.needed_text("call_id")
        output = item.raw("output")
        where = item.where("output")
        blocks: list[Text | Media | ServerTool | Unknown] = []
        if is_text(output):
            try:
                blocks.append(Text(TEXT.decode(output)))
            except msgspec.DecodeError:
                raise item.wrong("output", "a string or an array") from None
        elif is_list(output):
            for position, raw in enumerate(LIST.decode(output)):
                part = parse_part(raw, f"{where}[{position}]", "input_text")
                blocks.append(Unknown(_ORIGIN, raw) if isinstance(part, Refusal) else part)
        elif output is None:
            raise MissingField(f"Missing required parameter: '{where}'.", param=where)
        else:
            raise item.wrong("output", "a string or an array")
        name = self._call_names.get(call_id)
        is_plain = is_text(output)
        result = ToolResult(call_id, tuple(blocks), kind=kind, name=name, plain=is_plain, extra=item.rest())
        self._say(Message(Role.TOOL, (result,)))

    def _reasoning(self, raw: msgspec.Raw, item: Members) -> None:
        item.raw("type")
        item.spell_as_is("status")
        item_id, token = item.text("id"), item.text("encrypted_content")
        summary, content = item.raw("summary"), item.raw("content")
        said, is_usual = _texts(item, "summary", summary)
        if summary is not None and not (is_usual and (said or content is None)):
            item.spell("summary", summary)
        if summary is None:
            item.note("no_summary", value=True)
        if content is not None:
            said = said or _texts(item, "content", content)[0]
            item.spell("content", content)
        text = "\n\n".join(said)
        self._turn.append(
            Thinking(
                text,
                None if token is None else Token(token, _ORIGIN),
                redacted=token is not None and not said,
                id=item_id,
                extra=item.rest(),
            )
        )

    def _other(self, kind: str, raw: msgspec.Raw, item: Members) -> None:
        found = self._find_tools(raw, item.path) if kind == "tool_search_output" else ()
        if kind in client_tools.CALLS and (call := client_tools.call_of(kind, raw)) is not None:
            self._turn.append(call)
            self._call_names[call.id] = call.name
        elif kind in client_tools.OUTPUTS and (result := client_tools.result_of(kind, raw, found)) is not None:
            self._say(Message(Role.TOOL, (result,)))
        elif kind in server_items.CALLS:
            self._turn.append(ServerTool(_ORIGIN, raw, server_items.note_on(kind, raw)))
        elif kind in server_items.OUTPUTS:
            block = ServerTool(_ORIGIN, raw, server_items.note_on(kind, raw))
            self._say(Message(Role.USER, (block,), extra={"==bare": encoded(value=True)}))
        else:
            self._turn.append(Unknown(_ORIGIN, raw))

    def _find_tools(self, raw: msgspec.Raw, path: str) -> tuple[str, ...]:
        listed = LIST.decode(client_tools.listed_tools(raw))
        found = parse_tools(listed, f"{path}.tools", self._names, is_elsewhere=True)
        known = {tool.name for tool in self.tools}
        self.tools += [tool for tool in found if isinstance(tool, Tool) and tool.name not in known]
        return tuple(tool.name for tool in found if isinstance(tool, Tool))


_READERS: Final[dict[str, Callable[[InputReader, msgspec.Raw, Members], None]]] = {
    "message": InputReader._message,  # noqa: SLF001 - a table of this class's own methods
    "function_call": InputReader._function_call,  # noqa: SLF001
    "custom_tool_call": InputReader._custom_call,  # noqa: SLF001
    "function_call_output": InputReader._function_output,  # noqa: SLF001
    "custom_tool_call_output": InputReader._custom_output,  # noqa: SLF001
    "reasoning": InputReader._reasoning,  # noqa: SLF001
}


def _with_head(
    raw: msgspec.Raw, parts: list[Text | Media | Refusal | Unknown], item: Members, *, is_plain: bool
) -> list[Block]:
    """Return the parts of a message of the model; the first one notes the rest of the item and how many there are."""
    first = parts[0] if parts else Text("")
    if isinstance(first, Unknown):
        return [Unknown(_ORIGIN, raw)]  # nothing to hang a note on
    notes = {
        **first.extra,
        "==item": encoded(put_back({}, item.rest())),
        "==parts": encoded(None if is_plain else len(parts)),
    }
    return [msgspec.structs.replace(first, extra=notes), *parts[1:]]


def _texts(item: Members, member: str, raw: msgspec.Raw | None) -> tuple[list[str], bool]:
    """Return the texts of a list of reasoning parts, and whether it is one plain part or none."""
    if raw is None:
        return [], True
    try:
        parts = _SUMMARY.decode(raw)
        members = [len(LIST_OF_OBJECTS.decode(raw)[0])] if len(parts) == 1 else []
    except msgspec.DecodeError:
        raise item.wrong(member, "an array of texts") from None
    is_usual = not parts or (members == [2] and parts[0].type == "summary_text" and parts[0].text != "")
    return [part.text for part in parts], is_usual


LIST_OF_OBJECTS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
