"""Declare the fields that a body may have: how each is checked, and the JSON schema that says the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
from flask import Request

from omniroute.blueprints.management.json_body import DEFAULT_LIMIT, SURROGATE, read_object, shown_name
from omniroute.errors import ValidationFailed

_INT64: Final = 2**63
_MOST: Final = 1e308
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_encode: Final = msgspec.json.Encoder().encode


class Invalid(ValueError):
    """A value does not fit its field; the text says what would."""


Check = Callable[[Any], Any]
"""Return the value as it is to be used, or raise `Invalid`."""


Schema = Mapping[str, Any]
"""A JSON schema, as OpenAPI 3.1 has it."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body: its main name, other accepted names, and what its value must be.

    Attributes:
        schema: what a value may be, where it is not null; nothing said is anything.
    """

    name: str
    check: Check
    aliases: tuple[str, ...] = ()
    required: bool = False
    nullable: bool = False
    schema: Schema = attribute(default_factory=dict, compare=False)

    @property
    def value_schema(self) -> dict[str, Any]:
        """What a value may be, null included where it is taken."""
        return nullable_schema(self.schema) if self.nullable else dict(self.schema)


def nullable_schema(schema: Schema) -> dict[str, Any]:
    """Return a schema that takes null too."""
    kind = schema.get("type")
    if not isinstance(kind, str):
        return {"anyOf": [dict(schema), {"type": "null"}]} if schema else {}
    made = {**schema, "type": [kind, "null"]}
    return {**made, "enum": [*schema["enum"], None]} if "enum" in schema else made


class Fields:
    """The fields that a body may have."""

    __slots__ = ("_by_fold", "_by_name", "_fields")

    def __init__(self, *fields: Field) -> None:
        self._fields = fields
        self._by_name = {name: field for field in fields for name in (field.name, *field.aliases)}
        self._by_fold = {name.casefold(): name for name in self._by_name}

    def read(self, request: Request, *, limit: int = DEFAULT_LIMIT, optional: bool = False) -> dict[str, Any]:
        """Read and check the body of `request`; see :func:`read_object` and :meth:`check`."""
        return self.check(read_object(request, limit=limit, optional=optional))

    def check(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given fields under their main names.

        Raises:
            ValidationFailed: with one detail for each unknown, doubled, missing or wrong field.
        """
        details: list[dict[str, str]] = []
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for name, value in body.items():
            field = self._by_name.get(name)
            if field is None:
                details.append({"field": shown_name(name), "message": self._unknown(name)})
            elif field.name in sources and value != body[sources[field.name]]:
                message = f"given twice with different values, also as {sources[field.name]}"
                details.append({"field": name, "message": message})
            elif field.name not in sources:
                sources[field.name] = name
                try:
                    values[field.name] = _checked(field, value)
                except Invalid as error:
                    details.append({"field": name, "message": str(error)})
                except ValidationFailed as error:
                    details += [{**detail, "field": f"{name}.{detail['field']}"} for detail in error.details]
        for one in self._fields:
            if one.required and one.name not in sources:
                details.append({"field": one.name, "message": "is required"})
        if details:
            raise ValidationFailed(details)
        return values

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the body. An alias is a property of its own that says what it stands for."""
        properties: dict[str, Any] = {}
        for one in self._fields:
            properties[one.name] = one.value_schema
            for alias in one.aliases:
                said = {**one.value_schema, "description": f"Another name of `{one.name}`."}
                properties[alias] = {**said, "x-omniroute-alias-of": one.name}
        made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        required = [one for one in self._fields if one.required]
        if plain := [one.name for one in required if not one.aliases]:
            made["required"] = plain
        choices = [
            {"anyOf": [{"required": [name]} for name in (one.name, *one.aliases)]} for one in required if one.aliases
        ]
        return {**made, "allOf": choices} if choices else made

    def _unknown(self, name: str) -> str:
        meant = self._by_fold.get(name.casefold())
        return f"unknown field; did you mean {meant}?" if meant else "unknown field"


def _checked(field: Field, value: Any) -> Any:
    if value is None:
        if field.nullable:
            return None
        raise Invalid("must not be null")
    return field.check(value)


def _names(alias: str | Sequence[str]) -> tuple[str, ...]:
    return (alias,) if isinstance(alias, str) else tuple(alias)


def text(
    name: str,
    *,
    alias: str | Sequence[str] = (),
    required: bool = False,
    nullable: bool = False,
    min_length: int = 1,
    max_length: int = 200,
    pattern: str | None = None,
    choices: Iterable[str] | type[StrEnum] | None = None,
    multiline: bool = False,
    secret: bool = False,
) -> Field:
    """A string, trimmed unless it is a `secret`; control characters are refused, line breaks too unless `multiline`.

    A `secret` is never quoted in a message. With `choices` only those values are accepted.
    """
    allowed = tuple(str(choice) for choice in choices) if choices is not None else None
    shape = re.compile(pattern) if pattern is not None else None

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Invalid("must be a string")
        cleaned = value if secret else value.strip()
        if not min_length <= len(cleaned) <= max_length:
            raise Invalid(f"must have {min_length} to {max_length} characters")
        if _CONTROL.search(cleaned) or SURROGATE.search(cleaned):
            raise Invalid("must not hold control characters")
        if not multiline and ("\n" in cleaned or "\r" in cleaned):
            raise Invalid("must be one line")
        if allowed is not None and cleaned not in allowed:
            raise Invalid(f"must be one of {', '.join(allowed)}")
        if shape is not None and not shape.fullmatch(cleaned):
            raise Invalid("has characters or a form that are not allowed")
        return cleaned

    schema: dict[str, Any] = {"type": "string"}
    if allowed is not None:
        schema["enum"] = list(allowed)
    else:
        schema |= {"minLength": min_length, "maxLength": max_length}
    if pattern is not None:
        schema["pattern"] = f"^(?:{pattern})$"
    if secret:
        schema |= {"format": "password", "writeOnly": True}
    return Field(name, check, _names(alias), required, nullable, schema)


def integer(
    name: str,
    *,
    alias: str | Sequence[str] = (),
    required: bool = False,
    nullable: bool = False,
    minimum: int = -_INT64,
    maximum: int = _INT64 - 1,
) -> Field:
    """A whole number in a range; `1.0` and `true` are not whole numbers here."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Invalid("must be a whole number")
        if not minimum <= value <= maximum:
            raise Invalid(f"must be between {minimum} and {maximum}")
        return value

    schema = _ranged("integer", minimum, maximum, (-_INT64, _INT64 - 1))
    return Field(name, check, _names(alias), required, nullable, schema)


