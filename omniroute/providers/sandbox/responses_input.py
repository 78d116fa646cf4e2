"""OpenAI Responses, the items of `input`: check them as the vendor would and note what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox.jsontext import dump
from omniroute.providers.sandbox.prompt import Media, Record
from omniroute.providers.sandbox.script import VendorError
from omniroute.providers.sandbox.seal import Purpose, is_sealed

_MEDIA_CHARACTERS: Final = 340
_LONGEST_ID: Final = 64
_ROLES: Final = ("assistant", "system", "developer", "user")
_INPUT_KINDS: Final = ("input_text", "input_image", "output_text", "refusal", "input_file", "input_audio")
_OUTPUT_KINDS: Final = ("output_text", "refusal")
# How the ids of each kind of item begin.
_PREFIXES: Final = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
    "compaction": "cmp",
}
_CALLS: Final = {"function_call": "function call", "custom_tool_call": "custom tool call"}
_OUTPUTS: Final = {"function_call_output": "function_call", "custom_tool_call_output": "custom_tool_call"}
# Items of tools that the vendor runs itself, or that need a client with more than a prompt.
_OTHERS: Final = frozenset(
    (
        "web_search_call",
        "file_search_call",
        "computer_call",
        "computer_call_output",
        "image_generation_call",
        "code_interpreter_call",
        "local_shell_call",
        "local_shell_call_output",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "tool_search_call",
        "tool_search_output",
        "additional_tools",
        "compaction_trigger",
        "context_compaction",
    )
)


class InputReader:
    """Reads the items one after the other into a record."""

    __slots__ = ("_open", "_reasoning_id", "_seen", "record")

    def __init__(self, record: Record, listed: list[Any]) -> None:
        self.record = record
        self._open: dict[str, tuple[str, str]] = {}
        self._seen: dict[str, str] = {}
        self._reasoning_id: str | None = None
        for index, item in enumerate(listed):
            path = f"input[{index}]"
            if not isinstance(item, dict):
                raise VendorError(
                    400,
                    f"Invalid type for '{path}': expected an object, but got {_kind_of(item)} instead.",
                    param=path,
                    code="invalid_type",
                )
            self._read(item, path)
        if self._reasoning_id is not None:
            raise VendorError(
                400,
                f"Item '{self._reasoning_id}' of type 'reasoning' was provided without its required following item.",
                param="input",
            )
        for call_id, (kind, _) in self._open.items():
            raise VendorError(400, f"No tool output found for {_CALLS[kind]} {call_id}.", param="input")

    def _read(self, item: Mapping[str, Any], path: str) -> None:
        kind = item.get("type", "message" if "role" in item else None)
        self._check_id(item, str(kind), path)
        match kind:
            case "message":
                self._message(item, path)
            case "function_call" | "custom_tool_call":
                self._call(item, str(kind), path)
            case "function_call_output" | "custom_tool_call_output":
                self._output(item, str(kind), path)
            case "reasoning":
                self._reasoning(item, path)
            case "compaction":
                self._compaction(item)
            case "item_reference":
                raise VendorError(404, f"Item with id '{item.get('id')}' not found.", param="input")
            case str() if kind in _OTHERS:
                self._reasoning_id = None
                self.record.characters += len(dump(item))
            case None:
                raise _missing(f"{path}.type")
            case _:
                supported = ", ".join(f"'{name}'" for name in ("message", *_CALLS, *_OUTPUTS, "reasoning"))
                raise VendorError(
                    400,
                    f"Invalid value: '{kind}'. Supported values are: {supported}.",
                    param=path,
                    code="invalid_value",
                )

    def _check_id(self, item: Mapping[str, Any], kind: str, path: str) -> None:
        item_id = item.get("id")
        if item_id is None:
            return
        at = f"{path}.id"
        if not isinstance(item_id, str):
            raise VendorError(400, f"Invalid type for '{at}': expected a string.", param=at, code="invalid_type")
        check_length(item_id, at)
        prefix = _PREFIXES.get(kind)
        if prefix is not None and not item_id.startswith(f"{prefix}_"):
            raise VendorError(
                400,
                f"Invalid '{at}': '{item_id}'. Expected an ID that begins with '{prefix}'.",
                param=at,
                code="invalid_value",
            )

    def _message(self, item: Mapping[str, Any], path: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            listed = ", ".join(f"'{name}'" for name in _ROLES[:-1])
            raise VendorError(
                400,
                f"Invalid value: '{role}'. Supported values are: {listed}, and '{_ROLES[-1]}'.",
                param=path,
                code="invalid_value",
            )
        content = item.get("content")
        if content is None:
            raise _missing(f"{path}.content")
        text = content if isinstance(content, str) else self._parts(content, str(role), f"{path}.content")
        match role:
            case "assistant":
                self._reasoning_id = None
                self.record.assistant(text)
            case "user":
                self._refuse_open_reasoning()
                self.record.user(text)
            case _:
                self._refuse_open_reasoning()
                self.record.system(text)

    def _refuse_open_reasoning(self) -> None:
        if self._reasoning_id is not None:
            raise VendorError(
                400,
                f"Item '{self._reasoning_id}' of type 'reasoning' was provided without its required following item.",
                param="input",
            )

    def _parts(self, parts: Any, role: str, path: str) -> str:
        if not isinstance(parts, list):
            raise VendorError(
                400,
                f"Invalid type for '{path}': expected one of an array of objects or string, "
                f"but got {_kind_of(parts)} instead.",
                param=path,
                code="invalid_type",
            )
        said: list[str] = []
        allowed = _OUTPUT_KINDS if role == "assistant" else _INPUT_KINDS
        for index, part in enumerate(parts):
            at = f"{path}[{index}]"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in allowed:
                listed = ", ".join(f"'{name}'" for name in allowed[:-1])
                raise VendorError(
                    400,
                    f"Invalid value: '{kind}'. Supported values are: {listed}, and '{allowed[-1]}'.",
                    param=at,
                    code="invalid_value",
                )
            said.append(self._part(part, str(kind), at))
        return "".join(said)

    def _part(self, part: Mapping[str, Any], kind: str, path: str) -> str:
        if kind in ("input_text", "output_text", "refusal"):
            field = "refusal" if kind == "refusal" else "text"
            text = part.get(field)
            if not isinstance(text, str):
                raise _missing(f"{path}.{field}")
            return text
        self.record.characters += _MEDIA_CHARACTERS
        self.record.media.append(_media(part, kind, path))
        return ""

    def _call(self, item: Mapping[str, Any], kind: str, path: str) -> None:
        self._reasoning_id = None
        call_id, name = item.get("call_id"), item.get("name")
        field = "arguments" if kind == "function_call" else "input"
        arguments = item.get(field)
        for needed, value in (("call_id", call_id), ("name", name), (field, arguments)):
            if not isinstance(value, str):
                raise _missing(f"{path}.{needed}")
        check_length(str(call_id), f"{path}.call_id")
        if call_id in self._seen:
            raise VendorError(400, f"Duplicate item found with call_id {call_id}.", param="input")
        self._seen[str(call_id)] = kind
        self._open[str(call_id)] = (kind, str(name))
        self.record.call(str(name), str(arguments))

    def _output(self, item: Mapping[str, Any], kind: str, path: str) -> None:
        call_id = item.get("call_id")
        if not isinstance(call_id, str):
            raise _missing(f"{path}.call_id")
        check_length(call_id, f"{path}.call_id")
        made, name = self._open.pop(call_id, ("", ""))
        if made != _OUTPUTS[kind]:
            wanted = _CALLS[_OUTPUTS[kind]]
            raise VendorError(400, f"No tool call found for {wanted} output with call_id {call_id}.", param="input")
        output = item.get("output")
        if output is None:
            raise _missing(f"{path}.output")
        text = output if isinstance(output, str) else self._parts(output, "user", f"{path}.output")
        self._refuse_open_reasoning()
        self.record.result(name, text)

    def _reasoning(self, item: Mapping[str, Any], path: str) -> None:
        if not isinstance(item.get("summary"), list):
            raise _missing(f"{path}.summary")
        token, item_id = item.get("encrypted_content"), item.get("id")
        if isinstance(token, str):
            if not is_sealed(Purpose.REASONING, token):
                raise _unverified(token)
        elif not isinstance(item_id, str) or not is_own_reasoning(item_id):
            raise VendorError(
                404,
                f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false. "
                "Try again with `store` set to true, or remove this item from your input.",
                param="input",
            )
        for part in item["summary"]:
            text = part.get("text") if isinstance(part, dict) else None
            self.record.characters += len(text) if isinstance(text, str) else 0
        self._reasoning_id = str(item_id)

    def _compaction(self, item: Mapping[str, Any]) -> None:
        token = item.get("encrypted_content")
        if not isinstance(token, str) or not is_sealed(Purpose.COMPACTION, token):
            raise _unverified(str(token))
        self.record.has_answers = True


def check_length(value: str, path: str) -> None:
    """Refuse an id that is longer than the vendor takes."""
    if len(value) > _LONGEST_ID:
        raise VendorError(
            400,
            f"Invalid '{path}': string too long. Expected a string with maximum length {_LONGEST_ID}, "
            f"but got a string with length {len(value)} instead.",
            param=path,
            code="string_above_max_length",
        )


def reasoning_id(key: str) -> str:
    """Return an id for a reasoning item by which it is known again."""
    return f"rs_{key[:24]}{_mark(key[:24])}"


def is_own_reasoning(item_id: str) -> bool:
    """Tell whether the id was made by :func:`reasoning_id`."""
    return reasoning_id(item_id[3:27]) == item_id


def _mark(key: str) -> str:
    return f"{sum((n + 7) * ord(letter) ** 2 for n, letter in enumerate(key)) % 0xFFFF_FFFB:08x}"


def _unverified(token: str) -> VendorError:
    shown = token if len(token) <= 8 else f"{token[:4]}...{token[-4:]}"
    return VendorError(
        400,
        f"The encrypted content {shown} could not be verified. "
        "Reason: Encrypted content could not be decrypted or parsed.",
        code="invalid_encrypted_content",
    )


def _missing(path: str) -> VendorError:
    return VendorError(400, f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _media(part: Mapping[str, Any], kind: str, path: str) -> Media:
    if kind == "input_audio":
        sound = part.get("input_audio")
        if not isinstance(sound, dict) or not isinstance(sound.get("data"), str):
            raise _missing(f"{path}.input_audio.data")
        return Media("audio", f"audio/{sound.get('format')}", sound["data"])
    name, data_field, url_field = (
        ("image", "image_url", "image_url") if kind == "input_image" else ("document", "file_data", "file_url")
    )
    value = part.get(data_field)
    if isinstance(value, str) and value.startswith("data:"):
        mime, _, data = value[5:].partition(";base64,")
        return Media(name, mime, data)
    if isinstance(address := part.get(url_field), str):
        if url_field == "image_url" and not address.startswith(("http://", "https://")):
            raise VendorError(
                400,
                f"Invalid '{path}.image_url'. Expected a base64-encoded data URL with an image MIME type "
                f"(e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got a value without the 'data:' prefix.",
                param=f"{path}.image_url",
                code="invalid_value",
            )
        return Media(name, "", address, "url")
    if isinstance(file_id := part.get("file_id"), str):
        return Media(name, "", file_id, "file")
    if isinstance(value, str):
        return Media(name, "", value)
    raise _missing(f"{path}.{data_field}")
