"""What a provider's refusal means: one table from its status, codes and sentence to a failure class.

The same table reads error statuses, error objects inside a 200, and error events of a stream. Body codes beat body
text, and text beats the status; within each of these the first matching row counts. Text patterns look at error fields
only, never at what a model wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from omniroute.formats.wire import WireFormat
from omniroute.providers.context_numbers import ContextNumbers, context_numbers
from omniroute.providers.error_body import Said, named_in, read_error, showable
from omniroute.providers.hints import Hint, retry_hint
from omniroute.routing.failures import Failure, FailureClass

_NAMES_PARAM: Final = frozenset({"unsupported_param", "invalid_request"})
"""Kinds whose sentence may name a parameter."""
_MAX_CODE: Final = 100
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86_400.0

_CALLER = FailureClass.CALLER_FAULT
_CREDENTIAL = FailureClass.CREDENTIAL
_QUOTA = FailureClass.QUOTA
_RATE = FailureClass.RATE_LIMIT
_MODEL = FailureClass.MODEL_UNAVAILABLE
_TRANSIENT = FailureClass.TRANSIENT


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_BAD_REQUEST: Final = frozenset({400, 404, 413, 422})
_LIMITS: Final = frozenset({403, 429})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        codes: body codes or types, in lower case, that mean this, under any status of `codes_at` (empty: any).
        text: what the error's sentence says, looked for under the statuses `text_at` only.
        statuses: statuses that mean this by themselves.
    """

    kind: str
    failure_class: FailureClass
    codes: frozenset[str] = frozenset()
    codes_at: frozenset[int] = frozenset()
    text: re.Pattern[str] | None = None
    text_at: frozenset[int] = frozenset()
    statuses: frozenset[int] = frozenset()
    formats: frozenset[WireFormat] = field(default_factory=frozenset)
    """The dialects that it belongs to; empty for all."""
    wait_s: float | None = None
    """How long to rest without a hint, where the kind of failure says so."""


_ANTHROPIC: Final = frozenset({WireFormat.ANTHROPIC_MESSAGES})
_OPENAI: Final = frozenset({WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES})
_GEMINI: Final = frozenset({WireFormat.GEMINI})

DIALECT_ROWS: Final = (
    # Anthropic names a missing model by "model: <id>" alone.
    Row("model_missing", _MODEL, text=_any(r"^model: \S+"), text_at=frozenset({404}), formats=_ANTHROPIC),
    # An organisation that was switched off is reported as a bad request.
    Row(
        "account_blocked",
        _CREDENTIAL,
        text=_any(r"organization has been (?:disabled|suspended)"),
        text_at=frozenset({400, 401, 403}),
        formats=_ANTHROPIC,
    ),
    Row(
        "quota",
        _QUOTA,
        text=_any(r"specified api usage limits", r"would exceed your .{0,40}monthly"),
        text_at=frozenset({400, 429}),
        formats=_ANTHROPIC,
    ),
    # A key of the right form without permission for an endpoint.
    Row(
        "forbidden",
        _CREDENTIAL,
        text=_any(r"insufficient permissions for this operation", r"missing scopes"),
        text_at=frozenset({401, 403}),
        formats=_OPENAI,
    ),
    # A single request larger than the per-minute allowance: waiting does not help.
    Row(
        "too_large",
        _CALLER,
        text=_any(r"request too large for"),
        text_at=frozenset({413, 429}),
        formats=_OPENAI,
    ),
    Row(
        "too_large",
        _CALLER,
        text=_any(r"request payload size exceeds the limit"),
        text_at=frozenset({400, 413}),
        formats=_GEMINI,
    ),
    # What the key or its project may not do is said as a bad request, and is nothing that a caller could mend.
    Row(
        "forbidden",
        _CREDENTIAL,
        text=_any(r"user location is not supported"),
        text_at=frozenset({400, 403}),
        formats=_GEMINI,
    ),
)

