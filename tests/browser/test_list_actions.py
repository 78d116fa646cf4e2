"""What a visitor does to the rows of lists: puts them in order, tests and switches them, picks them; and proxies.

With a script rows are dragged by the mouse, moved by keys, and on a phone by a finger; without one by buttons.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Opener
from tests.browser.visitors import KEY, PHONE, Visitors, said
from tests.e2e.processes import Server, running_server, wait_until

COMBOS = "/dashboard/combos"
PROXIES = "/dashboard/settings?tab=advanced"
SCRIPTED = "scripted"
_COMBOS_PER_PAGE = 25
_CONNECTIONS_PER_PAGE = 50
_SLOW_MS = 20_000


@pytest.fixture
def who(request: pytest.FixtureRequest) -> str:
    """A name of this visitor's own."""
    return SCRIPTED if request.node.callspec.params["opened"] else "plain"


@pytest.fixture
def combos(server: Server) -> Iterator[list[str]]:
    """The names of three combos, in their order."""
    names = ["upper", "middle", "lower"]
    made = [server.api("POST", "/api/combos", {"name": name, "models": ["sandbox/echo"]}) for name in names]
    server.api("POST", "/api/combos/reorder", {"comboIds": [one["id"] for one in made]})
    yield names
    for one in made:
        server.api("DELETE", f"/api/combos/{one['id']}")


@pytest.fixture
def node(server: Server, upstream: str) -> Iterator[str]:
    """The id of an endpoint that has no connection yet."""
    fields = {"name": "Rack", "prefix": "rack", "type": "openai-compatible", "isLocal": True, "baseUrl": upstream}
    made: str = server.api("POST", "/api/provider-nodes", fields)["node"]["id"]
    yield made
    server.api("DELETE", f"/api/provider-nodes/{made}")


def connect(server: Server, provider: str, *names: str) -> None:
    """Add connections of these names; the key of `good` is right."""
    entries = [{"name": name, "apiKey": KEY if name == "good" else f"sk-{name}-0123456789"} for name in names]
    server.api("POST", "/api/providers/bulk", {"provider": provider, "entries": entries})


def connections(server: Server, provider: str) -> dict[str, dict[str, Any]]:
    """Return the connections of a provider by their names, in their stored order."""
    found = server.api("GET", f"/api/providers?provider={provider}&limit=200")["connections"]
    return {one["name"]: one for one in found}


def order_of_combos(server: Server) -> list[str]:
    """Return the names of the combos, in their stored order."""
    return [one["name"] for one in server.api("GET", "/api/combos?limit=200")["combos"]]


def shown(page: Page) -> list[str]:
    """Return the names of the rows that a page shows, from the top."""
    names: list[str] = page.locator("[data-row]").evaluate_all("rows => rows.map((row) => row.dataset.row)")
    return names


def row(page: Page, name: str) -> Locator:
    """Return the row of this name."""
    return page.locator(f'[data-row="{name}"]')


def take(page: Page, name: str, beyond: str) -> tuple[float, float]:
    """Take a row by its handle, carry it to the far end of another one, and return where that is."""
    row(page, name).locator("[data-handle]").hover()
    page.mouse.down()
    place = far_end(page, name, beyond)
    page.mouse.move(*place, steps=8)
    return place


def far_end(page: Page, name: str, beyond: str) -> tuple[float, float]:
    """Return where a row must be let go to stand on the other side of another one."""
    here, there = row(page, name).bounding_box(), row(page, beyond).bounding_box()
    assert here is not None
    assert there is not None
    share = 0.9 if here["y"] < there["y"] else 0.1
    return there["x"] + 20, there["y"] + share * there["height"]


def drag(page: Page, name: str, beyond: str) -> None:
    """Drag a row with the mouse to the other side of another one."""
    take(page, name, beyond)
    page.mouse.up()


def move(page: Page, name: str, way: str) -> None:
    """Move a row by its button, and come back to the page that says so."""
    page.get_by_role("button", name=f"Move {name} {way}").click()
    expect(said(page)).to_contain_text("The order is saved.")


