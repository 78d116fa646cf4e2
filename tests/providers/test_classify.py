"""The classification table, by example: what providers answered, and what it must mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.wire import WireFormat
from omniroute.providers.classify import classify
from omniroute.providers.error_body import read_error, showable
from omniroute.routing.failures import Failure, FailureClass

NOW = 1_800_000_000.0
CHAT = WireFormat.OPENAI_CHAT
MESSAGES = WireFormat.ANTHROPIC_MESSAGES


def failure(
    status: int, body: Any = b"", headers: dict[str, str] | None = None, wire_format: WireFormat = CHAT
) -> Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(wire_format, status, headers or {}, raw, now=NOW)


def openai(message: str, code: Any = None, kind: str = "invalid_request_error", param: str | None = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def anthropic(message: str, kind: str) -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("status", "body", "kind", "failure_class"),
    [
        (400, openai("This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
         "context_length", "caller_fault"),
        (400, openai("Input is too long for requested model."), "context_length", "caller_fault"),
        (413, openai("The input token count (10) exceeds the maximum"), "context_length", "caller_fault"),
        (400, {"error": {"code": 400, "message": "The input token count (5) exceeds 4", "status": "INVALID_ARGUMENT"}},
         "context_length", "caller_fault"),
        (404, openai("The model `x` does not exist or you do not have access to it.", "model_not_found"),
         "model_missing", "model_unavailable"),
        (400, openai("Invalid model: x"), "model_missing", "model_unavailable"),
        (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}},
         "model_missing", "model_unavailable"),
        (404, {"error": "model 'llama9' not found"}, "model_missing", "model_unavailable"),
        (410, b"", "model_missing", "model_unavailable"),
        (400, [{"error": {"code": 400, "message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}}],
         "auth", "credential"),
        (401, openai("Incorrect API key provided: sk-ab***yz.", "invalid_api_key"), "auth", "credential"),
        (401, b"Unauthorized", "auth", "credential"),
        (403, {"__type": "com.x#ExpiredTokenException", "message": "expired"}, "auth", "credential"),
        (498, b"", "auth", "credential"),
        (400, openai("Rejected.", "content_policy_violation"), "content_policy", "caller_fault"),
        (400, {"error": {"code": "content_filter", "message": "filtered",
                         "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "content_policy", "caller_fault"),
        (400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."},
         "content_policy", "caller_fault"),
        (451, b"", "content_policy", "caller_fault"),
        (400, openai("Unsupported parameter: 'max_tokens'", "unsupported_parameter", param="max_tokens"),
         "unsupported_param", "caller_fault"),
        (422, openai("Extra inputs are not permitted"), "unsupported_param", "caller_fault"),
        (400, openai("no", "invalid_encrypted_content"), "opaque_token", "caller_fault"),
        (400, openai("Failed to call a function.", "tool_use_failed"), "generation", "transient"),
        (403, openai("This model is not included in your plan"), "entitlement", "model_unavailable"),
        (400, openai("Something is off with messages[0]."), "invalid_request", "caller_fault"),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, "invalid_request", "caller_fault"),
        (402, b"", "no_credit", "quota"),
        (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package."}},
         "no_credit", "quota"),
        (403, openai("Your account ran out of credits"), "no_credit", "quota"),
        (403, openai("Your account has been suspended."), "account_blocked", "credential"),
        (401, openai("The account is gone.", "account_deactivated"), "account_blocked", "credential"),
        (403, openai("No."), "forbidden", "credential"),
        (401, openai("You have insufficient permissions for this operation. Missing scopes: x"),
         "forbidden", "credential"),
        (404, b"<html>Not Found</html>", "misconfigured", "model_unavailable"),
        (405, b"", "misconfigured", "model_unavailable"),
        (307, b"", "misconfigured", "model_unavailable"),
        (408, b"", "timeout_upstream", "transient"),
        (409, b"", "conflict", "transient"),
        (413, b"", "too_large", "caller_fault"),
        (413, openai("Request too large for model `x` on tokens per minute", "rate_limit_exceeded", "tokens"),
         "too_large", "caller_fault"),
        (429, openai("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
         "quota", "quota"),
        (429, {"error": {"type": "usage_limit_reached", "message": "The usage limit has been reached"}},
         "quota", "quota"),
        (429, openai("Limit reached on requests per day (RPD): Limit 1000", "rate_limit_exceeded"), "rate",
         "rate_limit"),
        (429, openai("You have reached your weekly usage limit."), "quota", "quota"),
        (429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded.", "details": [
            {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}, "quota", "quota"),
        (429, openai("Too many concurrent requests"), "concurrency", "rate_limit"),
        (429, openai("The model is experiencing high demand."), "overloaded", "transient"),
        (429, openai("busy", "engine_overloaded_error"), "overloaded", "transient"),
        (429, openai("Rate limit reached.", "rate_limit_exceeded", "requests"), "rate", "rate_limit"),
        (429, b"slow", "rate", "rate_limit"),
        (403, {"error": {"code": "RATE_LIMIT_EXCEEDED", "message": "x"}}, "rate", "rate_limit"),
        (400, {"__type": "ThrottlingException", "message": "x"}, "rate", "rate_limit"),
        (424, b"", "server", "transient"),
        (500, openai("boom", kind="server_error"), "server", "transient"),
        (520, b"", "server", "transient"),
        (502, b"", "gateway", "transient"),
        (500, b"<!DOCTYPE html><title>bad</title>", "gateway", "transient"),
        (504, b"", "gateway", "transient"),
        (503, {"error": "Model x is currently loading", "estimated_time": 20.5}, "warming", "transient"),
        (503, b"", "overloaded", "transient"),
        (498, openai("flex capacity exceeded", "capacity_exceeded"), "overloaded", "transient"),
        (418, b"", "unknown", "unknown"),
        # a 200 that is none
        (200, b"", "protocol", "transient"),
        (200, b"<html></html>", "protocol", "transient"),
        (200, b"{broken", "protocol", "transient"),
        (200, openai("Rate limit reached", "rate_limit_exceeded"), "rate", "rate_limit"),
        (200, {"error": {"code": 502, "message": "Provider returned error"}}, "gateway", "transient"),
        (200, openai("boom", kind="server_error"), "server", "transient"),
        (200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "no_credit", "quota"),
        (200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "rate", "rate_limit"),
        (200, {"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "auth", "credential"),
        (200, {"error": {"message": "who knows"}}, "unknown", "unknown"),
    ],
)  # fmt: skip
def test_openai_dialect(status: int, body: Any, kind: str, failure_class: str) -> None:
    found = failure(status, body)
    assert (found.kind, found.failure_class) == (kind, FailureClass(failure_class))
    assert found.status == status


@pytest.mark.parametrize(
    ("status", "body", "kind", "failure_class"),
    [
        (400, anthropic("prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error"),
         "context_length", "caller_fault"),
        (400, anthropic("input length and `max_tokens` exceed context limit: 1 + 2 > 3", "invalid_request_error"),
         "context_length", "caller_fault"),
        (400, anthropic("messages: at least one message is required", "invalid_request_error"),
         "invalid_request", "caller_fault"),
        (400, anthropic("messages.1.content.0: Invalid `signature` in `thinking` block", "invalid_request_error"),
         "opaque_token", "caller_fault"),
        (400, anthropic("Your credit balance is too low to access the API.", "invalid_request_error"),
         "no_credit", "quota"),
        (400, anthropic("This organization has been disabled.", "invalid_request_error"),
         "account_blocked", "credential"),
        (400, anthropic("You have reached your specified API usage limits.", "invalid_request_error"),
         "quota", "quota"),
        (401, anthropic("invalid x-api-key", "authentication_error"), "auth", "credential"),
        (402, anthropic("pay", "billing_error"), "no_credit", "quota"),
        (403, anthropic("no", "permission_error"), "forbidden", "credential"),
        (404, anthropic("model: claude-nope", "not_found_error"), "model_missing", "model_unavailable"),
        (404, anthropic("Not found", "not_found_error"), "misconfigured", "model_unavailable"),
        (413, anthropic("Request exceeds the maximum size", "request_too_large"), "too_large", "caller_fault"),
        (429, anthropic("This request would exceed your rate limit", "rate_limit_error"), "rate", "rate_limit"),
        (500, anthropic("Internal server error", "api_error"), "server", "transient"),
        (529, anthropic("Overloaded", "overloaded_error"), "overloaded", "transient"),
        (504, anthropic("timed out", "timeout_error"), "timeout_upstream", "transient"),
        # error events of a stream
        (200, anthropic("Overloaded", "overloaded_error"), "overloaded", "transient"),
        (200, anthropic("Internal server error", "api_error"), "server", "transient"),
        (200, anthropic("slow down", "rate_limit_error"), "rate", "rate_limit"),
        (200, anthropic("bad", "invalid_request_error"), "invalid_request", "caller_fault"),
        (200, anthropic("key", "authentication_error"), "auth", "credential"),
    ],
)  # fmt: skip
def test_anthropic_dialect(status: int, body: Any, kind: str, failure_class: str) -> None:
    found = failure(status, body, wire_format=MESSAGES)
    assert (found.kind, found.failure_class) == (kind, FailureClass(failure_class))


def test_a_rejected_subscription_window_is_quota_until_its_own_reset() -> None:
    found = failure(
        429,
        anthropic("limit", "rate_limit_error"),
        {
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-reset": str(int(NOW + 60)),
            "anthropic-ratelimit-unified-5h-status": "allowed",
            "anthropic-ratelimit-unified-5h-reset": str(int(NOW + 60)),
            "anthropic-ratelimit-unified-7d-status": "rejected",
            "anthropic-ratelimit-unified-7d-reset": str(int(NOW + 90_000)),
            "retry-after": "5",
        },
        MESSAGES,
    )
    assert (found.kind, found.failure_class) == ("quota", FailureClass.QUOTA)
    assert (found.retry_after_s, found.hint_source) == (90_000, "anthropic-ratelimit-unified-reset")


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds", "source"),
    [
        (429, {"retry-after": "7"}, b"", 7, "retry-after"),
        (429, {"retry-after": "0.4"}, b"", 1, "retry-after"),
        (429, {"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, b"", 30, "retry-after"),
        (429, {"retry-after": "7", "retry-after-ms": "2500"}, b"", 2.5, "retry-after-ms"),
        (429, {"retry-after": "soon"}, b"", None, None),
        (429, {"retry-after": "-5"}, b"", None, None),
        (429, {"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, b"", None, None),
        (429, {"retry-after": "9999999"}, b"", 86_400, "retry-after"),
        (429, {}, openai("Please try again in 1m2.5s."), 62.5, "text"),
        (429, {}, openai("Please try again in 350ms. Visit us."), 1, "text"),
        (429, {}, openai("Please retry after 20 seconds."), 20, "text"),
        (429, {}, openai("Try again in 2 hours and 5 minutes"), 7500, "text"),
        (429, {}, openai("Your weekly usage limit resets in 13 days"), 13 * 86_400, "text"),
        (429, {}, openai("Available again at 18:30 UTC."), 10.5 * 3600, "text"),
        (429, {"retry-after": "9"}, openai("Try again in 3s"), 3, "text"),
        (429, {}, {"error": {"type": "usage_limit_reached", "resets_at": NOW + 500}}, 500, "body:resets_at"),
        (429, {}, {"error": {"type": "usage_limit_reached", "resets_in_seconds": 42}}, 42, "body:resets_in_seconds"),
        (429, {}, {"error": {"nextResetTime": int((NOW + 30) * 1000)}}, 30, "body:nextResetTime"),
        (429, {}, {"error": {"details": [{"retryDelay": "34.07s"}]}}, 34.07, "body:retryDelay"),
        (429, {"x-ratelimit-reset-requests": "6m0s"}, b"", 360, "x-ratelimit-reset-requests"),
        (
            429,
            {
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-remaining-requests": "10",
                "x-ratelimit-reset-tokens": "1.2s",
                "x-ratelimit-remaining-tokens": "0",
            },
            b"",
            1.2,
            "x-ratelimit-reset-tokens",
        ),
        (
            429,
            {
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:01:00Z",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2027-01-15T08:10:00Z",
                "anthropic-ratelimit-tokens-remaining": "5",
            },
            b"",
            60,
            "anthropic-ratelimit-requests-reset",
        ),
        (429, {"x-ratelimit-reset": str(int(NOW) + 90)}, b"", 90, "x-ratelimit-reset"),
        (429, {"ratelimit-reset": "15"}, b"", 15, "ratelimit-reset"),
        (503, {"x-ratelimit-reset-requests": "6m0s"}, b"", None, None),
        (503, {"retry-after": "3"}, b"", 3, "retry-after"),
        (503, {}, {"error": "loading", "estimated_time": 500}, 120, "body:estimated_time"),
        (400, {"retry-after": "3"}, openai("bad"), None, None),
        (401, {"retry-after": "3"}, b"", None, None),
        (402, {"retry-after": "1"}, b"", 10, "retry-after"),
    ],
)
def test_hints(status: int, headers: dict[str, str], body: Any, seconds: float | None, source: str | None) -> None:
    found = failure(status, body, headers)
    assert found.retry_after_s == (None if seconds is None else pytest.approx(seconds, abs=0.01))
    assert found.hint_source == source


def test_a_provider_clock_that_is_off_is_followed() -> None:
    headers = {"date": "Fri, 15 Jan 2027 07:00:00 GMT", "retry-after": "Fri, 15 Jan 2027 07:00:30 GMT"}
    assert failure(429, b"", headers).retry_after_s == 30


def test_concurrency_rests_a_second_without_a_hint() -> None:
    assert failure(429, openai("Too many concurrent requests")).retry_after_s == 1


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (openai("m", "c", param="p"), "m", "c"),
        ({"message": "m", "code": 7}, "m", "7"),
        ({"error": "m"}, "m", None),
        ({"errors": [{"code": 10000, "message": "m"}]}, "m", "10000"),
        ({"response": {"error": {"code": "c", "message": "m"}}}, "m", "c"),
        ({"error_code": 336003, "error_msg": "m"}, "m", "336003"),
        ([{"error": {"status": "X", "message": "m"}}], "m", "X"),
        ({"detail": "m"}, "m", None),
    ],
)
def test_reads_error_bodies_of_many_shapes(body: Any, message: str, code: str | None) -> None:
    said = read_error(json.dumps(body).encode())
    assert (said.message, said.code) == (message, code)


@pytest.mark.parametrize(
    ("sentence", "hidden"),
    [
        ("Incorrect API key provided: sk-proj-abcdefghijklmnop.", "abcdefghijklmnop"),
        ("Bearer abcdefghijklmnopqrst is wrong", "abcdefghijklmnopqrst"),
        ("see https://internal.example/path?x=1 for help", "internal.example"),
        ("could not connect to 10.1.2.3:8080", "10.1.2.3"),
        ("hash 0123456789abcdef0123456789abcdef0123", "0123456789abcdef0123456789abcdef"),
    ],
)
def test_sentences_are_shown_without_keys_and_addresses(sentence: str, hidden: str) -> None:
    assert hidden not in showable(sentence)
    assert "…" in showable(sentence)


def test_sentences_are_one_short_line() -> None:
    assert showable("a\r\n\tb\x00c\u2028d") == "a b c d"
    assert len(showable("word " * 1000)) == 1000
    assert showable("Please reduce the length of the messages.") == "Please reduce the length of the messages."


def test_facts_of_the_answer_are_kept() -> None:
    found = failure(400, openai("Unsupported value", "unsupported_value", param="temperature"))
    assert (found.provider_code, found.param) == ("unsupported_value", "temperature")
    assert found.message == "Unsupported value"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "message", "type", "details", "status", "x"]), inner)
    ),
    max_leaves=12,
)


@given(
    st.integers(200, 599),
    st.one_of(st.binary(max_size=80), json_values.map(lambda value: json.dumps(value).encode())),
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "date", "x-ratelimit-reset", "x-ratelimit-reset-tokens"]),
        st.text(max_size=30) | st.floats().map(str) | st.integers().map(str),
    ),
    st.sampled_from([CHAT, MESSAGES]),
)
def test_any_answer_means_something(status: int, body: bytes, headers: dict[str, str], wire_format: WireFormat) -> None:
    found = classify(wire_format, status, headers, body, now=NOW)
    assert found.kind
    assert len(found.message) <= 1000
    assert "\n" not in found.message
    if found.retry_after_s is not None:
        assert 0 < found.retry_after_s <= 32 * 86_400


@pytest.mark.parametrize("pattern", ["a " * 50_000, "1" * 100_000, "model " * 20_000, "try again in " + "1h" * 50_000])
def test_long_sentences_cost_little(pattern: str) -> None:
    assert failure(429, openai(pattern)).kind
    assert failure(400, openai(pattern)).kind
