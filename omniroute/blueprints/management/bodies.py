"""Read management bodies strictly, and write management answers in one shape.

A body is read once, checked against a declaration, and handed on as a plain dictionary under the main names of its
fields. What the declaration does not know is refused, so a misspelt limit can never be ignored.

    CONNECTION = Fields(
        text("provider", required=True, max_length=64),
        text("apiKey", nullable=True, secret=True),
        integer("priority", minimum=1, maximum=100),
        integer("concurrentRequests", alias="maxConcurrent", minimum=1, maximum=1000, nullable=True),
        mapping("providerData", alias="providerSpecificData"),
    )

    @blueprint.post("/api/providers")
    def create() -> Response:
        values = CONNECTION.read(request)              # only the given fields, e.g. {"provider": "groq"}
        return answer({"connection": …}, 201)

    @blueprint.get("/api/providers")
    def index() -> Response:
        return listing("connections", rows, total=len(rows), page=Page.read(request))

Everything wrong is reported at once as `ValidationFailed.details`; unreadable JSON raises `InvalidJson`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

import msgspec
from flask import Request, Response
from werkzeug.exceptions import RequestEntityTooLarge

from omniroute.errors import InvalidJson, RequestTooLarge, UnsupportedMediaType, ValidationFailed

MAX_DEPTH: Final = 64
MAX_MEMBERS: Final = 100_000
DEFAULT_LIMIT: Final = 10 * 1024 * 1024

_INT64: Final = 2**63
# One alternative per token that matters for nesting. The closing quote is optional and every quantifier possessive, so
# a text with an unterminated string is scanned once, not once per quote.
_NESTING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_encode: Final = msgspec.json.Encoder().encode
_Row = TypeVar("_Row")


# --- reading -------------------------------------------------------------------------------------------------------


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
            raise InvalidJson(f"The key {_shown(twice)} appears twice.", param=_shown(twice))
        for name in members:
            if not name.isascii() and _SURROGATE.search(name):
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


# --- declaring -----------------------------------------------------------------------------------------------------


class Invalid(ValueError):
    """A value does not fit its field; the text says what would."""


Check = Callable[[Any], Any]
"""Return the value as it is to be used, or raise `Invalid`."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body: its main name, other accepted names, and what its value must be."""

    name: str
    check: Check
    aliases: tuple[str, ...] = ()
    required: bool = False
    nullable: bool = False


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
                details.append({"field": _shown(name), "message": self._unknown(name)})
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
        for field in self._fields:
            if field.required and field.name not in sources:
                details.append({"field": field.name, "message": "is required"})
        if details:
            raise ValidationFailed(details)
        return values

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
        if _CONTROL.search(cleaned) or _SURROGATE.search(cleaned):
            raise Invalid("must not hold control characters")
        if not multiline and ("\n" in cleaned or "\r" in cleaned):
            raise Invalid("must be one line")
        if allowed is not None and cleaned not in allowed:
            raise Invalid(f"must be one of {', '.join(allowed)}")
        if shape is not None and not shape.fullmatch(cleaned):
            raise Invalid("has characters or a form that are not allowed")
        return cleaned

    return Field(name, check, _names(alias), required, nullable)


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

    return Field(name, check, _names(alias), required, nullable)


