"""What a visitor orders under Settings, Backups, Access Tokens and his account, and what comes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Opener
from tests.browser.visitors import Visitors
from tests.e2e.processes import PASSWORD, Server, running_server, wait_until

Sure = Callable[[Page], None]
_SLOW_MS = 20_000


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for what would disturb others; it believes `X-Forwarded-For`, so that a visitor can be far away."""
    with running_server(tmp_path_factory.mktemp("apart") / "data", OMNIROUTE_TRUST_PROXY="1") as running:
        yield running


@pytest.fixture
def opened_apart(opened: Opener, visitors: Visitors, apart: Server) -> Opener:
    """Open pages of that server."""
    visitors.server = apart
    return opened


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of this visitor's own."""
    return "scripted" if request.node.callspec.params["opened"] else "plain"


@pytest.fixture
def sure(name: str) -> Sure:
    """Answer the page's question; without a script the form is sent at once."""

    def answer(page: Page) -> None:
        if name == "scripted":
            page.get_by_role("dialog").locator("button[value=yes]").click()

    return answer


def said(page: Page) -> Locator:
    """Return what the page says was done."""
    return page.get_by_role("status").first


def look(visitors: Visitors, page: Page, name: str) -> None:
    """Hold a state to what every page must; the rules are read by a script."""
    if name == "scripted":
        visitors.look(page)


def routing(server: Server) -> dict[str, Any]:
    """Return the settings of routing."""
    found: dict[str, Any] = server.api("GET", "/api/settings")["settings"]["routing"]
    return found


def test_an_address_is_kept_out_and_let_in(opened: Opener, server: Server) -> None:
    page = opened("/dashboard/settings?tab=security")
    form = page.locator("#addresses")
    form.get_by_label("Address or network").fill("the neighbour")
    form.get_by_role("button", name="Keep out").click()
    expect(form.get_by_role("alert")).to_contain_text("Nothing was saved.")
    expect(form.get_by_label("Address or network")).to_have_value("the neighbour")
    form.get_by_label("Address or network").fill("192.0.2.7")
    form.get_by_label("Minutes").fill("15")
    form.get_by_label("Reason").fill("noise")
    form.get_by_role("button", name="Keep out").click()
    expect(said(page)).to_contain_text("The address is kept out.")
    (ban,) = server.api("GET", "/api/settings/ip-filter")["tempBans"]
    assert (ban["address"], ban["reason"]) == ("192.0.2.7/32", "noise")
    form.get_by_role("button", name="Let in").click()
    expect(said(page)).to_contain_text("The address is let in again.")
    assert server.api("GET", "/api/settings/ip-filter")["tempBans"] == []


def test_callers_are_filtered_by_address(opened: Opener, server: Server) -> None:
    page = opened("/dashboard/settings?tab=security")
    form = page.locator("#addresses")
    form.get_by_label("Addresses and networks").fill("192.0.2.7\nsomewhere")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("Nothing was saved.")
    form.get_by_label("Addresses and networks").fill("192.0.2.7\n2001:db8::/32")
    form.get_by_label("Filter callers by address").check()
    form.get_by_label("The list").select_option("allow")
    form.get_by_role("button", name="Save").click()
    expect(said(page)).to_contain_text("The filter is saved.")
    found = server.api("GET", "/api/settings/ip-filter")
    assert (found["enabled"], found["mode"], len(found["list"])) == (True, "allow", 2)
    server.api("PUT", "/api/settings/ip-filter", {"enabled": False, "mode": "allow", "list": []})
    server.api("PUT", "/api/settings/ip-filter", {"enabled": False, "mode": "block", "list": []})