def agree(page: Page, who: str) -> None:
    """Confirm what is asked; only a script asks."""
    if who == SCRIPTED:
        page.get_by_role("dialog").locator("button[value=yes]").click()


def see_the_end(page: Page, server: Server) -> None:
    """Wait for the job that a page shows; without a script look at it again then."""
    expect(page).to_have_url(re.compile("/jobs/"))
    job = page.url.partition("/jobs/")[2].partition("?")[0]
    wait_until(lambda: server.api("GET", f"/api/jobs/{job}")["state"] == "succeeded", within_s=30, what="a job")
    again = page.get_by_role("link", name="Look again")
    if again.is_visible():
        again.click()
    expect(page.locator("#job")).to_contain_text("Done")


def see_saved(page: Page, times: int) -> None:
    """Wait until a page has said that often that the order is saved."""
    expect(page.locator(".toasts .notice").filter(has_text="The order is saved.")).to_have_count(times)


# --- lists -----------------------------------------------------------------------------------------------------------


def test_combos_are_put_in_order(opened: Opener, server: Server, combos: list[str], who: str) -> None:
    """Drag a combo over two others and back over one; or move it by the buttons of its card."""
    page = opened(COMBOS)
    assert shown(page) == combos
    if who == SCRIPTED:
        drag(page, "upper", beyond="lower")
        see_saved(page, 1)
        assert order_of_combos(server) == ["middle", "lower", "upper"]
        drag(page, "upper", beyond="lower")
        see_saved(page, 2)
    else:
        expect(page.locator("[data-handle]").first).to_be_hidden()
        move(page, "upper", "down")
    assert order_of_combos(server) == ["middle", "upper", "lower"]
    page.reload()
    assert shown(page) == ["middle", "upper", "lower"]


def test_combos_move_from_page_to_page(opened: Opener, server: Server, who: str) -> None:
    """Move a combo of the second page to the first one and back, and stay on the page that was open."""
    names = [f"c{number:02}" for number in range(_COMBOS_PER_PAGE + 3)]
    made = [server.api("POST", "/api/combos", {"name": name, "models": ["sandbox/echo"]})["id"] for name in names]
    server.api("POST", "/api/combos/reorder", {"comboIds": made})
    first, (one, two, three) = names[:_COMBOS_PER_PAGE], names[_COMBOS_PER_PAGE:]
    page = opened(f"{COMBOS}?offset={_COMBOS_PER_PAGE}")
    assert shown(page) == [one, two, three]
    if who == SCRIPTED:
        drag(page, two, beyond=one)
        see_saved(page, 1)
    else:
        move(page, two, "up")
        assert shown(page) == [two, one, three]
    assert order_of_combos(server) == [*first, two, one, three]
    move(page, two, "up")
    assert shown(page) == [first[-1], one, three]
    assert order_of_combos(server) == [*first[:-1], two, first[-1], one, three]
    page.goto(COMBOS)
    assert shown(page)[-1] == two
    move(page, two, "down")
    assert shown(page) == first
    assert order_of_combos(server) == [*first, two, one, three]
    for combo in made:
        server.api("DELETE", f"/api/combos/{combo}")


def test_connections_are_put_in_order(opened: Opener, server: Server, node: str, who: str) -> None:
    """Drag a connection to the top, and move another one by keys alone; or move both by their buttons."""
    connect(server, node, "first", "second", "third")
    page = opened(f"/dashboard/providers/{node}")
    assert shown(page) == list(connections(server, node)) == ["first", "second", "third"]
    if who == SCRIPTED:
        drag(page, "third", beyond="first")
        see_saved(page, 1)
        assert list(connections(server, node)) == ["third", "first", "second"]
        down = page.get_by_role("button", name="Move first down")
        down.press("Enter")
        see_saved(page, 2)
        expect(down).to_be_disabled()
        expect(page.get_by_role("button", name="Move first up")).to_be_focused()
    else:
        expect(page.locator("[data-handle]").first).to_be_hidden()
        move(page, "third", "up")
        move(page, "third", "up")
        move(page, "first", "down")
    assert list(connections(server, node)) == ["third", "second", "first"]
    page.reload()
    assert shown(page) == ["third", "second", "first"]


