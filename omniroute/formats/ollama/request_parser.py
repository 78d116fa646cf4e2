"""An Ollama request to the canonical one; the inverse for the same format is `own_request.py`.

The format has no ids for calls unless client and server are new: they are made here from the places of the calls, so
that a conversation has the same ones every time. What was made is noted in `extra`, so that it does not go back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from omniroute.errors import UnsupportedFeature
from omniroute.formats.canonical import (
    NO_EXTRA,
    AnyTool,
    Block,
    Effort,
    Extra,
    Media,
    MediaKind,
    Message,
    Output,
    Reasoning,
    Request,
    Role,
    ServerToolDefinition,
    SourceKind,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from omniroute.formats.codec import Pause
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import (
    EMPTY_LIST,
    EMPTY_TEXT,
    NOTE,
    NULL,
    BadShape,
    Members,
    is_object,
    is_text,
    keep_spelling,
    list_of,
    missing,
    object_of,
    take_bool,
    take_float,
    take_int,
    take_list,
    take_object,
    take_text,
    take_text_if_any,
    take_texts,
    text_of,
)
from omniroute.formats.surrogates import mend
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.OLLAMA

UNSAID_STREAM: Final = NOTE + "stream"
"""The client did not say whether to stream, which means that it wants to."""
MADE_ID: Final = NOTE + "id"
"""The id of this call or result is ours."""
FUNCTION: Final = NOTE + "function"
"""What the inner object of a call or of a tool says beside what is known."""
OPTION: Final = "options."
"""In front of the names of options that only this format has."""

_TRUE: Final = msgspec.Raw(b"true")
_Value = TypeVar("_Value")


def parse_request(body: bytes, pause: Pause) -> Request:
    """See :class:`omniroute.formats.codec.RequestParser`; the body is that of `/api/chat`."""
    try:
        text = mend(body)
        pause()
        members = object_of(text)
        pause()
        system, messages = _Conversation().read(members, pause)
        return _parse(members, system, messages, pause)
    except BadShape as error:
        raise error.for_client() from None


def parse_generate_request(body: bytes, pause: Pause) -> Request:
    """Return the body of `/api/generate` as a chat with one message.

    Raises:
        UnsupportedFeature: the prompt is no message: it is written in the model's own template, goes on from a context
            of tokens, or surrounds a gap.
    """
    try:
        text = mend(body)
        pause()
        members = object_of(text)
        pause()
        _refuse_raw_prompts(members)
        blocks: tuple[Block, ...] = (Text(take_text(members, "prompt")), *_images(members))
        system = take_text_if_any(members, "system")
        first = (Message(Role.SYSTEM, (Text(system),), plain=True),) if system else ()
        messages = (Message(Role.USER, blocks, plain=len(blocks) == 1),)
        return _parse(members, first, messages, pause)
    except BadShape as error:
        raise error.for_client() from None


def _refuse_raw_prompts(members: Members) -> None:
    for name, empty in (("suffix", EMPTY_TEXT), ("template", EMPTY_TEXT), ("context", EMPTY_LIST)):
        if members.pop(name, empty) not in (empty, NULL):
            raise UnsupportedFeature(f"{name} cannot be translated into a conversation.", param=name)
    if take_bool(members, "raw"):
        raise UnsupportedFeature("A raw prompt cannot be translated into a conversation.", param="raw")


def _parse(members: Members, system: tuple[Message, ...], messages: tuple[Message, ...], pause: Pause) -> Request:
    options = _options(members)
    pause()
    request = Request(
        _ORIGIN,
        take_text(members, "model"),
        messages,
        system=system,
        tools=_tools(members),
        max_output=_max_output(options),
        temperature=_option(options, "temperature", take_float),
        top_p=_option(options, "top_p", take_float),
        top_k=_whole(options, "top_k"),
        seed=_whole(options, "seed"),
        frequency_penalty=_option(options, "frequency_penalty", take_float),
        presence_penalty=_option(options, "presence_penalty", take_float),
        stop=_option(options, "stop", take_texts),
        logprobs=take_bool(members, "logprobs"),
        top_logprobs=take_int(members, "top_logprobs"),
        reasoning=_reasoning(members),
        output=_output(members),
        stream=_stream(members),
    )
    for name, raw in options.items():
        prefix = SPELLING + OPTION if name.startswith(SPELLING) else OPTION
        members[prefix + name.removeprefix(SPELLING)] = raw
    return msgspec.structs.replace(request, extra=members or NO_EXTRA)


# --- messages --------------------------------------------------------------------------------------------------------


class _Conversation:
    """Reads the messages in order and knows which calls have no result yet."""

    __slots__ = ("_made", "_open", "_tool_results")

    def __init__(self) -> None:
        self._open: list[ToolCall] = []
        self._made = 0

    def read(self, members: Members, pause: Pause) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """Return the leading system messages, and the others."""
        raw = members.pop("messages", None)
        if raw is None:
            missing("messages")
        items = list_of(raw, "messages")
        pause()
        if not items:
            raise BadShape("messages", "At least one message is required.")
        system: list[Message] = []
        messages: list[Message] = []
        for index, item in enumerate(items):
            try:
                message = self._message(item)
            except BadShape as error:
                raise error.under(f"messages.{index}") from None
            is_leading = message.role is Role.SYSTEM and not messages
            (system if is_leading else messages).append(message)
            pause()
        return tuple(system), tuple(messages)

    def _message(self, raw: msgspec.Raw) -> Message:
        members = object_of(raw)
        role = take_text(members, "role")
        match role:
            case "user":
                said: tuple[Block, ...] = (*_content(members), *_images(members))
                return _message(Role.USER, said, members)
            case "system":
                return _message(Role.SYSTEM, tuple(_content(members)), members)
            case "assistant":
                return self._said(members)
            case "tool":
                return self._result(members)
            case _:
                raise BadShape("role", "This must be 'system', 'user', 'assistant' or 'tool'.")

    def _said(self, members: Members) -> Message:
        blocks: list[Block] = []
        thinking = take_text_if_any(members, "thinking")
        if thinking is not None:
            blocks.append(Thinking(thinking))
        blocks += _content(members)
        blocks += _images(members)
        self._open = []
        if members.get("tool_calls") == EMPTY_LIST:
            keep_spelling(members, "tool_calls")
        for index, raw in enumerate(take_list(members, "tool_calls") or ()):
            try:
                self._open.append(self._call(raw))
            except BadShape as error:
                raise error.under(f"tool_calls.{index}") from None
        return _message(Role.ASSISTANT, (*blocks, *self._open), members)

    def _call(self, raw: msgspec.Raw) -> ToolCall:
        members = object_of(raw)
        function = take_object(members, "function")
        if function is None:
            missing("function")
        inner = object_of(function)
        try:
            name = take_text(inner, "name")
            arguments = take_object(inner, "arguments")
        except BadShape as error:
            raise error.under("function") from None
        call_id = take_text_if_any(members, "id")
        self._made += 1
        if not call_id:
            call_id = f"call_{self._made}"
            members[MADE_ID] = _TRUE
        if inner:
            members[FUNCTION] = msgspec.Raw(msgspec.json.encode(inner))
        text = "" if arguments is None else bytes(arguments).decode()
        return ToolCall(call_id, name, text, extra=members or NO_EXTRA)

    def _result(self, members: Members) -> Message:
        blocks: tuple[Text | Media, ...] = (*_content(members), *_images(members))
        name = take_text_if_any(members, "tool_name")
        call_id = take_text_if_any(members, "tool_call_id")
        extra: dict[str, msgspec.Raw] = {}
        call = self._answered(call_id, name)
        if not call_id:
            self._made += 1
            call_id = f"call_{self._made}_without_call" if call is None else call.id
            extra[MADE_ID] = _TRUE
        if name is None and call is not None:
            extra[SPELLING + "tool_name"] = NULL
            name = call.name
        result = ToolResult(call_id, blocks, name=name, plain=len(blocks) == 1, extra=extra or NO_EXTRA)
        return Message(Role.TOOL, (result,), extra=members or NO_EXTRA)

    def _answered(self, call_id: str | None, name: str | None) -> ToolCall | None:
        """Return the call that a result belongs to: by id, else the first open one of the name, else the first one."""
        found = None
        if call_id:
            found = next((call for call in self._open if call.id == call_id), None)
        elif self._open:
            found = next((call for call in self._open if call.name == name), self._open[0] if name is None else None)
        if found is not None:
            self._open.remove(found)
        return found


def _message(role: Role, blocks: tuple[Block, ...], extra: Extra) -> Message:
    is_plain = len(blocks) == 1 and isinstance(blocks[0], Text)
    return Message(role, blocks, plain=is_plain, extra=extra or NO_EXTRA)


def _content(members: Members) -> list[Text]:
    """Return the text; a content that is there is a block, even an empty one."""
    text = take_text_if_any(members, "content")
    return [] if text is None else [Text(text)]


def _images(members: Members) -> list[Media]:
    if members.get("images") == EMPTY_LIST:
        keep_spelling(members, "images")
    return [Media(MediaKind.IMAGE, SourceKind.INLINE, data) for data in take_texts(members, "images")]


# --- tools -----------------------------------------------------------------------------------------------------------


def _tools(members: Members) -> tuple[AnyTool, ...]:
    if members.get("tools") == EMPTY_LIST:
        keep_spelling(members, "tools")
        return ()
    tools: list[AnyTool] = []
    for index, raw in enumerate(take_list(members, "tools") or ()):
        try:
            tools.append(_tool(raw))
        except BadShape as error:
            raise error.under(f"tools.{index}") from None
    return tuple(tools)


def _tool(raw: msgspec.Raw) -> AnyTool:
    members = object_of(raw)
    kind = take_text_if_any(members, "type")
    if kind not in (None, "function"):
        return ServerToolDefinition(_ORIGIN, kind or "", raw)
    if kind is not None:
        members[SPELLING + "type"] = msgspec.Raw(b'"function"')
    function = take_object(members, "function")
    if function is None:
        missing("function")
    inner = object_of(function)
    try:
        name = take_text(inner, "name")
        description = take_text_if_any(inner, "description")
        schema = take_object(inner, "parameters")
        strict = take_bool(inner, "strict")
    except BadShape as error:
        raise error.under("function") from None
    if inner:
        members[FUNCTION] = msgspec.Raw(msgspec.json.encode(inner))
    return Tool(name, description, schema, strict, extra=members or NO_EXTRA)


# --- options and the rest --------------------------------------------------------------------------------------------


def _options(members: Members) -> Members:
    raw = take_object(members, "options")
    if raw is None:
        return {}
    options = object_of(raw)
    if not options:
        members[SPELLING + "options"] = raw
    return options


def _option(options: Members, name: str, take: Callable[[Members, str], _Value]) -> _Value:
    try:
        return take(options, name)
    except BadShape as error:
        raise error.under("options") from None


def _whole(options: Members, name: str) -> int | None:
    """Take a whole number; clients in languages without integers write it with a point."""
    try:
        return _option(options, name, take_int)
    except BadShape:
        value = _option(options, name, take_float)
    if value is None:
        return None
    if value != int(value):
        raise BadShape(OPTION + name, "This must be an integer.")
    return int(value)


def _max_output(options: Members) -> int | None:
    raw = options.get("num_predict")
    limit = _whole(options, "num_predict")
    if limit is None or limit > 0:
        return limit
    if raw is not None:
        options[SPELLING + "num_predict"] = raw  # as much as it likes, which is what happens anyway
    return None


def _reasoning(members: Members) -> Reasoning | None:
    raw = members.get("think")
    if raw is None:
        return None
    if raw in (NULL, EMPTY_TEXT):
        keep_spelling(members, "think")
        return None
    if is_text(raw):
        word = text_of(raw, "think")
        if word not in _LEVELS:
            raise BadShape("think", "This must be true, false, 'low', 'medium' or 'high'.")
        del members["think"]
        return Reasoning(effort=Effort(word), is_visible=True)
    is_on = take_bool(members, "think")
    return Reasoning(is_adaptive=True, is_visible=True) if is_on else Reasoning(effort=Effort.NONE)


_LEVELS: Final = frozenset({"low", "medium", "high"})


def _output(members: Members) -> Output | None:
    raw = members.get("format")
    if raw is None:
        return None
    if raw in (NULL, EMPTY_TEXT):
        keep_spelling(members, "format")
        return None
    if is_object(raw):
        del members["format"]
        return Output(raw)
    if text_of(raw, "format") != "json":
        raise BadShape("format", "This must be 'json' or a JSON schema.")
    del members["format"]
    return Output()


def _stream(members: Members) -> bool:
    """Return whether to stream: an Ollama client has to refuse it."""
    if "stream" not in members:
        members[UNSAID_STREAM] = _TRUE
        return True
    return take_bool(members, "stream") is not False
