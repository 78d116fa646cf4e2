"""The pages of usage and costs over some logged requests."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from omniroute.blueprints.dashboard.usage import filled
from omniroute.records import RequestRecord
from tests.blueprints.dashboard.conftest import Pages, text_of

DAY_S = 86_400


def record(number: int, **changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "request_id": f"req_{number:04}",
        "time": time.time() - 60,
        "endpoint": "/v1/chat/completions",
        "client_format": "openai_chat",
        "requested_model": "groq/llama",
        "model": "llama",
        "provider": "groq",
        "connection_id": "conn_gone",
        "status": 200,
        "outcome": "success",
        "tokens_in": 1000,
        "tokens_out": 10,
        "cache_read": 400,
        "cost_nano_usd": 1_250_000_000,
        "cost_kind": "billed",
        "duration_ms": 400.0,
        "ttft_ms": 30.0,
    }
    return RequestRecord(**(values | changes))


def log(pages: Pages, *records: RequestRecord) -> None:
    for one in records:
        pages.app.own.request_log.put(one)
    pages.app.own.request_log.flush()


def some_usage(pages: Pages) -> str:
    """Log a few requests and return the id of the key of some of them."""
    key = str(pages.api("POST", "/api/keys", {"name": "<laptop>"})["id"])
    combo = str(pages.api("POST", "/api/combos", {"name": "safe", "models": ["sandbox/story"]})["id"])
    log(
        pages,
        record(1, api_key_id=key),
        record(2, api_key_id=key, combo_id=combo),
        record(3, api_key_id="local", outcome="failed", status=502, error_code="upstream_error", cost_nano_usd=0),
        record(4, provider="claude", model="opus", cost_kind="subscription", cost_nano_usd=2_000_000_000),
        record(5, provider="groq", model="new", cost_kind="unpriced", cost_nano_usd=None),
    )
    return key


def figures_in(page: str, name: str) -> dict[str, Any]:
    found = re.search(rf'id="{name}">(.*?)</script>', page)
    assert found is not None
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_usage_shows_sums_a_chart_and_its_table(pages: Pages) -> None:
    some_usage(pages)
    log(pages, record(6, time=time.time() - 2 * DAY_S))
    page = pages.get("/dashboard/usage?range=24h")
    assert '<p class="figure">5</p>' in page
    assert "1 failed, 0 cancelled" in page
    figures = figures_in(page, "usage-figures")
    assert sum(figures["series"][0]["values"]) == 5
    assert sum(figures["series"][1]["values"]) == 1
    assert len(figures["times"]) >= 24, "hours in which nothing happened are zeros, not gaps"
    for text in ("By provider", "By combo", "groq", "opus", "safe", "1 unpriced", "$2.50"):
        assert text in page
    assert "<laptop>" not in pages.client.get("/dashboard/usage").get_data(as_text=True)


@pytest.mark.parametrize("by", ["provider", "model", "key", "combo", "connection"])
def test_each_division_stands_alone_with_every_figure(pages: Pages, by: str) -> None:
    some_usage(pages)
    page = pages.get(f"/dashboard/usage?by={by}&range=7d")
    assert page.count('class="grid usage-table"') == 1
    assert "Cache write" in page
    assert ("p95" in page) is (by in ("provider", "model"))


def test_usage_is_narrowed_by_names_and_ids(pages: Pages) -> None:
    key = some_usage(pages)
    for query, count in (
        ("key=<LAPTOP>", 2),
        (f"key={key}", 2),
        ("combo=safe", 1),
        ("model=opus", 1),
        ("key=local", 1),
    ):
        assert f'<p class="figure">{count}</p>' in pages.get(f"/dashboard/usage?{query}"), query
    page = pages.get("/dashboard/usage?combo=safe")
    combo = pages.api("GET", "/api/combos")["combos"][0]["id"]
    (link, *_rest) = re.findall(r'href="(/api/\w+/export[^"]+)"', page)
    assert f"combo={combo}" in link
    assert "since=" in link
    written = pages.client.get(link).get_data(as_text=True).splitlines()
    assert len(written) == 2


def test_a_time_without_requests_says_so_and_own_dates_hold_their_last_day(pages: Pages) -> None:
    assert "No request in this time" in pages.get("/dashboard/usage")
    log(pages, record(1))
    today = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 60))
    assert '<p class="figure">1</p>' in pages.get(f"/dashboard/usage?from={today}&to={today}")
    assert "No request in this time" in pages.get("/dashboard/usage?from=2020-01-01&to=2020-02-01")


@pytest.mark.parametrize("query", ["from=nonsense", "from=2030-01-01", "key=nobody", "range=5y"])
def test_a_filter_that_is_wrong_is_said_and_kept(pages: Pages, query: str) -> None:
    answer = pages.client.get(f"/dashboard/usage?{query}")
    assert answer.status_code == 400
    page = text_of(answer)
    assert 'role="alert"' in page
    assert query.partition("=")[2] in page


def test_steps_in_which_nothing_happened_are_filled() -> None:
    span = {"start": "2027-01-15T08:00:00.000Z", "end": "2027-01-15T11:10:00.000Z", "stepSec": 3600}
    points = filled([{"t": "2027-01-15T09:00:00.000Z", "requests": 3}], span)
    assert [point["requests"] for point in points] == [0, 3, 0, 0]
    assert filled([], span) == []


def test_costs_keep_what_was_billed_apart(pages: Pages) -> None:
    some_usage(pages)
    page = pages.get("/dashboard/costs")
    assert page.count("$2.50") >= 4  # today, 7 days, 30 days, this month and the sums below
    assert "and $2.00 worth of subscriptions" in page
    assert "what it would have cost; already paid" in page
    assert "by its end at this pace" in page or "no forecast yet" in page
    assert sum(figures_in(page, "cost-figures")["series"][0]["values"]) == pytest.approx(2.5)
    for days in ("7d", "90d", "365d"):
        assert "$2.50" in pages.get(f"/dashboard/costs?range={days}")
    assert "No budget" not in page


def test_costs_without_requests_lead_to_budgets(pages: Pages) -> None:
    page = pages.get("/dashboard/costs")
    assert "Nothing was spent in this time" in page
    assert "/dashboard/costs?tab=budget" in page


def test_what_prompt_caches_gave_stands_among_the_settings(pages: Pages) -> None:
    log(pages, record(1), record(2, provider="gemini", tokens_in=0, cache_read=0))
    page = re.sub(r"<[^>]+>", " ", pages.get("/dashboard/settings?tab=ai"))
    assert re.search(r"groq\s+1\s+1K\s+400\s+0\s+40%", page)
    assert re.search(r"gemini\s+1\s+0\s+0\s+0\s+–", page)
