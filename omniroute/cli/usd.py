"""Amounts of money, and the periods of budgets, as options and arguments."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

import click

PERIODS: Final = ("daily", "weekly", "monthly")
_MOST: Final = 1_000_000_000


class _Usd(click.ParamType[Decimal]):
    """An amount in USD that is not negative."""

    name = "USD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            amount = Decimal(str(value).removeprefix("$"))
        except InvalidOperation:
            amount = Decimal(-1)
        if not amount.is_finite() or not 0 <= amount <= _MOST:
            self.fail(f"{value!r} is no amount in USD.", param, ctx)
        if amount != round(amount, 9):
            self.fail(f"{value!r} has more than nine decimals.", param, ctx)
        return amount


USD: Final = _Usd()


def amount(usd: float | None) -> str | None:
    """Return an amount with cents, and with more only if there is more."""
    if usd is None:
        return None
    whole, _, fraction = f"{usd:.9f}".rstrip("0").partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}"
