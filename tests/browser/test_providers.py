"""Providers and Endpoints: connecting, testing, ordering, changing and removing, as a user does it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.visitors import ALL_LOOKS, Visitors
from tests.e2e.processes import Sandbox, Server, running_sandbox

KEY = "sk-live-0123456789abcdefghij"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A provider that answers."""
    with running_sandbox(tmp_path_factory.mktemp("upstream") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def connected(server: Server) -> str:
    """Three keys of a provider; the id of the first."""
    made = [
        server.api("POST", "/api/providers", {"provider": "groq", "apiKey": KEY + name, "name": name})
        for name in ("First", "Second", "Third")
    ]
    steps = [{"model": "groq/llama-3.3-70b-versatile", "connectionId": made[0]["connection"]["id"]}, "sandbox/echo"]
    server.api("POST", "/api/combos", {"name": "daily", "models": steps})
    identity: str = made[0]["connection"]["id"]
    return identity


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/providers",
        "/dashboard/providers/add",
        "/dashboard/providers/custom",
        "/dashboard/providers/import",
        "/dashboard/providers/groq",
        "/dashboard/providers/groq?tab=models",
        "/dashboard/providers/groq?tab=custom",
        "/dashboard/providers/groq?tab=advanced",
        "/dashboard/providers/groq/connect",
        "/dashboard/providers/groq/keys",
        "/dashboard/providers/groq/models/llama-3.3-70b-versatile",
        "/dashboard/endpoints",
    ],
)
@pytest.mark.usefixtures("connected")
def test_the_pages_are_usable_by_all(visitors: Visitors, path: str) -> None:
    assert visitors.faults_at(path) == []


def test_the_page_of_a_connection_is_usable_by_all(visitors: Visitors, connected: str) -> None:
    assert visitors.faults_at(f"/dashboard/providers/groq/connections/{connected}", looks=ALL_LOOKS) == []
    assert visitors.faults_at(f"/dashboard/providers/groq/remove?ids={connected}") == []


def test_an_endpoint_is_tried_stored_and_tested(visitors: Visitors, upstream: Sandbox) -> None:
    page = visitors.visit("/dashboard/providers")
    page.locator("summary", has_text="Custom endpoint").click()
    page.get_by_role("link", name="OpenAI-compatible").click()
    page.get_by_label("Name", exact=True).fill("Workshop")
    page.get_by_label("Prefix").fill("workshop")
    page.get_by_label("Base address").fill(f"{upstream.url}/v1")
    page.get_by_label("It is in my own network").check()
    page.get_by_role("button", name="Try the address").click()
    expect(page.locator("#trial")).to_contain_text("The address answers.")
    visitors.look(page)
    page.get_by_role("button", name="Save endpoint").click()
    expect(page.locator("#flashes")).to_contain_text("is stored and connected")
    page.get_by_role("button", name="Test Workshop").click()
    expect(page.locator(".connection-result")).to_contain_text("It works.")
    visitors.look(page)
    page.get_by_role("link", name="Available Models").click()
    page.get_by_role("button", name="Read the provider's list now").click()
    expect(page.locator("#flashes")).to_contain_text("The list has")
    switch = page.locator("#models").get_by_role("button", name=re.compile("is shown$")).first
    switch.click()
    expect(page.locator("#models").get_by_text("Hidden", exact=True)).to_have_count(1)
    page.get_by_role("link", name="Advanced").click()
    page.get_by_label("Type “workshop” to confirm").fill("workshop")
    page.get_by_role("button", name="Remove the endpoint").click()
    expect(page.locator("#flashes")).to_contain_text("The endpoint is removed")


@pytest.mark.usefixtures("connected")
def test_connections_are_put_in_order_and_switched(visitors: Visitors, server: Server) -> None:
    page = visitors.visit("/dashboard/providers/groq")
    page.get_by_role("button", name="Move First down").click()
    expect(page.locator(".toasts")).to_contain_text("The order is saved.")
    rows = server.api("GET", "/api/providers?provider=groq")["connections"]
    assert [row["name"] for row in rows][:2] == ["Second", "First"]
    handle, other = page.locator("[data-handle]").nth(0), page.locator("[data-handle]").nth(2)
    at, to = handle.bounding_box(), other.bounding_box()
    assert at is not None
    assert to is not None
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.mouse.move(at["x"] + 8, at["y"] + 8)
        page.mouse.down()
        page.mouse.move(to["x"] + 8, to["y"] + 20, steps=8)
        page.mouse.up()
    rows = server.api("GET", "/api/providers?provider=groq")["connections"]
    assert [row["name"] for row in rows] == ["First", "Third", "Second"]
    page.get_by_role("button", name="Third is used").click()
    expect(page.locator("#rows")).to_contain_text("Switched off")
    page.get_by_label("All", exact=True).check()
    page.get_by_role("button", name="Switch on").first.click()
    expect(page.locator("#flashes")).to_contain_text("3 connections are switched on.")


def test_forms_work_without_a_script(visitors: Visitors, connected: str) -> None:
    page = visitors.visit("/dashboard/providers/add?q=mistral", has_script=False)
    page.get_by_role("link", name="Mistral", exact=True).click()
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("Priority").fill("first")
    page.get_by_label("Test before saving").uncheck()
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#f-priority-fault")).to_be_visible()
    expect(page.get_by_label("API key")).to_have_value("")
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("Priority").fill("2")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#flashes")).to_contain_text("is connected.")
    page.goto(f"/dashboard/providers/groq/connections/{connected}")
    page.get_by_label("Requests a minute").fill("60")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#rows")).to_contain_text("60 a minute")
    page.get_by_role("checkbox", name="Choose First").check()
    page.get_by_role("button", name="Remove…").click()
    expect(page.get_by_role("main")).to_contain_text("1 combo names one of them and loses a target:")
    page.get_by_role("link", name="Keep").click()
    expect(page.locator("#rows")).to_contain_text("First")


def test_a_provider_that_never_answers_holds_nothing_up(visitors: Visitors, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        server.add_node(address, prefix="silent")
        page = visitors.visit("/dashboard/providers/silent")
        button = page.get_by_role("button", name=re.compile("^Test silent"))
        button.click()
        expect(button).to_contain_text("Testing…")
        expect(button).to_be_disabled()
        page.get_by_role("checkbox", name="Choose silent").check()  # the rest of the page goes on
        expect(page.locator(".connection-result")).to_contain_text("did not answer in time", timeout=40_000)
        expect(page.get_by_role("checkbox", name="Choose silent")).to_be_checked()


def test_the_lines_of_an_endpoint_are_copied(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/endpoints")
    page.locator("#anthropic-lines").locator("xpath=../..").get_by_role("button", name="Copy").click()
    expect(page.locator("#anthropic-lines").locator("xpath=../..")).to_contain_text("Copied")
    page.locator("summary", has_text="Paths").first.click()
    expect(page.get_by_text("/v1/chat/completions", exact=True)).to_be_visible()
    visitors.look(page)