def test_a_visitor_from_afar_locks_himself_out_only_on_purpose(
    opened_apart: Opener, visitors: Visitors, apart: Server, name: str
) -> None:
    page = opened_apart("/dashboard/settings?tab=security")
    page.context.set_extra_http_headers({"X-Forwarded-For": "198.51.100.7"})
    form = page.locator("#addresses")
    form.get_by_label("Addresses and networks").fill("198.51.100.0/24")
    form.get_by_label("Filter callers by address").check()
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("would_lock_out")
    look(visitors, page, name)
    assert apart.api("GET", "/api/settings/ip-filter")["enabled"] is False
    form.get_by_label("Save it although it keeps me out").check()
    form.get_by_role("button", name="Save").click()
    expect(page.locator("body")).to_contain_text("This address may not use the server.")
    apart.api("PUT", "/api/settings/ip-filter", {"enabled": True, "mode": "block", "list": []})
    page.goto("/dashboard/settings?tab=security")
    form.get_by_label("Address or network").fill("198.51.100.7")
    form.get_by_role("button", name="Keep out").click()
    expect(form.get_by_role("alert")).to_contain_text("would_lock_out")
    form.get_by_label("Although it keeps me out").check()
    form.get_by_role("button", name="Keep out").click()
    expect(page.locator("body")).to_contain_text("This address may not use the server.")
    apart.api("PATCH", "/api/settings/ip-filter", {"enabled": False, "tempBans": []})


def test_a_locked_address_may_try_again(opened_apart: Opener, apart: Server, name: str) -> None:
    address = {"scripted": "203.0.113.7", "plain": "203.0.113.8"}[name]
    headers = {"X-Forwarded-For": address}
    for _ in range(5):
        requests.post(f"{apart.url}/api/auth/login", json={"password": "guessed"}, headers=headers, timeout=10)
    if name == "scripted":
        page = opened_apart("/dashboard/settings?tab=security")
        row = page.locator("#locked").get_by_role("listitem").filter(has_text=address)
        expect(row).to_contain_text("5 failed logins and guessed keys")
        row.get_by_role("button", name="Unlock").click()
    else:
        page = opened_apart("/dashboard/health")
        page.get_by_role("button", name=f"Let {address} try again").click()
    expect(said(page)).to_contain_text("The address may try again.")
    assert address not in [row["identifier"] for row in apart.api("GET", "/api/policies")["locked"]]


def test_the_login_is_switched_off_and_on(opened_apart: Opener, apart: Server, sure: Sure) -> None:
    page = opened_apart("/dashboard/settings?tab=security")
    form = page.locator("#login")
    form.get_by_label("Password").fill("not the password")
    form.get_by_role("button", name="Switch the login off").click()
    expect(form.get_by_role("alert")).to_contain_text("The password is not right.")
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button", name="Switch the login off").click()
    expect(said(page)).to_contain_text("Visitors on this host need no login now.")
    assert requests.get(f"{apart.url}/api/settings", timeout=10).status_code == 200
    page.context.clear_cookies()
    page.goto("/dashboard/settings?tab=general")
    page.get_by_role("button", name="Restart").click()
    sure(page)
    expect(page.get_by_role("alert")).to_contain_text("This needs a login, although pages open without one.")
    page.get_by_role("alert").get_by_role("link", name="Log in").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{apart.url}/dashboard/settings?tab=general")
    page.context.clear_cookies()
    page.goto("/dashboard/settings?tab=security")
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button", name="Log in").click()
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button", name="Ask for a login").click()
    expect(said(page)).to_contain_text("A login is needed now.")
    assert requests.get(f"{apart.url}/api/settings", timeout=10).status_code == 401


def test_accounts_take_turns_as_chosen(opened: Opener, server: Server) -> None:
    page = opened("/dashboard/settings?tab=routing")
    form = page.locator("#accounts")
    form.get_by_label("Worth leaving a warm cache for").fill("seven")
    form.get_by_label("Order of accounts").select_option("round-robin")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("Nothing was saved.")
    expect(form.get_by_label("Worth leaving a warm cache for")).to_have_value("seven")
    form.get_by_label("Worth leaving a warm cache for").fill("0.25")
    form.get_by_label("Requests before the turn moves on").fill("7")
    form.get_by_label("Follow prompt caches").uncheck()
    form.get_by_role("button", name="Save").click()
    expect(said(page)).to_contain_text("The order of accounts is saved.")
    found = routing(server)
    assert (found["accountStrategy"], found["stickyLimit"], found["switchMargin"]) == ("round-robin", 7, 0.25)
    assert found["cacheAffinity"] is False
    form.get_by_label("Order of accounts").select_option("fill-first")
    form.get_by_label("Worth leaving a warm cache for").fill("")
    form.get_by_label("Requests before the turn moves on").fill("")
    form.get_by_label("Follow prompt caches").check()
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_label("Requests before the turn moves on")).to_have_value("3")


