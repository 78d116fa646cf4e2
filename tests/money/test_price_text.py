"""Prices as text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.money.price_text import per_unit, plain, price_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (3, "3"),
        (10, "10"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.3"),
        (1e-9, "0.000000001"),
        (1e6, "1000000"),
        (2.50, "2.5"),
        ("2.50", "2.5"),
        (" 3 ", "3"),
        ("1e-3", "0.001"),
        ("100", "100"),
        ("+0.30", "0.3"),
    ],
)
def test_a_price_is_kept_as_plain_decimal_text(value: object, text: str) -> None:
    assert price_text(value) == text


@pytest.mark.parametrize(("value", "text"), [("0.0015", "1.5"), (0.0015, "1.5"), ("0.000000000001", "0.000000001")])
def test_a_price_per_thousand_becomes_one_per_million(value: object, text: str) -> None:
    assert price_text(value, factor=1000) == text


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (-1, "must be from 0"),
        ("-0.1", "must be from 0"),
        (1_000_001, "must be from 0"),
        ("1e7", "must be from 0"),
        ("1e999999999", "must be"),
        ("NaN", "must be from 0"),
        ("inf", "must be from 0"),
        (float("inf"), "must be a number"),
        (float("nan"), "must be a number"),
        (10**400, "must be a number"),
        (True, "must be a number"),
        (None, "must be a number"),
        ([1], "must be a number"),
        ("", "must be a number"),
        ("1,50", "must be a number"),
        ("1_000", "must be a number"),
        ("$3", "must be a number"),
        ("٣", "must be a number"),
        ("1" * 41, "must be a number"),
        ("0.0000000001", "at most 9 decimals"),
        ("1.0000000001", "at most 9 decimals"),
        (1e-10, "at most 9 decimals"),
    ],
)
def test_what_is_no_price_is_refused(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        price_text(value)


@given(st.decimals(0, 1_000_000, places=9))
def test_text_comes_back_as_it_was_meant(price: Decimal) -> None:
    text = price_text(str(price))

    assert Decimal(text) == price
    assert "e" not in text.lower()
    assert price_text(text) == text
    assert plain(per_unit(text, "1M")) == text
    assert per_unit(text, "1K") * 1000 == price
