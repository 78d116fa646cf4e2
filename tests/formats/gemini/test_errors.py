from __future__ import annotations

import json
from typing import Any

import pytest
from google.genai import errors as sdk_errors

from omniroute.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    Conflict,
    ContextLengthExceeded,
    InvalidRequest,
    MethodNotAllowed,
    ModelNotFound,
    OmniRouteError,
    Overloaded,
    PermissionDenied,
    ProviderCredentials,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    UpstreamError,
    UpstreamTimeout,
)
from omniroute.formats.gemini.errors import render, render_in_stream, status_of

TYPE = "type.googleapis.com/google.rpc."


def _error(error: OmniRouteError) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(render(error, "req_1"))
    assert set(body) == {"error"}
    assert set(body["error"]) <= {"code", "message", "status", "details"}
    return dict(body["error"])


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (InvalidRequest("bad"), 400, "INVALID_ARGUMENT"),
        (AuthenticationFailed(), 401, "UNAUTHENTICATED"),
        (BudgetExceeded(), 402, "RESOURCE_EXHAUSTED"),
        (PermissionDenied(), 403, "PERMISSION_DENIED"),
        (ModelNotFound(), 404, "NOT_FOUND"),
        (MethodNotAllowed(), 405, "INVALID_ARGUMENT"),
        (Conflict(), 409, "FAILED_PRECONDITION"),
        (InvalidRequest(status=412), 412, "FAILED_PRECONDITION"),
        (RequestTooLarge(), 413, "INVALID_ARGUMENT"),
        (RateLimited(), 429, "RESOURCE_EXHAUSTED"),
        (OmniRouteError(), 500, "INTERNAL"),
        (UpstreamError(), 500, "INTERNAL"),
        (Overloaded(), 503, "UNAVAILABLE"),
        (ProviderCredentials(), 503, "UNAVAILABLE"),
        (UpstreamTimeout("idle"), 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_every_kind_has_its_status(error: OmniRouteError, code: int, status: str) -> None:
    rendered = _error(error)
    assert status_of(error) == code
    assert (rendered["code"], rendered["status"], rendered["message"]) == (code, status, error.message)
    with pytest.raises(sdk_errors.APIError) as caught:
        sdk_errors.APIError.raise_error(code, {"error": rendered}, None)
    assert (caught.value.status, caught.value.message) == (status, error.message)


def test_a_wait_is_told() -> None:
    rate = _error(RateLimited("slow", retry_after_s=12.0004))
    assert rate["details"] == [{"@type": TYPE + "RetryInfo", "retryDelay": "12.001s"}]
    assert _error(Overloaded(retry_after_s=3))["details"][0]["retryDelay"] == "3s"
    assert "details" not in _error(UpstreamTimeout("idle"))


def test_a_quota_is_told() -> None:
    def quota(wait_s: float) -> list[dict[str, Any]]:
        error = QuotaExhausted(
            "used up", code="insufficient_quota", retry_after_s=wait_s, resets_at=None, should_retry=False
        )
        return list(_error(error)["details"])

    details = quota(7200.0)
    assert [detail["@type"] for detail in details] == [TYPE + "QuotaFailure", TYPE + "RetryInfo"]
    # The vendor's command line gives up for a limit per day and waits for any other.
    assert details[0]["violations"] == [{"quotaId": "RequestsPerDay", "description": "used up"}]
    assert "PerDay" not in quota(600.0)[0]["violations"][0]["quotaId"]
    assert _error(BudgetExceeded())["details"][0]["@type"] == TYPE + "QuotaFailure"


def test_a_prompt_that_is_too_long_is_told_in_the_vendors_words() -> None:
    error = _error(ContextLengthExceeded("too long", used=9000, limit=8192))
    assert error["message"] == "The input token count (9000) exceeds the maximum number of tokens allowed (8192)."


def test_a_field_and_a_bad_key_are_told() -> None:
    field = _error(InvalidRequest("too many", param="contents.0"))["details"]
    assert field[0]["fieldViolations"] == [{"field": "contents.0", "description": "too many"}]
    key = _error(AuthenticationFailed(code="invalid_api_key"))["details"]
    assert (key[0]["reason"], key[0]["domain"]) == ("API_KEY_INVALID", "googleapis.com")


def test_t72_a_filtered_prompt_is_an_answer() -> None:
    error = InvalidRequest("Not this.", code="content_filter")
    assert status_of(error) == 200
    feedback = json.loads(render(error, "req_1"))["promptFeedback"]
    assert feedback == {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "Not this."}


def test_in_a_stream_an_error_is_one_chunk() -> None:
    frame = render_in_stream(Overloaded("busy"), "req_1")
    assert frame.startswith(b"data: {")
    assert frame.endswith(b"}\n\n")
    assert frame.count(b"\n") == 2
    assert json.loads(frame[6:])["error"]["status"] == "UNAVAILABLE"
