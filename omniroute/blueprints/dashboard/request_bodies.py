"""The captured bodies of a request as the page shows them: each as text, long ones shortened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from flask_babel import gettext as _

_MOST_SHOWN: Final = 64 << 10
_LONG_CHARACTERS: Final = 4000
_LONG_LINES: Final = 40
_MOST_INDENTED: Final = 256 << 10
_MOST_OPENED: Final = 100 << 10
"""Characters of a request up to which the translator takes it."""


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One of the bodies.

    Attributes:
        line: what stands above it: method and address, or nothing.
        text: of a very long one the beginning.
        is_shortened: more of it is kept than is shown.
        is_cut: more of it came than is kept.
        is_missing: there was none; `error` may say why.
    """

    title: str
    sub: str = ""
    line: str = ""
    status: int | None = None
    headers: tuple[dict[str, str], ...] = ()
    text: str = ""
    size: int = 0
    is_shortened: bool = False
    is_cut: bool = False
    is_missing: bool = False
    error: str = ""
    is_openable: bool = False

    @property
    def is_long(self) -> bool:
        """Whether it is folded at first."""
        return len(self.text) > _LONG_CHARACTERS or self.text.count("\n") > _LONG_LINES


def parts_of(bodies: dict[str, Any]) -> list[BodyPart]:
    """Return the bodies in the order in which they came."""
    return list(_parts(bodies))


def _parts(bodies: dict[str, Any]) -> Iterator[BodyPart]:
    asked = bodies["clientRequest"]
    body = asked["body"]
    is_openable = not body["cut"] and 0 < len(body["text"]) <= _MOST_OPENED
    yield _part(_("Client request"), asked, is_openable=is_openable)
    several = len(bodies["attempts"]) > 1
    for one in bodies["attempts"]:
        sub = " / ".join(filter(None, (one["provider"], one["model"])))
        if several:
            sub = _("attempt %(number)s: %(target)s", number=one["number"], target=sub)
        yield _part(_("Upstream request"), one["request"], sub)
        if one["response"] is None:
            yield BodyPart(_("Upstream response"), sub, is_missing=True, error=one["error"] or "")
        else:
            yield _part(_("Upstream response"), one["response"], sub)
    if bodies["clientResponse"] is None:
        yield BodyPart(_("Client response"), is_missing=True)
    else:
        yield _part(_("Client response"), bodies["clientResponse"])


def _part(title: str, message: dict[str, Any], sub: str = "", *, is_openable: bool = False) -> BodyPart:
    body = message["body"]
    text = readable(body["text"])
    return BodyPart(
        title,
        sub,
        line=f"{message['method']} {message['url']}" if "url" in message else "",
        status=message.get("status"),
        headers=tuple(message["headers"]),
        text=text[:_MOST_SHOWN],
        size=body["bytes"],
        is_shortened=len(text) > _MOST_SHOWN,
        is_cut=body["cut"],
        is_openable=is_openable,
    )


def readable(text: str) -> str:
    """Return JSON with its members on lines of their own, and anything else as it is."""
    if len(text) > _MOST_INDENTED or not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        return text
