"""OpenAI Chat Completions, the messages: check them as the vendor would and note what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox.prompt import Media, Record
from omniroute.providers.sandbox.script import VendorError
from omniroute.providers.sandbox.seal import unpack

_ROLES: Final = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
_MEDIA_CHARACTERS: Final = 340  # one picture or sound counts as 85 tokens
_LONGEST_ID: Final = 40
_PICTURES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
_PARTS: Final = ("text", "image_url", "input_audio", "refusal", "audio", "file")


class MessagesReader:
    """Reads the messages one after the other into a record."""

    __slots__ = ("_open", "_opened_at", "last_characters", "record")

    def __init__(self, record: Record, messages: Any) -> None:
        if messages is None:
            raise VendorError(
                400, "Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"
            )
        if not isinstance(messages, list):
            raise VendorError(
                400, "Invalid type for 'messages': expected an array of objects.", param="messages", code="invalid_type"
            )
        if not messages:
            raise _empty("messages")
        self.record = record
        self.last_characters = 0
        self._open: dict[str, str] = {}
        self._opened_at = 0
        for index, message in enumerate(messages):
            if not isinstance(message, dict):
                raise VendorError(
                    400,
                    f"Invalid type for 'messages[{index}]': expected an object.",
                    param=f"messages[{index}]",
                    code="invalid_type",
                )
            self._read(message, index)
        self._close_calls(len(messages))

    def _read(self, message: Mapping[str, Any], index: int) -> None:
        role, path = message.get("role"), f"messages[{index}]"
        if not isinstance(role, str) or role not in _ROLES:
            raise VendorError(
                400,
                f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', "
                "and 'developer'.",
                param=f"{path}.role",
                code="invalid_value",
            )
        before = self.record.characters
        content = message.get("content")
        is_silent = role == "assistant" and (message.get("tool_calls") or message.get("function_call"))
        if content is None and not is_silent and not (role == "assistant" and message.get("refusal")):
            raise VendorError(
                400,
                "Invalid value for 'content': expected a string, got null.",
                param=f"messages.[{index}].content",
                code="invalid_type",
            )
        text = content if isinstance(content, str) else self._parts(content, str(role), f"{path}.content")
        match role:
            case "tool":
                self._take_result(message.get("tool_call_id"), text, index)
            case "function":
                self.record.result(str(message.get("name")), text)
            case "assistant":
                self._close_calls(index)
                self.record.assistant(text)
                self._take_calls(message, path, index)
            case "user":
                self._close_calls(index)
                self.record.results.clear()
                self.record.text = text
                self.record.user(text)
            case _:
                self._close_calls(index)
                self.record.system(text)
        self.last_characters = self.record.characters - before

    def _parts(self, content: Any, role: str, path: str) -> str:
        if content is None:
            return ""
        if not isinstance(content, list):
            raise VendorError(
                400,
                f"Invalid type for '{path}': expected one of a string or array of objects.",
                param=path,
                code="invalid_type",
            )
        if not content:
            raise _empty(path)
        said: list[str] = []
        for index, part in enumerate(content):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("text", "refusal"):
                text = part.get(kind)
                if not isinstance(text, str):
                    at = f"{path}[{index}].{kind}"
                    raise VendorError(
                        400, f"Invalid type for '{at}': expected a string.", param=at, code="invalid_type"
                    )
                said.append(text)
            elif kind in _PARTS:
                if role != "user":
                    raise VendorError(
                        400,
                        f"Invalid '{path}[{index}]'. Image URLs are only allowed for messages with role 'user', "
                        f"but this message with role '{role}' contains an image URL.",
                        param=path,
                        code="invalid_value",
                    )
                self.record.characters += _MEDIA_CHARACTERS
                self.record.media.append(_media(part, str(kind), f"{path}[{index}]"))
            else:
                listed = ", ".join(f"'{name}'" for name in _PARTS[:-1])
                raise VendorError(
                    400,
                    f"Invalid value: '{kind}'. Supported values are: {listed}, and '{_PARTS[-1]}'.",
                    param=f"{path}[{index}].type",
                    code="invalid_value",
                )
        return "".join(said)

    def _take_calls(self, message: Mapping[str, Any], path: str, index: int) -> None:
        legacy = message.get("function_call")
        if isinstance(legacy, Mapping) and isinstance(legacy.get("name"), str):
            self.record.call(legacy["name"], str(legacy.get("arguments") or ""))
        calls = message.get("tool_calls")
        if calls is None:
            return
        if not isinstance(calls, list) or not calls:
            raise _empty(f"{path}.tool_calls")
        self._opened_at = index
        for position, call in enumerate(calls):
            at = f"{path}.tool_calls[{position}]"
            call_id = call.get("id") if isinstance(call, dict) else None
            if not isinstance(call_id, str):
                raise _missing(f"{at}.id")
            if len(call_id) > _LONGEST_ID:
                raise VendorError(
                    400,
                    f"Invalid '{at}.id': string too long. Expected a string with maximum length {_LONGEST_ID}, "
                    f"but got a string with length {len(call_id)} instead.",
                    param=f"{at}.id",
                    code="string_above_max_length",
                )
            kind = call.get("type", "function")
            if kind not in ("function", "custom"):
                raise VendorError(
                    400,
                    f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'.",
                    param=f"{at}.type",
                    code="invalid_value",
                )
            named = call.get(kind)
            if not isinstance(named, dict) or not isinstance(named.get("name"), str):
                raise _missing(f"{at}.{kind}.name")
            field = "arguments" if kind == "function" else "input"
            arguments = named.get(field)
            if not isinstance(arguments, str):
                where = f"{at}.{kind}.{field}"
                what = "an object" if isinstance(arguments, dict) else "null" if arguments is None else "a value"
                raise VendorError(
                    400,
                    f"Invalid type for '{where}': expected a string, but got {what} instead.",
                    param=where,
                    code="invalid_type",
                )
            if call_id in self._open:
                raise VendorError(400, f"Duplicate value for 'tool_call_id' of '{call_id}' in '{at}'.", param=at)
            self._open[call_id] = named["name"]
            self.record.call(named["name"], arguments)

    def _take_result(self, call_id: Any, text: str, index: int) -> None:
        if call_id is None:
            raise _missing(f"messages[{index}].tool_call_id")
        name = self._open.pop(call_id, None) if isinstance(call_id, str) else None
        if name is None:
            raise VendorError(
                400,
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                "with 'tool_calls'.",
                param=f"messages.[{index}].role",
            )
        self.record.result(name, text)

    def _close_calls(self, index: int) -> None:
        if not self._open:
            return
        raise VendorError(
            400,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: "
            f"{', '.join(self._open)}",
            param=f"messages.[{min(index, self._opened_at + 1)}].role",
        )


def _empty(path: str) -> VendorError:
    return VendorError(
        400,
        f"Invalid '{path}': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        param=path,
        code="empty_array",
    )


def _missing(path: str) -> VendorError:
    return VendorError(400, f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")


def _media(part: Mapping[str, Any], kind: str, path: str) -> Media:
    value = part.get(kind)
    if not isinstance(value, Mapping):
        raise _missing(f"{path}.{kind}")
    match kind:
        case "input_audio":
            sound, shape = value.get("data"), value.get("format")
            if not isinstance(sound, str):
                raise _missing(f"{path}.input_audio.data")
            if shape not in ("wav", "mp3"):
                raise VendorError(
                    400,
                    f"Invalid value: '{shape}'. Supported values are: 'wav' and 'mp3'.",
                    param=f"{path}.input_audio.format",
                    code="invalid_value",
                )
            return Media("audio", f"audio/{shape}", sound)
        case "image_url":
            return _picture(value.get("url"), f"{path}.image_url.url")
        case "file":
            data = value.get("file_data")
            if isinstance(data, str):
                mime, _, content = data.removeprefix("data:").partition(";base64,")
                return Media("document", mime, content) if content else Media("document", "", data)
            if not isinstance(value.get("file_id"), str):
                raise _missing(f"{path}.file.file_id")
            return Media("document", "", value["file_id"], "file")
        case _:
            return Media("audio", "", str(value.get("id")), "file")


def _picture(url: Any, path: str) -> Media:
    if not isinstance(url, str):
        raise _missing(path)
    if url.startswith(("http://", "https://")):
        return Media("image", "", url, "url")
    mime, _, data = url.removeprefix("data:").partition(";base64,")
    if not url.startswith("data:") or mime not in _PICTURES or unpack(data) is None:
        raise VendorError(
            400,
            "You uploaded an unsupported image. Please make sure your image has of one the following formats: "
            "['png', 'jpeg', 'gif', 'webp'].",
            param=path,
            code="invalid_image_format",
        )
    return Media("image", mime, data)
