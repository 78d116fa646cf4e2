"""What can be done with combos, channels, keys, prices, tools and the guide, by every button of their pages."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Opener
from tests.browser.visitors import PHONE, Visitors
from tests.e2e.processes import PASSWORD, Server, running_server, wait_until

COMBOS = "/dashboard/combos"
PRICING = "/dashboard/costs?tab=pricing"
TRANSLATOR = "/dashboard/translator"
SCRIPTED = "wide-light-scripted"
Sure = Callable[[Page, str], None]
Look = Callable[[Page], None]


class PriceList:
    """A public list with one price, which goes up by a dollar each time that somebody wants another one."""

    def __init__(self) -> None:
        self.price = 6
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                prices = {"input_mtok": told.price, "output_mtok": 8}
                model = {"id": "gpt-4.1", "match": {"equals": "gpt-4.1"}, "prices": prices}
                body = json.dumps([{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": [model]}]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name of the base class
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/data.json"

    def another(self) -> int:
        """Change the price and return the new one."""
        self.price += 1
        return self.price


@pytest.fixture(scope="module")
def price_list() -> Iterator[PriceList]:
    """A list of prices that is on this machine."""
    told = PriceList()
    yield told
    told.server.shutdown()
    told.server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, price_list: PriceList) -> Iterator[Server]:
    """A server that shows keys again, writes files of tools in a home of its own, and reads our list of prices."""
    settings: dict[str, Any] = {
        "ALLOW_API_KEY_REVEAL": "true",
        "CLI_ALLOW_CONFIG_WRITES": "true",
        "PRICING_SYNC_ENABLED": "true",
        "PRICING_SYNC_URL": price_list.url,
    }
    with running_server(tmp_path_factory.mktemp("tools") / "data", **settings) as running:
        running.api("POST", "/api/pricing/sync", {"source": "list"})  # or it would do so itself during a test
        yield running


@pytest.fixture
def who(request: pytest.FixtureRequest) -> str:
    """Name the visitor: what a test makes has this name, for the next visitor makes it again."""
    name: str = request.node.callspec.id
    return name


@pytest.fixture
def sure(who: str) -> Sure:
    """Answer the question that comes before what destroys; without a script there is none."""

    def answer(page: Page, action: str) -> None:
        if who == SCRIPTED:
            page.get_by_role("dialog").get_by_role("button", name=action, exact=True).last.click()

    return answer


@pytest.fixture
def look(visitors: Visitors, who: str) -> Look:
    """Hold a state to what every page must hold to; axe itself needs a script, so only that visitor does it."""

    def judge(page: Page) -> None:
        if who == SCRIPTED:
            visitors.look(page)

    return judge


def flash(page: Page, text: str) -> None:
    """Expect what a page says of the last action."""
    expect(page.locator("#flashes")).to_contain_text(text)


def made_combo(server: Server, name: str, *models: str) -> dict[str, Any]:
    """Make a combo by the API."""
    made: dict[str, Any] = server.api("POST", "/api/combos", {"name": name, "models": list(models)})
    return made


def card(page: Page, name: str) -> Locator:
    """Return the card of a combo in the list."""
    return page.locator(f'[data-row="{name}"]')


def more(page: Page, name: str, action: str) -> None:
    """Do what the menu of a combo's card offers."""
    card(page, name).locator("summary").click()
    card(page, name).get_by_role("button", name=action, exact=True).click()


# --- combos ----------------------------------------------------------------------------------------------------------