def test_a_provider_has_a_rule_of_its_own(opened: Opener, server: Server) -> None:
    page = opened("/dashboard/settings?tab=routing")
    rules = page.locator("#provider-rules")
    rules.get_by_label("Provider", exact=True).fill("openai")
    rules.get_by_label("Requests before the turn moves on").fill("many")
    rules.get_by_role("button", name="Save the rule").click()
    expect(rules.get_by_role("alert")).to_contain_text("Nothing was saved.")
    rules.get_by_label("Requests before the turn moves on").fill("4")
    rules.get_by_label("Order of its accounts").select_option("random")
    rules.get_by_label("Block it").check()
    rules.get_by_role("button", name="Save the rule").click()
    expect(rules.get_by_role("listitem").filter(has_text="openai")).to_contain_text("blocked")
    rule = routing(server)["providers"]["openai"]
    assert (rule["accountStrategy"], rule["stickyLimit"], rule["blocked"]) == ("random", 4, True)
    rules.get_by_role("button", name="Remove the rule").click()
    expect(said(page)).to_contain_text("The provider follows the rule for all again.")
    expect(rules).to_contain_text("All providers follow the rule above.")
    assert routing(server)["providers"] == {}


def test_an_alias_is_made_switched_and_removed(opened: Opener, server: Server, name: str, sure: Sure) -> None:
    page = opened("/dashboard/settings?tab=routing")
    aliases = page.locator("#aliases")
    aliases.get_by_label("Name or pattern").fill(f"{name}-*")
    aliases.get_by_label("Model").fill("sandbox/echo")
    aliases.get_by_label("Priority").fill("high")
    aliases.get_by_role("button", name="Save the alias").click()
    expect(aliases.get_by_role("alert")).to_contain_text("Nothing was saved.")
    aliases.get_by_label("Priority").fill("3")
    aliases.get_by_role("button", name="Save the alias").click()
    expect(said(page)).to_contain_text("The alias is saved.")
    aliases.get_by_role("button", name=f"Switch {name}-* off").click()
    expect(aliases.get_by_role("button", name=f"Switch {name}-* on")).to_be_visible()
    (row,) = server.api("GET", f"/api/models/alias?q={name}")["aliases"]
    assert (row["target"], row["priority"], row["enabled"]) == ("sandbox/echo", 3, False)
    aliases.get_by_role("link", name=f"Edit {name}-*").click()
    expect(aliases.get_by_text(f"Changes “{name}-*”")).to_be_visible()
    aliases.get_by_label("Name or pattern").fill(f"{name}-?")
    aliases.get_by_role("button", name="Save the alias").click()
    expect(said(page)).to_contain_text("The alias is saved.")
    (row,) = server.api("GET", f"/api/models/alias?q={name}")["aliases"]
    assert (row["pattern"], row["priority"], row["enabled"]) == (f"{name}-?", 3, False)
    aliases.get_by_role("button", name=f"Remove {name}-?").click()
    sure(page)
    expect(said(page)).to_contain_text("It is removed.")
    assert server.api("GET", f"/api/models/alias?q={name}")["aliases"] == []


