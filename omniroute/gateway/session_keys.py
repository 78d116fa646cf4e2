"""Which session a request belongs to: what the caller named, what its client marks requests with, or else its text.

A derived key comes from the system text and the first user message, which stay the same for a conversation's whole
life. They are found by reading the body from the front, a bounded piece of it: a conversation of megabytes costs no
more than its beginning. Marks for prompt caches wander from message to message and do not count.

The key that routing works with is a keyed hash with the API key's id in it, so that two API keys never share a session,
whatever they send.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from json.scanner import make_scanner
from typing import Any, Final, cast

from msgspec import Struct

from omniroute.formats.splice import TopLevel
from omniroute.formats.wire import WireFormat
from omniroute.gateway.asks import Asks, ignored, is_session_key

_NAMED: Final = "session"
_NATIVE: Final = "native"
_DERIVED: Final = "derived"

_MARKS: Final[Mapping[WireFormat, tuple[tuple[str, str], ...]]] = {
    WireFormat.ANTHROPIC_MESSAGES: (("metadata", "user_id"),),
    WireFormat.OPENAI_CHAT: (("prompt_cache_key", ""),),
    WireFormat.OPENAI_RESPONSES: (("prompt_cache_key", ""), ("conversation", "id")),
}
"""Members that clients mark their conversations with: the member, and where it is an object, the member in it."""
_MOST_MARK_BYTES: Final = 16_384

_SYSTEM: Final = ("system", "instructions", "systemInstruction", "system_instruction")
_TURNS: Final = ("messages", "contents", "input", "prompt")
_SYSTEM_ROLES: Final = ("system", "developer")
_WINDOWS: Final = (16_384, 262_144)
"""How far into the conversation the first user message is looked for: usually near, at most so far."""
_END: Final = 2048
"""Of a long text the first and the last so many bytes count, and its length."""
_MOST_TURNS: Final = 64
"""How many turns without a user message are looked at."""
_NOT_TEXT: Final = frozenset({"type", "cache_control"})
_END_OF_SPACE: Final = cast("Callable[[str, int], re.Match[str]]", re.compile(r"[ \t\n\r,]*").match)  # always matches
_SCAN: Final = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]


class SessionKey(Struct, frozen=True, gc=False):
    """The session of a request.

    Attributes:
        effective: what routing works with; None where a request belongs to no session.
        shown: what the answer says: the caller's own value, or an opaque one.
        is_explicit: the caller or its client named it.
        warnings: a word for each mark that could not be used.
    """

    effective: str | None = None
    shown: str | None = None
    is_explicit: bool = False
    warnings: tuple[str, ...] = ()


_NO_SESSION: Final = SessionKey()


class SessionKeys:
    """Finds the sessions of requests."""

    def __init__(self, secret: bytes) -> None:
        """`secret` is the server's; the key used here is derived from it."""
        self._key = hmac.digest(secret, b"routing sessions", "sha256")

    def find(
        self, key_id: str, asks: Asks, top: TopLevel, wire_format: WireFormat, *, derives: bool = True
    ) -> SessionKey:
        """Return the session of a request; the most telling source counts.

        `derives`: find one in the text too, where nothing else tells.
        """
        if asks.session is not None:
            return SessionKey(self._effective(key_id, _NAMED, asks.session), asks.session, is_explicit=True)
        if asks.native_session is not None:
            return SessionKey(
                self._effective(key_id, _NATIVE, asks.native_session), asks.native_session, is_explicit=True
            )
        warnings: list[str] = []
        for member, inner in _MARKS.get(wire_format, ()):
            value = _mark(top, member, inner) if member in top else None
            if value is None:
                continue
            if is_session_key(value):
                return SessionKey(self._effective(key_id, member, value), value, True, tuple(warnings))
            warnings.append(ignored(f"{member}.{inner}" if inner else member))
        pieces = _beginning_of(top) if derives else None
        if not pieces:
            return SessionKey(warnings=tuple(warnings)) if warnings else _NO_SESSION
        text = b"".join([b"%d:%b" % (len(piece), piece) for piece in pieces])
        effective = self._hashed(key_id, _DERIVED, text)
        return SessionKey(effective, f"ses_{effective}", False, tuple(warnings))

    def _effective(self, key_id: str, kind: str, value: str) -> str:
        return self._hashed(key_id, kind, value.encode(errors="surrogatepass"))

    def _hashed(self, key_id: str, kind: str, value: bytes) -> str:
        text = b"%b\0%b\0%b" % (key_id.encode(), kind.encode(), value)
        return blake2b(text, key=self._key, digest_size=16).hexdigest()


