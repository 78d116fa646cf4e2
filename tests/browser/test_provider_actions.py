"""What a visitor does to providers: connecting, changing, removing, proxies, rests; with a script and without one."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from playwright.sync_api import FilePayload, Page, expect

from tests.browser.conftest import Opener
from tests.browser.visitors import KEY, Visitors, said
from tests.e2e.processes import Server, running_server, wait_until

WRONG = "sk-wrong-0123456789abcdef"
DEAD = "http://127.0.0.1:9/v1"
METERED = "metered"
"""The provider that says how much is left."""


class Teller(BaseHTTPRequestHandler):
    """Says how much is left of an account; and, asked as a proxy, which address others see."""

    def do_GET(self) -> None:
        """Answer both from memory."""
        balance = {"is_available": True, "balance_infos": [{"currency": "USD", "total_balance": "12.50"}]}
        body = json.dumps(balance).encode() if self.path.endswith("/balance") else b"203.0.113.7"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_said: Any) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def teller() -> Iterator[int]:
    """The port of a teller."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Teller) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, teller: int) -> Iterator[Server]:
    """A server with a provider that reports quotas, and breakers that open at the first failure."""
    folder = tmp_path_factory.mktemp("dashboard")
    row = {
        "id": METERED,
        "name": "Metered",
        "urls": {"openai_chat": f"http://127.0.0.1:{teller}/v1/chat/completions"},
        "usage_url": f"http://127.0.0.1:{teller}/balance",
        "usage_shape": "deepseek",
        "is_local": True,
    }
    rows = folder / "providers.json"
    rows.write_text(json.dumps({"providers": [row]}), encoding="utf-8")
    environment: dict[str, Any] = {
        "OMNIROUTE_PROVIDERS_FILE": str(rows),
        "OMNIROUTE_PUBLIC_IP_URL": f"http://127.0.0.1:{teller}/ip",
        "PROVIDER_LIMITS_SYNC_INTERVAL_MINUTES": "0",
        "PROVIDER_LIMITS_SYNC_SPACING_MS": "0",
        **{f"OMNIROUTE_CIRCUIT_BREAKER_{kind}_THRESHOLD": "1" for kind in ("LOCAL", "API_KEY")},
        **{f"OMNIROUTE_CIRCUIT_BREAKER_{kind}_RESET_MS": "600000" for kind in ("LOCAL", "API_KEY")},
    }
    with running_server(folder / "data", **environment) as running:
        yield running


@pytest.fixture
def who(request: pytest.FixtureRequest) -> str:
    """A word of this visitor, for names of his own."""
    return str(request.node.callspec.id).partition("-")[0]


AddNode = Callable[..., str]


@pytest.fixture
def add_node(server: Server) -> Iterator[AddNode]:
    """Add an endpoint with a connection for each of the keys, and return its id; it is gone after the test."""
    made: list[str] = []

    def add(prefix: str, address: str, *keys: str) -> str:
        fields = {"name": prefix, "prefix": prefix, "type": "openai-compatible", "baseUrl": address, "isLocal": True}
        node: str = server.api("POST", "/api/provider-nodes", fields)["node"]["id"]
        made.append(node)
        for number, key in enumerate(keys):
            server.api("POST", "/api/providers", {"provider": node, "apiKey": key, "name": f"{prefix}-{number}"})
        return node

    yield add
    for node in made:
        server.api("DELETE", f"/api/provider-nodes/{node}")


def agree(page: Page, who: str, action: str) -> None:
    """Confirm what is asked; only a script asks."""
    if who == "wide":
        page.get_by_role("dialog").get_by_role("button", name=action, exact=True).click()


def look(visitors: Visitors, page: Page, who: str) -> None:
    """Hold the page to what every page must; the tool for that is a script."""
    if who == "wide":
        visitors.look(page)


def connections(server: Server, provider: str) -> dict[str, dict[str, Any]]:
    """Return the connections of a provider by their names."""
    rows = server.api("GET", f"/api/providers?provider={provider}")["connections"]
    return {row["name"]: row for row in rows}


