"""Canonical blocks to content blocks of Messages, as they are: nothing is merged, clamped or left out here."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.formats.arguments import object_for
from omniroute.formats.canonical import (
    NO_EXTRA,
    Block,
    Extra,
    Media,
    MediaKind,
    Refusal,
    ServerTool,
    SourceKind,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.losses import SPELLING, unsupported
from omniroute.formats.members import as_spelt
from omniroute.formats.wire import WireFormat

Rendered = dict[str, Any] | msgspec.Raw

_ORIGIN: Final = WireFormat.ANTHROPIC_MESSAGES


def render_block(block: Block, extra: Extra) -> Rendered | None:
    """Return a block; None for one that only another format can say.

    Args:
        block: any block; cache marks and citations of Messages are kept.
        extra: members to add, the block's own where they are of this format.
    """
    rendered, cache = _bare(block, extra)
    if rendered is None:
        return block.raw if isinstance(block, ServerTool | Unknown) and block.origin is _ORIGIN else None
    if cache is not None:
        rendered["cache_control"] = cache
    if extra:
        rendered.update(as_spelt(extra))
    return rendered


def _bare(block: Block, extra: Extra) -> tuple[dict[str, Any] | None, msgspec.Raw | None]:
    """Return a block without its extra members, and its cache mark."""
    match block:
        case Text(text=text, cache=cache, citations=citations):
            rendered: dict[str, Any] = {"type": "text", "text": text}
            own = [citation.raw for citation in citations if citation.origin is _ORIGIN]
            if own:
                rendered["citations"] = own
            return rendered, cache
        case Thinking(redacted=True, token=token):
            return {"type": "redacted_thinking", "data": "" if token is None else token.value}, None
        case Thinking(text=text, token=token):
            # The member is required; an empty one says that there is no signature, and never pretends to be one.
            return {"type": "thinking", "thinking": text, "signature": token.value if token else ""}, None
        case ToolCall(id=call_id, name=name, cache=cache):
            return {"type": "tool_use", "id": call_id, "name": name, "input": object_for(block)}, cache
        case ToolResult(cache=cache):
            return _result(block), cache
        case Media(cache=cache):
            return _media(block, extra), cache
        case Refusal(text=text):
            return {"type": "text", "text": text}, None
        case ServerTool() | Unknown():
            return None, None


def own_extra(block: Block) -> Extra:
    """Return what the block itself has in `extra`."""
    return NO_EXTRA if isinstance(block, ServerTool | Unknown) else block.extra


def render_own(block: Block) -> Rendered | None:
    """Return a block of a request or answer that was in this format."""
    return render_block(block, own_extra(block))


def _result(block: ToolResult) -> dict[str, Any]:
    rendered: dict[str, Any] = {"type": "tool_result", "tool_use_id": block.call_id}
    if block.plain and len(block.blocks) == 1 and isinstance(block.blocks[0], Text):
        rendered["content"] = block.blocks[0].text
    elif block.blocks:
        rendered["content"] = [inner for one in block.blocks if (inner := render_own(one)) is not None]
    if block.is_error:
        rendered["is_error"] = True
    return rendered


# --- media -----------------------------------------------------------------------------------------------------------


def _media(media: Media, extra: Extra) -> dict[str, Any]:
    is_image = media.kind is MediaKind.IMAGE
    if not is_image and media.kind is not MediaKind.DOCUMENT:
        raise unsupported("messages", f"This format takes no {media.kind.value} input.")
    rendered: dict[str, Any] = {"type": media.kind.value}
    if "source" not in extra and SPELLING + "source" not in extra:
        rendered["source"] = _source(media)
    if media.name is not None and not is_image:
        rendered["title"] = media.name
    return rendered


def _source(media: Media) -> dict[str, str]:
    match media.source:
        case SourceKind.URL:
            return {"type": "url", "url": media.data}
        case SourceKind.FILE_ID:
            return {"type": "file", "file_id": media.data}
        case SourceKind.TEXT:
            # The only type that a text may have here, whatever it is called elsewhere.
            return {"type": "text", "media_type": "text/plain", "data": media.data}
        case SourceKind.INLINE:
            return {"type": "base64", "media_type": media.mime or "", "data": media.data}
