"""`omniroute usage` and the figures of `omniroute cost`: what requests used, and what they cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, iso_time, output_options, print_document, print_rows

if TYPE_CHECKING:
    from omniroute.services.analytics import Point, Row, Totals

RANGES: Final = ("24h", "7d", "30d", "90d", "365d", "all")
GROUPS: Final = ("model", "provider", "key", "combo", "day")
PERIODS: Final = {"today": 1, "7d": 7, "30d": 30, "month": None}
_NANO: Final = 1_000_000_000
_USAGE: Final = {
    "group": "Group",
    "requests": "Requests",
    "success": "Success",
    "tokensIn": "In",
    "tokensOut": "Out",
    "cacheRead": "Cache",
    "costUsd": "Cost",
}
_COST: Final = {
    "group": "Group",
    "billedUsd": "Billed",
    "subscriptionUsd": "Subscription value",
    "unpricedRequests": "Unpriced",
    "totalUsd": "Total",
    "forecastUsd": "Forecast for the month",
}


@click.command("usage")
@click.option("--range", "period", type=click.Choice(RANGES), default="7d", show_default=True, help="How far back.")
@click.option("--by", type=click.Choice(GROUPS), default="model", show_default=True, help="What it is divided by.")
@click.option("--key", help="Only what this API key asked for, by its id or name.")
@data_dir_option
@output_options
def command(period: str, by: str, key: str | None, data_dir: str | None, form: Form) -> None:
    """Show what requests used, by model, provider, key, combo or day."""
    from omniroute.services.analytics import By, Narrowed, Period

    with open_services(data_dir) as services:
        narrowed = Narrowed(api_key_id=None if key is None else _key_id(services, key))
        report = services.analytics.report(Period(period), narrowed=narrowed, by_day=by == "day")
    if by == "day":
        rows = [_used(_day(point), point) for point in report.series]
    else:
        rows = [_used(_group(row), row.totals) for row in report.by[By(by)]]
    if form is Form.JSON:
        document = {"range": period, "by": by, "start": iso_time(report.start), "end": iso_time(report.end)}
        print_document({**document, "usage": rows, "total": _used("total", report.totals)})
        return
    print_rows(form, "usage", [*rows, _used("total", report.totals)], _USAGE)


def show_cost(period: str, by: str | None, data_dir: str | None, form: Form) -> None:
    """Print what requests cost; costs that are not known are counted apart, never as nothing."""
    from omniroute.services.analytics import By

    division = None if by is None else By(by)
    with open_services(data_dir) as services:
        cost = services.analytics.cost(PERIODS[period], division)
    rows = [_cost(_day(point), point) for point in cost.series]
    rows += [_cost(_group(row), row.totals) for row in cost.by]
    total = _cost("total", cost.totals)
    total["forecastUsd"] = None if cost.forecast is None else cost.forecast / _NANO
    if form is Form.JSON:
        document = {"period": period, "by": by, "start": iso_time(cost.start), "end": iso_time(cost.end)}
        print_document({**document, "groups": rows, "total": total, "monthBilledUsd": cost.month_billed / _NANO})
        return
    print_rows(form, "cost", [*rows, total], _COST)


def _key_id(services: Any, wanted: str) -> str:
    from omniroute.services.analytics import KEYLESS_NAMES

    keys = services.snapshots.current.keys
    found = {key.id for key in keys if key.id == wanted} or {key.id for key in keys if key.name == wanted}
    if wanted in KEYLESS_NAMES:
        return wanted
    match list(found):
        case [key_id]:
            return str(key_id)
        case []:
            raise Failure(f"There is no API key {wanted!r}.", Exit.MISUSE)
        case _:
            raise Failure(f"Several API keys are called {wanted!r}; give the id.", Exit.MISUSE)


def _day(point: Point) -> str:
    return datetime.fromtimestamp(point.bucket, UTC).date().isoformat()


def _group(row: Row) -> str:
    name = row.name or row.id or "none"
    return f"{row.provider}/{name}" if row.provider else name


def _used(group: str, sums: Totals | Point) -> dict[str, Any]:
    judged = sums.requests - sums.cancelled
    return {
        "group": group,
        "requests": sums.requests,
        "success": f"{100 * (judged - sums.failed) / judged:.1f} %" if judged else None,
        "tokensIn": sums.tokens_in,
        "tokensOut": sums.tokens_out,
        "cacheRead": sums.cache_read,
        "costUsd": sums.billed_nano_usd / _NANO,
    }


def _cost(group: str, sums: Totals | Point) -> dict[str, Any]:
    return {
        "group": group,
        "billedUsd": sums.billed_nano_usd / _NANO,
        "subscriptionUsd": sums.subscription_nano_usd / _NANO,
        "unpricedRequests": sums.unpriced,
        "totalUsd": (sums.billed_nano_usd + sums.subscription_nano_usd) / _NANO,
    }
