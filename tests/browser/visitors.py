"""A visitor with a browser, and what every page must hold to."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page

from tests.e2e.processes import Server

WIDE = 1440
PHONE = 390
KEY = "sk-right-0123456789abcdef"
"""What the provider of `upstream` takes."""
Theme = Literal["light", "dark"]
Look = tuple[Theme, int]
TWO_LOOKS: Final[Sequence[Look]] = (("light", WIDE), ("dark", PHONE))
ALL_LOOKS: Final[Sequence[Look]] = (("light", WIDE), ("light", PHONE), ("dark", WIDE), ("dark", PHONE))
_AXE = Axe()
_RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
_SERIOUS = {"serious", "critical"}


def chromium() -> str:
    """Return the path of the installed Chromium."""
    found = shutil.which("chromium")
    assert found is not None, "apt-get install chromium"
    return found


def said(page: Page) -> Locator:
    """Return what the page says of the last action."""
    return page.locator("#flashes")


@dataclass
class Visitors:
    """Opens pages as a logged-in visitor; closes all of them at the end.

    Attributes:
        plain: the browsers without a script.
        complaints: what the browser's console has said, of all pages; `look` judges it.
    """

    server: Server
    browser: Browser
    contexts: list[BrowserContext] = field(default_factory=list)
    plain: list[BrowserContext] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def visit(
        self,
        path: str,
        *,
        width: int = WIDE,
        theme: Theme = "light",
        has_script: bool = True,
        language: str = "en-US",
        is_logged_in: bool = True,
    ) -> Page:
        """Open a page in a browser of its own and return it when it is loaded."""
        context = self.browser.new_context(
            base_url=self.server.url,
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            java_script_enabled=has_script,
            locale=language,
            reduced_motion="reduce",
            service_workers="block",
        )
        context.set_default_timeout(10_000)
        self.contexts.append(context)
        if not has_script:
            self.plain.append(context)
        if is_logged_in:
            context.add_cookies(
                [
                    {"name": cookie.name, "value": cookie.value or "", "url": self.server.url}
                    for cookie in self.server.session.cookies
                ]
            )
        page = context.new_page()
        page.on("console", lambda said: self._note(said.type, said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(path)
        return page

    def _note(self, kind: str, text: str) -> None:
        # Chromium itself says each refused form (400, 409) once more; tests look at what the page says of it.
        if kind == "error" and "Failed to load resource: the server responded with a status of 4" not in text:
            self.complaints.append(text)

    def look(self, page: Page) -> None:
        """Hold a page to what every page must."""
        faults = self.faults(page)
        assert not faults, faults

    def faults(self, page: Page) -> list[str]:
        """Return where a page is not usable by all, what the browser complained of, and whether it scrolls sideways."""
        assert page.context not in self.plain, "axe is a script: it would be waited for without an end"
        found: dict[str, Any] = _AXE.run(page, options=_RULES).response
        faults = [
            f"{fault['id']} ({fault['impact']}): {fault['help']}: {[node['target'] for node in fault['nodes'][:3]]}"
            for fault in found["violations"]
            if fault["impact"] in _SERIOUS
        ]
        faults += self.complaints
        wide, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        if wide > shown:
            faults.append(f"it is {wide} wide where {shown} are shown")
        if (count := page.locator("h1").count()) != 1:
            faults.append(f"it has {count} headings of the first level")
        return [f"{page.url}: {fault}" for fault in faults]

    def faults_at(self, *paths: str, looks: Sequence[Look] = TWO_LOOKS) -> list[str]:
        """Return the faults of pages in each of several looks."""
        faults = []
        for path in paths:
            for theme, width in looks:
                page = self.visit(path, theme=theme, width=width)
                faults += self.faults(page)
                page.context.close()
        return faults

    def close(self) -> None:
        """Close what is still open."""
        for context in self.contexts:
            context.close()
