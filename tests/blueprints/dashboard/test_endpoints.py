"""The addresses at which clients find the server."""

from __future__ import annotations

import shlex

import pytest

from omniroute.blueprints.dashboard.endpoints import _curl, _families
from tests.blueprints.dashboard.conftest import Pages
from tests.blueprints.dashboard.provider_world import connect


def test_a_card_per_family_with_its_form_of_the_address(pages: Pages) -> None:
    page = pages.get("/dashboard/endpoints")
    for title in ("OpenAI Chat", "OpenAI Responses", "Anthropic", "Gemini", "Ollama"):
        assert f">{title}</h2>" in page
    assert '<code id="openai-chat-address">http://localhost/v1</code>' in page
    assert '<code id="anthropic-address">http://localhost</code>' in page
    assert "/v1beta/models/sandbox/echo:generateContent" in page
    assert "33 models" in page


def test_the_examples_name_what_is_there(pages: Pages) -> None:
    connect(pages)
    assert '"model": "groq/' in pages.get("/dashboard/endpoints")
    combo = pages.api("POST", "/api/combos", {"name": "daily", "models": ["sandbox/echo"]})
    pages.api("PUT", "/api/combos/default", {"id": combo["id"]})
    assert '"model": "daily"' in pages.get("/dashboard/endpoints")


def test_the_examples_follow_the_chosen_address(pages: Pages) -> None:
    page = pages.get("/dashboard/endpoints?address=http://127.0.0.1:20128")
    assert '<code id="anthropic-address">http://127.0.0.1:20128</code>' in page
    stranger = pages.get("/dashboard/endpoints?address=http://evil.example")
    assert "evil.example/v1" not in stranger


@pytest.mark.parametrize("family", _families("http://host:1", "it's a combo"), ids=lambda family: family.name)
def test_the_lines_are_what_a_shell_reads(family) -> None:  # type: ignore[no-untyped-def]
    words = shlex.split(family.lines.replace("\\\n", " "))
    assert words[0] == "curl"
    assert any(word.startswith("http://host:1/") for word in words)
    assert "Content-Type: application/json" in words
    assert words[-1].startswith("{")


def test_quotes_in_bodies_are_kept() -> None:
    words = shlex.split(_curl("http://host", "a: b", {"model": "it's"}).replace("\\\n", " "))
    assert words[-1] == '{"model": "it\'s"}'
