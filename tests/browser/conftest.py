"""A server, a browser and a visitor per module: Playwright's loop must not outlive the module that uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.visitors import KEY, PHONE, WIDE, Visitors, chromium
from tests.e2e.processes import Server, running_sandbox, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with nothing in it but the built-in sandbox."""
    with running_server(tmp_path_factory.mktemp("dashboard") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a provider that takes one key only, and answers chats."""
    with running_sandbox(tmp_path_factory.mktemp("upstream") / "log", "--require-key", KEY) as sandbox:
        yield f"{sandbox.url}/v1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visitors(server: Server, browser: Browser) -> Iterator[Visitors]:
    """Visitors of this test; their browsers are closed after it."""
    opened = Visitors(server, browser)
    yield opened
    opened.close()


Opener = Callable[[str], Page]


@pytest.fixture(params=[True, False], ids=["wide-light-scripted", "phone-dark-plain"])
def opened(visitors: Visitors, request: pytest.FixtureRequest) -> Opener:
    """Open a page as each of two visitors: at a desk with a script, and on a phone by forms alone."""
    is_scripted: bool = request.param

    def visit(path: str) -> Page:
        if is_scripted:
            return visitors.visit(path, width=WIDE, theme="light")
        return visitors.visit(path, width=PHONE, theme="dark", has_script=False)

    return visit
