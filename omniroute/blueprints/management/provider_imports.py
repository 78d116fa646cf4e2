"""`/api/providers/…` for many connections at once: lists of keys, tests of all, credentials that end."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Answer, Query, Time, operation
from omniroute.blueprints.management.bodies import (
    DEFAULT_LIMIT,
    Fields,
    answer,
    flag,
    integer,
    iso_time,
    mapping,
    objects,
    query_integer,
    text,
    texts,
)
from omniroute.blueprints.management.jobs import AcceptedDocument, accepted
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import RequestTooLarge, ValidationFailed
from omniroute.records import Connection
from omniroute.services.checkups import Checkup
from omniroute.services.connections import MAX_KEY, MOST_PRIORITY, masked_key
from omniroute.services.jobs import Report
from omniroute.services.provider_imports import MOST_ENTRIES, Ending, Ends, Entry, Outcome

blueprint = Blueprint("management_provider_imports", __name__)

_PROVIDER: Final = text("provider", required=True, max_length=100)
_NAME: Final = text("name", max_length=100)
_KEY: Final = text("apiKey", nullable=True, secret=True, max_length=MAX_KEY)
_BULK: Final = Fields(
    _PROVIDER,
    objects("entries", Fields(_NAME, _KEY), required=True, min_items=1, max_items=MOST_ENTRIES),
    flag("validateKeys"),
)
_ENTRY: Final = Fields(
    _PROVIDER,
    _NAME,
    _KEY,
    text("baseUrl", max_length=2000),
    integer("priority", minimum=1, maximum=MOST_PRIORITY),
    text("defaultModel", max_length=300),
    text("group", max_length=100),
    mapping("providerData", alias="providerSpecificData"),
)
_IMPORT: Final = Fields(
    objects("entries", _ENTRY, required=True, min_items=1, max_items=MOST_ENTRIES), flag("validateKeys")
)
_TEST: Final = Fields(
    texts("ids", min_items=1, max_items=1000, max_length=64),
    text("provider", max_length=100),
)
_COLUMNS: Final = {
    name.replace("_", "").casefold(): name
    for name in ("provider", "name", "apiKey", "baseUrl", "priority", "defaultModel", "group")
}
_MOST_DAYS: Final = 365


class ImportErrorDocument(TypedDict):
    """Why an entry was not stored."""

    code: str
    message: str


class ImportedEntryDocument(TypedDict):
    """What became of one entry of a list, by its place in it."""

    index: int
    status: Outcome
    provider: str
    name: str | None
    connectionId: str | None
    apiKey: str | None
    error: ImportErrorDocument | None


class ImportedConnectionsDocument(TypedDict):
    """What became of a list of connections."""

    created: int
    duplicates: int
    failed: int
    results: list[ImportedEntryDocument]


class TestedDocument(TypedDict):
    """What the test of one connection found."""

    connectionId: str
    name: str
    provider: str
    valid: bool
    latencyMs: float | None
    statusCode: int | None
    model: str | None
    errorCode: str | None
    error: str | None
    diagnosis: str | None


class EndingDocument(TypedDict):
    """A connection whose credential ends soon, or is of no use any more."""

    connectionId: str
    name: str
    provider: str
    isActive: bool
    state: Ending
    expiresAt: Time | None
    since: Time | None
    message: str | None


class EndingsDocument(TypedDict):
    """The credentials that end soon, the first to end first."""

    expiring: list[EndingDocument]
    total: int
    withinDays: int


@blueprint.post("/api/providers/bulk")
@operation(
    ImportedConnectionsDocument,
    body=_BULK,
    also={202: Answer(AcceptedDocument, "the keys are tried first")},
    refusals=(409,),
)
def bulk() -> Response:
    """Add many keys of one provider.

    Entries that are in order are stored together, in one transaction; each has its result. With `validateKeys` every
    key is tried first: that is a job, whose result is the same document.
    """
    values = _BULK.read(request)
    entries = [{**entry, "provider": values["provider"]} for entry in values["entries"]]
    return _added(entries, validates=values.get("validateKeys", False))


@blueprint.post("/api/providers/import")
@operation(
    ImportedConnectionsDocument,
    body=_IMPORT,
    also={202: Answer(AcceptedDocument, "the keys are tried first")},
    refusals=(409,),
)
def import_() -> Response:
    """Add connections to many providers.

    Takes JSON, or CSV (`text/csv`) whose first line names the columns: provider, name, apiKey, baseUrl, priority,
    defaultModel, group. Entries that are in order are stored together, in one transaction; each has its result. With
    `validateKeys` every key is tried first: that is a job, whose result is the same document.
    """
    values = _IMPORT.check({"entries": _csv_rows()}) if request.mimetype == "text/csv" else _IMPORT.read(request)
    entries = [_with_base_url(entry) for entry in values["entries"]]
    return _added(entries, validates=values.get("validateKeys", False))


@blueprint.post("/api/providers/test-batch")
@operation(AcceptedDocument, status=202, body=_TEST, is_body_optional=True, refusals=(409,))
def test_batch() -> Response:
    """Test connections: those with the given ids, those of a provider, or all active ones.

    The work is a job; its result is `{tested, valid, results}`.
    """
    values = _TEST.read(request, optional=True)
    own, asking = container(), origin()
    if "ids" in values and "provider" in values:
        raise ValidationFailed([{"field": "provider", "message": "stands alone, without ids"}])
    chosen = own.provider_imports.chosen(values.get("ids"), values.get("provider"))

    def run(report: Report) -> Mapping[str, Any]:
        results = [shown_test(*row) for row in own.provider_imports.test(chosen, asking, report)]
        return {"tested": len(results), "valid": sum(row["valid"] for row in results), "results": results}

    return accepted(own.jobs.start("provider-test", run, single=True))


@blueprint.get("/api/providers/expiration")
@operation(
    EndingsDocument,
    query=(Query("withinDays", "How soon (14).", "integer", minimum=0, maximum=_MOST_DAYS),),
)
def expiration() -> Response:
    """List the connections whose credential ends soon, has ended, or is refused by its provider."""
    within = query_integer(request, "withinDays", default=14, minimum=0, maximum=_MOST_DAYS)
    found = [shown_ending(row) for row in container().provider_imports.ending(within)]
    return answer(EndingsDocument(expiring=found, total=len(found), withinDays=within))


def _added(entries: Sequence[Mapping[str, Any]], *, validates: bool) -> Response:
    own, asking = container(), origin()
    if not validates:
        return answer(shown(own.provider_imports.add(entries, asking)))

    def run(report: Report) -> Mapping[str, Any]:
        return shown(own.provider_imports.add(entries, asking, validates=True, report=report))

    return accepted(own.jobs.start("provider-import", run, single=True))


def _with_base_url(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = dict(entry)
    base_url = fields.pop("baseUrl", None)
    return (
        fields
        if base_url is None
        else fields | {"providerData": {**fields.get("providerData", {}), "baseUrl": base_url}}
    )


def _csv_rows() -> list[dict[str, Any]]:
    """Return the rows of a CSV body under the names of the JSON fields; empty cells are left out."""
    request.max_content_length = DEFAULT_LIMIT
    raw = request.get_data(cache=False)
    if len(raw) > DEFAULT_LIMIT:
        raise RequestTooLarge(f"The request body is larger than {DEFAULT_LIMIT} bytes.", code="too_large")
    try:
        lines = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        names = [_column(name) for name in next(lines, [])]
        rows = [_csv_row(names, cells, lines.line_num) for cells in lines if any(cell.strip() for cell in cells)]
    except UnicodeDecodeError:
        raise _unreadable("is not UTF-8") from None
    except csv.Error as error:
        raise _unreadable(f"is not CSV: {error}") from None
    if len(set(names)) != len(names) or "provider" not in names:
        raise _unreadable("must begin with a line that names each column once, provider among them")
    return rows


def _column(name: str) -> str:
    column = _COLUMNS.get(name.strip().replace("_", "").casefold())
    if column is None:
        raise _unreadable(f"has the unknown column {name.strip()[:40]!r}; known are {', '.join(_COLUMNS.values())}")
    return column


def _csv_row(names: Sequence[str], cells: Sequence[str], line: int) -> dict[str, Any]:
    if len(cells) != len(names):
        raise _unreadable(f"has {len(cells)} cells in line {line}, where its first line has {len(names)}")
    row: dict[str, Any] = {name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip()}
    priority = row.get("priority", "")
    if priority.isascii() and priority.isdigit() and len(priority) < 4:
        row["priority"] = int(priority)
    return row


def _unreadable(message: str) -> ValidationFailed:
    return ValidationFailed([{"field": "body", "message": message}])


def shown(entries: Sequence[Entry]) -> ImportedConnectionsDocument:
    """Return what became of a list as management answers show it; keys are masked."""
    outcomes = [entry.outcome for entry in entries]
    return {
        "created": outcomes.count(Outcome.CREATED),
        "duplicates": outcomes.count(Outcome.DUPLICATE),
        "failed": outcomes.count(Outcome.FAILED),
        "results": [_shown_entry(index, entry) for index, entry in enumerate(entries)],
    }


def _shown_entry(index: int, entry: Entry) -> ImportedEntryDocument:
    connection, error = entry.connection, entry.error
    return {
        "index": index,
        "status": entry.outcome,
        "provider": entry.provider,
        "name": entry.name,
        "connectionId": connection.id if connection is not None else None,
        "apiKey": masked_key(connection) if connection is not None else None,
        "error": {"code": error["code"], "message": error["message"]} if error is not None else None,
    }


def shown_test(connection: Connection, found: Checkup | Mapping[str, str]) -> TestedDocument:
    """Return what a test found as management answers show it."""
    checkup = found if isinstance(found, Checkup) else None
    error = found if not isinstance(found, Checkup) else found.error or {}
    return {
        "connectionId": connection.id,
        "name": connection.name,
        "provider": connection.provider,
        "valid": checkup is not None and checkup.is_valid,
        "latencyMs": checkup.latency_ms if checkup is not None else None,
        "statusCode": checkup.status if checkup is not None else None,
        "model": checkup.model if checkup is not None else None,
        "errorCode": error.get("code"),
        "error": error.get("message"),
        "diagnosis": checkup.diagnosis if checkup is not None else None,
    }


def shown_ending(row: Ends) -> EndingDocument:
    """Return a credential that ends as management answers show it."""
    connection = row.connection
    return {
        "connectionId": connection.id,
        "name": connection.name,
        "provider": connection.provider,
        "isActive": connection.is_active,
        "state": row.ending,
        "expiresAt": iso_time(row.expires_at),
        "since": iso_time(row.since),
        "message": row.message,
    }
