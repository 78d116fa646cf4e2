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

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar, overload

import msgspec
from flask import Request, Response

from omniroute.blueprints.management.fields import (
    Check,
    Field,
    Fields,
    Invalid,
    flag,
    integer,
    integers,
    mapping,
    moment,
    nested,
    number,
    objects,
    text,
    texts,
)
from omniroute.blueprints.management.json_body import DEFAULT_LIMIT, parse_object, read_object
from omniroute.errors import ValidationFailed

__all__ = [
    "DEFAULT_LIMIT",
    "Check",
    "Field",
    "Fields",
    "Invalid",
    "Order",
    "Page",
    "answer",
    "flag",
    "integer",
    "integers",
    "iso_time",
    "listing",
    "mapping",
    "moment",
    "nested",
    "number",
    "objects",
    "parse_object",
    "query_flag",
    "query_integer",
    "read_object",
    "refuse_sort",
    "text",
    "texts",
]

_encode: Final = msgspec.json.Encoder().encode
_Row = TypeVar("_Row")


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


@overload
def iso_time(moment_s: float) -> str: ...
@overload
def iso_time(moment_s: float | None) -> str | None: ...
def iso_time(moment_s: float | None) -> str | None:
    """Return epoch seconds as ISO 8601 UTC with milliseconds and `Z`."""
    if moment_s is None:
        return None
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
