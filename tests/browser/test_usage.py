"""Usage, costs, quotas, logs and the audit log as somebody uses them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from playwright.sync_api import expect

from tests.browser.visitors import PHONE, Visitors
from tests.e2e.processes import Server, wait_until

PAGES = (
    "/dashboard/usage",
    "/dashboard/usage?by=model",
    "/dashboard/costs",
    "/dashboard/costs?tab=budget",
    "/dashboard/costs?tab=pricing&q=gpt-4o-mini&provider=openai&edit=gpt-4o-mini&of=openai",
    "/dashboard/quota",
    "/dashboard/logs",
    "/dashboard/logs?tab=active",
    "/dashboard/logs?tab=application",
    "/dashboard/audit?check=yes",
)


def ask(server: Server, model: str, prompt: str = "Hello") -> str:
    """Send a request and return its id once it is in the log."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    answer = requests.post(f"{server.url}/v1/chat/completions", json=body, timeout=20)
    request_id = answer.headers["X-OmniRoute-Request-Id"]
    wait_until(
        lambda: any(row["requestId"] == request_id for row in server.logs(q=request_id)),
        within_s=10,
        what="it is logged",
    )
    return request_id


@pytest.fixture(scope="module")
def traffic(server: Server) -> list[str]:
    """Ids of requests: one that one target served, one that the second of a combo did, one that nobody did."""
    server.api("POST", "/api/combos", {"name": "safe", "models": ["sandbox/fail-500", "sandbox/story"]})
    server.api("POST", "/api/usage/budget", {"keyId": "*", "limit": 100, "period": "monthly"})
    server.api("PATCH", "/api/settings", {"captureBodies": "errors"})
    server.settle()
    return [ask(server, "sandbox/story"), ask(server, "safe"), ask(server, "sandbox/fail-429")]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_usable_by_all(visitors: Visitors, traffic: list[str], path: str) -> None:
    assert traffic
    assert visitors.faults_at(path) == []


@pytest.mark.parametrize("tab", ["summary", "attempts", "decision", "bodies"])
def test_every_part_of_a_request_is_usable_by_all(visitors: Visitors, traffic: list[str], tab: str) -> None:
    path = f"/dashboard/logs/requests/{traffic[1]}?tab={tab}"
    assert visitors.faults_at(path) == []


def test_the_bodies_of_a_request_are_seen_and_opened(visitors: Visitors, traffic: list[str]) -> None:
    path = f"/dashboard/logs/requests/{traffic[2]}?tab=bodies"
    visitors.look(visitors.visit(path, theme="dark", width=PHONE))
    page = visitors.visit(path)
    expect(page.get_by_role("heading", name="Client response")).to_be_visible()
    page.get_by_text("Headers (").first.click()
    visitors.look(page)
    page.get_by_role("link", name="Open in Translator").click()
    expect(page.get_by_label("Body, or the text of a stream")).to_have_value(re.compile("sandbox/fail-429"))


def test_usage_is_drawn_narrowed_and_exported(visitors: Visitors, traffic: list[str]) -> None:
    assert traffic
    page = visitors.visit("/dashboard/usage")
    expect(page.locator("[data-chart] canvas")).to_be_visible()
    page.get_by_text("Show table").click()
    expect(page.get_by_role("columnheader", name="Time (UTC)")).to_be_visible()
    page.get_by_label("Combo", exact=True).fill("safe")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".figure").first).to_have_text("1")
    page.get_by_role("link", name="By model").click()
    expect(page.get_by_role("columnheader", name="p95")).to_be_visible()
    page.get_by_text("Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Every request, CSV").click()
    assert download.value.suggested_filename == "omniroute-requests.csv"
    page.get_by_role("link", name="24 hours").click()
    expect(page).to_have_url(re.compile("range=24h"))


@pytest.mark.parametrize("has_script", [True, False])
def test_a_budget_is_set_removed_and_set_again(visitors: Visitors, server: Server, has_script: bool) -> None:
    name = f"client-{has_script}"
    server.new_key(name=name)
    page = visitors.visit("/dashboard/costs?tab=budget", has_script=has_script, width=1440 if has_script else PHONE)
    page.get_by_label("API key", exact=True).fill(name)
    page.get_by_label("Limit in USD").fill("nonsense")
    page.get_by_role("button", name="Save the budget").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved.")
    expect(page.get_by_label("Limit in USD")).to_have_value("nonsense")
    page.get_by_label("Limit in USD").fill("7.50")
    page.get_by_role("button", name="Save the budget").click()
    expect(page.get_by_role("status").first).to_contain_text(f"The budget of {name} is set.")
    page.get_by_role("button", name=f"Remove the budget of {name}").click()
    expect(page.get_by_text(f"The budget is removed: {name}, $7.50 a month.")).to_be_visible()
    page.get_by_role("button", name="Set it again").click()
    expect(page.get_by_role("status").first).to_contain_text(f"The budget of {name} is set.")


