"""The turns of a conversation of another format as items.

Items get no ids: ids are the vendor's, and it would look for what it never stored. Reasoning is the exception, because
its seal is tied to its id; reasoning without a seal means something only to hosts that want their reasoning back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from omniroute.formats.canonical import (
    Block,
    CallKind,
    Message,
    Refusal,
    Role,
    ServerTool,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from omniroute.formats.codec import Pause
from omniroute.formats.losses import Losses
from omniroute.formats.openai_responses.members import lost
from omniroute.formats.openai_responses.parts import render_part
from omniroute.formats.profile import Profile
from omniroute.formats.wire import WireFormat

_ERROR_MARK: Final = "[tool error] "
_OUTPUT_TYPES: Final = {CallKind.FUNCTION: "function_call_output", CallKind.CUSTOM: "custom_tool_call_output"}


def render_items(messages: Sequence[Message], profile: Profile, losses: Losses, pause: Pause) -> list[Any]:
    """Return the items of a conversation.

    Raises:
        UnsupportedFeature: it has content that this format cannot say.
    """
    renderer = _Renderer(profile, losses)
    for message in messages:
        pause()
        renderer.message(message)
    return renderer.items


class _Renderer:
    __slots__ = ("_losses", "_profile", "items")

    def __init__(self, profile: Profile, losses: Losses) -> None:
        self.items: list[Any] = []
        self._profile = profile
        self._losses = losses

    def message(self, message: Message) -> None:
        if message.name is not None:
            self._losses.drop("message.name")
        self._losses.drop_all("messages.extra", lost(message.extra))
        role = message.role
        if role in (Role.SYSTEM, Role.DEVELOPER):
            role = Role.DEVELOPER if self._profile.takes_developer else Role.SYSTEM
        text_type = "output_text" if role is Role.ASSISTANT else "input_text"
        parts: list[dict[str, Any]] = []
        for block in message.blocks:
            match block:
                case Thinking() | ToolCall() | ToolResult():
                    self._say(role, parts)
                    parts = []
                    self._item(block)
                case _:
                    parts.append(self._part(block, text_type))
        self._say(role, parts)

    def _part(self, block: Block, text_type: str) -> dict[str, Any]:
        if text_type == "output_text" and not isinstance(block, Text | Refusal | ServerTool):
            # A model cannot have said an image here: it goes beside the text, as a user's part would.
            return render_part(block, "input_text", self._losses)
        return render_part(block, text_type, self._losses)

    def _say(self, role: Role, parts: list[dict[str, Any]]) -> None:
        if not parts:
            return
        if role is Role.ASSISTANT and any(part["type"].startswith("input_") for part in parts):
            role = Role.USER
            parts = [{**part, "type": "input_text"} if part["type"] == "output_text" else part for part in parts]
        self.items.append({"type": "message", "role": role.value, "content": parts})

    def _item(self, block: Thinking | ToolCall | ToolResult) -> None:
        self._losses.drop_all("messages.extra", lost(block.extra))
        match block:
            case Thinking():
                self._reasoning(block)
            case ToolCall():
                if block.cache is not None:
                    self._losses.drop("cache")
                self.items.append(_call(block))
            case ToolResult():
                if block.cache is not None:
                    self._losses.drop("cache")
                self.items.append(self._result(block))

    def _reasoning(self, thinking: Thinking) -> None:
        token = thinking.token
        if token is not None and token.origin is WireFormat.OPENAI_RESPONSES:
            summary = [{"type": "summary_text", "text": thinking.text}] if thinking.text else []
            item: dict[str, Any] = {"type": "reasoning", "summary": summary, "encrypted_content": token.value}
            if thinking.id is not None:
                item["id"] = thinking.id
            self.items.append(item)
        elif self._profile.returns_thinking and thinking.text:
            content = [{"type": "reasoning_text", "text": thinking.text}]
            name = f"rs_{len(self.items)}"
            self.items.append({"type": "reasoning", "id": name, "summary": [], "content": content})
        else:
            self._losses.drop("thinking")

    def _result(self, result: ToolResult) -> dict[str, Any]:
        written: dict[str, Any] = {"type": _OUTPUT_TYPES[result.kind], "call_id": result.call_id}
        texts = [block.text for block in result.blocks if isinstance(block, Text)]
        for block in result.blocks:
            if isinstance(block, Text) and block.cache is not None:
                self._losses.drop("cache")
        is_text = len(texts) == len(result.blocks)
        if is_text and (len(texts) <= 1 or not self._profile.takes_result_media):
            text = "\n".join(texts)
            written["output"] = f"{_ERROR_MARK}{text}" if result.is_error else text
            return written
        parts = [render_part(block, "input_text", self._losses) for block in result.blocks]
        if result.is_error:
            first = parts[0]
            if first["type"] == "input_text":
                parts[0] = {**first, "text": f"{_ERROR_MARK}{first['text']}"}
            else:
                parts.insert(0, {"type": "input_text", "text": _ERROR_MARK.strip()})
        written["output"] = parts
        return written


def _call(call: ToolCall) -> dict[str, Any]:
    if call.kind is CallKind.CUSTOM:
        return {"type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": call.arguments}
    # Only JSON is accepted here, and no arguments are the empty object.
    arguments = call.arguments if call.arguments.strip() else "{}"
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}
