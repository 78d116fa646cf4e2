"""Errors in the Anthropic dialect: `{"type": "error", "error": {"type", "message"}, "request_id"}` and nothing else."""

from __future__ import annotations

import msgspec

from omniroute.errors import OmniRouteError, UnsupportedFeature
from omniroute.formats.context_length import messages_message

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def status_of(error: OmniRouteError) -> int:
    """Return the HTTP status: overload is 529 here, and other faults of ours or the provider's are 500."""
    status = error.http_status
    if status == 503:
        return 500 if error.error_code == "provider_credentials" else 529
    if status in {500, 501, 502}:
        return 500
    return status


def render(error: OmniRouteError, request_id: str) -> bytes:
    """Render an error body."""
    status = status_of(error)
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    message = messages_message(error)
    if isinstance(error, UnsupportedFeature) and error.param is not None:
        message = f"{error.param}: {message}"  # the vendor's way to say where: the dialect has no member for it
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
    return msgspec.json.encode(body)


def render_in_stream(error: OmniRouteError, request_id: str) -> bytes:
    """Render an error event for a stream whose status line is out; no `message_stop` may follow it."""
    return b"event: error\ndata: " + render(error, request_id) + b"\n\n"