@pytest.mark.parametrize("has_script", [True, False])
def test_a_price_is_edited_in_its_row(visitors: Visitors, has_script: bool) -> None:
    model = "gpt-4o" if has_script else "gpt-4o-mini"
    page = visitors.visit(f"/dashboard/costs?tab=pricing&q={model}&provider=openai", has_script=has_script)
    page.get_by_role("link", name=f"Edit the price of {model}", exact=True).click()
    page.get_by_label("Input", exact=True).fill("0.75")
    page.get_by_role("button", name="Save the price").click()
    expect(page.get_by_role("status").first).to_contain_text(f"The price of {model} is set.")
    expect(page.get_by_text("$0.75")).to_be_visible()
    page.get_by_role("button", name=f"Drop your price of {model}").click()
    if has_script:
        page.get_by_role("dialog").get_by_role("button", name=re.compile("Drop")).click()
    expect(page.get_by_role("status").first).to_contain_text(f"Your price of {model} is dropped.")


def test_a_new_request_appears_by_itself(visitors: Visitors, server: Server, traffic: list[str]) -> None:
    assert traffic
    page = visitors.visit("/dashboard/logs")
    expect(page.get_by_text("Following")).to_be_visible()
    first = ask(server, "sandbox/echo")
    row = page.locator(f'tr[data-id="{first}"]')
    expect(row).to_be_visible()
    expect(row).to_contain_text("succeeded")
    expect(page.locator("tr[data-id]").first).to_have_attribute("data-id", first)
    visitors.look(page)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Following")).not_to_be_visible()
    second = ask(server, "sandbox/echo", "again")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(f'tr[data-id="{second}"]')).to_have_count(1)
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Request")


def test_rows_come_by_asking_when_the_stream_cannot_be_had(
    visitors: Visitors, server: Server, traffic: list[str]
) -> None:
    assert traffic
    page = visitors.visit("/dashboard/account")
    page.route("**/api/usage/logs/stream**", lambda route: route.abort())
    page.goto("/dashboard/logs")
    request_id = ask(server, "sandbox/echo")
    expect(page.locator(f'tr[data-id="{request_id}"]')).to_be_visible()


def test_the_log_without_a_script(visitors: Visitors, traffic: list[str]) -> None:
    page = visitors.visit("/dashboard/logs", has_script=False)
    expect(page.get_by_role("link", name="Reload")).to_be_visible()
    page.get_by_label("Outcome").select_option("failed")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("tr[data-id]")).to_have_count(1)
    page.locator("tr[data-id]").get_by_role("link").click()
    page.get_by_role("link", name="Decision").click()
    expect(page.get_by_role("heading", name="The way this request took")).to_be_visible()
    assert traffic[2] in page.url


def test_a_request_in_flight_is_cancelled(visitors: Visitors, server: Server) -> None:
    body = {"model": "sandbox/slow-20000", "messages": [{"role": "user", "content": "Hello"}]}
    with ThreadPoolExecutor(1) as others:
        asked = others.submit(requests.post, f"{server.url}/v1/chat/completions", json=body, timeout=30)
        page = visitors.visit("/dashboard/logs?tab=active")
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").last.click()
        expect(page.get_by_text("The request is cancelled; its client is told so.")).to_be_visible()
        assert asked.result().json()["error"]["code"] == "request_cancelled"


def test_the_audit_log_is_filtered_and_its_details_open(visitors: Visitors, traffic: list[str]) -> None:
    assert traffic
    page = visitors.visit("/dashboard/audit", has_script=False)
    page.get_by_label("Action").fill("combo.")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_role("rowheader")).to_have_count(1)
    page.get_by_text("Details").click()
    expect(page.get_by_text("Program")).to_be_visible()
    page.get_by_role("link", name="Check the chain").click()
    expect(page.get_by_text("The chain is whole")).to_be_visible()