# --- connections -----------------------------------------------------------------------------------------------------


def test_a_connection_is_made_changed_reset_and_removed(
    opened: Opener, add_node: AddNode, server: Server, upstream: str, who: str
) -> None:
    node = add_node(f"one-{who}", upstream)
    page = opened(f"/dashboard/providers/{node}")
    page.get_by_role("main").get_by_role("link", name="Connect", exact=True).first.click()
    page.get_by_label("API key").fill(WRONG)
    page.get_by_label("Name", exact=True).fill("Desk")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved.")
    assert connections(server, node) == {}
    expect(page.get_by_label("Name", exact=True)).to_have_value("Desk")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(said(page)).to_contain_text("Desk is connected and works.")
    page.locator("#rows").get_by_role("link", name="Desk", exact=True).click()
    page.get_by_label("Name", exact=True).fill("Bench")
    page.get_by_label("Group").fill("Team A")
    page.get_by_label("Requests at once").fill("many")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#f-concurrentRequests-fault")).to_be_visible()
    page.get_by_label("Requests at once").fill("4")
    page.get_by_label("Used for requests").uncheck()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(said(page)).to_contain_text("Bench is saved.")
    row = connections(server, node)["Bench"]
    assert (row["group"], row["concurrentRequests"], row["isActive"]) == ("Team A", 4, False)
    page.locator("#rows").get_by_role("link", name="Bench", exact=True).click()
    page.get_by_role("button", name="Reset", exact=True).click()
    expect(said(page)).to_contain_text("Errors and rests are forgotten.")
    page.get_by_role("link", name="Remove…").click()
    expect(page.get_by_role("main")).to_contain_text("No combo names one of them.")
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(said(page)).to_contain_text("1 connection is removed.")
    assert connections(server, node) == {}


def test_a_reset_ends_the_rest_of_a_connection(
    opened: Opener, add_node: AddNode, server: Server, upstream: str, who: str
) -> None:
    node = add_node(f"reset-{who}", upstream, KEY)
    row = connections(server, node)[f"reset-{who}-0"]
    ask(server, f"reset-{who}/fail-429-600")
    page = opened(f"/dashboard/providers/{node}/connections/{row['id']}")
    state = page.get_by_role("region", name="State")
    expect(state).to_contain_text("Resting")
    expect(state).to_contain_text("Rate limit reached.")
    page.get_by_role("button", name="Reset", exact=True).click()
    expect(said(page)).to_contain_text("Errors and rests are forgotten.")
    expect(state).not_to_contain_text("Resting")
    assert connections(server, node)[row["name"]]["cooldownUntil"] is None


def test_several_keys_are_added_and_all_are_tested(
    opened: Opener, add_node: AddNode, server: Server, visitors: Visitors, upstream: str, who: str
) -> None:
    node = add_node(f"many-{who}", upstream)
    page = opened(f"/dashboard/providers/{node}")
    page.get_by_role("link", name="Add several keys").click()
    field = page.get_by_label("One key a line")
    field.fill(f"Good, {KEY}\nBad, {WRONG}")
    page.get_by_role("button", name="Add keys").click()
    expect(page.get_by_role("main")).to_contain_text("Stored: 2. Known already: 0. Refused: 0.")
    assert set(connections(server, node)) == {"Good", "Bad"}
    field.fill(f"Again, {KEY}\n")
    page.get_by_role("button", name="Add keys").click()
    expect(page.get_by_role("main")).to_contain_text("Stored: 0. Known already: 1. Refused: 0.")
    page.get_by_role("link", name="Back", exact=True).click()
    page.get_by_role("button", name="Test all").click()
    see_the_end(page, server)
    expect(page.get_by_role("main")).to_contain_text("1 of 2 connections work.")
    expect(page.locator("tr", has_text="Bad")).to_contain_text("Failed")
    expect(page.locator("tr", has_text="Good")).to_contain_text("Works")
    look(visitors, page, who)


