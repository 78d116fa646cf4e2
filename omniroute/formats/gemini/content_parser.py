"""Contents of a request to canonical messages.

A content of the user may hold results and other parts; the results become a message of role TOOL in front of the rest.
Neighbouring contents of the model are one turn, and their pieces of text and of thought are put together again: clients
of streams keep every piece as a part, or even as a content, of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from omniroute.formats.canonical import (
    NO_EXTRA,
    Block,
    Extra,
    Media,
    Message,
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
from omniroute.formats.gemini.call_ids import CallIds
from omniroute.formats.gemini.media import kind_of, known_mime, locate, standard_base64
from omniroute.formats.gemini.notes import NOTED, note_for
from omniroute.formats.gemini.protojson import begins, elements_of, fields_of, take_bool, take_fields, take_text
from omniroute.formats.gemini.results import read_response
from omniroute.formats.losses import SPELLING
from omniroute.formats.members import EMPTY_OBJECT, BadShape, Members, is_text, missing, object_of, text_of
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.GEMINI
TEXT_SIGNATURE: Final = f"{SPELLING}thoughtSignature"
"""Where a signature stands that came with a text or with media: its maker likes to have it back but does not insist."""

_USER_ROLES: Final = frozenset({"", "user", "function", "tool"})


class Source(msgspec.Struct, frozen=True):
    """Where messages came from: the raw contents from `start` to `end`, and the messages made of them."""

    start: int
    end: int
    messages: tuple[Message, ...]


def parse_contents(raw: msgspec.Raw, pause: Callable[[], None]) -> tuple[list[msgspec.Raw], list[Source]]:
    """Return the raw contents, and in their order the messages that they are.

    Raises:
        BadShape: they are no contents.
    """
    contents = elements_of(raw)
    pause()
    reader = _Reader()
    for index, content in enumerate(contents):
        try:
            reader.take(index, content)
        except BadShape as error:
            raise error.under(str(index)) from None
        pause()
    reader.end_model_turn()
    return contents, reader.sources


def parse_system(raw: msgspec.Raw) -> tuple[Message, ...]:
    """Return the system instruction, which is a content, a list of parts or a string."""
    if is_text(raw):
        text = text_of(raw)
        return (Message(Role.SYSTEM, (Text(text),), plain=True),) if text else ()
    if begins(raw, "["):
        raw_parts: msgspec.Raw | None = raw
    else:
        fields = fields_of(raw)
        raw_parts = fields.get("parts") if _is_content(fields) else raw
    blocks: list[Text] = []
    for index, part in enumerate(elements_of(raw_parts, "parts")):
        block = _parsed_part(part, f"parts.{index}", CallIds())
        if block is None:
            continue
        if not isinstance(block, Text):
            raise BadShape(f"parts.{index}", "The system instruction holds nothing but text.")
        blocks.append(block)
    return (Message(Role.SYSTEM, tuple(blocks)),) if blocks else ()


class _Reader:
    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._ids = CallIds()
        self._turn: list[Block] = []
        """The blocks of the model's turn that is being read."""
        self._turn_start = -1
        self._end = 0

    def take(self, index: int, raw: msgspec.Raw) -> None:
        role, parts, path = _taken_apart(raw)
        if role == "model":
            if self._turn_start < 0:
                self._turn_start = index
                self._ids.begin_turn()
            self._take_model(parts, path)
            self._end = index + 1
            return
        self.end_model_turn()
        messages = self._user_messages(parts, path)
        self.sources.append(Source(index, index + 1, messages))

    def end_model_turn(self) -> None:
        if self._turn_start < 0:
            return
        blocks, self._turn = tuple(self._turn), []
        results = tuple(block for block in blocks if isinstance(block, ToolResult))
        said = tuple(block for block in blocks if not isinstance(block, ToolResult)) if results else blocks
        messages: tuple[Message, ...] = (Message(Role.ASSISTANT, said),) if said else ()
        if results:
            messages += (Message(Role.TOOL, results),)
        self.sources.append(Source(self._turn_start, self._end, messages))
        self._turn_start = -1

    def _take_model(self, parts: list[msgspec.Raw], path: str) -> None:
        turn = self._turn
        for index, part in enumerate(parts):
            block = _parsed_part(part, f"{path}{index}", self._ids)
            if block is None:
                continue
            joined = _joined(turn[-1], block) if turn else None
            if joined is None:
                turn.append(block)
            else:
                turn[-1] = joined

    def _user_messages(self, parts: list[msgspec.Raw], path: str) -> tuple[Message, ...]:
        results: list[ToolResult] = []
        rest: list[Block] = []
        for index, part in enumerate(parts):
            block = _parsed_part(part, f"{path}{index}", self._ids)
            if isinstance(block, ToolResult):
                results.append(block)
            elif isinstance(block, ToolCall):
                raise BadShape(f"{path}{index}.functionCall", "Only contents of the role model hold calls.")
            elif block is not None:
                rest.append(block)
        messages: tuple[Message, ...] = ()
        if results:
            messages = (Message(Role.TOOL, tuple(self._ids.paired(results))),)
        return (*messages, Message(Role.USER, tuple(rest))) if rest else messages


