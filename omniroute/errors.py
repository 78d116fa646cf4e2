"""Every failure that reaches a caller, in three families by whose fault it is. Known to all rings, knows nobody.

Each class carries the HTTP `status`, a stable machine `code` and a public message that holds no credential, path, stack
or provider URL. How an error is spelt in a client's dialect is decided in `formats/<dialect>/errors.py` and, for
`/api`, in `blueprints/management`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class OmniRouteError(Exception):
    """Root of everything that is rendered for a caller."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    default_message: ClassVar[str] = "The gateway failed; the request id leads to the log entry."

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
        extras: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message or self.default_message
        super().__init__(self.message)
        self.param = param
        self.error_code = code or self.code
        self.http_status = status or self.status
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry
        self.extras: Mapping[str, Any] = extras or {}
        self.headers: Mapping[str, str] = headers or {}


# --- the caller's fault ------------------------------------------------------------------------------------------


class CallerError(OmniRouteError):
    """4xx: the caller can act on it."""

    status, code, default_message = 400, "invalid_value", "The request is not valid."


class InvalidJson(CallerError):
    """The body is not the JSON object that the route needs."""

    code, default_message = "invalid_json", "The request body is not valid JSON."


class InvalidRequest(CallerError):
    """A field has a value or type that the route cannot use; `param` names it."""


class MissingField(CallerError):
    """A required field is absent; `param` names it."""

    code, default_message = "missing_field", "A required field is missing."


class UnsupportedFeature(CallerError):
    """The target's format cannot say it, and dropping it would change the meaning."""

    code, default_message = "unsupported_feature", "The chosen target cannot express this request."


class ContextLengthExceeded(CallerError):
    """The request does not fit the model's window. Each dialect has its own sentence for it, with the numbers.

    Attributes:
        used: tokens of the prompt; None when nobody knows.
        limit: the window in tokens; None when nobody knows.
        output: tokens that the caller wanted beside the prompt, where the sum of both is what is too long.
    """

    code, default_message = "context_length_exceeded", "The request is longer than the model's context window."

    def __init__(
        self,
        message: str | None = None,
        *,
        used: int | None = None,
        limit: int | None = None,
        output: int | None = None,
    ) -> None:
        super().__init__(message, param="messages", should_retry=False)
        self.used = used
        self.limit = limit
        self.output = output


class ValidationFailed(CallerError):
    """A management body has one or more bad fields: `details` is `[{"field", "message"}]`."""

    code, default_message = "validation_failed", "Some fields are not valid."

    def __init__(self, details: list[dict[str, str]], message: str | None = None) -> None:
        text = message or "; ".join(f"{d['field']}: {d['message']}" for d in details[:3]) or None
        super().__init__(text)
        self.details = details


class RequestCancelled(CallerError):
    """An operator ended the request while it was in flight."""

    status, code, default_message = 499, "request_cancelled", "An operator of the gateway cancelled this request."


class AuthenticationFailed(CallerError):
    """No usable credential: codes `auth_required`, `invalid_api_key`, `key_expired`, `token_*`, `invalid_password`."""

    status, code, default_message = 401, "auth_required", "A credential is required."


class BudgetExceeded(CallerError):
    """The API key has spent its budget for the period."""

    status, code, default_message = 402, "budget_exceeded", "The budget of this API key is spent."


class PermissionDenied(CallerError):
    """The credential is known but may not do this."""

    status, code, default_message = 403, "permission_denied", "This credential may not do that."


class NotFound(CallerError):
    """The thing does not exist, or not for this caller."""

    status, code, default_message = 404, "not_found", "Not found."


class ModelNotFound(CallerError):
    """No provider serves the requested model; extras `reason: unknown|no_connection|discontinued`, `suggestions`."""

    status, code, default_message = 404, "model_not_found", "The model does not exist."


class MethodNotAllowed(CallerError):
    """The path exists with other methods; the `Allow` header lists them."""

    status, code, default_message = 405, "method_not_allowed", "This method is not allowed here."