def test_keys_are_tested_before_they_are_stored(
    opened: Opener, add_node: AddNode, server: Server, upstream: str, who: str
) -> None:
    node = add_node(f"tried-{who}", upstream)
    page = opened(f"/dashboard/providers/{node}/keys")
    page.get_by_label("One key a line").fill(f"Good, {KEY}\nBad, {WRONG}")
    page.get_by_label("Test each key before saving").check()
    page.get_by_role("button", name="Add keys").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Import of keys")
    see_the_end(page, server)
    expect(page.get_by_role("main")).to_contain_text("Stored: 1. Known already: 0. Refused: 1.")
    assert set(connections(server, node)) == {"Good"}


def test_a_list_is_imported(opened: Opener, add_node: AddNode, server: Server, visitors: Visitors, who: str) -> None:
    node = add_node(f"csv-{who}", DEAD)
    page = opened("/dashboard/providers/import")
    page.get_by_label("or typed in").fill("name,apiKey\nNobody,sk-0123456789")
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved.")
    typed = f"provider,name,apiKey\n{node},Typed,sk-typed-0123456789\nno-such-provider,Lost,sk-lost-0123456789\n"
    page.get_by_label("or typed in").fill(typed)
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("main")).to_contain_text("Stored: 1. Known already: 0. Refused: 1.")
    expect(page.locator("tr", has_text="Lost")).to_contain_text("Refused")
    look(visitors, page, who)
    rows = f"provider,name,apiKey,group\n{node},Filed,sk-filed-0123456789,Team B\n{node},,sk-typed-0123456789,\n"
    page.get_by_label("File", exact=True).set_input_files(
        FilePayload(name="list.csv", mimeType="text/csv", buffer=rows.encode())
    )
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("main")).to_contain_text("Stored: 1. Known already: 1. Refused: 0.")
    assert {name: row["group"] for name, row in connections(server, node).items()} == {
        "Typed": None,
        "Filed": "Team B",
    }


def test_all_providers_are_tested_and_chosen_ones_removed(
    opened: Opener, add_node: AddNode, server: Server, who: str
) -> None:
    node = add_node(f"dead-{who}", DEAD, WRONG + "1", WRONG + "2", WRONG + "3")
    page = opened("/dashboard/providers")
    page.locator(".page-actions").get_by_role("button", name="Test all").click()
    agree(page, who, "Test all")
    expect(page.get_by_role("heading", level=1)).to_have_text("Test of connections")
    see_the_end(page, server)
    expect(page.locator("tr", has_text=f"dead-{who}-0")).to_contain_text("Failed")
    page.goto("/dashboard/providers")
    page.locator("li", has=page.get_by_role("link", name=f"dead-{who}")).get_by_role("button", name="Test all").click()
    see_the_end(page, server)
    expect(page.get_by_role("main")).to_contain_text("0 of 3 connections work.")
    page.goto(f"/dashboard/providers/{node}")
    page.get_by_role("checkbox", name=f"Choose dead-{who}-0").check()
    page.get_by_role("checkbox", name=f"Choose dead-{who}-2").check()
    page.get_by_role("button", name="Remove…").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(said(page)).to_contain_text("2 connections are removed.")
    assert set(connections(server, node)) == {f"dead-{who}-1"}


def see_the_end(page: Page, server: Server) -> None:
    """Wait for the job that a page shows; without a script look at it again then."""
    job = page.url.partition("/jobs/")[2].partition("?")[0]
    wait_until(
        lambda: server.api("GET", f"/api/jobs/{job}")["state"] in ("succeeded", "failed"), within_s=30, what="a job"
    )
    again = page.get_by_role("link", name="Look again")
    if again.is_visible():
        again.click()
    expect(page.locator("#job")).to_contain_text("Done")


# --- endpoints -------------------------------------------------------------------------------------------------------


