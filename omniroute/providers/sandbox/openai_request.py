"""OpenAI Chat Completions, the asking side: check a body as the vendor would and read what it wants."""

from __future__ import annotations

from collections.abc import Mapping
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

_ROLES: Final = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
_MEDIA_CHARACTERS: Final = 340  # one picture or sound counts as 85 tokens
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
    talk = _Talk(asked.get("messages"))
    is_stream = flag(asked, "stream", False)
    tools, is_legacy = _tools(asked)
    choice, chosen, tools = _choice(asked, tools, is_legacy)
    decimal(asked, "temperature", 2)
    decimal(asked, "top_p", 1)
    max_tokens = whole_number(asked, "max_tokens", 1)
    max_completion = whole_number(asked, "max_completion_tokens", 1)
    characters = talk.characters
    for field in ("tools", "functions"):
        if asked.get(field):
            characters += len(dump(asked[field]))
    return Prompt(
        Dialect.OPENAI_CHAT,
        model,
        digest_of(body),
        talk.text,
        _usage(talk, characters),
        is_stream=is_stream,
        tools=tools,
        choice=choice,
        chosen=chosen,
        is_parallel=not is_legacy and flag(asked, "parallel_tool_calls", True),
        results=tuple(talk.results),
        max_words=max_completion if max_completion is not None else max_tokens,
        stops=_stops(asked.get("stop")),
        output=_output(asked.get("response_format")),
        has_reasoning=asked.get("reasoning_effort") != "none",
        count=whole_number(asked, "n", 1, _MOST_CHOICES) or 1,
        include_usage=_include_usage(asked, is_stream),
        is_legacy=is_legacy,
    )


class _Talk:
    """The messages of a request, checked one after the other."""

    __slots__ = ("_open", "characters", "has_answers", "last_characters", "results", "text")

    def __init__(self, messages: Any) -> None:
        if messages is None:
            raise VendorError(
                400, "Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"
            )
        if not isinstance(messages, list):
            raise VendorError(400, "'messages' must be an array.", param="messages", code="invalid_type")
        if not messages:
            raise VendorError(400, "'messages' must not be empty.", param="messages", code="empty_array")
        self.text = ""
        self.characters = 0
        self.last_characters = 0
        self.has_answers = False
        self.results: list[Result] = []
        self._open: dict[str, str] = {}
        for index, message in enumerate(messages):
            if not isinstance(message, dict):
                raise VendorError(400, "A message must be an object.", param=f"messages[{index}]", code="invalid_type")
            self._read(message, f"messages[{index}]")
        self._close_calls(f"messages[{len(messages) - 1}]")

    def _read(self, message: Mapping[str, Any], path: str) -> None:
        role = message.get("role")
        if role not in _ROLES:
            raise VendorError(400, f"Invalid value for '{path}.role'.", param=f"{path}.role", code="invalid_value")
        before = self.characters
        content = message.get("content")
        if role != "assistant" and content is None:
            raise VendorError(400, f"'{path}.content' must not be null.", param=f"{path}.content", code="invalid_type")
        text = content if isinstance(content, str) else self._parts(content, f"{path}.content")
        self.characters += len(text)
        match role:
            case "tool":
                self._take_result(message.get("tool_call_id"), text, path)
            case "function":
                self.results.append(Result(str(message.get("name")), text))
            case "assistant":
                self._close_calls(path)
                self.has_answers = True
                self.results.clear()
                self._take_calls(message, path)
            case "user":
                self._close_calls(path)
                self.text = text
                self.results.clear()
            case _:
                self._close_calls(path)
        self.last_characters = self.characters - before

    def _parts(self, content: Any, path: str) -> str:
        if content is None:
            return ""
        if not isinstance(content, list):
            raise VendorError(400, f"'{path}' must be a string or an array.", param=path, code="invalid_type")
        said: list[str] = []
        for index, part in enumerate(content):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("text", "refusal"):
                text = part.get(kind)
                if not isinstance(text, str):
                    at = f"{path}[{index}].{kind}"
                    raise VendorError(400, f"'{at}' must be a string.", param=at, code="invalid_type")
                said.append(text)
            elif kind in ("image_url", "input_audio", "file"):
                self.characters += _MEDIA_CHARACTERS
            else:
                at = f"{path}[{index}].type"
                raise VendorError(400, f"Invalid value for '{at}'.", param=at, code="invalid_value")
        return "".join(said)

    def _take_calls(self, message: Mapping[str, Any], path: str) -> None:
        calls = message.get("tool_calls")
        if calls is None:
            return
        if not isinstance(calls, list) or not calls:
            at = f"{path}.tool_calls"
            raise VendorError(400, f"'{at}' must be a non-empty array.", param=at, code="empty_array")
        for index, call in enumerate(calls):
            at = f"{path}.tool_calls[{index}]"
            if not isinstance(call, dict) or not isinstance(call.get("id"), str):
                raise VendorError(400, f"'{at}.id' is missing.", param=f"{at}.id", code="missing_required_parameter")
            named = call.get(call.get("type") or "function")
            if not isinstance(named, dict) or not isinstance(named.get("name"), str):
                raise VendorError(400, f"'{at}' has no name.", param=at, code="missing_required_parameter")
            arguments = named.get("arguments", named.get("input"))
            if not isinstance(arguments, str):
                raise VendorError(400, f"The arguments of '{at}' must be a string.", param=at, code="invalid_type")
            self._open[call["id"]] = named["name"]
            self.characters += len(named["name"]) + len(arguments)

    def _take_result(self, call_id: Any, text: str, path: str) -> None:
        name = self._open.pop(call_id, None) if isinstance(call_id, str) else None
        if name is None:
            raise VendorError(
                400, f"'{path}' has role 'tool' but answers no tool call of the message before.", param=f"{path}.role"
            )
        self.results.append(Result(name, text))

    def _close_calls(self, path: str) -> None:
        if self._open:
            missing = ", ".join(self._open)
            raise VendorError(400, f"Tool calls without a 'tool' message that answers them: {missing}", param=path)


