"""Translator, playground and CLI tools in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from tests.browser.visitors import PHONE, Visitors

PLAYGROUND = "/dashboard/playground"
TRANSLATOR = "/dashboard/translator"


def ask(page: Page, text: str) -> None:
    """Type a message and send it."""
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_label("Message", exact=True).press("Enter")


def answering(body: str) -> Callable[[Route], None]:
    """Return what answers in the server's place."""

    def answer(route: Route) -> None:
        route.fulfill(body=body, content_type="text/event-stream")

    return answer


def test_the_pages_are_usable_by_all(visitors: Visitors) -> None:
    tabs = [f"{TRANSLATOR}?tab={tab}" for tab in ("playground", "tester", "bench", "monitor")]
    paths = (*tabs, PLAYGROUND, "/dashboard/cli-tools", "/dashboard/cli-tools?tool=claude")
    assert visitors.faults_at(*paths) == []


def test_models_answer_side_by_side_and_each_failure_is_said(visitors: Visitors) -> None:
    models = "&".join(f"model=sandbox/{name}" for name in ("story-10", "think", "fail-429", "cut"))
    page = visitors.visit(f"{PLAYGROUND}?{models}")
    ask(page, "Tell <b>me</b>")
    told, thought, refused, cut = (page.locator("[data-column]").nth(number) for number in range(4))
    expect(page.locator("#send")).to_be_enabled(timeout=20_000)
    expect(told.locator(".play-said").last).to_contain_text("0:marsh 1:lamp")
    expect(told.locator(".is-user")).to_have_text("Tell <b>me</b>")
    expect(told.locator("[data-facts]")).to_contain_text("tokens/s")
    expect(told.locator("[data-facts]")).to_contain_text("$0.00 (free)")
    expect(thought.get_by_text("Reasoning")).to_be_visible()
    expect(thought.locator(".play-said").last).to_contain_text("Tell <b>me</b>")
    expect(refused.locator(".notice")).to_contain_text("Rate limit reached")
    expect(cut.locator(".play-said").last).to_contain_text("9:lamp")
    expect(cut.locator(".notice")).to_contain_text("broke off in the middle")
    expect(page.get_by_role("button", name="Add a model")).to_be_disabled()
    visitors.look(page)


def test_an_answer_is_stopped_the_chat_goes_on_and_is_cleared(visitors: Visitors) -> None:
    page = visitors.visit(f"{PLAYGROUND}?model=sandbox/story", width=PHONE)
    first = page.locator("[data-column]").first
    page.get_by_role("button", name="Remove this model").click()
    ask(page, "One")
    expect(first.locator(".play-said").last).to_contain_text("salt marsh")
    page.get_by_role("button", name="Stop").click()
    expect(first.locator(".notice")).to_have_text("Stopped.")
    page.get_by_label("Model", exact=True).fill("sandbox/echo")
    ask(page, "Two")
    expect(first.locator(".play-said").last).to_have_text("Two")
    page.get_by_text("Raw request", exact=True).click()
    raw = page.locator("#raw")
    expect(raw).to_contain_text('"content": "One"')
    expect(raw).to_contain_text('"include_usage": true')
    page.get_by_text("Code", exact=True).click()
    expect(page.locator("#code-python")).to_contain_text("requests.post(")
    page.get_by_text("Chat", exact=True).click()
    page.get_by_role("button", name="Clear").click()
    expect(first).to_contain_text("Nothing was asked yet.")


def test_characters_that_are_split_between_pieces_and_unended_streams(visitors: Visitors) -> None:
    page = visitors.visit(f"{PLAYGROUND}?model=sandbox/echo")
    column = page.locator("[data-column]").first
    ask(page, "日本語 🏮 ümlaut")
    expect(column.locator(".play-said").last).to_have_text("日本語 🏮 ümlaut")
    for body, words in (
        ('data: {"choices":[{"delta":{"content":"Half"}}]}\n\n', "The stream ended before the answer did."),
        ('event: error\ndata: {"error":{"message":"It broke."}}\n\n', "It broke."),
    ):
        page.route("**/v1/chat/completions", answering(body))
        ask(page, "Again")
        expect(column.locator(".notice").last).to_have_text(words)
        page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page, "And again")
    expect(column.locator(".notice").last).to_have_text("The server could not be reached.")


def test_the_chat_tester_shows_pieces_and_then_the_way(visitors: Visitors) -> None:
    page = visitors.visit(f"{TRANSLATOR}?tab=tester")
    page.get_by_label("Model", exact=True).fill("sandbox/story-20")
    page.get_by_label("Format of the client").select_option("anthropic_messages")
    page.get_by_label("Message", exact=True).fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#live-frames")).to_contain_text("message_start")
    expect(page.locator("#way-result")).to_contain_text("200", timeout=15_000)
    expect(page.locator("#way")).to_contain_text("Answer of sandbox")
    visitors.look(page)


def test_the_bench_runs_and_a_cell_opens_its_evidence(visitors: Visitors) -> None:
    page = visitors.visit(f"{TRANSLATOR}?tab=bench", width=PHONE)
    page.get_by_role("checkbox", name="Text", exact=True).check()
    page.locator("#f-targets-gemini").check()
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#run")).to_contain_text("5 work, 0 failed", timeout=15_000)
    page.get_by_role("link", name="Text in Ollama: show the evidence").click()
    expect(page.locator("#evidence")).to_contain_text("Text in Ollama at Gemini")
    visitors.look(page)


def test_a_translation_without_a_script(visitors: Visitors) -> None:
    page = visitors.visit(TRANSLATOR, has_script=False)
    page.get_by_label("Sample").select_option("request:tools")
    page.get_by_role("button", name="Load").click()
    expect(page.locator("#result")).to_contain_text("input_schema")
    page.get_by_label("Body, or the text of a stream").fill("{")
    page.get_by_role("button", name="Translate").click()
    expect(page.locator("#f-body-fault")).to_be_visible()
    expect(page.get_by_label("Body, or the text of a stream")).to_have_value(re.compile(r"^\{\s*$"))


def test_tools_are_found_by_themselves(visitors: Visitors) -> None:
    page = visitors.visit("/dashboard/cli-tools")
    expect(page.locator("#found")).to_contain_text("Uses this server", timeout=15_000)
    page.get_by_role("link", name="Auto-config Claude Code").click()
    expect(page.locator("#host")).to_contain_text("What Auto-config would change")
    page.get_by_label("System it runs on").select_option("windows")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#environment")).to_contain_text("$env:ANTHROPIC_BASE_URL")
