"""What surrounds every page: menu, search, palette, themes, languages, and what happens when a session ends."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.visitors import ALL_LOOKS, PHONE, Visitors
from tests.e2e.processes import PASSWORD, Server


def test_home_is_usable_by_all(visitors: Visitors) -> None:
    assert visitors.faults_at("/dashboard", looks=ALL_LOOKS) == []


def test_the_login_is_usable_by_all_and_leads_on(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/account", is_logged_in=False)
    visitors.look(page)
    page.get_by_label("Password", exact=True).fill("not the password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("The password is not right.")
    page.get_by_role("button", name="Show the password").click()
    expect(page.get_by_label("Password", exact=True)).to_have_attribute("type", "text")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile("/dashboard/account$"))


def test_the_palette_goes_where_it_is_told(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/account")
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog").get_by_role("combobox")
    palette.fill("hom")
    expect(page.get_by_role("dialog").get_by_role("option").first).to_contain_text("Home")
    visitors.look(page)
    palette.press("Enter")
    expect(page).to_have_url(re.compile("/dashboard$"))


def test_the_search_works_without_a_script(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard", has_script=False)
    page.get_by_role("searchbox").fill("home")
    page.get_by_role("searchbox").press("Enter")
    page.get_by_role("main").get_by_role("link", name="Home").click()
    expect(page).to_have_url(re.compile("/dashboard$"))


def test_the_menu_of_a_phone_opens_and_closes(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/account", width=PHONE)
    home = page.get_by_label("Pages of the dashboard").get_by_role("link", name="Home")
    expect(home).not_to_be_visible()
    page.get_by_role("checkbox", name="Menu").check(force=True)
    expect(home).to_be_visible()
    visitors.look(page)
    page.keyboard.press("Escape")
    expect(home).not_to_be_visible()


def test_the_theme_is_remembered(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard")
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")


def test_the_language_is_the_browsers_until_another_is_chosen(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard", language="de-AT")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.locator("summary.tool").click()
    page.locator("#language").select_option("ja")
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    plain = visitors.visit("/dashboard", has_script=False)
    plain.locator("summary.tool").click()
    plain.locator("#language").select_option("nl")
    plain.locator("noscript button").click()
    expect(plain.locator("html")).to_have_attribute("lang", "nl")


def test_a_form_outlives_its_session(visitors: Visitors, server: Server) -> None:
    page = visitors.visit("/dashboard/account")
    page.context.clear_cookies()
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("another-good-password-2")
    page.get_by_label("New password again").fill("another-good-password-2")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("alert")).to_contain_text("The session has ended.")
    assert PASSWORD not in page.content()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are logged in again")
    assert server.api("GET", "/api/auth/status")["authenticated"]


@pytest.mark.parametrize("language", ["de-DE", "es-ES", "fr-FR", "ja-JP", "nl-NL", "pt-BR", "zh-CN"])
def test_pages_of_all_languages_fit_on_a_small_phone(visitors: Visitors, language: str) -> None:
    for path in ("/dashboard", "/dashboard/settings?tab=appearance"):
        page = visitors.visit(path, language=language, width=320)
        expect(page.locator("html")).not_to_have_attribute("lang", "en")
        wide, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= shown, (path, language, wide)


def test_the_layout_can_be_turned_for_languages_from_right_to_left(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard")
    page.evaluate("document.documentElement.dir = 'rtl'")
    menu, content = page.locator("#menu").bounding_box(), page.locator("#content").bounding_box()
    assert menu is not None
    assert content is not None
    assert menu["x"] > content["x"]
    visitors.look(page)


def test_a_lost_connection_is_said_and_nothing_is_sent_meanwhile(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/account")
    page.context.set_offline(True)
    expect(page.locator("#connection-lost")).to_be_visible()
    expect(page.get_by_role("button", name="Change the password")).to_be_disabled()
    page.get_by_label("Present password").fill("typed meanwhile")
    page.context.set_offline(False)
    expect(page.locator("#connection-lost")).not_to_be_visible()
    expect(page.get_by_role("button", name="Change the password")).to_be_enabled()
    expect(page.get_by_label("Present password")).to_have_value("typed meanwhile")


def test_an_installed_dashboard_says_that_the_server_cannot_be_reached(browser: Browser, server: Server) -> None:
    context = browser.new_context(base_url=server.url)
    try:
        page = context.new_page()
        page.goto("/login")
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        page.reload()
        context.set_offline(True)
        page.goto("/dashboard")
        expect(page.get_by_role("heading", level=1)).to_have_text("Server not reachable")
    finally:
        context.close()


def test_a_block_whose_session_has_ended_leaves_the_page_and_offers_the_login(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard")
    page.context.clear_cookies()
    page.evaluate("window.htmx.trigger(document.getElementById('now'), 'refresh')")
    expect(page.locator(".toasts")).to_contain_text("The session has ended.")
    page.locator(".toasts").get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(r"/login\?next=%2Fdashboard$"))