def number(
    name: str,
    *,
    alias: str | Sequence[str] = (),
    required: bool = False,
    nullable: bool = False,
    minimum: float = -1e308,
    maximum: float = 1e308,
) -> Field:
    """A finite number in a range."""

    def check(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Invalid("must be a number")
        if not minimum <= value <= maximum:
            raise Invalid(f"must be between {minimum:g} and {maximum:g}")
        return float(value)

    return Field(name, check, _names(alias), required, nullable)


def flag(name: str, *, alias: str | Sequence[str] = (), required: bool = False, nullable: bool = False) -> Field:
    """`true` or `false`; nothing that merely looks like it."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Invalid("must be true or false")
        return value

    return Field(name, check, _names(alias), required, nullable)


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

    return Field(name, check, _names(alias), required, nullable)


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
    element = text(name, max_length=max_length, pattern=pattern, choices=choices).check
    return Field(name, _list_check(element, min_items, max_items, unique=True), _names(alias), required, nullable)


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
    element = integer(name, minimum=minimum, maximum=maximum).check
    return Field(name, _list_check(element, min_items, max_items, unique=True), _names(alias), required, nullable)


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
    element = nested(name, fields).check
    return Field(name, _list_check(element, min_items, max_items, unique=False), _names(alias), required, nullable)


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

    return Field(name, check, _names(alias), required, nullable)


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

    return Field(name, check, _names(alias), required, nullable)


def _shown(name: str) -> str:
    """A key as it may be quoted in an answer: short, printable."""
    return "".join(c if c.isprintable() else "?" for c in name[:80])


# --- answering -----------------------------------------------------------------------------------------------------


def answer(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `payload` as compact UTF-8 JSON that no cache keeps."""
    response = Response(_encode(payload), status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    if headers:
        response.headers.update(headers)
    return response


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a list that was asked for."""

    limit: int
    offset: int

    @classmethod
    def read(cls, request: Request, *, default: int = 50, maximum: int = 200) -> Page:
        """Take `limit` and `offset` from the query."""
        limit = query_integer(request, "limit", default=default, minimum=1, maximum=maximum)
        offset = query_integer(request, "offset", default=0, minimum=0, maximum=10**9)
        return cls(limit, offset)

    def cut(self, rows: Sequence[_Row]) -> Sequence[_Row]:
        """Return this page of a list that is held whole."""
        return rows[self.offset : self.offset + self.limit]


@dataclass(frozen=True, slots=True)
class Order(Generic[_Row]):
    """How a list that is held whole may be narrowed and sorted by the query.

    Attributes:
        searched: the texts of a row in which `q` is looked for, without regard to case.
        fields: the fields that `sort` may name, with the value of a row.
    """

    searched: Callable[[_Row], Iterable[str | None]]
    fields: Mapping[str, Callable[[_Row], Any]]

    def apply(self, request: Request, rows: Iterable[_Row]) -> list[_Row]:
        """Return the rows that `q` finds, as `sort` orders them: `field`, or `-field` for the other way round."""
        wanted = request.args.get("q", "").casefold()
        found = [row for row in rows if not wanted or any(wanted in (t or "").casefold() for t in self.searched(row))]
        sort = request.args.get("sort", "")
        if not sort:
            return found
        value_of = self.fields.get(sort.removeprefix("-"))
        if value_of is None:
            raise _unsorted(self.fields)
        known = [row for row in found if value_of(row) is not None]
        known.sort(key=value_of, reverse=sort.startswith("-"))
        return known + [row for row in found if value_of(row) is None]


def refuse_sort(request: Request, only: str) -> None:
    """Refuse any order but the one that a list has, `only`."""
    if request.args.get("sort", only) != only:
        raise _unsorted((only,))


def _unsorted(fields: Iterable[str]) -> ValidationFailed:
    return ValidationFailed([{"field": "sort", "message": f"must be one of {', '.join(fields)}"}])


def listing(noun: str, rows: Sequence[Any], *, total: int, page: Page) -> Response:
    """Return one page of a list: `{<noun>: […], total, limit, offset}` and `X-Total-Count`."""
    body = {noun: rows, "total": total, "limit": page.limit, "offset": page.offset}
    return answer(body, headers={"X-Total-Count": str(total)})


def query_integer(request: Request, name: str, *, default: int, minimum: int, maximum: int) -> int:
    """Return a whole number of the query, or its default."""
    given = request.args.get(name)
    if given is None or given == "":
        return default
    if not re.fullmatch(r"\d{1,12}", given, re.ASCII) or not minimum <= int(given) <= maximum:
        raise ValidationFailed([{"field": name, "message": f"must be a whole number from {minimum} to {maximum}"}])
    return int(given)


def query_flag(request: Request, name: str) -> bool | None:
    """Return `true`/`false` (also `1`/`0`) of the query, or None when it is absent."""
    match request.args.get(name, "").lower():
        case "":
            return None
        case "true" | "1":
            return True
        case "false" | "0":
            return False
        case _:
            raise ValidationFailed([{"field": name, "message": "must be true or false"}])


def iso_time(moment_s: float | None) -> str | None:
    """Return epoch seconds as ISO 8601 UTC with milliseconds and `Z`."""
    if moment_s is None:
        return None
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