class RequestTimeout(CallerError):
    """The client took too long to send its request."""

    status, code, default_message = 408, "request_timeout", "The request body did not arrive in time."


class Conflict(CallerError):
    """The change collides with what is stored: `conflict`, `in_use`, `unsafe_defaults`, `encryption_key_missing`."""

    status, code, default_message = 409, "conflict", "The change conflicts with the present state."


class RequestTooLarge(CallerError):
    """The body is over the limit of its route."""

    status, code, default_message = 413, "request_too_large", "The request body is too large."


class UnsupportedMediaType(CallerError):
    """The content type is not the one that the route reads."""

    status, code, default_message = 415, "unsupported_media_type", "Send the body as application/json."


class UrlBlocked(CallerError):
    """A supplied URL points at an address that must not be called; tells the class of reason, never the address."""

    status, code, default_message = 422, "url_blocked", "This address is not allowed."


class RateLimited(CallerError):
    """A limit of the caller is reached; `retry_after_s` says when it ends."""

    status, code, default_message = 429, "rate_limit_exceeded", "The rate limit is reached."


class QuotaExhausted(RateLimited):
    """What a provider grants for a longer time is used up; a short wait does not help.

    Attributes:
        resets_at: epoch seconds of the end of the window; None when nobody knows.
    """

    def __init__(
        self, message: str | None = None, *, code: str, retry_after_s: float, resets_at: int | None, should_retry: bool
    ) -> None:
        super().__init__(message, code=code, retry_after_s=retry_after_s, should_retry=should_retry)
        self.resets_at = resets_at


# --- the provider's fault ----------------------------------------------------------------------------------------


class UpstreamError(OmniRouteError):
    """5xx: the provider failed, or could not be used."""

    status, code, default_message = 502, "upstream_error", "The provider failed to answer."


class UpstreamUnreachable(UpstreamError):
    """No connection: nothing was sent."""

    default_message = "The provider could not be reached."


class ProxyUnavailable(UpstreamUnreachable):
    """The outbound proxy that a request has to take cannot be used: the provider has seen nothing of it."""

    status, code = 503, "proxy_unavailable"
    default_message = "The outbound proxy cannot be used."


class UpstreamTimeout(UpstreamError):
    """A time limit ended the attempt; `phase` is connect, headers, content, idle or total."""

    status, code, default_message = 504, "upstream_timeout", "The provider did not answer in time."

    def __init__(self, phase: str, message: str | None = None) -> None:
        super().__init__(message)
        self.phase = phase


class UpstreamProtocolError(UpstreamError):
    """The provider's answer could not be read, or ended early."""

    default_message = "The provider sent an answer that could not be read."


class UpstreamRejected(UpstreamError):
    """The provider answered with an error status; status, body and headers are kept for classification."""

    def __init__(self, upstream_status: int, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(f"The provider answered with status {upstream_status}.")
        self.upstream_status = upstream_status
        self.body = body
        self.upstream_headers = headers


class ProviderCredentials(UpstreamError):
    """Our credential or credit at the provider is refused; never shown as 401 or 402 to the caller."""

    status, code = 503, "provider_credentials"
    default_message = "The gateway's credential at the provider was refused."


class Overloaded(UpstreamError):
    """The provider has no capacity for now."""

    status, code, default_message = 503, "overloaded", "The provider is overloaded."


class NoEligibleTarget(UpstreamError):
    """The model is known, but nothing may serve it now."""

    status, code, default_message = 503, "no_eligible_target", "No connection can serve this model now."


# --- our own fault -----------------------------------------------------------------------------------------------


class InternalError(OmniRouteError):
    """5xx: a fault of the gateway itself."""


class StorageError(InternalError):
    """The database could not be read or written."""

    status, code, default_message = 503, "storage_unavailable", "The gateway's database is not available."


class ServerDraining(InternalError):
    """The server is going down and takes no new work."""

    status, code, default_message = 503, "server_draining", "The server is shutting down."


class ConfigurationError(InternalError):
    """The configuration does not allow the server to start: exit code 2. The message never holds the value."""

    code, default_message = "configuration_error", "The configuration is not valid."
