"""Read requests as protobuf JSON: both spellings of a name, numbers as strings, null for what is not set.

The vendor's servers read a message, not a JSON document: `inlineData` and `inline_data` are the same field, a 64-bit
integer may be a string, and null is the same as leaving a field out. Only names of the protocol are changed here, never
keys of arguments, results, schemas or labels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from omniroute.formats.members import NULL, BadShape, Members, list_of, object_of

_T = TypeVar("_T")

_INT: Final = msgspec.json.Decoder(int, strict=False)
_FLOAT: Final = msgspec.json.Decoder(float, strict=False)
_BOOL: Final = msgspec.json.Decoder(bool, strict=False)
_TEXT: Final = msgspec.json.Decoder(str)
_WORD: Final = msgspec.json.Decoder(str | int)


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """Return the JSON spelling of a field."""
    first, *others = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others) if first else name


def fields_of(raw: msgspec.Raw | bytes, path: str = "") -> Members:
    """Return the fields of a message that are set, in their JSON spelling.

    Raises:
        BadShape: it is no object.
    """
    members = object_of(raw, path)
    for name, value in members.items():
        if "_" in name or value == NULL:
            return {camel(one): value for one, value in members.items() if value != NULL}
    return members


def elements_of(raw: msgspec.Raw | None, path: str = "") -> list[msgspec.Raw]:
    """Return the elements of a repeated field; a lone element stands for a list of it."""
    if raw is None:
        return []
    return list_of(raw, path) if begins(raw, "[") else [raw]


def begins(raw: msgspec.Raw, mark: str) -> bool:
    """Say whether a value is what begins with this character: an object, a list, a string."""
    return memoryview(raw)[0] == ord(mark)


def take_int(fields: Members, name: str) -> int | None:
    """Take an integer, which may be written as a string or as 40.0."""
    raw = fields.pop(name, None)
    return None if raw is None else _decoded(_INT.decode, raw, name, "This must be an integer.")


def take_float(fields: Members, name: str) -> float | None:
    """Take a number, which may be written as a string."""
    raw = fields.pop(name, None)
    return None if raw is None else _decoded(_FLOAT.decode, raw, name, "This must be a number.")


def take_bool(fields: Members, name: str) -> bool | None:
    """Take a truth value."""
    raw = fields.pop(name, None)
    return None if raw is None else _decoded(_BOOL.decode, raw, name, "This must be true or false.")


def take_text(fields: Members, name: str) -> str | None:
    """Take a string."""
    raw = fields.pop(name, None)
    return None if raw is None else _decoded(_TEXT.decode, raw, name, "This must be a string.")


def take_enum(fields: Members, name: str, numbers: tuple[str, ...] = ()) -> str | None:
    """Take a word in capitals; `numbers` are the words that may be given by their number."""
    raw = fields.pop(name, None)
    if raw is None:
        return None
    word: str | int = _decoded(_WORD.decode, raw, name, "This must be a string.")
    if isinstance(word, str):
        return word.upper()
    if not 0 <= word < len(numbers):
        raise BadShape(name, f"{word} is no value of this field.")
    return numbers[word]


def take_fields(fields: Members, name: str) -> Members:
    """Take a message; one that is not set has no fields."""
    raw = fields.pop(name, None)
    return {} if raw is None else fields_of(raw, name)


def _decoded(decode: Callable[[msgspec.Raw], _T], raw: msgspec.Raw, path: str, message: str) -> _T:
    try:
        return decode(raw)
    except msgspec.DecodeError:
        raise BadShape(path, message) from None
