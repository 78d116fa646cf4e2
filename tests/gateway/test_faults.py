# ruff: noqa: E501 -- a table row, or a frame as it is on the wire, reads better on one line
"""A failure keeps its meaning on the way to the caller, in both dialects, and our credentials stay our business."""

from __future__ import annotations

import json

import pytest

from omniroute.errors import OmniRouteError
from omniroute.formats.anthropic_messages import errors as messages_errors
from omniroute.formats.context_length import messages_message
from omniroute.formats.openai_chat import errors as chat_errors
from omniroute.gateway.faults import error_for
from omniroute.routing.failures import Failure, FailureClass

NOW = 1_800_000_000.0

TABLE = [
    # failure, OpenAI status and code, Anthropic status and type
    (Failure("context_length", FailureClass.CALLER_FAULT, status=400, message="too long"), 400, "context_length_exceeded", 400, "invalid_request_error"),
    (Failure("content_policy", FailureClass.CALLER_FAULT, status=451), 400, "content_filter", 400, "invalid_request_error"),
    (Failure("too_large", FailureClass.CALLER_FAULT, status=413), 413, "request_too_large", 413, "request_too_large"),
    (Failure("invalid_request", FailureClass.CALLER_FAULT, status=422, provider_code="x"), 400, "x", 400, "invalid_request_error"),
    (Failure("invalid_request", FailureClass.CALLER_FAULT, status=403), 400, "invalid_value", 400, "invalid_request_error"),
    (Failure("model_missing", FailureClass.MODEL_UNAVAILABLE, status=404), 404, "model_not_found", 404, "not_found_error"),
    (Failure("rate", FailureClass.RATE_LIMIT, status=429, retry_after_s=9.0), 429, "rate_limit_exceeded", 429, "rate_limit_error"),
    (Failure("quota", FailureClass.QUOTA, status=429, retry_after_s=90.0), 429, "rate_limit_exceeded", 429, "rate_limit_error"),
    (Failure("quota", FailureClass.QUOTA, status=429, retry_after_s=90_000.0), 429, "insufficient_quota", 429, "rate_limit_error"),
    (Failure("no_credit", FailureClass.QUOTA, status=402), 503, "provider_credentials", 500, "api_error"),
    (Failure("auth", FailureClass.CREDENTIAL, status=401), 503, "provider_credentials", 500, "api_error"),
    (Failure("overloaded", FailureClass.TRANSIENT, status=529), 503, "overloaded", 529, "overloaded_error"),
    (Failure("timeout_headers", FailureClass.TRANSIENT), 504, "upstream_timeout", 504, "timeout_error"),
    (Failure("server", FailureClass.TRANSIENT, status=500), 502, "upstream_error", 500, "api_error"),
    (Failure("protocol", FailureClass.TRANSIENT), 502, "upstream_error", 500, "api_error"),
    (Failure("unknown", FailureClass.UNKNOWN, status=418), 502, "upstream_error", 500, "api_error"),
]  # fmt: skip


@pytest.mark.parametrize(("failure", "status", "code", "messages_status", "messages_type"), TABLE)
def test_a_failure_in_both_dialects(
    failure: Failure, status: int, code: str, messages_status: int, messages_type: str
) -> None:
    error = error_for(failure, "Acme", wall=NOW)
    assert (chat_errors.status_of(error), error.error_code) == (status, code)
    said = json.loads(chat_errors.render(error))["error"]
    assert (said["code"], bool(said["message"])) == (code, True)
    other = json.loads(messages_errors.render(error, "req_1"))
    assert messages_errors.status_of(error) == messages_status
    assert other == {
        "type": "error",
        "error": {"type": messages_type, "message": messages_message(error)},
        "request_id": "req_1",
    }


def test_every_class_has_an_error() -> None:
    for failure_class in FailureClass:
        assert isinstance(error_for(Failure("x", failure_class), "Acme", wall=NOW), OmniRouteError)


def test_hints_reach_the_caller() -> None:
    error = error_for(Failure("rate", FailureClass.RATE_LIMIT, retry_after_s=12.0), "Acme", wall=NOW)
    assert (error.retry_after_s, error.should_retry) == (12.0, True)
    assert "12s" in error.message
    assert (
        error_for(Failure("rate", FailureClass.RATE_LIMIT, retry_after_s=5000.0), "Acme", wall=NOW).should_retry
        is False
    )
    assert error_for(Failure("auth", FailureClass.CREDENTIAL), "Acme", wall=NOW).should_retry is False


def test_errors_inside_a_stream_end_it_once() -> None:
    error = error_for(Failure("server", FailureClass.TRANSIENT), "Acme", wall=NOW)
    chat = chat_errors.render_in_stream(error)
    assert chat.startswith(b'data: {"error":')
    assert chat.endswith(b"\n\ndata: [DONE]\n\n")
    messages = messages_errors.render_in_stream(error, "req_1")
    assert messages.startswith(b"event: error\ndata: ")
    assert b"message_stop" not in messages
