"""How far a failure reaches, whether it counts for the breaker, and which window it names: the table row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omniroute.formats.wire import WireFormat
from omniroute.providers.classify import classify
from omniroute.routing.failures import Failure, counts_for_breaker

NOW = 1_800_000_000.0
MESSAGES = WireFormat.ANTHROPIC_MESSAGES
GEMINI = WireFormat.GEMINI


def failure(
    status: int,
    body: Any = b"",
    headers: dict[str, str] | None = None,
    wire_format: WireFormat = WireFormat.OPENAI_CHAT,
    banned: tuple[str, ...] = (),
) -> Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(wire_format, status, headers or {}, raw, now=NOW, banned_signals=banned)


def said(message: str, code: Any = None, **more: Any) -> Any:
    return {"error": {"message": message, "code": code, **more}}


def violation(quota_id: str, *more: Any) -> Any:
    return said(
        "Quota exceeded.", 429, status="RESOURCE_EXHAUSTED", details=[{"violations": [{"quotaId": quota_id}]}, *more]
    )


COOL = {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-7d-status": "rejected"}


@pytest.mark.parametrize(
    ("row", "status", "body", "kind", "failure_class", "scope", "counts"),
    [
        (7, 200, b"<html></html>", "protocol", "transient", "connection", True),
        (8, 200, said("x", "rate_limit_exceeded"), "rate", "rate_limit", "connection", False),
        (8, 200, said("x", 408), "timeout_upstream", "transient", "connection", True),
        (8, 200, {"base_resp": {"status_code": 1008}}, "no_credit", "quota", "connection", False),
        (8, 200, said("x", "engine_overloaded_error"), "overloaded", "transient", "model", False),
        (10, 400, said("prompt is too long"), "context_length", "caller_fault", "request", False),
        (10, 400, {"message": "No.", "reason": "CONTENT_LENGTH_EXCEEDS_THRESHOLD"},
         "context_length", "caller_fault", "request", False),
        (11, 404, said("x", "model_not_found"), "model_missing", "model_unavailable", "model", False),
        (11, 410, b"", "model_missing", "model_unavailable", "model", False),
        (12, 400, said("API key not valid"), "auth", "credential", "connection", False),
        (13, 451, b"", "content_policy", "caller_fault", "request", False),
        (13, 400, said("x", "PROHIBITED_CONTENT"), "content_policy", "caller_fault", "request", False),
        (14, 400, said("Unknown parameter: 'foo'"), "unsupported_param", "caller_fault", "target", False),
        (15, 400, said("x", "MISSING_THOUGHT_SIGNATURE"), "opaque_token", "caller_fault", "request", False),
        (16, 400, said("x", "tool_use_failed"), "generation", "transient", "target", False),
        (17, 403, said("This model is not available in your current plan"),
         "entitlement", "model_unavailable", "model", False),
        (17, 403, said("x", "usage_not_included"), "entitlement", "model_unavailable", "model", False),
        (17, 400, said("no", policy={"state": "disabled"}), "entitlement", "model_unavailable", "model", False),
        (18, 400, said("Improperly formed request."), "invalid_request", "caller_fault", "request", False),
        (19, 401, b"", "auth", "credential", "connection", False),
        (19, 403, {"__type": "UnrecognizedClientException"}, "auth", "credential", "connection", False),
        (19, 498, said("Invalid token"), "auth", "credential", "connection", False),
        (20, 402, b"", "no_credit", "quota", "connection", False),
        (20, 403, said("You ran out of credits"), "no_credit", "quota", "connection", False),
        (21, 403, said("x", "VALIDATION_REQUIRED"), "account_blocked", "credential", "connection", False),
        (21, 403, said("Your account was banned"), "account_blocked", "credential", "connection", False),
        (22, 403, b"", "forbidden", "credential", "connection", False),
        (23, 404, b"", "misconfigured", "model_unavailable", "target", False),
        (23, 405, b"", "misconfigured", "model_unavailable", "target", False),
        (23, 415, b"", "misconfigured", "model_unavailable", "target", False),
        (23, 501, b"", "misconfigured", "model_unavailable", "target", False),
        (24, 408, b"", "timeout_upstream", "transient", "connection", True),
        (24, 425, b"", "timeout_upstream", "transient", "connection", False),
        (24, 499, b"", "timeout_upstream", "transient", "connection", False),
        (25, 409, b"", "conflict", "transient", "connection", False),
        (26, 413, b"", "too_large", "caller_fault", "target", False),
        (27, 429, said("x", "insufficient_quota"), "quota", "quota", "connection", False),
        (27, 429, said("Your limit resets in 6d 3h"), "quota", "quota", "connection", False),
        (27, 402, {"message": "x", "reason": "MONTHLY_REQUEST_COUNT"}, "quota", "quota", "connection", False),
        (27, 429, said("x", "1310"), "quota", "quota", "connection", False),
        (27, 429, violation("GenerateRequestsPerDayPerProject"), "quota", "quota", "connection", False),
        (27, 429, violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), "quota", "quota", "model", False),
        (27, 429, said("Rate limit exceeded: free-models-per-day."), "quota", "quota", "model", False),
        (28, 429, said("x", "too_many_concurrent_requests"), "concurrency", "rate_limit", "connection", False),
        (29, 429, said("The model is at capacity"), "overloaded", "transient", "model", False),
        (29, 503, said("x", "MODEL_CAPACITY_EXHAUSTED"), "overloaded", "transient", "model", False),
        (29, 429, said("x", "overloaded_error"), "overloaded", "transient", "model", False),
        (30, 429, b"", "rate", "rate_limit", "connection", False),
        (30, 429, violation("GenerateRequestsPerMinutePerProjectPerModel"), "rate", "rate_limit", "model", False),
        (30, 429, violation("GenerateRequestsPerMinutePerProject"), "rate", "rate_limit", "connection", False),
        (30, 429, said("Rate limit reached for model `x` on tokens per minute"), "rate", "rate_limit", "model", False),
        (30, 429, said("Provider returned error", 429, metadata={"provider_name": "V", "raw": "x is rate-limited"}),
         "rate", "rate_limit", "model", False),
        (31, 500, b"", "server", "transient", "connection", True),
        (31, 424, b"", "server", "transient", "connection", True),
        (31, 522, b"", "server", "transient", "connection", True),
        (32, 502, b"", "gateway", "transient", "connection", True),
        (32, 504, b"", "gateway", "transient", "connection", True),
        (32, 500, b"<html>", "gateway", "transient", "connection", True),
        (33, 503, {"error": "Model x is currently loading", "estimated_time": 20},
         "warming", "transient", "model", False),
        (34, 503, b"", "overloaded", "transient", "connection", True),
        (34, 529, b"", "overloaded", "transient", "connection", True),
        (34, 498, said("x", "capacity_exceeded"), "overloaded", "transient", "connection", True),
        (34, 500, said("x", "server_is_overloaded"), "overloaded", "transient", "connection", True),
        (39, 418, b"", "unknown", "unknown", "connection", True),
        (39, 200, said("who knows"), "unknown", "unknown", "connection", True),
    ],
)  # fmt: skip
def test_rows(row: int, status: int, body: Any, kind: str, failure_class: str, scope: str, counts: bool) -> None:
    found = failure(status, body)
    assert (found.kind, found.failure_class.value, found.scope.value) == (kind, failure_class, scope), f"row {row}"
    assert counts_for_breaker(found) is counts, f"row {row}"


@pytest.mark.parametrize(
    ("headers", "body", "window", "scope"),
    [
        (COOL, b"", "7d", "connection"),
        (COOL | {"anthropic-ratelimit-unified-7d-status": "allowed"}, b"", None, "connection"),
        (
            COOL
            | {
                "anthropic-ratelimit-unified-7d-status": "allowed",
                "anthropic-ratelimit-unified-7d_opus-status": "rejected",
                "anthropic-ratelimit-unified-overage-status": "rejected",
            },
            b"",
            "7d_opus",
            "model",
        ),
        (COOL | {"anthropic-ratelimit-unified-7d_opus-status": "rejected"}, b"", "7d", "connection"),
        ({"x-codex-secondary-used-percent": "100"}, said("x", "usage_limit_reached"), "secondary", "connection"),
        ({}, violation("PerDayPerProjectPerModel"), "PerDayPerProjectPerModel", "model"),
        (
            {},
            said("x", 429, details=[{"reason": "QUOTA_EXHAUSTED", "metadata": {"model": "gemini-3-pro"}}]),
            None,
            "model",
        ),
        ({}, said("You have reached your weekly usage limit."), "weekly", "connection"),
        ({}, said("You've reached your Opus weekly limit"), "opus weekly", "connection"),
        ({}, said("Usage limit reached for 5 hour. Your limit will reset", "1308"), "5 hour", "connection"),
        ({}, said("Rate limit exceeded: free-models-per-day."), "free-models-per-day", "model"),
        ({}, said("x", "insufficient_quota"), None, "connection"),
    ],
)
def test_spent_windows_are_named(headers: dict[str, str], body: Any, window: str | None, scope: str) -> None:
    found = failure(429, body, headers, MESSAGES)
    assert (found.kind, found.window, found.scope.value) == ("quota", window, scope)


def test_only_quotas_name_windows() -> None:
    found = failure(429, violation("PerMinutePerProject"), wire_format=GEMINI)
    assert (found.kind, found.window) == ("rate", None)


def test_the_end_of_googles_day_is_the_hint_when_it_names_no_time() -> None:
    found = failure(429, violation("GenerateRequestsPerDayPerProject"), wire_format=GEMINI)
    assert (found.retry_after_s, found.hint_source) == (86_400, "per-day quota")
    timed = failure(429, violation("GenerateRequestsPerDayPerProject", {"retryDelay": "34.07s"}), wire_format=GEMINI)
    assert (timed.retry_after_s, timed.hint_source) == (34.07, "body:retryDelay")
    minute = failure(429, violation("GenerateRequestsPerMinutePerProject"), wire_format=GEMINI)
    assert minute.retry_after_s is None


@pytest.mark.parametrize(
    ("status", "body", "headers", "seconds"),
    [
        (429, b"", {"retry-after": "0.2"}, 1),
        (429, b"", {"retry-after": "9999999"}, 86_400),
        (429, said("x", "insufficient_quota"), {"retry-after": "1"}, 10),
        (429, said("x", "insufficient_quota"), {"retry-after": "9999999"}, 32 * 86_400),
        (503, {"error": "loading", "estimated_time": 900}, {}, 120),
    ],
)
def test_hints_are_bounded_by_what_the_class_can_mean(
    status: int, body: Any, headers: dict[str, str], seconds: float
) -> None:
    assert failure(status, body, headers).retry_after_s == seconds


def test_ignored_hints_are_listed() -> None:
    found = failure(429, said("Resets in -5 days"), {"retry-after": "-1"})
    assert (found.retry_after_s, found.ignored_hints) == (None, ("text", "retry-after"))


LINKS = [
    ([{"reason": "VALIDATION_REQUIRED", "metadata": {"validation_url": "https://accounts.example/v?x=1"}}],
     "https://accounts.example/v?x=1"),
    ([{"reason": "VALIDATION_REQUIRED"}, {"links": [{"url": "https://support.example/a"}]}], "https://support.example/a"),
    ([{"reason": "VALIDATION_REQUIRED", "metadata": {"validation_url": "javascript:alert(1)"}}], None),
    ([{"reason": "VALIDATION_REQUIRED", "metadata": {"validation_url": "https://x.example/ \n"}}], None),
    ([{"reason": "VALIDATION_REQUIRED", "metadata": {"validation_url": "https://x.example/" + "a" * 600}}], None),
    ([{"reason": "VALIDATION_REQUIRED", "metadata": 5, "links": 7}, 8], None),
]  # fmt: skip


@pytest.mark.parametrize(("details", "link"), LINKS)
def test_a_blocked_account_comes_with_the_vendors_link(details: Any, link: str | None) -> None:
    found = failure(403, said("Verify your account.", 403, details=details))
    assert (found.kind, found.link) == ("account_blocked", link)


def test_an_operator_may_name_more_signs_of_a_block() -> None:
    body = said("Violation 77: contact the desk")
    assert failure(403, body).kind == "forbidden"
    assert failure(403, body, banned=("VIOLATION 77", " ")).kind == "account_blocked"
    assert failure(400, body, banned=("violation 77",)).kind == "invalid_request"
    assert failure(403, b"", banned=("",)).kind == "forbidden"