def test_a_combo_is_copied_changed_and_switched(opened: Opener, server: Server, who: str) -> None:
    """Duplicate a combo in the list, save the copy under a name of its own, switch it off and on."""
    made = made_combo(server, f"base {who}", "sandbox/echo", "sandbox/story")
    page = opened(COMBOS)
    more(page, f"base {who}", "Duplicate")
    flash(page, f"base {who} copy is made as a copy.")
    page.get_by_label("Name", exact=True).fill(f"copy {who}")
    page.get_by_role("button", name="Remove sandbox/story", exact=True).click()
    expect(page.locator(".combo-step")).to_have_count(1)
    page.get_by_role("button", name="Save the combo").click()
    flash(page, f"The combo copy {who} is saved.")
    page.get_by_role("button", name="Switch off").click()
    flash(page, f"copy {who} is off.")
    expect(page).to_have_url(re.compile(r"/combos/[^/]+$"))
    [copy] = server.api("GET", f"/api/combos?q=copy%20{who}")["combos"]
    assert (copy["isActive"], [step["model"] for step in copy["models"]]) == (False, ["sandbox/echo"])
    page.goto(f"{COMBOS}?q=copy")
    card(page, f"copy {who}").get_by_role("button", name="Switch on").click()
    flash(page, f"copy {who} is on.")
    expect(page).to_have_url(re.compile(r"/combos\?q=copy$"))
    assert server.api("GET", f"/api/combos/{copy['id']}")["isActive"]
    for one in (made, copy):
        server.api("DELETE", f"/api/combos/{one['id']}")


def test_a_combo_becomes_the_default_and_no_longer(opened: Opener, server: Server, who: str) -> None:
    """Make a combo the default in the list, and take that back on its page."""
    made = made_combo(server, f"usual {who}", "sandbox/echo")
    page = opened(COMBOS)
    more(page, f"usual {who}", "Make it the default")
    flash(page, "It serves requests that name no model.")
    expect(card(page, f"usual {who}")).to_contain_text("default")
    assert server.api("GET", f"/api/combos/{made['id']}")["isDefault"]
    page.get_by_role("link", name=f"usual {who}", exact=True).click()
    page.get_by_role("button", name="No longer the default").click()
    flash(page, "Requests must name a model now.")
    assert not server.api("GET", f"/api/combos/{made['id']}")["isDefault"]
    server.api("DELETE", f"/api/combos/{made['id']}")


def test_a_combo_is_tested_and_its_figures_begin_anew(opened: Opener, server: Server, who: str, sure: Sure) -> None:
    """Ask through a combo, try its targets, and let its figures begin now."""
    made = made_combo(server, f"tried {who}", "sandbox/fail-500", "sandbox/echo")
    body = {"model": f"tried {who}", "messages": [{"role": "user", "content": "Hello"}]}
    assert requests.post(f"{server.url}/v1/chat/completions", json=body, timeout=20).status_code == 200
    page = opened(COMBOS)
    more(page, f"tried {who}", "Test the targets")
    expect(page.get_by_role("row").filter(has_text="sandbox/fail-500").first).to_contain_text("failed")
    expect(page.get_by_role("row").filter(has_text="sandbox/echo").first).to_contain_text("answered")
    requests_tile = page.locator(".tile").filter(has_text="Requests, 24 h").locator(".figure")
    page.goto(f"{COMBOS}/{made['id']}")
    expect(requests_tile).not_to_have_text("0")
    page.get_by_role("button", name="Let its figures begin now").click()
    sure(page, "Let its figures begin now")
    flash(page, "The figures begin now.")
    expect(requests_tile).to_have_text("0")
    server.api("DELETE", f"/api/combos/{made['id']}")


def test_a_combo_that_another_one_needs_is_deleted_after_a_second_look(
    opened: Opener, look: Look, server: Server, who: str, sure: Sure
) -> None:
    """Delete a combo to which another one refers: keep it first, then delete it all the same."""
    inner = made_combo(server, f"inner {who}", "sandbox/echo")
    outer = made_combo(server, f"outer {who}", f"combo/inner {who}", "sandbox/story")
    page = opened(COMBOS)
    more(page, f"inner {who}", "Delete")
    sure(page, "Delete")
    expect(page.get_by_role("heading", name="Other combos refer to it")).to_be_visible()
    expect(page.get_by_role("link", name=f"outer {who}")).to_be_visible()
    look(page)
    page.get_by_role("link", name="Keep it").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    sure(page, "Delete")
    page.get_by_role("button", name="Delete it all the same").click()
    flash(page, f"The combo inner {who} is deleted.")
    server.api("GET", f"/api/combos/{inner['id']}", expect=404)
    more(page, f"outer {who}", "Delete")
    sure(page, "Delete")
    flash(page, f"The combo outer {who} is deleted.")
    server.api("GET", f"/api/combos/{outer['id']}", expect=404)


