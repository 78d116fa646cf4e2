"""How long a slow attempt is waited for, how many hedges a key has, and which state of the pool forbids them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.asked import Asked, Chance
from omniroute.routing.config import DEFAULTS, ComboConfig, problems
from omniroute.routing.hedging import Shares, delay_s, is_mostly_ill, may_serve_beside
from omniroute.routing.options import Account, AuthClass, Features, Option
from omniroute.routing.plan import Entry, Exclusion, Plan, Reason, Seat
from omniroute.routing.view import UNKNOWN, Figures, Load, QuotaWindow, Still

ACCOUNT = Account("one", "a", AuthClass.API_KEY)
AUTO = replace(DEFAULTS, hedge_delay_ms="auto")
QUICK = Figures(ttft_p95=100.0, total_p95=200.0)
USUAL = Figures(ttft_p95=2500.0, total_p95=9000.0)
SLOW = Figures(ttft_p95=60_000.0, total_p95=90_000.0)


@pytest.mark.parametrize(
    ("config", "figures", "is_stream", "expected"),
    [
        (DEFAULTS, USUAL, True, 0.5),
        (replace(DEFAULTS, hedge_delay_ms=1200), USUAL, False, 1.2),
        (AUTO, USUAL, True, 2.5),
        (AUTO, USUAL, False, 9.0),
        (AUTO, QUICK, True, 0.3),
        (AUTO, SLOW, True, 15.0),
        (AUTO, UNKNOWN, True, 15.0),
    ],
)
def test_the_delay(config: ComboConfig, figures: Figures, is_stream: bool, expected: float) -> None:
    assert delay_s(config, figures, is_stream=is_stream) == expected


def seats(count: int) -> Entry:
    option = Option("a/m", "a", "m")
    return Entry(option, tuple(Seat(Account(f"s{n}", "a", AuthClass.API_KEY)) for n in range(count)))


@pytest.mark.parametrize(
    ("well", "reasons", "expected"),
    [
        (2, (), False),
        (2, (Reason.COOLING, Reason.COOLING), False),
        (2, (Reason.COOLING, Reason.BREAKER_OPEN, Reason.CREDENTIAL_DEAD), True),
        (1, (Reason.KEY_POLICY, Reason.CONTEXT_TOO_SMALL, Reason.INACTIVE), False),
        (1, (Reason.QUOTA_EXHAUSTED, Reason.RPM_FULL, Reason.LOCKED_OUT), True),
    ],
)
def test_an_ill_pool(well: int, reasons: Sequence[Reason], expected: bool) -> None:
    excluded = tuple(Exclusion("a/m", reason, f"x{n}") for n, reason in enumerate(reasons))
    assert is_mostly_ill(Plan((seats(well),), excluded)) is expected


def asked(used: float | None, **features: Any) -> Asked:
    windows = () if used is None else (QuotaWindow("w", used, resets_at=5000.0, length_s=5000.0),)
    return Asked(Features(**features), Still(loads={"one": Load(windows=windows)}), 1000.0, Chance(1))


@pytest.mark.parametrize(
    ("option", "config", "question", "expected"),
    [
        (Option("a/m", "a", "m", is_unmetered=True), DEFAULTS, asked(None), True),
        (Option("a/m", "a", "m"), DEFAULTS, asked(None), False),
        (Option("a/m", "a", "m"), replace(DEFAULTS, hedge_allow_paid=True), asked(None), True),
        (Option("a/m", "a", "m", tier="subscription", is_unmetered=True), DEFAULTS, asked(0.5), True),
        (Option("a/m", "a", "m", tier="subscription", is_unmetered=True), DEFAULTS, asked(0.95), False),
    ],
)
def test_who_may_be_a_hedge(option: Option, config: ComboConfig, question: Asked, expected: bool) -> None:
    assert may_serve_beside(Entry(option, (Seat(ACCOUNT),)), ACCOUNT, question, config) is expected


def hedges(shares: Shares, count: int, *, now: float, key: str = "k") -> list[int]:
    """Which of so many slow requests are hedged."""
    found = []
    for number in range(1, count + 1):
        shares.note_request(key, now)
        if shares.has_left(key, now):
            shares.note_hedge(key, now)
            found.append(number)
    return found


def test_one_in_ten_of_a_key_has_a_hedge() -> None:
    shares = Shares()
    assert hedges(shares, 30, now=0.0) == [1, 11, 21]
    assert hedges(shares, 1, now=0.0, key="another") == [1]
    assert not shares.has_left("unknown", 0.0)


def test_what_is_older_than_ten_minutes_counts_no_more() -> None:
    shares = Shares()
    assert hedges(shares, 100, now=0.0) == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91]
    assert hedges(shares, 9, now=599.0) == [1]
    assert hedges(shares, 2, now=600.0) == [2], "nine requests and one hedge are left"
    assert hedges(shares, 1, now=1300.0) == [1]


@given(st.lists(st.tuples(st.floats(0, 120), st.booleans()), max_size=200))
def test_the_share_holds_over_any_ten_minutes(steps: list[tuple[float, bool]]) -> None:
    shares, now = Shares(), 0.0
    noted: list[tuple[float, bool]] = []
    for pause, is_slow in steps:
        now += pause
        shares.note_request("k", now)
        has_hedge = is_slow and shares.has_left("k", now)
        noted.append((now, has_hedge))
        if has_hedge:  # later on the requests that paid for it count no longer
            shares.note_hedge("k", now)
            lately = [one for one in noted if one[0] > now - 540]
            assert 10 * sum(one[1] for one in lately) < len([one for one in noted if one[0] > now - 600]) + 10


def test_keys_that_nobody_uses_are_forgotten() -> None:
    shares, rng = Shares(), random.Random(1)
    for _ in range(10_050):
        shares.note_request(str(rng.random()), 0.0)
    assert len(shares._tallies) == 10_000


@pytest.mark.parametrize(
    ("rules", "is_fit"),
    [
        ({"forbidden": ["a"], "required": ["b"], "minContentLength": 3}, True),
        ({"jsonPath": [{"path": "a.0.b", "equals": 1}, {"path": "a", "exists": False}]}, True),
        ({"jsonPath": [{"path": "a", "equals": None}]}, True),
        ({"jsonPath": [{"path": "a"}]}, False),
        ({"jsonPath": [{"path": "a..b", "exists": True}]}, False),
        ({"jsonPath": [{"path": "", "exists": True}]}, False),
        ({"jsonPath": [{"path": "a", "exists": 1}]}, False),
        ({"jsonPath": [{"path": "a", "equals": [1]}]}, False),
        ({"jsonPath": [{"path": "a", "equals": 1, "exists": True}]}, False),
        ({"jsonPath": [{"path": 3, "equals": 1}]}, False),
        ({"jsonPath": ["a"]}, False),
        ({"minContentLength": -1}, False),
        ({"forbidden": [""]}, False),
        ({"other": 1}, False),
        ([], False),
    ],
)
def test_the_shape_of_validation(rules: Any, is_fit: bool) -> None:
    assert (problems({"responseValidation": rules}) == {}) is is_fit
