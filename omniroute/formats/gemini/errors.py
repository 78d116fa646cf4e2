"""Errors in the Gemini dialect: `{"error": {"code", "message", "status", "details"}}` as Google's services write it."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from omniroute.errors import BudgetExceeded, OmniRouteError, QuotaExhausted
from omniroute.formats.context_length import gemini_message

_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "FAILED_PRECONDITION",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPE: Final = "type.googleapis.com/google.rpc."
_HOUR_S: Final = 3600.0
_KEY_CODES: Final = frozenset({"auth_required", "invalid_api_key", "key_expired"})
_FILTERED: Final = "content_filter"


def status_of(error: OmniRouteError) -> int:
    """Return the HTTP status: a filtered prompt is an answer here, and a bad gateway is a fault like any other."""
    if error.error_code == _FILTERED:
        return 200
    status = error.http_status
    return 500 if status == 502 else status


def render(error: OmniRouteError, request_id: str) -> bytes:
    """Render the body of an error; the request id is in a header only."""
    del request_id
    if error.error_code == _FILTERED:
        return msgspec.json.encode(_blocked(error))
    return msgspec.json.encode({"error": _status(error)})


def render_in_stream(error: OmniRouteError, request_id: str) -> bytes:
    """Render an error for a stream whose status line is out; the stream ends with it."""
    return b"data: " + render(error, request_id) + b"\n\n"


def _blocked(error: OmniRouteError) -> dict[str, Any]:
    return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": error.message}}


def _status(error: OmniRouteError) -> dict[str, Any]:
    code = status_of(error)
    name = _STATUSES.get(code) or ("INVALID_ARGUMENT" if code < 500 else "INTERNAL")
    status: dict[str, Any] = {"code": code, "message": gemini_message(error), "status": name}
    details = _details(error, code)
    if details:
        status["details"] = details
    return status


def _details(error: OmniRouteError, code: int) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = []
    if isinstance(error, QuotaExhausted | BudgetExceeded):
        violation = {"quotaId": _quota_id(error), "description": error.message}
        details.append({"@type": _TYPE + "QuotaFailure", "violations": [violation]})
    if error.retry_after_s is not None and code in {429, 503}:
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": _duration(error.retry_after_s)})
    if code == 401 and error.error_code in _KEY_CODES:
        details.append({"@type": _TYPE + "ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"})
    if error.param is not None and code == 400:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": _TYPE + "BadRequest", "fieldViolations": [violation]})
    return details


def _quota_id(error: QuotaExhausted | BudgetExceeded) -> str:
    """Return the id of the limit: by its end clients know whether waiting is worth it."""
    if isinstance(error, BudgetExceeded):
        return "BudgetPerDay"
    return "RequestsPerHour" if (error.retry_after_s or 0.0) <= _HOUR_S else "RequestsPerDay"


def _duration(seconds: float) -> str:
    """Return a duration as protobuf JSON writes it, rounded up to milliseconds."""
    milliseconds = math.ceil(max(seconds, 0.0) * 1000)
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole}.{rest:03d}s" if rest else f"{whole}s"