def test_the_order_of_combos_is_changed_by_buttons(opened: Opener, server: Server, who: str) -> None:
    """Move a combo up and down in the list."""
    made = [made_combo(server, f"{place} {who}", "sandbox/echo") for place in ("upper", "lower")]

    def order() -> list[str]:
        wanted = [one["id"] for one in made]
        return [one["id"] for one in server.api("GET", "/api/combos")["combos"] if one["id"] in wanted]

    upper, lower = order()
    names = {one["id"]: one["name"] for one in made}
    page = opened(COMBOS)
    page.get_by_role("button", name=f"Move {names[lower]} up").click()
    expect(page.get_by_text("The order is saved.")).to_have_count(1)
    assert order() == [lower, upper]
    page.goto(COMBOS)
    page.get_by_role("button", name=f"Move {names[lower]} down").click()
    expect(page.get_by_text("The order is saved.")).to_have_count(1)
    assert order() == [upper, lower]
    for one in made:
        server.api("DELETE", f"/api/combos/{one['id']}")


def test_a_ready_made_combo_is_made_and_deleted(opened: Opener, server: Server, who: str, sure: Sure) -> None:
    """Make a combo of a template, and delete it on its page."""
    other = made_combo(server, f"other {who}", "sandbox/echo")
    page = opened(COMBOS)
    page.get_by_text("Show them").click()
    page.get_by_role("button", name=re.compile("High availability")).click()
    flash(page, "The combo high-availability is made.")
    [made] = server.api("GET", "/api/combos?q=high-availability")["combos"]
    assert made["config"]["maxSetRetries"] == 1
    page.get_by_role("button", name="Delete", exact=True).click()
    sure(page, "Delete")
    flash(page, "The combo high-availability is deleted.")
    assert server.api("GET", "/api/combos?q=high-availability")["total"] == 0
    server.api("DELETE", f"/api/combos/{other['id']}")


# --- Auto Combo ------------------------------------------------------------------------------------------------------


