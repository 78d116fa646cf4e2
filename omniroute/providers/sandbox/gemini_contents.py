"""Gemini `contents`: turns and parts, checked as the vendor checks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from omniroute.providers.sandbox.gemini_schema import camel, unknown_names
from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.prompt import Media, Record
from omniroute.providers.sandbox.script import VendorError
from omniroute.providers.sandbox.seal import Purpose, is_sealed, unpack

_MEDIA_CHARACTERS: Final = 1032  # a picture counts as 258 tokens
_PART: Final = frozenset(
    (
        "text",
        "inlineData",
        "fileData",
        "functionCall",
        "functionResponse",
        "executableCode",
        "codeExecutionResult",
        "toolCall",
        "toolResponse",
        "thought",
        "thoughtSignature",
        "videoMetadata",
        "mediaResolution",
        "partMetadata",
    )
)
_DATA: Final = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)
# The vendor names these two for histories that other models wrote.
_BYPASSES: Final = frozenset(("skip_thought_signature_validator", "context_engineering_is_the_way_to_go"))
_UNEQUAL: Final = (
    "Please ensure that the number of function response parts is equal to the number of function call parts "
    "of the function call turn."
)


class ContentsReader:
    """Reads the turns one after the other into a record."""

    __slots__ = ("_calls", "_current_from", "_record")

    def __init__(self, record: Record, contents: list[Any]) -> None:
        self._record = record
        self._calls: list[tuple[str | None, str]] = []
        turns = [_Turn(content, index) for index, content in enumerate(contents)]
        self._current_from = max((turn.index for turn in turns if turn.opens), default=-1)
        before: _Turn | None = None
        for turn in turns:
            self._check_order(before, turn)
            if turn.role == "model":
                self._model(turn)
            else:
                self._user(turn)
            before = turn
        if self._calls:
            raise VendorError(400, _UNEQUAL)

    def _check_order(self, before: _Turn | None, turn: _Turn) -> None:
        if turn.calls and (before is None or before.role != "user"):
            raise VendorError(
                400,
                "Please ensure that function call turn comes immediately after a user turn "
                "or after a function response turn.",
            )
        if turn.responses and (before is None or not before.calls):
            raise VendorError(
                400, "Please ensure that function response turn comes immediately after a function call turn."
            )
        if before is not None and before.calls and before.calls != turn.responses:
            raise VendorError(400, _UNEQUAL)

    def _model(self, turn: _Turn) -> None:
        said: list[str] = []
        calls: list[tuple[str | None, str, str]] = []
        for part, path in turn.parts:
            _check_signature(part, path)
            call = part.get("functionCall")
            if call is not None:
                fields = known(
                    call, frozenset(("id", "name", "args", "partialArgs", "willContinue")), f"{path}.function_call"
                )
                name = _named(fields, f"{path}.function_call")
                if not calls and turn.index > self._current_from and part.get("thoughtSignature") is None:
                    raise _unsigned(name, turn.index + 1)
                arguments = fields.get("args")
                if arguments is not None and not isinstance(arguments, Mapping):
                    raise VendorError(
                        400, f"Invalid value at '{path}.function_call.args' (type.googleapis.com/Struct), {arguments!r}"
                    )
                calls.append((fields.get("id"), name, dump(arguments or {}).decode()))
            elif part.get("thought") is True:
                self._record.characters += len(str(part.get("text", "")))
            elif isinstance(text := part.get("text"), str):
                said.append(text)
            else:
                self._other(part, path)
        self._record.assistant("".join(said))
        for call_id, name, arguments_text in calls:
            self._record.call(name, arguments_text)
            self._calls.append((call_id, name))

    def _user(self, turn: _Turn) -> None:
        said: list[str] = []
        for part, path in turn.parts:
            _check_signature(part, path)
            response = part.get("functionResponse")
            if part.get("functionCall") is not None:
                raise VendorError(
                    400,
                    "Please ensure that function call turn comes immediately after a user turn "
                    "or after a function response turn.",
                )
            if response is not None:
                self._response(response, f"{path}.function_response")
            elif isinstance(text := part.get("text"), str):
                said.append(text)
            else:
                self._other(part, path)
        self._record.user("".join(said))

    def _response(self, response: Any, path: str) -> None:
        fields = known(response, frozenset(("id", "name", "response", "parts", "willContinue", "scheduling")), path)
        name = _named(fields, path)
        value = fields.get("response")
        if not isinstance(value, Mapping):
            raise VendorError(400, f"Invalid value at '{path}.response' (type.googleapis.com/Struct), {value!r}")
        call_id = fields.get("id")
        made = next((call for call in self._calls if call_id is not None and call[0] == call_id), None)
        made = made or next((call for call in self._calls if call[1] == name), None)
        if made is None:
            raise VendorError(400, f"Function response `{name}` does not match any function call of the turn before.")
        self._calls.remove(made)
        is_error = "error" in value
        told = value.get("error", value.get("output", value.get("result", value.get("content", value))))
        self._record.result(name, told if isinstance(told, str) else dump(told).decode(), is_error=is_error)
        nested = fields.get("parts")
        for index, part in enumerate(nested if isinstance(nested, list) else ()):
            at = f"{path}.parts[{index}]"
            self._other(known(part, frozenset(("inlineData", "fileData")), at), at)

    def _other(self, part: Mapping[str, Any], path: str) -> None:
        self._record.characters += _MEDIA_CHARACTERS
        for field in ("inlineData", "fileData"):
            if part.get(field) is None:
                continue
            value = known(part[field], frozenset(("mimeType", "data", "fileUri", "displayName")), f"{path}.{field}")
            mime = value.get("mimeType")
            if not isinstance(mime, str) or not mime:
                raise VendorError(400, f"* GenerateContentRequest.{path}.inline_data.mime_type: must not be empty\n")
            data = value.get("data") if field == "inlineData" else value.get("fileUri")
            if not isinstance(data, str) or (field == "inlineData" and unpack(data) is None):
                raise VendorError(
                    400, f"Invalid value at '{path}.inline_data.data' (TYPE_BYTES), Base64 decoding failed"
                )
            self._record.media.append(Media(_kind(mime), mime, data, "inline" if field == "inlineData" else "url"))


class _Turn:
    """One content with its parts read, before anything is known of its neighbours."""

    __slots__ = ("calls", "index", "opens", "parts", "responses", "role")

    def __init__(self, content: Any, index: int) -> None:
        path = f"contents[{index}]"
        fields = known(content, frozenset(("role", "parts")), path)
        self.index = index
        self.role = fields.get("role") or "user"
        if self.role not in ("user", "model"):
            raise VendorError(400, "Please use a valid role: user, model.")
        parts = fields.get("parts")
        listed = [parts] if isinstance(parts, Mapping) else parts
        if not isinstance(listed, list) or not listed:
            raise VendorError(400, f"* GenerateContentRequest.{path}.parts: contents.parts must not be empty.\n")
        self.parts = [
            (_part(part, f"{path}.parts[{position}]"), f"{path}.parts[{position}]")
            for position, part in enumerate(listed)
        ]
        self.calls = sum(part.get("functionCall") is not None for part, _ in self.parts)
        self.responses = sum(part.get("functionResponse") is not None for part, _ in self.parts)
        self.opens = self.role == "user" and not self.responses


def known(value: Any, fields: frozenset[str], path: str) -> dict[str, Any]:
    """Return an object with its fields in one spelling.

    Raises:
        VendorError: it is no object, or has a field that the vendor does not know.
    """
    if not isinstance(value, Mapping):
        raise VendorError(400, f"Invalid value at '{path}' (type.googleapis.com/Message), {value!r}", param=path)
    named = {camel(name): inner for name, inner in value.items()}
    unknown = [(name, path) for name in value if camel(name) not in fields]
    if unknown:
        raise unknown_names(unknown)
    return named


def text_of(content: Any, path: str) -> str:
    """Return the text of a content that holds only text, or of a bare string."""
    if isinstance(content, str):
        raise VendorError(400, f"Invalid value at '{path}' (type.googleapis.com/Content), \"{content[:80]}\"")
    fields = known(content, frozenset(("role", "parts")), path)
    parts = fields.get("parts")
    listed = [parts] if isinstance(parts, Mapping) else parts
    if not isinstance(listed, list):
        raise VendorError(400, f"* GenerateContentRequest.{path}.parts: parts must not be empty.\n")
    said = [_part(part, f"{path}.parts[{n}]").get("text") for n, part in enumerate(listed)]
    return "\n".join(text for text in said if isinstance(text, str))


def call_text(name: str, arguments: Any) -> str:
    """Return the text that the signature of a call is made for: it does not depend on the order of keys."""
    return f"{name} {msgspec.json.encode(arguments, order='deterministic').decode()}"


def _part(part: Any, path: str) -> dict[str, Any]:
    fields = known(part, _PART, path)
    given = [name for name in _DATA if fields.get(name) is not None]
    if not given and fields.get("thoughtSignature") is None:
        raise VendorError(
            400, f"* GenerateContentRequest.{path}.data: required oneof field 'data' must have one initialized field\n"
        )
    if len(given) > 1:
        raise VendorError(
            400, f"Invalid value at '{path}' (oneof), oneof field 'data' is already set. Cannot set '{given[1]}'"
        )
    if given == ["text"] and not isinstance(fields["text"], str):
        raise VendorError(400, f"Invalid value at '{path}.text' (TYPE_STRING), {fields['text']!r}")
    return fields


def _check_signature(part: Mapping[str, Any], path: str) -> None:
    signature = part.get("thoughtSignature")
    if signature is None:
        return
    raw = unpack(signature) if isinstance(signature, str) else None
    if raw is None:
        raise VendorError(
            400, f"Invalid value at '{path}.thought_signature' (TYPE_BYTES), Base64 decoding failed for {signature!r}"
        )
    if signature in _BYPASSES or raw.decode("ascii", "replace") in _BYPASSES:
        return
    call = part.get("functionCall")
    if isinstance(call, Mapping):
        is_own = is_sealed(Purpose.CALL, signature, call_text(str(call.get("name")), call.get("args") or {}))
    else:
        is_own = is_sealed(Purpose.PART, signature)
    if not is_own:
        raise VendorError(400, "Corrupted thought signature.")


def _named(fields: Mapping[str, Any], path: str) -> str:
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise VendorError(400, f"* GenerateContentRequest.{path}.name: Name cannot be empty.\n")
    return name


def _unsigned(name: str, position: int) -> VendorError:
    return VendorError(
        400,
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
        "correctly, and missing thought_signature may lead to degraded model performance. Additional data, "
        f"function call `default_api:{name}` , position {position}. Please refer to "
        "https://ai.google.dev/gemini-api/docs/thought-signatures for more details.",
    )


def _kind(mime: str) -> str:
    start = mime.partition("/")[0]
    return start if start in ("image", "audio", "video") else "document"
