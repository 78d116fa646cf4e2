"""The set-up guide by forms alone."""

from __future__ import annotations

import re

from tests.blueprints.dashboard.conftest import PASSWORD, Pages, text_of


def test_it_opens_at_the_first_step_that_is_not_done(pages: Pages) -> None:
    assert "Connect a provider" in pages.get("/dashboard/setup")
    pages.api("POST", "/api/providers", {"provider": "openai", "apiKey": "sk-test-0123456789"})
    assert "Make the first combo" in pages.get("/dashboard/setup")
    pages.api("POST", "/api/combos", {"name": "main", "models": ["sandbox/echo"]})
    assert "Connect a client" in pages.get("/dashboard/setup")
    assert "Choose a password of your own" in pages.get("/dashboard/setup?step=password")


def test_the_password_is_changed_on_the_way(pages: Pages) -> None:
    wrong = {"currentPassword": "guess", "newPassword": "another good password"}
    page = text_of(pages.post("/dashboard/setup/password", wrong, expect=400))
    assert "Nothing was saved." in page
    page = pages.after(pages.post("/dashboard/setup/password", {**wrong, "currentPassword": PASSWORD}))
    assert "The password is changed." in page
    assert "Connect a provider" in page


def test_a_provider_is_found_by_its_name(pages: Pages) -> None:
    page = pages.get("/dashboard/setup?step=provider")
    assert 'value="openai"' in page
    assert 'value="deepinfra"' not in page
    page = pages.get("/dashboard/setup?step=provider&q=deepinf")
    assert 'value="deepinfra"' in page
    assert 'value="openai"' not in page
    assert "No provider of this name" in pages.get("/dashboard/setup?step=provider&q=nothing-like-it")


def test_a_key_that_is_refused_is_not_shown_again_and_the_choice_stays(pages: Pages) -> None:
    page = text_of(pages.post("/dashboard/setup/provider", {"provider": "openai", "apiKey": " "}, expect=400))
    assert "Nothing was saved." in page
    assert re.search(r'value="openai" required checked', page)
    page = text_of(
        pages.post("/dashboard/setup/provider", {"provider": "no-such", "apiKey": "sk-9876543210"}, expect=400)
    )
    assert "sk-9876543210" not in page


def test_from_a_provider_to_the_lines_of_a_client(pages: Pages) -> None:
    form = {"provider": "openai", "apiKey": "sk-test-0123456789"}
    page = pages.after(pages.post("/dashboard/setup/provider", form))
    assert "OpenAI is connected." in page
    suggested = re.findall(r'name="models" id="[^"]+" value="([^"]+)" checked', page)
    assert len(suggested) == 1
    page = pages.after(pages.post("/dashboard/setup/combo", {"name": "main", "models": suggested}))
    assert "The combo “main” answers from now on." in page
    assert pages.api("GET", "/api/combos/default")["default"]["name"] == "main"
    made = pages.post("/dashboard/setup/client", {"name": "laptop", "tool": "claude", "model": "main"}, expect=201)
    assert made.headers["Cache-Control"] == "no-store"
    page = text_of(made)
    found = re.search(r'id="new-key">(sk-[^<]+)<', page)
    assert found is not None
    assert page.count("export OMNIROUTE_API_KEY=") == 1
    assert f"export OMNIROUTE_API_KEY={found[1]}" in page
    assert "Waiting for the first request" in page
    (key,) = pages.api("GET", "/api/keys?q=laptop")["keys"]
    assert pages.app.client(found[1]).get("/v1/models").status_code == 200
    block = pages.block(f"/dashboard/setup/first/{key['id']}", "first")
    assert "Waiting for the first request" in text_of(block)
    assert "<html" not in text_of(block)


def test_what_is_wrong_with_a_combo_or_a_client_is_said_at_its_field(pages: Pages) -> None:
    page = text_of(pages.post("/dashboard/setup/combo", {"name": "", "models": "sandbox/echo"}, expect=400))
    assert "Nothing was saved." in page
    assert re.search(r'value="sandbox/echo" checked', page)
    page = text_of(pages.post("/dashboard/setup/client", {"name": "zebra", "tool": "none-such"}, expect=400))
    assert "Nothing was saved." in page
    assert pages.api("GET", "/api/keys?q=zebra")["total"] == 0
    page = text_of(pages.post("/dashboard/setup/client", {"name": "", "tool": "claude"}, expect=400))
    assert 'class="field-error"' in page