def test_connections_move_from_page_to_page(opened: Opener, server: Server, node: str, who: str) -> None:
    """Put connections of the second page in order, and send one to the first page and back."""
    names = [f"c{number:02}" for number in range(_CONNECTIONS_PER_PAGE + 3)]
    connect(server, node, *names)
    first, (one, two, three) = names[:_CONNECTIONS_PER_PAGE], names[_CONNECTIONS_PER_PAGE:]
    page = opened(f"/dashboard/providers/{node}?offset={_CONNECTIONS_PER_PAGE}")
    assert shown(page) == [one, two, three]
    if who == SCRIPTED:
        drag(page, three, beyond=one)
        see_saved(page, 1)
        expect(page.get_by_role("button", name=f"Move {two} down")).to_be_disabled()
    else:
        move(page, three, "up")
        move(page, three, "up")
    assert list(connections(server, node)) == [*first, three, one, two]
    move(page, three, "up")
    assert list(connections(server, node)) == [*first[:-1], three, first[-1], one, two]
    assert shown(page) == [first[-1], one, two]
    page.goto(f"/dashboard/providers/{node}")
    assert shown(page)[-1] == three
    move(page, three, "down")
    assert list(connections(server, node)) == [*first, three, one, two]
    page.reload()
    assert shown(page) == first


def test_steps_of_a_combo_are_put_in_order(opened: Opener, server: Server, who: str) -> None:
    """Drag a step in a combo's form, or move it by a button; it counts when the combo is saved."""
    steps = ["sandbox/echo", "sandbox/story", "sandbox/think"]
    made = server.api("POST", "/api/combos", {"name": f"steps {who}", "models": steps})
    page = opened(f"{COMBOS}/{made['id']}/edit")
    page.get_by_label("Weight of sandbox/story").fill("7")
    if who == SCRIPTED:
        drag(page, "sandbox/think", beyond="sandbox/story")
        drag(page, "sandbox/echo", beyond="sandbox/story")
        expect(page.locator("#reorder-said")).to_contain_text("sandbox/echo is now 3 of 3")
    else:
        expect(page.locator("[data-handle]").first).to_be_hidden()
        for moved, way in (("think", "up"), ("echo", "down"), ("echo", "down")):
            page.get_by_role("button", name=f"Move sandbox/{moved} {way}").click()
    assert shown(page) == ["sandbox/think", "sandbox/story", "sandbox/echo"]
    stored = server.api("GET", f"/api/combos/{made['id']}")["models"]
    assert [step["model"] for step in stored] == steps
    page.get_by_role("button", name="Save the combo").click()
    expect(said(page)).to_contain_text(f"The combo steps {who} is saved.")
    stored = server.api("GET", f"/api/combos/{made['id']}")["models"]
    wanted = [("sandbox/think", 1), ("sandbox/story", 7), ("sandbox/echo", 1)]
    assert [(step["model"], step["weight"]) for step in stored] == wanted
    page.goto(f"{COMBOS}/{made['id']}/edit")
    assert shown(page) == ["sandbox/think", "sandbox/story", "sandbox/echo"]
    server.api("DELETE", f"/api/combos/{made['id']}")


def test_a_row_that_is_let_go_beside_its_list_stays_where_it_is(
    visitors: Visitors, server: Server, combos: list[str]
) -> None:
    """Leave the list with a row in hand: it is let go there, and follows the mouse no longer."""
    page = visitors.visit(COMBOS)
    assert shown(page) == combos
    _x, y = take(page, "upper", beyond="middle")
    page.mouse.move(2, y, steps=4)
    page.mouse.up()
    see_saved(page, 1)
    assert order_of_combos(server) == ["middle", "upper", "lower"]
    page.mouse.move(*far_end(page, "upper", "lower"), steps=8)
    assert shown(page) == ["middle", "upper", "lower"]
    take(page, "lower", beyond="lower")
    page.mouse.up()
    assert shown(page) == order_of_combos(server) == ["middle", "upper", "lower"]
    see_saved(page, 1)


