"""What limits say to one more request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.money.limits import (
    EVERYBODY,
    KEYLESS,
    Hold,
    Kind,
    Standing,
    Used,
    budget_hold,
    concerns,
    concurrency_scope,
    rate_hold,
    rules_in_force,
    scopes_of,
    sessions_scope,
    spent_of_budgets,
    token_hold,
    used_of_limits,
)
from omniroute.money.periods import Window
from omniroute.records import Budget, RateRule, TokenLimit

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z, a Friday
DAY = Window(1_799_971_200, 1_800_057_600)
MONTH = Window(1_798_761_600, 1_801_440_000)


# --- holds and standings ----------------------------------------------------------------------------------------------


def test_a_budget_as_a_limit() -> None:
    hold = budget_hold(Budget("key_1", "daily", 500), NOW, 20)
    assert hold == Hold(Kind.BUDGET, "budget:key_1:daily", "key_1", "daily", DAY, 500, 20)
    at_six = Budget("key_1", "daily", 500, reset_time="06:00", time_zone="America/New_York")
    assert budget_hold(at_six, NOW).window == Window(1_799_924_400, 1_800_010_800)


@pytest.mark.parametrize(
    ("scope_type", "scope_value", "of"),
    [
        ("global", None, None),
        ("provider", "openai", ("provider", "openai")),
        ("model", "openai/gpt-x", ("model", "openai/gpt-x")),
    ],
)
def test_a_token_limit_as_a_limit(scope_type: str, scope_value: str | None, of: tuple[str, str] | None) -> None:
    limit = TokenLimit("tl_1", "key_1", scope_type, scope_value, 1000, "monthly")
    assert token_hold(limit, NOW, 7) == Hold(Kind.TOKENS, "tokens:tl_1", "key_1", "monthly", MONTH, 1000, 7, of)


@pytest.mark.parametrize(
    ("used", "reserved", "is_open", "is_spent", "remaining"),
    [
        (0, 0, True, False, 100),
        (99, 0, True, False, 1),
        (100, 0, False, True, 0),
        (130, 0, False, True, 0),
        (40, 59, True, False, 1),
        (40, 60, False, False, 0),
        (0, 500, False, False, 0),
    ],
)
def test_a_budget_is_open_while_something_is_left(
    used: int, reserved: int, is_open: bool, is_spent: bool, remaining: int
) -> None:
    standing = Standing(budget_hold(Budget("k", "daily", 100), NOW, 10**9), used, reserved)
    assert (standing.is_open, standing.is_spent, standing.remaining) == (is_open, is_spent, remaining)


def test_a_budget_of_nothing_lets_nobody_in() -> None:
    standing = Standing(budget_hold(Budget("k", "daily", 0), NOW), 0)
    assert (standing.is_open, standing.is_spent) == (False, True)


@pytest.mark.parametrize(("used", "is_open"), [(0, True), (4, True), (5, False), (9, False)])
def test_a_rule_lets_as_many_in_as_it_says(used: int, is_open: bool) -> None:
    assert Standing(rate_hold("k", 5, 60, NOW), used).is_open is is_open


# --- who and what is concerned ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "provider", "model", "expected"),
    [
        (None, "openai", "gpt-x", True),
        (("provider", "openai"), "openai", "gpt-x", True),
        (("provider", "openai"), "groq", "openai", False),
        (("model", "gpt-x"), "openai", "gpt-x", True),
        (("model", "gpt-x"), "groq", "gpt-x", True),
        (("model", "gpt-x"), "openai", "gpt-xl", False),
        (("model", "openai/gpt-x"), "openai", "gpt-x", True),
        (("model", "openai/gpt-x"), "groq", "gpt-x", False),
        (("model", "openai/gpt-x"), "groq", "openai/gpt-x", True),
        (("model", "groq/openai/gpt-x"), "groq", "openai/gpt-x", True),
        (("model", "openai"), "openai", "gpt-x", False),
    ],
)
def test_what_a_limit_counts(of: tuple[str, str] | None, provider: str, model: str, expected: bool) -> None:
    assert concerns(of, provider, model) is expected


def test_whose_limits_a_caller_falls_under() -> None:
    assert scopes_of("key_1") == ("key_1", EVERYBODY)
    assert scopes_of(KEYLESS) == (KEYLESS, EVERYBODY)
    assert scopes_of(None) == (EVERYBODY,)
    assert len({concurrency_scope("a"), concurrency_scope("b"), sessions_scope("a"), sessions_scope("b")}) == 4


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [
        ((), 0, ()),
        ((), 9, (RateRule(9, 86_400),)),
        ((RateRule(5, 60),), 9, (RateRule(5, 60),)),
        ((RateRule(5, 60),), 0, (RateRule(5, 60),)),
    ],
)
def test_a_key_has_its_own_rules_or_the_default(
    own: tuple[RateRule, ...], default: int, expected: tuple[RateRule, ...]
) -> None:
    assert rules_in_force(own, default) == expected


# --- settled requests -------------------------------------------------------------------------------------------------


def used(time: float = NOW, key_id: str | None = "key_1", **more: int | str | bool) -> Used:
    values = {"provider": "openai", "model": "gpt-x", "nano_usd": 10, "tokens": 7, "is_unpriced": False} | more
    return Used(time, key_id, **values)  # type: ignore[arg-type]


def test_a_request_counts_for_its_key_and_for_all() -> None:
    budgets = {
        "key_1": (Budget("key_1", "daily", 1), Budget("key_1", "monthly", 1)),
        "key_2": (Budget("key_2", "daily", 1),),
        EVERYBODY: (Budget(EVERYBODY, "daily", 1),),
    }
    settled = [
        used(),
        used(nano_usd=5),
        used(DAY.start - 1.0),
        used(key_id=None),
        used(key_id="key_3", nano_usd=0, is_unpriced=True),
    ]
    sums = {key: (one.amount, one.requests, one.unpriced) for key, one in spent_of_budgets(settled, budgets).items()}
    assert sums == {
        ("key_1", "daily", DAY.start): (15, 2, 0),
        ("key_1", "daily", DAY.start - 86_400): (10, 1, 0),
        ("key_1", "monthly", MONTH.start): (25, 3, 0),
        (EVERYBODY, "daily", DAY.start): (25, 4, 1),
        (EVERYBODY, "daily", DAY.start - 86_400): (10, 1, 0),
    }
    assert spent_of_budgets(settled, {}) == {}


def test_tokens_count_for_the_limits_that_they_concern() -> None:
    limits = {
        "key_1": (
            TokenLimit("all", "key_1", "global", None, 1, "daily"),
            TokenLimit("openai", "key_1", "provider", "openai", 1, "daily"),
            TokenLimit("llama", "key_1", "model", "groq/llama", 1, "monthly"),
        ),
        EVERYBODY: (TokenLimit("server", EVERYBODY, "model", "gpt-x", 1, "daily"),),
    }
    settled = [used(), used(tokens=0), used(provider="groq", model="llama", tokens=3), used(key_id=None, tokens=1)]
    sums = {key: (one.amount, one.requests) for key, one in used_of_limits(settled, limits).items()}
    assert sums == {
        ("tokens:all", DAY.start): (10, 2),
        ("tokens:openai", DAY.start): (7, 1),
        ("tokens:llama", MONTH.start): (3, 1),
        ("tokens:server", DAY.start): (8, 2),
    }


@given(
    st.lists(
        st.builds(
            used,
            st.floats(NOW - 86_400 * 40, NOW + 86_400 * 40),
            st.sampled_from(["key_1", "key_2", None]),
            nano_usd=st.integers(0, 10**12),
        ),
        max_size=30,
    )
)
def test_what_all_spent_is_what_each_spent(settled: Sequence[Used]) -> None:
    budgets = {EVERYBODY: (Budget(EVERYBODY, "daily", 1), Budget(EVERYBODY, "weekly", 1))}
    sums = spent_of_budgets(settled, budgets)
    for period in ("daily", "weekly"):
        own = [one for (_, of, _), one in sums.items() if of == period]
        assert sum(one.amount for one in own) == sum(one.nano_usd for one in settled)
        assert sum(one.requests for one in own) == len(settled)
    for (_, _, start), one in sums.items():
        assert one.window.start == start < one.window.end


# --- rules of requests ------------------------------------------------------------------------------------------------


class Buckets:
    """Counts requests as the store does."""

    def __init__(self, limit: int, window_s: int) -> None:
        self.limit = limit
        self.window_s = window_s
        self.counts: Counter[Window] = Counter()

    def ask(self, at: float) -> Standing:
        """Return how things stand, and count the request if it is let in."""
        hold = rate_hold("key_1", self.limit, self.window_s, at)
        recent = [window for window in self.counts if window.start > hold.since]
        standing = Standing(
            hold,
            sum(self.counts[window] for window in recent),
            resets_at=min((window.end for window in recent), default=hold.window.end),
        )
        if standing.is_open:
            self.counts[hold.window] += hold.amount
        return standing


@pytest.mark.parametrize(
    ("window_s", "bucket_s"), [(1, 1), (59, 1), (60, 1), (119, 1), (120, 2), (3600, 60), (86_400, 1440)]
)
def test_buckets_are_a_sixtieth(window_s: int, bucket_s: int) -> None:
    hold = rate_hold("key_1", 5, window_s, NOW + 0.9)
    assert (hold.kind, hold.id, hold.period) == (Kind.REQUESTS, f"requests:key_1:{window_s}", f"{window_s}s")
    assert hold.window.start <= NOW < hold.window.start + bucket_s
    assert hold.window.start % bucket_s == 0
    assert hold.window.end == hold.window.start + bucket_s + window_s
    assert hold.amount == 1


steps = st.lists(st.floats(0, 40), min_size=1, max_size=60)


@given(st.integers(1, 6), st.sampled_from([1, 2, 30, 60, 61, 150, 600]), steps)
def test_no_window_ever_holds_more_than_the_rule_says(limit: int, window_s: int, pauses: Sequence[float]) -> None:
    buckets, at, let_in = Buckets(limit, window_s), NOW, list[float]()
    for pause in pauses:
        at += pause
        if buckets.ask(at).is_open:
            let_in.append(at)
    for first in let_in:
        assert sum(first <= one < first + window_s for one in let_in) <= limit


@given(st.integers(1, 6), st.sampled_from([1, 2, 30, 60, 61, 150, 600]), steps)
def test_who_waits_as_long_as_told_is_let_in(limit: int, window_s: int, pauses: Sequence[float]) -> None:
    buckets, at = Buckets(limit, window_s), NOW
    bucket_s = max(1, window_s // 60)
    for pause in pauses:
        at += pause
        standing = buckets.ask(at)
        if not standing.is_open:
            assert at < standing.resets_at <= at + window_s + bucket_s
            assert not buckets.ask(standing.resets_at - 1).is_open
            assert buckets.ask(standing.resets_at).is_open
            return
    assert sum(buckets.counts.values()) == len(pauses)


@given(st.floats(0, 10_000), st.integers(1, 100_000))
def test_a_clock_that_is_set_back_frees_nothing(back_s: float, window_s: int) -> None:
    buckets = Buckets(1, window_s)
    assert buckets.ask(NOW).is_open
    assert not buckets.ask(NOW - back_s).is_open
