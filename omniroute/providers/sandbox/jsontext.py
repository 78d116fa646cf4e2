"""JSON as the sandbox reads and writes it: fast, and for every number that JSON can spell."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from omniroute.providers.sandbox.script import VendorError


def dump(value: Any) -> bytes:
    """Return JSON text without blanks."""
    try:
        return msgspec.json.encode(value)
    except OverflowError:  # integers of more than 64 bits, which a schema may well name as a bound
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def load(text: bytes | str) -> Any:
    """Return the value of JSON text that the sandbox wrote itself."""
    return msgspec.json.decode(text)


def load_object(body: bytes) -> dict[str, Any]:
    """Read a request body.

    Raises:
        VendorError: it is not a JSON object.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise VendorError(400, "The request body could not be read as JSON.") from None
    if not isinstance(value, dict):
        raise VendorError(400, "The request body must be a JSON object.")
    return value