def test_a_pattern_leads_to_a_combo(opened: Opener, server: Server, name: str, sure: Sure) -> None:
    combo = server.api("POST", "/api/combos", {"name": f"combo-{name}", "models": ["sandbox/echo"]})
    page = opened("/dashboard/settings?tab=routing")
    mappings = page.locator("#mappings")
    mappings.get_by_label("Pattern").fill(f"{name}-?")
    mappings.get_by_label("Combo").fill("nobody")
    mappings.get_by_role("button", name="Save the pattern").click()
    expect(mappings.get_by_role("alert")).to_contain_text("Nothing was saved.")
    expect(mappings.get_by_label("Combo")).to_have_attribute("aria-invalid", "true")
    mappings.get_by_label("Combo").fill(f"combo-{name}")
    mappings.get_by_role("button", name="Save the pattern").click()
    expect(said(page)).to_contain_text("The pattern is saved.")
    mappings.get_by_role("button", name=f"Switch {name}-? off").click()
    expect(said(page)).to_contain_text("It is off.")
    (row,) = server.api("GET", f"/api/model-combo-mappings?q={name}")["mappings"]
    assert (row["comboId"], row["enabled"]) == (combo["id"], False)
    mappings.get_by_role("button", name=f"Switch {name}-? on").click()
    expect(said(page)).to_contain_text("It is on.")
    mappings.get_by_role("link", name=f"Edit {name}-?").click()
    expect(mappings.get_by_label("Combo")).to_have_value(f"combo-{name}")
    mappings.get_by_role("link", name="Cancel").click()
    expect(mappings.get_by_label("Combo")).to_have_value("")
    mappings.get_by_role("link", name=f"Edit {name}-?").click()
    mappings.get_by_label("Priority").fill("9")
    mappings.get_by_role("button", name="Save the pattern").click()
    expect(said(page)).to_contain_text("The pattern is saved.")
    (row,) = server.api("GET", f"/api/model-combo-mappings?q={name}")["mappings"]
    assert (row["pattern"], row["priority"]) == (f"{name}-?", 9)
    mappings.get_by_role("button", name=f"Remove {name}-?").click()
    sure(page)
    expect(said(page)).to_contain_text("It is removed.")
    server.api("DELETE", f"/api/combos/{combo['id']}")


def test_a_fallback_chain_is_made_switched_and_removed(
    opened: Opener, server: Server, visitors: Visitors, name: str, sure: Sure
) -> None:
    page = opened("/dashboard/settings?tab=routing")
    chains = page.locator("#chains")
    chains.get_by_label("Name", exact=True).fill(name)
    chains.get_by_label("For requests of these models").fill(f"{name}/*")
    chains.get_by_label("Models to try").fill("sandbox/*")
    chains.get_by_role("button", name="Save the chain").click()
    expect(chains.get_by_role("alert")).to_contain_text("Nothing was saved.")
    expect(chains.get_by_label("For requests of these models")).to_have_value(f"{name}/*")
    chains.get_by_label("Models to try").fill("sandbox/echo\nsandbox/story")
    chains.get_by_role("button", name="Save the chain").click()
    expect(said(page)).to_contain_text("The chain is saved.")
    (row,) = server.api("GET", f"/api/fallback/chains?q={name}")["chains"]
    assert (row["match"], row["models"]) == ([f"{name}/*"], ["sandbox/echo", "sandbox/story"])
    chains.get_by_role("button", name=f"Switch {name} off").click()
    expect(said(page)).to_contain_text("It is off.")
    chains.get_by_role("button", name=f"Switch {name} on").click()
    expect(said(page)).to_contain_text("It is on.")
    chains.get_by_role("link", name=f"Edit {name}").click()
    expect(chains.get_by_label("Models to try")).to_have_value("sandbox/echo\nsandbox/story")
    chains.get_by_label("Models to try").fill("sandbox/*")
    chains.get_by_role("button", name="Save the chain").click()
    expect(chains.get_by_role("alert")).to_contain_text("Nothing was saved.")
    expect(chains.get_by_text(f"Changes “{name}”")).to_be_visible()
    look(visitors, page, name)
    chains.get_by_label("Models to try").fill("sandbox/story")
    chains.get_by_role("button", name="Save the chain").click()
    expect(said(page)).to_contain_text("The chain is saved.")
    (changed,) = server.api("GET", f"/api/fallback/chains?q={name}")["chains"]
    assert (changed["id"], changed["match"], changed["models"]) == (row["id"], [f"{name}/*"], ["sandbox/story"])
    chains.get_by_role("button", name=f"Remove {name}").click()
    sure(page)
    expect(said(page)).to_contain_text("It is removed.")
    assert server.api("GET", f"/api/fallback/chains?q={name}")["chains"] == []


