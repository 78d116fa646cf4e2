"""Combos and Auto Combo as somebody uses them: with a script and without, wide and on a phone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visitors import PHONE, Visitors
from tests.e2e.processes import Server


@pytest.fixture(scope="module")
def combos(server: Server) -> dict[str, dict[str, Any]]:
    """Two combos to look at, by name."""
    made = [
        server.api("POST", "/api/combos", {"name": "first", "models": ["sandbox/fail-500", "sandbox/echo"]}),
        server.api("POST", "/api/combos", {"name": "second", "models": ["sandbox/story", "nowhere/model"]}),
    ]
    server.settle()
    return {one["name"]: one for one in made}


def targets(page: Page) -> list[str]:
    return page.locator(".combo-step-name > .strong").all_inner_texts()


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/combos",
        "/dashboard/combos/new?model=sandbox/echo&model=nowhere/x",
        "/dashboard/combos/{first}?drill=1&fail=sandbox/echo",
        "/dashboard/combos/{second}/edit",
        "/dashboard/auto-combo?channel=auto/coding&simulate=1",
    ],
)
def test_every_page_is_usable_by_all(visitors: Visitors, combos: dict[str, dict[str, Any]], path: str) -> None:
    path = path.format(**{name: one["id"] for name, one in combos.items()})
    page = visitors.visit(path)
    for folded in page.locator("main details.more").all():
        folded.locator("summary").first.click()
    assert visitors.faults(page) == []
    assert visitors.faults_at(path, looks=[("dark", PHONE)]) == []


def test_a_combo_is_made_moved_weighed_and_saved(visitors: Visitors, server: Server) -> None:
    page = visitors.visit("/dashboard/combos/new")
    page.get_by_label("Name", exact=True).fill("by hand")
    page.get_by_label("Add a model, a combo or a channel").fill("sandbox/sto")
    page.get_by_role("button", name="Add sandbox/story", exact=True).click()
    expect(page.locator(".combo-step")).to_have_count(1)
    expect(page.get_by_label("Name", exact=True)).to_have_value("by hand")
    page.get_by_role("button", name="auto/fast", exact=True).click()
    expect(page.locator(".combo-step")).to_have_count(2)
    expect(page.locator("#combo_check")).to_contain_text("All prices are known.")
    page.get_by_role("button", name="Move auto/fast up").click()
    assert targets(page) == ["auto/fast", "sandbox/story"]
    expect(page.locator("#reorder-said")).to_contain_text("auto/fast is now 1 of 2")
    page.get_by_role("radio", name=re.compile("^Weighted")).check()
    page.get_by_role("button", name="Distribute weights evenly").click()
    expect(page.get_by_label("Weight of sandbox/story")).to_have_value("50")
    assert targets(page) == ["auto/fast", "sandbox/story"], "the order that was made by hand is kept"
    visitors.look(page)
    page.get_by_role("button", name="Make the combo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("by hand")
    [made] = server.api("GET", "/api/combos?q=by%20hand")["combos"]
    assert (made["strategy"], [step["weight"] for step in made["models"]]) == ("weighted", [50, 50])
    server.api("DELETE", f"/api/combos/{made['id']}")


def test_a_wrong_name_is_marked_and_nothing_is_lost(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/combos/new?model=sandbox/echo")
    page.get_by_label("Name", exact=True).fill("auto")
    page.get_by_label("Description").fill("kept")
    page.get_by_role("button", name="Make the combo").click()
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Description")).to_have_value("kept")
    expect(page.get_by_role("alert").filter(has_text="Nothing was saved.")).to_be_focused()
    visitors.look(page)


def test_the_order_of_cards_is_changed_by_keyboard_and_kept(
    visitors: Visitors, server: Server, combos: dict[str, dict[str, Any]]
) -> None:
    assert combos
    page = visitors.visit("/dashboard/combos")
    page.get_by_role("button", name="Move second up").press("Enter")
    expect(page.locator(".toasts")).to_contain_text("The order is saved.")
    assert [one["name"] for one in server.api("GET", "/api/combos")["combos"]][:2] == ["second", "first"]
    page.get_by_role("button", name="Move second down").press("Enter")
    expect(page.locator(".toasts .notice")).to_have_count(2)
    assert [one["name"] for one in server.api("GET", "/api/combos")["combos"]][:2] == ["first", "second"]


def test_a_combo_is_tested_and_deleted_after_a_question(visitors: Visitors, server: Server) -> None:
    made = server.api("POST", "/api/combos", {"name": "short-lived", "models": ["sandbox/echo"]})
    page = visitors.visit(f"/dashboard/combos/{made['id']}")
    page.get_by_role("button", name="Test the targets").click()
    expect(page.get_by_role("heading", name="Test results")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("Delete the combo short-lived?")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").first).to_contain_text("The combo short-lived is deleted.")


def test_a_combo_is_made_and_overtaken_without_a_script(visitors: Visitors, server: Server) -> None:
    page = visitors.visit("/dashboard/combos/new", has_script=False, width=PHONE)
    page.get_by_label("Name", exact=True).fill("plain")
    page.get_by_label("Add a model, a combo or a channel").fill("sandbox/echo")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("button", name="Add sandbox/echo", exact=True).click()
    page.get_by_role("button", name="auto/cheap", exact=True).click()
    page.get_by_role("button", name="Move auto/cheap up").click()
    assert targets(page) == ["auto/cheap", "sandbox/echo"]
    page.get_by_role("button", name="Make the combo").click()
    page.get_by_role("link", name="Edit").click()
    [made] = server.api("GET", "/api/combos?q=plain")["combos"]
    server.api("PUT", f"/api/combos/{made['id']}", {"description": "theirs"})
    page.get_by_label("Description").fill("mine")
    page.get_by_role("button", name="Save the combo").click()
    expect(page.get_by_role("alert")).to_contain_text("This combo was changed while you worked on it")
    expect(page.get_by_role("cell", name="theirs")).to_be_visible()
    page.get_by_role("button", name="Save mine anyway").click()
    assert server.api("GET", f"/api/combos/{made['id']}")["description"] == "mine"
    server.api("DELETE", f"/api/combos/{made['id']}")


def test_sliders_and_numbers_of_a_channel_move_together(visitors: Visitors, server: Server) -> None:
    page = visitors.visit("/dashboard/auto-combo?channel=auto/smart")
    page.get_by_label("Weight of Cost").fill("0.5")
    expect(page.get_by_label("Cost", exact=True)).to_have_value("0.5")
    page.get_by_label("Latency", exact=True).fill("1")
    expect(page.get_by_label("Weight of Latency")).to_have_value("1")
    expect(page.locator("[data-weights-sum]")).to_have_text("2.44")
    page.get_by_role("button", name="Save the channel").click()
    expect(page.get_by_role("status").first).to_contain_text("The channel auto/smart is saved.")
    weights = server.api("GET", "/api/combos/auto/auto/smart")["weights"]
    assert weights["latency"] > weights["cost"] > 0.2
