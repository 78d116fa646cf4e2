"""Errors in the OpenAI dialect: `{"error": {"message", "type", "param", "code", …}}`."""

from __future__ import annotations

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.context_length import openai_message
from omniroute.formats.waits import with_wait

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def status_of(error: OmniRouteError) -> int:
    """Return the HTTP status of an error in this dialect."""
    return error.http_status


def render(error: OmniRouteError) -> bytes:
    """Render an error body."""
    status = error.http_status
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    detail = {
        "message": message_of(error),
        "type": kind,
        "param": error.param,
        "code": error.error_code,
        **error.extras,
    }
    return msgspec.json.encode({"error": detail})


def message_of(error: OmniRouteError) -> str:
    """Return the sentence of an error: clients of this dialect read from it how long to wait."""
    message = openai_message(error)
    return with_wait(message, error.retry_after_s) if error.http_status == 429 else message


def render_in_stream(error: OmniRouteError) -> bytes:
    """Render an error for a stream whose status line is out: the error, then the end marker that clients wait for."""
    return b"data: " + render(error) + b"\n\ndata: [DONE]\n\n"