def test_an_endpoint_is_stored_changed_and_removed(opened: Opener, server: Server, upstream: str, who: str) -> None:
    prefix = f"shop-{who}"
    page = opened("/dashboard/providers/custom")
    page.get_by_label("Name", exact=True).fill("Shop")
    page.get_by_label("Prefix").fill("Not A Prefix")
    page.get_by_label("Base address").fill(DEAD)
    page.get_by_label("It is in my own network").check()
    page.get_by_role("button", name="Save endpoint").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved.")
    page.get_by_label("Prefix").fill(prefix)
    page.get_by_role("button", name="Try the address").click()
    expect(page.locator("#trial")).to_contain_text("The address cannot be used:")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Save endpoint").click()
    expect(said(page)).to_contain_text("The endpoint Shop is stored and connected.")
    page.get_by_role("link", name="Advanced").click()
    page.get_by_label("Name", exact=True).fill("Shop floor")
    page.get_by_label("Base address").fill(upstream)
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Try the address").click()
    expect(page.locator("#trial")).to_contain_text("The address answers.")
    page.locator("summary", has_text=re.compile("^More$")).click()
    page.get_by_label("Further headers").fill("X-Team: a\nno header")
    page.get_by_role("button", name="Save endpoint").click()
    expect(page.locator("#f-customHeaders-fault")).to_be_visible()
    page.get_by_label("Further headers").fill("X-Team: a")
    page.get_by_role("button", name="Save endpoint").click()
    expect(said(page)).to_contain_text("The endpoint is saved.")
    [node] = [one for one in server.api("GET", "/api/provider-nodes")["nodes"] if one["prefix"] == prefix]
    assert (node["name"], node["baseUrl"], list(node["customHeaders"])) == ("Shop floor", upstream, ["X-Team"])
    page.get_by_label(f"Type “{prefix}” to confirm").fill("shop")
    page.get_by_role("button", name="Remove the endpoint").click()
    expect(page.locator("#f-confirmation-fault")).to_be_visible()
    page.get_by_label(f"Type “{prefix}” to confirm").fill(prefix)
    page.get_by_role("button", name="Remove the endpoint").click()
    expect(said(page)).to_contain_text("The endpoint is removed with 1 connection.")
    server.api("GET", f"/api/provider-nodes/{node['id']}", expect=404)


def test_how_a_provider_is_asked_is_chosen(opened: Opener, add_node: AddNode, server: Server, who: str) -> None:
    node = add_node(f"asked-{who}", DEAD, KEY, WRONG)
    page = opened(f"/dashboard/providers/{node}")
    page.get_by_label("Way of choosing").select_option("round-robin")
    page.get_by_label("Requests in a row").fill("few")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#f-stickyLimit-fault")).to_be_visible()
    expect(page.get_by_label("Way of choosing")).to_have_value("round-robin")
    page.get_by_label("Requests in a row").fill("3")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(said(page)).to_contain_text("The choice of accounts is saved.")
    chosen = routing(server, node)
    assert (chosen["accountStrategy"], chosen["stickyLimit"]) == ("round-robin", 3)
    page.get_by_role("link", name="Advanced").click()
    page.get_by_label("Leave out").fill("logit_bias\nuser")
    page.get_by_label("Set", exact=True).fill("{temperature: 1}")
    page.get_by_role("button", name="Save parameters").click()
    expect(page.get_by_role("alert")).to_contain_text("The values to set cannot be read.")
    expect(page.get_by_label("Leave out")).to_have_value("logit_bias\nuser")
    page.get_by_label("Set", exact=True).fill('{"temperature": 1}')
    page.get_by_role("button", name="Save parameters").click()
    expect(said(page)).to_contain_text("The parameters are saved.")
    stored = server.api("GET", f"/api/providers/{node}/param-filters")
    assert (stored["strip"], stored["force"]) == (["logit_bias", "user"], {"temperature": 1})
    page.get_by_role("button", name="Block it").click()
    agree(page, who, "Block it")
    expect(said(page)).to_contain_text("is blocked: no request goes there.")
    expect(page.get_by_role("region", name="Blocking")).to_contain_text("Blocked")
    assert routing(server, node)["blocked"] is True
    page.get_by_role("button", name="Use it again").click()
    expect(said(page)).to_contain_text("is used again.")
    assert not routing(server, node).get("blocked")


