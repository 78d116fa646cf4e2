"""The turns of a conversation that came in this very format, as the items that they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from omniroute.formats.canonical import (
    Block,
    CallKind,
    Media,
    Message,
    Refusal,
    Role,
    ServerTool,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import Pause
from omniroute.formats.openai_responses.members import OBJECT, note_of, put_back
from omniroute.formats.openai_responses.parts import write_part

_PARTS: Final = msgspec.json.Decoder(int | None)
_OUTPUT_TYPES: Final = {CallKind.FUNCTION: "function_call_output", CallKind.CUSTOM: "custom_tool_call_output"}


def write_items(messages: Sequence[Message], pause: Pause) -> list[Any]:
    """Return the items of a conversation."""
    items: list[Any] = []
    for message in messages:
        pause()
        if message.role is Role.ASSISTANT:
            _write_turn(message.blocks, items)
            continue
        results = [block for block in message.blocks if isinstance(block, ToolResult)]
        if results:
            items += [_write_result(result) for result in results]
        elif note_of(message.extra, "bare") is not None:
            items += [block.raw for block in message.blocks if isinstance(block, ServerTool)]
        else:
            items.append(_write_message(message))
    return items


def _write_message(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role.value}
    blocks = message.blocks
    if message.plain and len(blocks) == 1 and isinstance(blocks[0], Text):
        written["content"] = blocks[0].text
    else:
        written["content"] = [_part(block, "input_text") for block in blocks]
    return put_back(written, message.extra)


def _part(block: Block, text_type: str) -> Any:
    if isinstance(block, Text | Media | Refusal | Unknown):
        return write_part(block, text_type)
    return block.raw if isinstance(block, ServerTool) else None


def _write_turn(blocks: Sequence[Block], items: list[Any]) -> None:
    position = 0
    while position < len(blocks):
        block = blocks[position]
        position += 1
        match block:
            case Thinking():
                items.append(_write_reasoning(block))
            case ToolCall():
                items.append(_write_call(block))
            case Unknown(raw=raw) | ServerTool(raw=raw):
                items.append(raw)
            case Text(extra=extra) | Refusal(extra=extra) | Media(extra=extra):
                count = note_of(extra, "parts")
                number = 1 if count is None else _PARTS.decode(count)
                item = note_of(extra, "item")
                written: dict[str, Any] = {"role": "assistant"}
                if number is None and isinstance(block, Text):
                    written["content"] = block.text
                elif number == 0:
                    written["content"] = []
                else:
                    end = position - 1 + (number or 1)
                    written["content"] = [_part(one, "output_text") for one in blocks[position - 1 : end]]
                    position = end
                items.append(written if item is None else {**written, **OBJECT.decode(item)})
            case _:
                continue  # results have turns of their own


def _write_reasoning(thinking: Thinking) -> dict[str, Any]:
    written: dict[str, Any] = {"type": "reasoning"}
    if thinking.id is not None:
        written["id"] = thinking.id
    if note_of(thinking.extra, "no_summary") is None:
        written["summary"] = [{"type": "summary_text", "text": thinking.text}] if thinking.text else []
    if thinking.token is not None:
        written["encrypted_content"] = thinking.token.value
    return put_back(written, thinking.extra)


def _write_call(call: ToolCall) -> Any:
    whole = note_of(call.extra, "whole")
    if whole is not None:
        return whole
    written: dict[str, Any] = {"call_id": call.id, "name": call.name}
    if call.kind is CallKind.CUSTOM:
        written["type"], written["input"] = "custom_tool_call", call.arguments
    else:
        written["type"], written["arguments"] = "function_call", call.arguments
    return put_back(written, call.extra)


def _write_result(result: ToolResult) -> Any:
    whole = note_of(result.extra, "whole")
    if whole is not None:
        return whole
    written: dict[str, Any] = {"type": _OUTPUT_TYPES[result.kind], "call_id": result.call_id}
    blocks = result.blocks
    if result.plain and len(blocks) == 1 and isinstance(blocks[0], Text):
        written["output"] = blocks[0].text
    else:
        written["output"] = [_part(block, "input_text") for block in blocks]
    return put_back(written, result.extra)
