"""Home: the first steps, and what it says of a gateway that works."""

from __future__ import annotations

import time

from omniroute.records import RequestRecord
from tests.blueprints.dashboard.conftest import Pages, text_of


def _log(pages: Pages, number: int, *, is_failed: bool = False) -> None:
    own = pages.app.own
    record = RequestRecord(
        request_id=f"req_{number:04}",
        time=time.time() - number,
        endpoint="/v1/chat/completions",
        client_format="openai_chat",
        requested_model="sandbox/story",
        provider="sandbox",
        model="story",
        status=502 if is_failed else 200,
        outcome="failed" if is_failed else "success",
        error_code="upstream_error" if is_failed else None,
        tokens_in=1000,
        tokens_out=234,
    )
    own.request_log.put(record)


def test_an_empty_gateway_says_what_to_do_next(pages: Pages) -> None:
    page = pages.get("/dashboard")
    assert "Four steps to the first answer" in page
    assert 'href="/dashboard/setup"' in page
    assert "No connection is cooling down." in page
    assert "No request has failed." in page
    assert "No budget is set." in page


def test_steps_that_are_done_are_marked_and_go_with_the_last(pages: Pages) -> None:
    pages.api("POST", "/api/providers", {"provider": "openai", "apiKey": "sk-test-0123456789"})
    assert pages.get("/dashboard").count("is-done") == 2  # the key of the test is there from the start
    pages.api("POST", "/api/combos", {"name": "main", "models": ["sandbox/echo"]})
    _log(pages, 1)
    pages.app.own.request_log.flush()
    assert "Four steps to the first answer" not in pages.get("/dashboard")


def test_figures_failures_and_budgets_of_today(pages: Pages) -> None:
    for number in range(1, 11):
        _log(pages, number, is_failed=number == 4)
    pages.app.own.request_log.flush()
    (key,) = pages.api("GET", "/api/keys")["keys"]
    pages.api("POST", "/api/usage/budget", {"keyId": key["id"], "limit": 5, "period": "daily"})
    page = pages.get("/dashboard")
    assert "1 failed" in page
    assert "90%" in page
    assert "10K in" in page
    assert "upstream_error" in page
    assert "$0.00 / $5.00" in page
    assert "<svg" in text_of(pages.block("/dashboard", "now"))


def test_the_address_is_the_one_that_the_browser_used(pages: Pages) -> None:
    page = pages.get("/dashboard", Host="localhost:8443")
    assert '<code id="base-url">http://localhost:8443</code>' in page
