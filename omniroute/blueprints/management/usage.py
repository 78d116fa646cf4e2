"""`/api/usage/logs`, `/api/usage/export` and `/api/audit`: what requests did, and what people did."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

import msgspec
from flask import Blueprint, Request, Response, request

from omniroute.blueprints.contract import NDJSON, PAGING, ListDocument, Query, Time, operation
from omniroute.blueprints.management.bodies import Page, answer, iso_time, listing, query_flag, refuse_sort
from omniroute.blueprints.management.exports import streamed
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.records import AttemptRecord, RequestRecord
from omniroute.services.audit import AuditEntry
from omniroute.services.body_capture import BodiesState
from omniroute.services.captured_bodies import CapturedBodiesDocument
from omniroute.services.usage import DayRow, Filters, LogRow

blueprint = Blueprint("management_usage", __name__)

_OUTCOMES: Final = ("success", "failed", "cancelled", "truncated")
_LONGEST_FILTER: Final = 256
_NANO: Final = 1_000_000_000


class LogRowDocument(TypedDict):
    """A settled request as lists show it. Numbers that nobody reported are null."""

    id: str
    requestId: str
    time: Time
    endpoint: str
    clientFormat: str
    upstreamFormat: str | None
    requestedModel: str
    model: str | None
    provider: str | None
    connectionId: str | None
    connectionName: str | None
    apiKeyId: str | None
    apiKeyName: str | None
    status: int
    outcome: str
    errorCode: str | None
    tokensIn: int | None
    tokensOut: int | None
    cacheRead: int | None
    cacheWrite: int | None
    reasoning: int | None
    costUsd: float | None
    costKind: str
    cache: str
    durationMs: float
    ttftMs: float | None
    attempts: int
    sessionId: str | None
    comboId: str | None
    comboName: str | None
    isEstimated: bool
    extraUsd: float
    priceId: str | None


class LogsDocument(ListDocument):
    """A page of settled requests. What lies before `searchedSince` was not looked at."""

    logs: list[LogRowDocument]
    isTotalCapped: bool
    searchedSince: Time | None


class LoggedRequestDocument(LogRowDocument):
    """A settled request with everything that is known of it but its attempts."""

    kind: str
    stream: bool
    bytesIn: int
    bytesOut: int
    tag: str | None


class AttemptDocument(TypedDict):
    """One try of one target; times in milliseconds since the request began."""

    provider: str
    connectionId: str
    model: str
    status: int | None
    failureClass: str | None
    kind: str | None
    startedMs: float
    connectedMs: float | None
    firstContentMs: float | None
    endedMs: float


class LoggedRequestWithAttemptsDocument(TypedDict):
    """A settled request, its attempts, and its bodies where they were captured.

    `bodiesState` says why there are none: nothing is captured now (`off`), the request is older than bodies are kept
    (`expired`), or its own were not captured (`none`). With `bodies=false` both are null.
    """

    log: LoggedRequestDocument
    attempts: list[AttemptDocument]
    bodies: CapturedBodiesDocument | None
    bodiesState: BodiesState | None


class DayDocument(TypedDict):
    """The sums of one day by one key, model, connection, combo and endpoint."""

    day: str
    apiKeyId: str | None
    apiKeyName: str | None
    provider: str | None
    model: str | None
    connectionId: str | None
    connectionName: str | None
    comboId: str | None
    comboName: str | None
    endpoint: str
    requests: int
    failed: int
    cancelled: int
    tokensIn: int
    tokensOut: int
    cacheRead: int
    cacheWrite: int
    reasoning: int
    billedUsd: float
    subscriptionUsd: float
    unpricedRequests: int
    estimatedRequests: int


class AuditEntryDocument(TypedDict):
    """Something that somebody did, or was refused."""

    id: str
    seq: int
    time: Time
    action: str
    actor: str
    outcome: str
    targetKind: str | None
    targetId: str | None
    address: str | None
    userAgent: str | None
    requestId: str | None
    details: dict[str, Any]


class AuditDocument(ListDocument):
    """A page of audited actions."""

    entries: list[AuditEntryDocument]


class AuditCheckDocument(TypedDict):
    """Whether each row holds the hash of the row before it, and where that breaks off."""

    valid: bool
    rows: int
    brokenAt: int | None


_SPAN: Final = (
    Query("since", "From this ISO 8601 time on."),
    Query("until", "Up to this time."),
)
FILTERS: Final = (
    Query("status", "An HTTP status, or one of success, failed, cancelled and truncated."),
    Query("model", "Only requests that this model served."),
    Query("provider", "Only requests that this provider served."),
    Query("connection", "Only requests that this connection served."),
    Query("apiKeyId", "Only requests of this key."),
    Query("combo", "Only requests of this combo, by its id."),
    Query("sessionId", "Only requests of the session with that id."),
    Query("kind", "Only requests of clients, or only tests.", choices=("request", "test")),
    Query("q", "Only rows that hold this text."),
    *_SPAN,
    Query("minDurationMs", "Only requests that took at least so long.", "integer", minimum=0, maximum=9_999_999_999),
)
_AUDIT_FILTERS: Final = (
    Query("action", "Only this action; with a dot at the end all that begin so."),
    Query("actor", "Only what this actor did."),
    Query("target", "Only what was done to this target."),
    Query("outcome", "Only what ended so.", choices=("success", "failure", "denied")),
    Query("requestId", "Only what this request did."),
    *_SPAN,
)
_AUDIT_COLUMNS: Final = tuple(AuditEntryDocument.__annotations__)
_FILE: Final = {"Content-Disposition": "A name for the file."}


@blueprint.get("/api/usage/logs")
@blueprint.get("/api/usage/call-logs")
@blueprint.get("/api/usage/history")
@blueprint.get("/api/usage/request-logs")
@operation(LogsDocument, query=(*PAGING, *FILTERS, Query("sort", "The order that it has.", choices=("-time",))))
def logs() -> Response:
    """List settled requests, newest first."""
    page = Page.read(request)
    refuse_sort(request, "-time")
    found = container().usage.page(filters_of(request), limit=page.limit, offset=page.offset)
    body: LogsDocument = {
        "logs": [log_row(row) for row in found.rows],
        "total": found.total,
        "limit": page.limit,
        "offset": page.offset,
        "isTotalCapped": found.is_total_capped,
        "searchedSince": iso_time(found.searched_since),
    }
    headers = {"X-Total-Count": str(found.total)}
    if found.searched_since is not None:
        headers["X-OmniRoute-Warning"] = "search_bounded"
    elif found.is_total_capped:
        headers["X-OmniRoute-Warning"] = "total_capped"
    return answer(body, headers=headers)


@blueprint.get("/api/usage/export")
@blueprint.get("/api/logs/export")
@operation(
    {"type": "string", "description": "Lines with a header."},
    media_type="text/csv",
    others={NDJSON: (LoggedRequestDocument, DayDocument)},
    headers=_FILE,
    query=(
        Query("format", "csv unless given.", choices=("csv", "jsonl")),
        Query("of", "Single requests unless given.", choices=("logs", "daily")),
        *FILTERS,
    ),
)
def export() -> Response:
    """Write settled requests, newest first, or the sums by day, as CSV or one JSON object per line."""
    form = query_choice("format", ("csv", "jsonl")) or "csv"
    usage = container().usage
    if query_choice("of", ("logs", "daily")) == "daily":
        equal, since, until = _days()
        parts: Iterator[list[DayDocument]] = (
            [day_row(row) for row in rows] for rows in usage.walk_days(equal, since, until)
        )
        return streamed(parts, _DAY_COLUMNS, form, "omniroute-usage-daily")
    found = ([exported_row(row) for row in rows] for rows in usage.walk(filters_of(request)))
    return streamed(found, _LOG_COLUMNS, form, "omniroute-requests")


@blueprint.get("/api/usage/logs/<log_id>")
@operation(
    LoggedRequestWithAttemptsDocument,
    query=(Query("bodies", "false leaves the captured bodies out.", "boolean"),),
)
def log(log_id: str) -> Response:
    """Show one request with every attempt, and the bodies that were captured of it."""
    row = container().usage.get(log_id)
    is_wanted = query_flag(request, "bodies") is not False
    state, bodies = container().body_capture.find(row.record) if is_wanted else (None, None)
    attempts = [_attempt(attempt) for attempt in row.record.attempts]
    body = LoggedRequestWithAttemptsDocument(log=exported_row(row), attempts=attempts, bodies=bodies, bodiesState=state)
    return answer(body)


@blueprint.get("/api/audit")
@blueprint.get("/api/compliance/audit-log")
@operation(
    AuditDocument,
    query=(*PAGING, *_AUDIT_FILTERS, Query("sort", "The order that it has.", choices=("-time",))),
)
def audit() -> Response:
    """List audited actions, newest first."""
    page = Page.read(request)
    refuse_sort(request, "-time")
    entries, total = container().audit.entries(limit=page.limit, offset=page.offset, **_audit_filters())
    return listing("entries", [audit_row(entry) for entry in entries], total=total, page=page)


@blueprint.get("/api/audit/export")
@operation(
    {"type": "string", "description": "Lines with a header."},
    media_type="text/csv",
    others={NDJSON: AuditEntryDocument},
    headers=_FILE,
    query=(Query("format", "csv unless given.", choices=("csv", "jsonl")), *_AUDIT_FILTERS),
)
def export_audit() -> Response:
    """Write audited actions, newest first, as CSV or one JSON object per line."""
    form = query_choice("format", ("csv", "jsonl")) or "csv"
    found = ([audit_row(entry) for entry in entries] for entries in container().audit.walk(**_audit_filters()))
    if form == "csv":
        return streamed(([_flat(row) for row in rows] for rows in found), _AUDIT_COLUMNS, form, "omniroute-audit")
    return streamed(found, _AUDIT_COLUMNS, form, "omniroute-audit")


@blueprint.get("/api/audit/verify")
@operation(AuditCheckDocument)
def verify_audit() -> Response:
    """Recompute the hash chain of the audit log."""
    check = container().audit.verify()
    body: AuditCheckDocument = {"valid": check.broken_at is None, "rows": check.rows, "brokenAt": check.broken_at}
    return answer(body)


def audit_row(entry: AuditEntry) -> AuditEntryDocument:
    """Return an audited action as JSON values."""
    return {
        "id": entry.id,
        "seq": entry.seq,
        "time": iso_time(entry.time),
        "action": entry.action,
        "actor": entry.actor,
        "outcome": entry.outcome,
        "targetKind": entry.target_kind,
        "targetId": entry.target_id,
        "address": entry.address,
        "userAgent": entry.user_agent,
        "requestId": entry.request_id,
        "details": dict(entry.details),
    }


def _flat(row: AuditEntryDocument) -> dict[str, Any]:
    """Return an audited action for CSV, its details as one cell of JSON."""
    return {**row, "details": msgspec.json.encode(row["details"]).decode()}


def _audit_filters() -> dict[str, Any]:
    return {
        "action": query_text("action"),
        "actor": query_text("actor"),
        "target": query_text("target"),
        "outcome": query_choice("outcome", ("success", "failure", "denied")),
        "request_id": query_text("requestId"),
        "since": query_time("since"),
        "until": query_time("until"),
    }


def log_row(row: LogRow) -> LogRowDocument:
    """Return a request as lists show it."""
    record = row.record
    cost = record.cost_nano_usd
    return {
        "id": record.request_id,
        "requestId": record.request_id,
        "time": iso_time(record.time),
        "endpoint": record.endpoint,
        "clientFormat": record.client_format,
        "upstreamFormat": record.upstream_format,
        "requestedModel": record.requested_model,
        "model": record.model,
        "provider": record.provider,
        "connectionId": record.connection_id,
        "connectionName": row.connection_name,
        "apiKeyId": record.api_key_id,
        "apiKeyName": row.api_key_name,
        "status": record.status,
        "outcome": record.outcome,
        "errorCode": record.error_code,
        "tokensIn": record.tokens_in,
        "tokensOut": record.tokens_out,
        "cacheRead": record.cache_read,
        "cacheWrite": record.cache_write,
        "reasoning": record.reasoning,
        "costUsd": cost / _NANO if cost is not None else None,
        "costKind": record.cost_kind,
        "cache": record.cache,
        "durationMs": round(record.duration_ms, 1),
        "ttftMs": round(record.ttft_ms, 1) if record.ttft_ms is not None else None,
        "attempts": len(record.attempts),
        "sessionId": record.session_hash,
        "comboId": record.combo_id,
        "comboName": row.combo_name,
        "isEstimated": record.is_estimated,
        "extraUsd": record.extra_nano_usd / _NANO,
        "priceId": record.price_id,
    }


def exported_row(row: LogRow) -> LoggedRequestDocument:
    """Return a request with everything that is known of it but its attempts."""
    record = row.record
    return {
        **log_row(row),
        "kind": record.kind,
        "stream": record.stream,
        "bytesIn": record.bytes_in,
        "bytesOut": record.bytes_out,
        "tag": record.tag,
    }


def day_row(row: DayRow) -> DayDocument:
    """Return the sums of one day by one key, model, connection, combo and endpoint."""
    values = row.values
    return {
        "day": datetime.fromtimestamp(values["bucket"], UTC).date().isoformat(),
        "apiKeyId": values["api_key_id"] or None,
        "apiKeyName": row.api_key_name,
        "provider": values["provider"] or None,
        "model": values["model"] or None,
        "connectionId": values["connection_id"] or None,
        "connectionName": row.connection_name,
        "comboId": values["combo_id"] or None,
        "comboName": row.combo_name,
        "endpoint": values["endpoint"],
        "requests": values["requests"],
        "failed": values["failed"],
        "cancelled": values["cancelled"],
        "tokensIn": values["tokens_in"],
        "tokensOut": values["tokens_out"],
        "cacheRead": values["cache_read"],
        "cacheWrite": values["cache_write"],
        "reasoning": values["reasoning"],
        "billedUsd": values["billed_nano_usd"] / _NANO,
        "subscriptionUsd": values["subscription_nano_usd"] / _NANO,
        "unpricedRequests": values["unpriced"],
        "estimatedRequests": values["estimated"],
    }


_LOG_COLUMNS: Final = tuple(exported_row(LogRow(RequestRecord("", 0.0, "", "", ""), None, None)))
_DAY_COLUMNS: Final = tuple(day_row(DayRow(defaultdict(int), None, None, None)))
"""Known without a row: the first line of a file does not wait for one."""


def _days() -> tuple[dict[str, str], float, float]:
    """Return which sums by day are wanted."""
    for name in ("status", "sessionId", "q", "minDurationMs", "kind"):
        if request.args.get(name):
            raise _wrong(name, "the sums by day cannot be narrowed by this")
    columns = {
        "api_key_id": "apiKeyId",
        "provider": "provider",
        "model": "model",
        "connection_id": "connection",
        "combo_id": "combo",
    }
    equal = {column: value for column, name in columns.items() if (value := query_text(name)) is not None}
    until = query_time("until")
    return equal, query_time("since") or 0.0, until if until is not None else time.time()


def _attempt(attempt: AttemptRecord) -> AttemptDocument:
    return {
        "provider": attempt.provider,
        "connectionId": attempt.connection_id,
        "model": attempt.model,
        "status": attempt.status,
        "failureClass": attempt.failure_class,
        "kind": attempt.kind,
        "startedMs": attempt.started_ms,
        "connectedMs": attempt.connected_ms,
        "firstContentMs": attempt.first_content_ms,
        "endedMs": attempt.ended_ms,
    }


def filters_of(source: Request) -> Filters:
    """Return what the query narrows the log to."""
    status = source.args.get("status")
    is_outcome = status in _OUTCOMES
    if status and not is_outcome and not re.fullmatch(r"[1-5]\d\d", status, re.ASCII):
        raise _wrong("status", f"must be an HTTP status or one of {', '.join(_OUTCOMES)}")
    duration = source.args.get("minDurationMs")
    if duration and not re.fullmatch(r"\d{1,10}", duration, re.ASCII):
        raise _wrong("minDurationMs", "must be a whole number")
    return Filters(
        status=int(status) if status and not is_outcome else None,
        outcome=status if is_outcome else None,
        model=query_text("model"),
        provider=query_text("provider"),
        connection_id=query_text("connection"),
        api_key_id=query_text("apiKeyId"),
        combo_id=query_text("combo"),
        session_hash=query_text("sessionId"),
        kind=query_choice("kind", ("request", "test")),
        q=query_text("q"),
        since=query_time("since"),
        until=query_time("until"),
        min_duration_ms=float(duration) if duration else None,
    )


def query_text(name: str) -> str | None:
    """Return a text of the query, or None when it is absent."""
    value = request.args.get(name)
    if not value:
        return None
    if len(value) > _LONGEST_FILTER or "\x00" in value:
        raise _wrong(name, f"must have at most {_LONGEST_FILTER} characters")
    return value


def query_choice(name: str, choices: tuple[str, ...]) -> str | None:
    """Return one of some values from the query, or None when it is absent."""
    value = request.args.get(name)
    if value and value not in choices:
        raise _wrong(name, f"must be one of {', '.join(choices)}")
    return value or None


def query_time(name: str) -> float | None:
    """Return a time of the query in epoch seconds, or None when it is absent."""
    value = request.args.get(name)
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value[:40])
        # A time without a zone is UTC, like every time that the API gives.
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise _wrong(name, "must be an ISO 8601 time such as 2027-01-31T12:00:00Z") from None


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])