def _taken_apart(raw: msgspec.Raw) -> tuple[str, list[msgspec.Raw], str]:
    """Return role, parts and the path to them of a content; a lone part or string is one of the user."""
    if is_text(raw):
        return "user", [raw], ""
    fields = fields_of(raw)
    if not _is_content(fields):
        return "user", [raw], ""
    role = take_text(fields, "role") or ""
    parts = elements_of(fields.get("parts"), "parts")
    if role == "model":
        return role, parts, "parts."
    if role not in _USER_ROLES:
        raise BadShape("role", f"{role!r} is no role; it must be user or model.")
    if not role and any(_is_call(part) for part in parts):
        return "model", parts, "parts."
    return "user", parts, "parts."


def _is_content(fields: Members) -> bool:
    return "parts" in fields or "role" in fields or not fields


def _is_call(part: msgspec.Raw) -> bool:
    return begins(part, "{") and "functionCall" in fields_of(part)


# --- parts ---------------------------------------------------------------------------------------------------------


def _parsed_part(raw: msgspec.Raw, path: str, ids: CallIds) -> Block | None:
    try:
        return _part(raw, ids)
    except BadShape as error:
        raise error.under(path) from None


def _part(raw: msgspec.Raw, ids: CallIds) -> Block | None:
    """Return the block that a part is; None for one that says nothing."""
    if is_text(raw):
        text = text_of(raw)
        return Text(text) if text else None
    fields = fields_of(raw)
    is_thought = take_bool(fields, "thought") or False
    signature = take_text(fields, "thoughtSignature")
    if "text" in fields:
        return _text(fields, signature, is_thought=is_thought)
    name = next((one for one in fields if one in _PARSERS), None)
    if name is None:
        return _without_data(fields, raw, signature, is_thought=is_thought)
    if is_thought and name != "functionCall":
        return None  # a picture of a thought; thoughts that are not text mean nothing to anybody else
    block = _PARSERS[name](fields, ids)
    if signature:
        if isinstance(block, ToolCall):
            return msgspec.structs.replace(block, token=Token(signature, _ORIGIN))
        if isinstance(block, Media):
            return msgspec.structs.replace(block, extra={**block.extra, TEXT_SIGNATURE: _quoted(signature)})
    return block


def _without_data(fields: Members, raw: msgspec.Raw, signature: str | None, *, is_thought: bool) -> Block | None:
    for name in NOTED:
        if name in fields:
            return ServerTool(_ORIGIN, raw, note_for(name, fields[name]))
    if fields:
        return Unknown(_ORIGIN, raw)
    if not signature:
        return None
    if is_thought:  # without a text member: reasoning that was never shown
        return Thinking("", Token(signature, _ORIGIN), redacted=True)
    return Text("", extra={TEXT_SIGNATURE: _quoted(signature)})