def test_combos_have_defaults(opened: Opener, server: Server) -> None:
    page = opened("/dashboard/settings?tab=routing")
    form = page.locator("#combo-defaults")
    form.get_by_text("Retries and time").click()
    form.get_by_label("Retries of one target").fill("many")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("Nothing was saved.")
    form.get_by_label("Retries of one target").fill("2")
    form.get_by_label("Strategy", exact=True).select_option("round-robin")
    form.get_by_role("button", name="Save").click()
    expect(said(page)).to_contain_text("The defaults of combos are saved.")
    found = server.api("GET", "/api/settings/combo-defaults")
    assert (found["strategy"], found["config"]) == ("round-robin", {"maxRetries": 2})
    form.get_by_text("Retries and time").click()
    form.get_by_label("Retries of one target").fill("")
    form.get_by_label("Strategy", exact=True).select_option("priority")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_label("Strategy", exact=True)).to_have_value("priority")
    assert server.api("GET", "/api/settings/combo-defaults")["config"] == {}


def test_resilience_follows_a_profile_and_values_of_ones_own(opened: Opener, server: Server, sure: Sure) -> None:
    page = opened("/dashboard/settings?tab=resilience")
    page.get_by_label("A whole set of values").select_option("conservative")
    page.get_by_role("button", name="Use this profile").click()
    expect(said(page)).to_contain_text("The profile is in force")
    assert server.api("GET", "/api/resilience/fields")["profile"] == "conservative"
    page.get_by_role("button", name="Save", exact=True).click()
    expect(said(page)).to_contain_text("Nothing was changed.")
    limit = page.get_by_label("Requests per minute")
    limit.fill("many")
    page.get_by_label("Learn limits from answers").uncheck()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved.")
    expect(limit).to_have_attribute("aria-invalid", "true")
    limit.fill("120")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(said(page)).to_contain_text("The settings of resilience are saved.")
    fields = {row["path"]: row["value"] for row in server.api("GET", "/api/resilience/fields")["fields"]}
    assert fields["requestQueue.requestsPerMinute"] == 120
    assert fields["rateLimitDetection.enabled"] is False
    page.get_by_label("A whole set of values").select_option("balanced")
    page.get_by_role("button", name="Use this profile").click()
    sure(page)
    expect(said(page)).to_contain_text("The profile is in force")
    expect(limit).to_have_value("0")


def test_flags_are_switched_and_given_back(opened: Opener, server: Server) -> None:
    page = opened("/dashboard/settings?tab=advanced")
    flags = page.locator("#flags")
    flags.get_by_role("button", name="Save").click()
    expect(said(page)).to_contain_text("Nothing was changed.")
    flags.get_by_label("Metrics").check()
    flags.get_by_role("button", name="Save").click()
    expect(said(page)).to_contain_text("Saved: Metrics.")
    stored = {flag["key"]: flag["value"] for flag in server.api("GET", "/api/settings/feature-flags")["flags"]}
    assert stored["metrics"] is True
    flags.get_by_role("button", name="All to their defaults").click()
    expect(said(page)).to_contain_text("All flags are what they were at first.")
    expect(flags.get_by_label("Metrics")).not_to_be_checked()


def test_models_without_a_price_are_let_pass(opened: Opener, server: Server) -> None:
    page = opened("/dashboard/settings?tab=general")
    form = page.locator("#spending")
    choice = form.get_by_label("Requests for models of which nobody knows the price")
    choice.select_option("allow")
    form.get_by_role("button", name="Save").click()
    expect(said(page)).to_contain_text("Saved.")
    expect(choice).to_have_value("allow")
    assert server.api("GET", "/api/settings")["settings"]["budgets"]["unpriced"] == "allow"
    server.api("PATCH", "/api/settings", {"budgets": {"unpriced": "refuse"}})


