"""Errors in the Responses dialect: a body like Chat's; in a stream `response.failed`, or `error` before its start."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omniroute.errors import OmniRouteError, QuotaExhausted
from omniroute.formats.context_length import openai_message
from omniroute.formats.waits import with_wait

_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_CODES: Final = {"overloaded": "server_is_overloaded"}
"""Codes of ours that this dialect spells in its own way: clients act on them."""


class _Typed(msgspec.Struct):
    type: str = ""


_TYPED: Final = msgspec.json.Decoder(_Typed)


def status_of(error: OmniRouteError) -> int:
    """Return the HTTP status of an error in this dialect."""
    return error.http_status


def code_of(error: OmniRouteError) -> str:
    """Return the code of an error in this dialect."""
    return _CODES.get(error.error_code, error.error_code)


def message_of(error: OmniRouteError) -> str:
    """Return the sentence of an error: a client reads how long to wait from it."""
    message = openai_message(error)
    return with_wait(message, error.retry_after_s) if error.http_status == 429 else message


def render(error: OmniRouteError) -> bytes:
    """Render an error body."""
    status = error.http_status
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    detail = {"message": message_of(error), "type": kind, "param": error.param, "code": code_of(error), **error.extras}
    if isinstance(error, QuotaExhausted):
        detail["type"] = "usage_limit_reached"
        if error.resets_at is not None:
            detail["resets_at"] = error.resets_at
    return msgspec.json.encode({"error": detail})


def render_in_stream(error: OmniRouteError, sequence_number: int = 0) -> bytes:
    """Render an error for a stream that has not sent `response.created` yet."""
    event = {
        "type": "error",
        "code": code_of(error),
        "message": message_of(error),
        "param": error.param,
        "sequence_number": sequence_number,
    }
    return frame(b"error", msgspec.json.encode(event))


def render_failed(response: bytes, sequence_number: int) -> bytes:
    """Render the end of a stream that has begun: `response` is the response object, failed, with its error."""
    data = b'{"type":"response.failed","sequence_number":%d,"response":%b}' % (sequence_number, response)
    return frame(b"response.failed", data)


def error_object(error: OmniRouteError) -> bytes:
    """Return the value of a failed response's member `error`."""
    return msgspec.json.encode({"code": code_of(error), "message": message_of(error)})


def raw_in_stream(data: bytes) -> bytes:
    """Frame an error event of a provider of this dialect as it came; its data is its JSON."""
    try:
        kind = _TYPED.decode(data).type.encode()
    except msgspec.DecodeError:
        kind = b""
    return frame(kind if kind in {b"error", b"response.failed"} else b"error", data)


def frame(kind: bytes, data: bytes) -> bytes:
    """Return one event; JSON that was written over several lines is put on one."""
    if b"\n" in data or b"\r" in data:
        data = data.translate(None, b"\r\n")
    return b"event: %b\ndata: %b\n\n" % (kind, data)


def envelope_of(data: bytes) -> bytes:
    """Return a provider's error event as the body that the same error has outside of a stream.

    `data` is that of an `error` or a `response.failed` event, in any of the shapes that hosts give them.
    """
    try:
        event = _ERROR_EVENT.decode(data)
    except msgspec.DecodeError:
        return data
    for found in (event.error, None if event.response is None else event.response.error):
        if isinstance(found, dict):
            return msgspec.json.encode({"error": found})
        if isinstance(found, str):
            return msgspec.json.encode({"error": {"message": found, "type": "server_error", "param": None}})
    code = event.code if isinstance(event.code, str | int) else "server_error"
    message = event.message if isinstance(event.message, str) else "The provider reported a failure."
    return msgspec.json.encode({"error": {"message": message, "type": code, "param": event.param, "code": code}})


class _Failed(msgspec.Struct):
    error: Any = None


class _ErrorEvent(msgspec.Struct):
    error: Any = None
    response: _Failed | None = None
    code: Any = None
    message: Any = None
    param: Any = None


_ERROR_EVENT: Final = msgspec.json.Decoder(_ErrorEvent)
