"""Canonical messages to the messages of a Chat request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import (
    Block,
    CallKind,
    Extra,
    Media,
    Message,
    Refusal,
    Role,
    ServerTool,
    Text,
    Thinking,
    Token,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.losses import SPELLING, Losses, unsupported
from omniroute.formats.members import NULL, object_of
from omniroute.formats.openai_chat.media import part_of
from omniroute.formats.openai_chat.message_parser import MEMBER_NOTE, PART_NOTE, THINKING_FIELDS, TOOL_ERROR
from omniroute.formats.openai_chat.reasoning_details import PLAIN_NOTE, detail_of, is_detail
from omniroute.formats.profile import Profile

Json = dict[str, Any]

_MEMBER_NOTES: Final = frozenset({MEMBER_NOTE, PART_NOTE})
_BETWEEN_TEXTS: Final = "\n\n"


# --- a message of this format, as it was ---------------------------------------------------------------------------


def as_sent(message: Message) -> Json:
    """Return a message that was parsed from this format JSON-equal to what it was."""
    written: Json = {"role": message.role.value}
    if message.role is Role.TOOL:
        result = next((block for block in message.blocks if isinstance(block, ToolResult)), None)
        if result is not None:
            _result_as_sent(result, written)
    else:
        _content_as_sent(message, written)
    if message.name is not None:
        written["name"] = message.name
    if message.extra:
        put_back(written, message.extra)
    return written


def put_back(written: Json, extra: Extra) -> None:
    """Add what a value kept of its own format, spellings in the place of what was rendered."""
    for name, value in extra.items():
        if not name.startswith(SPELLING):
            written[name] = value
        elif name not in _MEMBER_NOTES:
            written[name.removeprefix(SPELLING)] = value


def _result_as_sent(result: ToolResult, written: Json) -> None:
    if result.call_id:
        written["tool_call_id"] = result.call_id
    blocks: Sequence[Block] = result.blocks
    if result.is_error:
        blocks = _with_error_mark(blocks)
    if result.plain:
        written["content"] = "".join(block.text for block in blocks if isinstance(block, Text))
    elif blocks:
        written["content"] = [_part_as_sent(block) for block in blocks]
    if result.cache is not None:
        written["cache_control"] = result.cache


def _content_as_sent(message: Message, written: Json) -> None:
    parts: list[Any] = []
    calls: list[Json] = []
    details: list[Json] = []
    for block in message.blocks:
        match block:
            case Text(text=text) if message.plain:
                written["content"] = text
            case ToolCall(extra=extra):
                legacy = extra.get(f"{SPELLING}function_call")
                if legacy is None:
                    calls.append(_call_as_sent(block))
                else:
                    written["function_call"] = legacy
            case Thinking(extra=extra) if PART_NOTE not in extra:
                if is_detail(block):
                    details.append(detail_of(block))
                elif PLAIN_NOTE not in extra:
                    written[THINKING_FIELDS[0]] = block.text
            case Refusal(text=text, extra=extra) if MEMBER_NOTE in extra:
                written["refusal"] = text
            case Media(extra=extra) if MEMBER_NOTE in extra:
                written["audio"] = extra[f"{SPELLING}audio"]
            case _:
                parts.append(_part_as_sent(block))
    if parts:
        written["content"] = parts
    if details:
        written["reasoning_details"] = details
    if calls:
        written["tool_calls"] = calls


def _part_as_sent(block: Block) -> Any:
    match block:
        case Text(text=text, cache=cache, extra=extra):
            part: Json = {"type": "text", "text": text}
        case Refusal(text=text, extra=extra):
            part, cache = {"type": "refusal", "refusal": text}, None
        case Media(cache=cache, extra=extra):
            part = part_of(block) or {}
        case Thinking(extra=extra):
            return extra[PART_NOTE]
        case Unknown(raw=raw) | ServerTool(raw=raw):
            return raw
        case _:
            raise AssertionError(f"{type(block).__name__} is no part of a content")
    if cache is not None:
        part["cache_control"] = cache
    if extra:
        put_back(part, extra)
    return part


def _call_as_sent(call: ToolCall) -> Json:
    kind = call.kind.value
    inner: Json = {"name": call.name, "input" if call.kind is CallKind.CUSTOM else "arguments": call.arguments}
    written: Json = {"id": call.id, "type": kind, kind: inner}
    for name, value in call.extra.items():
        if name == kind:
            inner.update(object_of(value))
        else:
            written[name.removeprefix(SPELLING)] = value
    sent = written.get("extra_content")
    if sent is not None or call.token is not None:
        _put_signature(written, sent, call.token)
    return written


def _put_signature(written: Json, sent: msgspec.Raw | None, token: Token | None) -> None:
    """Write the signature that the call has now, which may be another than the client's, beside what it stood with."""
    if sent is None or sent == NULL:
        written["extra_content"] = signature_of(token)
        return
    content: Json = dict(object_of(sent))
    google: Json = dict(object_of(content["google"])) if "google" in content and content["google"] != NULL else {}
    google.pop("thought_signature", None)
    if token is not None:
        google["thought_signature"] = token.value
    content["google"] = google
    written["extra_content"] = content


# --- a message of any other format ---------------------------------------------------------------------------------


