"""Gemini's own subset of OpenAPI schemas, as strict as the vendor reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from omniroute.providers.sandbox.script import VendorError

_KEYWORDS: Final = frozenset(
    (
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "items",
        "maxItems",
        "minItems",
        "properties",
        "required",
        "minProperties",
        "maxProperties",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "pattern",
        "example",
        "anyOf",
        "propertyOrdering",
        "default",
    )
)
_TYPES: Final = frozenset(("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL", "TYPE_UNSPECIFIED"))
_STRING_FORMATS: Final = ("enum", "date-time")
_DEEPEST: Final = 32


def check_schema(schema: Any, path: str, place: str) -> None:
    """Check a schema of the subset.

    Args:
        schema: as sent.
        path: where it is, in the spelling of unknown-name messages.
        place: where it is, in the spelling of the messages about its meaning.

    Raises:
        VendorError: it holds what the subset does not know.
    """
    unknown: list[tuple[str, str]] = []
    _collect(schema, path, unknown, 0)
    if unknown:
        raise unknown_names(unknown)
    _check(schema, place, 0)


def unknown_names(found: list[tuple[str, str]]) -> VendorError:
    """Return the refusal of fields, each given as name and place."""
    said = "\n".join(
        f'Invalid JSON payload received. Unknown name "{name}"{f" at {place!r}" if place else ""}: Cannot find field.'
        for name, place in found
    )
    return VendorError(400, said, param=found[0][1])


def _collect(schema: Any, path: str, unknown: list[tuple[str, str]], depth: int) -> None:
    if not isinstance(schema, Mapping):
        raise VendorError(400, f"Invalid value at '{path}' (type.googleapis.com/Schema), {schema!r}", param=path)
    if depth > _DEEPEST:
        raise VendorError(400, "The specified schema produces a constraint that has too many nested levels.")
    for written, value in schema.items():
        name = camel(written)
        if name not in _KEYWORDS:
            unknown.append((written, path))
        elif name == "type" and isinstance(value, list):
            raise VendorError(400, f"Proto field is not repeating, cannot start list at '{path}.type'.", param=path)
        elif name == "items":
            _collect(value, f"{path}.items", unknown, depth + 1)
        elif name == "anyOf" and isinstance(value, list):
            for index, branch in enumerate(value):
                _collect(branch, f"{path}.any_of[{index}]", unknown, depth + 1)
        elif name == "properties" and isinstance(value, Mapping):
            for position, inner in enumerate(value.values()):
                _collect(inner, f"{path}.properties[{position}].value", unknown, depth + 1)


def _check(schema: Mapping[str, Any], place: str, depth: int) -> None:
    fields = {camel(name): value for name, value in schema.items()}
    kind = str(fields.get("type", "")).upper()
    if kind and kind not in _TYPES:
        raise VendorError(
            400,
            f"Invalid value at '{place}.type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type), "
            f'"{fields["type"]}"',
            param=f"{place}.type",
        )
    options = fields.get("enum")
    if options is not None:
        if kind != "STRING":
            raise _wrong(f"{place}.enum: only allowed for STRING type")
        for index, option in enumerate(options if isinstance(options, list) else ()):
            if not isinstance(option, str):
                raise VendorError(400, f"Invalid value at '{place}.enum[{index}]' (TYPE_STRING), {option}", param=place)
            if not option:
                raise _wrong(f"{place}.enum[{index}]: cannot be empty")
    written = fields.get("format")
    if kind == "STRING" and written is not None and written not in _STRING_FORMATS:
        raise _wrong(f"{place}.format: only 'enum' and 'date-time' are supported for STRING type")
    if kind == "ARRAY" and "items" not in fields:
        raise _wrong(f"{place}.items: missing field.")
    properties = fields.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    if known and kind not in ("OBJECT", ""):
        raise _wrong(f"{place}.properties: only allowed for OBJECT type")
    required = fields.get("required")
    for index, name in enumerate(required if isinstance(required, list) else ()):
        if not isinstance(name, str) or name not in known:
            raise _wrong(f"{place}.required[{index}]: property is not defined")
    for name, inner in known.items():
        _check(inner, f"{place}.properties[{name}]", depth + 1)
    if isinstance(fields.get("items"), Mapping):
        _check(fields["items"], f"{place}.items", depth + 1)


def _wrong(reason: str) -> VendorError:
    return VendorError(400, f"* GenerateContentRequest.{reason}\n")


def camel(name: str) -> str:
    """Return the spelling of a field that this program uses; the vendor reads both."""
    if "_" not in name:
        return name
    first, *others = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others)