def routing(server: Server, provider: str) -> dict[str, Any]:
    """Return what is set for the routing of a provider."""
    found: dict[str, Any] = server.api("GET", "/api/settings")["settings"]["routing"]["providers"][provider]
    return found


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_model_is_declared_described_named_and_removed(
    opened: Opener, add_node: AddNode, server: Server, visitors: Visitors, who: str
) -> None:
    prefix = f"models-{who}"
    node = add_node(prefix, DEAD, KEY)
    page = opened(f"/dashboard/providers/{node}?tab=custom")
    page.get_by_label("Id", exact=True).fill("big-1")
    page.get_by_label("Context in tokens").fill("wide")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#f-contextLength-fault")).to_be_visible()
    page.get_by_label("Context in tokens").fill("64000")
    page.get_by_role("combobox", name="Tools").select_option("yes")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(said(page)).to_contain_text("big-1 is saved.")
    page.get_by_role("link", name="Edit big-1").click()
    page.get_by_label("Name", exact=True).fill("Big One")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(said(page)).to_contain_text("big-1 is saved.")
    [stored] = server.api("GET", f"/api/provider-models?provider={node}")["models"]
    assert (stored["modelName"], stored["contextLength"], stored["supportsTools"]) == ("Big One", 64000, True)
    page.get_by_role("link", name="big-1", exact=True).click()
    page.get_by_label("Longest answer in tokens").fill("8000")
    page.get_by_role("combobox", name="Images").select_option("no")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(said(page)).to_contain_text(f"{prefix}/big-1 is saved.")
    page.get_by_label("New name").fill(f"house-{who}")
    page.get_by_role("button", name="Add name").click()
    expect(said(page)).to_contain_text("The alias is saved.")
    [model] = server.api("GET", f"/api/models?provider={node}")["models"]
    assert (model["maxOutputTokens"], model["aliases"]) == (8000, [f"house-{who}"])
    look(visitors, page, who)
    page.get_by_role("button", name=f"Remove house-{who}").click()
    expect(said(page)).to_contain_text("The alias is removed.")
    page.get_by_role("button", name="Forget all of this").click()
    expect(said(page)).to_contain_text("What was stated here is forgotten.")
    expect(page.get_by_label("Longest answer in tokens")).to_have_value("")
    page.goto(f"/dashboard/providers/{node}?tab=custom")
    page.get_by_role("button", name="Remove big-1").click()
    agree(page, who, "Remove big-1")
    expect(said(page)).to_contain_text("The model is removed.")
    assert server.api("GET", f"/api/models?provider={node}")["models"] == []


# --- proxies ---------------------------------------------------------------------------------------------------------