def test_a_configuration_is_shown_and_applied(opened: Opener, server: Server, name: str, tmp_path: Path) -> None:
    page = opened("/dashboard/settings?tab=advanced")
    form = page.locator("#configuration")
    form.get_by_label("Or the document itself").fill("{")
    form.get_by_role("button", name="Show what would change").click()
    expect(form.get_by_role("alert")).to_contain_text("The document cannot be read.")
    form.get_by_label("Or the document itself").fill('{"version": 1, "settings": {"general": {"shape": "round"}}}')
    form.get_by_role("button", name="Show what would change").click()
    expect(form.get_by_role("alert")).to_contain_text("Nothing was saved.")
    alias = {"pattern": f"brought-{name}", "target": "sandbox/echo"}
    document = tmp_path / "omniroute-settings.json"
    document.write_text(json.dumps({"version": 1, "aliases": [alias]}), encoding="utf-8")
    form.get_by_label("File").set_input_files(document)
    form.get_by_role("button", name="Show what would change").click()
    expect(form.get_by_role("status")).to_contain_text("1 thing would change")
    assert server.api("GET", f"/api/models/alias?q=brought-{name}")["aliases"] == []
    form.get_by_role("button", name="Apply it").click()
    expect(said(page)).to_contain_text("1 change was made.")
    (row,) = server.api("GET", f"/api/models/alias?q=brought-{name}")["aliases"]
    assert row["target"] == "sandbox/echo"
    server.api("DELETE", f"/api/models/alias?id={row['id']}")


def test_the_database_is_checked_and_repaired(opened: Opener, name: str, sure: Sure) -> None:
    page = opened("/dashboard/settings?tab=general")
    page.get_by_role("button", name="Check", exact=True).click()
    expect(said(page)).to_contain_text("The database is whole; looked at in")
    page.goto("/dashboard/settings?tab=general")
    page.get_by_role("button", name="Check thoroughly").click()
    expect(said(page)).to_contain_text("The database is whole; looked at in")
    page.get_by_role("button", name="Repair").click()
    sure(page)
    work = page.locator("#work")
    expect(work).to_be_visible()
    if name == "plain":
        page.reload()
    expect(work).to_contain_text("The database is whole.", timeout=_SLOW_MS)


def test_old_requests_are_purged(opened: Opener, server: Server) -> None:
    key = server.new_key()
    body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {key}"}
    assert requests.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=20).status_code == 200
    wait_until(server.logs, within_s=10, what="the request is logged")
    page = opened("/dashboard/settings?tab=general")
    form = page.locator("#purge")
    form.get_by_label("Older than, days").fill("always")
    form.get_by_role("button", name="Show how many").click()
    expect(form.get_by_role("alert")).to_contain_text("Nothing was saved.")
    form.get_by_label("Older than, days").fill("0")
    form.get_by_role("button", name="Show how many").click()
    page.get_by_role("button", name=re.compile(r"^Remove \d+ rows?$")).click()
    expect(said(page)).to_contain_text("removed.")
    assert server.logs() == []


def test_the_server_is_restarted(opened_apart: Opener, apart: Server, sure: Sure) -> None:
    before = apart.worker_pids()
    page = opened_apart("/dashboard/settings?tab=general")
    page.get_by_role("button", name="Restart").click()
    sure(page)
    expect(said(page)).to_contain_text("The workers are being replaced")
    wait_until(lambda: not set(before) & set(apart.worker_pids()), within_s=20, what="the worker is another")
    page.goto("/dashboard/settings?tab=general")
    expect(page.get_by_role("button", name="Restart")).to_be_visible()


