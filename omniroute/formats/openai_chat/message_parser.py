"""Messages of a Chat request to canonical messages.

What the canonical form says in other words is kept beside it under `SPELLING + member`, so that the request can go back
to this format as it came: null members, names of the reasoning member, calls by the old `function_call`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from omniroute.formats.canonical import (
    NO_EXTRA,
    Block,
    CallKind,
    Extra,
    Media,
    MediaKind,
    Message,
    Refusal,
    Role,
    ServerTool,
    SourceKind,
    Text,
    Thinking,
    Token,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import (
    NULL,
    BadShape,
    Members,
    is_text,
    list_of,
    object_of,
    take_list,
    take_object,
    take_raw,
    take_text,
    take_text_if_any,
    text_of,
)
from omniroute.formats.openai_chat.media import audio_of, file_of, image_of
from omniroute.formats.openai_chat.reasoning_details import PLAIN_NOTE, parse_detail
from omniroute.formats.wire import WireFormat

TOOL_ERROR: Final = "[tool error] "
"""How a result starts that reports a failure: the format has no flag for it."""

THINKING_FIELDS: Final = ("reasoning_content", "reasoning", "reasoning_text")
"""Members in which hosts carry reasoning as plain text."""

MEMBER_NOTE: Final = f"{SPELLING}member"
"""Marks a block that stood in a member of the message and not in its content."""

PART_NOTE: Final = f"{SPELLING}part"
"""Holds a part of the content that is written back as it was."""

_KNOWN: Final = frozenset(
    {"content", "name", "refusal", "audio", "tool_calls", "function_call", "tool_call_id", "reasoning_details"}
    | {"annotations", *THINKING_FIELDS}  # sources that an answer named are nothing that a model is told again
)
_TRUE: Final = msgspec.Raw(b"true")
_MARKED: Final[Extra] = {MEMBER_NOTE: _TRUE}


def parse_message(raw: msgspec.Raw) -> Message:
    """Return one message.

    Raises:
        BadShape: it is not a message of the format.
    """
    members = object_of(raw)
    role = take_text(members, "role")
    parse = _ROLES.get(role)
    if parse is None:
        raise BadShape("role", f"The role must be one of {', '.join(_ROLES)}.")
    return parse(members, role)


def spelt(members: Members, known: frozenset[str]) -> Extra:
    """Return what is left of an object: members that were known but said nothing become notes on spelling."""
    if not members:
        return NO_EXTRA
    return {SPELLING + name if name in known else name: value for name, value in members.items()}


# --- roles ---------------------------------------------------------------------------------------------------------


def _plain_role(members: Members, role: str) -> Message:
    raw = members.pop("content", None)
    if raw is None:
        raise BadShape("content", "This field is required.", is_missing=True)
    blocks, is_plain = _content(raw, members)
    name = take_text_if_any(members, "name")
    return Message(Role(role), blocks, is_plain, name, spelt(members, _KNOWN))


def _assistant(members: Members, role: str) -> Message:
    del role
    blocks = _reasoning(members)
    is_plain = False
    raw = members.pop("content", None)
    if raw is not None:
        content, is_plain = _content(raw, members)
        blocks += content
    refusal = take_text_if_any(members, "refusal")
    if refusal is not None:
        blocks.append(Refusal(refusal, _MARKED))
    audio = take_object(members, "audio")
    if audio is not None:
        blocks.append(_audio(audio))
    calls = take_list(members, "tool_calls")
    if calls:
        for index, item in enumerate(calls):
            try:
                blocks.append(_call(item))
            except BadShape as error:
                raise error.under(f"tool_calls.{index}") from None
    elif calls is not None:
        members["tool_calls"] = msgspec.Raw(b"[]")
    legacy = take_object(members, "function_call")
    if legacy is not None:
        blocks.append(_legacy_call(legacy))
    name = take_text_if_any(members, "name")
    return Message(Role.ASSISTANT, tuple(blocks), is_plain, name, spelt(members, _KNOWN))


def _tool(members: Members, role: str) -> Message:
    del role
    call_id = take_text(members, "tool_call_id")
    name = take_text_if_any(members, "name")
    return _result(members, call_id, name)


def _function(members: Members, role: str) -> Message:
    name = take_text(members, "name")
    members["role"] = msgspec.Raw(msgspec.json.encode(role))
    return _result(members, "", name, _KNOWN | {"role"})


def _result(members: Members, call_id: str, name: str | None, known: frozenset[str] = _KNOWN) -> Message:
    cache = take_raw(members, "cache_control")
    raw = members.pop("content", None)
    blocks, is_plain = ((), False) if raw is None else _content(raw, members)
    blocks, is_error = _without_error_mark(blocks)
    held = tuple(block for block in blocks if isinstance(block, Text | Media | ServerTool | Unknown))
    result = ToolResult(call_id, held, is_error, name=name, cache=cache, plain=is_plain)
    return Message(Role.TOOL, (result,), name=name, extra=spelt(members, known))


def _without_error_mark(blocks: tuple[Block, ...]) -> tuple[tuple[Block, ...], bool]:
    first = blocks[0] if blocks else None
    if not isinstance(first, Text):
        return blocks, False
    if first.text.startswith(TOOL_ERROR):
        return (msgspec.structs.replace(first, text=first.text[len(TOOL_ERROR) :]), *blocks[1:]), True
    is_bare = first == Text(TOOL_ERROR.rstrip()) and not (len(blocks) > 1 and isinstance(blocks[1], Text))
    return (blocks[1:], True) if is_bare else (blocks, False)


_ROLES: Final[dict[str, Callable[[Members, str], Message]]] = {
    "system": _plain_role,
    "developer": _plain_role,
    "user": _plain_role,
    "assistant": _assistant,
    "tool": _tool,
    "function": _function,
}


# --- content -------------------------------------------------------------------------------------------------------


def _content(raw: msgspec.Raw, members: Members) -> tuple[tuple[Block, ...], bool]:
    """Return the blocks of a content and whether it was a string; null and an empty list leave a note."""
    if is_text(raw):
        cache = members.get("cache_control")
        if cache is None or cache == NULL:
            return (Text(text_of(raw, "content")),), True
        members[SPELLING + "cache_control"] = members.pop("cache_control")  # on the message, as some proxies want it
        return (Text(text_of(raw, "content"), cache),), True
    if raw == NULL:
        members["content"] = raw
        return (), False
    blocks: list[Block] = []
    for index, item in enumerate(list_of(raw, "content")):
        try:
            blocks.append(_part(item))
        except BadShape as error:
            raise error.under(f"content.{index}") from None
    if not blocks:
        members["content"] = raw
    return tuple(blocks), False


def _part(raw: msgspec.Raw) -> Block:
    members = object_of(raw)
    kind = take_text(members, "type")
    match kind:
        case "text":
            text = take_text(members, "text")
            if not members:
                return Text(text)
            cache = take_raw(members, "cache_control")
            return Text(text, cache, extra=spelt(members, frozenset({"cache_control", "annotations"})))
        case "image_url":
            return image_of(members)
        case "input_audio":
            return audio_of(members)
        case "file":
            return file_of(members)
        case "refusal":
            return Refusal(take_text(members, "refusal"), members)
        case "video_url":
            return image_of(members, "video_url", MediaKind.VIDEO)
        case "thinking":
            return Thinking(thinking_text(members.get("thinking")), extra={PART_NOTE: raw})
        case _:
            return Unknown(WireFormat.OPENAI_CHAT, raw)


def thinking_text(raw: msgspec.Raw | None) -> str:
    """Return the text of a host's `thinking` part: a string, or a list of text parts.

    Raises:
        BadShape: it is neither.
    """
    if raw is None or raw == NULL:
        return ""
    if is_text(raw):
        return text_of(raw, "thinking")
    inner = (object_of(item, "thinking") for item in list_of(raw, "thinking"))
    return "".join(text_of(part["text"], "thinking") for part in inner if "text" in part)


def _audio(raw: msgspec.Raw) -> Media:
    members = object_of(raw, "audio")
    try:
        item_id = take_text(members, "id")
    except BadShape as error:
        raise error.under("audio") from None
    return Media(MediaKind.AUDIO, SourceKind.FILE_ID, item_id, extra={**_MARKED, f"{SPELLING}audio": raw})


def _reasoning(members: Members) -> list[Block]:
    """Return the reasoning of a turn; what stands twice, as text and in elements, is taken once."""
    plain = ""
    for name in THINKING_FIELDS:
        raw = members.get(name)
        if raw is not None and is_text(raw):
            plain = plain or text_of(raw, name)
    elements: list[Thinking] = []
    items = take_list(members, "reasoning_details")
    for index, item in enumerate(items or ()):
        try:
            elements.append(parse_detail(item))
        except BadShape as error:
            raise error.under(f"reasoning_details.{index}") from None
    if items is not None and not items:
        members["reasoning_details"] = msgspec.Raw(b"[]")
    if not plain or any(element.text for element in elements):
        return list(elements)
    signed = [position for position, element in enumerate(elements) if element.token and not element.redacted]
    if len(signed) == 1:  # the signature of the text that stands in the plain member
        position = signed[0]
        element = elements[position]
        extra = {**element.extra, PLAIN_NOTE: _TRUE}
        elements[position] = msgspec.structs.replace(element, text=plain, extra=extra)
        return list(elements)
    return [Thinking(plain, extra={PLAIN_NOTE: _TRUE}), *elements]


# --- calls ---------------------------------------------------------------------------------------------------------


def _call(raw: msgspec.Raw) -> ToolCall:
    members = object_of(raw)
    call_id = take_text(members, "id")
    kind = take_text_if_any(members, "type")
    if kind is None:
        kind = "custom" if "custom" in members and "function" not in members else "function"
    if kind not in {"function", "custom"}:
        raise BadShape("type", "The type of a tool call must be function or custom.")
    inner = _inner(members, kind)
    written = "input" if kind == "custom" else "arguments"
    try:
        name = take_text(inner, "name")
        arguments = arguments_of(inner.pop(written, NULL))
    except BadShape as error:
        raise error.under(kind) from None
    if inner:
        members[kind] = msgspec.Raw(msgspec.json.encode(inner))
    token = take_signature(members)
    return ToolCall(call_id, name, arguments, CallKind(kind), token, extra=spelt(members, frozenset({"index", "type"})))


def _inner(members: Members, name: str) -> Members:
    raw = members.pop(name, None)
    if raw is None:
        raise BadShape(name, "This field is required.", is_missing=True)
    return object_of(raw, name)


def _legacy_call(raw: msgspec.Raw) -> ToolCall:
    members = object_of(raw, "function_call")
    try:
        name = take_text(members, "name")
        arguments = arguments_of(members.pop("arguments", NULL))
    except BadShape as error:
        raise error.under("function_call") from None
    return ToolCall("", name, arguments, extra={f"{SPELLING}function_call": raw})


def arguments_of(raw: msgspec.Raw) -> str:
    """Return arguments as the text that they are; some write the object itself."""
    if is_text(raw):
        return text_of(raw, "arguments")
    if raw == NULL:
        return ""
    if bytes(memoryview(raw)[:1]) != b"{":
        raise BadShape("arguments", "This must be a string.")
    return bytes(raw).decode()


def take_signature(members: Members) -> Token | None:
    """Take the thought signature that Google's models put on a call."""
    raw = members.get("extra_content")
    if raw is None:
        return None
    try:
        found = _EXTRA_CONTENT.decode(raw)
    except msgspec.DecodeError:
        return None
    value = None if found is None or found.google is None else found.google.thought_signature
    if not value:
        return None
    members[f"{SPELLING}extra_content"] = members.pop("extra_content")
    return Token(value, WireFormat.OPENAI_CHAT)


class _Google(msgspec.Struct):
    thought_signature: str | None = None


class _ExtraContent(msgspec.Struct):
    google: _Google | None = None


_EXTRA_CONTENT: Final = msgspec.json.Decoder(_ExtraContent | None)
