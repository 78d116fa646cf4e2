"""Messages of other formats as the turns of a Messages request: user and assistant by turns, results first.

What preparing guarantees is not looked at again: calls are answered right after their turn, ids and names fit, media
can be read. Here stands what is the format's own: how turns alternate, which blocks may stand where, and the
cache marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from omniroute.formats.anthropic_messages.content_renderer import Rendered, render_block
from omniroute.formats.canonical import (
    NO_EXTRA,
    Block,
    Media,
    Message,
    Refusal,
    Request,
    Role,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Unknown,
)
from omniroute.formats.codec import Pause
from omniroute.formats.losses import Losses, unsupported
from omniroute.formats.profile import Profile
from omniroute.formats.wire import WireFormat

_ORIGIN: Final = WireFormat.ANTHROPIC_MESSAGES

# Fixed texts: the same conversation has to give the same bytes, or the provider's prompt cache is lost.
OPENING: Final = "[The conversation begins with an answer of the assistant.]"
CONTINUE: Final = "Continue."
_NO_MESSAGE: Final = "[error without a message]"


class Marks:
    """The cache marks of one request, in the order of the prompt: tools, system, messages.

    The format takes four, and none for an hour behind one for five minutes. Where there are more, the last of the
    stable part (tools and system) stays and the last ones of the messages: each covers all that stands before it.
    """

    __slots__ = ("_kept", "_losses", "_number", "_saw_short")

    MOST: Final = 4

    def __init__(self, request: Request, losses: Losses) -> None:
        stable = sum(1 for tool in request.tools if isinstance(tool, Tool) and tool.cache is not None)
        stable += _count_marks(request.system)
        total = stable + _count_marks(request.messages)
        self._losses = losses
        self._number = 0
        self._saw_short = False
        self._kept: frozenset[int] | None = None
        if total > self.MOST:
            kept = set(range(total - self.MOST, total))
            if stable and stable - 1 not in kept:
                kept.remove(min(kept))
                kept.add(stable - 1)
            self._kept = frozenset(kept)

    def take(self, mark: msgspec.Raw) -> msgspec.Raw | None:
        """Return the next mark as it may stand; None when it may not."""
        number = self._number
        self._number += 1
        if self._kept is not None and number not in self._kept:
            self._losses.drop("cache")
            return None
        is_long = b'"1h"' in bytes(mark)
        if is_long and self._saw_short:
            self._losses.drop("cache")
            return _SHORT
        self._saw_short = self._saw_short or not is_long
        return mark


_SHORT: Final = msgspec.Raw(b'{"type":"ephemeral"}')


def _count_marks(messages: Iterable[Message]) -> int:
    return sum(1 for message in messages for block in message.blocks if _mark_of(block) is not None)


def _mark_of(block: Block) -> msgspec.Raw | None:
    if isinstance(block, Text):
        return None if _is_blank(block.text) else block.cache
    return block.cache if isinstance(block, ToolCall | ToolResult | Media) else None


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


# --- the turns -------------------------------------------------------------------------------------------------------


class _Turn:
    """One turn in the making."""

    __slots__ = ("blocks", "plain", "results", "role")

    def __init__(self, role: str) -> None:
        self.role = role
        self.results: list[Rendered] = []
        self.blocks: list[Rendered] = []
        self.plain: str | None = None
        """The text, where the turn is nothing but one string."""

    def rendered(self) -> msgspec.Raw:
        content: str | list[Rendered] = [*self.results, *self.blocks]
        if self.plain is not None and len(content) == 1:
            content = self.plain
        return msgspec.Raw(msgspec.json.encode({"role": self.role, "content": content}))


class TurnRenderer:
    """Renders the messages of one request."""

    def __init__(self, request: Request, profile: Profile, losses: Losses, marks: Marks) -> None:
        self._request = request
        self._profile = profile
        self._losses = losses
        self._marks = marks

    def render(self, pause: Pause, *, is_thinking: bool) -> list[msgspec.Raw]:
        """Return the turns, encoded one by one.

        Args:
            pause: called between messages.
            is_thinking: the model will think, so that it cannot go on with a turn of its own.
        """
        turns: list[msgspec.Raw] = []
        last: _Turn | None = None
        for turn in self._turns(pause):
            if last is not None:
                turns.append(last.rendered())
            elif turn.role != "user":
                turns.append(_text_turn(OPENING))
            last = turn
        if last is None:
            return [_text_turn(CONTINUE)]
        is_open = last.role == "assistant"
        if is_open and (self._profile.takes_prefill and not is_thinking):
            _trim_end(last)
        turns.append(last.rendered())
        if is_open and (not self._profile.takes_prefill or is_thinking):
            turns.append(_text_turn(CONTINUE))
        return turns

    def system(self) -> list[dict[str, Any]]:
        """Return the blocks of the system text."""
        blocks: list[dict[str, Any]] = []
        for message in self._request.system:
            self._note_extra(message)
            for block in message.blocks:
                if not isinstance(block, Text):
                    raise unsupported("system", "The system text of this model can only be text.")
                if not _is_blank(block.text):
                    blocks.append(self._with_mark({"type": "text", "text": block.text}, block.cache))
        return blocks

    def _turns(self, pause: Pause) -> Iterator[_Turn]:
        """Yield turns that have content, no two of one role in a row."""
        turn: _Turn | None = None
        for message in self._request.messages:
            self._note_extra(message)
            rendered = [(block, one) for block in message.blocks if (one := self._block(block)) is not None]
            if rendered:
                role = _ROLES[message.role]
                if turn is not None and turn.role != role:
                    yield turn
                    turn = None
                turn = turn or _Turn(role)
                self._add(turn, message, rendered)
            pause()
        if turn is not None:
            yield turn

    def _add(self, turn: _Turn, message: Message, rendered: list[tuple[Block, Rendered]]) -> None:
        is_first = not (turn.results or turn.blocks)
        for block, one in rendered:
            # Results stand first, or they answer nothing; text that came before them comes after.
            (turn.results if isinstance(block, ToolResult) else turn.blocks).append(one)
        only = message.blocks[0]
        is_string = is_first and message.plain and len(message.blocks) == 1
        turn.plain = only.text if is_string and isinstance(only, Text) and only.cache is None else None

    def _note_extra(self, message: Message) -> None:
        if message.extra:
            self._losses.drop_all("messages.extra", message.extra)
        if message.name is not None and message.role is not Role.TOOL:
            self._losses.drop("message.name")

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _block(self, block: Block) -> Rendered | None:  # noqa: C901, PLR0912 - one branch per kind of block
        match block:
            case Text(text=text):
                if _is_blank(text):
                    return None
                if any(citation.origin is not _ORIGIN for citation in block.citations):
                    self._losses.drop("citations")
            case Thinking(token=token):
                if token is None and (block.redacted or not self._profile.returns_thinking):
                    self._losses.drop("thinking")
                    return None
            case ToolResult():
                return self._result(block)
            case Media():
                if block.detail is not None:
                    self._losses.drop("media.detail")
            case ServerTool(origin=origin, note=note):
                if origin is not _ORIGIN:
                    return {"type": "text", "text": note} if not _is_blank(note) else None
                return block.raw
            case Unknown(origin=origin):
                if origin is not _ORIGIN:
                    raise unsupported("messages", "A block of this conversation means nothing to this model.")
                return block.raw
            case Refusal(text=text):
                if _is_blank(text):
                    return None
            case ToolCall():
                pass
        self._losses.drop_all("messages.extra", block.extra)
        mark = _mark_of(block)
        bare = block if mark is None else msgspec.structs.replace(block, cache=None)
        rendered = render_block(bare, NO_EXTRA)
        assert isinstance(rendered, dict)  # noqa: S101 - those that are not have returned above
        return self._with_mark(rendered, mark)

    def _result(self, result: ToolResult) -> dict[str, Any]:
        self._losses.drop_all("messages.extra", result.extra)
        rendered: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.call_id}
        inner: list[Rendered] = []
        for block in result.blocks:
            bare = msgspec.structs.replace(block, cache=None) if isinstance(block, Text | Media) else block
            one = self._block(bare)
            if one is not None:
                inner.append(one)
        if len(inner) == 1 and result.plain and isinstance(result.blocks[0], Text):
            rendered["content"] = result.blocks[0].text
        elif inner:
            rendered["content"] = inner
        elif result.is_error:
            rendered["content"] = _NO_MESSAGE  # an error without content is refused
        if result.is_error:
            rendered["is_error"] = True
        return self._with_mark(rendered, result.cache)

    def _with_mark(self, rendered: dict[str, Any], mark: msgspec.Raw | None) -> dict[str, Any]:
        if mark is not None and (taken := self._marks.take(mark)) is not None:
            rendered["cache_control"] = taken
        return rendered


_ROLES: Final = {
    Role.USER: "user",
    Role.TOOL: "user",
    Role.ASSISTANT: "assistant",
    Role.SYSTEM: "system",
    Role.DEVELOPER: "system",
}


def _text_turn(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({"role": "user", "content": text}))


def _trim_end(turn: _Turn) -> None:
    """Take white space from the end of the text that the model is to go on with: the format refuses it there."""
    if turn.plain is not None:
        turn.plain = turn.plain.rstrip()
    block = turn.blocks[-1]
    if isinstance(block, dict) and block["type"] == "text":
        block["text"] = block["text"].rstrip()
