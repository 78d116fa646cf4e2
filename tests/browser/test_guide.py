"""From the first start to a client that works, without leaving the dashboard."""

from __future__ import annotations

import re

import requests
from playwright.sync_api import expect

from tests.browser.visitors import Visitors
from tests.e2e.processes import Server


def test_the_guide_is_usable_by_all(visitors: Visitors) -> None:
    steps = ("password", "provider", "combo", "client")
    assert visitors.faults_at(*(f"/dashboard/setup?step={step}" for step in steps)) == []


def test_from_the_first_start_to_a_client_that_works(visitors: Visitors, server: Server) -> None:
    page = visitors.visit("/dashboard")
    page.get_by_role("link", name="Open the set-up guide").click()
    page.get_by_role("link", name="Skip: use the sandbox").click()
    page.get_by_label("Name", exact=True).fill("main")
    page.get_by_role("checkbox", name="sandbox/story").check()
    page.get_by_role("button", name="Make the combo").click()
    expect(page.get_by_role("status").first).to_contain_text("The combo “main” answers from now on.")
    page.get_by_role("radio", name="Claude Code").check()
    page.get_by_role("button", name="Create the key and show the lines").click()
    key = page.locator("#new-key").inner_text()
    assert re.fullmatch(r"sk-\S+", key)
    expect(page.locator("#first")).to_contain_text("Waiting for the first request")
    visitors.look(page)
    body = {"model": "main", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
    answer = requests.post(f"{server.url}/v1/messages", json=body, headers={"x-api-key": key}, timeout=10)
    assert answer.status_code == 200
    expect(page.locator("#first")).to_contain_text("It works", timeout=10_000)
    page.get_by_role("link", name="I have saved the key: go to Home").click()
    assert key not in page.content()
