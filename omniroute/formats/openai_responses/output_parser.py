"""The items of `output` as blocks of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from omniroute.formats.canonical import (
    NO_EXTRA,
    Block,
    CallKind,
    Citation,
    Extra,
    Refusal,
    ServerTool,
    Stop,
    Text,
    Thinking,
    Token,
    ToolCall,
    Unknown,
    stop_of,
)
from omniroute.formats.openai_responses import client_tools, server_items
from omniroute.formats.openai_responses.members import NULL, encoded, is_text
from omniroute.formats.openai_responses.tools import flat_name
from omniroute.formats.wire import WireFormat

ORIGIN: Final = WireFormat.OPENAI_RESPONSES
PARAGRAPH: Final = "\n\n"
"""Stands between the parts of a summary."""


class Part(msgspec.Struct):
    """A part of a message, or of reasoning."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    annotations: list[msgspec.Raw] | None = None
    logprobs: msgspec.Raw = NULL


class Item(msgspec.Struct):
    """An item of `output`, as far as this package knows its type."""

    type: str | None = None
    id: str | None = None
    content: list[Part] | None = None
    phase: str | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: msgspec.Raw = NULL
    input: str | None = None


class _Typed(msgspec.Struct):
    type: str | None = None


class _Annotation(msgspec.Struct):
    url: str | None = None
    title: str | None = None
    filename: str | None = None
    start_index: int | None = None
    end_index: int | None = None


_ITEM: Final = msgspec.json.Decoder(Item)
_TYPED: Final = msgspec.json.Decoder(_Typed)
_ANNOTATION: Final = msgspec.json.Decoder(_Annotation)
_EMPTY_LIST: Final = msgspec.Raw(b"[]")
_TEXT: Final = msgspec.json.Decoder(str)


def read_item(raw: msgspec.Raw) -> Item:
    """Read an item; of one in an unexpected shape only the type is read."""
    try:
        return _ITEM.decode(raw)
    except msgspec.ValidationError:
        pass
    try:
        kind = _TYPED.decode(raw).type
    except msgspec.ValidationError:
        kind = None
    return Item(f"unreadable {kind}" if kind in {"message", "reasoning", *CALL_KINDS} else kind)


CALL_KINDS: Final = {"function_call": CallKind.FUNCTION, "custom_tool_call": CallKind.CUSTOM}


def blocks_of(items: Iterable[msgspec.Raw]) -> tuple[Block, ...]:
    """Return the blocks of all items, in order."""
    return tuple(block for raw in items for block in blocks_of_item(raw, read_item(raw)))


def blocks_of_item(raw: msgspec.Raw, item: Item) -> Iterator[Block]:
    """Yield the blocks of one item; nothing for one that says nothing."""
    match item.type:
        case "message":
            extra = message_extra(item)
            for part in item.content or ():
                if part.refusal:
                    yield Refusal(part.refusal, extra=extra)
                elif part.text:
                    citations = tuple(citation_of(one) for one in part.annotations or ())
                    yield Text(part.text, citations=citations, logprobs=logprobs_of(part.logprobs), extra=extra)
        case "reasoning":
            text = PARAGRAPH.join(part.text for part in item.summary or item.content or () if part.text)
            if text or item.encrypted_content:
                yield thinking_head(item, text)
        case "function_call" | "custom_tool_call":
            head = call_head(item)
            yield msgspec.structs.replace(head, arguments=arguments_of(item))
        case kind:
            yield other_block(raw, kind or "")


def message_extra(item: Item) -> Extra:
    """Return the note by which the parts of one message are known to belong together."""
    if item.id is None and item.phase is None:
        return NO_EXTRA
    return {"==message": encoded([item.id, item.phase])}


def thinking_head(item: Item, text: str) -> Thinking:
    """Return the reasoning that an item holds; one with nothing but a seal is redacted.

    An empty part says that there is reasoning which is not shown.
    """
    token = Token(item.encrypted_content, ORIGIN) if item.encrypted_content else None
    is_redacted = token is not None and not (text or item.summary or item.content)
    return Thinking(text, token, redacted=is_redacted, id=item.id)


def call_head(item: Item) -> ToolCall:
    """Return the call that an item holds, without its arguments."""
    name = item.name or ""
    extra: Extra = NO_EXTRA
    if item.namespace:
        extra = {"=namespace": encoded(item.namespace), "=name": encoded(name)}
        name = flat_name(item.namespace, name)
    return ToolCall(item.call_id or "", name, "", CALL_KINDS[item.type or ""], extra=extra)


def arguments_of(item: Item) -> str:
    """Return the arguments of a call; some hosts write them as an object."""
    if item.type == "custom_tool_call":
        return item.input or ""
    if item.arguments == NULL:
        return ""
    return _TEXT.decode(item.arguments) if is_text(item.arguments) else bytes(item.arguments).decode()


def other_block(raw: msgspec.Raw, kind: str) -> Block:
    """Return the block of an item that does not come in pieces."""
    if kind in client_tools.CALLS:
        call = client_tools.call_of(kind, raw)
        if call is not None:
            return msgspec.structs.replace(call, extra=NO_EXTRA)
    if kind in server_items.CALLS or kind in server_items.OUTPUTS:
        return ServerTool(ORIGIN, raw, server_items.note_on(kind, raw))
    return Unknown(ORIGIN, raw)


def citation_of(raw: msgspec.Raw) -> Citation:
    """Return an annotation as a citation."""
    try:
        read = _ANNOTATION.decode(raw)
    except msgspec.ValidationError:
        return Citation(ORIGIN, raw)
    return Citation(ORIGIN, raw, read.url, read.title or read.filename, start=read.start_index, end=read.end_index)


def logprobs_of(raw: msgspec.Raw) -> msgspec.Raw | None:
    """Return logprobs; None when there are none."""
    return None if raw in (NULL, _EMPTY_LIST) else raw


def stop_for(reason: str | None, blocks: Iterable[Block], *, is_incomplete: bool) -> Stop:
    """Return why an answer ended: the format says only that it is complete, or what kept it from being so."""
    blocks = tuple(blocks)
    calls = [block for block in blocks if isinstance(block, ToolCall)]
    if is_incomplete:
        return stop_of(Stop.REFUSAL if reason == "content_filter" else Stop.LENGTH, calls)
    if not calls and any(isinstance(block, Refusal) for block in blocks):
        return Stop.REFUSAL
    return stop_of(Stop.END, calls)
