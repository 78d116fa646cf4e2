"""Read a JSON body as one object, refusing whatever two parsers could read differently."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from omniroute.errors import InvalidJson, RequestTooLarge, UnsupportedMediaType

MAX_DEPTH: Final = 64
MAX_MEMBERS: Final = 100_000
DEFAULT_LIMIT: Final = 10 * 1024 * 1024
SURROGATE: Final = re.compile("[\ud800-\udfff]")

# One alternative per token that matters for nesting. The closing quote is optional and every quantifier possessive, so
# a text with an unterminated string is scanned once, not once per quote.
_NESTING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`, or raise `InvalidJson` for anything that two parsers could read differently.

    Refused: invalid UTF-8, a byte order mark, duplicate keys at any level, lone surrogates in keys, NaN and Infinity,
    trailing data, more than 64 levels, more than 100,000 members, and anything but an object at the top.
    """
    if not raw.strip():
        raise InvalidJson("The request body is empty; send a JSON object.")
    _refuse_depth(raw)
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_Members(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InvalidJson("The request body is not valid UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(
            f"The request body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None
    except ValueError:  # an integer of more digits than Python converts
        raise InvalidJson("The request body holds a number that is too long.") from None
    if not isinstance(value, dict):
        raise InvalidJson("The request body must be a JSON object.")
    return value


class _Members:
    """Build objects for the decoder, counting members over the whole document."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.count += len(pairs)
        if self.count > MAX_MEMBERS:
            raise InvalidJson("The request body has too many members.")
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise InvalidJson(f"The key {shown_name(twice)} appears twice.", param=shown_name(twice))
        for name in members:
            if not name.isascii() and SURROGATE.search(name):
                raise InvalidJson("A key holds a lone surrogate.")
        return members


def _refuse_constant(name: str) -> Any:
    raise InvalidJson(f"{name} is not a JSON number.")


def _refuse_depth(raw: bytes) -> None:
    depth = 0
    for match in _NESTING.finditer(raw):
        token = raw[match.start()]
        if token == 0x22:
            continue
        if token in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidJson(f"The request body is nested deeper than {MAX_DEPTH} levels.")
        else:
            depth -= 1


def read_object(request: Request, *, limit: int = DEFAULT_LIMIT, optional: bool = False) -> dict[str, Any]:
    """Read the body of a management request as an object of at most `limit` bytes.

    With `optional` an absent body counts as `{}`, whatever the content type.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without a content encoding.")
    request.max_content_length = limit
    try:
        raw = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise RequestTooLarge(f"The request body is larger than {limit} bytes.", code="too_large") from None
    if optional and not raw:
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("Send the body as UTF-8.")
    return parse_object(raw)


def shown_name(name: str) -> str:
    """Return a key as it may be quoted in an answer: short, printable."""
    return "".join(c if c.isprintable() else "?" for c in name[:80])
