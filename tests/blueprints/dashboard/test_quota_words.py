"""What windows of quotas are called, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask_babel import force_locale

from omniroute.blueprints.dashboard.quota_words import left, title
from tests.blueprints.dashboard.conftest import Pages


@pytest.fixture(autouse=True)
def _on_a_page(pages: Pages) -> Iterator[None]:
    with pages.app.app.test_request_context("/dashboard"):
        yield


def window(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "family": None,
        "lengthSeconds": None,
        "remaining": None,
        "limit": None,
        "unit": None,
        **changes,
    }


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (window("5h", lengthSeconds=18_000.0), "5 hours"),
        (window("7d", lengthSeconds=604_800.0), "1 week"),
        (window("7d_sonnet", lengthSeconds=604_800.0, family="sonnet"), "1 week · sonnet"),
        (window("30d", lengthSeconds=2_592_000.0), "1 month"),
        (window("primary", lengthSeconds=18_000.0), "5 hours"),
        (window("code-review-primary", lengthSeconds=18_000.0, family="code-review"), "5 hours · code-review"),
        (window("requests/day:llama-3", lengthSeconds=86_400.0, family="llama-3"), "Requests, each day · llama-3"),
        (window("tokens/month:m", lengthSeconds=2_592_000.0, family="m"), "Tokens, each month · m"),
        (window("free/day", lengthSeconds=86_400.0, family="free"), "Free models, each day"),
        (window("tools/month", lengthSeconds=2_592_000.0, family="tools"), "Tools, each month"),
        (window("credits"), "Credit"),
        (window("credits_usd"), "Credit"),
        (window("key", lengthSeconds=86_400.0), "Limit of the key"),
        (window("subscription", lengthSeconds=86_400.0), "Subscription"),
        (window("overage"), "overage"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_titles(one: dict[str, Any], expected: str) -> None:
    assert title(one) == expected


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (window("5h"), ""),
        (window("credits", remaining=3.2, unit="usd"), "$3.20 left"),
        (window("key", remaining=3.2, limit=10.0, unit="usd"), "$3.20 of $10.00 left"),
        (window("credits", remaining=12.5, unit="cny"), "CN¥12.50 left"),
        (window("5h", remaining=1200.0, limit=5000.0, unit="tokens"), "1,200 of 5,000 tokens left"),
        (window("credits", remaining=40.0, unit="points"), "40 points left"),
        (window("x", remaining=40.0, unit="wishes"), "40 wishes left"),
        (window("x", remaining=40.0), "40 left"),
        (window("x", remaining=40.0, limit=50.0), "40 of 50 left"),
    ],
)
def test_what_is_left(one: dict[str, Any], expected: str) -> None:
    assert left(one) == expected


def test_in_german() -> None:
    with force_locale("de"):
        assert title(window("5h", lengthSeconds=18_000.0)) == "5 Stunden"
        assert left(window("credits", remaining=3.2, unit="usd")) == "noch $3,20"
