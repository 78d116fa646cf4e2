"""Budgets and prices, set and taken back by forms."""

from __future__ import annotations

import re

import pytest

from tests.blueprints.dashboard.conftest import Pages, field_of, text_of
from tests.blueprints.dashboard.test_usage import log, record

BUDGETS = "/dashboard/costs?tab=budget"
PRICING = "/dashboard/costs?tab=pricing"


def test_a_budget_is_set_changed_removed_and_set_again(pages: Pages) -> None:
    pages.api("POST", "/api/keys", {"name": "laptop"})
    assert "No budget is set" in pages.get(BUDGETS)
    form = {
        "who": "key",
        "key": "Laptop",
        "period": "daily",
        "limit": "2.5",
        "warning": "60",
        "timeZone": "Europe/Berlin",
    }
    page = pages.after(pages.post("/dashboard/costs/budgets", form))
    assert "The budget of laptop is set." in page
    assert "$2.50 a day" in page
    assert "warns at 60%" in page
    (budget,) = pages.api("GET", "/api/usage/budget")["budgets"]
    assert (budget["limit"], budget["warningThreshold"], budget["timeZone"]) == (2.5, 0.6, "Europe/Berlin")
    edited = pages.get(f"{BUDGETS}&edit={budget['keyId']} daily")
    assert (field_of(edited, "limit"), field_of(edited, "key"), field_of(edited, "warning")) == ("2.5", "laptop", "60")

    page = pages.after(pages.post("/dashboard/costs/budgets/remove", {"keyId": budget["keyId"], "period": "daily"}))
    assert "The budget is removed: laptop, $2.50 a day." in page
    assert pages.api("GET", "/api/usage/budget")["budgets"] == []
    undo = {
        name: field_of(page, name) for name in ("who", "key", "period", "limit", "warning", "resetTime", "timeZone")
    }
    pages.post("/dashboard/costs/budgets", undo)
    (again,) = pages.api("GET", "/api/usage/budget")["budgets"]
    assert again["limit"] == budget["limit"]
    assert again["warningThreshold"] == budget["warningThreshold"]
    assert "The budget is removed" not in pages.get(BUDGETS), "it is offered once"


def test_budgets_of_the_server_and_of_callers_without_a_key(pages: Pages) -> None:
    for who in ("*", "local"):
        pages.post("/dashboard/costs/budgets", {"who": who, "key": "", "period": "monthly", "limit": "10"})
    page = pages.get(BUDGETS)
    assert "All callers together" in page
    assert "Callers without a key" in page
    assert {one["keyId"] for one in pages.api("GET", "/api/usage/budget")["budgets"]} == {"*", "local"}


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"who": "key", "key": "", "period": "daily", "limit": "5"}, "keyId"),
        ({"who": "key", "key": "nobody", "period": "daily", "limit": "5"}, "nobody"),
        ({"who": "*", "period": "daily", "limit": "much"}, "much"),
        ({"who": "*", "period": "daily", "limit": "-1"}, "-1"),
        ({"who": "*", "period": "daily", "limit": "5", "warning": "400"}, "400"),
        ({"who": "*", "period": "daily", "limit": "5", "timeZone": "Atlantis"}, "Atlantis"),
        ({"who": "*", "period": "hourly", "limit": "5"}, "period"),
    ],
)
def test_a_wrong_budget_keeps_what_was_typed(pages: Pages, form: dict[str, str], said: str) -> None:
    page = text_of(pages.post("/dashboard/costs/budgets", form, expect=400))
    assert "Nothing was saved." in page
    assert said in page
    assert pages.api("GET", "/api/usage/budget")["budgets"] == []


def test_removing_a_budget_that_is_gone_is_said(pages: Pages) -> None:
    page = pages.after(pages.post("/dashboard/costs/budgets/remove", {"keyId": "key_none", "period": "daily"}))
    assert 'role="alert"' in page