def test_a_channel_is_tuned_for_a_key_and_given_back(
    opened: Opener, look: Look, server: Server, who: str, sure: Sure
) -> None:
    """Change what a channel weighs and leaves out for one key only, be refused once, and take it back."""
    key = server.api("POST", "/api/keys", {"name": f"tuned {who}"})
    page = opened("/dashboard/auto-combo?channel=auto/fast")
    page.get_by_label("Tuned for").select_option(f"tuned {who}")
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_label("Cost", exact=True).fill("plenty")
    page.get_by_label("Models", exact=True).fill("sandbox/story\nsandbox/think")
    page.get_by_role("button", name="Save the channel").click()
    expect(page.get_by_role("alert").first).to_contain_text("Nothing was saved.")
    expect(page.get_by_label("Cost", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Models", exact=True)).to_have_value(re.compile("sandbox/think"))
    expect(page.locator("#candidates")).to_have_attribute("hx-get", re.compile("channel=auto%2Ffast"))
    look(page)
    page.get_by_label("Cost", exact=True).fill("0.9")
    page.get_by_label("Percentage of requests that explore").fill("12")
    page.get_by_role("button", name="Save the channel").click()
    flash(page, "The channel auto/fast is saved.")
    own = f"/api/combos/auto/auto/fast?apiKeyId={key['id']}"
    stored = server.api("GET", own)
    assert stored["exclude"]["models"] == ["sandbox/story", "sandbox/think"]
    assert (stored["exploration"], stored["weights"]["cost"] > 0.4) == (0.12, True)
    assert server.api("GET", "/api/combos/auto/auto/fast")["exclude"]["models"] == []
    page.get_by_role("button", name="Back to what is built in").click()
    sure(page, "Back to what is built in")
    flash(page, "The channel auto/fast is as it was built in.")
    expect(page.get_by_label("Models", exact=True)).to_have_value("")
    assert server.api("GET", own)["exclude"]["models"] == []
    server.api("DELETE", f"/api/keys/{key['id']}")


# --- API Manager -----------------------------------------------------------------------------------------------------


def test_a_key_is_changed_switched_and_deleted(opened: Opener, server: Server, who: str, sure: Sure) -> None:
    """Rename a key and bound it, be refused once, disable and enable it, and delete it by its name."""
    key = server.api("POST", "/api/keys", {"name": f"desk {who}"})
    page = opened(f"/dashboard/keys/{key['id']}")
    page.get_by_label("Name", exact=True).fill(f"shelf {who}")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Requests at once").fill("many")
    page.get_by_role("button", name="Save the key").click()
    expect(page.get_by_label("Requests at once")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Name", exact=True)).to_have_value(f"shelf {who}")
    page.get_by_label("Requests at once").fill("3")
    page.get_by_label("Rules").fill("60 / 60")
    page.get_by_role("checkbox", name="Log no bodies").check()
    page.get_by_role("button", name="Save the key").click()
    flash(page, "The key is saved.")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"shelf {who}")
    stored = server.api("GET", f"/api/keys/{key['id']}")["key"]
    assert (stored["maxConcurrent"], stored["noLog"]) == (3, True)
    assert [(rule["limit"], rule["windowSeconds"]) for rule in stored["rateLimits"]] == [(60, 60)]
    page.get_by_role("button", name="Disable").click()
    sure(page, "Disable")
    flash(page, "The key is disabled; requests with it are refused.")
    headers = {"Authorization": f"Bearer {key['key']}"}
    assert requests.get(f"{server.url}/v1/models", headers=headers, timeout=10).status_code in (401, 403)
    page.get_by_role("button", name="Enable").click()
    flash(page, "The key is enabled.")
    assert requests.get(f"{server.url}/v1/models", headers=headers, timeout=10).status_code == 200
    page.get_by_label(f"Type “shelf {who}” to confirm").fill("shelf")
    page.get_by_role("button", name="Delete the key").click()
    flash(page, "Nothing was deleted: the name of the key was not typed as it is.")
    page.get_by_label(f"Type “shelf {who}” to confirm").fill(f"shelf {who}")
    page.get_by_role("button", name="Delete the key").click()
    flash(page, f"The key shelf {who} is deleted.")
    server.api("GET", f"/api/keys/{key['id']}", expect=404)


def test_a_key_gets_limits_and_loses_them(opened: Opener, server: Server, who: str) -> None:
    """Set a budget and a limit of tokens, be refused for what is no number, and remove both."""
    key = server.api("POST", "/api/keys", {"name": f"bound {who}"})
    page = opened(f"/dashboard/keys/{key['id']}")
    limits = page.locator(".key-limits")
    page.get_by_label("Budget in USD").fill("a lot")
    page.get_by_role("button", name="Set the budget").click()
    expect(page.locator("#flashes").get_by_role("alert")).to_be_visible()
    page.get_by_label("Budget in USD").fill("2,50")
    page.get_by_role("button", name="Set the budget").click()
    flash(page, "The budget is saved.")
    expect(limits).to_contain_text("$2.50")
    page.get_by_label("Most tokens").fill("5000")
    page.get_by_label("Of", exact=True).select_option("model")
    page.get_by_label("Which provider or model").fill("sandbox/echo")
    page.get_by_role("button", name="Set the limit").click()
    flash(page, "The token limit is saved.")
    expect(limits.get_by_role("listitem").filter(has_text="Tokens a day")).to_contain_text("sandbox/echo")
    usage = server.api("GET", f"/api/keys/{key['id']}/usage")
    assert [one["limit"] for one in usage["budgets"]] == [2.5]
    assert [(one["tokenLimit"], one["scopeValue"]) for one in usage["tokenLimits"]] == [(5000, "sandbox/echo")]
    limits.get_by_role("listitem").filter(has_text="A month").get_by_role("button", name="Remove").click()
    flash(page, "The budget is removed.")
    limits.get_by_role("listitem").filter(has_text="Tokens a day").get_by_role("button", name="Remove").click()
    flash(page, "The token limit is removed.")
    expect(page.get_by_text("This key has no budget and no limit.")).to_be_visible()
    server.api("DELETE", f"/api/keys/{key['id']}")


def test_a_key_is_shown_again_and_regenerated(opened: Opener, look: Look, server: Server, who: str, sure: Sure) -> None:
    """Show a key that the server keeps, make a new secret for it, and see that the old one is at an end."""
    key = server.api("POST", "/api/keys", {"name": f"kept {who}"})
    page = opened(f"/dashboard/keys/{key['id']}")
    page.get_by_role("button", name="Show the key").click()
    expect(page.locator("#new-key")).to_have_text(key["key"])
    look(page)
    page.get_by_role("link", name="I have saved it").click()
    expect(page.get_by_text(key["key"])).to_have_count(0)
    page.get_by_role("button", name="Regenerate").click()
    sure(page, "Regenerate")
    expect(page.get_by_text("The old key no longer works.")).to_be_visible()
    secret = page.locator("#new-key").inner_text()
    for sent, status in ((key["key"], 401), (secret, 200)):
        headers = {"Authorization": f"Bearer {sent}"}
        assert requests.get(f"{server.url}/v1/models", headers=headers, timeout=10).status_code == status
    server.api("DELETE", f"/api/keys/{key['id']}")


# --- Costs > Pricing -------------------------------------------------------------------------------------------------


def test_a_price_list_is_looked_at_and_imported(
    opened: Opener, look: Look, server: Server, who: str, price_list: PriceList
) -> None:
    """See first what an import would change, or import at once."""
    price = price_list.another()

    def stored() -> tuple[str, float]:
        [found] = server.api("GET", "/api/pricing?provider=openai&model=gpt-4.1")["prices"]
        return found["source"], found["input"]

    before = stored()
    page = opened(PRICING)
    page.get_by_label("List", exact=True).select_option("list")
    if who == SCRIPTED:
        page.get_by_role("button", name="Show what would change").click()
        preview = page.get_by_role("region", name="What an import would change").last
        expect(preview.get_by_role("row", name="gpt-4.1")).to_contain_text(f"${price}.00")
        assert stored() == before
        look(page)
        per_thousand = page.get_by_role("link", name="per 1,000")
        expect(per_thousand).to_have_attribute("href", f"{PRICING}&unit=1K")
        page.get_by_role("button", name="Import these prices").click()
    else:
        page.get_by_role("button", name="Import now").click()
    flash(page, "Imported 1 prices; 1 changed.")
    assert stored() == ("import", price)


def test_a_price_is_found_refused_and_set_per_thousand(opened: Opener, server: Server, who: str, sure: Sure) -> None:
    """Find a model, turn to the other unit, type what is no price, then one, and drop it."""
    model = "gpt-4.1-mini" if who == SCRIPTED else "gpt-4.1-nano"
    page = opened(PRICING)
    filters = page.get_by_role("form", name="Filters")
    filters.get_by_label("Search").fill(model)
    filters.get_by_label("Provider").fill("openai")
    filters.get_by_label("Source").select_option("built in")
    filters.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="per 1,000").click()
    page.get_by_role("link", name=f"Edit the price of {model}", exact=True).click()
    page.get_by_label("Output", exact=True).fill("dear")
    page.get_by_role("button", name="Save the price").click()
    expect(page.get_by_label("Output", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Output", exact=True)).to_have_value("dear")
    expect(page.get_by_text("USD per 1,000 tokens.")).to_be_visible()
    expect(filters.get_by_label("Search")).to_have_value(model)
    page.get_by_label("Output", exact=True).fill("0.25")
    page.get_by_role("button", name="Save the price").click()
    flash(page, f"The price of {model} is set.")
    [stored] = server.api("GET", f"/api/pricing?provider=openai&model={model}")["prices"]
    assert (stored["source"], stored["output"]) == ("override", 250), "per million"
    page.goto(f"{PRICING}&source=override")
    page.get_by_role("button", name=f"Drop your price of {model}").click()
    sure(page, f"Drop your price of {model}")
    flash(page, f"Your price of {model} is dropped.")
    [stored] = server.api("GET", f"/api/pricing?provider=openai&model={model}")["prices"]
    assert stored["source"] == "builtin"


# --- playground and translator ---------------------------------------------------------------------------------------


def test_a_model_is_asked_without_a_script(visitors: Visitors) -> None:
    """Send a message with settings, be refused for one of them, and see a failure of the provider."""
    path = "/dashboard/playground?model=sandbox/echo"
    page = visitors.visit(path, has_script=False, width=PHONE, theme="dark")
    page.get_by_label("Message", exact=True).fill("The harbour at seven")
    page.get_by_text("More", exact=True).last.click()
    page.get_by_label("Temperature").fill("9")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_label("Temperature")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Temperature").fill("1")
    page.get_by_label("System prompt").fill("Be short.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".play-said").last).to_have_text("The harbour at seven")
    expect(page.locator("[data-facts]")).to_contain_text("whole answer after")
    page.get_by_label("Model", exact=True).fill("sandbox/fail-401")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("[data-talk] .notice code")).to_be_visible()
    page.get_by_role("link", name="its way").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Request")


def test_a_body_is_recognised_and_translated(opened: Opener) -> None:
    """Paste a body, let its format be found, and translate it for a model."""
    page = opened(TRANSLATOR)
    messages = [{"role": "user", "content": [{"type": "text", "text": "The harbour"}]}]
    body = {"model": "claude-x", "max_tokens": 9, "system": "Be short.", "messages": messages}
    page.get_by_label("Body, or the text of a stream").fill(json.dumps(body))
    page.get_by_role("button", name="Detect the format").click()
    expect(page.get_by_text("This is written in Anthropic Messages")).to_be_visible()
    page.get_by_label("To", exact=True).select_option("gemini")
    page.get_by_text("More", exact=True).last.click()
    page.get_by_label("Translate for this model").fill("sandbox/echo")
    page.get_by_role("button", name="Translate", exact=True).click()
    expect(page.locator("#result")).to_contain_text("systemInstruction")
    expect(page.get_by_label("Translate for this model")).to_have_value("sandbox/echo")


def test_a_request_is_sent_and_its_way_is_shown(opened: Opener) -> None:
    """Send a request of the tester: with a script the page draws its way itself."""
    page = opened(f"{TRANSLATOR}?tab=tester")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_label("Message", exact=True)).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Model", exact=True).fill("sandbox/echo")
    page.get_by_label("Format of the client").select_option("ollama")
    page.get_by_label("Message", exact=True).fill("The harbour")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#way-result")).to_contain_text("200")
    expect(page.get_by_role("heading", name="Answer of sandbox")).to_be_visible()
    expect(page.locator("#way-told")).to_contain_text("harbour")


def test_the_bench_says_what_a_live_run_costs_before_it_runs(opened: Opener, server: Server, look: Look) -> None:
    """Run a case against a real model: see the estimate, send it, and look at the result."""
    page = opened(f"{TRANSLATOR}?tab=bench")
    page.get_by_role("checkbox", name="Text", exact=True).check()
    page.get_by_role("checkbox", name="Ollama", exact=True).first.check()
    page.get_by_role("radio", name="Live: models that are really asked").check()
    page.get_by_label("Models or providers, at most ten").fill("sandbox/echo")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("heading", name="Before it costs something")).to_be_visible()
    expect(page.get_by_text("1 request would be sent")).to_be_visible()
    look(page)
    page.get_by_role("button", name="Send them").click()
    expect(page.locator("#run")).to_contain_text("Run of")
    job = page.url.partition("job=")[2]
    wait_until(lambda: server.api("GET", f"/api/jobs/{job}")["result"], within_s=15, what="the run has ended")
    if page.get_by_role("link", name="Look again").is_visible():
        page.get_by_role("link", name="Look again").click()
    expect(page.locator("#run")).to_contain_text("1 work, 0 failed")


@pytest.fixture
def upstream(server: Server, who: str) -> Iterator[str]:
    """Give the prefix of an endpoint that speaks one format only: this server itself, as somebody else's."""
    connection = server.add_node(f"{server.url}/v1", prefix=f"mirror-{who}")
    yield f"mirror-{who}"
    server.api("DELETE", f"/api/providers/{connection}")


def test_translations_are_watched_and_forgotten(
    opened: Opener, server: Server, upstream: str, who: str, sure: Sure
) -> None:
    """Watch traffic, open a translation and take it to the playground, and switch the watching off."""
    page = opened(f"{TRANSLATOR}?tab=monitor")
    page.get_by_role("button", name="Watch translations").click()
    flash(page, "Translations are watched from now on.")
    words = [{"role": "user", "content": f"Hello {who}"}]
    body = {"model": f"{upstream}/sandbox/echo", "max_tokens": 9, "messages": words}
    assert requests.post(f"{server.url}/v1/messages", json=body, timeout=20).status_code == 200
    page.goto(f"{TRANSLATOR}?tab=monitor&source=anthropic_messages")
    page.locator("#seen").get_by_role("link", name=re.compile("^Open")).first.click()
    expect(page.locator("#opened-asked")).to_contain_text(f"Hello {who}")
    page.get_by_role("link", name="Open in the playground").click()
    expect(page.get_by_label("Body, or the text of a stream")).to_have_value(re.compile(f"Hello {who}"))
    page.goto(f"{TRANSLATOR}?tab=monitor")
    page.get_by_role("button", name="Switch off").click()
    sure(page, "Switch off")
    flash(page, "Watching is switched off, and what was seen is forgotten.")
    assert server.api("GET", "/api/translator/history")["translations"] == []


# --- CLI Tools and logs ----------------------------------------------------------------------------------------------


def test_a_tool_is_set_up_and_put_back(opened: Opener, look: Look, server: Server, who: str) -> None:
    """See what Auto-config would change in a tool's file, write it, and put back what was there."""
    home = server.data_dir.parent
    file = home / ".claude" / "settings.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"theme": "dark"}\n')
    page = opened("/dashboard/cli-tools?tool=claude&model=sandbox/echo")
    host = page.locator("#host")
    if who != SCRIPTED:
        page.get_by_role("link", name="Look for it").click()
    expect(host).to_contain_text("What Auto-config would change", timeout=15_000)
    look(page)
    host.get_by_role("button", name="Write it").click()
    flash(page, "1 file is written.")
    written = json.loads(file.read_text())
    assert (written["theme"], written["env"]["ANTHROPIC_BASE_URL"]) == ("dark", server.url)
    if who != SCRIPTED:
        page.get_by_role("link", name="Look for it").click()
    host.get_by_role("button", name="Put back what was there").click(timeout=15_000)
    flash(page, "1 file is as it was before.")
    assert file.read_text() == '{"theme": "dark"}\n'


def test_a_request_in_flight_is_cancelled(opened: Opener, server: Server, sure: Sure) -> None:
    """Cancel a request that never ends; its client is told so."""
    body = {"model": "sandbox/hang", "messages": [{"role": "user", "content": "Hello"}]}
    with ThreadPoolExecutor(1) as others:
        asked = others.submit(requests.post, f"{server.url}/v1/chat/completions", json=body, timeout=60)
        wait_until(lambda: server.api("GET", "/api/usage/active")["total"], within_s=10, what="it is in flight")
        page = opened("/dashboard/logs?tab=active")
        page.get_by_role("button", name="Cancel", exact=True).click()
        sure(page, "Cancel")
        flash(page, "The request is cancelled; its client is told so.")
        assert asked.result().json()["error"]["code"] == "request_cancelled"
    expect(page.get_by_text("No request is in flight")).to_be_visible()


# --- set-up guide and the shell --------------------------------------------------------------------------------------


def test_the_password_is_chosen_in_the_guide(opened: Opener, look: Look, server: Server) -> None:
    """Be refused for a wrong password, choose another, and go back to the first by the same form."""
    chosen = "another-password-2"
    page = opened("/dashboard/setup?step=password")

    def change(present: str, new: str) -> None:
        page.get_by_label("Present password").fill(present)
        page.get_by_label("New password").fill(new)
        page.get_by_role("button", name="Change and go on").click()

    change("not-the-password-0", chosen)
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved.")
    look(page)
    change(PASSWORD, chosen)
    flash(page, "The password is changed.")
    expect(page.get_by_role("heading", name="Connect a provider")).to_be_visible()
    login = f"{server.url}/api/auth/login"
    assert requests.post(login, json={"password": chosen}, timeout=10).status_code == 200
    page.get_by_role("link", name="Password", exact=False).first.click()
    change(chosen, PASSWORD)
    flash(page, "The password is changed.")
    assert requests.post(login, json={"password": PASSWORD}, timeout=10).status_code == 200


def test_the_guide_leads_from_a_provider_to_a_key(opened: Opener, look: Look, server: Server, who: str) -> None:
    """Connect a provider, make the first combo, and issue a key, each after something wrong was typed."""
    page = opened("/dashboard/setup?step=provider")
    page.get_by_label(re.compile(r"^Search \d+ providers")).fill("groq")
    page.get_by_role("search", name="Providers").get_by_role("button", name="Search").click()
    page.get_by_role("radio", name="Groq").check()
    page.get_by_role("checkbox", name="Try the key before it is saved").uncheck()
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_label("API key of the provider")).to_have_attribute("aria-invalid", "true")
    look(page)
    expect(page.get_by_role("checkbox", name="Try the key before it is saved")).not_to_be_checked()
    page.get_by_label("API key of the provider").fill("gsk-0123456789")
    page.get_by_role("button", name="Connect").click()
    flash(page, "Groq is connected.")
    [connection] = server.api("GET", "/api/providers?provider=groq")["connections"]
    page.get_by_label("Name", exact=True).fill("auto")
    page.get_by_role("button", name="Make the combo").click()
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Name", exact=True).fill(f"first {who}")
    page.get_by_role("button", name="Make the combo").click()
    flash(page, f"The combo “first {who}” answers from now on.")
    [combo] = server.api("GET", f"/api/combos?q=first%20{who}")["combos"]
    assert (combo["isDefault"], combo["models"][0]["model"].startswith("groq/")) == (True, True)
    page.get_by_role("radio", name="Codex").check()
    page.get_by_label("Name of the key").fill(f"client {who}")
    page.get_by_role("button", name="Create the key and show the lines").click()
    secret = page.locator("#new-key").inner_text()
    [key] = server.api("GET", f"/api/keys?q=client%20{who}")["keys"]
    headers = {"Authorization": f"Bearer {secret}"}
    assert requests.get(f"{server.url}/v1/models", headers=headers, timeout=10).status_code == 200
    server.api("PUT", "/api/combos/default", {"id": None})
    for path in (f"/api/combos/{combo['id']}", f"/api/keys/{key['id']}", f"/api/providers/{connection['id']}"):
        server.api("DELETE", path)


def test_the_address_of_the_server_leads_to_the_dashboard(opened: Opener) -> None:
    """Type the address of the server alone."""
    page = opened("/")
    expect(page).to_have_url(re.compile(r"/dashboard$"))
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_a_browser_is_given_what_it_needs_to_install_the_dashboard(browser: Browser, server: Server) -> None:
    """Read the manifest that a page names, with its icons, and start the script that stays in the browser."""
    context = browser.new_context(base_url=server.url)
    try:
        page = context.new_page()
        page.goto("/login")
        assert page.evaluate("navigator.serviceWorker.ready.then((found) => found.active.scriptURL)").endswith("/sw.js")
        manifest = context.request.get(page.locator('link[rel="manifest"]').get_attribute("href") or "")
        assert manifest.headers["content-type"].startswith("application/manifest+json")
        document = manifest.json()
        assert (document["start_url"], document["display"]) == ("/dashboard", "standalone")
        for icon in document["icons"]:
            assert context.request.get(icon["src"]).headers["content-type"].startswith(icon["type"])
    finally:
        context.close()
