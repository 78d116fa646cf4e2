"""What a provider says of a failure reaches every client in its own dialect: kind, numbers, waits, nothing of ours."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from omniroute.errors import BudgetExceeded, NoEligibleTarget, OmniRouteError, RateLimited, ServerDraining
from omniroute.formats.error_shapes import is_error_body
from omniroute.formats.wire import WireFormat
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.gateway.faults import error_for
from omniroute.providers.classify import classify
from tests.fakes.upstream import answer, fake_upstream
from tests.gateway.callers import GOOGLE, NODES, OPENAI, SURFACES, Told, asked, rendered
from tests.gateway.conftest import KEY, Bench
from tests.gateway.provider_errors import CASES, NOW, Case

Make = Callable[..., Bench]

# Row of the table of renderings: OpenAI's status, type and code (None: the provider's); Anthropic's status and type;
# Google's status and its name; what `x-should-retry` says (None: nothing is said).
TABLE: Mapping[str, tuple[tuple[int, str, str | None], tuple[int, str], tuple[int, str], str | None]] = {
    "context": (
        (400, "invalid_request_error", "context_length_exceeded"),
        (400, "invalid_request_error"),
        (400, "INVALID_ARGUMENT"),
        "false",
    ),
    "too_large": (
        (413, "invalid_request_error", "request_too_large"),
        (413, "request_too_large"),
        (413, "INVALID_ARGUMENT"),
        "false",
    ),
    "invalid": (
        (400, "invalid_request_error", None),
        (400, "invalid_request_error"),
        (400, "INVALID_ARGUMENT"),
        "false",
    ),
    "unsupported": (
        (400, "invalid_request_error", None),
        (400, "invalid_request_error"),
        (400, "INVALID_ARGUMENT"),
        "false",
    ),
    "policy": (
        (400, "invalid_request_error", "content_filter"),
        (400, "invalid_request_error"),
        (200, "PROHIBITED_CONTENT"),
        "false",
    ),
    "model": (
        (404, "invalid_request_error", "model_not_found"),
        (404, "not_found_error"),
        (404, "NOT_FOUND"),
        "false",
    ),
    "rate": (
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (429, "rate_limit_error"),
        (429, "RESOURCE_EXHAUSTED"),
        "true",
    ),
    "quota_short": (
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (429, "rate_limit_error"),
        (429, "RESOURCE_EXHAUSTED"),
        None,
    ),
    "quota_long": (
        (429, "rate_limit_error", "insufficient_quota"),
        (429, "rate_limit_error"),
        (429, "RESOURCE_EXHAUSTED"),
        "false",
    ),
    "quota_unknown": (
        (429, "rate_limit_error", "insufficient_quota"),
        (429, "rate_limit_error"),
        (429, "RESOURCE_EXHAUSTED"),
        "false",
    ),
    "overloaded": ((503, "server_error", "overloaded"), (529, "overloaded_error"), (503, "UNAVAILABLE"), "true"),
    "timeout": (
        (504, "server_error", "upstream_timeout"),
        (504, "timeout_error"),
        (504, "DEADLINE_EXCEEDED"),
        None,
    ),
    "fault": ((502, "server_error", "upstream_error"), (500, "api_error"), (500, "INTERNAL"), None),
    "credential": (
        (503, "server_error", "provider_credentials"),
        (500, "api_error"),
        (503, "UNAVAILABLE"),
        "false",
    ),
    "budget": (
        (402, "billing_error", "budget_exceeded"),
        (402, "billing_error"),
        (402, "RESOURCE_EXHAUSTED"),
        "false",
    ),
    "key_limit": (
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (429, "rate_limit_error"),
        (429, "RESOURCE_EXHAUSTED"),
        None,
    ),
    "unavailable": ((503, "server_error", None), (529, "overloaded_error"), (503, "UNAVAILABLE"), None),
}


def error_of(case: Case) -> OmniRouteError:
    failure = classify(case.format, case.status, case.headers, case.data, now=float(NOW))
    return error_for(failure, "Acme", wall=float(NOW))


def is_passed_on(case: Case, surface: Surface) -> bool:
    """Whether client and provider speak the same dialect, and the fault is the caller's."""
    dialect = DIALECTS[surface]
    is_callers = case.row in {"context", "too_large", "invalid", "unsupported", "policy"}
    is_same = dialect.format is case.format and dialect.new_stream is not None
    return is_callers and is_same and is_error_body(case.format, case.data)


