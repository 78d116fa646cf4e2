"""Health, settings, access tokens and backups as a visitor uses them."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.visitors import ALL_LOOKS, PHONE, Visitors

TABS = ("general", "appearance", "ai", "security", "routing", "resilience", "advanced")


def test_health_is_usable_by_all(visitors: Visitors) -> None:
    assert visitors.faults_at("/dashboard/health", looks=ALL_LOOKS) == []


def test_every_tab_is_usable_by_all(visitors: Visitors) -> None:
    assert visitors.faults_at(*(f"/dashboard/settings?tab={tab}" for tab in TABS)) == []


def test_a_setting_is_found_changed_and_reset(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/settings")
    page.get_by_label("Search all settings").fill("connecting")
    page.get_by_label("Search all settings").press("Enter")
    page.get_by_role("link", name="Connecting, ms").click()
    field = page.get_by_label("Connecting, ms")
    field.fill("soon")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved.")
    expect(field).to_have_value("soon")
    visitors.look(page)
    field.fill("5000")
    field.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("Saved: Connecting, ms.")
    page.get_by_role("button", name="Reset Connecting, ms").click()
    expect(page.get_by_label("Connecting, ms")).to_have_value("10000")


def test_the_look_changes_without_a_script(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/settings?tab=appearance", has_script=False)
    page.get_by_role("radio", name="Rose").check()
    page.get_by_role("button", name="Save").first.click()
    expect(page.locator("html")).to_have_attribute("data-accent", "rose")
    page.get_by_role("button", name="Reset Accent colour").click()
    expect(page.locator("html")).to_have_attribute("data-accent", "blue")


def test_a_purge_is_confirmed_and_the_database_is_cared_for(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/settings?tab=general")
    page.get_by_role("button", name="Show how many").click()
    expect(page.get_by_role("heading", name=re.compile("^Purge:"))).to_be_visible()
    visitors.look(page)
    page.get_by_role("link", name="Keep them").click()
    page.get_by_role("button", name="Give unused pages back").click()
    expect(page.locator("#work")).to_contain_text("The database was", timeout=15_000)


def test_rules_for_names_are_made_and_tested(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/settings?tab=routing")
    aliases = page.locator("#aliases")
    aliases.get_by_label("Name or pattern").fill("gpt-*")
    aliases.get_by_label("Model").fill("sandbox/echo")
    aliases.get_by_role("button", name="Save the alias").click()
    expect(aliases.get_by_role("cell", name="gpt-*", exact=True)).to_be_visible()
    page.get_by_label("Name of a model, as a client sends it").fill("gpt-5")
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#tester")).to_contain_text("sandbox/echo")
    visitors.look(page)
    aliases.get_by_role("button", name="Remove gpt-*").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator("#aliases")).to_contain_text("No alias yet.")


def test_a_token_is_made_shown_once_and_revoked(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/settings/access-tokens")
    page.get_by_label("Name", exact=True).fill("laptop")
    page.get_by_role("button", name="Create the token").click()
    expect(page.locator("#new-token")).to_have_text(re.compile("^oma_live_"))
    visitors.look(page)
    page.set_viewport_size({"width": PHONE, "height": 900})
    visitors.look(page)
    page.get_by_role("link", name="I have saved it").click()
    expect(page.locator("#new-token")).to_have_count(0)
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status").first).to_contain_text("The token is revoked.")


def test_a_backup_is_made_and_restored_by_its_name(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/backups", has_script=False)
    page.get_by_role("button", name="Back up now").click()
    expect(page.get_by_role("status").first).to_contain_text("backup")
    page = visitors.visit("/dashboard/backups")
    visitors.look(page)
    page.set_viewport_size({"width": PHONE, "height": 900})
    visitors.look(page)
    page.get_by_role("link", name="Restore").first.click()
    visitors.look(page)
    name = page.locator("dd code").first.inner_text()
    page.get_by_label("Name of the backup").fill("yes")
    page.get_by_role("button", name="Restore it").click()
    expect(page.get_by_role("alert")).to_contain_text("The name is not right.")
    page.get_by_label("Name of the backup").fill(name)
    page.get_by_role("button", name="Restore it").click()
    expect(page.get_by_role("status").first).to_contain_text("The backup is in force.", timeout=20_000)
