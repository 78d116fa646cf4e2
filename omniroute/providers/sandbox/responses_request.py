"""OpenAI Responses, the asking side: check a body as the vendor would and read what it wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox import responses_memory
from omniroute.providers.sandbox.jsontext import dump, load_object
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
)
from omniroute.providers.sandbox.prose import tokens
from omniroute.providers.sandbox.responses_input import InputReader
from omniroute.providers.sandbox.script import Dialect, VendorError

_LEAST_OUTPUT: Final = 16
_CACHED_FROM: Final = 1024
_CACHED_STEP: Final = 128
_FIELDS: Final = frozenset(
    (
        "access_programs",
        "background",
        "background_options",
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
        "client_metadata",
    )
)
_INCLUDABLE: Final = frozenset(
    (
        "file_search_call.results",
        "web_search_call.results",
        "web_search_call.action.sources",
        "message.input_image.image_url",
        "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
        "reasoning.encrypted_content",
        "message.output_text.logprobs",
    )
)
# Tools that the vendor runs itself, or that need a client of a special kind: known, and never called here.
_BUILT_IN: Final = (
    "web_search",
    "file_search",
    "code_interpreter",
    "image_generation",
    "computer",
    "mcp",
    "local_shell",
    "shell",
    "apply_patch",
    "tool_search",
    "programmatic_tool_calling",
)
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def parse_request(body: bytes) -> Prompt:
    """Read the body of `POST /v1/responses`.

    Raises:
        VendorError: the vendor would refuse it.
    """
    asked = load_object(body)
    for field in asked:
        if field not in _FIELDS:
            raise VendorError(400, f"Unknown parameter: '{field}'.", param=field, code="unknown_parameter")
    model = asked.get("model")
    if not isinstance(model, str) or not model:
        raise VendorError(400, "Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    record = _read_input(asked)
    tools = _tools(asked.get("tools"))
    choice, chosen, tools = _choice(asked.get("tool_choice"), tools)
    decimal(asked, "temperature", 2)
    decimal(asked, "top_p", 1)
    _check_include(asked.get("include"))
    characters = record.characters + (len(dump(asked["tools"])) if asked.get("tools") else 0)
    has_reasoning, is_reasoning_asked, is_visible = _reasoning(asked.get("reasoning"))
    return Prompt(
        Dialect.OPENAI_RESPONSES,
        model,
        digest_of(body),
        record.text,
        _usage(record, characters),
        is_stream=flag(asked, "stream", False),
        tools=tools,
        choice=choice,
        chosen=chosen,
        is_parallel=flag(asked, "parallel_tool_calls", True),
        results=tuple(record.results),
        max_words=_max_output(asked.get("max_output_tokens")),
        output=_output(asked.get("text")),
        has_reasoning=has_reasoning,
        is_reasoning_asked=is_reasoning_asked,
        has_visible_reasoning=is_visible,
        entries=tuple(record.entries),
        media=tuple(record.media),
        asked=asked,
    )


def parse_count_request(body: bytes) -> int:
    """Read the body of `POST /v1/responses/input_tokens` and return the tokens of its prompt.

    Raises:
        VendorError: the vendor would refuse it.
    """
    asked = load_object(body)
    characters = _read_input(asked).characters + (len(dump(asked["tools"])) if asked.get("tools") else 0)
    return tokens(characters)


def _read_input(asked: Mapping[str, Any]) -> Record:
    if (named := asked.get("conversation")) is not None:
        name = named.get("id") if isinstance(named, dict) else named
        raise VendorError(404, f"Conversation with id '{name}' not found.", param="conversation")
    record = Record()
    instructions = asked.get("instructions")
    if instructions is not None:
        if not isinstance(instructions, str):
            raise VendorError(
                400,
                "Invalid type for 'instructions': expected a string.",
                param="instructions",
                code="invalid_type",
            )
        record.system(instructions)
    said = asked.get("input")
    if asked.get("previous_response_id") is not None or isinstance(said, list):
        InputReader(record, responses_memory.conversation(asked))
    elif isinstance(said, str):
        record.user(said)
    elif said is not None:
        raise VendorError(
            400,
            "Invalid type for 'input': expected one of an array of input items or string.",
            param="input",
            code="invalid_type",
        )
    if not said and asked.get("previous_response_id") is None:
        raise VendorError(
            400,
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided.",
            param="input",
            code="missing_required_parameter",
        )
    return record


def _usage(record: Record, characters: int) -> PromptUsage:
    total = tokens(characters)
    if total < _CACHED_FROM or not record.has_answers:
        return PromptUsage(total)
    last = len(record.entries[-1].text) if record.entries else 0
    return PromptUsage(total, cache_read=max(0, characters - last) // 4 // _CACHED_STEP * _CACHED_STEP)


def _max_output(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int:
        raise VendorError(
            400,
            "Invalid type for 'max_output_tokens': expected an integer.",
            param="max_output_tokens",
            code="invalid_type",
        )
    if value < _LEAST_OUTPUT:
        raise VendorError(
            400,
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {_LEAST_OUTPUT}, "
            f"but got {value} instead.",
            param="max_output_tokens",
            code="integer_below_min_value",
        )
    return value


def _check_include(include: Any) -> None:
    if include is None:
        return
    if not isinstance(include, list):
        raise VendorError(400, "Invalid type for 'include': expected an array.", param="include", code="invalid_type")
    for index, name in enumerate(include):
        if not isinstance(name, str) or name not in _INCLUDABLE:
            listed = ", ".join(f"'{known}'" for known in sorted(_INCLUDABLE))
            raise VendorError(
                400,
                f"Invalid value: '{name}'. Supported values are: {listed}.",
                param=f"include[{index}]",
                code="invalid_value",
            )


def _reasoning(reasoning: Any) -> tuple[bool, bool, bool]:
    """Return whether there is reasoning, whether it was asked for, and whether its summary is shown."""
    if reasoning is None:
        return True, False, False
    if not isinstance(reasoning, dict):
        raise VendorError(
            400, "Invalid type for 'reasoning': expected an object.", param="reasoning", code="invalid_type"
        )
    effort = reasoning.get("effort")
    if effort is not None and effort not in _EFFORTS:
        listed = ", ".join(f"'{name}'" for name in _EFFORTS[:-1])
        raise VendorError(
            400,
            f"Invalid value: '{effort}'. Supported values are: {listed}, and '{_EFFORTS[-1]}'.",
            param="reasoning.effort",
            code="invalid_value",
        )
    summary = reasoning.get("summary")
    is_asked = effort not in (None, "none") or summary is not None
    return effort != "none", is_asked and effort != "none", summary in ("auto", "concise", "detailed")


def _tools(listed: Any) -> tuple[Tool, ...]:
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise VendorError(400, "Invalid type for 'tools': expected an array.", param="tools", code="invalid_type")
    read: list[Tool] = []
    for index, tool in enumerate(listed):
        path = f"tools[{index}]"
        if isinstance(tool, dict) and tool.get("type") == "namespace":
            check_name(tool.get("name"), f"{path}.name")
            inner = tool.get("tools")
            for position, member in enumerate(inner if isinstance(inner, list) else ()):
                one = _tool(member, f"{path}.tools[{position}]", tool["name"])
                read += [one] if one is not None else []
            continue
        one = _tool(tool, path, None)
        read += [one] if one is not None else []
    return tuple(read)


def _tool(tool: Any, path: str, namespace: str | None) -> Tool | None:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind not in ("function", "custom"):
        if isinstance(kind, str) and kind.startswith(_BUILT_IN):
            return None
        listed = ", ".join(f"'{name}'" for name in ("function", "custom", "namespace", *_BUILT_IN))
        raise VendorError(
            400,
            f"Invalid value: '{kind}'. Supported values are: {listed}.",
            param=f"{path}.type",
            code="invalid_value",
        )
    name = check_name(tool.get("name"), f"{path}.name")
    description = str(tool.get("description") or "")
    if kind == "custom":
        return Tool(name, None, description, namespace)
    schema = tool.get("parameters")
    if schema is None:
        schema = {"type": "object", "properties": {}}
    check_strict(name, schema, f"{path}.parameters", is_strict=tool.get("strict") is True)
    return Tool(name, schema, description, namespace)


def _choice(value: Any, tools: tuple[Tool, ...]) -> tuple[Choice, str | None, tuple[Tool, ...]]:
    match value:
        case None | "auto":
            return Choice.AUTO, None, tools
        case "none":
            return Choice.NONE, None, tools
        case "required":
            if not tools:
                raise VendorError(
                    400, "Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice"
                )
            return Choice.ANY, None, tools
        case {"type": "function" | "custom" as kind, "name": str(name)}:
            if all(tool.name != name for tool in tools):
                raise VendorError(
                    400, f"Tool choice '{kind}' with name '{name}' not found in 'tools' parameter.", param="tool_choice"
                )
            return Choice.ONE, name, tools
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": [*listed]}:
            names = {entry.get("name") for entry in listed if isinstance(entry, dict)}
            subset = tuple(tool for tool in tools if tool.name in names)
            return (Choice.AUTO if mode == "auto" else Choice.ANY), None, subset
        case {"type": str(kind)} if kind.startswith(_BUILT_IN):
            return Choice.NONE, None, tools
        case _:
            raise VendorError(
                400,
                f"Invalid value: '{value}'. Supported values are: 'none', 'auto', and 'required'.",
                param="tool_choice",
                code="invalid_value",
            )


def _output(text: Any) -> Output | None:
    shape = text.get("format") if isinstance(text, dict) else text
    match shape:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return Output(None)
        case {"type": "json_schema", "name": str(name), "schema": dict(schema)}:
            check_strict(name, schema, "text.format.schema", is_strict=shape.get("strict") is True)
            return Output(schema)
        case {"type": "json_schema"}:
            field = "schema" if isinstance(shape.get("name"), str) else "name"
            path = f"text.format.{field}"
            raise VendorError(
                400, f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
            )
        case _:
            raise VendorError(
                400,
                "Invalid value for 'text.format'. Supported values are: 'text', 'json_object', and 'json_schema'.",
                param="text.format.type",
                code="invalid_value",
            )
