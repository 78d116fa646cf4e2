"""The classification table as data: which codes, sentences and statuses mean which failure, and how far it reaches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from omniroute.formats.wire import WireFormat
from omniroute.routing.failures import FailureClass, Scope

_CALLER = FailureClass.CALLER_FAULT
_CREDENTIAL = FailureClass.CREDENTIAL
_QUOTA = FailureClass.QUOTA
_RATE = FailureClass.RATE_LIMIT
_MODEL = FailureClass.MODEL_UNAVAILABLE
_TRANSIENT = FailureClass.TRANSIENT


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_IN_PLAN: Final = r" ?(?:in|on|for|with|under) (?:your|the|this) (?:current )?(?:plan|tier|subscription)"
_BAD_REQUEST: Final = frozenset({400, 404, 413, 422})
LIMITS: Final = frozenset({403, 429})


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
    scope: Scope = Scope.CONNECTION
    """How far it reaches, unless the answer says more."""


_ANTHROPIC: Final = frozenset({WireFormat.ANTHROPIC_MESSAGES})
_OPENAI: Final = frozenset({WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES})
_GEMINI: Final = frozenset({WireFormat.GEMINI})

DIALECT_ROWS: Final = (
    # Anthropic names a missing model by "model: <id>" alone.
    Row(
        "model_missing",
        _MODEL,
        scope=Scope.MODEL,
        text=_any(r"^model: \S+"),
        text_at=frozenset({404}),
        formats=_ANTHROPIC,
    ),
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
        scope=Scope.TARGET,
        text=_any(r"request too large for"),
        text_at=frozenset({413, 429}),
        formats=_OPENAI,
    ),
    Row(
        "too_large",
        _CALLER,
        scope=Scope.TARGET,
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
        scope=Scope.REQUEST,
        codes=words(
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
        scope=Scope.MODEL,
        codes=words("model_not_found deploymentnotfound model_not_exist unknown_model invalid_model 1211"),
        text=_any(
            r"\bmodels?\b.{0,120}(?:not found|(?:does )?not exist\b)",
            rf"\bmodels?\b.{{0,120}}is not available(?!{_IN_PLAN})",
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
        codes=words(
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
        scope=Scope.REQUEST,
        codes=words(
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
        scope=Scope.TARGET,
        codes=words("unsupported_parameter unknown_parameter unsupported_value"),
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
        scope=Scope.REQUEST,
        codes=words("invalid_encrypted_content missing_thought_signature invalid_thought_signature"),
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
        scope=Scope.TARGET,
        codes=words("tool_use_failed malformed_function_call"),
        codes_at=frozenset({200, 400, 422}),
    ),
    Row(
        "entitlement",
        _MODEL,
        scope=Scope.MODEL,
        codes=words("usage_not_included model_not_allowed model_not_supported"),
        text=_any(
            rf"not (?:included|available)?{_IN_PLAN}",
            r"(?:no|not have|n't have) access to (?:the |this )?model",
            r"model.{0,60}disabled by (?:your |the )?(?:organi[sz]ation|polic)",
        ),
        text_at=frozenset({400, 403, 404}),
    ),
    Row(
        "no_credit",
        _QUOTA,
        codes=words(
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
        codes=words("validation_required account_deactivated account_suspended account_disabled consumer_suspended"),
        text=_any(r"(?:account|organization|user|consumer).{0,60}(?:suspended|disabled|banned|deactivated)"),
        text_at=frozenset({401, 403}),
    ),
    Row("quota", _QUOTA, codes=words("monthly_request_count")),  # whatever its status is
    Row(
        "quota",
        _QUOTA,
        codes=words(
            "insufficient_quota usage_limit_reached quota_exhausted quota_exceeded daily_limit_exceeded 1308 1310 2056"
        ),
        codes_at=frozenset({200, 400, 403, 429}),  # under a 402 the same word means that the money is gone
        text=_any(
            r"free allocated quota",
            r"resets in [0-9]+ ?d(?:ays?)?\b",
            r"\bhit your (?:usage |session |weekly |opus |sonnet )?limit",
            r"\b(?:hourly|daily|weekly|monthly) (?:usage |request |token |message )?(?:limit|quota)",
            r"(?:requests|tokens) per day|\((?:rpd|tpd)\)",
            r"free-models-per-day",
            r"usage limit (?:has been )?(?:reached|exceeded)",
        ),
        text_at=LIMITS,
    ),
    Row(
        "concurrency",
        _RATE,
        codes=words("too_many_concurrent_requests concurrency_limit_exceeded"),
        text=_any(r"concurren(?:t|cy)"),
        text_at=frozenset({429}),
        wait_s=1.0,
    ),
    Row(
        "overloaded",
        _TRANSIENT,
        codes=words(
            "model_capacity_exhausted insufficient_model_capacity engine_overloaded_error engine_overloaded "
            "overloaded_error server_is_overloaded slow_down serviceunavailableexception service_unavailable "
            "unavailable capacity_exceeded"
        ),
        text=_any(r"high demand", r"at capacity", r"capacity exceeded", r"\boverloaded\b", r"server busy"),
        text_at=frozenset({429, 498, 500}),
        statuses=frozenset({529}),
    ),
    Row(
        "rate",
        _RATE,
        codes=words(
            "rate_limit_error rate_limit_exceeded throttlingexception throttling too_many_requests resource_exhausted "
            "1002 1302 1303 1305"
        ),
        codes_at=frozenset({200, 400, 403, 429, 503}),
        statuses=frozenset({429}),
    ),
    Row(
        "too_large",
        _CALLER,
        scope=Scope.TARGET,
        codes=words("request_too_large"),
        codes_at=frozenset({200, 400}),  # under its own status the sentence may say more
        statuses=frozenset({413}),
    ),
    Row(
        "warming",
        _TRANSIENT,
        scope=Scope.MODEL,
        text=_any(r"(?:is|currently|model) loading", r"loading model", r"warming up", r"cold start"),
        text_at=frozenset({503}),
    ),
    Row("overloaded", _TRANSIENT, statuses=frozenset({503})),
    Row("auth", _CREDENTIAL, statuses=frozenset({498})),
    Row("forbidden", _CREDENTIAL, statuses=frozenset({403})),
    Row("invalid_request", _CALLER, scope=Scope.REQUEST, statuses=frozenset({400, 422})),
    Row("misconfigured", _MODEL, scope=Scope.TARGET, statuses=frozenset({301, 302, 303, 307, 308, 404, 405, 415, 501})),
    Row(
        "timeout_upstream",
        _TRANSIENT,
        codes=words("timeout_error deadline_exceeded modeltimeoutexception"),
        statuses=frozenset({408, 425, 499}),
    ),
    Row("conflict", _TRANSIENT, statuses=frozenset({409})),
    Row("gateway", _TRANSIENT, statuses=frozenset({502, 504})),
    Row(
        "server",
        _TRANSIENT,
        codes=words("internalserverexception"),
        statuses=frozenset({424, 500, *range(505, 529), *range(530, 600)}),
    ),
)

# What an error type means where no status says it: inside a 200 and in the middle of a stream.
STATUS_OF_TYPE: Final = {
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
