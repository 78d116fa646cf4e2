"""What an answer says, block by block, in members of Ollama's `message`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from omniroute.formats.arguments import object_for
from omniroute.formats.canonical import (
    Block,
    Media,
    MediaKind,
    Refusal,
    ServerTool,
    SourceKind,
    Stop,
    Text,
    Thinking,
    ToolCall,
    is_torn,
)
from omniroute.formats.ollama.stops import LENGTHS


def call_members(call: ToolCall, index: int) -> dict[str, Any]:
    """Return one call. Its id is new to the format; clients that do not know it pass it over."""
    function = {"index": index, "name": call.name, "arguments": object_for(call)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def is_cut_off(call: ToolCall, stop: Stop) -> bool:
    """Say whether a call must not be shown as one: it was cut off and would be run with half of its arguments."""
    return stop in LENGTHS and is_torn(call)


def cut_off_text(call: ToolCall) -> str:
    """Say what a call was going to be that the output limit cut off."""
    return f"[The call of the tool {call.name} was cut off by the output limit: {call.arguments}]"


def text_of(block: Block) -> str:
    """Return the visible text of a block; of what the format cannot show, a note."""
    match block:
        case Text(text=text) | Refusal(text=text) | ServerTool(note=text):
            return text
        case Media(source=SourceKind.URL):
            return f"![{block.name or block.kind.value}]({block.data})"
        case Media() if not is_image(block):
            return f"[{block.kind.value} of type {block.mime or 'unknown'}, which this format cannot show]"
        case _:
            return ""


def is_image(block: Block) -> bool:
    """Say whether a block is an image that the format can hold."""
    return isinstance(block, Media) and block.kind is MediaKind.IMAGE and block.source is SourceKind.INLINE


def message_of(blocks: tuple[Block, ...], stop: Stop) -> dict[str, Any]:
    """Return the `message` of a whole answer."""
    texts: list[str] = []
    thinking: list[str] = []
    calls: list[dict[str, Any]] = []
    images: list[str] = []
    for block in blocks:
        match block:
            case ToolCall() if is_cut_off(block, stop):
                texts.append(cut_off_text(block))
            case ToolCall():
                calls.append(call_members(block, len(calls)))
            case Thinking(text=text):
                thinking.append(text)
            case Media(data=data) if is_image(block):
                images.append(data)
            case _:
                texts.append(text_of(block))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
    if any(thinking):
        message["thinking"] = "".join(thinking)
    if images:
        message["images"] = images
    if calls:
        message["tool_calls"] = calls
    return message


def render_time(created: int) -> str:
    """Return epoch seconds as the format writes them."""
    return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
