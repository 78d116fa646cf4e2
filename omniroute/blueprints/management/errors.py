"""Errors in the management dialect, `{"error": {code, message, details?, requestId}}`, and headers of all errors."""

from __future__ import annotations

import math

import msgspec
from flask import Response

from omniroute.errors import OmniRouteError, ValidationFailed

_TOO_LARGE = "too_large"


def render(error: OmniRouteError, request_id: str) -> Response:
    """Return the management answer for an error."""
    code = _TOO_LARGE if error.http_status == 413 else error.error_code
    detail: dict[str, object] = {"code": code, "message": error.message}
    if isinstance(error, ValidationFailed):
        detail["details"] = error.details
    elif error.extras:
        detail["details"] = dict(error.extras)
    elif error.param is not None:
        detail["details"] = [{"field": error.param, "message": error.message}]
    detail["requestId"] = request_id
    body = msgspec.json.encode({"error": detail})
    response = Response(body, error.http_status, mimetype="application/json")
    add_headers(response, error, code)
    response.headers["Cache-Control"] = "no-store"
    return response


def add_headers(response: Response, error: OmniRouteError, code: str | None = None) -> None:
    """Add what every error answer says beside its body: the stable code, and when and whether to try again."""
    for name, value in headers_of(error, code).items():
        response.headers[name] = value


def headers_of(error: OmniRouteError, code: str | None = None) -> dict[str, str]:
    """Return the headers of an error answer, whatever its dialect."""
    headers = {"X-OmniRoute-Error-Code": code or error.error_code}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        headers["retry-after-ms"] = str(max(1, math.ceil(error.retry_after_s * 1000)))
    if error.should_retry is not None:
        headers["x-should-retry"] = "true" if error.should_retry else "false"
    headers.update(error.headers)
    return headers
