"""Blocks of an answer from any format as Messages can show them to its clients."""

from __future__ import annotations

from typing import Final

from omniroute.formats.anthropic_messages.content_renderer import Rendered, render_block, render_own
from omniroute.formats.canonical import (
    NO_EXTRA,
    Answer,
    Block,
    Media,
    Refusal,
    ServerTool,
    SourceKind,
    Stop,
    Text,
    Thinking,
    ToolCall,
    Unknown,
    is_torn,
)
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.ANTHROPIC_MESSAGES


def render_answer_block(block: Block, answer: Answer) -> Rendered | None:
    """Return a block; None for one that the format cannot show."""
    match block:
        case ToolCall() if is_torn(block) and answer.stop in (Stop.LENGTH, Stop.CONTEXT_FULL):
            # Cut off in the middle: as a call it would be run with half of its arguments.
            return {"type": "text", "text": torn_call_text(block)}
        case ToolCall() | Text() | Thinking() | Refusal():
            return render_own(block) if answer.origin is _ORIGIN else render_block(block, NO_EXTRA)
        case _:
            text = text_in_place_of(block)
            if text is not None:
                return {"type": "text", "text": text} if text else None
            return render_own(block)


def text_in_place_of(block: Block) -> str | None:
    """Return the text that stands for a block which the format cannot say; None when it can say it."""
    match block:
        case ServerTool(origin=origin, note=note):
            return None if origin is _ORIGIN else note
        case Unknown(origin=origin):
            return None if origin is _ORIGIN else ""
        case Media(source=SourceKind.URL):
            return f"![{block.name or block.kind.value}]({block.data})"
        case Media():
            return f"[{block.kind.value} of type {block.mime or 'unknown'}, which this format cannot show]"
        case _:
            return None


def torn_call_text(call: ToolCall) -> str:
    """Say what a call was going to be that the output limit cut off."""
    return f"[The call of the tool {call.name} was cut off by the output limit: {call.arguments}]"