def test_a_row_is_dragged_by_a_finger(visitors: Visitors, server: Server, combos: list[str]) -> None:
    """Drag a combo on a phone: the row moves, not the page."""
    page = visitors.visit(COMBOS, width=PHONE)
    finger = page.context.new_cdp_session(page)
    handle = row(page, "middle").locator("[data-handle]")
    row(page, "upper").scroll_into_view_if_needed()
    box = handle.bounding_box()
    assert box is not None
    from_x, from_y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    to_x, to_y = far_end(page, "middle", "upper")

    def touch(kind: str, *points: tuple[float, float]) -> None:
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    touch("touchStart", (from_x, from_y))
    for step in range(1, 9):
        touch("touchMove", (from_x + (to_x - from_x) * step / 8, from_y + (to_y - from_y) * step / 8))
    touch("touchEnd")
    see_saved(page, 1)
    assert order_of_combos(server) == ["middle", "upper", "lower"] != combos
    page.reload()
    assert shown(page) == ["middle", "upper", "lower"]


# --- rows, one by one and ticked -------------------------------------------------------------------------------------


def test_one_connection_is_tested_reset_and_switched(opened: Opener, server: Server, node: str, who: str) -> None:
    """Test a connection that works and one that does not, forget the failure, and switch one off and on."""
    connect(server, node, "good", "bad")
    page = opened(f"/dashboard/providers/{node}")
    told = page.locator(".connection-result") if who == SCRIPTED else said(page)
    page.get_by_role("button", name="Test good", exact=True).click()
    expect(told).to_contain_text("It works. Model")
    page.get_by_role("button", name="Test bad", exact=True).click()
    expect(told).to_contain_text("It does not work:")
    assert {name: one["status"] for name, one in connections(server, node).items()} == {"good": "ok", "bad": "error"}
    page.get_by_role("button", name="Reset bad", exact=True).click()
    expect(page.get_by_role("button", name="Reset bad", exact=True)).to_have_count(0)
    assert connections(server, node)["bad"]["status"] == "untested"
    switch = page.get_by_role("button", name="good is used")
    for pressed, is_active in (("false", False), ("true", True)):
        switch.click()
        expect(switch).to_have_attribute("aria-pressed", pressed)
        assert connections(server, node)["good"]["isActive"] is is_active
    assert connections(server, node)["bad"]["isActive"] is True


def test_ticked_connections_are_tested_reset_and_switched(opened: Opener, server: Server, node: str, who: str) -> None:
    """Tick connections and test them, forget what came of that, and switch them off and on; or tick none."""
    connect(server, node, "good", "bad", "worse")
    page = opened(f"/dashboard/providers/{node}")
    ticked = page.get_by_role("group", name="With the ticked ones")

    def do(action: str, *names: str) -> None:
        for name in names:
            page.get_by_role("checkbox", name=f"Choose {name}", exact=True).check()
        ticked.get_by_role("button", name=action, exact=True).click()

    def are_active() -> list[str]:
        return [name for name, one in connections(server, node).items() if one["isActive"]]

    do("Switch off")
    expect(said(page)).to_contain_text("Choose at least one connection.")
    do("Test", "good", "bad")
    see_the_end(page, server)
    expect(page.get_by_role("main")).to_contain_text("1 of 2 connections work.")
    page.get_by_role("link", name="Back", exact=True).click()
    found = {name: one["status"] for name, one in connections(server, node).items()}
    assert found == {"good": "ok", "bad": "error", "worse": "untested"}
    do("Reset", "good", "bad")
    expect(said(page)).to_contain_text("Errors and rests are forgotten.")
    assert connections(server, node)["bad"]["status"] == "untested"
    do("Switch off", "good", "worse")
    expect(said(page)).to_contain_text("2 connections are switched off.")
    assert are_active() == ["bad"]
    if who == SCRIPTED:
        page.get_by_label("All", exact=True).check()
        do("Switch on")
        expect(said(page)).to_contain_text("3 connections are switched on.")
    else:
        do("Switch on", "good", "worse")
        expect(said(page)).to_contain_text("2 connections are switched on.")
    assert are_active() == ["good", "bad", "worse"]


