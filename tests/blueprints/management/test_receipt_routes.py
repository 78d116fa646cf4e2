"""Receipts and reconciliation over HTTP."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from omniroute.records import Charge, ChargePart, RequestRecord
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app

TIME = 1_800_000_000.0  # 2027-01-15T08:00:00Z
SERVED = Charge(
    "normal",
    "sandbox",
    "echo",
    "billed",
    10_000_000,
    "override-1",
    "override",
    (ChargePart("input", 1000, 2_000_000_000, 2_000_000), ChargePart("output", 1000, 8_000_000_000, 8_000_000, True)),
    upstream_id="up-1",
)
LOST = Charge("hedge", "sandbox", "echo", "billed", 2_000_000, is_serving=False, upstream_id="up-2")
RECORD = RequestRecord(
    "req_1",
    TIME,
    "/v1/chat/completions",
    "openai_chat",
    "sandbox/echo",
    status=200,
    outcome="success",
    provider="sandbox",
    model="echo",
    tokens_in=1000,
    tokens_out=1000,
    cost_nano_usd=10_000_000,
    cost_kind="billed",
    extra_nano_usd=2_000_000,
    price_id="override-1",
    is_estimated=True,
    charges=(SERVED, LOST),
)
PRIVATE = dataclasses.replace(RECORD, request_id="req_2", charges=(), extra_nano_usd=0, requested_model="")
UNPRICED = dataclasses.replace(
    RECORD, request_id="req_3", charges=(), cost_nano_usd=None, cost_kind="unpriced", extra_nano_usd=0, price_id=None
)


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        for record in (RECORD, PRIVATE, UNPRICED):
            built.own.request_log.put(record)
        built.own.request_log.flush()
        yield built


def post(app: App, text: str, query: str = "", content_type: str = "text/csv") -> TestResponse:
    return app.admin.post(f"/api/usage/reconcile?{query}", data=text.encode(), content_type=content_type)


def test_a_receipt_has_every_figure_and_its_source(app: App) -> None:
    receipt = app.admin.get("/api/usage/receipts/req_1").get_json()["receipt"]
    assert (receipt["costUsd"], receipt["extraUsd"], receipt["totalUsd"]) == (
        "0.010000000",
        "0.002000000",
        "0.012000000",
    )
    assert (receipt["totalNanoUsd"], receipt["billedNanoUsd"]) == (12_000_000, 12_000_000)
    assert (receipt["priceId"], receipt["isEstimated"], receipt["hasDetails"]) == ("override-1", True, True)
    served, lost = receipt["charges"]
    assert [line["source"] for line in served["lines"]] == ["provider", "estimate"]
    assert served["lines"][0] == {
        "name": "input",
        "count": 1000,
        "source": "provider",
        "ratePer1M": "2.000000000",
        "nanoUsd": 2_000_000,
        "usd": "0.002000000",
    }
    assert (served["priceSource"], served["upstreamRequestId"], served["isServing"]) == ("override", "up-1", True)
    assert (lost["kind"], lost["isServing"], lost["usd"]) == ("hedge", False, "0.002000000")


def test_what_leaves_no_details_has_its_cost(app: App) -> None:
    receipt = app.admin.get("/api/usage/receipts/req_2").get_json()["receipt"]
    assert (receipt["totalUsd"], receipt["hasDetails"], receipt["charges"]) == ("0.010000000", False, [])


def test_what_is_unpriced_has_no_amount(app: App) -> None:
    receipt = app.admin.get("/api/usage/receipts/req_3").get_json()["receipt"]
    assert (receipt["costUsd"], receipt["totalUsd"], receipt["billedUsd"]) == (None, None, "0.000000000")


def test_there_is_no_receipt_of_what_never_was(app: App) -> None:
    answer = app.admin.get("/api/usage/receipts/req_none")
    assert (answer.status_code, error_of(answer)["code"]) == (404, "not_found")


BILL = "request_id,date,model,input_tokens,output_tokens,cost\n"
ROWS = "up-1,2027-01-15,echo,1000,900,0.0101\nup-2,2027-01-15,echo,,,0.002\nreq_2,2027-01-15,echo,1000,1000,0.01\n"


def test_a_bill_is_compared_with_the_days_that_it_names(app: App) -> None:
    found = post(app, BILL + ROWS, "provider=sandbox").get_json()
    assert (found["isEqual"], found["comparedBy"], found["toleranceUsd"]) == (True, "request", "0.010000000")
    assert (found["since"], found["until"]) == ("2027-01-15T00:00:00.000Z", "2027-01-16T00:00:00.000Z")
    assert found["totals"]["matched"] == 3
    assert [entry["name"] for entry in found["onlyInLog"]] == ["req_3"]
    assert found["totals"]["differenceUsd"] == "0.000100000"
    exact = post(app, BILL + ROWS, "tolerance=0").get_json()
    assert not exact["isEqual"]
    assert [(entry["name"], entry["why"]) for entry in exact["differing"]] == [("up-1", ["estimated"])]


@pytest.mark.parametrize(
    ("text", "query", "content_type", "status", "field"),
    [
        ("", "", "text/csv", 400, "invoice"),
        ("id,cost\na,x\n", "", "text/csv", 400, "invoice"),
        ("id,cost\na,1\n", "", "text/csv", 400, "since"),
        ("id,cost\na,1\n", "since=2027-01-02&until=2027-01-01", "text/csv", 400, "until"),
        ("id,cost\na,1\n", "since=soon", "text/csv", 400, "since"),
        (BILL + ROWS, "tolerance=-1", "text/csv", 400, "tolerance"),
        (BILL + ROWS, "tolerance=nan", "text/csv", 400, "tolerance"),
        (BILL + ROWS, "tolerance=much", "text/csv", 400, "tolerance"),
        (BILL + ROWS, "provider=nobody", "text/csv", 404, None),
        (BILL + ROWS, "", "application/json", 415, None),
    ],
)
def test_what_cannot_be_compared_is_told(
    app: App, text: str, query: str, content_type: str, status: int, field: str | None
) -> None:
    answer = post(app, text, query, content_type)
    assert answer.status_code == status, answer.get_json()
    error: dict[str, Any] = error_of(answer)
    if field is not None:
        assert error["details"][0]["field"] == field