def test_the_server_is_stopped_when_that_is_confirmed(visitors: Visitors, tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        visitors.server = server
        page = visitors.visit("/dashboard/settings?tab=general")
        page.get_by_role("button", name="Shut down").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("button", name="Shut down").click()
        page.get_by_role("dialog").get_by_role("button", name="Shut down").click()
        expect(said(page)).to_contain_text("The server stops when the requests in progress are finished.")
        assert server.process.wait(20) == 0


def test_a_token_opens_management_until_it_is_revoked(opened: Opener, server: Server, name: str, sure: Sure) -> None:
    page = opened("/dashboard/settings/access-tokens")
    page.get_by_label("Name", exact=True).fill(f"token-{name}")
    page.get_by_label("Scope").select_option("write")
    page.get_by_label("Ends after").select_option("")
    page.get_by_role("button", name="Create the token").click()
    headers = {"Authorization": f"Bearer {page.locator('#new-token').inner_text()}"}
    assert requests.get(f"{server.url}/api/keys", headers=headers, timeout=10).status_code == 200
    (made,) = [row for row in server.api("GET", "/api/cli/tokens")["tokens"] if row["name"] == f"token-{name}"]
    assert (made["scope"], made["expiresAt"]) == ("write", None)
    page.get_by_role("link", name="I have saved it").click()
    row = page.get_by_role("row").filter(has_text=f"token-{name}")
    expect(row).to_contain_text("active")
    row.get_by_role("button", name="Revoke").click()
    sure(page)
    expect(said(page)).to_contain_text("The token is revoked.")
    assert requests.get(f"{server.url}/api/keys", headers=headers, timeout=10).status_code == 401


def session(server: Server, agent: str) -> requests.Session:
    """Log in from another machine."""
    made = requests.Session()
    made.trust_env = False
    made.headers["User-Agent"] = agent
    assert made.post(f"{server.url}/api/auth/login", json={"password": PASSWORD}, timeout=10).status_code == 200
    return made


def test_sessions_are_ended(opened: Opener, server: Server, name: str, sure: Sure) -> None:
    others = [session(server, f"{machine}-{name}") for machine in ("tablet", "desk")]
    page = opened("/dashboard/account")
    page.get_by_role("row").filter(has_text=f"tablet-{name}").get_by_role("button", name="End").click()
    expect(said(page)).to_contain_text("The session is ended.")
    asked = [other.get(f"{server.url}/api/auth/sessions", timeout=10).status_code for other in others]
    assert asked == [401, 200]
    page.get_by_role("button", name="End all others").click()
    sure(page)
    expect(said(page)).to_contain_text("Other sessions ended: 1.")
    assert others[1].get(f"{server.url}/api/auth/sessions", timeout=10).status_code == 401
    assert server.api("GET", "/api/auth/sessions")["total"] == 1


def test_the_password_is_changed(opened_apart: Opener, apart: Server) -> None:
    apart.api("DELETE", "/api/auth/sessions")
    other = session(apart, "desk")
    page = opened_apart("/dashboard/account")
    changed = "another-password-of-tests-2"

    def change(old: str, new: str, repeated: str) -> None:
        page.get_by_label("Present password").fill(old)
        page.get_by_label("New password", exact=True).fill(new)
        page.get_by_label("New password again").fill(repeated)
        page.get_by_role("button", name="Change the password").click()

    change(PASSWORD, changed, changed + "!")
    expect(page.get_by_role("alert")).to_contain_text("The two new passwords differ.")
    change(PASSWORD, "short", "short")
    expect(page.get_by_label("New password", exact=True)).to_have_attribute("aria-invalid", "true")
    change(PASSWORD, changed, changed)
    expect(said(page)).to_contain_text("The password is changed. Other sessions ended: 1.")
    assert other.get(f"{apart.url}/api/auth/sessions", timeout=10).status_code == 401
    change(changed, PASSWORD, PASSWORD)
    expect(said(page)).to_contain_text("The password is changed. Other sessions ended: 0.")
    apart.api("GET", "/api/auth/sessions")


def test_a_visitor_logs_in_and_out(opened: Opener, server: Server) -> None:
    page = opened("/dashboard/account")
    page.context.clear_cookies()
    page.reload()
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("The password is not right.")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Password and sessions")
    cookies = {one.get("name", ""): one.get("value", "") for one in page.context.cookies()}
    assert requests.get(f"{server.url}/api/auth/sessions", cookies=cookies, timeout=10).status_code == 200
    page.locator("summary").filter(has_text="Account").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    page.goto("/dashboard/account")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    assert requests.get(f"{server.url}/api/auth/sessions", cookies=cookies, timeout=10).status_code == 401


def test_backups_are_kept_by_rules_and_deleted(opened_apart: Opener, apart: Server, sure: Sure) -> None:
    apart.api("PUT", "/api/db-backups")
    apart.new_key()
    page = opened_apart("/dashboard/backups")
    page.get_by_role("button", name="Back up now").click()
    expect(said(page)).to_contain_text("A verified backup was made.")
    rules = page.locator("#rules")
    rules.get_by_label("Schedule").fill("at noon")
    rules.get_by_role("button", name="Save").click()
    expect(rules.get_by_role("alert")).to_contain_text("Nothing was saved.")
    rules.get_by_label("Schedule").fill("0 4 * * 1")
    rules.get_by_label("Backups that are kept").fill("1")
    rules.get_by_role("button", name="Save").click()
    expect(said(page)).to_contain_text("The rules are saved.")
    policy = apart.api("GET", "/api/db-backups")["policy"]
    assert (policy["schedule"], policy["keepLatest"]) == ("0 4 * * 1", 1)
    page.get_by_role("button", name="Clean up").click()
    sure(page)
    expect(said(page)).to_contain_text("deleted.")
    (kept,) = apart.api("GET", "/api/db-backups")["backups"]
    page.get_by_role("button", name=f"Delete {kept['id']}").click()
    sure(page)
    expect(page.locator("body")).to_contain_text("No backup yet")
    assert apart.api("GET", "/api/db-backups")["total"] == 0
    for rule in ("backupCron", "backupKeepLatest"):
        apart.api("PATCH", "/api/settings", {"advanced": {rule: None}})


def has_key(server: Server, wanted: str) -> bool:
    """Tell whether there is a key of this name."""
    return bool(server.api("GET", f"/api/keys?q={wanted}")["keys"])


def test_a_backup_brings_the_data_back(opened_apart: Opener, apart: Server, name: str) -> None:
    apart.new_key(name=f"before-{name}")
    apart.api("PUT", "/api/db-backups")
    backup = apart.api("GET", "/api/db-backups?sort=-createdAt")["backups"][0]["id"]
    apart.new_key(name=f"behind-{name}")
    page = opened_apart("/dashboard/backups")
    page.get_by_role("row").filter(has_text=backup).get_by_role("link", name="Restore").click()
    page.get_by_label("Name of the backup").fill(backup.upper())
    page.get_by_role("button", name="Restore it").click()
    expect(page.get_by_role("alert")).to_contain_text("The name is not right.")
    assert has_key(apart, f"behind-{name}")
    page.get_by_label("Name of the backup").fill(backup)
    page.get_by_role("button", name="Restore it").click()
    expect(said(page)).to_contain_text("The backup is in force.", timeout=_SLOW_MS)
    assert has_key(apart, f"before-{name}")
    assert not has_key(apart, f"behind-{name}")


def test_a_file_takes_the_place_of_the_data(
    opened_apart: Opener, visitors: Visitors, apart: Server, name: str, sure: Sure, tmp_path: Path
) -> None:
    apart.new_key(name=f"exported-{name}")
    good, bad = tmp_path / "export.sqlite", tmp_path / "letter.sqlite"
    good.write_bytes(apart.session.get(f"{apart.url}/api/db-backups/export", timeout=20).content)
    bad.write_text("Dear server,", encoding="utf-8")
    apart.new_key(name=f"after-{name}")
    page = opened_apart("/dashboard/backups")
    form = page.locator("#import")
    form.get_by_label("File (.sqlite)").set_input_files(bad)
    form.get_by_role("button", name="Import").click()
    sure(page)
    expect(form.get_by_role("listitem").filter(has_text="It is a database of SQLite")).to_contain_text("failed")
    look(visitors, page, name)
    form.get_by_label("File (.sqlite)").set_input_files(good)
    form.get_by_role("button", name="Import").click()
    sure(page)
    expect(page.get_by_role("heading", name="The data of export.sqlite is in force")).to_be_visible(timeout=_SLOW_MS)
    assert has_key(apart, f"exported-{name}")
    assert not has_key(apart, f"after-{name}")
