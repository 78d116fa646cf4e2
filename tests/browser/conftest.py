"""A server, a browser and a visitor per module: Playwright's loop must not outlive the module that uses it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.visitors import Visitors, chromium
from tests.e2e.processes import Server, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with nothing in it but the built-in sandbox."""
    with running_server(tmp_path_factory.mktemp("dashboard") / "data") as running:
        yield running


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
