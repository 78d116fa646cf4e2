"""Anthropic Messages, the asking side: check a body as the vendor would and read what it wants."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from omniroute.providers.sandbox.jsontext import dump, load_object
from omniroute.providers.sandbox.prompt import (
    Choice,
    Output,
    Prompt,
    PromptUsage,
    Result,
    Tool,
    decimal,
    digest_of,
    flag,
    whole_number,
)
from omniroute.providers.sandbox.prose import tokens
from omniroute.providers.sandbox.script import Dialect, VendorError

_MEDIA_CHARACTERS: Final = 6400  # a picture or a page counts as 1600 tokens
_LEAST_BUDGET: Final = 1024
_SIGNED: Final = b64encode(b"sandbox.").decode()[:10]  # how every signature of the sandbox begins
# Tools whose input the vendor defines and the client carries out, by the beginning of their versioned type.
_CLIENT_TOOLS: Final[Mapping[str, Any]] = {
    "bash_": {"required": ["command"], "properties": {"command": {"type": "string"}}},
    "text_editor_": {
        "required": ["command", "path"],
        "properties": {"command": {"const": "view"}, "path": {"const": "/README.md"}},
    },
    "computer_": {"required": ["action"], "properties": {"action": {"const": "screenshot"}}},
    "memory_": {
        "required": ["command", "path"],
        "properties": {"command": {"const": "view"}, "path": {"const": "/memories"}},
    },
}


def sign(thinking: str) -> str:
    """Return the signature of a thinking block: it follows from the text, so that a changed block is found out."""
    return b64encode(b"sandbox." + blake2b(thinking.encode("utf-8", "replace"), digest_size=48).digest()).decode()


def parse_request(body: bytes) -> Prompt:
    """Read the body of `POST /v1/messages`.

    Raises:
        VendorError: the vendor would refuse it.
    """
    asked = load_object(body)
    if asked.get("max_tokens") is None:
        raise VendorError(400, "max_tokens: Field required")
    max_tokens = whole_number(asked, "max_tokens", 1)
    decimal(asked, "temperature", 1)
    decimal(asked, "top_p", 1)
    has_reasoning = _has_reasoning(asked, max_tokens or 1)
    return _parse(asked, body, max_words=max_tokens, has_reasoning=has_reasoning)


def parse_count_request(body: bytes) -> int:
    """Read the body of `POST /v1/messages/count_tokens` and return the tokens of its prompt.

    Raises:
        VendorError: the vendor would refuse it.
    """
    return _parse(load_object(body), body, max_words=None, has_reasoning=True).usage.total


def _parse(asked: Mapping[str, Any], body: bytes, *, max_words: int | None, has_reasoning: bool) -> Prompt:
    model = asked.get("model")
    if model is None:
        raise VendorError(400, "model: Field required")
    if not isinstance(model, str) or not model:
        raise VendorError(400, "model: Input should be a valid string")
    count = _Count()
    tools = _tools(asked.get("tools"), count)
    _read_system(asked.get("system"), count)
    talk = _Talk(asked.get("messages"), count)
    choice, chosen, is_parallel = _choice(asked.get("tool_choice"), tools)
    return Prompt(
        Dialect.ANTHROPIC_MESSAGES,
        model,
        digest_of(body),
        talk.text,
        count.usage(talk.has_answers),
        is_stream=flag(asked, "stream", False),
        tools=tools,
        choice=choice,
        chosen=chosen,
        is_parallel=is_parallel,
        results=tuple(talk.results),
        max_words=max_words,
        stops=_stops(asked.get("stop_sequences")),
        output=_output(asked),
        has_reasoning=has_reasoning,
    )


class _Count:
    """Characters of the prompt in the order in which the vendor caches them, and where the last cache mark is."""

    __slots__ = ("characters", "is_long_lived", "marked")

    def __init__(self) -> None:
        self.characters = 0
        self.marked = 0
        self.is_long_lived = False

    def add(self, characters: int, holder: Mapping[str, Any]) -> None:
        """Count a block; its `cache_control` marks everything up to here."""
        self.characters += characters
        mark = holder.get("cache_control")
        if isinstance(mark, dict):
            self.marked = self.characters
            self.is_long_lived = mark.get("ttl") == "1h"

    def usage(self, has_answers: bool) -> PromptUsage:
        """Return the tokens: in a conversation that goes on the marked part was kept before, else it is kept now."""
        total, marked = tokens(self.characters), self.marked // 4
        if not marked:
            return PromptUsage(total)
        if has_answers:
            return PromptUsage(total, cache_read=marked)
        if self.is_long_lived:
            return PromptUsage(total, cache_write_1h=marked)
        return PromptUsage(total, cache_write_5m=marked)


class _Talk:
    """The messages of a request, checked one after the other."""

    __slots__ = ("_count", "_open", "has_answers", "results", "text")

    def __init__(self, messages: Any, count: _Count) -> None:
        if messages is None:
            raise VendorError(400, "messages: Field required")
        if not isinstance(messages, list):
            raise VendorError(400, "messages: Input should be a valid list")
        if not messages:
            raise VendorError(400, "messages: at least one message is required")
        self.text = ""
        self.results: list[Result] = []
        self.has_answers = False
        self._count = count
        self._open: dict[str, str] = {}
        for index, message in enumerate(messages):
            self._read(message, f"messages.{index}", is_first=not index, is_last=index == len(messages) - 1)
        if self._open:
            raise VendorError(400, f"messages: `tool_use` without `tool_result`: {', '.join(self._open)}")

    def _read(self, message: Any, path: str, *, is_first: bool, is_last: bool) -> None:
        if not isinstance(message, dict):
            raise VendorError(400, f"{path}: Input should be an object")
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):  # system text inside a conversation: the newest models take it
            raise VendorError(400, f"{path}.role: Input should be 'user', 'assistant' or 'system'")
        if is_first and role != "user":
            raise VendorError(400, "messages: the first message must use the user role")
        if not content and not (role == "assistant" and is_last):
            raise VendorError(400, f"{path}: the content must not be empty")
        if role == "assistant":
            self.has_answers = True
            self.results.clear()
        if isinstance(content, str):
            self._count.add(len(content), message)
            said = content
        elif isinstance(content, list):
            said = self._blocks(content, role, f"{path}.content")
        else:
            raise VendorError(400, f"{path}.content: Input should be a valid string or list")
        if role == "user":
            if self._open:
                raise VendorError(400, f"{path}: `tool_use` without `tool_result` just after: {', '.join(self._open)}")
            if said:
                self.text = said

    def _blocks(self, blocks: list[Any], role: str, path: str) -> str:
        said: list[str] = []
        calls: dict[str, str] = {}
        for index, block in enumerate(blocks):
            at = f"{path}.{index}"
            kind = block.get("type") if isinstance(block, dict) else None
            match kind:
                case "text":
                    text = block.get("text")
                    if not isinstance(text, str) or not text:
                        raise VendorError(400, f"{at}.text: text content blocks must be non-empty")
                    self._count.add(len(text), block)
                    said.append(text)
                case "tool_use":
                    call_id, name = block.get("id"), block.get("name")
                    if role != "assistant" or not isinstance(call_id, str) or not isinstance(name, str):
                        raise VendorError(400, f"{at}: `tool_use` blocks need an id and a name, from the assistant")
                    if not isinstance(block.get("input"), dict):
                        raise VendorError(400, f"{at}.input: Input should be a valid dictionary")
                    calls[call_id] = name
                    self._count.add(len(name) + len(dump(block["input"])), block)
                case "tool_result":
                    self._take_result(block, role, at)
                case "thinking":
                    self._take_thinking(block, at)
                case str():
                    self._count.add(_MEDIA_CHARACTERS if kind in ("image", "document") else 4, block)
                case _:
                    raise VendorError(400, f"{at}.type: Field required")
        if role == "assistant":
            self._open = calls
        return "".join(said)

    def _take_result(self, block: Mapping[str, Any], role: str, path: str) -> None:
        call_id = block.get("tool_use_id")
        name = self._open.pop(call_id, None) if role == "user" and isinstance(call_id, str) else None
        if name is None:
            raise VendorError(400, f"{path}: `tool_use_id` has no `tool_use` block in the message before")
        content = block.get("content")
        if isinstance(content, list):
            text = "".join(part.get("text", "") for part in content if isinstance(part, dict))
        else:
            text = content if isinstance(content, str) else ""
        self._count.add(len(text), block)
        self.results.append(Result(name, text, block.get("is_error") is True))

    def _take_thinking(self, block: Mapping[str, Any], path: str) -> None:
        thinking, signature = block.get("thinking"), block.get("signature")
        if not isinstance(thinking, str) or not isinstance(signature, str):
            raise VendorError(400, f"{path}: `thinking` blocks need their text and `signature`")
        # Only signatures of our own making can be checked; those of other vendors are for their gateways to keep away.
        if signature.startswith(_SIGNED) and signature != sign(thinking):
            raise VendorError(400, f"{path}: Invalid `signature` in `thinking` block")
        self._count.add(len(thinking), block)


def _read_system(system: Any, count: _Count) -> None:
    if system is None:
        return
    if isinstance(system, str):
        count.add(len(system), {})
        return
    if not isinstance(system, list):
        raise VendorError(400, "system: Input should be a valid string or list")
    for index, block in enumerate(system):
        if not isinstance(block, dict) or not isinstance(block.get("text"), str):
            raise VendorError(400, f"system.{index}.text: Field required")
        count.add(len(block["text"]), block)


def _has_reasoning(asked: Mapping[str, Any], max_tokens: int) -> bool:
    thinking = asked.get("thinking")
    match thinking:
        case None | {"type": "adaptive"}:
            return True
        case {"type": "disabled"}:
            return False
        case {"type": "enabled", "budget_tokens": int(budget)}:
            if budget < _LEAST_BUDGET:
                raise VendorError(400, f"thinking.budget_tokens: must be at least {_LEAST_BUDGET}")
            if budget >= max_tokens:
                raise VendorError(400, "max_tokens: must be greater than `thinking.budget_tokens`")
            return True
        case _:
            raise VendorError(400, "thinking: Input should be 'enabled' with a budget, 'adaptive' or 'disabled'")


def _tools(tools: Any, count: _Count) -> tuple[Tool, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise VendorError(400, "tools: Input should be a valid list")
    read: dict[str, Tool] = {}
    for index, tool in enumerate(tools):
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str) or not name:
            raise VendorError(400, f"tools.{index}.name: Field required")
        if name in read:
            raise VendorError(400, "tools: tool names must be unique")
        count.add(len(dump(tool)), tool)
        kind = tool.get("type") or "custom"
        if kind == "custom":
            schema = tool.get("input_schema")
            if not isinstance(schema, dict) or schema.get("type") != "object":
                raise VendorError(400, f"tools.{index}.input_schema: a schema of type 'object' is required")
            read[name] = Tool(name, schema)
            continue
        # Tools that the vendor carries out itself (web search and the like) are known but never called here.
        schema = next((s for start, s in _CLIENT_TOOLS.items() if str(kind).startswith(start)), None)
        if schema is not None:
            read[name] = Tool(name, schema)
    return tuple(read.values())


def _choice(choice: Any, tools: tuple[Tool, ...]) -> tuple[Choice, str | None, bool]:
    if choice is None:
        return Choice.AUTO, None, True
    if not isinstance(choice, dict):
        raise VendorError(400, "tool_choice: Input should be an object")
    is_parallel = not flag(choice, "disable_parallel_tool_use", False)
    match choice:
        case {"type": "auto"}:
            return Choice.AUTO, None, is_parallel
        case {"type": "none"}:
            return Choice.NONE, None, is_parallel
        case {"type": "any"} if tools:
            return Choice.ANY, None, is_parallel
        case {"type": "tool", "name": str(name)}:
            if all(tool.name != name for tool in tools):
                raise VendorError(400, f"tool_choice: Tool '{name}' not found in provided tools")
            return Choice.ONE, name, is_parallel
        case _:
            raise VendorError(400, "tool_choice: may only be given with tools, as 'auto', 'any', 'tool' or 'none'")


def _stops(stops: Any) -> tuple[str, ...]:
    if stops is None:
        return ()
    if not isinstance(stops, list) or not all(isinstance(s, str) for s in stops):
        raise VendorError(400, "stop_sequences: Input should be a list of strings")
    if not all(s.strip() for s in stops):
        raise VendorError(400, "stop_sequences: each stop sequence must contain non-whitespace")
    return tuple(stops)


def _output(asked: Mapping[str, Any]) -> Output | None:
    config = asked.get("output_config")
    match config:
        case None:
            return None
        case {"format": {"type": "json_schema", "schema": dict(schema)}}:
            return Output(schema)
        case {"format": None} | dict() if not config.get("format"):
            return None
        case _:
            raise VendorError(400, "output_config.format: Input should be a json_schema format")
