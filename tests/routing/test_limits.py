"""What a connection demands before a request may start: which rates, how many places, whose values count."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.routing.limits import Pace, QueueRules, Terms, paces, terms
from omniroute.routing.options import Account, AuthClass

NOTHING = (None, None)


def account(rpm: int = 0, gap_ms: int = 0, slots: int = 0) -> Account:
    return Account(
        "conn_1", "acme", AuthClass.API_KEY, requests_per_minute=rpm, min_gap_ms=gap_ms, max_concurrent=slots
    )


@pytest.mark.parametrize(
    ("rpm", "gap_ms", "expected"),
    [
        (0, 0, ()),
        (60, 0, (Pace("rpm", 1.0, 10.0),)),
        (600, 0, (Pace("rpm", 0.1, 100.0),)),
        (1, 0, (Pace("rpm", 60.0, 1.0),)),
        (5, 0, (Pace("rpm", 12.0, 1.0),)),
        (0, 250, (Pace("gap", 0.25),)),
        (60, 250, (Pace("gap", 0.25), Pace("rpm", 1.0, 10.0))),
        (60, 1000, (Pace("gap", 1.0),)),
        (60, 5000, (Pace("gap", 5.0),)),
        (-1, -1, ()),
    ],
)
def test_rates(rpm: int, gap_ms: int, expected: tuple[Pace, ...]) -> None:
    assert paces(rpm, gap_ms) == expected


def test_a_connection_without_limits_demands_nothing() -> None:
    assert terms(account(), QueueRules(), NOTHING) == Terms()
    assert not QueueRules().has_limits


@pytest.mark.parametrize(
    ("own", "everywhere", "expected"),
    [
        (account(rpm=30), QueueRules(requests_per_minute=60), Terms((Pace("rpm", 2.0, 5.0),))),
        (account(), QueueRules(requests_per_minute=60), Terms((Pace("rpm", 1.0, 10.0),))),
        (account(gap_ms=100), QueueRules(min_gap_ms=900), Terms((Pace("gap", 0.1),))),
        (account(slots=2), QueueRules(concurrent_requests=9), Terms(slots=2)),
        (account(), QueueRules(concurrent_requests=9), Terms(slots=9)),
    ],
)
def test_values_of_the_connection_win(own: Account, everywhere: QueueRules, expected: Terms) -> None:
    assert terms(own, everywhere, NOTHING) == expected


@pytest.mark.parametrize(
    ("slots", "learned", "expected"),
    [(0, 3, 3), (2, 3, 2), (9, 3, 3), (0, 0, 1), (0, None, 0)],
)
def test_learned_places_only_lower(slots: int, learned: int | None, expected: int) -> None:
    assert terms(account(slots=slots), QueueRules(), (learned, None)).slots == expected


def test_what_was_learned_counts_only_where_learning_is_on() -> None:
    learned = (3, 1_800_000_010.0)

    assert terms(account(), QueueRules(), learned) == Terms(slots=3, paused_until=1_800_000_010.0)
    assert terms(account(), QueueRules(learns_limits=False), learned) == Terms()


@given(
    rpm=st.integers(0, 3000),
    gap_ms=st.integers(0, 5000),
    arrivals=st.lists(st.floats(0, 30, allow_nan=False), max_size=120),
)
def test_the_rates_hold_both_limits(rpm: int, gap_ms: int, arrivals: list[float]) -> None:
    at = {pace.kind: 0.0 for pace in paces(rpm, gap_ms)}
    granted = []
    for now in sorted(arrivals):
        if all(max(at[pace.kind], now) - now <= pace.burst * pace.gap_s for pace in paces(rpm, gap_ms)):
            granted.append(now)
            for pace in paces(rpm, gap_ms):
                at[pace.kind] = max(at[pace.kind], now) + pace.gap_s

    if gap_ms:
        assert all(later - sooner >= gap_ms / 1000 - 1e-6 for sooner, later in pairwise(granted))
    for start in granted if rpm else ():
        in_a_minute = sum(start <= at < start + 60 for at in granted)
        assert in_a_minute <= rpm + max(1.0, rpm / 6) + 1
    if not rpm and not gap_ms:
        assert granted == sorted(arrivals)