def test_models_are_listed_tested_and_hidden(opened: Opener, server: Server, node: str, who: str) -> None:
    """Read a provider's list of models; test and hide one of them, and several that are ticked."""
    connect(server, node, "good")
    page = opened(f"/dashboard/providers/{node}?tab=models")
    table = page.locator("#models")
    ticked = page.get_by_role("group", name="With the ticked ones")

    def do(action: str, *names: str) -> None:
        for name in names:
            page.get_by_role("checkbox", name=f"Choose rack/{name}", exact=True).check()
        ticked.get_by_role("button", name=action, exact=True).click()

    def hidden() -> set[str]:
        found = server.api("GET", f"/api/models?provider={node}&all=true&limit=200")["models"]
        return {one["modelId"] for one in found if one["hidden"]}

    page.get_by_role("button", name="Read the provider's list now").click()
    expect(said(page)).to_contain_text(re.compile(r"The list has \d+ models: \d+ new, 0 gone."))
    assert {"echo", "story"} <= {one["modelId"] for one in server.api("GET", f"/api/models?provider={node}")["models"]}
    page.get_by_role("button", name="Test rack/echo", exact=True).click()
    expect(table if who == SCRIPTED else said(page)).to_contain_text("It answers." if who == SCRIPTED else "answers.")
    shows = page.get_by_role("button", name="rack/echo is shown", exact=True)
    for pressed, gone in (("false", {"echo"}), ("true", set())):
        shows.click()
        expect(shows).to_have_attribute("aria-pressed", pressed)
        assert hidden() == gone
    do("Hide")
    expect(said(page)).to_contain_text("Choose at least one model.")
    do("Hide", "echo", "story")
    expect(said(page)).to_contain_text("2 models are hidden.")
    assert hidden() == {"echo", "story"}
    do("Show", "echo", "story")
    expect(said(page)).to_contain_text("2 models are shown again.")
    assert hidden() == set()
    do("Test", "echo", "story")
    agree(page, who)
    see_the_end(page, server)
    expect(page.get_by_role("main")).to_contain_text("2 of 2 models answer.")


# --- rows that are picked from what was found ------------------------------------------------------------------------


def test_a_combo_is_put_together_from_what_is_found(opened: Opener, server: Server, combos: list[str]) -> None:
    """Add a model, another combo, a channel and a model that no list has; take one out, and weigh the others evenly."""
    page = opened(f"{COMBOS}/new")
    page.get_by_label("Name", exact=True).fill("together")

    def find(text: str) -> None:
        expect(page.locator(".htmx-request, .htmx-settling")).to_have_count(0)  # what is put in listens only then
        page.get_by_label("Add a model, a combo or a channel").fill(text)
        search = page.get_by_role("button", name="Search", exact=True).and_(page.locator("[data-no-script]"))
        if search.is_visible():
            search.click()

    wanted = (
        ("sandbox/sto", "Add sandbox/story"),
        ("middle", "Add middle"),
        ("auto/fast", "Add auto/fast"),
        ("nowhere/model", "Add “nowhere/model”"),
    )
    for count, (text, action) in enumerate(wanted, start=1):
        find(text)
        page.get_by_role("button", name=action, exact=True).click()
        expect(page.locator(".combo-step")).to_have_count(count)
    page.get_by_role("button", name="Remove auto/fast").click()
    expect(page.locator(".combo-step")).to_have_count(3)
    page.get_by_role("radio", name=re.compile("^Weighted")).check()
    page.get_by_role("button", name="Distribute weights evenly").click()
    expect(page.get_by_label("Weight of nowhere/model")).not_to_have_value("1")
    page.get_by_role("button", name="Make the combo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("together")
    [made] = server.api("GET", "/api/combos?q=together")["combos"]
    weights = [step["weight"] for step in made["models"]]
    assert [step.get("model") or step["comboName"] for step in made["models"]] == [
        "sandbox/story",
        combos[1],
        "nowhere/model",
    ]
    assert sum(weights) == pytest.approx(100, abs=0.1)
    assert max(weights) - min(weights) <= 1
    server.api("DELETE", f"/api/combos/{made['id']}")


def test_a_key_is_held_to_what_is_found(opened: Opener, server: Server, combos: list[str], who: str) -> None:
    """Search in the form of a key, and allow it a model and a combo of what was found."""
    key = server.api("POST", "/api/keys", {"name": f"held {who}"})
    page = opened(f"/dashboard/keys/{key['id']}")
    for text, action in (("sandbox/ec", "sandbox/echo"), ("middle", "middle combo")):
        page.get_by_label("Find a model, a family or a combo").fill(text)
        page.get_by_role("button", name="Search", exact=True).last.click()
        page.get_by_role("button", name=action, exact=True).click()
    expect(page.get_by_label("Only these models")).to_have_value("sandbox/echo")
    expect(page.get_by_label("Only these combos")).to_have_value("middle")
    page.get_by_role("button", name="Save the key").click()
    expect(said(page)).to_contain_text("The key is saved.")
    stored = server.api("GET", f"/api/keys/{key['id']}")["key"]
    assert (stored["allowedModels"], stored["allowedCombos"]) == (["sandbox/echo"], [combos[1]])
    headers = {"Authorization": f"Bearer {key['key']}"}
    for model, status in (("sandbox/echo", 200), ("middle", 200), ("upper", 403), ("sandbox/story", 403)):
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        answer = requests.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=20)
        assert answer.status_code == status, (model, answer.text)
    server.api("DELETE", f"/api/keys/{key['id']}")


