"""Read the members of JSON objects whose shape is not to be trusted, and leave unparsed what nobody needs.

A parser takes the members that it knows out of a `dict[str, msgspec.Raw]`; what is left is the `extra` of the
canonical value. A member that is null counts as not said; it stays in the dictionary as a spelling
(`losses.SPELLING`), so that it goes back as it came and is nobody's loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

import msgspec

from omniroute.errors import InvalidRequest, MissingField, UpstreamProtocolError
from omniroute.formats.losses import SPELLING

Members = dict[str, msgspec.Raw]

NOTE: Final = SPELLING * 2
"""In front of names in `extra` under which a parser keeps what it must know to write the request again."""

NULL: Final = msgspec.Raw(b"null")
FALSE: Final = msgspec.Raw(b"false")
EMPTY_LIST: Final = msgspec.Raw(b"[]")
EMPTY_OBJECT: Final = msgspec.Raw(b"{}")
EMPTY_TEXT: Final = msgspec.Raw(b'""')

_QUOTE: Final = ord('"')
_BRACE: Final = ord("{")

_OBJECT: Final = msgspec.json.Decoder(Members)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_TEXT_OR_NULL: Final[msgspec.json.Decoder[str | None]] = msgspec.json.Decoder(str | None)
_TEXTS_OR_NULL: Final[msgspec.json.Decoder[list[str] | None]] = msgspec.json.Decoder(list[str] | None)
_INT_OR_NULL: Final[msgspec.json.Decoder[int | None]] = msgspec.json.Decoder(int | None)
_FLOAT_OR_NULL: Final[msgspec.json.Decoder[float | None]] = msgspec.json.Decoder(float | None)
_BOOL_OR_NULL: Final[msgspec.json.Decoder[bool | None]] = msgspec.json.Decoder(bool | None)


class BadShape(Exception):
    """JSON of another shape than its format has; `path` leads to it from where the reading began."""

    def __init__(self, path: str, message: str, *, is_missing: bool = False) -> None:
        super().__init__(path, message)
        self.path = path
        self.message = message
        self.is_missing = is_missing

    def under(self, prefix: str) -> BadShape:
        """Return the same, seen from further outside."""
        path = f"{prefix}.{self.path}" if self.path else prefix
        return BadShape(path, self.message, is_missing=self.is_missing)

    def for_client(self) -> InvalidRequest | MissingField:
        """Return it as the fault of a client's body."""
        kind = MissingField if self.is_missing else InvalidRequest
        return kind(f"{self.path}: {self.message}" if self.path else self.message, param=self.path or None)

    def for_provider(self) -> UpstreamProtocolError:
        """Return it as the fault of a provider's bytes."""
        return UpstreamProtocolError(f"The provider's answer cannot be read: {self.path}: {self.message}")


def missing(name: str) -> NoReturn:
    """Say that a member has to be there."""
    raise BadShape(name, "This field is required.", is_missing=True)


def keep_spelling(members: Members, name: str) -> None:
    """Turn a member that has been read into a note on how it was spelt."""
    members[SPELLING + name] = members.pop(name)


def as_spelt(extra: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return the members of an `extra`, spellings under their own names, without the parser's notes."""
    return {
        name[1:] if name.startswith(SPELLING) else name: raw for name, raw in extra.items() if not name.startswith(NOTE)
    }


def object_of(raw: msgspec.Raw | bytes, path: str = "") -> Members:
    """Return the members of an object."""
    try:
        return _OBJECT.decode(raw)
    except msgspec.DecodeError:
        raise BadShape(path, "This must be an object.") from None


def list_of(raw: msgspec.Raw, path: str = "") -> list[msgspec.Raw]:
    """Return the elements of a list."""
    try:
        return _LIST.decode(raw)
    except msgspec.DecodeError:
        raise BadShape(path, "This must be a list.") from None


def is_text(raw: msgspec.Raw) -> bool:
    """Say whether a value is a string."""
    return memoryview(raw)[0] == _QUOTE


def is_object(raw: msgspec.Raw) -> bool:
    """Say whether a value is an object."""
    return memoryview(raw)[0] == _BRACE


def text_of(raw: msgspec.Raw, path: str = "") -> str:
    """Return the string that a value is."""
    try:
        return _TEXT.decode(raw)
    except msgspec.DecodeError:
        raise BadShape(path, "This must be a string.") from None


def take_text(members: Members, name: str) -> str:
    """Take a string that has to be there."""
    raw = members.pop(name, None)
    if raw is None:
        missing(name)
    try:
        return _TEXT.decode(raw)
    except msgspec.DecodeError:
        raise BadShape(name, "This must be a string.") from None


def take_text_if_any(members: Members, name: str) -> str | None:
    """Take a string that may be missing or null."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        value = _TEXT_OR_NULL.decode(raw)
    except msgspec.DecodeError:
        raise BadShape(name, "This must be a string.") from None
    if value is None:
        keep_spelling(members, name)
    else:
        del members[name]
    return value


def take_texts(members: Members, name: str) -> tuple[str, ...]:
    """Take a list of strings; one that is empty stays, as null does."""
    raw = members.get(name)
    if raw is None:
        return ()
    try:
        value = _TEXTS_OR_NULL.decode(raw)
    except msgspec.DecodeError:
        raise BadShape(name, "This must be a list of strings.") from None
    if value:
        del members[name]
    else:
        keep_spelling(members, name)
    return tuple(value or ())


def take_int(members: Members, name: str) -> int | None:
    """Take an integer that may be missing or null."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        value = _INT_OR_NULL.decode(raw)
    except msgspec.DecodeError:
        raise BadShape(name, "This must be an integer.") from None
    if value is None:
        keep_spelling(members, name)
    else:
        del members[name]
    return value


def take_float(members: Members, name: str) -> float | None:
    """Take a number that may be missing or null."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        value = _FLOAT_OR_NULL.decode(raw)
    except msgspec.DecodeError:
        raise BadShape(name, "This must be a number.") from None
    if value is None:
        keep_spelling(members, name)
    else:
        del members[name]
    return value


def take_bool(members: Members, name: str) -> bool | None:
    """Take a boolean that may be missing or null."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        value = _BOOL_OR_NULL.decode(raw)
    except msgspec.DecodeError:
        raise BadShape(name, "This must be true or false.") from None
    if value is None:
        keep_spelling(members, name)
    else:
        del members[name]
    return value


def take_raw(members: Members, name: str) -> msgspec.Raw | None:
    """Take a value as it is spelt; null stays."""
    raw = members.get(name)
    if raw is None:
        return None
    if raw == NULL:
        keep_spelling(members, name)
        return None
    del members[name]
    return raw


def take_object(members: Members, name: str) -> msgspec.Raw | None:
    """Take an object as it is spelt; null stays."""
    raw = take_raw(members, name)
    if raw is not None and not is_object(raw):
        raise BadShape(name, "This must be an object.")
    return raw


def take_list(members: Members, name: str) -> list[msgspec.Raw] | None:
    """Take the elements of a list; null stays."""
    raw = take_raw(members, name)
    return None if raw is None else list_of(raw, name)
