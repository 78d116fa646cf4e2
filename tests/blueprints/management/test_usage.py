"""`/api/usage/logs` and `/api/audit`: rows, filters, pages, one row with its attempts, files."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from omniroute.records import AttemptRecord, RequestRecord
from tests.harness import NOW, Gateway, gateway, make_gateway

__all__ = ["gateway", "make_gateway"]


def record(number: int, **changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "request_id": f"req_{number:04}",
        "time": NOW - number,
        "endpoint": "/v1/chat/completions",
        "client_format": "openai-chat",
        "requested_model": "sandbox/echo",
        "model": "echo",
        "provider": "sandbox",
        "status": 200,
        "outcome": "success",
        "tokens_in": 10,
        "tokens_out": 5,
        "duration_ms": 100.0 * number,
        "ttft_ms": 20.0,
        "api_key_id": "local",
    }
    return RequestRecord(**(values | changes))


@pytest.fixture
def filled(gateway: Gateway) -> Gateway:
    key = gateway.issue("laptop").key
    attempts = (
        AttemptRecord("groq", "conn_1", "llama", 429, "rate_limit", "rate_limit", 0.0, 2.0, None, 50.0),
        AttemptRecord("sandbox", "conn_2", "echo", 200, None, None, 51.0, 52.0, 70.0, 100.0),
    )
    gateway.log_requests(
        [
            record(1, api_key_id=key.id),
            record(2, status=502, outcome="failed", error_code="upstream_error", tokens_in=None, tokens_out=None),
            record(3, requested_model="groq/llama_100%", model="llama", provider="groq", tag="nightly"),
            record(4, outcome="cancelled", status=499),
            record(5, attempts=attempts),
            record(6, kind="test", provider="groq"),
        ]
    )
    return gateway


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.get_json()
    return [row["id"] for row in answer.get_json()["logs"]]


def test_rows_come_newest_first_under_every_name(filled: Gateway) -> None:
    client = filled.logged_in()
    for path in ("/api/usage/logs", "/api/usage/call-logs", "/api/usage/history", "/api/usage/request-logs"):
        answer = client.get(path)
        assert ids(answer) == [f"req_{number:04}" for number in range(1, 7)]
        assert answer.headers["X-Total-Count"] == "6"


def test_a_row(filled: Gateway) -> None:
    row = filled.logged_in().get("/api/usage/logs?limit=1").get_json()["logs"][0]
    assert row["time"] == "2027-01-15T07:59:59.000Z"
    assert row["apiKeyName"] == "laptop"
    assert (row["tokensIn"], row["tokensOut"], row["ttftMs"], row["durationMs"]) == (10, 5, 20.0, 100.0)
    assert row["costUsd"] is None
    assert row["costKind"] == "unpriced"
    assert row["attempts"] == 0


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("status=502", [2]),
        ("status=failed", [2]),
        ("status=cancelled", [4]),
        ("model=llama", [3]),
        ("model=sandbox/echo", [1, 2, 4, 5, 6]),
        ("provider=groq", [3, 6]),
        ("apiKeyId=local", [2, 3, 4, 5, 6]),
        ("q=nightly", [3]),
        ("q=100%25", [3]),
        ("q=upstream", [2]),
        ("q=nothing", []),
        ("kind=test", [6]),
        ("minDurationMs=450", [5, 6]),
        ("since=2027-01-15T07:59:58Z", [1, 2]),
        ("until=2027-01-15T07:59:55Z", [6]),
        ("limit=2&offset=1", [2, 3]),
        ("provider=groq&kind=request", [3]),
    ],
)
def test_filters(filled: Gateway, query: str, numbers: list[int]) -> None:
    assert ids(filled.logged_in().get(f"/api/usage/logs?{query}")) == [f"req_{number:04}" for number in numbers]


@pytest.mark.parametrize(
    "query",
    ["status=maybe", "status=99", "since=yesterday", "minDurationMs=-1", "limit=201", "q=" + "x" * 300, "kind=all"],
)
def test_bad_filters_are_named(filled: Gateway, query: str) -> None:
    answer = filled.logged_in().get(f"/api/usage/logs?{query}")
    assert answer.status_code == 400
    assert answer.get_json()["error"]["details"][0]["field"] == query.partition("=")[0]


def test_one_row_with_its_attempts(filled: Gateway) -> None:
    client = filled.logged_in()
    body = client.get("/api/usage/logs/req_0005").get_json()
    assert body["log"]["id"] == "req_0005"
    assert body["log"]["attempts"] == 2
    first, second = body["attempts"]
    assert (first["provider"], first["status"], first["failureClass"], first["endedMs"]) == (
        "groq",
        429,
        "rate_limit",
        50.0,
    )
    assert (second["provider"], second["failureClass"], second["firstContentMs"]) == ("sandbox", None, 70.0)
    assert client.get("/api/usage/logs/req_none").status_code == 404


def test_todays_sums(filled: Gateway) -> None:
    from flask import Flask

    app: Flask = filled.app
    usage = app.extensions["omniroute"].usage
    today = usage.today()
    assert (today.requests, today.failed) == (5, 1)
    assert today.success_rate == pytest.approx(3 / 4)  # the client that left is nobody's failure
    assert (today.tokens_in, today.tokens_out, today.tokens) == (40, 20, 60)
    assert today.ttft_ms == pytest.approx(20.0)
    filled.clock.pass_(86400)
    tomorrow = usage.today()
    assert (tomorrow.requests, tomorrow.success_rate, tomorrow.ttft_ms) == (0, None, None)


def test_what_a_caller_has_used(filled: Gateway) -> None:
    from flask import Flask

    app: Flask = filled.app
    usage = app.extensions["omniroute"].usage
    filled.clock.pass_(86400)
    found = usage.of_key("local")
    nothing = {"requests": 0, "failed": 0, "tokensIn": 0, "tokensOut": 0, "costUsd": 0.0, "unpricedRequests": 0}
    assert found["today"] == nothing
    assert found["month"] == {
        **nothing,
        "requests": 4,
        "failed": 1,
        "tokensIn": 30,
        "tokensOut": 15,
        "unpricedRequests": 4,
    }
    assert usage.of_key("key_of_nobody") == {"today": nothing, "month": nothing}


def test_an_order_or_filter_that_is_not_served_is_not_ignored(filled: Gateway) -> None:
    client = filled.logged_in()
    assert client.get("/api/usage/logs?sort=-time").get_json()["total"] == 6
    for path in ("/api/usage/logs", "/api/audit"):
        refused = client.get(f"{path}?sort=durationMs")
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "validation_failed")
    none = client.get("/api/usage/logs?combo=fast")
    assert (none.get_json()["logs"], none.get_json()["total"], none.headers["X-Total-Count"]) == ([], 0, "0")


def test_the_audit_log_as_a_file_holds_every_entry_once(gateway: Gateway) -> None:
    client = gateway.logged_in()
    for number in range(410):  # more than are read at once
        gateway.audit.record("key.created", actor="=cmd", target_kind="key", details={"n": number, "old": [1, 2]})
    lines = client.get("/api/audit/export?format=jsonl&action=key.").get_data(as_text=True).splitlines()
    assert [json.loads(line)["details"]["n"] for line in lines] == list(reversed(range(410)))
    answer = client.get("/api/audit/export?actor=%3Dcmd&outcome=success")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="omniroute-audit.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert len(rows) == 410
    assert rows[0]["actor"] == "'=cmd", "no cell is a formula"
    assert json.loads(rows[0]["details"]) == {"n": 409, "old": [1, 2]}
    assert client.get("/api/audit/export?format=xml").status_code == 400
    assert client.get("/api/audit/export?outcome=odd").status_code == 400
    assert gateway.client(address="203.0.113.5").get("/api/audit/export").status_code == 401