def _text(fields: Members, signature: str | None, *, is_thought: bool) -> Block | None:
    text = take_text(fields, "text") or ""
    extra: Extra = fields or NO_EXTRA
    if is_thought:
        token = Token(signature, _ORIGIN) if signature else None
        return Thinking(text, token, extra=extra) if text or token is not None else None
    if signature:
        return Text(text, extra={**extra, TEXT_SIGNATURE: _quoted(signature)})
    return Text(text, extra=extra) if text else None


def _call(fields: Members, ids: CallIds) -> ToolCall:
    call = take_fields(fields, "functionCall")
    name = take_text(call, "name")
    if not name:
        missing("functionCall.name")
    args = call.pop("args", EMPTY_OBJECT)
    object_of(args, "functionCall.args")
    call_id = ids.call(take_text(call, "id") or "", name)
    return ToolCall(call_id, name, bytes(args).decode(), extra=call or NO_EXTRA)


def _result(fields: Members, ids: CallIds) -> ToolResult:
    del ids  # ids are given when all results of the content are known
    result = take_fields(fields, "functionResponse")
    text, is_error = read_response(result.pop("response", None))
    blocks: list[Text | Media | ServerTool | Unknown] = []
    parts = elements_of(result.pop("parts", None), "functionResponse.parts")
    if not parts or text not in {"", "{}"}:
        blocks.append(Text(text))
    for index, part in enumerate(parts):
        block = _parsed_part(part, f"functionResponse.parts.{index}", CallIds())
        if isinstance(block, Text | Media | ServerTool | Unknown):
            blocks.append(block)
    return ToolResult(
        take_text(result, "id") or "",
        tuple(blocks),
        is_error=is_error,
        name=take_text(result, "name") or None,
        extra=result or NO_EXTRA,
    )


def _inline(fields: Members, ids: CallIds) -> Media:
    del ids
    blob = take_fields(fields, "inlineData")
    data, mime = take_text(blob, "data"), take_text(blob, "mimeType")
    if not data:
        missing("inlineData.data")
    if not mime:
        missing("inlineData.mimeType")
    mime = known_mime(mime)
    name = take_text(blob, "displayName")
    return Media(
        kind_of(mime), SourceKind.INLINE, standard_base64(data), mime, name, extra={**fields, **blob} or NO_EXTRA
    )


def _file(fields: Members, ids: CallIds) -> Media:
    del ids
    file = take_fields(fields, "fileData")
    uri, mime = take_text(file, "fileUri"), take_text(file, "mimeType")
    if not uri:
        missing("fileData.fileUri")
    name = take_text(file, "displayName")
    try:
        source, kind, mime = locate(uri, known_mime(mime) if mime else None)
    except ValueError:
        raise BadShape("fileData.fileUri", "This is no address.") from None
    return Media(kind, source, uri, mime, name, extra={**fields, **file} or NO_EXTRA)


_PARSERS: Final[dict[str, Callable[[Members, CallIds], Block]]] = {
    "functionCall": _call,
    "functionResponse": _result,
    "inlineData": _inline,
    "fileData": _file,
}


def _quoted(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(text))


def _joined(before: Block, after: Block) -> Block | None:
    """Return two pieces of the model's turn as one block; None if they are no pieces of one."""
    if isinstance(before, Text) and isinstance(after, Text):
        if before.extra:
            return None
        return Text(before.text + after.text, extra=after.extra)
    if isinstance(before, Thinking) and isinstance(after, Thinking):
        # A signature stands with the last piece of what it signs.
        if before.token is not None or after.redacted or before.extra:
            return None
        return Thinking(before.text + after.text, after.token, extra=after.extra)
    return None
