"""Which windows bind a request: not old ones, not credit, not those of other families; and cut-offs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from omniroute.routing.config import ComboConfig
from omniroute.routing.eligibility import Eligibility
from omniroute.routing.expiring import Class, has_capacity, is_cut_off, known_windows, remaining, reserve, standing
from omniroute.routing.families import binds
from omniroute.routing.plan import Exclusion, Reason, Seat
from omniroute.routing.view import Load, QuotaWindow, Still
from tests.routing.blocks import NOW, asked, option

SUBSCRIPTION = {"tier": "subscription", "is_unmetered": True}
HALF = QuotaWindow("5h", 0.5, NOW + 9000, 18_000.0, "grant", "headers", NOW - 60, NOW + 8000)
OLD = structs.replace(HALF, stale_at=NOW)
CREDIT = QuotaWindow("credits", 0.99, kind="credit")
OPUS = structs.replace(HALF, id="7d_opus", used=0.99, family="opus")


@pytest.mark.parametrize(
    ("window", "model", "is_known"),
    [
        (HALF, "m", True),
        (OLD, "m", False),
        (structs.replace(HALF, stale_at=NOW + 1), "m", True),
        (structs.replace(HALF, resets_at=NOW), "m", False),
        (structs.replace(HALF, used=None), "m", False),
        (CREDIT, "m", False),
        (OPUS, "claude-opus-4-7", True),
        (OPUS, "claude-sonnet-4-6", False),
        (structs.replace(OPUS, family="llama-3.3-70b"), "llama-3.3-70b", True),
        (structs.replace(OPUS, family="llama-3.3-70b"), "llama-3.1-8b", False),
    ],
)
def test_what_binds_a_model(window: QuotaWindow, model: str, is_known: bool) -> None:
    assert list(known_windows([window], NOW, model)) == ([window] if is_known else [])


@pytest.mark.parametrize(
    ("tier", "windows", "kind"),
    [
        ("subscription", (OLD,), Class.UNKNOWN),
        ("subscription", (OLD, HALF), Class.PERISHABLE),
        ("subscription", (CREDIT,), Class.UNKNOWN),
        ("subscription", (OPUS,), Class.UNKNOWN),
        ("free", (CREDIT,), Class.FREE),
        ("free", (HALF, CREDIT), Class.PERISHABLE),
    ],
)
def test_classes_by_what_is_known(tier: str, windows: tuple[QuotaWindow, ...], kind: Class) -> None:
    one = option("a", tier=tier, is_unmetered=True)
    question = asked(Still(loads={"a": Load(windows=windows)}))
    assert standing(one, one.accounts[0], question, ComboConfig()).kind is kind


def test_capacity_and_remainder_are_those_of_the_model() -> None:
    one = option("a", **SUBSCRIPTION)
    load = Load(windows=(HALF, OPUS, CREDIT))
    question = asked(Still(loads={"a": load}))
    config = ComboConfig()
    assert has_capacity(one.accounts[0], question, config, "sonnet")
    assert not has_capacity(one.accounts[0], question, config, "claude-opus-4-7")
    assert remaining(load, NOW, "sonnet") == 0.5
    assert remaining(load, NOW, "claude-opus-4-7") == pytest.approx(0.01)
    assert remaining(Load(windows=(CREDIT, OLD)), NOW, "sonnet") is None


@given(st.floats(0, 1), st.floats(-100, 100_000), st.floats(0, 50), st.floats(0, 50))
def test_a_reserve_is_a_part_and_shrinks_towards_the_reset(
    used: float, resets_in: float, percent: float, release: float
) -> None:
    window = structs.replace(HALF, used=used, resets_at=NOW + resets_in)
    config = ComboConfig(reserve_percent=percent, reserve_release_percent=release)
    held = reserve(window, NOW, config)
    assert 0 <= held <= percent / 100
    assert reserve(window, NOW + 60, config) <= held


def test_families_bind_by_word_or_whole_name() -> None:
    assert binds("Opus", "claude-opus-4-7")
    assert not binds("opus", "claude-haiku-4-5")
    assert not binds("llama-3.3-70b", "llama-3.3-8b")


# --- cut-offs


@pytest.mark.parametrize(
    ("window", "percent", "model", "is_out"),
    [
        (HALF, 50, "m", True),
        (HALF, 50.1, "m", False),
        (OLD, 10, "m", False),
        (structs.replace(HALF, resets_at=NOW - 1), 10, "m", False),
        (structs.replace(HALF, used=None), 10, "m", False),
        (OPUS, 90, "claude-opus-4-7", True),
        (OPUS, 90, "claude-sonnet-4-6", False),
        (CREDIT, 95, "m", True),
    ],
)
def test_a_cut_off(window: QuotaWindow, percent: float, model: str, is_out: bool) -> None:
    assert is_cut_off(window, percent, NOW, model) is is_out


def test_an_account_beyond_its_cut_off_is_left_out_until_the_reset() -> None:
    one = option("a", **SUBSCRIPTION)
    account = replace(one.accounts[0], cutoffs=(("5h", 40.0), ("7d", 90.0)))
    weekly = structs.replace(HALF, id="7d", used=0.9, resets_at=NOW + 90_000, stale_at=None)
    found = {}
    for name, windows in (("one", (HALF,)), ("both", (HALF, weekly)), ("other", (structs.replace(HALF, id="1d"),))):
        eligibility = Eligibility(asked(Still(loads={"a": Load(windows=windows)})))
        found[name] = eligibility.seat(one, account, None)
    assert found["one"] == Exclusion("a/m", Reason.QUOTA_CUTOFF, "a", NOW + 9000, "5h")
    assert found["both"] == Exclusion("a/m", Reason.QUOTA_CUTOFF, "a", NOW + 90_000, "7d")
    assert isinstance(found["other"], Seat)
