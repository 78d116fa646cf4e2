"""Errors as Ollama writes them: `{"error": "…"}` with the status of the error, in a stream as a line."""

from __future__ import annotations

import msgspec

from omniroute.errors import OmniRouteError
from omniroute.formats.context_length import openai_message


def status_of(error: OmniRouteError) -> int:
    """Return the HTTP status of an error in this dialect."""
    return error.http_status


def render(error: OmniRouteError, request_id: str) -> bytes:
    """Render an error body; the dialect has no place for the request id."""
    del request_id
    return msgspec.json.encode({"error": openai_message(error)})


def render_in_stream(error: OmniRouteError, request_id: str) -> bytes:
    """Render an error for a stream whose status line is out; no `done` line may follow it."""
    return render(error, request_id) + b"\n"