def _usage(talk: _Talk, characters: int) -> PromptUsage:
    total = tokens(characters)
    if total < _CACHED_FROM or not talk.has_answers:
        return PromptUsage(total)
    return PromptUsage(total, cache_read=(characters - talk.last_characters) // 4 // _CACHED_STEP * _CACHED_STEP)


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
        raise VendorError(400, f"Invalid value for '{path}.type'.", param=f"{path}.type", code="invalid_value")
    definition = tool.get(kind)
    name = definition.get("name") if isinstance(definition, dict) else None
    if not isinstance(name, str) or not name:
        at = f"{path}.{kind}.name"
        raise VendorError(400, f"Missing required parameter: '{at}'.", param=at, code="missing_required_parameter")
    if kind == "custom":
        return Tool(name, None)
    schema = definition.get("parameters")
    if schema is None:
        return Tool(name, {"type": "object", "properties": {}})
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        at = f"{path}.function.parameters"
        message = f"'{at}' must be a schema of type 'object'."
        raise VendorError(400, message, param=at, code="invalid_function_parameters")
    return Tool(name, schema)


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
        raise VendorError(400, f"'{field}' is only allowed when tools are given.", param=field)
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


def _stops(stop: Any) -> tuple[str, ...]:
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
        case {"type": "json_schema", "json_schema": {"name": str(), "schema": dict(schema)}}:
            return Output(schema)
        case _:
            raise VendorError(
                400, "Invalid value for 'response_format'.", param="response_format", code="invalid_value"
            )


def _include_usage(asked: Mapping[str, Any], is_stream: bool) -> bool:
    options = asked.get("stream_options")
    if options is None:
        return False
    if not is_stream:
        raise VendorError(400, "'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    if not isinstance(options, dict):
        raise VendorError(400, "'stream_options' must be an object.", param="stream_options", code="invalid_type")
    return flag(options, "include_usage", False)
