"""What a failed attempt means. The *kind* explains to people, the *class* steers the attempt loop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


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


class Scope(StrEnum):
    """How far a failure reaches."""

    CONNECTION = "connection"
    MODEL = "model"
    """The model, or a family of models, on that connection."""
    PROVIDER = "provider"
    REQUEST = "request"
    """The request itself: it would fail everywhere, or nearly so."""
    TARGET = "target"
    """The model at that provider, whichever connection calls it."""
    PROXY = "proxy"
    """The outbound proxy on the way."""


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
        ignored_hints: headers and fields that held a hint which says nothing: past, negative, unreadable.
        status: the provider's HTTP status, None when none arrived.
        provider_code: the provider's own error code or type.
        message: the provider's sentence, redacted, at most 1,000 characters; empty when it is not fit to show.
        used, limit, output: tokens of the prompt, of the window, and asked for as output, where the provider says that
            a request does not fit.
        committed: content had already reached the client, so no other target may be tried.
        scope: how far it reaches.
        window: the quota window that is spent, as the provider names it; it may name a family of models.
        link: where the provider sends the account's owner, for operators only.
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
    scope: Scope = Scope.CONNECTION
    window: str | None = None
    link: str | None = None
    ignored_hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Success:
    """The attempt served, or its answer has begun to reach the client."""


PROXY_FAILED: Final = "proxy"
"""Kind of what an outbound proxy is to blame for: neither provider nor account has seen anything."""
INVALID_ANSWER: Final = "invalid_answer"
"""Kind of an answer that came whole, and is not what the operator asks for."""
# Transient or unknown, and still no sign that the provider is down: the model stumbled over a tool call, two requests
# met, a model is being loaded, an answer was not what the operator asks for, the fault is our own.
_NOT_THE_PROVIDER: Final = frozenset({"generation", "conflict", "warming", INVALID_ANSWER, "internal"})
_SLOW_ONLY_HERE: Final = frozenset({425, 499})


def counts_for_breaker(failure: Failure) -> bool:
    """Say whether a failure is a sign that the provider as a whole is down. What says 429 never is."""
    match failure.failure_class:
        case FailureClass.TRANSIENT | FailureClass.UNKNOWN:
            pass
        case (
            FailureClass.CALLER_FAULT
            | FailureClass.CREDENTIAL
            | FailureClass.QUOTA
            | FailureClass.RATE_LIMIT
            | FailureClass.MODEL_UNAVAILABLE
            | FailureClass.CANCELLED
            | FailureClass.LOCAL
        ):
            return False
    if failure.status == 429 or failure.kind in _NOT_THE_PROVIDER:
        return False
    if failure.kind == "overloaded":
        return failure.scope is not Scope.MODEL
    if failure.kind == "timeout_upstream":
        return failure.status not in _SLOW_ONLY_HERE
    return True


TEXT_HINT: Final = "text"
"""Where a hint was read from a sentence."""
DAY_HINT: Final = "per-day quota"
"""Where it is no more than the end of the vendor's day."""


def is_weak(hint_source: str | None) -> bool:
    """Say whether a hint, or none, is so vague that a long rest is worth an early look."""
    return hint_source is None or hint_source in {TEXT_HINT, DAY_HINT}
