"""What OpenAI demands of tool names and of schemas, the same in both of its dialects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox.script import VendorError

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_NAME: Final = 64
_TYPES: Final = frozenset(("object", "array", "string", "number", "integer", "boolean", "null"))
_DEEPEST: Final = 32


def check_name(name: Any, path: str) -> str:
    """Return the name of a tool.

    Raises:
        VendorError: the vendor does not take such a name.
    """
    if not isinstance(name, str):
        raise VendorError(400, f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")
    if not name:
        raise VendorError(
            400,
            f"Invalid '{path}': empty string. Expected a string with minimum length 1, "
            "but got an empty string instead.",
            param=path,
            code="empty_string",
        )
    if len(name) > _LONGEST_NAME:
        raise VendorError(
            400,
            f"Invalid '{path}': string too long. Expected a string with maximum length {_LONGEST_NAME}, "
            f"but got a string with length {len(name)} instead.",
            param=path,
            code="string_above_max_length",
        )
    if _NAME.fullmatch(name) is None:
        raise VendorError(
            400,
            f"Invalid '{path}': string does not match pattern. "
            "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
            param=path,
            code="invalid_value",
        )
    return name


def check_strict(name: str, schema: Any, path: str, *, is_strict: bool) -> None:
    """Check the schema of a function or an answer.

    Raises:
        VendorError: its root is no object, or it promises to be strict and is not.
    """
    if not isinstance(schema, dict):
        raise VendorError(400, f"Invalid type for '{path}': expected an object.", param=path, code="invalid_type")
    kind = schema.get("type")
    if kind != "object" and not (kind is None and not is_strict):
        shown = "None" if kind is None else kind
        raise _refused(name, path, f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{shown}\"'.")
    if is_strict:
        _walk(name, schema, path, (), 0)


def _walk(name: str, schema: Any, path: str, at: tuple[str, ...], depth: int) -> None:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return
    where = f"In context={at!r}, "
    kind = schema.get("type")
    for one in kind if isinstance(kind, list) else [kind]:
        if one is not None and (not isinstance(one, str) or one not in _TYPES):
            raise _refused(name, path, f"{where}'{one}' is not a valid type.")
    for keyword in ("allOf", "oneOf", "not", "if", "patternProperties", "dependentRequired"):
        if keyword in schema:
            raise _refused(name, path, f"{where}'{keyword}' is not permitted.")
    properties = schema.get("properties")
    if kind == "object" or isinstance(properties, Mapping):
        _check_object(name, schema, path, where)
    if isinstance(properties, Mapping):
        for key, value in properties.items():
            _walk(name, value, path, (*at, "properties", key), depth + 1)
    if kind == "array" and "items" not in schema:
        raise _refused(name, path, f"{where}array schema missing items.")
    _walk(name, schema.get("items"), path, (*at, "items"), depth + 1)
    branches = schema.get("anyOf")
    for index, branch in enumerate(branches if isinstance(branches, list) else ()):
        _walk(name, branch, path, (*at, "anyOf", str(index)), depth + 1)
    for group in ("$defs", "definitions"):
        named = schema.get(group)
        for key, value in named.items() if isinstance(named, Mapping) else ():
            _walk(name, value, path, (*at, group, key), depth + 1)


def _check_object(name: str, schema: Mapping[str, Any], path: str, where: str) -> None:
    if schema.get("additionalProperties") is not False:
        raise _refused(name, path, f"{where}'additionalProperties' is required to be supplied and to be false.")
    properties, required = schema.get("properties"), schema.get("required")
    known = list(properties) if isinstance(properties, Mapping) else []
    missing = [key for key in known if not isinstance(required, list) or key not in required]
    if missing:
        raise _refused(
            name,
            path,
            f"{where}'required' is required to be supplied and to be an array including every key in properties. "
            f"Missing '{missing[0]}'.",
        )


def _refused(name: str, path: str, reason: str) -> VendorError:
    is_format = path.startswith(("text.format", "response_format"))
    what, code = (
        ("response_format", "invalid_json_schema") if is_format else ("function", "invalid_function_parameters")
    )
    return VendorError(400, f"Invalid schema for {what} '{name}': {reason}", param=path, code=code)
