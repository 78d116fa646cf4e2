"""Tool results: an object for Gemini, text everywhere else.

The vendor gives two members of the object a meaning, `output` and `error`; clients also write `result` and `content`.
An object with exactly one of them, holding a string, is that text. Any other object is its own JSON text, and a text
that is a JSON object goes back as that object.
"""

from __future__ import annotations

from typing import Final

import msgspec

from omniroute.formats.canonical import arguments_object
from omniroute.formats.gemini.protojson import begins
from omniroute.formats.members import EMPTY_OBJECT, EMPTY_TEXT, FALSE, NULL, Members, is_text, object_of, text_of

_TEXT_MEMBERS: Final = frozenset({"output", "result", "content"})
_NOTHING: Final = (NULL, FALSE, EMPTY_TEXT, EMPTY_OBJECT)


def read_response(raw: msgspec.Raw | None) -> tuple[str, bool]:
    """Return a result as text, and whether it tells of an error."""
    if raw is None:
        return "", False
    if not begins(raw, "{"):
        return (text_of(raw) if is_text(raw) else _json_text(raw)), False
    members = object_of(raw)
    if len(members) == 1:
        name, value = next(iter(members.items()))
        if name in _TEXT_MEMBERS and is_text(value):
            return text_of(value), False
        if name == "error" and is_text(value):
            return text_of(value), True
    return _json_text(raw), _tells_error(members)


def response_for(text: str, *, is_error: bool) -> msgspec.Raw | dict[str, str]:
    """Return the object that says this text."""
    is_object = text.lstrip()[:1] == "{"
    spelt = arguments_object(text) if is_object else None
    if spelt is not None and (not is_error or "error" in object_of(spelt)):
        return spelt
    return {"error" if is_error else "output": text}


def _tells_error(members: Members) -> bool:
    error = members.get("error")
    return error is not None and error not in _NOTHING and not (_TEXT_MEMBERS & members.keys())


def _json_text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode()
