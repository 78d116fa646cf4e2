"""`/api/usage/logs` and `/api/audit`: what requests did, and what people did."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from flask import Blueprint, Request, Response, request

from omniroute.blueprints.management.bodies import Page, answer, iso_time, listing, refuse_sort
from omniroute.container import container
from omniroute.errors import ValidationFailed
from omniroute.records import AttemptRecord
from omniroute.services.usage import Filters, LogRow

blueprint = Blueprint("management_usage", __name__)

_OUTCOMES: Final = ("success", "failed", "cancelled", "truncated")
_LONGEST_FILTER: Final = 256
_NANO: Final = 1_000_000_000


@blueprint.get("/api/usage/logs")
@blueprint.get("/api/usage/call-logs")
@blueprint.get("/api/usage/history")
@blueprint.get("/api/usage/request-logs")
def logs() -> Response:
    """List settled requests, newest first."""
    page = Page.read(request)
    refuse_sort(request, "-time")
    if request.args.get("combo"):
        return listing("logs", [], total=0, page=page)  # nothing is served through a combo in this release
    found = container().usage.page(_filters(request), limit=page.limit, offset=page.offset)
    response = listing("logs", [log_row(row) for row in found.rows], total=found.total, page=page)
    if found.is_total_capped:
        response.headers["X-OmniRoute-Warning"] = "total_capped"
    return response


@blueprint.get("/api/usage/logs/<log_id>")
def log(log_id: str) -> Response:
    """Show one request with every attempt."""
    row = container().usage.get(log_id)
    record = row.record
    body = {
        **log_row(row),
        "kind": record.kind,
        "stream": record.stream,
        "bytesIn": record.bytes_in,
        "bytesOut": record.bytes_out,
        "tag": record.tag,
    }
    return answer({"log": body, "attempts": [_attempt(attempt) for attempt in record.attempts]})


@blueprint.get("/api/audit")
@blueprint.get("/api/compliance/audit-log")
def audit() -> Response:
    """List audited actions, newest first."""
    page = Page.read(request)
    refuse_sort(request, "-time")
    entries, total = container().audit.entries(
        limit=page.limit,
        offset=page.offset,
        action=_text("action"),
        actor=_text("actor"),
        target=_text("target"),
        outcome=_choice("outcome", ("success", "failure", "denied")),
        request_id=_text("requestId"),
        since=_time("since"),
        until=_time("until"),
    )
    rows = [
        {
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
        for entry in entries
    ]
    return listing("entries", rows, total=total, page=page)


@blueprint.get("/api/audit/verify")
def verify_audit() -> Response:
    """Recompute the hash chain of the audit log."""
    check = container().audit.verify()
    return answer({"valid": check.broken_at is None, "rows": check.rows, "brokenAt": check.broken_at})


def log_row(row: LogRow) -> dict[str, Any]:
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
    }


def _attempt(attempt: AttemptRecord) -> dict[str, Any]:
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


def _filters(source: Request) -> Filters:
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
        model=_text("model"),
        provider=_text("provider"),
        connection_id=_text("connection"),
        api_key_id=_text("apiKeyId"),
        session_hash=_text("sessionId"),
        kind=_choice("kind", ("request", "test")),
        q=_text("q"),
        since=_time("since"),
        until=_time("until"),
        min_duration_ms=float(duration) if duration else None,
    )


def _text(name: str) -> str | None:
    value = request.args.get(name)
    if not value:
        return None
    if len(value) > _LONGEST_FILTER or "\x00" in value:
        raise _wrong(name, f"must have at most {_LONGEST_FILTER} characters")
    return value


def _choice(name: str, choices: tuple[str, ...]) -> str | None:
    value = request.args.get(name)
    if value and value not in choices:
        raise _wrong(name, f"must be one of {', '.join(choices)}")
    return value or None


def _time(name: str) -> float | None:
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
