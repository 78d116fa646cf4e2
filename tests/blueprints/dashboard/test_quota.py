"""The page of quotas."""

from __future__ import annotations

import time

from omniroute.gateway.quotas import ENDPOINT
from omniroute.records import GrantWindow, QuotaReading
from tests.blueprints.dashboard.conftest import Pages


def connect(pages: Pages, name: str, used: float, resets_in_s: float) -> str:
    """Add a connection of which a window has been read."""
    body = {"provider": "groq", "apiKey": "gsk_0123456789abcdef", "name": name}
    connection = str(pages.api("POST", "/api/providers", body)["connection"]["id"])
    account = next(one for one in pages.app.own.directories.current.accounts_of("groq") if one.id == connection)
    now = time.time()
    window = GrantWindow("5h", used, length_s=18_000.0, resets_at=now + resets_in_s, unit="tokens")
    pages.app.own.routing.quotas.note_report(account, [QuotaReading(connection, window, now, ENDPOINT, "pro")])
    return connection


def test_nothing_known_names_the_providers_that_report(pages: Pages) -> None:
    page = pages.get("/dashboard/quota")
    assert "No quota is known yet" in page
    assert "OpenRouter" in page
    page = pages.after(pages.post("/dashboard/quota/refresh"))
    assert "No connection has a provider that says how much is left." in page


def test_windows_are_ordered_by_what_lapses_first(pages: Pages) -> None:
    connect(pages, "later", 0.9, 9000)
    connect(pages, "sooner@example.com", 0.25, 900)
    page = pages.get("/dashboard/quota")
    assert page.index("sooner@example.com") < page.index("later")
    assert "plan pro" in page
    assert "25%" in page
    assert "Starts anew:" in page
    used = pages.get("/dashboard/quota?sort=used")
    assert used.index(">later<") < used.index("sooner@example.com")
    named = pages.get("/dashboard/quota?sort=provider")
    assert named.index(">later<") < named.index("sooner@example.com")
    assert "No quota" in pages.get("/dashboard/quota?provider=openai")


def test_the_windows_refresh_alone(pages: Pages) -> None:
    connect(pages, "one", 0.5, 900)
    block = pages.block("/dashboard/quota", "windows")
    assert "<html" not in block.get_data(as_text=True)
    assert "5h" in block.get_data(as_text=True)
    assert block.headers["ETag"]


def test_a_connection_that_is_gone_is_said(pages: Pages) -> None:
    page = pages.after(pages.post("/dashboard/quota/refresh", {"connectionId": "conn_none"}))
    assert 'role="alert"' in page