ROWS: Final = (
    Row(
        "context_length",
        _CALLER,
        codes=_set(
            "context_length_exceeded model_context_window_exceeded content_length_exceeds_threshold "
            "exceed_context_size_error model_max_prompt_tokens_exceeded 1261"
        ),
        text=_any(
            r"prompt (?:is )?too long",
            r"(?:max(?:imum)?|model's) (?:context|prompt) length",
            r"exceeds? (?:the |its |this model's |max )?(?:maximum )?(?:context|available context)",
            r"exceeded (?:this model(?:'s)? |the model's |model )?(?:context window|token) limit",
            r"context (?:length|window|size) (?:is )?(?:exceeded|exceeds)",
            r"input token count.{0,60}(?:exceeds|only supports)",
            r"(?:prompt|input) token count of .{0,20}exceeds",
            r"input tokens exceed the configured limit",
            r"input is too long",
            r"longer than the (?:model's context length|maximum model length)",
            r"too long to fit into the model",
            r"with context length of only|greater than the context length",
            r"tokens in the prompt cannot exceed",
            r"tokens \+ `max_new_tokens` must be",
            r"range of input length should be",
        ),
        text_at=_BAD_REQUEST | {500},
    ),
    Row(
        "model_missing",
        _MODEL,
        codes=_set("model_not_found deploymentnotfound model_not_exist unknown_model invalid_model 1211"),
        text=_any(
            r"\bmodels?\b.{0,120}(?:not found|(?:does )?not exist\b|is not available)",
            r"\bmodel\b.{0,120}has been (?:removed|retired|deprecated)",
            r"invalid model\b|model identifier is invalid",
            r"(?:no such|unknown) model\b",
        ),
        text_at=frozenset({400, 404, 422}),
        statuses=frozenset({410}),
    ),
    Row(
        "auth",
        _CREDENTIAL,
        codes=_set(
            "api_key_invalid invalid_api_key authentication_error expiredtokenexception expiredtoken "
            "unrecognizedclientexception invalid_token token_expired unauthenticated 1004"
        ),
        codes_at=frozenset({200, 400, 401, 403, 498}),
        text=_any(r"api key not valid", r"(?:invalid|incorrect) (?:x-)?api[ _-]?key"),
        text_at=frozenset({400, 401, 403}),
        statuses=frozenset({401}),
    ),
    Row(
        "content_policy",
        _CALLER,
        codes=_set(
            "content_filter content_policy_violation responsibleaipolicyviolation datainspectionfailed "
            "data_inspection_failed sensitive prohibited_content cyber_policy 1301 1026 1027"
        ),
        text=_any(
            r"content (?:management |filtering )?policy",
            r"safety (?:system|filter)",
            r"(?:input|prompt|content) (?:was|is) flagged|flagged (?:by|for|as)",
            r"violat(?:es?|ing) (?:our |the )?(?:usage|content|safety)",
        ),
        text_at=frozenset({400, 403}),
        statuses=frozenset({451}),
    ),
    Row(
        "unsupported_param",
        _CALLER,
        codes=_set("unsupported_parameter unknown_parameter unsupported_value"),
        text=_any(
            r"(?:unknown name|extraneous key) [\[\"'`]",
            r"(?:unsupported|unknown|unrecognized|unexpected) (?:request )?(?:parameter|argument|field|keyword)",
            r"extra inputs are not permitted",
            r"does not support (?:the )?['\"`]?\w+['\"`]? parameter",
        ),
        text_at=frozenset({400, 422}),
    ),
    Row(
        "opaque_token",
        _CALLER,
        codes=_set("invalid_encrypted_content missing_thought_signature invalid_thought_signature"),
        text=_any(
            r"signature.{0,40}thinking",
            r"thinking`?.{0,40}signature",
            r"thinking`? blocks?\b",
            r"expected `thinking`",
            r"thought.?signature",
            r"encrypted content .{0,60}could not be (?:verified|decrypted)",
        ),
        text_at=frozenset({400}),
    ),
    Row(
        "generation",
        _TRANSIENT,
        codes=_set("tool_use_failed malformed_function_call"),
        codes_at=frozenset({200, 400, 422}),
    ),
    Row(
        "entitlement",
        _MODEL,
        codes=_set("usage_not_included model_not_allowed model_not_supported"),
        text=_any(r"not (?:included )?in your plan", r"(?:no|not have|n't have) access to (?:the |this )?model"),
        text_at=frozenset({400, 403, 404}),
    ),
    Row(
        "no_credit",
        _QUOTA,
        codes=_set(
            "billing_error insufficient_balance insufficient_credits payment_required billing_hard_limit_reached "
            "billing_not_active exceeded_current_quota_error arrearage 1113 1008"
        ),
        text=_any(
            r"insufficient (?:account )?(?:balance|credits?|funds)",
            r"credit balance is too low",
            r"(?:out of|no|run out of|requires more) credits?\b",
            r"account.{0,40}(?:arrears|overdue)",
        ),
        text_at=frozenset({400, 402, 403, 429}),
        statuses=frozenset({402}),
    ),
    Row(
        "account_blocked",
        _CREDENTIAL,
        codes=_set("validation_required account_deactivated account_suspended account_disabled consumer_suspended"),
        text=_any(r"(?:account|organization|user|consumer).{0,60}(?:suspended|disabled|banned|deactivated)"),
        text_at=frozenset({401, 403}),
    ),
    Row(
        "quota",
        _QUOTA,
        codes=_set(
            "insufficient_quota usage_limit_reached quota_exhausted quota_exceeded monthly_request_count "
            "daily_limit_exceeded 1308 2056"
        ),
        codes_at=frozenset({200, 400, 403, 429}),  # under a 402 the same word means that the money is gone
        text=_any(
            r"free allocated quota",
            r"resets in [0-9]+ days",
            r"\b(?:hourly|daily|weekly|monthly) (?:usage |request |token |message )?(?:limit|quota)",
            r"(?:requests|tokens) per day|\((?:rpd|tpd)\)",
            r"usage limit (?:has been )?(?:reached|exceeded)",
        ),
        text_at=_LIMITS,
    ),
    Row(
        "concurrency",
        _RATE,
        codes=_set("too_many_concurrent_requests concurrency_limit_exceeded"),
        text=_any(r"concurren(?:t|cy)"),
        text_at=frozenset({429}),
        wait_s=1.0,
    ),
    Row(
        "overloaded",
        _TRANSIENT,
        codes=_set(
            "model_capacity_exhausted engine_overloaded_error engine_overloaded overloaded_error server_is_overloaded "
            "slow_down serviceunavailableexception service_unavailable unavailable capacity_exceeded"
        ),
        text=_any(r"high demand", r"at capacity", r"capacity exceeded", r"\boverloaded\b", r"server busy"),
        text_at=frozenset({429, 498, 500}),
        statuses=frozenset({529}),
    ),
    Row(
        "rate",
        _RATE,
        codes=_set(
            "rate_limit_error rate_limit_exceeded throttlingexception throttling too_many_requests resource_exhausted "
            "1002 1302 1303 1305"
        ),
        codes_at=frozenset({200, 400, 403, 429, 503}),
        statuses=frozenset({429}),
    ),
    Row(
        "too_large",
        _CALLER,
        codes=_set("request_too_large"),
        codes_at=frozenset({200, 400}),  # under its own status the sentence may say more
        statuses=frozenset({413}),
    ),
    Row(
        "warming",
        _TRANSIENT,
        text=_any(r"(?:is|currently|model) loading", r"loading model", r"warming up", r"cold start"),
        text_at=frozenset({503}),
    ),
    Row("overloaded", _TRANSIENT, statuses=frozenset({503})),
    Row("auth", _CREDENTIAL, statuses=frozenset({498})),
    Row("forbidden", _CREDENTIAL, statuses=frozenset({403})),
    Row("invalid_request", _CALLER, statuses=frozenset({400, 422})),
    Row("misconfigured", _MODEL, statuses=frozenset({301, 302, 303, 307, 308, 404, 405, 415, 501})),
    Row(
        "timeout_upstream",
        _TRANSIENT,
        codes=_set("timeout_error deadline_exceeded modeltimeoutexception"),
        statuses=frozenset({408, 425, 499}),
    ),
    Row("conflict", _TRANSIENT, statuses=frozenset({409})),
    Row("gateway", _TRANSIENT, statuses=frozenset({502, 504})),
    Row(
        "server",
        _TRANSIENT,
        codes=_set("internalserverexception"),
        statuses=frozenset({424, 500, *range(505, 529), *range(530, 600)}),
    ),
)