def test_a_proxy_is_stored_tested_used_and_removed(
    opened: Opener, add_node: AddNode, server: Server, visitors: Visitors, teller: int, who: str
) -> None:
    name = f"way-{who}"
    node = add_node(f"out-{who}", DEAD, KEY)
    page = opened("/dashboard/settings?tab=advanced")
    proxies = page.locator("#proxies")
    proxies.locator("summary", has_text="Add a proxy").click()
    proxies.get_by_label("Name", exact=True).fill(name)
    proxies.get_by_label("Host").fill("127.0.0.1")
    proxies.get_by_label("Port").fill("seventy")
    proxies.get_by_role("button", name="Save the proxy").click()
    expect(proxies.get_by_role("alert")).to_contain_text("Nothing was saved.")
    look(visitors, page, who)
    proxies.get_by_label("Port").fill(str(teller))
    proxies.get_by_role("button", name="Save the proxy").click()
    expect(said(page)).to_contain_text("The proxy is saved.")
    row = proxies.locator("tr", has_text=name)
    row.get_by_role("button", name="Test", exact=True).click()
    expect(said(page)).to_contain_text("others see 203.0.113.7.")
    proxies.get_by_label("Use it for").select_option("provider")
    proxies.get_by_label("Name of the provider, combo or key").fill("nobody-here")
    proxies.get_by_label("Proxy", exact=True).select_option(name)
    proxies.get_by_role("button", name="Use it", exact=True).click()
    expect(proxies.locator("#f-where-fault")).to_be_visible()
    proxies.get_by_label("Name of the provider, combo or key").fill(node)
    proxies.get_by_role("button", name="Use it", exact=True).click()
    expect(said(page)).to_contain_text("The proxy is in use there.")
    assert bound(server, node)["name"] == name
    proxies.get_by_label("Connection", exact=True).select_option(connections(server, node)[f"out-{who}-0"]["id"])
    proxies.get_by_role("button", name="Look it up").click()
    expect(proxies.get_by_role("status")).to_contain_text(f"http://127.0.0.1:{teller}")
    used = proxies.locator("li", has=page.locator(f'code[title="{node}"]'))
    expect(used).to_contain_text(f"out-{who}")
    used.get_by_role("button", name="Use none").click()
    expect(said(page)).to_contain_text("Nothing of its own is used there any more.")
    assert bound(server, node) is None
    row.get_by_role("link", name=f"Edit {name}").click()
    expect(proxies.get_by_label("Port")).to_have_value(str(teller))
    proxies.get_by_label("State").select_option("off")
    proxies.get_by_role("button", name="Save the proxy").click()
    expect(said(page)).to_contain_text("The proxy is saved.")
    expect(row).to_contain_text("off")
    proxies.get_by_role("button", name=f"Remove {name}").click()
    agree(page, who, f"Remove {name}")
    expect(said(page)).to_contain_text("The proxy is removed.")
    expect(proxies.locator("tr", has_text=name)).to_have_count(0)


def test_a_proxy_is_chosen_on_the_page_of_a_provider(
    opened: Opener, add_node: AddNode, server: Server, who: str
) -> None:
    node, name = add_node(f"through-{who}", DEAD, KEY), f"dead-{who}"
    stored = {"name": name, "type": "http", "host": "127.0.0.1", "port": 9}
    proxy = server.api("POST", "/api/settings/proxies", stored)["proxy"]["id"]
    page = opened("/dashboard/settings?tab=advanced")
    page.locator("#proxies tr", has_text=name).get_by_role("button", name="Test", exact=True).click()
    expect(said(page)).to_contain_text("The proxy does not work:")
    page.goto(f"/dashboard/providers/{node}?tab=advanced")
    section = page.get_by_role("region", name="Outbound proxy")
    section.get_by_label("Proxy", exact=True).select_option(proxy)
    section.get_by_role("button", name="Save proxy").click()
    expect(said(page)).to_contain_text("The proxy is saved.")
    expect(section).to_contain_text(f"This provider is asked through {name}.")
    section.get_by_label("Proxy", exact=True).select_option("own")
    section.locator("summary").click()
    section.get_by_label("Host").fill("127.0.0.1")
    section.get_by_label("Port").fill("99999")
    section.get_by_role("button", name="Save proxy").click()
    expect(section.locator("#f-port-fault")).to_be_visible()
    section.get_by_label("Port").fill("3128")
    section.get_by_role("button", name="Save proxy").click()
    expect(section).to_contain_text("This provider is asked through 127.0.0.1:3128.")
    assert bound(server, node)["port"] == 3128
    section.get_by_label("Proxy", exact=True).select_option("")
    section.get_by_role("button", name="Save proxy").click()
    expect(section).to_contain_text("This provider is asked directly.")
    assert bound(server, node) is None
    server.api("DELETE", f"/api/settings/proxies/{proxy}")