def test_prices_are_searched_shown_per_unit_and_paged(pages: Pages) -> None:
    page = pages.get(PRICING)
    assert page.count('class="row-actions"') == 50
    assert "1–50 of" in page
    assert "built in" in page
    some = pages.get(f"{PRICING}&q=gpt-4o-mini&provider=openai")
    assert "gpt-4o-mini" in some
    assert "$0.15" in some
    assert "$0.00015" in pages.get(f"{PRICING}&q=gpt-4o-mini&provider=openai&unit=1K")
    assert "No price fits the filters" in pages.get(f"{PRICING}&q=nothing-like-it")
    assert pages.client.get(f"{PRICING}&provider=nobody").status_code == 400
    assert pages.client.get(f"{PRICING}&sort=colour").status_code == 400


def test_a_price_is_edited_in_its_row_and_reset(pages: Pages) -> None:
    here = f"{PRICING}&q=gpt-4o-mini&provider=openai"
    page = pages.get(f"{here}&edit=gpt-4o-mini&of=openai")
    assert field_of(page, "input") == "0.15"
    form = {"provider": "openai", "model": "gpt-4o-mini", "unit": "1M", "next": here}
    form |= {name: field_of(page, name) for name in ("input", "output", "cached", "cacheWrite", "reasoning")}
    assert "Nothing was changed." in pages.after(pages.post("/dashboard/costs/pricing", form))
    answer = pages.post("/dashboard/costs/pricing", form | {"input": "0.5"})
    assert answer.headers["Location"] == here
    page = pages.after(answer)
    assert "The price of gpt-4o-mini is set." in page
    assert "$0.50" in page
    (price,) = pages.api("GET", "/api/pricing?source=override")["prices"]
    assert (price["input"], str(price["output"])) == (0.5, form["output"])
    pages.post("/dashboard/costs/pricing/reset", {"provider": "openai", "model": "gpt-4o-mini", "next": here})
    assert pages.api("GET", "/api/pricing?source=override")["prices"] == []
    gone = pages.post("/dashboard/costs/pricing/reset", {"provider": "openai", "model": "gpt-4o-mini"})
    assert 'role="alert"' in pages.after(gone)


def test_a_wrong_price_keeps_its_row_open(pages: Pages) -> None:
    form = {"provider": "openai", "model": "gpt-4o-mini", "unit": "1M", "input": "cheap", "next": "//elsewhere"}
    page = text_of(pages.post("/dashboard/costs/pricing", form, expect=400))
    assert field_of(page, "input") == "cheap"
    assert 'aria-invalid="true"' in page
    assert "Nothing was saved." in page
    unknown = text_of(pages.post("/dashboard/costs/pricing", form | {"provider": "nobody", "input": "1"}, expect=400))
    assert "is not a provider or node" in unknown


def test_models_that_were_used_and_have_no_price_get_one(pages: Pages) -> None:
    unpriced = f"{PRICING}&source=unpriced"
    assert "Every model that was used has a price" in pages.get(unpriced)
    log(pages, record(1, provider="openai", model="gpt-next", cost_kind="unpriced", cost_nano_usd=None))
    page = pages.get(unpriced)
    assert "gpt-next" in page
    assert "no price" in page
    assert "gpt-next" in pages.get(f"{unpriced}&q=NEXT")
    assert "No price fits" in pages.get(f"{unpriced}&q=other")
    assert "Price of gpt-next" in pages.get(f"{unpriced}&edit=gpt-next&of=openai")
    pages.post("/dashboard/costs/pricing", {"provider": "openai", "model": "gpt-next", "unit": "1K", "input": "0.001"})
    (price,) = pages.api("GET", "/api/pricing?source=override")["prices"]
    assert price["input"] == 1
    assert "gpt-next" in pages.get(f"{PRICING}&edit=gpt-next&of=openai"), "a row of another page stands above"


def test_an_import_is_previewed_and_done(pages: Pages) -> None:
    preview = text_of(
        pages.post("/dashboard/costs/pricing/import", {"source": "package", "dryRun": "true"}, expect=200)
    )
    assert "What an import would change" in preview
    done = pages.after(pages.post("/dashboard/costs/pricing/import", {"source": "package"}))
    assert re.search(r"Imported \d+ prices", done)
    refused = pages.after(pages.post("/dashboard/costs/pricing/import", {"source": "list"}))
    assert 'role="alert"' in refused