# What an error type means where no status says it: inside a 200 and in the middle of a stream.
_STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "authentication_error": 401,
    "unauthenticated": 401,
    "billing_error": 402,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "resource_exhausted": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "internal": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "timeout_error": 504,
    "overloaded_error": 529,
    "bad_request": 400,
    "badrequesterror": 400,
}


def classify(wire_format: WireFormat, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Failure:
    """Return what an answer that did not serve means.

    Args:
        wire_format: the dialect that the provider was spoken to in.
        status: its HTTP status; 200 for an error object or event inside a successful answer.
        headers: names in lower case.
        body: the answer, or the data of the error event.
        now: epoch seconds.
    """
    said = read_error(body, headers.get("x-amzn-errortype", ""))
    row = _row_for(wire_format, status, headers, said)
    if row is None:
        kind, failure_class, wait_s = "unknown", FailureClass.UNKNOWN, None
    else:
        kind, failure_class, wait_s = row.kind, row.failure_class, row.wait_s
    hint = _hint(kind, failure_class, {**headers, **said.headers}, said, now)
    numbers = context_numbers(said.message, said.error) if kind == "context_length" else ContextNumbers()
    return Failure(
        kind=kind,
        failure_class=failure_class,
        retry_after_s=hint.seconds if hint is not None else wait_s,
        hint_source=hint.source if hint is not None else None,
        status=status,
        provider_code=said.code[:_MAX_CODE] if said.code else None,
        message=showable(said.message),
        param=said.param or (named_in(said.message) if kind in _NAMES_PARAM else None),
        used=numbers.used,
        limit=numbers.limit,
        output=numbers.output,
    )


def _row_for(wire_format: WireFormat, status: int, headers: Mapping[str, str], said: Said) -> Row | None:
    outer = status
    if status < 300:
        if not said.is_readable or said.is_html:
            return _PROTOCOL
        status = _inner_status(said) or status
    elif said.is_html and status >= 500:
        return _GATEWAY
    if status in _LIMITS and headers.get("anthropic-ratelimit-unified-status") == "rejected":
        return _QUOTA_ROW
    if status == 429 and _names_daily_quota(said):
        return _QUOTA_ROW
    if status == 503 and "estimated_time" in said.error and not said.codes:
        return _WARMING
    for rows in (_DIALECT_ROWS_OF[wire_format], ROWS):
        row = _first_by_code(rows, {status, outer}, said) or _first_by_text(rows, status, said)
        if row is not None:
            return row
    return next((row for row in ROWS if status in row.statuses), None)


def _first_by_text(rows: Sequence[Row], status: int, said: Said) -> Row | None:
    if not said.message:
        return None
    for row in rows:
        is_looked_at = status in row.text_at or status < 300  # inside a 200 nothing but the sentence may say what it is
        if row.text is not None and is_looked_at and row.text.search(said.message):
            return row
    return None


def _first_by_code(rows: Sequence[Row], statuses: set[int], said: Said) -> Row | None:
    # The most specific code decides, so that "insufficient_quota" is not read as its type "rate_limit_error".
    for code in said.codes:
        for row in rows:
            if code in row.codes and (not row.codes_at or not statuses.isdisjoint(row.codes_at)):
                return row
    return None


_DIALECT_ROWS_OF: Final = {
    wire_format: tuple(row for row in DIALECT_ROWS if wire_format in row.formats) for wire_format in WireFormat
}
_PROTOCOL: Final = Row("protocol", _TRANSIENT)
_GATEWAY: Final = next(row for row in ROWS if row.kind == "gateway")
_QUOTA_ROW: Final = next(row for row in ROWS if row.kind == "quota")
_WARMING: Final = next(row for row in ROWS if row.kind == "warming")


def _inner_status(said: Said) -> int | None:
    for code in said.codes:
        if code in _STATUS_OF_TYPE:
            return _STATUS_OF_TYPE[code]
        if len(code) == 3 and code.isascii() and code.isdigit() and "400" <= code <= "599":
            return int(code)
    return None


def _names_daily_quota(said: Said) -> bool:
    details = said.error.get("details")
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        metadata = detail.get("metadata")
        if isinstance(metadata, dict) and "PerDay" in str(metadata.get("quota_limit", "")):
            return True
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId", "")):
                return True
    return False


# A wait is worth knowing where it can end the failure, and is bounded by what that kind of limit can mean.
_CLAMPS: Final = {_RATE: (1.0, _DAY_S), _QUOTA: (10.0, 32 * _DAY_S), _TRANSIENT: (0.001, _HOUR_S)}
_MAX_WARMING_S: Final = 120.0


def _hint(kind: str, failure_class: FailureClass, headers: Mapping[str, str], said: Said, now: float) -> Hint | None:
    bounds = _CLAMPS.get(failure_class)
    if bounds is None:
        return None
    hint = retry_hint(headers, said.error, said.message, now=now, windows=failure_class in (_RATE, _QUOTA))
    if hint is None:
        return None
    shortest, longest = (bounds[0], _MAX_WARMING_S) if kind == "warming" else bounds
    return Hint(min(max(hint.seconds, shortest), longest), hint.source)