def number(
    name: str,
    *,
    alias: str | Sequence[str] = (),
    required: bool = False,
    nullable: bool = False,
    minimum: float = -_MOST,
    maximum: float = _MOST,
) -> Field:
    """A finite number in a range."""

    def check(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Invalid("must be a number")
        if not minimum <= value <= maximum:
            raise Invalid(f"must be between {minimum:g} and {maximum:g}")
        return float(value)

    schema = _ranged("number", minimum, maximum, (-_MOST, _MOST))
    return Field(name, check, _names(alias), required, nullable, schema)


def _ranged(kind: str, minimum: float, maximum: float, usual: tuple[float, float]) -> dict[str, Any]:
    """Return the schema of a number; the limits that every number has go without saying."""
    schema: dict[str, Any] = {"type": kind}
    if minimum != usual[0]:
        schema["minimum"] = minimum
    if maximum != usual[1]:
        schema["maximum"] = maximum
    return schema


def flag(name: str, *, alias: str | Sequence[str] = (), required: bool = False, nullable: bool = False) -> Field:
    """`true` or `false`; nothing that merely looks like it."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Invalid("must be true or false")
        return value

    return Field(name, check, _names(alias), required, nullable, {"type": "boolean"})


def moment(name: str, *, alias: str | Sequence[str] = (), required: bool = False, nullable: bool = False) -> Field:
    """An ISO 8601 time with its zone; becomes epoch seconds."""

    def check(value: Any) -> float:
        if not isinstance(value, str) or len(value) > 40:
            raise Invalid("must be an ISO 8601 time such as 2027-01-31T12:00:00Z")
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            raise Invalid("must be an ISO 8601 time such as 2027-01-31T12:00:00Z") from None
        if parsed.tzinfo is None:
            raise Invalid("needs a time zone, for example a trailing Z")
        return parsed.timestamp()

    return Field(name, check, _names(alias), required, nullable, {"type": "string", "format": "date-time"})


def texts(
    name: str,
    *,
    alias: str | Sequence[str] = (),
    required: bool = False,
    nullable: bool = False,
    min_items: int = 0,
    max_items: int = 100,
    max_length: int = 200,
    pattern: str | None = None,
    choices: Iterable[str] | type[StrEnum] | None = None,
) -> Field:
    """A list of strings without repeats; becomes a tuple in the order given."""
    element = text(name, max_length=max_length, pattern=pattern, choices=choices)
    return _list(element, min_items, max_items, Field(name, element.check, _names(alias), required, nullable))


def integers(
    name: str,
    *,
    alias: str | Sequence[str] = (),
    required: bool = False,
    nullable: bool = False,
    min_items: int = 0,
    max_items: int = 100,
    minimum: int = -_INT64,
    maximum: int = _INT64 - 1,
) -> Field:
    """A list of whole numbers without repeats; becomes a tuple in the order given."""
    element = integer(name, minimum=minimum, maximum=maximum)
    return _list(element, min_items, max_items, Field(name, element.check, _names(alias), required, nullable))


def objects(
    name: str,
    fields: Fields,
    *,
    alias: str | Sequence[str] = (),
    required: bool = False,
    nullable: bool = False,
    min_items: int = 0,
    max_items: int = 100,
) -> Field:
    """A list of objects with declared fields of their own; becomes a tuple."""
    element = nested(name, fields)
    made = Field(name, element.check, _names(alias), required, nullable)
    return _list(element, min_items, max_items, made, is_unique=False)


def _list(element: Field, min_items: int, max_items: int, made: Field, *, is_unique: bool = True) -> Field:
    """Return `made` as a field that takes a list of what `element` takes."""
    check = _list_check(element.check, min_items, max_items, unique=is_unique)
    schema: dict[str, Any] = {"type": "array", "items": element.schema, "maxItems": max_items}
    if min_items:
        schema["minItems"] = min_items
    if is_unique:
        schema["uniqueItems"] = True
    return replace(made, check=check, schema=schema)


def _list_check(element: Check, min_items: int, max_items: int, *, unique: bool) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Invalid("must be a list")
        if not min_items <= len(value) <= max_items:
            raise Invalid(f"must have {min_items} to {max_items} entries")
        items = []
        for position, item in enumerate(value):
            try:
                items.append(element(item))
            except Invalid as error:
                raise Invalid(f"entry {position + 1} {error}") from None
        if unique and len(set(items)) != len(items):
            raise Invalid("holds the same entry twice")
        return tuple(items)

    return check


def nested(
    name: str,
    fields: Fields,
    *,
    alias: str | Sequence[str] = (),
    required: bool = False,
    nullable: bool = False,
) -> Field:
    """An object with declared fields of its own; its faults are reported as `name.field`."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Invalid("must be an object")
        return fields.check(value)

    return Field(name, check, _names(alias), required, nullable, fields.schema)


def mapping(
    name: str,
    *,
    alias: str | Sequence[str] = (),
    required: bool = False,
    nullable: bool = False,
    max_items: int = 50,
    max_bytes: int = 16 * 1024,
) -> Field:
    """An object with free keys, for values that a service checks by their meaning."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Invalid("must be an object")
        if len(value) > max_items:
            raise Invalid(f"must have at most {max_items} entries")
        try:
            size = len(_encode(value))
        except (UnicodeEncodeError, ValueError, OverflowError):
            raise Invalid("holds a value that cannot be stored") from None
        if size > max_bytes:
            raise Invalid(f"must be at most {max_bytes} bytes")
        return value

    schema = {"type": "object", "maxProperties": max_items}
    return Field(name, check, _names(alias), required, nullable, schema)
