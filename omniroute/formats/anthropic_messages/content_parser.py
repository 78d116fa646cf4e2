"""Content blocks of Messages, in requests and in answers, to canonical blocks.

Everything that a block says beside what its canonical form can say stays in `extra`, so that it comes back JSON-equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from omniroute.formats.anthropic_messages.notes import is_noted, note_for
from omniroute.formats.canonical import (
    NO_EXTRA,
    Block,
    Citation,
    Extra,
    Media,
    MediaKind,
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
    EMPTY_LIST,
    EMPTY_OBJECT,
    EMPTY_TEXT,
    FALSE,
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
    take_list,
    take_raw,
    take_text,
    take_text_if_any,
    text_of,
)
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.ANTHROPIC_MESSAGES


def parse_content(raw: msgspec.Raw | None, path: str = "content") -> tuple[tuple[Block, ...], bool]:
    """Return the blocks of a string or list of blocks, and whether it was a string."""
    if raw is None:
        missing(path)
    if is_text(raw):
        return (Text(text_of(raw, path)),), True
    blocks: list[Block] = []
    for index, item in enumerate(list_of(raw, path)):
        try:
            blocks.append(parse_block(item))
        except BadShape as error:
            raise error.under(f"{path}.{index}") from None
    return tuple(blocks), False


def parse_block(raw: msgspec.Raw) -> Block:
    """Return one block of a client's request.

    Raises:
        BadShape: a member that the type needs is missing or of another type.
    """
    members = object_of(raw)
    kind = take_text(members, "type")
    parse = _PARSERS.get(kind)
    if parse is not None:
        return parse(members, raw)
    if is_noted(kind):
        return ServerTool(_ORIGIN, raw, note_for(kind, members))
    return Unknown(_ORIGIN, raw)


def parse_answer_block(raw: msgspec.Raw) -> Block:
    """Return one block of a provider's answer: what a host leaves out or sends as null is empty.

    Raises:
        BadShape: it is not a block at all.
    """
    members = object_of(raw)
    kind = take_text(members, "type")
    members = {name: value for name, value in members.items() if value != NULL}
    for name, value in _EMPTY_ANSWER.get(kind, NO_EXTRA).items():
        members.setdefault(name, value)
    if members.get("citations") == EMPTY_LIST:
        del members["citations"]
    if kind == "tool_use":
        return _answered_call(members)
    parse = _PARSERS.get(kind)
    if parse is not None:
        return parse(members, raw)
    if is_noted(kind):
        return ServerTool(_ORIGIN, raw, note_for(kind, members))
    return Unknown(_ORIGIN, raw)


_EMPTY_ANSWER: Final[dict[str, Extra]] = {
    "text": {"text": EMPTY_TEXT},
    "thinking": {"thinking": EMPTY_TEXT, "signature": EMPTY_TEXT},
    "redacted_thinking": {"data": EMPTY_TEXT},
    "tool_use": {"id": EMPTY_TEXT, "name": EMPTY_TEXT, "input": EMPTY_OBJECT},
}


def parse_citation(raw: msgspec.Raw) -> Citation:
    """Return one citation. Its offsets count in the source and not in the text, so that they stay in `raw` only."""
    try:
        known = _CITATION.decode(raw)
    except msgspec.ValidationError:
        raise BadShape("", "This must be a citation.") from None
    return Citation(_ORIGIN, raw, url=known.url, title=known.title or known.document_title, cited_text=known.cited_text)


class _KnownOfCitation(msgspec.Struct):
    url: str | None = None
    title: str | None = None
    document_title: str | None = None
    cited_text: str | None = None


_CITATION: Final = msgspec.json.Decoder(_KnownOfCitation)


def _text(members: Members, raw: msgspec.Raw) -> Text:
    del raw
    text = take_text(members, "text")
    if not members:
        return Text(text)
    cache = take_raw(members, "cache_control")
    citations: tuple[Citation, ...] = ()
    if (listed := members.get("citations")) is not None:
        if listed == EMPTY_LIST:
            keep_spelling(members, "citations")
        else:
            citations = tuple(parse_citation(item) for item in take_list(members, "citations") or ())
    return Text(text, cache=cache, citations=citations, extra=members)


def _thinking(members: Members, raw: msgspec.Raw) -> Thinking:
    del raw
    text = take_text(members, "thinking")
    signature = take_text_if_any(members, "signature")
    return Thinking(text, Token(signature, _ORIGIN) if signature else None, extra=members)


def _redacted(members: Members, raw: msgspec.Raw) -> Thinking:
    del raw
    return Thinking("", Token(take_text(members, "data"), _ORIGIN), redacted=True, extra=members)


def _call(members: Members, raw: msgspec.Raw) -> ToolCall:
    del raw
    arguments = members.pop("input", None)
    if arguments is None:
        missing("input")
    if not is_object(arguments):
        raise BadShape("input", "This must be an object.")
    return ToolCall(
        take_text(members, "id"),
        take_text(members, "name"),
        bytes(arguments).decode(),
        cache=take_raw(members, "cache_control"),
        extra=members,
    )


def _answered_call(members: Members) -> ToolCall:
    return ToolCall(
        take_text(members, "id"), take_text(members, "name"), arguments_of(members.pop("input")), extra=members
    )


def arguments_of(raw: msgspec.Raw) -> str:
    """Return the `input` of a call as text; some hosts send the text itself."""
    return (text_of(raw) or "{}") if is_text(raw) else bytes(raw).decode()


def _result(members: Members, raw: msgspec.Raw) -> ToolResult:
    del raw
    call_id = take_text(members, "tool_use_id")
    is_error = take_bool(members, "is_error")
    if is_error is False:
        members[SPELLING + "is_error"] = FALSE
    content = members.pop("content", None)
    blocks: tuple[Text | Media | ServerTool | Unknown, ...] = ()
    is_plain = False
    if content is not None:
        if content in (NULL, EMPTY_LIST):
            members[SPELLING + "content"] = content
        elif is_text(content):
            blocks, is_plain = (Text(text_of(content)),), True
        else:
            blocks = tuple(_inside_result(index, item) for index, item in enumerate(list_of(content, "content")))
    cache = take_raw(members, "cache_control")
    return ToolResult(call_id, blocks, is_error=bool(is_error), cache=cache, plain=is_plain, extra=members)


def _inside_result(index: int, raw: msgspec.Raw) -> Text | Media | ServerTool | Unknown:
    try:
        block = parse_block(raw)
    except BadShape as error:
        raise error.under(f"content.{index}") from None
    if not isinstance(block, Text | Media | ServerTool | Unknown):
        raise BadShape(f"content.{index}.type", "A tool result cannot hold a block of this type.")
    return block


# --- media -----------------------------------------------------------------------------------------------------------


def _image(members: Members, raw: msgspec.Raw) -> Media | Unknown:
    return _media(MediaKind.IMAGE, members, raw)


def _document(members: Members, raw: msgspec.Raw) -> Media | Unknown:
    return _media(MediaKind.DOCUMENT, members, raw)


def _media(kind: MediaKind, members: Members, raw: msgspec.Raw) -> Media | Unknown:
    spelt = members.pop("source", None)
    if spelt is None:
        missing("source")
    source = object_of(spelt, "source")
    try:
        read = _read_source(source)
    except BadShape as error:
        raise error.under("source") from None
    if read is None:
        return Unknown(_ORIGIN, raw)
    where, data, mime, is_verbatim = read
    if source:
        members["source"] = spelt
    elif not is_verbatim:
        members[SPELLING + "source"] = spelt
    name = take_text_if_any(members, "title") if kind is MediaKind.DOCUMENT else None
    cache = take_raw(members, "cache_control")
    return Media(kind, where, data, mime, name, cache=cache, extra=members)


def _read_source(source: Members) -> tuple[SourceKind, str, str | None, bool] | None:
    """Return where the media is, its data and its type, and whether these are spelt as in the source.

    None for a source of a type that is not known, or that is more than a text.
    """
    match take_text(source, "type"):
        case "base64":
            return SourceKind.INLINE, take_text(source, "data"), take_text(source, "media_type"), True
        case "url":
            return SourceKind.URL, take_text(source, "url"), None, True
        case "file":
            return SourceKind.FILE_ID, take_text(source, "file_id"), None, True
        case "text":
            is_plain = take_text_if_any(source, "media_type") == "text/plain"
            return SourceKind.TEXT, take_text(source, "data"), "text/plain", is_plain
        case "content":
            text = _text_of_content(source.pop("content", None))
            return None if text is None else (SourceKind.TEXT, text, "text/plain", False)
        case _:
            return None


def _text_of_content(raw: msgspec.Raw | None) -> str | None:
    """Return the text of a document that is made of blocks; None when there is more than text in it."""
    blocks, _ = parse_content(raw)
    texts = [block.text for block in blocks if isinstance(block, Text)]
    return "\n".join(texts) if len(texts) == len(blocks) else None


_PARSERS: Final[dict[str, Callable[[Members, msgspec.Raw], Block]]] = {
    "text": _text,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _call,
    "tool_result": _result,
    "image": _image,
    "document": _document,
}