# --- the table -------------------------------------------------------------------------------------------------------


def check(row: str, surface: Surface, told: Told, error: OmniRouteError | None = None) -> dict[str, Any]:
    """Hold an answer against a row of the table; return its error object."""
    status, headers, body = told
    (openai_status, openai_type, openai_code), (messages_status, messages_type), (google_status, name), retry = TABLE[
        row
    ]
    said = json.loads(body)
    if surface in OPENAI:
        detail = said["error"]
        assert set(said) == {"error"}
        assert status == openai_status
        expected = openai_type
        if surface is Surface.OPENAI_RESPONSES and row.startswith("quota"):
            expected = "usage_limit_reached"
        assert detail["type"] == expected
        spelt = "server_is_overloaded" if surface is Surface.OPENAI_RESPONSES and row == "overloaded" else openai_code
        assert spelt is None or detail["code"] == spelt
        assert {"message", "type", "param", "code"} <= set(detail)
        result: dict[str, Any] = detail
    elif surface is Surface.ANTHROPIC_MESSAGES:
        assert (status, said["error"]["type"]) == (messages_status, messages_type)
        assert set(said) == {"type", "error", "request_id"}
        assert said["type"] == "error"
        assert set(said["error"]) == {"type", "message"}
        result = said["error"]
    elif surface in GOOGLE:
        assert status == google_status
        if row == "policy":
            assert set(said) == {"promptFeedback"}
            assert said["promptFeedback"]["blockReason"] == name
            result = {"message": said["promptFeedback"]["blockReasonMessage"]}
        else:
            assert set(said) == {"error"}
            assert set(said["error"]) <= {"code", "message", "status", "details"}
            assert (said["error"]["code"], said["error"]["status"]) == (status, name)
            result = said["error"]
    else:
        assert status == openai_status
        assert set(said) == {"error"}
        result = {"message": said["error"]}
    assert isinstance(result["message"], str)
    assert 0 < len(result["message"]) <= 1000
    assert retry is None or headers["x-should-retry"] == retry
    assert openai_code is None or headers["X-OmniRoute-Error-Code"] == openai_code
    assert headers["X-OmniRoute-Error-Code"]
    if openai_status in {429, 503}:
        assert int(headers["Retry-After"]) >= 1
        assert int(headers["retry-after-ms"]) <= int(headers["Retry-After"]) * 1000
    return result


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_refusal_in_each_dialect(case: Case, surface: Surface) -> None:
    failure = classify(case.format, case.status, case.headers, case.data, now=float(NOW))
    assert failure.kind == case.kind
    assert (failure.used, failure.limit, failure.output) == (case.used, case.limit, case.output)
    error = error_of(case)
    told = rendered(surface, error)
    detail = check(case.row, surface, told)
    if case.wait_s is not None:
        assert told[1]["Retry-After"] == str(math.ceil(case.wait_s))
        assert told[1]["retry-after-ms"] == str(round(case.wait_s * 1000))
    if surface in OPENAI and case.row in {"invalid", "unsupported"}:
        assert case.code is None or detail["code"] == case.code
        assert case.param is None or detail["param"] == case.param


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.row == "context" and case.used and case.limit], ids=lambda c: c.name
)
def test_the_numbers_of_a_long_request_stand_where_agents_look(case: Case, surface: Surface) -> None:
    message = check(case.row, surface, rendered(surface, error_of(case)))["message"]
    used, limit, output = case.used, case.limit, case.output
    assert used is not None
    if surface is Surface.ANTHROPIC_MESSAGES:
        both = f"input length and `max_tokens` exceed context limit: {used} + {output} > {limit}, decrease"
        alone = f"prompt is too long: {used} tokens > {limit} maximum"
        assert message.startswith(alone if output is None else both)
    elif surface in GOOGLE:
        assert message == (f"The input token count ({used}) exceeds the maximum number of tokens allowed ({limit}).")
    else:
        asked = used + (output or 0)
        assert message.startswith(f"This model's maximum context length is {limit} tokens. However, you")
        assert f" {asked} tokens" in message