def _mark(top: TopLevel, member: str, inner: str) -> str | None:
    """Return a mark of the body; None where there is none, or where it is not a text at all."""
    start, end = top.spans[member]
    if end - start > _MOST_MARK_BYTES:
        return None
    value = top.value(member)
    if inner and isinstance(value, dict):
        value = value.get(inner)
    elif member == "metadata":
        value = None
    return value if isinstance(value, str) else None


def _beginning_of(top: TopLevel) -> list[bytes]:
    """Return the system text and the first user message, of what is long its ends; empty when there is neither."""
    spans, body = top.spans, top.body
    pieces = [_excerpt(body, *spans[member]) for member in _SYSTEM if member in spans]
    for member in _TURNS:
        span = spans.get(member)
        if span is not None:
            pieces += _first_turns(body, *span)
            break
    return pieces


def _first_turns(body: bytes, start: int, end: int) -> list[bytes]:
    if not body.startswith(b"[", start):
        return [_excerpt(body, start, end)]
    for size in _WINDOWS[:-1]:
        if end - start > size:
            pieces = _scanned(body, start, start + size)
            if pieces is not None:
                return pieces
    pieces = _scanned(body, start, min(end, start + _WINDOWS[-1]), is_last=True)
    return pieces or []


def _scanned(body: bytes, start: int, end: int, *, is_last: bool = False) -> list[bytes] | None:
    """Read turns up to the first user message; None when it does not stand within the window, unless it is the last.

    What does not fit into the last window is taken by its beginning, which is the same in every request.
    """
    text = body[start:end].decode("latin-1")  # one character per byte, so that a window may end anywhere
    pieces: list[bytes] = []
    position = 1
    for _ in range(_MOST_TURNS):
        position = _END_OF_SPACE(text, position).end()
        if text.startswith("]", position):
            return pieces
        try:
            turn, stop = _SCAN(text, position)
        except (StopIteration, ValueError):
            return [*pieces, _excerpt(body, start + position, end)] if is_last else None
        if not isinstance(turn, dict):
            return [*pieces, _excerpt(body, start, end)]
        role = turn.get("role")
        if role in _SYSTEM_ROLES:
            pieces.append(_excerpt(body, start + position, start + stop))
        elif role == "user" or (role is None and "parts" in turn):
            content = turn.get("parts") if role is None or "parts" in turn else turn.get("content")
            pieces += [_of_text(content)] if isinstance(content, str) else _texts(content)
            return pieces
        position = stop
    return pieces


def _texts(value: Any) -> Iterator[bytes]:
    """Yield the texts in a message's content, in order, without what marks caches."""
    match value:
        case str():
            yield _of_text(value)
        case list():
            for one in value:
                yield from _texts(one)
        case dict():
            for name, one in value.items():
                if name not in _NOT_TEXT:
                    yield from _texts(one)
        case _:
            return


def _of_text(text: str) -> bytes:
    data = text.encode(errors="surrogatepass")
    return _excerpt(data, 0, len(data))


def _excerpt(data: bytes, start: int, end: int) -> bytes:
    """Return a span whole, or of a long one its two ends and its length."""
    if end - start <= 2 * _END:
        return data[start:end]
    return data[start : start + _END] + data[end - _END : end] + b"%d" % (end - start)
