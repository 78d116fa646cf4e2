"""OpenAI Chat Completions, the asking side: check a body as the vendor would and read what it wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox.jsontext import dump, load_object
from omniroute.providers.sandbox.openai_messages import MessagesReader
from omniroute.providers.sandbox.openai_schema import check_name, check_strict
from omniroute.providers.sandbox.prompt import (
    Choice,
    Output,
    Prompt,
    PromptUsage,
    Record,
    Tool,
    decimal,
    digest_of,
    flag,
    whole_number,
)
from omniroute.providers.sandbox.prose import tokens
from omniroute.providers.sandbox.script import Dialect, VendorError

_MOST_STOPS: Final = 4
_MOST_CHOICES: Final = 128
# The vendor serves a repeated beginning from its cache in steps of 128 tokens, for prompts of 1024 tokens or more.
_CACHED_FROM: Final = 1024
_CACHED_STEP: Final = 128


def parse_request(body: bytes) -> Prompt:
    """Read the body of `POST /v1/chat/completions`.

    Raises:
        VendorError: the vendor would refuse it.
    """
    asked = load_object(body)
    model = asked.get("model")
    if not isinstance(model, str) or not model:
        raise VendorError(400, "A model must be given as a string.", param="model", code="missing_required_parameter")
    record = Record()
    talk = MessagesReader(record, asked.get("messages"))
    is_stream = flag(asked, "stream", False)
    tools, is_legacy = _tools(asked)
    choice, chosen, tools = _choice(asked, tools, is_legacy)
    decimal(asked, "temperature", 2)
    decimal(asked, "top_p", 1)
    max_tokens = whole_number(asked, "max_tokens", 1)
    max_completion = whole_number(asked, "max_completion_tokens", 1)
    if max_tokens is not None and max_completion is not None:
        raise VendorError(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    characters = record.characters
    for field in ("tools", "functions"):
        if asked.get(field):
            characters += len(dump(asked[field]))
    return Prompt(
        Dialect.OPENAI_CHAT,
        model,
        digest_of(body),
        record.text,
        _usage(record, characters, talk.last_characters),
        is_stream=is_stream,
        tools=tools,
        choice=choice,
        chosen=chosen,
        is_parallel=not is_legacy and flag(asked, "parallel_tool_calls", True),
        results=tuple(record.results),
        max_words=max_completion if max_completion is not None else max_tokens,
        stops=read_stops(asked.get("stop")),
        output=_output(asked.get("response_format")),
        has_reasoning=asked.get("reasoning_effort") != "none",
        is_reasoning_asked=asked.get("reasoning_effort") not in (None, "none"),
        count=whole_number(asked, "n", 1, _MOST_CHOICES) or 1,
        include_usage=include_usage(asked, is_stream),
        is_legacy=is_legacy,
        entries=tuple(record.entries),
        media=tuple(record.media),
        asked=asked,
    )


def _usage(record: Record, characters: int, last_characters: int) -> PromptUsage:
    total = tokens(characters)
    if total < _CACHED_FROM or not record.has_answers:
        return PromptUsage(total)
    return PromptUsage(total, cache_read=(characters - last_characters) // 4 // _CACHED_STEP * _CACHED_STEP)


def _tools(asked: Mapping[str, Any]) -> tuple[tuple[Tool, ...], bool]:
    """Read `tools`, or the `functions` of old clients (then the second value is True)."""
    listed = asked.get("tools")
    if listed is None:
        functions = asked.get("functions")
        if functions is None:
            return (), False
        if not isinstance(functions, list) or not functions:
            raise VendorError(400, "'functions' must be a non-empty array.", param="functions", code="empty_array")
        wrapped = ({"type": "function", "function": function} for function in functions)
        return tuple(_tool(tool, f"functions[{index}]") for index, tool in enumerate(wrapped)), True
    if not isinstance(listed, list):
        raise VendorError(400, "'tools' must be an array.", param="tools", code="invalid_type")
    if not listed:
        raise VendorError(400, "'tools' must not be empty.", param="tools", code="empty_array")
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(listed)), False


def _tool(tool: Any, path: str) -> Tool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind not in ("function", "custom"):
        raise VendorError(
            400,
            f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'.",
            param=f"{path}.type",
            code="invalid_value",
        )
    definition = tool.get(kind)
    name = check_name(definition.get("name") if isinstance(definition, dict) else None, f"{path}.{kind}.name")
    description = str(definition.get("description") or "")
    if kind == "custom":
        return Tool(name, None, description)
    schema = definition.get("parameters")
    if schema is None:
        return Tool(name, {"type": "object", "properties": {}}, description)
    check_strict(name, schema, f"{path}.function.parameters", is_strict=definition.get("strict") is True)
    return Tool(name, schema, description)


def _choice(
    asked: Mapping[str, Any], tools: tuple[Tool, ...], is_legacy: bool
) -> tuple[Choice, str | None, tuple[Tool, ...]]:
    """Read `tool_choice`; an allowed subset narrows the tools."""
    field = "function_call" if is_legacy else "tool_choice"
    value = asked.get(field)
    if value is None:
        return Choice.AUTO, None, tools
    if not tools:
        if value == "none":
            return Choice.NONE, None, tools
        given = "functions" if is_legacy else "tools"
        raise VendorError(
            400, f"Invalid value for '{field}': '{field}' is only allowed when '{given}' are specified.", param=field
        )
    match value:
        case "auto":
            return Choice.AUTO, None, tools
        case "none":
            return Choice.NONE, None, tools
        case "required":
            return Choice.ANY, None, tools
        case {"type": "function", "function": {"name": str(name)}} | {"type": "custom", "custom": {"name": str(name)}}:
            return Choice.ONE, _known(name, tools, field), tools
        case {"name": str(name)} if is_legacy:
            return Choice.ONE, _known(name, tools, field), tools
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [*listed]}}:
            names = {entry[entry["type"]]["name"] for entry in listed if _is_named(entry)}
            subset = tuple(tool for tool in tools if tool.name in names)
            return (Choice.AUTO if mode == "auto" else Choice.ANY), None, subset
        case _:
            raise VendorError(400, f"Invalid value for '{field}'.", param=field, code="invalid_value")


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get(entry.get("type")), dict) and "name" in entry[entry["type"]]


def _known(name: str, tools: tuple[Tool, ...], field: str) -> str:
    if all(tool.name != name for tool in tools):
        raise VendorError(400, f"'{field}' names '{name}', which is not among the tools.", param=field)
    return name


def read_stops(stop: Any) -> tuple[str, ...]:
    """Read `stop`: one string or a few."""
    listed = [stop] if isinstance(stop, str) else stop
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(s, str) for s in listed) or len(listed) > _MOST_STOPS:
        raise VendorError(
            400, f"'stop' must be a string or up to {_MOST_STOPS} of them.", param="stop", code="invalid_value"
        )
    return tuple(s for s in listed if s)


def _output(shape: Any) -> Output | None:
    match shape:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return Output(None)
        case {"type": "json_schema", "json_schema": {"name": str(name), "schema": dict(schema)}}:
            is_strict = shape["json_schema"].get("strict") is True
            check_strict(name, schema, "response_format.json_schema.schema", is_strict=is_strict)
            return Output(schema)
        case _:
            raise VendorError(
                400, "Invalid value for 'response_format'.", param="response_format", code="invalid_value"
            )


def include_usage(asked: Mapping[str, Any], is_stream: bool) -> bool:
    """Read `stream_options`: whether the usage is to come in a chunk of its own."""
    options = asked.get("stream_options")
    if options is None:
        return False
    if not is_stream:
        raise VendorError(400, "'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    if not isinstance(options, dict):
        raise VendorError(400, "'stream_options' must be an object.", param="stream_options", code="invalid_type")
    return flag(options, "include_usage", False)
