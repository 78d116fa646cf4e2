"""Costs: what was spent, what may be spent, and what models cost."""

from __future__ import annotations

from typing import Any, Final

from flask import request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, charts, costs_budget, costs_pricing, usage
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import page

_RANGES: Final = ("7d", "30d", "90d", "365d")
_SHOWN: Final = 10


@blueprint.get("/dashboard/costs")
def costs() -> Response:
    """Show one of the tabs."""
    match request.args.get("tab", "overview"):
        case "budget":
            return costs_budget.budget_page(FormState())
        case "pricing":
            return costs_pricing.pricing_page(FormState())
        case _:
            return _overview()


def _overview() -> Response:
    chosen = request.args.get("range", "30d")
    span = chosen if chosen in _RANGES else "30d"
    month = api.get("/api/usage/cost", period="today")  # what it says of the month is the same for every period
    last_days = api.get("/api/usage/analytics", range="30d", groupBy="day")
    report = last_days if span == "30d" else api.get("/api/usage/analytics", range=span, groupBy="day")
    days = usage.filled(last_days["series"], last_days["range"])
    series = usage.filled(report["series"], report["range"] | {"stepSec": 86_400})
    return page(
        "dashboard/costs.html",
        tab="overview",
        span=span,
        month=month,
        today=_sum(days[-1:]),
        week=_sum(days[-7:]),
        thirty=_sum(days),
        report=report,
        series=series,
        figures=_figures(series),
        divisions=[(name, _dearest(report[list_name])) for name, list_name in usage.LISTS.items() if name in _DIVIDED],
        name_of=usage.label,
    )


_DIVIDED: Final = ("provider", "model", "key")


def _sum(points: list[dict[str, Any]]) -> dict[str, float]:
    names = ("billedUsd", "subscriptionUsd", "unpricedRequests")
    return {name: sum(point[name] for point in points) for name in names}


def _dearest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that cost most, what subscriptions were worth included."""
    spent = [row for row in rows if row["billedUsd"] or row["subscriptionUsd"] or row["unpricedRequests"]]
    return sorted(spent, key=lambda row: -(row["billedUsd"] + row["subscriptionUsd"]))[:_SHOWN]


def _figures(series: list[dict[str, Any]]) -> dict[str, Any]:
    return charts.figures(
        [point["at"] for point in series],
        [
            charts.Series(_("Billed"), [round(point["billedUsd"], 6) for point in series], 1, is_bars=True),
            charts.Series(
                _("Subscription value"), [round(point["subscriptionUsd"], 6) for point in series], 4, is_dashed=True
            ),
        ],
        "USD",
        _("US dollars a day"),
    )
