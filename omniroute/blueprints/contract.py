"""What an operation of the HTTP API takes and gives, declared where it is served.

A view says it once, under its route; the machine-readable description is put together from these declarations, the
route table and the docstrings, so it cannot tell another story than the code:

    class NoteDocument(TypedDict):
        id: str
        text: str
        createdAt: Time

    class NotesDocument(ListDocument):
        notes: list[NoteDocument]

    @blueprint.get("/api/notes")
    @operation(NotesDocument, query=(*PAGING, Query("kind", "Only notes of this kind.", choices=tuple(Kind))))
    def index() -> Response:
        '''List the notes, newest first.'''

    @blueprint.post("/api/notes")
    @operation(NoteDocument, status=201, body=_NEW, refusals=(409,))
    def create() -> Response:
        '''Write a note.

        The second paragraph of the docstring becomes the description.
        '''

Answers that every operation of its tier can give (401, 403, 400 and 413 where there is a body or a query, …) are
added by whoever puts the description together; `refusals` are those that only this operation gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Final, TypedDict, TypeVar

import msgspec

from omniroute.blueprints.management.fields import Fields

V = TypeVar("V", bound=Callable[..., Any])

_ATTRIBUTE: Final = "__operation__"
JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"


class ListDocument(TypedDict):
    """What every paged list has beside its rows, which stand under the plural of their noun."""

    total: int
    limit: int
    offset: int


Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A time in an answer: ISO 8601 in UTC with milliseconds and `Z`."""


class SuccessDocument(TypedDict):
    """The answer of an operation that has nothing to say but that it was done."""

    success: bool


class RemovedDocument(TypedDict):
    """What was removed."""

    success: bool
    id: str


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter of the query.

    Attributes:
        kind: `string`, `integer`, `number` or `boolean`.
        choices: the only values that are taken.
    """

    name: str
    description: str
    kind: str = "string"
    choices: tuple[str, ...] = ()
    is_required: bool = False
    minimum: int | None = None
    maximum: int | None = None


PAGING: Final = (
    Query("limit", "How many rows at most; 50 unless given.", "integer", minimum=1, maximum=200),
    Query("offset", "How many rows to leave out before.", "integer", minimum=0, maximum=10**9),
)
SEARCH: Final = (Query("q", "Only rows that hold this text."),)


def sorting(*names: str) -> Query:
    """Return the parameter that orders a list by one of `names`; `-name` is the other way round."""
    return Query(
        "sort",
        "The field to sort by; with a minus before it, from the end.",
        choices=tuple(sign + name for name in names for sign in ("", "-")),
    )


@dataclass(frozen=True, slots=True)
class Body:
    """A body that no single declaration of fields describes: one of several forms, or another media type.

    Attributes:
        document: a JSON schema as a mapping, or a type that msgspec describes.
    """

    document: Any
    media_type: str = JSON


def one_of(*forms: Fields) -> Body:
    """Return a body that has one of several forms."""
    return Body({"anyOf": [form.schema for form in forms]})


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that an operation can give.

    Attributes:
        document: a `TypedDict` (or any type that msgspec describes), or a JSON schema as a mapping, or a tuple of
            these for one of them, or None for no body.
        media_type: of the body.
        others: further media types in which the same can be answered, with what they hold.
        headers: names of headers that the answer has beside those of every answer, with a sentence about each.
    """

    document: Any
    description: str = ""
    media_type: str = JSON
    others: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Operation:
    """The declaration of one view.

    Attributes:
        answers: what it gives when it works, by status.
        body: the fields of its body, or what else it is; None where it takes none.
        is_body_optional: it may be called without a body.
        form: the parts of a multipart body by name, each a JSON schema; None where it takes none.
        refusals: statuses of refusals that not every operation has.
        query: the parameters of its query.
    """

    answers: Mapping[int, Answer]
    body: Fields | Body | None = None
    is_body_optional: bool = False
    form: Mapping[str, Mapping[str, Any]] | None = None
    query: tuple[Query, ...] = ()
    refusals: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Members for the description of the operation that nothing else here can say."""


def operation(
    document: Any = None,
    *,
    status: int = 200,
    media_type: str = JSON,
    headers: Mapping[str, str] | None = None,
    others: Mapping[str, Any] | None = None,
    also: Mapping[int, Answer] | None = None,
    body: Fields | Body | None = None,
    is_body_optional: bool = False,
    form: Mapping[str, Mapping[str, Any]] | None = None,
    query: Iterable[Query] = (),
    refusals: Iterable[int] = (),
    extra: Mapping[str, Any] | None = None,
) -> Callable[[V], V]:
    """Declare what a view takes and gives; it stands directly above the function, below its route."""
    answers = {
        status: Answer(document, media_type=media_type, headers=headers or {}, others=others or {}),
        **(also or {}),
    }
    declared = Operation(
        MappingProxyType(answers), body, is_body_optional, form, tuple(query), tuple(refusals), extra or {}
    )

    def declare(view: V) -> V:
        setattr(view, _ATTRIBUTE, declared)
        return view

    return declare


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """Return what a view declares, or None."""
    return getattr(view, _ATTRIBUTE, None)