@pytest.mark.parametrize("case", [case for case in CASES if case.row == "context"], ids=lambda case: case.name)
def test_agents_find_a_long_request_by_its_words_even_without_numbers(case: Case) -> None:
    error = error_of(case)
    messages = check("context", Surface.ANTHROPIC_MESSAGES, rendered(Surface.ANTHROPIC_MESSAGES, error))["message"]
    assert messages.startswith(("prompt is too long", "input length and `max_tokens` exceed context limit"))
    google = check("context", Surface.GEMINI, rendered(Surface.GEMINI, error))["message"]
    assert google.startswith("The input token count")
    assert check("context", Surface.OPENAI_CHAT, rendered(Surface.OPENAI_CHAT, error))["param"] == "messages"


@pytest.mark.parametrize("case", [case for case in CASES if case.row == "rate"], ids=lambda case: case.name)
def test_a_wait_is_said_in_the_words_of_each_dialect(case: Case) -> None:
    error = error_of(case)
    wait = f"{case.wait_s:g}"
    for surface in OPENAI:
        message = check("rate", surface, rendered(surface, error))["message"]
        assert f"try again in {wait}s" in message
    (hint,) = check("rate", Surface.GEMINI, rendered(Surface.GEMINI, error))["details"]
    assert hint["@type"] == "type.googleapis.com/google.rpc.RetryInfo"
    assert float(hint["retryDelay"].removesuffix("s")) == case.wait_s


@pytest.mark.parametrize("seconds", [0.35, 1.0, 59.5, 1154.304, 90_000.0, 2_000_000.0])
def test_waits_have_no_exponent(seconds: float) -> None:
    error = RateLimited("Slow down.", retry_after_s=seconds)
    for surface in OPENAI:
        message = json.loads(rendered(surface, error)[2])["error"]["message"]
        assert message == f"Slow down. Please try again in {seconds:.3f}".rstrip("0").rstrip(".") + "s."


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.row in {"quota_short", "quota_long"}], ids=lambda case: case.name
)
def test_a_spent_quota_says_when_it_resets(case: Case) -> None:
    error = error_of(case)
    assert case.wait_s is not None
    resets_at = math.ceil(NOW + case.wait_s)
    responses = check(case.row, Surface.OPENAI_RESPONSES, rendered(Surface.OPENAI_RESPONSES, error))
    assert responses["resets_at"] == resets_at
    details = check(case.row, Surface.GEMINI, rendered(Surface.GEMINI, error))["details"]
    kinds = [detail["@type"].rpartition(".")[2] for detail in details]
    assert kinds == ["QuotaFailure", "RetryInfo"]
    is_long = case.row == "quota_long"
    assert ("PerDay" in details[0]["violations"][0]["quotaId"]) is is_long
    for surface in (Surface.OPENAI_CHAT, Surface.ANTHROPIC_MESSAGES):
        message = check(case.row, surface, rendered(surface, error))["message"]
        assert "It resets at 2027-01-" in message
        assert "e+" not in message


OWN: list[tuple[str, OmniRouteError]] = [
    (
        "budget",
        BudgetExceeded(extras={"scope": "key", "resets_at": "2027-01-16T00:00:00Z"}, should_retry=False),
    ),
    ("key_limit", RateLimited(retry_after_s=12.0, extras={"limit": "requests", "resets_at": "2027-01-15T08:00:12Z"})),
    ("unavailable", NoEligibleTarget(code="provider_circuit_open", retry_after_s=20.0, should_retry=True)),
    ("unavailable", ServerDraining(retry_after_s=5.0, should_retry=True)),
]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("row", "error"), OWN)
def test_what_the_gateway_itself_refuses(row: str, error: OmniRouteError, surface: Surface) -> None:
    detail = check(row, surface, rendered(surface, error))
    assert surface not in OPENAI or detail["code"] == error.error_code


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("case", [case for case in CASES if case.row == "credential"], ids=lambda c: c.name)
def test_trouble_with_our_account_is_never_shown_as_the_callers(case: Case, surface: Surface) -> None:
    status, _, body = rendered(surface, error_of(case))
    assert status not in {401, 402, 403}
    assert b"Acme" in body
    for word in (b"abcdefghijklmnop", b"credit balance", b"x-api-key", b"suspended"):
        assert word not in body


