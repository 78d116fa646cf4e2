"""What a provider's answer is read by: its bytes, its errors, the words of it that may be shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from omniroute.errors import (
    OmniRouteError,
    ProxyUnavailable,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
    UrlBlocked,
)
from omniroute.formats.splice import scan
from omniroute.gateway.directory import Target
from omniroute.gateway.faults import error_for
from omniroute.gateway.ports import ReadTimeout, UpstreamResponse
from omniroute.providers import classify, requests
from omniroute.routing.failures import PROXY_FAILED, Failure, FailureClass, Scope, Sent

MAX_ANSWER_BYTES: Final = 64 << 20
_LEAST_SECRET: Final = 8
"""Header values of a node count as secrets, but short ones (`1`, `true`) stand in many texts by chance."""

CANCELLED: Final = Failure("cancelled", FailureClass.CANCELLED)
"""An attempt that neither served nor failed: the client left, the server stopped, or somebody else was faster."""


_UPSTREAM_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")


def upstream_id(headers: Mapping[str, str]) -> str | None:
    """Return what a provider calls the request, where it is what it claims to be."""
    identity = headers.get("x-request-id") or headers.get("request-id")
    return identity if identity is not None and _UPSTREAM_ID.fullmatch(identity) else None


def says_stream(response: UpstreamResponse) -> bool:
    """Say whether a provider announces a stream."""
    content_type = response.headers.get("content-type", "").lower()
    return "event-stream" in content_type or "ndjson" in content_type


def failure_of(error: UpstreamError | UrlBlocked) -> Failure:
    """Return what an error of the transport means."""
    match error:
        case UrlBlocked():
            return Failure("blocked", FailureClass.LOCAL, message=error.message, sent=Sent.NONE, scope=Scope.PROVIDER)
        case ProxyUnavailable():
            return Failure(
                PROXY_FAILED,
                FailureClass.LOCAL,
                retry_after_s=error.retry_after_s,
                message=error.message,
                sent=Sent.NONE,
                scope=Scope.PROXY,
            )
        case UpstreamUnreachable():
            return Failure("transport", FailureClass.TRANSIENT, sent=Sent.NONE)
        case UpstreamTimeout():
            sent = Sent.NONE if error.phase == "connect" else Sent.FULL
            return Failure(f"timeout_{error.phase}", FailureClass.TRANSIENT, sent=sent)
        case UpstreamProtocolError():
            return Failure("protocol", FailureClass.TRANSIENT, message=error.message)
        case _:
            return Failure("unknown", FailureClass.UNKNOWN)


def without_secrets(body: bytes, endpoint: requests.Endpoint) -> bytes:
    """Take our credential out of a provider's error: some repeat the key that they refuse."""
    for secret in endpoint.secrets:
        if len(secret) >= _LEAST_SECRET:
            body = body.replace(secret, b"[redacted]")
    return body


def error_of_answer(
    response: UpstreamResponse, body: bytes, endpoint: requests.Endpoint, target: Target, wall: float
) -> OmniRouteError:
    """Return what to tell the caller about a provider's answer that is an error; `wall` is epoch seconds."""
    body = without_secrets(body, endpoint)
    failure = classify.classify(endpoint.format, response.status, response.headers, body, now=wall)
    return error_for(failure, target.provider.name, wall=wall)


def in_ascii(text: str) -> str:
    """Return a text as a header can hold it: model names may have any letters."""
    return text if text.isascii() and text.isprintable() else quote(text, safe="/:@+ ")


def is_json_object(body: bytes) -> bool:
    """Say whether a body is a JSON object."""
    try:
        scan(body)
    except OmniRouteError:
        return False
    return True


def read_all(
    response: UpstreamResponse,
    timeout_s: float,
    limit: int,
    now: Callable[[], float],
    parts: list[bytes] | None = None,
) -> bytes:
    """Read a body to its end; `parts` has what has come of it, also where it never comes to that.

    Raises:
        UpstreamTimeout: it was not complete after `timeout_s`.
        UpstreamProtocolError: it is larger than `limit` bytes, or broke off.
    """
    give_up_at = now() + timeout_s
    parts = [] if parts is None else parts
    size = 0
    while True:
        try:
            data = response.read(give_up_at - now())
        except ReadTimeout:
            raise UpstreamTimeout("total") from None
        if not data:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        size += len(data)
        if size > limit:
            raise UpstreamProtocolError("The provider's answer is too large.")
        parts.append(data)
