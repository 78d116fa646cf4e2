"""Ollama `/api/chat`, the asking side: as forgiving as the program is, and as particular about types."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as BinasciiError
from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox.jsontext import dump, load_object
from omniroute.providers.sandbox.prompt import Media, Output, Prompt, PromptUsage, Record, Tool, digest_of
from omniroute.providers.sandbox.prose import tokens
from omniroute.providers.sandbox.script import Dialect, VendorError

_MEDIA_CHARACTERS: Final = 3072
_WORDS: Final = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
_MAGIC: Final = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


def parse_request(body: bytes) -> Prompt:
    """Read the body of `POST /api/chat`.

    Raises:
        VendorError: the program would refuse it.
    """
    asked = load_object(body)
    model = asked.get("model")
    if not isinstance(model, str) or not model:
        raise VendorError(400, "model is required")
    record = Record()
    messages = asked.get("messages")
    if messages is not None and not isinstance(messages, list):
        raise _mistyped(messages, "messages", "[]api.Message")
    _Messages(record, messages or [])
    tools = _tools(asked.get("tools"))
    options = asked.get("options")
    if options is not None and not isinstance(options, Mapping):
        raise _mistyped(options, "options", "map[string]interface {}")
    limit = (options or {}).get("num_predict")
    is_stream = asked.get("stream")
    if is_stream is not None and not isinstance(is_stream, bool):
        raise _mistyped(is_stream, "stream", "bool")
    think = asked.get("think")
    if isinstance(think, str) and think not in ("high", "medium", "low", "max"):
        raise VendorError(400, f'invalid think value: "{think}" (must be "high", "medium", "low", true, or false)')
    return Prompt(
        Dialect.OLLAMA,
        model,
        digest_of(body),
        record.text,
        PromptUsage(tokens(record.characters + (len(dump(asked["tools"])) if tools else 0))),
        is_stream=is_stream is not False,
        tools=tools,
        results=tuple(record.results),
        max_words=limit if type(limit) is int and limit > 0 else None,
        stops=_stops((options or {}).get("stop")),
        output=_output(asked.get("format")),
        has_reasoning=think is not False,
        is_reasoning_asked=think not in (None, False),
        entries=tuple(record.entries),
        media=tuple(record.media),
        asked=asked,
    )


class _Messages:
    """Reads the messages; results are matched to calls by name, or by their order, since there are no ids."""

    __slots__ = ("_calls", "_record")

    def __init__(self, record: Record, messages: list[Any]) -> None:
        self._record = record
        self._calls: list[str] = []
        for message in messages:
            if not isinstance(message, Mapping):
                raise _mistyped(message, "messages", "api.Message")
            self._read(message)

    def _read(self, message: Mapping[str, Any]) -> None:
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise _mistyped(content, "messages.content", "string")
        text = content or ""
        self._images(message.get("images"))
        match message.get("role"):
            case "system":
                self._record.system(text)
            case "assistant":
                self._record.assistant(text)
                self._take_calls(message.get("tool_calls"))
            case "tool":
                self._result(str(message.get("tool_name") or message.get("name") or ""), text)
            case "user":
                self._record.user(text)
            case role:
                raise VendorError(400, f'invalid role "{role}", must be one of ["system", "user", "assistant", "tool"]')

    def _images(self, images: Any) -> None:
        if images is None:
            return
        if not isinstance(images, list):
            raise _mistyped(images, "messages.images", "[]api.ImageData")
        for image in images:
            if not isinstance(image, str):
                raise _mistyped(image, "messages.images", "api.ImageData")
            try:
                raw = b64decode(image, validate=True)
            except (BinasciiError, ValueError):
                at = next((n for n, letter in enumerate(image) if not (letter.isalnum() or letter in "+/=")), 0)
                raise VendorError(400, f"illegal base64 data at input byte {at}") from None
            mime = next((name for start, name in _MAGIC if raw.startswith(start)), "application/octet-stream")
            self._record.characters += _MEDIA_CHARACTERS
            self._record.media.append(Media("image", mime, image))

    def _take_calls(self, calls: Any) -> None:
        if calls is None:
            return
        if not isinstance(calls, list):
            raise _mistyped(calls, "messages.tool_calls", "[]api.ToolCall")
        for call in calls:
            function = call.get("function") if isinstance(call, Mapping) else None
            if not isinstance(function, Mapping):
                raise _mistyped(function, "messages.tool_calls.function", "api.ToolCallFunction")
            arguments = function.get("arguments")
            if arguments is not None and not isinstance(arguments, Mapping):
                raise _mistyped(arguments, "messages.tool_calls.function.arguments", "api.ToolCallFunctionArguments")
            name = function.get("name")
            if not isinstance(name, str):
                raise _mistyped(name, "messages.tool_calls.function.name", "string")
            self._record.call(name, dump(arguments or {}).decode())
            self._calls.append(name)

    def _result(self, name: str, text: str) -> None:
        if name in self._calls:
            self._calls.remove(name)
        elif not name and self._calls:
            name = self._calls.pop(0)
        self._record.result(name or "tool", text)


def _mistyped(value: Any, field: str, wanted: str) -> VendorError:
    word = _WORDS.get(type(value), "null")
    return VendorError(400, f"json: cannot unmarshal {word} into Go struct field ChatRequest.{field} of type {wanted}")


def _tools(listed: Any) -> tuple[Tool, ...]:
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise _mistyped(listed, "tools", "api.Tools")
    read: list[Tool] = []
    for tool in listed:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping):
            raise _mistyped(function, "tools.function", "api.ToolFunction")
        name, schema = function.get("name"), function.get("parameters")
        if not isinstance(name, str):
            raise _mistyped(name, "tools.function.name", "string")
        if schema is not None and not isinstance(schema, Mapping):
            raise _mistyped(schema, "tools.function.parameters", "api.ToolFunctionParameters")
        read.append(Tool(name, schema or {"type": "object", "properties": {}}, str(function.get("description") or "")))
    return tuple(read)


def _stops(stop: Any) -> tuple[str, ...]:
    listed = [stop] if isinstance(stop, str) else stop
    if not isinstance(listed, list):
        return ()
    return tuple(s for s in listed if isinstance(s, str) and s)


def _output(shape: Any) -> Output | None:
    match shape:
        case None | "":
            return None
        case "json":
            return Output(None)
        case dict():
            return Output(shape)
        case _:
            raise VendorError(
                400, f'invalid format: {dump(shape).decode()}; expected "json" or a valid JSON Schema object'
            )
