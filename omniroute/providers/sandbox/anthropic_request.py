"""Anthropic Messages, the asking side: check a body as the vendor would and read what it wants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox.anthropic_messages import Count, MessagesReader
from omniroute.providers.sandbox.jsontext import dump, load_object
from omniroute.providers.sandbox.prompt import (
    Choice,
    Output,
    Prompt,
    Record,
    Tool,
    decimal,
    digest_of,
    flag,
    whole_number,
)
from omniroute.providers.sandbox.script import Dialect, VendorError

_LEAST_BUDGET: Final = 1024
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_CONSULT: Final = (
    "Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
)
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
    count, record = Count(), Record()
    tools = _tools(asked.get("tools"), count)
    _read_system(asked.get("system"), record, count)
    talk = MessagesReader(record, asked.get("messages"), count)
    count.add(0, asked, "")
    count.check()
    thinking = asked.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind == "enabled":
        talk.check_thinking()
    choice, chosen, is_parallel = _choice(asked.get("tool_choice"), tools)
    if kind == "enabled" and choice in (Choice.ANY, Choice.ONE):
        raise VendorError(400, "Thinking may not be enabled when tool_choice forces tool use.")
    return Prompt(
        Dialect.ANTHROPIC_MESSAGES,
        model,
        digest_of(body),
        record.text,
        count.usage(has_answers=record.has_answers),
        is_stream=flag(asked, "stream", False),
        tools=tools,
        choice=choice,
        chosen=chosen,
        is_parallel=is_parallel,
        results=tuple(record.results),
        max_words=max_words,
        stops=_stops(asked.get("stop_sequences")),
        output=_output(asked),
        has_reasoning=has_reasoning,
        is_reasoning_asked=kind in ("enabled", "adaptive"),
        entries=tuple(record.entries),
        media=tuple(record.media),
        asked=asked,
    )


def _read_system(system: Any, record: Record, count: Count) -> None:
    if system is None:
        return
    if isinstance(system, str):
        count.add(len(system), {}, "system")
        record.system(system)
        return
    if not isinstance(system, list):
        raise VendorError(400, "system: Input should be a valid list")
    for index, block in enumerate(system):
        if not isinstance(block, dict) or not isinstance(block.get("text"), str):
            raise VendorError(400, f"system.{index}.text: Field required")
        if not block["text"]:
            raise VendorError(400, "system: text content blocks must be non-empty")
        count.add(len(block["text"]), block, f"system.{index}")
        record.system(block["text"])


def _has_reasoning(asked: Mapping[str, Any], max_tokens: int) -> bool:
    thinking = asked.get("thinking")
    match thinking:
        case None:
            return True
        case {"type": "disabled"}:
            return False
        case {"type": "adaptive"}:
            pass
        case {"type": "enabled", "budget_tokens": int(budget)}:
            if budget < _LEAST_BUDGET:
                raise VendorError(
                    400,
                    f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_LEAST_BUDGET}",
                )
            if budget >= max_tokens:
                raise VendorError(
                    400,
                    "`max_tokens` must be greater than `thinking.budget_tokens`. "
                    f"{_CONSULT}#max-tokens-and-context-window-size",
                )
        case {"type": "enabled"}:
            raise VendorError(400, "thinking.enabled.budget_tokens: Field required")
        case _:
            raise VendorError(
                400,
                "thinking: Input tag found using 'type' does not match any of the expected tags: "
                "'adaptive', 'disabled', 'enabled'",
            )
    if asked.get("temperature") not in (None, 1):
        raise VendorError(
            400, f"`temperature` may only be set to 1 when thinking is enabled or in adaptive mode. {_CONSULT}"
        )
    return True


def _tools(tools: Any, count: Count) -> tuple[Tool, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise VendorError(400, "tools: Input should be a valid list")
    read: dict[str, Tool] = {}
    for index, tool in enumerate(tools):
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str):
            raise VendorError(400, f"tools.{index}.custom.name: Field required")
        if _TOOL_NAME.fullmatch(name) is None:
            raise VendorError(400, f"tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if name in read:
            raise VendorError(400, "tools: Tool names must be unique.")
        count.add(len(dump(tool)), tool, f"tools.{index}")
        kind = tool.get("type") or "custom"
        if kind == "custom":
            schema = _schema(tool.get("input_schema"), f"tools.{index}.custom.input_schema")
            read[name] = Tool(name, schema, str(tool.get("description") or ""))
            continue
        # Tools that the vendor carries out itself (web search and the like) are known but never called here.
        given = next((s for start, s in _CLIENT_TOOLS.items() if str(kind).startswith(start)), None)
        if given is not None:
            read[name] = Tool(name, given)
    return tuple(read.values())


def _schema(schema: Any, path: str) -> Any:
    if schema is None:
        raise VendorError(400, f"{path}: Field required")
    if not isinstance(schema, dict):
        raise VendorError(400, f"{path}: Input should be an object")
    if "type" not in schema:
        raise VendorError(400, f"{path}.type: Field required")
    if schema["type"] != "object":
        raise VendorError(400, f"{path}.type: Input should be 'object'")
    if any(keyword in schema for keyword in ("oneOf", "allOf", "anyOf")):
        raise VendorError(400, f"{path}: input_schema does not support oneOf, allOf, or anyOf at the top level")
    return schema


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