def bound(server: Server, provider: str) -> Any:
    """Return the proxy that is set for a provider."""
    return server.api("GET", "/api/settings/proxy")["providers"].get(provider)


# --- quotas and rests ------------------------------------------------------------------------------------------------


def test_a_provider_is_asked_what_is_left(opened: Opener, server: Server, who: str) -> None:
    fields = {"provider": METERED, "apiKey": KEY + who, "name": f"metered-{who}"}
    made = server.api("POST", "/api/providers", fields)["connection"]["id"]
    page = opened("/dashboard/quota")
    page.get_by_role("button", name=f"Ask about metered-{who} now").click()
    expect(said(page)).to_contain_text("1 connection is asked; its figures are here in a moment.")
    windows_of(server, made)
    page.reload()
    expect(page.get_by_role("region", name=f"metered-{who}")).to_contain_text("$12.50 left")
    page.get_by_role("button", name="Ask all providers now").click()
    expect(said(page)).to_contain_text("asked")
    server.api("DELETE", f"/api/providers/{made}")


def windows_of(server: Server, connection_id: str) -> Any:
    """Wait until what is left of a connection's quota is known."""

    def read() -> Any:
        found = server.api("GET", "/api/usage/provider-limits")["limits"]
        return next(one["windows"] for one in found if one["connectionId"] == connection_id)

    return wait_until(read, within_s=10, what="the quota is read")


def test_rests_are_ended_by_hand(
    opened: Opener, add_node: AddNode, server: Server, visitors: Visitors, upstream: str, who: str
) -> None:
    names = [f"{kind}-{who}" for kind in ("slow", "ill", "worse")]
    for name in names:
        add_node(name, upstream, KEY)
    slow, ill, worse = names
    ask(
        server,
        f"{slow}/fail-404",
        f"{slow}/fail-404-600",
        f"{slow}/fail-429-600",
        f"{ill}/fail-500",
        f"{worse}/fail-500",
    )
    page = opened("/dashboard/health")
    look(visitors, page, who)
    page.get_by_role("button", name="End the lockout of fail-404", exact=True).click()
    expect(said(page)).to_contain_text("1 lockout is ended.")
    assert [row["model"] for row in health(server)["lockouts"]] == ["fail-404-600"]
    page.get_by_role("button", name="End all").click()
    agree(page, who, "End all")
    expect(said(page)).to_contain_text("1 lockout is ended.")
    expect(page.get_by_role("region", name="Active Lockouts")).to_contain_text("No model is locked out")
    page.get_by_role("button", name=f"End the rest of {slow}-0").click()
    expect(said(page)).to_contain_text("The connection may be tried again.")
    assert f"{slow}-0" not in {row["connection"] for row in health(server)["rateLimits"]}
    breakers = page.get_by_role("region", name="Provider Health")
    expect(breakers.locator("li", has_text=ill)).to_contain_text("OPEN")
    page.get_by_role("button", name=f"Reset {ill}").click()
    expect(said(page)).to_contain_text("The provider may be tried again.")
    expect(breakers.locator("li", has_text=ill)).to_contain_text("CLOSED")
    expect(breakers.locator("li", has_text=worse)).to_contain_text("OPEN")
    page.get_by_role("button", name="Reset all").click()
    agree(page, who, "Reset all")
    expect(said(page)).to_contain_text("All providers may be tried again.")
    expect(breakers.get_by_text("OPEN", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Back up now").click()
    expect(said(page)).to_contain_text("A verified backup was made.")


def health(server: Server) -> dict[str, Any]:
    """Return what rests."""
    found: dict[str, Any] = server.api("GET", "/api/monitoring/health")
    return found


def ask(server: Server, *models: str) -> None:
    """Send requests that fail."""
    headers = {"Authorization": f"Bearer {server.new_key()}"}
    for model in models:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        answer = requests.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=20)
        assert answer.status_code >= 400, answer.text
