"""`omniroute usage` and the figures of `omniroute cost`: what requests used, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from omniroute.cli.finding import find_one
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session
from omniroute.cli.usd import amount

RANGES: Final = ("24h", "7d", "30d", "90d", "365d", "all")
GROUPS: Final = ("model", "provider", "key", "combo", "day")
PERIODS: Final = ("today", "7d", "30d", "month")
_KEYLESS: Final = ("local", "env", "session")
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
_MONEY: Final = ("costUsd", "billedUsd", "subscriptionUsd", "totalUsd", "forecastUsd")


@click.command("usage")
@click.option("--range", "period", type=click.Choice(RANGES), default="7d", show_default=True, help="How far back.")
@click.option("--by", type=click.Choice(GROUPS), default="model", show_default=True, help="What it is divided by.")
@click.option("--key", help="Only what this API key asked for, by its id or name; local is callers without a key.")
@pass_session
def command(session: Session, period: str, by: str, key: str | None) -> None:
    """Show what requests used, by model, provider, key, combo or day."""
    key_id = None if key is None else _key_id(session, key)
    report = session.api.get("/api/usage/analytics", range=period, groupBy=by, apiKeyId=key_id)
    if session.form is Form.JSON:
        document = {"range": report["range"], "by": by, "totals": report["totals"], "usage": report["groups"]}
        session.print_fields(document, {})
        return
    rows = [_used(_name_of(row), row) for row in report["groups"]]
    _print(session, "usage", [*rows, _used("total", report["totals"])], _USAGE)


def show_cost(session: Session, period: str, by: str | None) -> None:
    """Print what requests cost; costs that are not known are counted apart, never as nothing."""
    found = session.api.get("/api/usage/cost", period=period, groupBy=by)
    if session.form is Form.JSON:
        session.print_fields(found, {})
        return
    rows = [_cost(_name_of(row), row) for row in found["groups"]]
    total = {**_cost("total", found["totals"]), "forecastUsd": found["forecastUsd"]}
    _print(session, "cost", [*rows, total], _COST)


def _key_id(session: Session, wanted: str) -> str:
    if wanted in _KEYLESS:
        return wanted
    return str(find_one(session.api.rows("/api/keys", "keys"), wanted, "API key")["id"])


def _name_of(row: Mapping[str, Any]) -> str:
    """Return what a group is called: a day, a model with its provider, or the name of anything else."""
    if "t" in row:
        return str(row["t"])[:10]
    if "model" in row:
        return "/".join(part for part in (row["provider"], row["model"]) if part) or "none"
    found = row.get("name") or row.get("apiKeyId") or row.get("comboId") or row.get("provider")
    return str(found or "none")


def _used(group: str, sums: Mapping[str, Any]) -> dict[str, Any]:
    judged = sums["requests"] - sums["cancelled"]
    return {"group": group, "success": f"{100 * sums['succeeded'] / judged:.1f} %" if judged else None, **sums}


def _cost(group: str, sums: Mapping[str, Any]) -> dict[str, Any]:
    # Sums of nano-dollars: what binary fractions add to them is no money.
    total = round(sums["billedUsd"] + sums["subscriptionUsd"], 9)
    return {"group": group, **sums, "totalUsd": total}


def _print(session: Session, noun: str, rows: list[dict[str, Any]], columns: Mapping[str, str]) -> None:
    if session.form is Form.TABLE:
        rows = [row | {name: amount(row[name]) for name in _MONEY if name in row} for row in rows]
    session.print_rows(noun, rows, columns)