class Translator:
    """Writes prepared messages for one target."""

    def __init__(self, profile: Profile, losses: Losses) -> None:
        self._profile = profile
        self._losses = losses

    def messages_of(self, message: Message) -> list[Json]:
        """Return the messages that one turn becomes: one, or one for each result.

        Raises:
            UnsupportedFeature: a block has no place in the format.
        """
        if message.extra:
            self._losses.drop_all("messages.extra", message.extra)
        written = [self._result(block) for block in message.blocks if isinstance(block, ToolResult)]
        if message.role is Role.TOOL:
            return written
        if message.role is Role.ASSISTANT:
            turn = self._assistant(message)
        else:
            turn = {"role": self._role(message.role), "content": self._content(message.blocks)}
        if message.name is not None:
            if self._profile.takes_names:
                turn["name"] = message.name
            else:
                self._losses.drop("message.name")
        if not written or len(message.blocks) > len(written):
            written.append(turn)
        return written

    def _role(self, role: Role) -> str:
        return "system" if role is Role.DEVELOPER and not self._profile.takes_developer else role.value

    def _assistant(self, message: Message) -> Json:
        said = [block for block in message.blocks if isinstance(block, Text | Refusal | ServerTool | Unknown | Media)]
        calls = [self._call(block) for block in message.blocks if isinstance(block, ToolCall)]
        thoughts = [block for block in message.blocks if isinstance(block, Thinking)]
        turn: Json = {"role": "assistant"}
        refusal = "".join(block.text for block in said if isinstance(block, Refusal))
        if refusal and self._profile.is_vendor:
            said = [block for block in said if not isinstance(block, Refusal)]
            turn["content"] = self._content(said) if said else None
            turn["refusal"] = refusal
        else:
            turn["content"] = None if calls and not said else self._content(said)
        if thoughts:
            self._think(thoughts, turn)
        if calls:
            turn["tool_calls"] = calls
        return turn

    def _think(self, thoughts: Iterable[Thinking], turn: Json) -> None:
        field = self._profile.thinking_field
        text = "".join(block.text for block in thoughts)
        details = [detail_of(block, index) for index, block in enumerate(thoughts) if block.token is not None]
        if details:
            turn["reasoning_details"] = details
        if self._profile.returns_thinking and field is not None and text:
            turn[field] = text
        elif not details:
            self._losses.drop("thinking")

    def _content(self, blocks: Iterable[Block]) -> Any:
        """Return a string where one will do: hosts that copy the format take it everywhere, lists not always."""
        parts = [part for block in blocks if (part := self._part(block)) is not None]
        if all(part["type"] == "text" for part in parts):
            if len(parts) <= 1:
                return parts[0]["text"] if parts else ""
            if not self._profile.takes_text_parts:
                return _BETWEEN_TEXTS.join(part["text"] for part in parts)
        return parts

    def _part(self, block: Block) -> Json | None:
        match block:
            case Text(text=text):
                self._note(block)
                return {"type": "text", "text": text}
            case Refusal(text=text):
                return {"type": "text", "text": text}
            case Media():
                self._losses.drop_all("messages.extra", block.extra)
                if block.cache is not None:
                    self._losses.drop("cache")
                part = part_of(block)
                if part is None:
                    raise unsupported("messages", f"{self._profile.model} cannot be sent {block.kind} by its address.")
                return part
            case Unknown() | ServerTool():
                raise unsupported("messages", f"A block of this type means nothing to {self._profile.model}.")
            case _:
                return None

    def _note(self, text: Text) -> None:
        if text.cache is not None:
            self._losses.drop("cache")
        if text.citations:
            self._losses.drop("citations")
        if text.extra:
            self._losses.drop_all("messages.extra", text.extra)

    def _call(self, call: ToolCall) -> Json:
        if call.cache is not None:
            self._losses.drop("cache")
        if call.extra:
            self._losses.drop_all("messages.extra", call.extra)
        if call.kind is CallKind.CUSTOM:
            custom = {"name": call.name, "input": call.arguments}
            written: Json = {"id": call.id, "type": "custom", "custom": custom}
        else:
            function = {"name": call.name, "arguments": call.arguments or "{}"}
            written = {"id": call.id, "type": "function", "function": function}
        if call.token is not None:
            written["extra_content"] = signature_of(call.token)
        return written

    def _result(self, result: ToolResult) -> Json:
        if result.cache is not None:
            self._losses.drop("cache")
        self._losses.drop_all("messages.extra", result.extra)
        blocks: Sequence[Block] = _with_error_mark(result.blocks) if result.is_error else result.blocks
        return {"role": "tool", "tool_call_id": result.call_id, "content": self._content(blocks)}


def signature_of(token: Token | None) -> Json | None:
    """Return a call's signature in the member in which Google's own servers of this format keep it."""
    return None if token is None else {"google": {"thought_signature": token.value}}


def _with_error_mark(blocks: Sequence[Block]) -> Sequence[Block]:
    first = blocks[0] if blocks else None
    if isinstance(first, Text):
        return (msgspec.structs.replace(first, text=TOOL_ERROR + first.text), *blocks[1:])
    return (Text(TOOL_ERROR.rstrip()), *blocks)