# --- through the gateway ---------------------------------------------------------------------------------------------


def one_of_each() -> list[Case]:
    found: dict[tuple[str, WireFormat], Case] = {}
    for case in CASES:
        found.setdefault((case.row, case.format), case)
    return list(found.values())


@pytest.mark.parametrize("case", one_of_each(), ids=lambda case: f"{case.row}-{case.format}")
def test_every_client_of_every_upstream_is_told_before_a_stream_begins(case: Case, bench_of: Make) -> None:
    body = case.data
    with fake_upstream(answer(body, status=case.status, headers=dict(case.headers))) as upstream:
        bench = bench_of(upstream, **NODES[case.format])
        for surface in SURFACES:
            for is_stream in (False, True) if surface is not Surface.GEMINI_ARRAY else (True,):
                bench.log.records.clear()
                bench.forget_failures()
                told = asked(bench, surface, is_stream=is_stream)
                if is_passed_on(case, surface):
                    status, headers, passed = told
                    assert (status, passed) == (case.status, body)
                    assert headers["x-should-retry"] == "false"
                    assert headers["X-OmniRoute-Error-Code"]
                else:
                    check(case.row, surface, told)
                record = bench.log.only
                assert (record.outcome, record.status) == ("failed", told[0])
                assert record.error_code == told[1]["X-OmniRoute-Error-Code"]
                assert [attempt.kind for attempt in record.attempts] == [case.kind]


def test_a_refusal_that_repeats_our_key_is_passed_on_without_it(bench_of: Make) -> None:
    body = json.dumps({"error": {"message": f"bad field; your key is {KEY}", "type": "invalid_request_error"}}).encode()
    with fake_upstream(answer(body, status=400)) as upstream:
        status, _, passed = asked(bench_of(upstream), Surface.OPENAI_CHAT, is_stream=False)
    assert status == 400
    assert passed == body.replace(KEY.encode(), b"[redacted]")


@pytest.mark.parametrize("surface", [Surface.ANTHROPIC_MESSAGES, Surface.GEMINI])
def test_strict_clients_get_no_body_that_their_vendor_does_not_send(surface: Surface, bench_of: Make) -> None:
    body = b'{"message":"Malformed input request: #: required key [messages] not found"}'
    with fake_upstream(answer(body, status=400)) as upstream:
        told = asked(bench_of(upstream, **NODES[DIALECTS[surface].format]), surface, is_stream=False)
    assert "Malformed input request" in check("invalid", surface, told)["message"]


def test_the_largest_window_that_was_too_small_is_reported(bench_of: Make) -> None:
    def long(limit: int) -> bytes:
        return json.dumps(
            {"error": {"message": f"This model's maximum context length is {limit} tokens.", "type": "x"}}
        ).encode()

    with fake_upstream(answer(long(9000), status=400)) as upstream:
        told = asked(bench_of(upstream), Surface.ANTHROPIC_MESSAGES, is_stream=False)
    assert check("context", Surface.ANTHROPIC_MESSAGES, told)["message"] == (
        "prompt is too long: 9001 tokens > 9000 maximum"
    )


def test_of_several_limits_the_one_that_ends_first_is_told(bench_of: Make) -> None:
    with (
        fake_upstream(answer(b"", status=429, headers={"retry-after": "50"})) as first,
        fake_upstream(answer(b"", status=429, headers={"retry-after": "20"})) as second,
    ):
        status, headers, _ = asked(bench_of(first, second), Surface.OPENAI_CHAT, is_stream=False)
    assert (status, headers["Retry-After"]) == (429, "20")
