"""From a failed attempt to the error that the caller sees: the provider's meaning kept, our credentials kept out."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final

from omniroute.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    NoEligibleTarget,
    OmniRouteError,
    Overloaded,
    ProviderCredentials,
    ProxyUnavailable,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    UpstreamError,
    UpstreamTimeout,
)
from omniroute.formats.waits import with_wait
from omniroute.routing.failures import PROXY_FAILED, Failure, FailureClass

_CODE: Final = re.compile(r"(?=.*[A-Za-z_])[A-Za-z0-9_.:-]{1,100}")
_NO_CODES: Final = frozenset(
    {"invalid_request_error", "invalid_argument", "badrequesterror", "bad_request", "badrequest", "failed_precondition"}
)
"""Types that say no more than that the request is at fault."""
_MOST_SAID: Final = 800
"""Characters of a provider's sentence beside ours; a whole message has a thousand at most."""
_HOUR_S: Final = 3600.0
_RETRY_IS_POINTLESS_AFTER_S: Final = 600.0

# When to come back where the provider does not say: what the first rest after such a failure takes.
_RATE_WAIT_S: Final = 3.0
_OVERLOADED_WAIT_S: Final = 1.0
_QUOTA_WAIT_S: Final = 900.0
_CREDIT_WAIT_S: Final = 3600.0
_CREDENTIAL_WAIT_S: Final = 120.0


def error_for(failure: Failure, provider_name: str, *, wall: float) -> OmniRouteError:
    """Return what to tell the caller about the failure that was chosen as the most telling one.

    `wall` is the time of day in epoch seconds.
    """
    match failure.failure_class:
        case FailureClass.LOCAL if failure.kind == "blocked":
            return NoEligibleTarget(
                f"The address of {provider_name} is not allowed; the gateway's operator has to mend it.",
                should_retry=False,
                retry_after_s=_CREDENTIAL_WAIT_S,
            )
        case FailureClass.LOCAL if failure.kind == PROXY_FAILED:
            return ProxyUnavailable(failure.message, should_retry=True, retry_after_s=failure.retry_after_s)
        case FailureClass.CALLER_FAULT:
            return _caller_fault(failure)
        case FailureClass.MODEL_UNAVAILABLE:
            return ModelNotFound(
                failure.message or f"{provider_name} does not serve this model.", param="model", should_retry=False
            )
        case FailureClass.RATE_LIMIT | FailureClass.LOCAL:
            return _limited(failure, provider_name)
        case FailureClass.QUOTA if failure.kind != "no_credit":
            return _spent(failure, provider_name, wall)
        case FailureClass.CREDENTIAL | FailureClass.QUOTA:
            return ProviderCredentials(
                f"The gateway's credential or credit at {provider_name} was refused; its operator has to mend it.",
                should_retry=False,
                retry_after_s=_CREDIT_WAIT_S if failure.kind == "no_credit" else _CREDENTIAL_WAIT_S,
            )
        case FailureClass.TRANSIENT | FailureClass.UNKNOWN:
            return _provider_fault(failure, provider_name)
        case FailureClass.CANCELLED:
            return NoEligibleTarget("The request was cancelled.")


def is_ours_to_mend(failure: Failure) -> bool:
    """Say whether a failure is about our account at the provider: its words are nothing for callers."""
    return failure.failure_class is FailureClass.CREDENTIAL or failure.kind == "no_credit"


def _caller_fault(failure: Failure) -> OmniRouteError:
    if failure.kind == "context_length":
        return ContextLengthExceeded(failure.message, used=failure.used, limit=failure.limit, output=failure.output)
    if failure.kind == "too_large":
        return RequestTooLarge(failure.message or None, should_retry=False)
    code = "content_filter" if failure.kind == "content_policy" else _plain(failure.provider_code)
    return InvalidRequest(
        failure.message or "The provider refused the request.",
        code=code or ("unsupported_parameter" if failure.kind == "unsupported_param" else "invalid_value"),
        param=failure.param,
        should_retry=False,
    )


def _plain(provider_code: str | None) -> str | None:
    """Return a provider's code if it looks like one and tells anything: it goes into a header."""
    if provider_code is None or not _CODE.fullmatch(provider_code) or provider_code.lower() in _NO_CODES:
        return None
    return provider_code


def _limited(failure: Failure, provider_name: str) -> RateLimited:
    wait = failure.retry_after_s or _RATE_WAIT_S
    message = _told(f"{provider_name} limits the rate of requests", failure)
    return RateLimited(with_wait(message, wait), retry_after_s=wait, should_retry=wait <= _RETRY_IS_POINTLESS_AFTER_S)


def _spent(failure: Failure, provider_name: str, wall: float) -> QuotaExhausted:
    known = failure.retry_after_s
    message = _told(f"The quota at {provider_name} is used up", failure)
    resets_at = None
    if known is not None:
        resets_at = math.ceil(wall + known)
        message = f"{message} It resets at {_moment(resets_at)}."
    wait = _QUOTA_WAIT_S if known is None else known
    is_short = known is not None and known <= _HOUR_S
    return QuotaExhausted(
        with_wait(message, known),
        code="rate_limit_exceeded" if is_short else "insufficient_quota",
        retry_after_s=wait,
        resets_at=resets_at,
        should_retry=wait <= _RETRY_IS_POINTLESS_AFTER_S,
    )


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f}"


def _provider_fault(failure: Failure, provider_name: str) -> OmniRouteError:
    if failure.kind in {"overloaded", "warming"}:
        what = "is overloaded" if failure.kind == "overloaded" else "is still loading the model"
        wait = failure.retry_after_s or _OVERLOADED_WAIT_S
        return Overloaded(
            _told(f"{provider_name} {what}", failure),
            retry_after_s=wait,
            should_retry=wait <= _RETRY_IS_POINTLESS_AFTER_S,
        )
    if failure.kind.startswith("timeout") or failure.status == 504:
        phase = failure.kind.removeprefix("timeout_")
        return UpstreamTimeout(phase, _told(f"{provider_name} did not answer in time", failure))
    return UpstreamError(_told(f"{provider_name} failed to answer", failure))


def _told(what: str, failure: Failure) -> str:
    """Return our sentence with the provider's own behind it."""
    said = failure.message
    if not said:
        return f"{what}."
    if len(said) > _MOST_SAID:
        said = said[: _MOST_SAID - 1] + "…"
    return f"{what}: {said}" if said.endswith((".", "!", "?", "…")) else f"{what}: {said}."
