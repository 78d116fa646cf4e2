"""Read the members of a client's JSON object one by one; what nobody asked for stays, as it was written.

Every object of a request becomes a canonical value and a rest. The rest is kept under the names of its members, so that
the same format gets them back; a name with `losses.SPELLING` in front holds a spelling that says nothing more than the
canonical value does (`null`, a default, another base64 alphabet). Two marks begin a note of this package's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard, TypeVar

import msgspec

from omniroute.errors import InvalidRequest, MissingField
from omniroute.formats.canonical import NO_EXTRA, Extra
from omniroute.formats.losses import SPELLING

NOTE: Final = SPELLING * 2
NULL: Final = msgspec.Raw(b"null")

Object = dict[str, msgspec.Raw]
T = TypeVar("T")

OBJECT: Final = msgspec.json.Decoder(Object)
LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
TEXT: Final = msgspec.json.Decoder(str)
_FLAG: Final = msgspec.json.Decoder(bool)
_INTEGER: Final = msgspec.json.Decoder(int)
_NUMBER: Final = msgspec.json.Decoder(float)


class Members:
    """The members of one object that have not been read yet."""

    __slots__ = ("_extra", "_left", "path")

    def __init__(self, raw: msgspec.Raw | bytes, path: str) -> None:
        """`path` names the object in errors, in the words of the format; "" for the whole body.

        Raises:
            InvalidRequest: it is no object.
        """
        self.path = path
        self._extra: Object = {}
        try:
            self._left: Object = OBJECT.decode(raw)
        except msgspec.DecodeError:
            raise self.wrong("", "an object") from None

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def where(self, name: str) -> str:
        """Return the path of a member."""
        if not name:
            return self.path
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, expected: str) -> InvalidRequest:
        """Return the error that a member is of the wrong type."""
        where = self.where(name)
        return InvalidRequest(f"Invalid type for '{where}': expected {expected}.", param=where)

    def raw(self, name: str) -> msgspec.Raw | None:
        """Take a member as it is written; None when it is absent or null."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if value == NULL:
            self._extra[SPELLING + name] = value
            return None
        return value

    def peek(self, name: str) -> msgspec.Raw | None:
        """Look at a member without taking it."""
        return self._left.get(name)

    def text(self, name: str) -> str | None:
        """Take a string."""
        return self._take(name, TEXT, "a string")

    def needed_text(self, name: str) -> str:
        """Take a string that must be there.

        Raises:
            MissingField: it is not.
        """
        value = self._take(name, TEXT, "a string")
        if value is None:
            raise MissingField(f"Missing required parameter: '{self.where(name)}'.", param=self.where(name))
        return value

    def flag(self, name: str) -> bool | None:
        """Take a boolean."""
        return self._take(name, _FLAG, "a boolean")

    def integer(self, name: str) -> int | None:
        """Take a whole number."""
        return self._take(name, _INTEGER, "an integer")

    def number(self, name: str) -> float | None:
        """Take a number."""
        return self._take(name, _NUMBER, "a number")

    def list(self, name: str) -> list[msgspec.Raw] | None:
        """Take a list."""
        return self._take(name, LIST, "an array")

    def note(self, name: str, value: Any) -> None:
        """Keep a note of this package's own: JSON text as it is, anything else as JSON."""
        self._extra[NOTE + name] = value if isinstance(value, msgspec.Raw) else encoded(value)

    def spell(self, name: str, value: msgspec.Raw) -> None:
        """Keep how a member was spelt."""
        self._extra[SPELLING + name] = value

    def spell_as_is(self, *names: str) -> None:
        """Keep members that say nothing to any other format, such as the vendor's own ids."""
        for name in names:
            value = self._left.pop(name, None)
            if value is not None:
                self._extra[SPELLING + name] = value

    def keep(self, name: str, value: msgspec.Raw) -> None:
        """Keep a member after all."""
        self._extra[name] = value

    def rest(self) -> Extra:
        """Return all that was kept and all that was not read."""
        if self._left:
            self._extra.update(self._left)
        return self._extra or NO_EXTRA

    def _take(self, name: str, decoder: msgspec.json.Decoder[T], expected: str) -> T | None:
        value = self.raw(name)
        if value is None:
            return None
        try:
            return decoder.decode(value)
        except msgspec.DecodeError:
            raise self.wrong(name, expected) from None


def is_text(raw: msgspec.Raw | None) -> TypeGuard[msgspec.Raw]:
    """Say whether a member is there and a string."""
    return raw is not None and memoryview(raw)[0] == 0x22


def is_object(raw: msgspec.Raw | None) -> TypeGuard[msgspec.Raw]:
    """Say whether a member is there and an object."""
    return raw is not None and memoryview(raw)[0] == 0x7B


def is_list(raw: msgspec.Raw | None) -> TypeGuard[msgspec.Raw]:
    """Say whether a member is there and a list."""
    return raw is not None and memoryview(raw)[0] == 0x5B


def encoded(value: Any) -> msgspec.Raw:
    """Return a value as JSON text."""
    return msgspec.Raw(msgspec.json.encode(value))


def note_of(extra: Extra, name: str) -> msgspec.Raw | None:
    """Return a note that :meth:`Members.note` kept."""
    return extra.get(NOTE + name)


def put_back(written: dict[str, Any], extra: Extra) -> dict[str, Any]:
    """Add what :meth:`Members.rest` kept of an object to what the canonical value says of it."""
    for name, value in extra.items():
        if not name.startswith(SPELLING):
            written[name] = value
        elif not name.startswith(NOTE):
            written[name[1:]] = value
    return written


def lost(extra: Mapping[str, Any]) -> list[str]:
    """Return the members of a rest that another format cannot say."""
    return [name for name in extra if not name.startswith(SPELLING)]
