"""What targets take: the rules that choose a format and a way to think."""

from __future__ import annotations

import pytest

from omniroute.formats.canonical import MediaKind
from omniroute.formats.profile import ReasoningStyle
from omniroute.formats.wire import WireFormat
from omniroute.providers import catalog
from omniroute.providers.profiles import is_vendor, preferred_format, profile_of
from omniroute.providers.spec import Model

CATALOGUE = catalog.load()
CHAT, RESPONSES = WireFormat.OPENAI_CHAT, WireFormat.OPENAI_RESPONSES
MESSAGES, GEMINI, OLLAMA = WireFormat.ANTHROPIC_MESSAGES, WireFormat.GEMINI, WireFormat.OLLAMA


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("openai", RESPONSES),
        ("anthropic", MESSAGES),
        ("gemini", GEMINI),
        ("deepseek", CHAT),
        ("groq", CHAT),
        ("minimax", CHAT),
        ("ollama", OLLAMA),
        ("zai", MESSAGES),
    ],
)
def test_the_format_that_is_spoken(provider: str, expected: WireFormat) -> None:
    row = CATALOGUE.providers[provider]
    assert preferred_format(row, row.urls) is expected


def test_a_provider_without_a_format_has_none() -> None:
    assert preferred_format(CATALOGUE.providers["openai"], ()) is None


@pytest.mark.parametrize(
    ("provider", "wire_format", "model", "expected"),
    [
        ("anthropic", MESSAGES, "claude-opus-4-7", ReasoningStyle.ADAPTIVE),
        ("anthropic", MESSAGES, "claude-sonnet-4-6", ReasoningStyle.ADAPTIVE),
        ("anthropic", MESSAGES, "claude-opus-4-5-20251101", ReasoningStyle.BUDGET),
        ("anthropic", MESSAGES, "claude-sonnet-4-20250514", ReasoningStyle.BUDGET),
        ("anthropic", MESSAGES, "claude-3-7-sonnet-20250219", ReasoningStyle.BUDGET),
        ("anthropic", MESSAGES, "claude-3-5-haiku-20241022", ReasoningStyle.NONE),
        ("anthropic", MESSAGES, "claude-3-opus-20240229", ReasoningStyle.NONE),
        ("glm", MESSAGES, "glm-4.7", ReasoningStyle.BUDGET),
        ("openai", RESPONSES, "gpt-5.2", ReasoningStyle.EFFORT),
        ("openai", RESPONSES, "o3", ReasoningStyle.EFFORT),
        ("openai", RESPONSES, "gpt-4o", ReasoningStyle.NONE),
        ("groq", CHAT, "openai/gpt-oss-20b", ReasoningStyle.EFFORT),
        ("gemini", GEMINI, "gemini-2.5-flash", ReasoningStyle.GEMINI_BUDGET),
        ("gemini", GEMINI, "gemini-3-pro-preview", ReasoningStyle.GEMINI_LEVEL),
        ("gemini", GEMINI, "gemini-2.0-flash", ReasoningStyle.NONE),
        ("ollama", OLLAMA, "qwen3", ReasoningStyle.SWITCH),
    ],
)
def test_how_a_model_is_told_to_think(
    provider: str, wire_format: WireFormat, model: str, expected: ReasoningStyle
) -> None:
    assert profile_of(CATALOGUE.providers[provider], model, None, wire_format, "c").reasoning is expected


def test_what_the_catalogue_knows_of_a_model_counts() -> None:
    row = CATALOGUE.providers["groq"]
    known = Model("m", context=1000, max_output=100, capabilities=("vision",), input=("text", "image", "pdf"))
    profile = profile_of(row, "m", known, CHAT, "conn_1")
    assert (profile.context, profile.max_output, profile.takes_tools) == (1000, 100, False)
    assert profile.takes == frozenset({MediaKind.IMAGE, MediaKind.DOCUMENT})
    assert profile.reasoning is ReasoningStyle.NONE
    assert (profile.provider, profile.family) == ("groq", "conn_1")


def test_a_model_that_nobody_lists_is_not_denied_anything() -> None:
    profile = profile_of(CATALOGUE.providers["groq"], "brand-new", None, CHAT, "c")
    assert profile.takes_tools
    assert MediaKind.IMAGE in profile.takes


def test_only_the_vendor_gets_what_only_the_vendor_knows() -> None:
    openai, groq = CATALOGUE.providers["openai"], CATALOGUE.providers["groq"]
    assert is_vendor(openai, CHAT)
    assert not is_vendor(groq, CHAT)
    ours, host = (profile_of(row, "m", None, CHAT, "c") for row in (openai, groq))
    assert (ours.max_output_field, ours.takes_developer, ours.takes_custom_tools) == (
        "max_completion_tokens",
        True,
        True,
    )
    assert (host.max_output_field, host.takes_developer, host.takes_custom_tools) == ("max_tokens", False, False)