def test_a_sample_is_loaded_and_translated(opened: Opener) -> None:
    """Take an answer from the translator's list of samples in the place of the request that is there at first."""
    page = opened("/dashboard/translator")
    body = page.get_by_label("Body, or the text of a stream")
    expect(body).to_have_value(re.compile('"messages"'))
    page.get_by_label("From", exact=True).select_option("gemini")
    page.get_by_label("Sample").select_option("response:tools")
    page.get_by_role("button", name="Load", exact=True).click()
    expect(body).to_have_value(re.compile('"candidates"'))
    page.get_by_label("To", exact=True).select_option("openai_chat")
    page.get_by_role("button", name="Translate", exact=True).click()
    expect(page.locator("#result")).to_contain_text("chat.completion")


# --- proxies ---------------------------------------------------------------------------------------------------------

BY_PROXY = "by way of the proxy"


class Answerer(BaseHTTPRequestHandler):
    """A proxy that answers chats itself: so one sees which of them came its way."""

    def do_POST(self) -> None:
        """Answer in a provider's stead."""
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": BY_PROXY}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "echo", "choices": [choice]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_said: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def through(server: Server) -> Iterator[str]:
    """The name of a proxy that answers chats itself."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answerer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        fields = {"name": "Gate", "type": "http", "host": "127.0.0.1", "port": running.server_port}
        made = server.api("POST", "/api/settings/proxies", fields)["proxy"]["id"]
        yield "Gate"
        server.api("DELETE", f"/api/settings/proxies/{made}?force=true")
        running.shutdown()


@pytest.fixture
def asked(server: Server, upstream: str) -> Iterator[dict[str, str]]:
    """Ids of an endpoint, a combo that leads to it and an API key, with the key itself."""
    server.add_node(upstream, prefix="yard", key=KEY)
    [node] = server.api("GET", "/api/provider-nodes")["nodes"]
    combo = server.api("POST", "/api/combos", {"name": "by the yard", "models": ["yard/echo"]})
    key = server.api("POST", "/api/keys", {"name": "gatekeeper"})
    yield {"provider": node["id"], "combo": combo["id"], "key": key["id"], "secret": key["key"]}
    for path in (f"/api/combos/{combo['id']}", f"/api/keys/{key['id']}", f"/api/provider-nodes/{node['id']}"):
        server.api("DELETE", path)


def ways(server: Server, secret: str) -> dict[str, bool]:
    """Ask once for each level, and tell which of the requests went through the proxy."""
    other = server.new_key()
    return {
        "global": goes_by_proxy(server, "yard/echo", other),
        "combo": goes_by_proxy(server, "by the yard", other),
        "key": goes_by_proxy(server, "yard/echo", secret),
    }


def goes_by_proxy(server: Server, model: str, key: str) -> bool:
    """Ask a model, and tell whether the proxy answered."""
    body = {"model": model, "messages": [{"role": "user", "content": "directly"}]}
    headers = {"Authorization": f"Bearer {key}"}
    answer = requests.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    text = answer.json()["choices"][0]["message"]["content"]
    assert text in (BY_PROXY, "directly")
    return bool(text == BY_PROXY)


@pytest.mark.parametrize(
    ("level", "label", "where", "led"),
    [
        ("global", "All providers", "", {"global", "combo", "key"}),
        ("provider", "One provider", "yard", {"global", "combo", "key"}),
        ("combo", "One combo", "by the yard", {"combo"}),
        ("key", "One API key", "gatekeeper", {"key"}),
    ],
)
def test_a_proxy_is_used_where_it_is_set(
    opened: Opener,
    server: Server,
    through: str,
    asked: dict[str, str],
    level: str,
    label: str,
    where: str,
    led: set[str],
) -> None:
    """Set a proxy for a level, see it there and in the requests it is for, and take it away."""
    kept = {"global": "global"}.get(level, f"{level}s")

    def bound() -> Any:
        found = server.api("GET", "/api/settings/proxy")[kept]
        return found if level == "global" else found.get(asked[level])

    page = opened(PROXIES)
    proxies = page.locator("#proxies")
    place = proxies.get_by_role("listitem").filter(has_text=label)

    def use(where: str) -> None:
        proxies.get_by_label("Use it for").select_option(label)
        proxies.get_by_label("Name of the provider, combo or key").fill(where)
        proxies.get_by_label("Proxy", exact=True).select_option(through)
        proxies.get_by_role("button", name="Use it", exact=True).click()

    expect(place).to_have_count(0)
    use("nobody here")
    expect(proxies.get_by_role("alert")).to_contain_text("Nothing was saved.")
    expect(proxies.get_by_label("Name of the provider, combo or key")).to_have_value("nobody here")
    assert bound() is None
    use(where)
    expect(said(page)).to_contain_text("The proxy is in use there.")
    assert bound()["name"] == through
    page.reload()
    expect(place).to_contain_text(through)
    expect(place).to_contain_text(where)
    assert {way for way, is_led in ways(server, asked["secret"]).items() if is_led} == led
    place.get_by_role("button", name="Use none").click()
    expect(said(page)).to_contain_text("Nothing of its own is used there any more.")
    expect(place).to_have_count(0)
    assert bound() is None
    page.reload()
    expect(place).to_have_count(0)
    assert not any(ways(server, asked["secret"]).values())


# --- the server itself -----------------------------------------------------------------------------------------------


def test_the_database_gives_pages_back(opened: Opener, who: str) -> None:
    """Have the database shrunk, and read how large it was and is."""
    page = opened("/dashboard/settings?tab=general")
    page.get_by_role("button", name="Give unused pages back").click()
    work = page.locator("#work")
    expect(work).to_be_visible(timeout=_SLOW_MS)
    if who != SCRIPTED:
        server_said = re.compile("The database was .* now")
        wait_until(lambda: page.reload() and server_said.search(work.inner_text()), within_s=20, what="it is done")
    expect(work).to_contain_text(re.compile(r"The database was [\d.]+ .*B and is [\d.]+ .*B now\."), timeout=_SLOW_MS)


def test_the_server_is_stopped_without_a_script(visitors: Visitors, tmp_path: Path) -> None:
    """Stop the server by the plain form: the page still says so, and then nobody answers."""
    with running_server(tmp_path / "data") as server:
        visitors.server = server
        page = visitors.visit("/dashboard/settings?tab=general", width=PHONE, theme="dark", has_script=False)
        page.get_by_role("button", name="Shut down").click()
        expect(page.get_by_role("status").first).to_contain_text(
            "The server stops when the requests in progress are finished."
        )
        assert server.process.wait(20) == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{server.url}/healthz", timeout=5)
