"""From a failed attempt to the error that the caller sees: the provider's meaning kept, our credentials kept out."""

from __future__ import annotations

import re

from omniroute.errors import (
    InvalidRequest,
    ModelNotFound,
    NoEligibleTarget,
    OmniRouteError,
    Overloaded,
    ProviderCredentials,
    RateLimited,
    RequestTooLarge,
    UpstreamError,
    UpstreamTimeout,
)
from omniroute.routing.failures import Failure, FailureClass

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_HOUR_S = 3600.0
_RETRY_IS_POINTLESS_AFTER_S = 600.0


def error_for(failure: Failure, provider_name: str) -> OmniRouteError:
    """Return what to tell the caller about the failure that was chosen as the most telling one."""
    match failure.failure_class:
        case FailureClass.LOCAL if failure.kind == "blocked":
            return NoEligibleTarget(
                f"The address of {provider_name} is not allowed; the gateway's operator has to mend it.",
                should_retry=False,
            )
        case FailureClass.CALLER_FAULT:
            return _caller_fault(failure)
        case FailureClass.MODEL_UNAVAILABLE:
            return ModelNotFound(
                failure.message or f"{provider_name} does not serve this model.", param="model", should_retry=False
            )
        case FailureClass.RATE_LIMIT | FailureClass.LOCAL:
            return _limited(failure, "rate_limit_exceeded", f"{provider_name} limits the rate of requests")
        case FailureClass.QUOTA if failure.kind != "no_credit":
            is_long = (failure.retry_after_s or 0.0) > _HOUR_S
            code = "insufficient_quota" if is_long else "rate_limit_exceeded"
            return _limited(failure, code, f"The quota at {provider_name} is used up")
        case FailureClass.CREDENTIAL | FailureClass.QUOTA:
            return ProviderCredentials(
                f"The gateway's credential or credit at {provider_name} was refused; its operator has to mend it.",
                should_retry=False,
            )
        case FailureClass.TRANSIENT | FailureClass.UNKNOWN:
            return _provider_fault(failure, provider_name)
        case FailureClass.CANCELLED:
            return NoEligibleTarget("The request was cancelled.")


def _caller_fault(failure: Failure) -> OmniRouteError:
    status = failure.status if failure.status is not None and 400 <= failure.status < 500 else 400
    if failure.kind == "too_large":
        return RequestTooLarge(failure.message or None, should_retry=False)
    code = {"context_length": "context_length_exceeded", "content_policy": "content_filter"}.get(failure.kind)
    return InvalidRequest(
        failure.message or "The provider refused the request.",
        status=400 if status in {401, 402, 403, 404} else status,
        code=code or _plain(failure.provider_code) or "invalid_value",
        param=failure.param,
        should_retry=False,
    )


def _plain(provider_code: str | None) -> str | None:
    """Return a provider's code if it looks like one: it goes into a header."""
    return provider_code if provider_code is not None and _CODE.fullmatch(provider_code) else None


def _limited(failure: Failure, code: str, what: str) -> OmniRouteError:
    wait = failure.retry_after_s
    message = f"{what}." if wait is None else f"{what}. Please try again in {wait:.3g}s."
    return RateLimited(
        message,
        code=code,
        retry_after_s=wait,
        should_retry=wait is None or wait <= _RETRY_IS_POINTLESS_AFTER_S,
    )


def _provider_fault(failure: Failure, provider_name: str) -> OmniRouteError:
    if failure.kind == "overloaded":
        return Overloaded(
            f"{provider_name} is overloaded.", retry_after_s=failure.retry_after_s or 1.0, should_retry=True
        )
    if failure.kind.startswith("timeout"):
        return UpstreamTimeout(failure.kind.removeprefix("timeout_"), f"{provider_name} did not answer in time.")
    detail = f": {failure.message}" if failure.message else "."
    return UpstreamError(f"{provider_name} failed to answer{detail}")
