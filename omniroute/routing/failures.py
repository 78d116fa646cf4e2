"""What a failed attempt means. The *kind* explains to people, the *class* steers the attempt loop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FailureClass(StrEnum):
    """What to do after a failure; the columns are in `ecosystem/docs/architecture.md`, "Failure classes"."""

    CALLER_FAULT = "caller_fault"
    CREDENTIAL = "credential"
    QUOTA = "quota"
    RATE_LIMIT = "rate_limit"
    MODEL_UNAVAILABLE = "model_unavailable"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    LOCAL = "local"


class Sent(StrEnum):
    """How much of the request the provider may have seen."""

    NONE = "none"
    PARTIAL = "partial"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of an attempt that did not serve.

    Attributes:
        kind: short word for people and logs, e.g. `rate`, `auth`, `timeout_headers`, `context_length`.
        retry_after_s: the provider's hint in seconds, already parsed and clamped; None without a hint.
        hint_source: which header or field the hint came from.
        status: the provider's HTTP status, None when none arrived.
        provider_code: the provider's own error code or type.
        message: the provider's sentence, redacted, at most 1,000 characters; empty when it is not fit to show.
        used, limit, output: tokens of the prompt, of the window, and asked for as output, where the provider says that
            a request does not fit.
        committed: content had already reached the client, so no other target may be tried.
    """

    kind: str
    failure_class: FailureClass
    retry_after_s: float | None = None
    hint_source: str | None = None
    status: int | None = None
    provider_code: str | None = None
    message: str = ""
    param: str | None = None
    sent: Sent = Sent.FULL
    committed: bool = False
    used: int | None = None
    limit: int | None = None
    output: int | None = None


@dataclass(frozen=True, slots=True)
class Success:
    """The attempt served, or its answer has begun to reach the client."""
