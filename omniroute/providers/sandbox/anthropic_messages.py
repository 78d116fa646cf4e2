"""Anthropic Messages, the conversation: check it as the vendor would and note what it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.prompt import Media, PromptUsage, Record
from omniroute.providers.sandbox.prose import tokens
from omniroute.providers.sandbox.script import VendorError
from omniroute.providers.sandbox.seal import Purpose, is_sealed, seal, unpack

_MEDIA_CHARACTERS: Final = 6400  # a picture or a page counts as 1600 tokens
_MOST_MARKS: Final = 4
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_PICTURES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
# Blocks of tools that the vendor runs itself; what they hold is its own business.
_SERVER_BLOCKS: Final = frozenset(
    (
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "mcp_tool_use",
        "mcp_tool_result",
        "container_upload",
        "search_result",
        "tool_reference",
        "compaction",
    )
)
_USER_BLOCKS: Final = ("text", "image", "document", "tool_result", "search_result")
_THINK_FIRST: Final = (
    "Expected `thinking` or `redacted_thinking`, but found `{found}`. When `thinking` is enabled, a final `assistant` "
    "message must start with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks). "
    "We recommend you include thinking blocks from previous turns. To avoid this requirement, disable `thinking`. "
    "Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
)


def sign(thinking: str) -> str:
    """Return the signature of a thinking block: it follows from the text, so that a changed block is found out."""
    return seal(Purpose.THINKING, thinking)


class Count:
    """Characters of the prompt in the order in which the vendor caches them, and where its cache marks are."""

    __slots__ = ("_has_short", "characters", "is_long_lived", "marked", "marks")

    def __init__(self) -> None:
        self.characters = 0
        self.marked = 0
        self.marks = 0
        self.is_long_lived = False
        self._has_short = False

    def add(self, characters: int, holder: Mapping[str, Any], path: str) -> None:
        """Count a block; its `cache_control` marks everything up to here."""
        self.characters += characters
        mark = holder.get("cache_control")
        if mark is None:
            return
        if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
            raise VendorError(400, f"{path}.cache_control.type: Input should be 'ephemeral'")
        lifetime = mark.get("ttl") or "5m"
        if lifetime not in ("5m", "1h"):
            raise VendorError(400, f"{path}.cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
        if lifetime == "1h" and self._has_short:
            raise VendorError(
                400,
                f"{path}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: "
                "`tools`, `system`, `messages`.",
            )
        self._has_short = self._has_short or lifetime == "5m"
        self.marks += 1
        self.marked = self.characters
        self.is_long_lived = lifetime == "1h"

    def check(self) -> None:
        """Refuse more marks than the vendor takes."""
        if self.marks > _MOST_MARKS:
            raise VendorError(
                400,
                f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided. Found {self.marks}.",
            )

    def usage(self, *, has_answers: bool) -> PromptUsage:
        """Return the tokens: in a conversation that goes on the marked part was kept before, else it is kept now."""
        total, marked = tokens(self.characters), self.marked // 4
        if not marked:
            return PromptUsage(total)
        if has_answers:
            return PromptUsage(total, cache_read=marked)
        if self.is_long_lived:
            return PromptUsage(total, cache_write_1h=marked)
        return PromptUsage(total, cache_write_5m=marked)


class MessagesReader:
    """Reads the messages one after the other into a record."""

    __slots__ = ("_answered", "_count", "_ids", "_open", "_opened_at", "_turn_start", "record")

    def __init__(self, record: Record, messages: Any, count: Count) -> None:
        if messages is None:
            raise VendorError(400, "messages: Field required")
        if not isinstance(messages, list):
            raise VendorError(400, "messages: Input should be a valid list")
        if not messages:
            raise VendorError(400, "messages: at least one message is required")
        self.record = record
        self._count = count
        self._open: dict[str, str] = {}
        self._opened_at = 0
        self._ids: set[str] = set()
        self._answered: set[str] = set()
        self._turn_start: tuple[str, str] | None = None
        for index, message in enumerate(messages):
            if not isinstance(message, dict):
                raise VendorError(400, f"messages.{index}: Input should be an object")
            self._read(message, index, is_last=index == len(messages) - 1)
        if self._open:
            raise self._unanswered()

    def check_thinking(self) -> None:
        """Refuse a tool turn in progress that does not begin with thinking, for requests that switched it on."""
        if self._turn_start is not None and self._turn_start[1] not in ("thinking", "redacted_thinking"):
            path, found = self._turn_start
            raise VendorError(400, f"{path}: {_THINK_FIRST.format(found=found)}")

    def _read(self, message: Mapping[str, Any], index: int, *, is_last: bool) -> None:
        path = f"messages.{index}"
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):  # system text inside a conversation: the newest models take it
            raise VendorError(400, f"{path}.role: Input should be 'user' or 'assistant'")
        if not index and role != "user":
            raise VendorError(400, 'messages: first message must use the "user" role')
        if content is None:
            raise VendorError(400, f"{path}.content: Field required")
        if not content and not (role == "assistant" and is_last):
            raise VendorError(
                400,
                f"{path}: all messages must have non-empty content except for the optional final assistant message",
            )
        if self._open and role != "user":
            raise self._unanswered()
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list):
            raise VendorError(400, f"{path}.content: Input should be a valid list")
        match role:
            case "assistant":
                self._assistant(blocks, path, index, is_last=is_last)
            case "user":
                self._user(blocks, path)
            case _:
                self.record.system("".join(self._text(b, path) for b in blocks if isinstance(b, dict)))

    def _user(self, blocks: list[Any], path: str) -> None:
        said: list[str] = []
        has_results, has_other = False, False
        for index, block in enumerate(blocks):
            at = f"{path}.content.{index}"
            kind = _kind(block, at)
            if kind == "tool_result":
                if has_other and self._open:
                    raise self._unanswered()
                self._result(block, at)
                has_results = True
                continue
            has_other = True
            if kind == "tool_use":
                raise VendorError(400, f"{path}: `tool_use` blocks can only be in `assistant` messages")
            if kind == "text":
                said.append(self._text(block, at))
            else:
                self._other(block, kind, at)
        if self._open:
            raise self._unanswered()
        if not has_results:
            self._turn_start = None
        self._answered.clear()
        self.record.user("".join(said))

    def _assistant(self, blocks: list[Any], path: str, index: int, *, is_last: bool) -> None:
        said: list[str] = []
        calls: list[tuple[str, str]] = []
        kinds: list[str] = []
        for position, block in enumerate(blocks):
            at = f"{path}.content.{position}"
            kind = _kind(block, at)
            kinds.append(kind)
            match kind:
                case "text" if blocks == [{"type": "text", "text": ""}]:
                    continue
                case "text":
                    said.append(self._text(block, at))
                case "tool_use":
                    calls.append(self._call(block, at))
                case "thinking" | "redacted_thinking":
                    self._thinking(block, kind, at)
                case "tool_result":
                    raise VendorError(400, f"{path}: `tool_result` blocks can only be in `user` messages")
                case _:
                    self._other(block, kind, at)
        if is_last and said and said[-1] != said[-1].rstrip() and kinds[-1] == "text":
            raise VendorError(400, "messages: final assistant content cannot end with trailing whitespace")
        if kinds and self._turn_start is None and ("tool_use" in kinds or kinds[0] != "text"):
            self._turn_start = (f"{path}.content.0.type", kinds[0])
        self.record.assistant("".join(said))
        self._opened_at = index
        for name, arguments in calls:
            self.record.call(name, arguments)

    def _text(self, block: Mapping[str, Any], path: str) -> str:
        text = block.get("text")
        if text is None:
            raise VendorError(400, f"{path}.text.text: Field required")
        if not isinstance(text, str):
            raise VendorError(400, f"{path}.text.text: Input should be a valid string")
        if not text:
            raise VendorError(400, "messages: text content blocks must be non-empty")
        if not text.strip():
            raise VendorError(400, "messages: text content blocks must contain non-whitespace text")
        self._count.add(len(text), block, path)
        return text

    def _call(self, block: Mapping[str, Any], path: str) -> tuple[str, str]:
        call_id, name = block.get("id"), block.get("name")
        for field, value in (("id", call_id), ("name", name), ("input", block.get("input"))):
            if value is None:
                raise VendorError(400, f"{path}.tool_use.{field}: Field required")
        if not isinstance(call_id, str) or _ID.fullmatch(call_id) is None:
            raise VendorError(400, f"{path}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not isinstance(name, str) or not 1 <= len(name) <= 200:
            raise VendorError(400, f"{path}.tool_use.name: String should have at most 200 characters")
        if not isinstance(block["input"], dict):
            raise VendorError(400, f"{path}.tool_use.input: Input should be a valid dictionary")
        if call_id in self._ids:
            raise VendorError(400, "messages: `tool_use` ids must be unique")
        self._ids.add(call_id)
        self._open[call_id] = name
        arguments = dump(block["input"]).decode()
        self._count.add(len(name) + len(arguments), block, path)
        return name, arguments

    def _result(self, block: Mapping[str, Any], path: str) -> None:
        call_id = block.get("tool_use_id")
        if not isinstance(call_id, str):
            raise VendorError(400, f"{path}.tool_result.tool_use_id: Field required")
        if call_id in self._answered:
            raise VendorError(
                400,
                f"{path}: each tool_use must have a single result. "
                f"Found multiple `tool_result` blocks with id: {call_id}",
            )
        name = self._open.pop(call_id, None)
        if name is None:
            raise VendorError(
                400,
                f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message.",
            )
        self._answered.add(call_id)
        content = block.get("content")
        said: list[str] = []
        if isinstance(content, list):
            for index, part in enumerate(content):
                at = f"{path}.tool_result.content.{index}"
                kind = _kind(part, at)
                if kind == "text":
                    said.append(self._text(part, at))
                else:
                    self._other(part, kind, at)
        elif isinstance(content, str):
            said.append(content)
            self._count.add(len(content), {}, path)
        elif content is not None:
            raise VendorError(400, f"{path}.tool_result.content: Input should be a valid list")
        self._count.add(0, block, path)
        self.record.result(name, "".join(said), is_error=block.get("is_error") is True)

    def _thinking(self, block: Mapping[str, Any], kind: str, path: str) -> None:
        if "cache_control" in block:
            raise VendorError(400, f"{path}.{kind}.cache_control: Extra inputs are not permitted")
        if kind == "redacted_thinking":
            data = block.get("data")
            if not isinstance(data, str):
                raise VendorError(400, f"{path}.redacted_thinking.data: Field required")
            if not is_sealed(Purpose.REDACTED, data):
                raise VendorError(400, f"{path}: Invalid `data` in `redacted_thinking` block")
            return
        thinking, signature = block.get("thinking"), block.get("signature")
        for field, value in (("signature", signature), ("thinking", thinking)):
            if not isinstance(value, str):
                raise VendorError(400, f"{path}.thinking.{field}: Field required")
        if not is_sealed(Purpose.THINKING, str(signature), str(thinking)):
            raise VendorError(400, f"{path}: Invalid `signature` in `thinking` block")
        self._count.add(len(str(thinking)), {}, path)

    def _other(self, block: Mapping[str, Any], kind: str, path: str) -> None:
        if kind in ("image", "document"):
            self._count.add(_MEDIA_CHARACTERS, block, path)
            self.record.media.append(_media(block, kind, path))
        elif kind in _SERVER_BLOCKS:
            self._count.add(4, block, path)
        else:
            listed = ", ".join(f"'{name}'" for name in (*_USER_BLOCKS, "thinking", "redacted_thinking", "tool_use"))
            raise VendorError(
                400, f"{path}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {listed}"
            )

    def _unanswered(self) -> VendorError:
        return VendorError(
            400,
            f"messages.{self._opened_at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(self._open)}. Each `tool_use` block must have a corresponding `tool_result` block "
            "in the next message.",
        )


def _kind(block: Any, path: str) -> str:
    if not isinstance(block, dict):
        raise VendorError(400, f"{path}: Input should be an object")
    kind = block.get("type")
    if not isinstance(kind, str):
        raise VendorError(400, f"{path}.type: Field required")
    return kind


def _media(block: Mapping[str, Any], kind: str, path: str) -> Media:
    source = block.get("source")
    at = f"{path}.{kind}.source"
    if not isinstance(source, dict):
        raise VendorError(400, f"{at}: Field required")
    mime = source.get("media_type")
    match source.get("type"):
        case "base64":
            allowed = _PICTURES if kind == "image" else ("application/pdf",)
            if mime not in allowed:
                listed = " or ".join(f"'{name}'" for name in allowed)
                raise VendorError(400, f"{at}.base64.media_type: Input should be {listed}")
            data = source.get("data")
            if not isinstance(data, str) or not data or unpack(data) is None:
                raise VendorError(400, f"{at}.base64: invalid base64 data")
            return Media(kind, str(mime), data)
        case "url" if isinstance(source.get("url"), str):
            return Media(kind, "", source["url"], "url")
        case "file" if isinstance(source.get("file_id"), str):
            return Media(kind, "", source["file_id"], "file")
        case "text" if kind == "document" and isinstance(source.get("data"), str):
            return Media(kind, "text/plain", source["data"], "text")
        case "content" if kind == "document":
            return Media(kind, "", dump(source.get("content")).decode(), "text")
        case other:
            raise VendorError(
                400,
                f"{at}: Input tag '{other}' found using 'type' does not match any of the expected tags: "
                "'base64', 'url', 'file'",
            )
