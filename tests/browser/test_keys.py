"""API Manager as somebody uses it."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from tests.browser.visitors import PHONE, Visitors
from tests.e2e.processes import Server


@pytest.fixture(scope="module")
def key(server: Server) -> dict[str, Any]:
    """A key with a budget that has been used."""
    made: dict[str, Any] = server.api("POST", "/api/keys", {"name": "laptop", "allowedModels": ["sandbox/*"]})
    server.api("POST", "/api/usage/budget", {"keyId": made["id"], "limit": 5, "period": "monthly"})
    server.settle()
    body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert requests.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=20).status_code == 200
    return made


@pytest.mark.parametrize("path", ["/dashboard/keys", "/dashboard/keys/new", "/dashboard/keys/{id}?range=24h"])
def test_every_page_is_usable_by_all(visitors: Visitors, key: dict[str, Any], path: str) -> None:
    path = path.format(id=key["id"])
    page = visitors.visit(path)
    for folded in page.locator("main details.more").all():
        folded.locator("summary").first.click()
    assert visitors.faults(page) == []
    assert visitors.faults_at(path, looks=[("dark", PHONE)]) == []


@pytest.mark.parametrize("has_script", [True, False])
def test_a_key_is_made_and_shown_once(visitors: Visitors, server: Server, has_script: bool) -> None:
    page = visitors.visit("/dashboard/keys/new", has_script=has_script, width=PHONE)
    page.get_by_label("Find a model, a family or a combo").fill("sandbox/echo")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("button", name="sandbox/* all of it").click()
    expect(page.get_by_label("Only these models")).to_have_value("sandbox/*")
    page.get_by_label("Name", exact=True).fill("phone")
    page.get_by_role("button", name="Make the key").click()
    secret = page.locator("#new-key").inner_text()
    assert server.api("GET", "/api/keys?q=phone")["keys"][0]["key"].startswith(secret[:8])
    if has_script:
        visitors.look(page)
    page.get_by_role("link", name="I have saved it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("phone")
    assert secret not in page.content()
    page.get_by_label("Type “phone” to confirm").fill("phone")
    page.get_by_role("button", name="Delete the key").click()
    expect(page.get_by_role("status").first).to_contain_text("The key phone is deleted.")


def test_a_key_is_limited_regenerated_and_disabled(visitors: Visitors, server: Server) -> None:
    made = server.api("POST", "/api/keys", {"name": "desk"})
    page = visitors.visit(f"/dashboard/keys/{made['id']}")
    page.get_by_label("Budget in USD").fill("12.5")
    page.get_by_role("button", name="Set the budget").click()
    expect(page.locator(".key-limits")).to_contain_text("$12.50")
    page.get_by_label("The old secret works for").select_option("3600")
    page.get_by_role("button", name="Regenerate").click()
    page.get_by_role("dialog").get_by_role("button", name="Regenerate").click()
    expect(page.locator("#new-key")).to_contain_text("sk-")
    page.get_by_role("link", name="I have saved it").click()
    page.get_by_role("button", name="Disable").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(page.get_by_role("button", name="Enable")).to_be_visible()
    assert server.api("GET", f"/api/keys/{made['id']}")["key"]["state"] == "disabled"
