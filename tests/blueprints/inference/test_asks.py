"""What a request's headers ask of routing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.blueprints.inference.asks import read
from omniroute.gateway.asks import NO_ASKS, Asks
from omniroute.routing.config import MODES


def environ(**headers: str) -> dict[str, Any]:
    """A WSGI environment as a server makes it: what is not ASCII arrives byte by byte."""
    base = {"REQUEST_METHOD": "POST", "HTTP_ACCEPT": "*/*", "HTTP_X_REQUEST_ID": "r"}
    return base | {f"HTTP_{name.upper()}": value.encode().decode("latin-1") for name, value in headers.items()}


def test_nothing_asked_is_shared() -> None:
    assert read(environ()) is NO_ASKS
    assert read(environ(x_omniroute_tag="t", x_omniroute_no_cache="1")) is NO_ASKS


@pytest.mark.parametrize(
    ("headers", "asks"),
    [
        ({"x_session_id": " s-1 "}, Asks(session="s-1")),
        ({"x_omniroute_session_id": "s-2"}, Asks(session="s-2")),
        ({"x_session_id": "s-1", "x_omniroute_session_id": "s-2"}, Asks(session="s-1")),
        ({"x_session_id": "Grüße, 世界"}, Asks(session="Grüße, 世界")),
        ({"session_id": "n-1"}, Asks(native_session="n-1")),
        ({"x_codex_session_id": "n-2"}, Asks(native_session="n-2")),
        ({"session_id": "n-1", "x_codex_session_id": "n-2"}, Asks(native_session="n-1")),
        ({"x_session_id": "s", "session_id": "n"}, Asks(session="s", native_session="n")),
        ({"x_omniroute_mode": "Fast"}, Asks(mode="fast")),
        ({"x_omniroute_budget": "0.05"}, Asks(budget_nano=50_000_000)),
        ({"x_omniroute_budget": "1e-9"}, Asks(budget_nano=1)),
        ({"x_omniroute_budget": "0"}, Asks(budget_nano=0)),
        ({"x_omniroute_budget": "1000000"}, Asks(budget_nano=10**15)),
        ({"x_omniroute_priority": "HIGH"}, Asks(has_priority=True)),
        ({"x_omniroute_connection": "con_01h"}, Asks(connection_id="con_01h")),
    ],
)
def test_what_is_asked(headers: dict[str, str], asks: Asks) -> None:
    assert read(environ(**headers)) == asks


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_known(mode: str) -> None:
    assert read(environ(x_omniroute_mode=mode)) == Asks(mode=mode)


@pytest.mark.parametrize(
    ("word", "is_strict"), [("soft", False), ("cheapest", False), ("strict", True), ("block", True), ("Hard", True)]
)
def test_what_a_budget_does_when_it_is_exceeded(word: str, is_strict: bool) -> None:
    assert read(environ(x_omniroute_budget_fallback=word)) == Asks(is_budget_strict=is_strict)


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("x-session-id", ["", "   ", "x" * 257, "a\x07b"]),
        ("x-omniroute-session-id", ["", "x" * 257]),
        ("session-id", ["", "a\tb"]),
        ("x-codex-session-id", ["x" * 300]),
        ("x-omniroute-mode", ["", "turbo"]),
        ("x-omniroute-budget", ["", "cheap", "-1", "NaN", "Infinity", "1e7", "1e999999999", "$1", "1" * 33, "0x1"]),
        ("x-omniroute-budget-fallback", ["", "maybe"]),
        ("x-omniroute-priority", ["", "low", "true"]),
        ("x-omniroute-connection", ["", "a b", "ä", "x" * 101]),
    ],
)
def test_what_cannot_be_used_is_named_and_counts_as_not_sent(header: str, values: list[str]) -> None:
    for value in values:
        assert read(environ(**{header.replace("-", "_"): value})) == Asks(warnings=(f"{header}:ignored",))


def test_the_next_session_header_stands_in_for_one_that_cannot_be_used() -> None:
    found = read(environ(x_session_id="x" * 257, x_omniroute_session_id="s"))
    assert found == Asks(session="s", warnings=("x-session-id:ignored",))


def test_a_session_of_256_characters_is_one() -> None:
    assert read(environ(x_session_id="ü" * 256)).session == "ü" * 256


def test_a_number_that_is_next_to_nothing_is_nothing() -> None:
    assert read(environ(x_omniroute_budget="1e-999999999")).budget_nano == 0


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "HTTP_X_SESSION_ID",
                "HTTP_SESSION_ID",
                "HTTP_X_OMNIROUTE_MODE",
                "HTTP_X_OMNIROUTE_BUDGET",
                "HTTP_X_OMNIROUTE_BUDGET_FALLBACK",
                "HTTP_X_OMNIROUTE_PRIORITY",
                "HTTP_X_OMNIROUTE_CONNECTION",
            ]
        ),
        st.text(st.characters(max_codepoint=255), max_size=300),
    )
)
def test_no_header_makes_a_request_fail(headers: dict[str, str]) -> None:
    asks = read(headers)
    assert len(asks.warnings) <= len(headers)
    assert asks.budget_nano is None or asks.budget_nano >= 0
